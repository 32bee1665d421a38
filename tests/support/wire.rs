//! A wire that can be cut: a TCP proxy in front of a server, whose mode changes while it runs.
//!
//! Nothing that was taken in is lost while a connection lives, as on a real network: what a black
//! hole holds back arrives when it is over. A connection that breaks is reset on both sides.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use elasticsearch::http::Url;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream, lookup_host,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::world::World;

/// What a wire does to the connections through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireMode {
    /// Everything passes.
    Pass,
    /// Everything arrives later by this much, and a random part of the jitter.
    Delay { latency: Duration, jitter: Duration },
    /// So many bytes a second pass, in each direction.
    Throttle(u32),
    /// Connections are accepted, and nothing passes, in one direction or in both: not even the end
    /// of a connection.
    Blackhole(Direction),
    /// Connections are reset, those that are open and new ones.
    Reset,
    /// A connection is reset once so many bytes have passed in one direction.
    CutAfter(usize),
    /// Connections are reset, and new ones are refused.
    Refuse,
}

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    Both,
}

/// A wire; it ends with the test.
pub(crate) struct Wire {
    url: Url,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

/// What the tasks of a wire share.
struct Line {
    /// Where new connections go.
    server: Mutex<SocketAddr>,
    /// What new connections get.
    mode: watch::Sender<WireMode>,
    /// What each open connection has.
    open: Mutex<Vec<watch::Sender<WireMode>>>,
    accepted: AtomicUsize,
    seed: u64,
}

impl Wire {
    /// A wire to the world's database.
    pub(crate) async fn to_postgres(world: &World, seed: u64) -> Self {
        Self::start(world.postgres_url(), seed).await
    }

    /// A wire to Elasticsearch.
    pub(crate) async fn to_elasticsearch(world: &World, seed: u64) -> Self {
        Self::start(world.elasticsearch_url().clone(), seed).await
    }

    /// A wire to the server of `target`; the jitter follows from the seed.
    async fn start(target: Url, seed: u64) -> Self {
        let host = target.host_str().unwrap();
        let port = target.port_or_known_default().unwrap();
        let server = lookup_host((host, port)).await.unwrap().next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = target;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port()))
            .unwrap();
        let line = Arc::new(Line {
            server: Mutex::new(server),
            mode: watch::channel(WireMode::Pass).0,
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            seed,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&line)));
        Self { url, line, task }
    }

    /// The server's URL through this wire.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Changes the mode of all connections, open ones and new ones.
    pub(crate) fn set(&self, mode: WireMode) {
        self.line.mode.send_replace(mode);
        self.set_open(mode);
    }

    /// Changes the mode of the connections that are open now; new ones are as before.
    pub(crate) fn set_open(&self, mode: WireMode) {
        for connection in self.line.open().iter() {
            connection.send_replace(mode);
        }
    }

    /// New connections go to another port of the same host, as an address does that follows a failover.
    pub(crate) fn move_to(&self, port: u16) {
        self.line.server.lock().unwrap().set_port(port);
    }

    /// How many connections have been made through it so far.
    pub(crate) fn accepted(&self) -> usize {
        self.line.accepted.load(Ordering::Relaxed)
    }

    /// Bad weather for so long, then all passes again: what comes when follows from the seed.
    pub(crate) async fn storm(&self, seed: u64, length: Duration) {
        let mut random = StdRng::seed_from_u64(seed);
        let end = Instant::now() + length;
        while Instant::now() < end {
            let mode = WireMode::random(&mut random);
            eprintln!("storm on {}: {mode:?}", self.url.scheme());
            if random.random_bool(0.3) {
                self.set_open(mode);
            } else {
                self.set(mode);
            }
            sleep(Duration::from_millis(random.random_range(100..2_000))).await;
            self.set(WireMode::Pass);
            sleep(Duration::from_millis(random.random_range(100..2_000))).await;
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WireMode {
    /// Any trouble.
    pub(crate) fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..7) {
            0 => Self::Delay {
                latency: Duration::from_millis(random.random_range(10..400)),
                jitter: Duration::from_millis(100),
            },
            1 => Self::Throttle(random.random_range(8_000..128_000)),
            2 => Self::Blackhole(Direction::Both),
            3 => Self::Blackhole(if random.random() {
                Direction::ToServer
            } else {
                Direction::ToClient
            }),
            4 => Self::Reset,
            5 => Self::CutAfter(random.random_range(0..20_000)),
            _ => Self::Refuse,
        }
    }

    /// Whether nothing passes in this direction.
    fn swallows(self, direction: Direction) -> bool {
        matches!(self, Self::Blackhole(of) if of == Direction::Both || of == direction)
    }

    fn breaks(self) -> bool {
        matches!(self, Self::Reset | Self::Refuse)
    }
}

impl Line {
    fn open(&self) -> MutexGuard<'_, Vec<watch::Sender<WireMode>>> {
        self.open.lock().unwrap()
    }
}

/// Takes connections until the wire is dropped, and its connections with it.
async fn accept(first: TcpListener, line: Arc<Line>) {
    let address = first.local_addr().unwrap();
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    let mut modes = line.mode.subscribe();
    loop {
        if *modes.borrow_and_update() == WireMode::Refuse {
            listener = None;
            if modes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => listen_again(address).await,
        };
        tokio::select! {
            _ = modes.changed() => {}
            accepted = open.accept() => {
                let (client, _) = accepted.unwrap();
                let number = line.accepted.fetch_add(1, Ordering::Relaxed) as u64;
                // Under the lock, so that no change of the mode passes it by.
                let mut senders = line.open();
                senders.retain(|connection| connection.receiver_count() > 0);
                let (sender, mode) = watch::channel(*line.mode.borrow());
                senders.push(sender);
                let server = *line.server.lock().unwrap();
                connections.spawn(carry(client, server, mode, line.seed ^ number));
            }
            Some(_) = connections.join_next() => {}
        }
        listener = Some(open);
    }
}

/// The port is ours again, also while connections of before are being forgotten by the system.
async fn listen_again(address: SocketAddr) -> TcpListener {
    const PAUSE: Duration = Duration::from_millis(20);
    let listen = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(128)
    };
    loop {
        match listen() {
            Ok(listener) => return listener,
            Err(error) => eprintln!("the wire's port {address}: {error}"),
        }
        sleep(PAUSE).await;
    }
}

/// Waits until the mode is as wished, and returns it.
async fn until(
    mode: &mut watch::Receiver<WireMode>,
    wished: impl Fn(WireMode) -> bool,
) -> io::Result<WireMode> {
    loop {
        let now = *mode.borrow_and_update();
        if wished(now) {
            return Ok(now);
        }
        // The sender goes with the wire.
        let changed = mode.changed().await;
        changed.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
    }
}

/// One connection, until both sides have ended it, or it is reset.
async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    mode: watch::Receiver<WireMode>,
    seed: u64,
) {
    let mut breaking = mode.clone();
    let broken = until(&mut breaking, WireMode::breaks);
    let carried = async {
        // The server is at hand: a black hole lies between it and the client.
        let mut upstream = TcpStream::connect(server).await?;
        upstream.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let result = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = upstream.split();
            let up = Pump::new(Direction::ToServer, mode.clone(), seed);
            let down = Pump::new(Direction::ToClient, mode.clone(), seed.rotate_left(1));
            tokio::select! {
                ended = async {
                    tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client))
                } => ended.map(|_| ()),
                _ = broken => Err(io::ErrorKind::ConnectionReset.into()),
            }
        };
        if result.is_err() {
            upstream.set_zero_linger()?;
        }
        result
    };
    if carried.await.is_err() {
        client.set_zero_linger().ok();
    }
}

/// One direction of a connection.
struct Pump {
    direction: Direction,
    mode: watch::Receiver<WireMode>,
    random: StdRng,
}

/// Bytes and when they are due; no bytes are the end.
type Parcel = (Instant, Vec<u8>);

impl Pump {
    fn new(direction: Direction, mode: watch::Receiver<WireMode>, seed: u64) -> Self {
        Self {
            direction,
            mode,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Carries bytes to the end of the direction.
    async fn run(mut self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        const PARCELS: usize = 64;
        let (post, parcels) = mpsc::channel(PARCELS);
        let outlet = Outlet {
            direction: self.direction,
            mode: self.mode.clone(),
            to,
            counted: (WireMode::Pass, 0),
        };
        let write = outlet.write(parcels);
        let read = self.read(from, post);
        let (mut read, mut write) = (pin!(read), pin!(write));
        tokio::select! {
            ended = &mut write => ended,
            ended = &mut read => {
                ended?;
                write.await
            }
        }
    }

    async fn read(&mut self, mut from: ReadHalf<'_>, post: mpsc::Sender<Parcel>) -> io::Result<()> {
        loop {
            let mut bytes = vec![0; 16_384];
            let count = from.read(&mut bytes).await?;
            bytes.truncate(count);
            let late = match *self.mode.borrow() {
                WireMode::Delay { latency, jitter } => {
                    latency + jitter.mul_f64(self.random.random_range(0.0..1.0))
                }
                _ => Duration::ZERO,
            };
            // Fails when the writer has ended, which then says why.
            let sent = post.send((Instant::now() + late, bytes)).await;
            if count == 0 || sent.is_err() {
                return Ok(());
            }
        }
    }
}

/// Where one direction of a connection goes.
struct Outlet<'a> {
    direction: Direction,
    mode: watch::Receiver<WireMode>,
    to: WriteHalf<'a>,
    /// The mode that bytes are counted in, and how many have passed in it.
    counted: (WireMode, usize),
}

impl Outlet<'_> {
    /// Writes every parcel when it is due, and ends the direction after the last.
    async fn write(mut self, mut parcels: mpsc::Receiver<Parcel>) -> io::Result<()> {
        while let Some((due, bytes)) = parcels.recv().await {
            sleep_until(due).await;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                rest = &rest[self.write_some(rest).await?..];
            }
            if bytes.is_empty() {
                break;
            }
        }
        self.passable().await?;
        self.to.shutdown().await
    }

    /// Writes as much as the mode lets pass at once.
    async fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mode = self.passable().await?;
        let passed = if self.counted.0 == mode {
            self.counted.1
        } else {
            0
        };
        let size = match mode {
            WireMode::Throttle(rate) => (rate as usize / 20).max(1),
            WireMode::CutAfter(limit) => limit - passed,
            _ => bytes.len(),
        };
        let size = size.min(bytes.len());
        self.to.write_all(&bytes[..size]).await?;
        self.counted = (mode, passed + size);
        match mode {
            WireMode::Throttle(rate) => {
                let microseconds = size as u64 * 1_000_000 / u64::from(rate);
                sleep(Duration::from_micros(microseconds)).await;
            }
            WireMode::CutAfter(limit) if passed + size == limit => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            _ => {}
        }
        Ok(size)
    }

    /// Waits until something passes in this direction.
    async fn passable(&mut self) -> io::Result<WireMode> {
        let direction = self.direction;
        until(&mut self.mode, |mode| !mode.swallows(direction)).await
    }
}
