//! What happens between the processes: connections that are slow, cut, refused, or dead without a
//! word, answers that do not arrive or arrive spoilt. Nothing of it needs a person, and nothing is
//! lost by it.

mod bulk;
mod postgres;
mod standby;

use std::time::{Duration, Instant};

use elasticsearch::http::Url;

use crate::support::{AckMonitor, SyncEs, Truth, Workload, World, Writers, assert_equal};

/// Writers at work, and a monitor that nothing is confirmed too early.
struct Load {
    seed: u64,
    writers: Writers,
    monitor: AckMonitor,
}

impl Load {
    /// Starts to change about `rate` rows a second of a table that has two thirds of `keys`.
    async fn start(world: &World, keys: usize, rate: u32) -> Self {
        let mut workload = Workload::new(world, keys).await;
        workload.rate = rate;
        workload.writers = 3;
        workload.fill(world).await;
        let monitor = AckMonitor::start(world).await;
        Self {
            seed: workload.seed,
            writers: workload.start(world).await,
            monitor,
        }
    }

    /// Waits until everything is in that is committed now, on a machine that is busy with other tests.
    async fn ready(&self, world: &World, program: &mut SyncEs) {
        // A dead request is waited for for a minute, and one may follow another.
        world.caught_up(program).await;
    }

    /// Waits until so many changes more are committed.
    async fn goes_on(&self, program: &mut SyncEs, changes: u64) {
        let more = self.writers.changes() + changes;
        program
            .until("the writers went on", async || {
                (self.writers.changes() > more).then_some(())
            })
            .await;
    }

    /// Ends the load and the program: everything is in, nothing was confirmed too early, nothing was
    /// refused.
    async fn end(self, world: &World, mut program: SyncEs) {
        // After a transaction of many rows the writers pause: without these changes the stream might have
        // had none.
        self.monitor.knows_the_slot().await;
        self.goes_on(&mut program, 20).await;
        self.writers.stop().await;
        world.caught_up(&mut program).await;
        assert_equal(world, &Truth::organizations()).await;
        self.monitor.finish().await;
        assert_eq!(world.dead_letters().await, Vec::<serde_json::Value>::new());
        program.stop().await;
    }
}

/// The database at `url`, where PostgreSQL waits `seconds` for a silent client; 0 is for ever.
fn impatient(url: &Url, seconds: u32) -> String {
    let options = format!("options=-c%20wal_sender_timeout%3D{seconds}s");
    let mut url = url.clone();
    url.set_query(Some(&options));
    url.into()
}

/// Looks again and again that something stays as it is, for so long.
async fn steady(length: Duration, look: impl AsyncFn()) {
    let start = Instant::now();
    while start.elapsed() < length {
        look().await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

impl World {
    /// The process that sends from the slot.
    async fn walsender(&self) -> Option<i32> {
        let slot = self.slot();
        let active = "SELECT active_pid FROM pg_replication_slots WHERE slot_name";
        self.ask(&format!("{active} = '{slot}'")).await
    }
}
