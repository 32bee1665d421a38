//! Operations to acknowledgements: ordered per key, several requests in flight, nothing dropped.

mod acknowledgement;
mod aside;
mod capacity;
mod gate;
mod lanes;
mod left_out;
mod queue;
mod refusals;
mod request;
mod retry;
mod writer;

pub use acknowledgement::{Acknowledgement, Books, Fate, Reached, Ticket};
pub use aside::{Aside, OnRefusal};
pub use lanes::{Write, wire_bytes};
pub use left_out::LeftOut;
pub use queue::{Acknowledger, Budget, Delivery, LaneEnded, Share};
pub use retry::Retry;
pub use writer::{Writer, WriterOptions};
