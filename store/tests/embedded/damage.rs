//! Damage to the folder.
