//! Authentication: which user a token belongs to (PROTOCOL §1). Owns the keys; SIGHUP replaces all of them at once.
//!
//! A key is bound to one algorithm, and a token is checked with the algorithm of its key, whatever its header says, so
//! that no token can choose how it is checked (RFC 8725 §3.1). Neither tokens nor claims are logged.

mod claims;
mod crypto;
mod dev_key;
mod keys;
mod token;

pub(crate) use claims::{Identity, Scope, Scopes};
pub(crate) use dev_key::DevKey;
pub(crate) use keys::Keys;
pub(crate) use token::{NewToken, SigningKey, sign, signing_key};
