//! The program as a child process: its environment is the test's alone, its log is kept and shown
//! when the test fails, and it never outlives the test.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, Proxy, wait_until_within};

/// Log lines that are shown when a test fails.
const SHOWN_LINES: usize = 80;

/// A call of the program that is being put together.
#[derive(Clone)]
pub(crate) struct Invocation {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

/// The program, running.
pub(crate) struct SyncEs {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

/// The program, ended.
pub(crate) struct Outcome {
    /// The exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Everything that it wrote, standard output and standard error, line by line.
    pub(crate) log: String,
}

impl Invocation {
    pub(crate) fn new(arguments: &[&str], environment: BTreeMap<String, String>) -> Self {
        Self {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment,
        }
    }

    /// The same call with other arguments.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// Lets it reach Elasticsearch through the proxy alone.
    pub(crate) fn through(self, proxy: &Proxy) -> Self {
        self.env("ELASTICSEARCH_URLS", proxy.url())
    }

    /// Takes a variable away, so that the program's default counts.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Starts the program.
    pub(crate) fn start(&self) -> SyncEs {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sync-es"))
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::default();
        let readers = vec![
            keep_lines(child.stdout.take().unwrap(), &log),
            keep_lines(child.stderr.take().unwrap(), &log),
        ];
        SyncEs {
            child,
            log,
            readers,
        }
    }

    /// Runs the program to its end, which must come by itself.
    pub(crate) async fn output(&self) -> Outcome {
        self.start().ended().await
    }
}

impl SyncEs {
    /// Everything that was written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Where it answers, once it has said so: for a program that was given port 0.
    pub(crate) async fn admin_address(&mut self) -> String {
        let log = Arc::clone(&self.log);
        self.until("it answers at the admin address", async || {
            let lines = log.lock().unwrap();
            let line = lines
                .iter()
                .find(|line| line.contains("answering at the admin address"))?;
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            Some(line["address"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks until there is an answer; fails at once when the program ends meanwhile.
    pub(crate) async fn until<T>(&mut self, what: &str, fact: impl AsyncFnMut() -> Option<T>) -> T {
        self.until_within(DEADLINE, what, fact).await
    }

    /// [`Self::until`] with a deadline of its own.
    pub(crate) async fn until_within<T>(
        &mut self,
        deadline: Duration,
        what: &str,
        mut fact: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        wait_until_within(deadline, what, async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                // It may have ended because of the fact that is waited for.
                return Some(
                    fact()
                        .await
                        .unwrap_or_else(|| panic!("the program ended ({status}) before {what}")),
                );
            }
            fact().await
        })
        .await
    }

    /// Waits until the log says what `says` looks for.
    pub(crate) async fn until_log(&mut self, what: &str, says: impl Fn(&str) -> bool) {
        let log = Arc::clone(&self.log);
        self.until(what, async || {
            says(&log.lock().unwrap().join("\n")).then_some(())
        })
        .await;
    }

    /// `kill -9`: no drain, no last word.
    pub(crate) fn kill_9(mut self) -> String {
        assert!(self.runs(), "ended before it was killed\n{}", self.log());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.join_readers();
        self.log()
    }

    /// `kill -9`, for a process that may have ended by itself.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Asks it to stop, as an operator or a container engine does.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Lets it stand still, as a machine that swaps or a debugger does.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the program is not waited for yet");
    }

    /// Resident memory, in kB; none once it has ended.
    pub(crate) fn memory_kb(&mut self) -> Option<u64> {
        if !self.runs() {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Files and connections that it has open.
    pub(crate) fn open_files(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        files.map_or(0, Iterator::count)
    }

    /// Stops it with SIGTERM, which must end it with exit code 0.
    pub(crate) async fn stop(self) -> Outcome {
        self.terminate();
        let outcome = self.ended().await;
        assert_eq!(
            outcome.code,
            Some(0),
            "exit code after SIGTERM\n{}",
            outcome.log
        );
        outcome
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> Outcome {
        self.ended_within(DEADLINE).await
    }

    /// [`Self::ended`] with a deadline of its own.
    pub(crate) async fn ended_within(mut self, deadline: Duration) -> Outcome {
        let status: ExitStatus = wait_until_within(deadline, "the program has ended", async || {
            self.child.try_wait().unwrap()
        })
        .await;
        self.join_readers();
        Outcome {
            code: status.code(),
            log: self.log(),
        }
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
    }
}

impl Drop for SyncEs {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        if ended.is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            let skipped = log.len().saturating_sub(SHOWN_LINES);
            eprintln!("--- sync-es ({ended:?}), log without its first {skipped} lines");
            log[skipped..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Outcome {
    /// Fails the test, showing the log, unless the program ended with exit code 0.
    #[track_caller]
    pub(crate) fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "exit code\n{}", self.log);
    }

    /// Fails the test unless the program ended with an error that names each of `facts`.
    #[track_caller]
    pub(crate) fn failed_naming(&self, facts: &[&str]) {
        assert!(
            self.code.is_some_and(|code| code != 0),
            "exit code {:?}, an error was expected\n{}",
            self.code,
            self.log
        );
        for fact in facts {
            assert!(
                self.log.contains(fact),
                "{fact:?} is not named:\n{}",
                self.log
            );
        }
    }
}

fn keep_lines(from: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            log.lock().unwrap().push(line);
        }
    })
}
