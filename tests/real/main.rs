//! The program as users run it, against a real PostgreSQL and a real Elasticsearch.
//!
//! Every test has a [`support::World`] of its own (database, slot, index names), so tests run beside
//! each other. What the program claims is held against facts that it has no hand in: the table as
//! PostgreSQL sees it, the documents as Elasticsearch returns them, the slot, a second slot.
//!
//! `scripts/test` starts the servers and sets `SYNC_ES_TEST_POSTGRES_URL` (a superuser's URL) and
//! `SYNC_ES_TEST_ELASTICSEARCH_URL`. Further variables: `SYNC_ES_TEST_CHANGES` (changes of each
//! convergence test), `SYNC_ES_TEST_SEED` (repeats a workload),
//! `SYNC_ES_TEST_VERIFY_ROWS` (rows that `verify` is tried on).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test ends at the first thing that is not as it should be, and says what it knows"
)]

#[path = "../support/mod.rs"]
mod support;

mod harness;
mod check;
mod snapshot;
mod stream;
mod convergence;
mod kills;
mod transactions;
mod values;
mod tables;
mod rebuild;
mod refusals;
mod dead_letters;
mod overload;
mod hazards;
mod staleness;
mod reread;
mod partitions;
mod altered;
mod rights;
mod lifecycle;
mod history;
mod heal;
mod metadata;
mod settings;
mod admin;
mod status;
mod traces;
mod search;
mod vectors;
mod verify;
mod elasticsearch;
mod opensearch;
mod network;
mod security;
