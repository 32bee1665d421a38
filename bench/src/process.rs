//! A program that is measured: started with its settings, waited for or stopped, and what it used.
//!
//! Processor time is the kernel's own account of the process, read when it has ended and is not yet
//! reaped. Peak memory is the kernel's high-water mark, read every 50 ms until the end.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Between two looks at the memory.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The programs that are started.
#[derive(Debug, Clone, Args)]
pub struct Programs {
    /// The program that is measured
    #[arg(
        long,
        env = "SYNC_ES_BIN",
        default_value = "target/release/sync-es",
        value_name = "PATH"
    )]
    pub sync_es: PathBuf,
    /// The generator of rows
    #[arg(
        long,
        env = "ORGANIZATIONS_BIN",
        default_value = "target/release/examples/organizations",
        value_name = "PATH"
    )]
    pub organizations: PathBuf,
    /// A Python with psycopg and elasticsearch
    #[arg(long, env = "BENCH_PYTHON", value_name = "PATH")]
    pub python: Option<PathBuf>,
}

/// Environment variables, and nothing but these and PATH, HOME and TMPDIR of ours.
pub type Settings = BTreeMap<&'static str, String>;

/// A program that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    started: Instant,
    log: PathBuf,
    peak_memory_bytes: u64,
}

/// What a program used, from its start to its end.
#[derive(Debug, Clone)]
pub struct Usage {
    /// From before the start to the exit.
    pub wall: Duration,
    /// User and system, of all its threads.
    pub cpu: Duration,
    /// Resident, in bytes.
    pub peak_memory_bytes: u64,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output and error.
    pub log: String,
}

impl Usage {
    /// This, if the program ended well.
    ///
    /// # Errors
    /// With the end of its log, if not.
    pub fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let lines: Vec<&str> = self.log.lines().collect();
        let end = lines[lines.len().saturating_sub(10)..].join("\n");
        bail!("the program ended with {}:\n{end}", self.status)
    }
}

impl Running {
    /// Starts `program`; its output goes to `log`, which is overwritten.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        settings: &Settings,
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let inherited = ["PATH", "HOME", "TMPDIR"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let started = Instant::now();
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(inherited)
            .envs(settings)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self {
            pid: Pid::from_child(&child),
            child,
            started,
            log: log.to_owned(),
            peak_memory_bytes: 0,
        })
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What it wrote until now.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Whether it has ended; it is not reaped by this.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn has_ended(&self) -> Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(self.pid), options)?.is_some())
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Errors
    /// There is no such process.
    pub fn terminate(&self) -> Result<()> {
        Ok(kill_process(self.pid, Signal::TERM)?)
    }

    /// Kills it (SIGKILL); [`Self::wait`] is still to be called.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(&self) -> Result<()> {
        Ok(kill_process(self.pid, Signal::KILL)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The kernel's account cannot be read.
    pub async fn wait(mut self) -> Result<Usage> {
        let pid = self.pid;
        let mut ended = tokio::task::spawn_blocking(move || {
            waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )
            .map(|_| Instant::now())
        });
        let ended = loop {
            tokio::select! {
                ended = &mut ended => break ended??,
                () = tokio::time::sleep(LOOK_INTERVAL) => self.look()?,
            }
        };
        let cpu = cpu(pid.as_raw_nonzero().get())?;
        Ok(Usage {
            wall: ended - self.started,
            cpu,
            peak_memory_bytes: self.peak_memory_bytes,
            status: self.child.wait()?,
            log: self.log()?,
        })
    }

    /// An ended process has no memory to look at any more.
    fn look(&mut self) -> Result<()> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kilobytes) = peak.and_then(|peak| peak.split_whitespace().next()) {
            self.peak_memory_bytes = kilobytes.parse::<u64>()? << 10;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended and be reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of this very process: the sink's and the raw clients' part.
///
/// # Errors
/// The kernel has no such account.
pub fn own_cpu() -> Result<Duration> {
    cpu(rustix::process::getpid().as_raw_nonzero().get())
}

/// User and system time of a process and its threads.
fn cpu(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before may hold anything, but ends with the last parenthesis.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("an unknown form of /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    ensure!(fields.len() > 12, "an unknown form of /proc/PID/stat");
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / ticks_per_second))
}
