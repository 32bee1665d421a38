//! A world in which everything happens that a point needs to be reached, and what must hold in it
//! whatever the program was made to do.

use std::time::Duration;

use super::points::{Change, Point};
use crate::support::{
    AckMonitor, Invocation, REFUSED, SyncEs, Truth, Workload, World, Writers, assert_equal,
    assert_tidy, wait_until,
};

/// Between two changes that bring the program to a point.
const PAUSE: Duration = Duration::from_millis(100);

/// The world, its writers, and what was done to its table beside them.
pub(crate) struct Stage<'a> {
    pub(crate) world: &'a World,
    workload: Workload,
    writers: Option<Writers>,
    monitor: Option<AckMonitor>,
    changes: u64,
    columns: u64,
}

impl<'a> Stage<'a> {
    /// Rows are in the table and writers are at work; the program has not been there yet.
    pub(crate) async fn set(world: &'a World) -> Self {
        let mut workload = Workload::new(world, 4_800).await;
        workload.rate = 60;
        workload.fill(world).await;
        let writers = workload.start(world).await;
        Self {
            world,
            workload,
            writers: Some(writers),
            monitor: None,
            changes: 0,
            columns: 0,
        }
    }

    /// Watches from now on what is confirmed. The slot must be the one that stays: a slot that is made
    /// anew begins further on than the one before has confirmed.
    pub(crate) async fn watch(&mut self) {
        self.monitor = Some(AckMonitor::start(self.world).await);
    }

    /// Everything that is random follows from it.
    pub(crate) fn seed(&self) -> u64 {
        self.workload.seed
    }

    /// The program with these points armed, as `FAILPOINTS` names them.
    pub(crate) fn armed(&self, arguments: &[&str], points: &str) -> Invocation {
        let call = self.world.sync_es(arguments);
        call.env("FAILPOINTS", points)
            .env("SYNC_ES_VECTOR_INDEX", "deferred")
            .env("ES_RETRY_MAX_BACKOFF_SECONDS", "0.3")
            .env("ES_RETRY_BACKOFF_SECONDS", "0.1")
            .env("ES_MAX_RETRIES", "50")
    }

    /// [`Self::armed`], with every point that is reached in the log: see [`hits`].
    pub(crate) fn traced(&self, arguments: &[&str], points: &str) -> Invocation {
        let call = self.armed(arguments, points);
        call.env("SYNC_ES_LOG", "info,failpoint=trace")
    }

    /// Starts the program and lets it crash at a point, the first time or after `passed` times. The
    /// table is changed as the point needs it until then.
    pub(crate) async fn crash(&mut self, point: Point, passed: u32, change: Change) {
        let program = self.armed(&["run"], &crash_at(point, passed)).start();
        self.crashes(program, point, passed, change).await;
    }

    /// The program, armed with a crash at this point, crashes there.
    pub(crate) async fn crashes(
        &mut self,
        mut program: SyncEs,
        point: Point,
        passed: u32,
        change: Change,
    ) {
        let what = format!("a crash at {}, passed {passed} times", point.name);
        wait_until(&what, async || {
            if !program.runs() {
                return Some(());
            }
            self.change(change).await;
            tokio::time::sleep(PAUSE).await;
            None
        })
        .await;
        crashed(&program.ended().await, point);
    }

    /// Changes the table once more.
    pub(crate) async fn change(&mut self, change: Change) {
        let Self { world, changes, .. } = self;
        *changes += 1;
        match change {
            Change::Rows => {}
            Change::LargeTransaction => world.execute(&large_transaction()).await,
            Change::Truncate => {
                world
                    .execute(&format!(
                        "TRUNCATE integrated_records;
                         INSERT INTO integrated_records (hk, name) SELECT 'after-' || n, '{changes}' FROM generate_series(1, 50) AS n"
                    ))
                    .await;
            }
            Change::Column => {
                self.columns += 1;
                let column = format!("further_{}", self.columns);
                world
                    .execute(&format!(
                        "ALTER TABLE integrated_records ADD COLUMN {column} text;
                         INSERT INTO integrated_records (hk, {column}) VALUES ('column-{changes}', 'new')"
                    ))
                    .await;
            }
            Change::Refused if changes.is_multiple_of(2) => self.mend_refused().await,
            // No term may be longer than 32,766 bytes; a flattened field's is its name and value.
            Change::Refused => {
                world
                    .execute(&format!(
                        "INSERT INTO integrated_records (hk, attributes)
                         VALUES ('{REFUSED}{changes}', jsonb_build_object(repeat('n', 9000), repeat('字', 8000)))"
                    ))
                    .await;
            }
        }
    }

    async fn mend_refused(&self) {
        let mend = format!(
            "UPDATE integrated_records SET attributes = '{{}}' WHERE hk LIKE '{REFUSED}%' AND attributes <> '{{}}'"
        );
        self.world.execute(&mend).await;
    }

    /// Lets a run without any fault catch up, and ends it: index and table are equal, and nothing is
    /// left over. The writers rest meanwhile.
    pub(crate) async fn settle(&mut self) {
        let program = self.armed(&["run"], "").start();
        self.settles(program).await;
        self.workload.seed = self.workload.seed.wrapping_add(1 << 40);
        self.writers = Some(self.workload.start(self.world).await);
    }

    /// [`Self::settle`] with a program that runs, and without further writers. Gives its log.
    pub(crate) async fn settles(&mut self, mut program: SyncEs) -> String {
        self.rest().await;
        self.world.caught_up(&mut program).await;
        self.equal().await;
        let audit = format!("audit_{}", self.world.name);
        let audit = self.monitor.as_ref().map(|_| audit.as_str());
        assert_tidy(self.world, audit.as_slice()).await;
        program.stop().await.log
    }

    /// Lets the writers come to an end, and no row be refused any more.
    pub(crate) async fn rest(&mut self) {
        if let Some(writers) = self.writers.take() {
            writers.stop().await;
        }
        self.mend_refused().await;
    }

    /// Index and table are equal, and no document is missing in favour of a dead letter.
    pub(crate) async fn equal(&self) {
        let world = self.world;
        let columns: Vec<String> = (1..=self.columns)
            .map(|number| format!("further_{number}"))
            .collect();
        let further: Vec<(&str, String)> = columns
            .iter()
            .map(|column| (column.as_str(), format!("to_jsonb({column})")))
            .collect();
        let further: Vec<(&str, &str)> = further
            .iter()
            .map(|(column, value)| (*column, value.as_str()))
            .collect();
        assert_equal(world, &Truth::organizations_with(&further)).await;
        let letters = world.dead_letters().await;
        assert!(letters.is_empty(), "{letters:?}");
    }

    /// Nothing was confirmed that Elasticsearch did not have.
    pub(crate) async fn close(mut self) {
        self.rest().await;
        let monitor = self.monitor.expect("what is confirmed was watched");
        monitor.finish().await;
    }
}

/// More than the 16,384 changes of a window, of few rows: what is written is little.
fn large_transaction() -> String {
    "INSERT INTO integrated_records (hk) SELECT 'often-' || n FROM generate_series(1, 50) AS n
         ON CONFLICT DO NOTHING;
     DO $$ BEGIN FOR round IN 1..330 LOOP
         UPDATE integrated_records SET employee_count = round
          WHERE hk IN (SELECT 'often-' || n FROM generate_series(1, 50) AS n);
     END LOOP; END $$"
        .to_owned()
}

/// Where a snapshot is held up after each page, or one of so few rows would be over before it stores a
/// position.
const PAGE: &str = "page-handed-over";
const HOLD_UP: &str = "sleep(600)";

/// What `FAILPOINTS` says for a fault at a point that is passed so often before.
pub(crate) fn fault_at(point: Point, passed: u32, action: &str) -> String {
    let Point { name, .. } = point;
    let action = match passed {
        0 => action.to_owned(),
        passed => format!("{passed}*off->{action}"),
    };
    if name == PAGE {
        return format!("{name}={action}->{HOLD_UP}");
    }
    format!("{name}={action}")
}

/// [`fault_at`] for a crash, in a run that has no other fault.
pub(crate) fn crash_at(point: Point, passed: u32) -> String {
    let crash = fault_at(point, passed, "panic");
    if point.name == PAGE {
        return crash;
    }
    format!("{crash};{PAGE}={HOLD_UP}")
}

/// The program was ended by the signal that follows a panic, and at this point.
pub(crate) fn crashed(outcome: &crate::support::Outcome, point: Point) {
    let told = format!("failpoint {} panic", point.name);
    assert!(
        outcome.code.is_none() && outcome.log.contains(&told),
        "no crash at {}: exit code {:?}\n{}",
        point.name,
        outcome.code,
        outcome.log
    );
}

/// How often the program came by a point, by its log.
pub(crate) fn hits(log: &str, point: Point) -> usize {
    let message = format!("\"message\":\"{}\"", point.name);
    log.lines()
        .filter(|line| line.contains("\"target\":\"failpoint\"") && line.contains(&message))
        .count()
}
