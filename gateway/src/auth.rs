//! Who a token speaks for (PROTOCOL §1, authentication). Owns the keys; they change only as a whole, on SIGHUP.
//!
//! A key is bound to one algorithm, and a token is checked with the algorithm of its key, whatever its header says, so
//! that no token can choose how it is checked (RFC 8725 §3.1). No token and no claim gets into a log.

mod claims;
mod crypto;
mod dev_key;
mod keys;
mod token;

pub(crate) use claims::{Identity, Scope, Scopes};
pub(crate) use dev_key::DevKey;
pub(crate) use keys::Keys;
pub(crate) use token::{NewToken, SigningKey, sign, signing_key};
