//! A server dies, hangs, comes back as an earlier self, or has no room; one at a time and in storms.

mod check;
mod cluster;
mod control;
mod elasticsearch;
mod failover;
mod index;
mod plan;
mod postgres;
mod slot;
mod storm;
mod storms;
mod visibility;
