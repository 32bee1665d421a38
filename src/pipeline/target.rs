//! Which index documents go into, and whether it still is the one that a position belongs to.

use super::Failure;
use crate::{elasticsearch::Index, stop::Stop};

/// The concrete index, and the one of that name that it must be.
pub(super) struct Target {
    /// Where to.
    pub index: Index,
    /// `index.uuid` and `index.history.uuid`: another index, or an earlier state of it, has others.
    pub uuid: String,
}

impl Target {
    /// Whether what was acknowledged counts: the index is the one that it went into, and keeps what it
    /// acknowledges. To be asked before a position is stored.
    ///
    /// # Errors
    /// It is not, or cannot be asked.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let state = match self.index.look().await? {
            Some(found) if found.uuid == self.uuid => return Ok(found.check_writes()?),
            Some(_) => "another one of the same name, or was restored",
            None => "gone",
        };
        Err(Failure::Stop(Stop::IndexReplaced {
            index: self.index.name().to_owned(),
            state: state.to_owned(),
        }))
    }
}
