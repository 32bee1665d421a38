//! Keeps an Elasticsearch alias equal to a PostgreSQL table.
//!
//! The rooms below stand in the order of the data's way: PostgreSQL bytes → row → document → bulk
//! request → acknowledgement → position. A room uses no room that stands below it but [`observe`], and
//! not every one above it: `tests/house.rs` has the table. Only [`pipeline`] knows both ends.
//! ARCHITECTURE.md has the map.

#[macro_use]
mod failpoint;

pub mod value;
pub mod change;
pub mod stop;
pub mod postgres;
pub mod document;
pub mod elasticsearch;
pub mod delivery;
pub mod observe;
pub mod settings;
pub mod pipeline;
pub mod commands;
