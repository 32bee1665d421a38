//! Operations to acknowledgements: ordered per key, several requests in flight, nothing dropped.

mod acknowledgement;
mod lanes;
mod queue;
mod retry;
mod writer;

pub use acknowledgement::{Acknowledgement, Ticket};
pub use lanes::{Write, wire_bytes};
pub use queue::{Acknowledger, Budget, Delivery, LaneEnded, Share};
pub use retry::Retry;
pub use writer::{Counters, OnRefusal, Writer, WriterOptions};
