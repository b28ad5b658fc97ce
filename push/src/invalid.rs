//! Validation errors in what a client sent.

/// A field that is missing or can't be used (PROTOCOL §7, `details`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct InvalidField {
    pub field: &'static str,
    pub expected: &'static str,
}
