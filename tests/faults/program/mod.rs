//! The program crashes, stands still or meets an error, at every point where state changes hands.

mod points;
mod rebuild;
mod reread;
mod stage;
mod sweep;
