//! Every failpoint of the program, and how it is reached: `tests/house.rs` holds the list complete.

use Fault::{CrashOrStall, Error};
use Reached::{AtTheEnd, OnTheWay, OneShot, Rebuild, Streaming};

/// A `failpoint!` of `src/`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    pub(crate) reached: Reached,
    pub(crate) fault: Fault,
}

/// Which run comes by a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// A continuous run before it has caught up, in the order of the list. A run that ended at one
    /// of these points comes by all that stand below it.
    OnTheWay,
    /// A continuous run that has caught up, when this happens to the table.
    Streaming(Change),
    /// A one-shot run, beside the points that it shares with a continuous one.
    OneShot,
    /// A continuous run that is asked to end.
    AtTheEnd,
    /// A rebuild, beside the points that it shares with a continuous run.
    Rebuild,
}

/// What happens to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// What eight writers do to single rows and to some at once.
    Rows,
    /// More changes in one transaction than go into a window.
    LargeTransaction,
    /// TRUNCATE, and rows after it.
    Truncate,
    /// A new column, and values in it.
    Column,
    /// Rows whose documents Elasticsearch refuses, and which are mended later.
    Refused,
}

/// What can be made to happen at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies, or stands still for a while.
    CrashOrStall,
    /// Also an error that heals.
    Error,
}

impl Point {
    const fn new(name: &'static str, reached: Reached, fault: Fault) -> Self {
        Self {
            name,
            reached,
            fault,
        }
    }
}

/// The points that are reached so.
pub(crate) fn reached(by: impl Fn(Reached) -> bool) -> impl Iterator<Item = Point> {
    POINTS.into_iter().filter(move |point| by(point.reached))
}

#[rustfmt::skip]
pub(crate) const POINTS: [Point; 48] = [
    Point::new("leader-lock-taken", OnTheWay, Error),
    Point::new("publication-created", OnTheWay, Error),
    Point::new("index-created", OnTheWay, Error),
    Point::new("run-index-made", OnTheWay, Error),
    Point::new("run-taken-over", OnTheWay, Error),
    Point::new("intent-stored", OnTheWay, Error),
    Point::new("slot-created", OnTheWay, Error),
    Point::new("old-slot-dropped", OnTheWay, Error),
    Point::new("consistent-point-stored", OnTheWay, Error),
    Point::new("snapshot-taken-up", OnTheWay, Error),
    Point::new("page-handed-over", OnTheWay, Error),
    Point::new("snapshot-position-reached", OnTheWay, CrashOrStall),
    Point::new("snapshot-position-stored", OnTheWay, CrashOrStall),
    Point::new("snapshot-drained", OnTheWay, Error),
    Point::new("snapshot-complete-stored", OnTheWay, Error),
    Point::new("stream-noted", OnTheWay, Error),
    Point::new("mark-written", OnTheWay, Error),
    Point::new("stream-started", OnTheWay, Error),
    Point::new("vector-mapping-changed", OnTheWay, Error),
    Point::new("vector-merge-begun", OnTheWay, Error),
    Point::new("vectors-built", OnTheWay, Error),
    Point::new("vectors-noted", OnTheWay, Error),
    Point::new("alias-about-to-move", OnTheWay, Error),
    Point::new("alias-moved", OnTheWay, Error),
    Point::new("bulk-sent", Streaming(Change::Rows), Error),
    Point::new("bulk-judged", Streaming(Change::Rows), CrashOrStall),
    Point::new("bulk-resolved", Streaming(Change::Rows), CrashOrStall),
    Point::new("commit-seen", Streaming(Change::Rows), Error),
    Point::new("rows-read-again", Streaming(Change::Rows), Error),
    Point::new("keepalive-noted", Streaming(Change::Rows), Error),
    Point::new("position-reached", Streaming(Change::Rows), Error),
    Point::new("position-stored", Streaming(Change::Rows), Error),
    Point::new("position-confirmed", Streaming(Change::Rows), Error),
    // Each brings the WAL on by more than a bound lies ahead of a reading.
    Point::new("bound-stored", Streaming(Change::LargeTransaction), Error),
    Point::new("window-handed-over", Streaming(Change::LargeTransaction), Error),
    Point::new("truncate-begun", Streaming(Change::Truncate), Error),
    Point::new("sweep-under-way", Streaming(Change::Truncate), Error),
    Point::new("truncate-swept", Streaming(Change::Truncate), Error),
    Point::new("mapping-extended", Streaming(Change::Column), Error),
    Point::new("dead-letters-to-be-stored", Streaming(Change::Refused), CrashOrStall),
    Point::new("dead-letters-stored", Streaming(Change::Refused), CrashOrStall),
    Point::new("dead-letters-cleared", Streaming(Change::Refused), CrashOrStall),
    Point::new("snapshot-point-stored", OneShot, Error),
    Point::new("run-done-stored", OneShot, Error),
    Point::new("stream-drained", AtTheEnd, Error),
    Point::new("last-position-stored", AtTheEnd, Error),
    Point::new("generation-compared", Rebuild, CrashOrStall),
    Point::new("previous-slot-dropped", Rebuild, CrashOrStall),
];
