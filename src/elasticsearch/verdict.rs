//! Operations to a bulk request's body.
