//! A proxy in front of Elasticsearch that can refuse bulk requests or lose their answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::world::World;

/// What happens to a bulk request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is answered with 429 and not passed on.
    Refuse,
    /// It is passed on, and the connection is closed instead of answering.
    LoseAnswer,
}

#[derive(Default)]
struct Plan {
    /// When each bulk request came, and how many documents it had.
    bulks: Vec<(Instant, usize)>,
    /// Faults of the next bulk requests.
    faults: VecDeque<Option<Fault>>,
    /// The fault of those after them.
    then: Option<Fault>,
    /// How long each bulk request is held before it is passed on.
    delay: Duration,
}

/// A proxy; it ends with the test.
pub(crate) struct Proxy {
    address: String,
    plan: Arc<Mutex<Plan>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(world: &World) -> Self {
        let url = world.elasticsearch_url();
        let target = format!(
            "{}:{}",
            url.host_str().unwrap(),
            url.port_or_known_default().unwrap()
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let plan = Arc::<Mutex<Plan>>::default();
        let plans = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // An end of either side ends the connection, which is what a proxy does.
                tokio::spawn(serve(client, target.clone(), Arc::clone(&plans)));
            }
        });
        Self {
            address,
            plan,
            task,
        }
    }

    /// A proxy that holds every bulk request for so long: what is written in a second is bounded then,
    /// however fast the machine is.
    pub(crate) async fn slow(world: &World, delay: Duration) -> Self {
        let proxy = Self::start(world).await;
        proxy.delay_bulks(delay);
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When each bulk request came.
    pub(crate) fn bulks(&self) -> Vec<Instant> {
        self.plan
            .lock()
            .unwrap()
            .bulks
            .iter()
            .map(|(at, _)| *at)
            .collect()
    }

    /// How many documents each bulk request had.
    pub(crate) fn documents(&self) -> Vec<usize> {
        self.plan
            .lock()
            .unwrap()
            .bulks
            .iter()
            .map(|(_, documents)| *documents)
            .collect()
    }

    /// Faults that are still to come.
    pub(crate) fn pending(&self) -> usize {
        self.plan.lock().unwrap().faults.len()
    }

    /// The next `count` bulk requests are refused as too many.
    pub(crate) fn refuse_bulks(&self, count: usize) {
        self.plan
            .lock()
            .unwrap()
            .faults
            .extend(vec![Some(Fault::Refuse); count]);
    }

    /// `count` bulk requests pass; all after them are refused as too many.
    pub(crate) fn refuse_bulks_after(&self, count: usize) {
        let mut plan = self.plan.lock().unwrap();
        plan.faults.extend(vec![None; count]);
        plan.then = Some(Fault::Refuse);
    }

    /// Every second of the next bulk requests is carried out and not answered, `count` times.
    pub(crate) fn lose_answers(&self, count: usize) {
        let faults = [Some(Fault::LoseAnswer), None].into_iter().cycle();
        self.plan
            .lock()
            .unwrap()
            .faults
            .extend(faults.take(count * 2 - 1));
    }

    /// Every bulk request is held for so long before it is passed on; one whose client dies meanwhile
    /// is never passed on.
    pub(crate) fn delay_bulks(&self, delay: Duration) {
        self.plan.lock().unwrap().delay = delay;
    }

    /// Everything passes again.
    pub(crate) fn pass(&self) {
        let mut plan = self.plan.lock().unwrap();
        *plan = Plan {
            bulks: std::mem::take(&mut plan.bulks),
            ..Plan::default()
        };
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes one client's requests on, one after the other.
async fn serve(client: TcpStream, target: String, plan: Arc<Mutex<Plan>>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(target).await?);
    loop {
        let (head, body) = message(&mut client, false).await?;
        let bodyless = head.starts_with(b"HEAD ");
        let (fault, delay) = plan.lock().unwrap().next(&head, &body);
        if !delay.is_zero() {
            // A client that waits for its answer sends nothing but the end of the connection.
            let sent = tokio::time::timeout(delay, client.fill_buf()).await;
            if sent.is_ok() {
                return Ok(());
            }
        }
        if fault == Some(Fault::Refuse) {
            let error = r#"{"error":{"type":"es_rejected_execution_exception","reason":"too many"},"status":429}"#;
            let head = format!(
                "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                error.len()
            );
            client
                .write_all(format!("{head}{error}").as_bytes())
                .await?;
            continue;
        }
        server.write_all(&head).await?;
        server.write_all(&body).await?;
        let (head, body) = message(&mut server, bodyless).await?;
        if fault == Some(Fault::LoseAnswer) {
            return Ok(());
        }
        client.write_all(&head).await?;
        client.write_all(&body).await?;
    }
}

impl Plan {
    /// What happens to this request, and how long it is held before.
    fn next(&mut self, head: &[u8], body: &[u8]) -> (Option<Fault>, Duration) {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        if !String::from_utf8_lossy(line).contains("_bulk") {
            return (None, Duration::ZERO);
        }
        // Every document is a line with what to do and a line with what to store.
        let lines = body.split(|byte| *byte == b'\n').count() - 1;
        self.bulks.push((Instant::now(), lines / 2));
        let fault = self.faults.pop_front().unwrap_or(self.then);
        (fault, self.delay)
    }
}

/// One HTTP/1.1 message: its head with the empty line, and its body as it stands on the wire.
/// An answer to HEAD is without one, whatever its head says.
async fn message(
    from: &mut BufReader<TcpStream>,
    bodyless: bool,
) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    let (mut length, mut chunked) = (0, false);
    loop {
        let start = head.len();
        if from.read_until(b'\n', &mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&head[start..]).to_ascii_lowercase();
        match line.trim().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap(),
            Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
            _ if line.trim().is_empty() => break,
            _ => {}
        }
    }
    if bodyless {
        return Ok((head, Vec::new()));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    while chunked {
        let start = body.len();
        from.read_until(b'\n', &mut body).await?;
        let size = String::from_utf8_lossy(&body[start..]).trim().to_owned();
        let size = usize::from_str_radix(&size, 16).unwrap();
        let start = body.len();
        body.resize(start + size + 2, 0);
        from.read_exact(&mut body[start..]).await?;
        chunked = size > 0;
    }
    Ok((head, body))
}
