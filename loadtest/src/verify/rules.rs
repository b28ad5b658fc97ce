//! The rules, by subject.

pub(super) mod answers;
pub(super) mod log;
pub(super) mod pushes;
pub(super) mod sends;
pub(super) mod sessions;
pub(super) mod unread;
pub(super) mod windows;

#[cfg(test)]
mod written;
