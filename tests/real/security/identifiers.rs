//! Names and keys.
