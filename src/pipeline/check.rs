//! Only asks: everything that a run would ask first, at both ends, as far as each can be reached.
//! Nothing is changed.

use super::{
    Failure,
    job::Job,
    plan::{Facts, LostSlot, Mode, plan},
    preconditions::{End, Finding, Findings, is_readable},
    prepare,
    survey::{self, Seen},
};
use crate::{
    elasticsearch::{Look, Run, Server},
    postgres::{
        self, Session,
        slot::{self, Slot},
    },
    stop::Stop,
};

/// Looks at both ends. An end that cannot be reached, or does not tell something, is a finding of its
/// own, and the rest is told all the same.
pub async fn check(job: &Job) -> Findings {
    let mut looked = Looked::default();
    // What cannot be asked is told below.
    let at_work = job.at_work().await;
    let job = at_work.as_ref().unwrap_or(job);
    let session = postgres::connect(&job.postgres).await;
    let session = looked.told(End::PostgreSql, "connection", session);
    // A service can be at work meanwhile. It confirms to the slot what it has stored, and stores what
    // is in the WAL: so the slot is looked at first, then the record, and then the WAL's end.
    let slot = match &session {
        Some(session) => looked.slot(job, session).await,
        None => None,
    };
    let stored = looked.elasticsearch(job).await;
    let index = stored.as_ref().and_then(|stored| stored.index.clone());
    let facts = match &session {
        Some(session) => looked.postgres(job, session, slot, stored).await,
        None => None,
    };
    let mut findings = looked.troubles;
    findings.extend(looked.seen.findings(facts.as_ref(), index.as_ref()).0);
    Findings(findings)
}

#[derive(Default)]
struct Looked {
    seen: Seen,
    /// What could not be looked at, and why.
    troubles: Vec<Finding>,
}

/// What Elasticsearch has of an earlier run.
struct Stored {
    server: Server,
    index: Option<Look>,
    run: Option<Run>,
}

impl Looked {
    async fn elasticsearch(&mut self, job: &Job) -> Option<Stored> {
        let end = End::Elasticsearch;
        let server = job.elasticsearch.ping().await;
        let server = self.told(end, "connection", server)?;
        let cluster = survey::cluster(job, server.clone()).await;
        self.seen.cluster = self.told(end, "cluster", cluster);
        let index = self.told(end, "index", survey::index(job).await)?;
        let runs = prepare::runs(job);
        let run = prepare::stored_run(job, &runs, &mut None).await;
        let run = self.told(end, "run metadata", run)?;
        Some(Stored { server, index, run })
    }

    async fn slot(&mut self, job: &Job, session: &Session) -> Option<Slot> {
        if job.mode == Mode::OneShot {
            return None;
        }
        let slot = slot::look(&session.client, &job.names.slot).await;
        self.told(End::PostgreSql, "slot", slot).flatten()
    }

    async fn postgres(
        &mut self,
        job: &Job,
        session: &Session,
        slot: Option<Slot>,
        stored: Option<Stored>,
    ) -> Option<Facts> {
        let (server, index, run) = match stored {
            Some(Stored { server, index, run }) => (Some(server), index, run),
            None => (None, None, None),
        };
        let facts = prepare::facts(job, &session.client, run, index).await;
        let mut facts = self.told(End::PostgreSql, "table", facts)?;
        facts.slot = slot.or(facts.slot);
        let retention = survey::retention(job, session, &facts).await;
        self.seen.retention = self.told(End::PostgreSql, "kept WAL", retention).flatten();
        if server.is_some() {
            let about = prepare::about_lost_changes(job).await;
            let about = self.told(End::Elasticsearch, "alias", about);
            facts.lost_slot = about.unwrap_or(facts.lost_slot);
            let fed = prepare::fed_by_a_service(job, &session.client).await;
            facts.fed = self.told(End::Elasticsearch, "alias", fed).flatten();
        }
        let is_replaced = facts.lost_slot == LostSlot::Rebuild
            && plan(&facts).is_err_and(|stop| stop.lost_changes().is_some());
        if let Some(server) = server.filter(|_| is_readable(&facts) && !is_replaced) {
            let there = job.on_the_server_of(session);
            let table = prepare::table(&there, &facts, &server).await;
            if let Some(table) = self.told(End::Both, "document", table) {
                let fit = survey::fit(job, &facts, &table, &server).await;
                self.seen.fit = self.told(End::Both, "rows", fit);
            }
        }
        Some(facts)
    }

    /// What was told, or else a finding about why not.
    fn told<T, E: Into<Failure>>(
        &mut self,
        end: End,
        what: &'static str,
        answer: Result<T, E>,
    ) -> Option<T> {
        answer
            .map_err(|error| self.failed(end, what, error.into()))
            .ok()
    }

    fn failed(&mut self, end: End, what: &'static str, failure: Failure) {
        let stop = match (failure, end) {
            (Failure::Stop(stop), _) => stop,
            (failure @ (Failure::Lane | Failure::Moved(_)), _) => failure.into_stop(),
            (Failure::Heals(why) | Failure::Denied(why), End::Elasticsearch) => {
                Stop::Elasticsearch(why)
            }
            (Failure::Heals(why) | Failure::Denied(why), _) => Stop::Postgres(why),
        };
        self.troubles.push(Finding::stopped(end, what, stop));
    }
}
