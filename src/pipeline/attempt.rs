//! One attempt: from two open ends, through plan, snapshot and stream, to the end or a failure.

use std::sync::Arc;

mod heal;
mod one_shot;

use super::{
    Failure, Shutdown,
    ahead::Ahead,
    drain::{Ended, drain},
    generation::{self, stay},
    job::{Job, Outcome},
    leadership,
    plan::{Facts, LostSlot, Mode, Plan, plan},
    prepare,
    record::Record,
    snapshot::Snapshot,
    stream::follow,
    survey,
    sweep::Sweep,
    table::{CurrentTable, Look},
    tail::{AliasSwitch, Tail},
    target::Target,
};
use crate::{
    change::{Lsn, Version},
    delivery::{Acknowledger, Delivery, Writer},
    elasticsearch::{self, Phase, Run, Runs, alias_targets},
    observe,
    postgres::{self, NewSlot, Session, catalog, coverage, create_slot, rows::View, slot},
    stop::Stop,
};
use tokio::sync::watch;

/// Requests in flight. Two to four are best for Elasticsearch, whatever its size on one machine.
const LANES: usize = 4;

/// What every step of an attempt needs.
pub(super) struct Attempt<'a> {
    job: &'a Job,
    session: &'a Session,
    facts: Facts,
    table: Arc<CurrentTable>,
    elasticsearch: elasticsearch::Server,
    target: Target,
    index_was_new: bool,
    writer: Arc<Writer>,
}

impl<'a> Attempt<'a> {
    /// Carries the job out from wherever it stands. `record` stays with the process from its first
    /// attempt on.
    ///
    /// # Errors
    /// A trouble that heals, or a named stop.
    pub(super) async fn carry_out(
        job: &'a Job,
        session: &'a Session,
        record: &mut Option<Record>,
        shutdown: &mut Shutdown,
    ) -> Result<Outcome, Failure> {
        if !leadership::lead(job, session, shutdown).await? {
            return Ok(Outcome::Interrupted);
        }
        generation::arrive(job, session).await?;
        let runs = prepare::runs(job);
        let stored = prepare::stored_run(job, &runs, record).await?;
        let is_first = record.is_none();
        let latest = stored.as_ref().map(|run| run.number);
        let planned = Self::plan(job, session, stored, is_first).await;
        if let (Err(Failure::Stop(stop)), Some(latest)) = (&planned, latest.filter(|_| is_first))
            && is_of_the_position(job, stop)
        {
            // For whoever looks at the runs; the stop itself matters more.
            if let Err(error) = runs.note_stop(latest, &stop.to_string()).await {
                tracing::debug!(%error, "noting why the run does not begin");
            }
        }
        let (server, facts, table, plan) = planned?;
        if let (Some(why), Plan::Begin { .. }) = (&facts.unseen, plan) {
            tracing::warn!(
                why,
                "rows may have come or gone without a change that the stream could tell: reading the table anew"
            );
        }
        tracing::info!(
            %plan,
            table = facts.table.quoted(),
            index = job.names.index,
            "planned"
        );
        // From here on things are changed.
        job.meter.phase(observe::Phase::Preparing);
        let ends = (session, server);
        let (attempt, record) =
            Self::set_up(job, ends, (facts, plan), table, (runs, record)).await?;
        Box::pin(attempt.walk(plan, record, shutdown)).await
    }

    /// What there is, and what is to be done.
    async fn plan(
        job: &Job,
        session: &Session,
        stored: Option<Run>,
        is_first: bool,
    ) -> Result<(elasticsearch::Server, Facts, CurrentTable, Plan), Failure> {
        let (server, facts, table) = survey::before_a_run(job, session, stored, is_first).await?;
        let plan = plan(&facts)?;
        Ok((server, facts, table, plan))
    }

    /// Makes what is missing: publication, template, index, our own records.
    async fn set_up<'r>(
        job: &'a Job,
        (session, elasticsearch): (&'a Session, elasticsearch::Server),
        (facts, plan): (Facts, Plan),
        table: CurrentTable,
        (runs, record): (Runs, &'r mut Option<Record>),
    ) -> Result<(Self, &'r mut Record), Failure> {
        let names = &job.names;
        if job.mode == Mode::Continuous && facts.publication.is_none() {
            catalog::create_publication(&session.client, &names.publication, &facts.table).await?;
            failpoint!("publication-created", Failure::Heals);
            tracing::info!(publication = names.publication, "created the publication");
        }
        let look = table.look().await;
        let (index, uuid) = prepare::index(job, &facts, &look, &elasticsearch, plan).await?;
        let index_was_new = facts.index.is_none();
        let record = if let Some(record) = record {
            record
        } else {
            runs.prepare(elasticsearch.distribution).await?;
            failpoint!("run-index-made", Failure::Heals);
            let (writer, fenced) = runs.take_over().await?;
            failpoint!("run-taken-over", Failure::Heals);
            let run = prepare::run(job, &facts, fenced.as_ref(), (&uuid, index_was_new));
            record.insert(Record::new(writer, run, job.retry))
        };
        job.meter.run(record.run.number);
        let writer = prepare::writer(job, &elasticsearch, &uuid, record.run.number, LANES).await?;
        // Whatever is stored was given by a commit up to here.
        writer.raise_bound(Version::bound_of_commits_to(facts.server.wal_flush));
        let table = Arc::new(table);
        let attempt = Self {
            job,
            session,
            facts,
            table,
            elasticsearch,
            target: Target { index, uuid },
            index_was_new,
            writer,
        };
        Ok((attempt, record))
    }

    async fn walk(
        self,
        plan: Plan,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Outcome, Failure> {
        let ended = match (self.job.mode, plan) {
            (Mode::Continuous, Plan::Begin { drop_slot }) => {
                self.begin(drop_slot, record, shutdown).await?
            }
            (Mode::OneShot, Plan::Begin { .. }) => self.begin_one_shot(record, shutdown).await?,
            (_, Plan::Heal { slot_made }) => self.heal(slot_made, record, shutdown).await?,
            (_, Plan::Resume) => self.resume(record, shutdown).await?,
            (_, Plan::Tail) => {
                record.run.coverage = Some(self.facts.coverage.clone());
                Ended::Complete
            }
        };
        if self.job.mode == Mode::OneShot && matches!(plan, Plan::Resume | Plan::Tail) {
            tracing::info!(
                "this run went on with an earlier one: run again to renew the rows that were copied then"
            );
        }
        if ended == Ended::Interrupted {
            return Ok(Outcome::Interrupted);
        }
        match self.job.mode {
            Mode::Continuous => Box::pin(self.tail(record, shutdown)).await,
            Mode::OneShot => self.finish(record, shutdown).await,
        }
    }

    /// The slot, then the snapshot that it exported; the table is locked as soon as the snapshot is
    /// taken up, and compared with what it was before the slot. The intent is stored first: a slot
    /// that is found beside a run that never got further is our own, and nothing rests on it.
    async fn begin(
        &self,
        drop_slot: bool,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Ended, Failure> {
        let phase = Phase::Snapshot;
        let Some(slot) = self.make_slot(phase, drop_slot, record, shutdown).await? else {
            return Ok(Ended::Interrupted);
        };
        self.snapshot(View::Exported(&slot.snapshot), record, shutdown)
            .await
    }

    /// A new slot, and the record of the `phase` that begins at its consistent point; `None` when the
    /// program is asked to end before.
    async fn make_slot(
        &self,
        phase: Phase,
        drop_slot: bool,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Option<NewSlot>, Failure> {
        let names = &self.job.names;
        if phase == Phase::Heal {
            // The index goes on being of use: what ends before it has its slot is a healing again.
            record.run.phase = Phase::Heal;
            record.run.barrier_xmax = None;
        } else {
            record.run.phase = Phase::Preparing;
            record.run.acknowledged_lsn = None;
        }
        record.run.last_synced_item = None;
        record.store().await?;
        failpoint!("intent-stored", Failure::Heals);
        if drop_slot && slot::drop_slot(&self.session.client, &names.slot).await? {
            failpoint!("old-slot-dropped", Failure::Heals);
            tracing::warn!(
                slot = names.slot,
                "dropped the slot that cannot be gone on with, beginning anew"
            );
        }
        // Before the slot: what changes after this is found when it is compared.
        let (client, table) = (&self.session.client, &self.facts.table);
        record.run.coverage = Some(coverage::look(client, &names.publication, table.oid).await?);
        let endpoint = self.endpoint();
        let created = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(None),
            created = create_slot(endpoint, &names.slot) => created?,
        };
        failpoint!("slot-created", Failure::Heals);
        tracing::info!(slot = names.slot, consistent_point = %created.consistent_point, "created the replication slot");
        self.note_begin(record, phase, created.consistent_point)
            .await?;
        record.run.consistent_point = Some(created.consistent_point);
        record.run.acknowledged_lsn = Some(created.consistent_point);
        record.store().await?;
        failpoint!("consistent-point-stored", Failure::Heals);
        let meta = prepare::meta(&self.facts, Some(created.consistent_point));
        self.target.index.put_meta(&meta).await?;
        Ok(Some(created))
    }

    async fn note_begin(
        &self,
        record: &mut Record,
        phase: Phase,
        point: Lsn,
    ) -> Result<(), Failure> {
        let xmax = slot::next_transaction_id(&self.session.client).await?;
        let run = &mut record.run;
        run.phase = phase;
        run.sync_finished = false;
        run.snapshot_point = Some(point);
        run.read_ahead_to = Some(point);
        run.barrier_xmax = Some(xmax);
        run.storage.clone_from(&self.facts.table.storage);
        run.relation_fingerprint.clone_from(&self.facts.fingerprint);
        run.index_uuid.clone_from(&self.target.uuid);
        run.index_was_new = self.index_was_new;
        (
            run.n_input_records,
            run.n_output_records,
            run.n_dead_letters,
        ) = (0, 0, 0);
        Ok(())
    }

    /// The snapshot from the last acknowledged key, through an ordinary snapshot behind the barrier.
    async fn resume(&self, record: &mut Record, shutdown: &mut Shutdown) -> Result<Ended, Failure> {
        let after = record.run.last_synced_item.as_deref();
        if let Some(after) = after {
            tracing::info!(
                after,
                rows = record.run.n_input_records,
                "resuming the snapshot after the last acknowledged key"
            );
        }
        if self.barrier(record, shutdown).await? == Ended::Interrupted {
            return Ok(Ended::Interrupted);
        }
        self.snapshot(View::Current, record, shutdown).await
    }

    /// Waits until every transaction that committed before the record's point can be seen.
    async fn barrier(&self, record: &Record, shutdown: &mut Shutdown) -> Result<Ended, Failure> {
        let xmax = record.run.barrier_xmax.unwrap_or_default();
        let waiting = |xmin| {
            tracing::info!(
                transaction = xmin,
                "waiting for a transaction that was running when the snapshot's point was taken"
            );
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(Ended::Interrupted),
            passed = slot::barrier(&self.session.client, xmax, waiting) => passed?,
        }
        Ok(Ended::Complete)
    }

    async fn snapshot(
        &self,
        view: View<'_>,
        record: &mut Record,
        shutdown: &mut Shutdown,
    ) -> Result<Ended, Failure> {
        let version = snapshot_version(record)?;
        let reader = postgres::connect(&self.job.postgres).await?;
        let look = self.table.look().await;
        // A request whose answer was lost has stored it already.
        self.writer.raise_bound(version);
        let snapshot = Snapshot {
            client: &reader.client,
            look: look.clone(),
            view,
            version,
            fetch_rows: self.job.fetch_rows,
            writer: self.writer.clone(),
            target: &self.target,
            lanes: LANES,
        };
        let ended = snapshot.copy(record, shutdown).await?;
        if ended == Ended::Complete && !record.run.index_was_new {
            self.sweep(record, version, &look).await?;
        }
        if ended == Ended::Complete {
            if matches!(view, View::Current) {
                // Its rows are newer than its point.
                record.run.read_ahead_to = Some(self.wal_end().await?);
            }
            record.run.sync_finished = true;
            record.run.phase = if self.job.mode == Mode::Continuous {
                Phase::Stream
            } else {
                Phase::Sweep
            };
            record.store().await?;
            failpoint!("snapshot-complete-stored", Failure::Heals);
            let left_out = self.writer.left_out();
            tracing::info!(
                rows = record.run.n_input_records,
                dead_letters = record.run.n_dead_letters,
                vectors_left_out = left_out.vectors(),
                points_left_out = left_out.points(),
                floats_left_out = left_out.floats(),
                "the snapshot is complete"
            );
        }
        Ok(ended)
    }

    /// Documents that are older than the snapshot now are of rows that are not in the table.
    async fn sweep(
        &self,
        record: &mut Record,
        version: Version,
        look: &Look,
    ) -> Result<(), Failure> {
        self.job.meter.phase(observe::Phase::Sweep);
        let acknowledger = Acknowledger::<()>::new();
        let (delivery, mut lanes) = Delivery::start(&self.writer, &acknowledger, LANES);
        let sweep = Sweep {
            index: &self.target.index,
            distribution: self.elasticsearch.distribution,
            delivery: &delivery,
            acknowledger: &acknowledger,
            ticket: acknowledger.begin(),
            layout: look.layout.clone(),
        };
        let swept = sweep.older_than(version).await;
        drain(&delivery, &mut lanes, true).await?;
        let swept = swept?;
        self.writer.aside().clear_older(version).await;
        if swept > 0 {
            tracing::info!(
                documents = swept,
                "removed documents of rows that are not in the table any more"
            );
        }
        record.store().await
    }

    async fn tail(self, record: &mut Record, shutdown: &mut Shutdown) -> Result<Outcome, Failure> {
        let names = &self.job.names;
        let client = &self.job.elasticsearch;
        let targets = alias_targets(client, &names.alias).await?;
        stay(client, &targets, &names.index, &self.job.role).await?;
        let read_ahead_to = match record.run.read_ahead_to {
            Some(bound) => bound,
            None => self.wal_end().await?,
        };
        record.run.read_ahead_to = Some(read_ahead_to);
        record.store().await?;
        failpoint!("stream-noted", Failure::Heals);
        let (switch, ahead) = if targets == [names.index.clone()] {
            (None, Ahead::of(read_ahead_to))
        } else {
            let at = catalog::mark(&self.session.client).await?;
            failpoint!("mark-written", Failure::Heals);
            (Some(AliasSwitch { from: targets, at }), Ahead::default())
        };
        let tail = Tail {
            endpoint: self.endpoint(),
            table: self.table,
            slot: names.slot.clone(),
            publication: names.publication.clone(),
            coverage: watch::Sender::new(record.run.coverage.clone().unwrap_or_default()),
            client: self.job.elasticsearch.clone(),
            target: self.target,
            distribution: self.elasticsearch.distribution,
            writer: self.writer,
            lanes: LANES,
            ahead,
            read_ahead_to,
            alias: names.alias.clone(),
            role: self.job.role.clone(),
            switch,
            vectors: watch::Sender::new(false),
            strict_mapping: self.job.own_template.is_none(),
        };
        follow(tail, record, shutdown)
            .await
            .map(|_| Outcome::Interrupted)
    }

    async fn wal_end(&self) -> Result<Lsn, Failure> {
        Ok(catalog::wal_insert(&self.session.client, &self.facts.server).await?)
    }

    fn endpoint(&self) -> postgres::Endpoint {
        postgres::endpoint(&self.job.postgres.replication_parts(self.session))
    }
}

/// Whether a stop at a start is one of the run before: it cannot be gone on with. Others are of this start
/// alone, or of an instance that has come to the wrong place.
fn is_of_the_position(job: &Job, stop: &Stop) -> bool {
    match stop {
        Stop::SlotLost { .. } => job.lost_slot != LostSlot::Rebuild,
        Stop::SlotAhead { .. }
        | Stop::IndexReplaced { .. }
        | Stop::TableChanged { .. }
        | Stop::PublicationLost { .. } => true,
        _ => false,
    }
}

/// The version that the record's snapshot carries.
fn snapshot_version(record: &Record) -> Result<Version, Stop> {
    record
        .run
        .snapshot_version()
        .ok_or_else(|| Stop::Unexpected("the run's record has no snapshot point".to_owned()))
}
