//! What both paths give, snapshot and stream alike: a row of a relation, its key, a version.

mod coverage;
mod row;
mod version;

pub use coverage::{Coverage, Partition};
pub use row::{Action, Cell, Column, Key, KeyError, Operation, Relation, Row};
pub use version::{Lsn, ParseLsnError, Version, WindowOverflow, Windows};
