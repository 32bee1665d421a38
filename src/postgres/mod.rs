//! postgres

mod types;

pub use types::{ResolveError, resolve};
