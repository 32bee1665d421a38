//! A proxy in front of Elasticsearch that knows what a bulk request is: it can refuse it or a part
//! of it, lose or spoil its answer, send it twice, or send it when nobody waits for it any more.

mod bulk;
pub(crate) mod http;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::world::World;
use bulk::{Item, Ledger, Partial};
use http::Message;

pub(crate) use bulk::Refusing;

/// Between two looks whether a request that is held may pass.
const LOOK: Duration = Duration::from_millis(10);

/// What happens to a bulk request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It is answered with 429 and not passed on.
    Refuse,
    /// It is passed on, and the connection is closed instead of answering.
    LoseAnswer,
    /// It is passed on twice, and the second answer is given.
    Repeat,
    /// It is passed on twice, and the first answer is given; the second never.
    RepeatLater,
    /// It is passed on; the answer breaks off with the connection.
    Truncate,
    /// It is passed on; the answer lacks its last item.
    Shorten,
    /// It is passed on; the answer is 200 and a page for people.
    Misanswer,
    /// The connection is closed, and the request is passed on when this time is over.
    Undead(Duration),
    /// Some of its items are answered as refused.
    RefuseItems(Refusing),
}

/// Faults that come by chance.
struct Chance {
    random: StdRng,
    /// Of each bulk request, one after the other.
    faults: Vec<(Fault, f64)>,
}

#[derive(Default)]
struct Plan {
    /// When each bulk request came, and how many documents it had.
    bulks: Vec<(Instant, usize)>,
    /// Faults of the next bulk requests.
    faults: VecDeque<Option<Fault>>,
    /// The fault of those after them.
    then: Option<Fault>,
    /// Or a fault by chance.
    chance: Option<Chance>,
    /// How long each bulk request is held before it is passed on.
    delay: Duration,
    /// Documents that still pass; a request of more is held.
    allowance: Option<usize>,
    /// Whether a request is or was held for want of an allowance since the latest was given.
    is_holding: bool,
    /// Faults that were given.
    given: Vec<Fault>,
    ledger: Ledger,
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
                let way = Way {
                    target: target.clone(),
                    plan: Arc::clone(&plans),
                };
                // An end of either side ends the connection, which is what a proxy does.
                tokio::spawn(way.serve(client));
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
        self.plan().bulks.iter().map(|(at, _)| *at).collect()
    }

    /// How many documents each bulk request had.
    pub(crate) fn documents(&self) -> Vec<usize> {
        let plan = self.plan();
        plan.bulks.iter().map(|(_, documents)| *documents).collect()
    }

    /// Faults that are still to come, but for those by chance.
    pub(crate) fn pending(&self) -> usize {
        self.plan().faults.len()
    }

    /// How many bulk requests met this fault, whatever its figures.
    pub(crate) fn given(&self, fault: Fault) -> usize {
        let kind = std::mem::discriminant(&fault);
        let plan = self.plan();
        let given = plan.given.iter().map(std::mem::discriminant);
        given.filter(|given| *given == kind).count()
    }

    /// Operations that came again though they had been answered as done.
    pub(crate) fn again(&self) -> Vec<String> {
        self.plan().ledger.again.clone()
    }

    /// Operations that came while an older one of their key was refused.
    pub(crate) fn overtaking(&self) -> Vec<String> {
        self.plan().ledger.overtaking.clone()
    }

    /// The next `count` bulk requests are refused as too many.
    pub(crate) fn refuse_bulks(&self, count: usize) {
        let refused = vec![Some(Fault::Refuse); count];
        self.plan().faults.extend(refused);
    }

    /// `count` bulk requests pass; all after them are refused as too many.
    pub(crate) fn refuse_bulks_after(&self, count: usize) {
        let mut plan = self.plan();
        plan.faults.extend(vec![None; count]);
        plan.then = Some(Fault::Refuse);
    }

    /// Every second of the next bulk requests is carried out and not answered, `count` times.
    pub(crate) fn lose_answers(&self, count: usize) {
        let faults = [Some(Fault::LoseAnswer), None].into_iter().cycle();
        self.plan().faults.extend(faults.take(count * 2 - 1));
    }

    /// From now on bulk requests meet these faults by chance: the first that is drawn, in this order.
    pub(crate) fn by_chance(&self, seed: u64, faults: &[(Fault, f64)]) {
        self.plan().chance = Some(Chance {
            random: StdRng::seed_from_u64(seed),
            faults: faults.to_vec(),
        });
    }

    /// Every bulk request is held for so long before it is passed on; one whose client dies meanwhile
    /// is never passed on.
    pub(crate) fn delay_bulks(&self, delay: Duration) {
        self.plan().delay = delay;
    }

    /// So many more documents pass; the bulk requests after them are held until more may, and those
    /// whose client dies meanwhile are never passed on. However slow the machine is, a snapshot of
    /// more rows cannot end then.
    pub(crate) fn let_through(&self, documents: usize) {
        let mut plan = self.plan();
        plan.allowance = Some(documents);
        plan.is_holding = false;
    }

    /// Whether what [`Self::let_through`] allowed has passed and more has come.
    pub(crate) fn is_holding(&self) -> bool {
        self.plan().is_holding
    }

    /// Everything passes again.
    pub(crate) fn pass(&self) {
        let mut plan = self.plan();
        *plan = Plan {
            bulks: std::mem::take(&mut plan.bulks),
            given: std::mem::take(&mut plan.given),
            ledger: std::mem::take(&mut plan.ledger),
            ..Plan::default()
        };
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plan {
    /// What happens to a bulk request of these items, and how long it is held before.
    fn next(&mut self, items: &[Item]) -> (Option<Fault>, Duration) {
        self.bulks.push((Instant::now(), items.len()));
        self.ledger.asked(items);
        let mut by_chance = || {
            let Chance { random, faults } = self.chance.as_mut()?;
            let met = faults.iter().find(|(_, share)| random.random_bool(*share));
            met.map(|(fault, _)| *fault)
        };
        let fault = match self.faults.pop_front() {
            Some(fault) => fault,
            None => by_chance().or(self.then),
        };
        self.given.extend(fault);
        (fault, self.delay)
    }

    /// Whether a request of so many documents may pass now.
    fn admits(&mut self, documents: usize) -> bool {
        match &mut self.allowance {
            Some(allowance) if *allowance < documents => {
                self.is_holding = true;
                false
            }
            Some(allowance) => {
                *allowance -= documents;
                true
            }
            None => true,
        }
    }

    /// Draws which items of a request are refused.
    fn refuse_items(&mut self, items: Vec<Item>, refusing: Refusing) -> Partial {
        let mut fixed = StdRng::seed_from_u64(self.bulks.len() as u64);
        let random = match &mut self.chance {
            Some(chance) => &mut chance.random,
            None => &mut fixed,
        };
        Partial::draw(items, refusing, random)
    }
}

/// From a client to the server.
struct Way {
    target: String,
    plan: Arc<Mutex<Plan>>,
}

/// What becomes of an answer.
enum Answer {
    Whole(Message),
    Half(Message),
    None,
}

impl Way {
    /// Passes one client's requests on, one after the other.
    async fn serve(self, client: TcpStream) -> std::io::Result<()> {
        let mut client = BufReader::new(client);
        let mut server = self.connect().await?;
        loop {
            let request = Message::read(&mut client, false).await?;
            if !request.line().contains("_bulk") {
                ask(&mut server, &request).await?.write(&mut client).await?;
                continue;
            }
            let items = bulk::items(&request.body);
            let (fault, delay) = self.plan.lock().unwrap().next(&items);
            if !delay.is_zero() {
                // A client that waits for its answer sends nothing but the end of the connection.
                let sent = tokio::time::timeout(delay, client.fill_buf()).await;
                if sent.is_ok() {
                    return Ok(());
                }
            }
            while !self.plan.lock().unwrap().admits(items.len()) {
                if tokio::time::timeout(LOOK, client.fill_buf()).await.is_ok() {
                    return Ok(());
                }
            }
            match self.bulk(&mut server, request, &items, fault).await? {
                Answer::Whole(answer) => {
                    self.plan.lock().unwrap().ledger.answered(&items, &answer);
                    answer.write(&mut client).await?;
                }
                Answer::Half(answer) => return answer.write_half(&mut client).await,
                Answer::None => return Ok(()),
            }
        }
    }

    async fn bulk(
        &self,
        server: &mut BufReader<TcpStream>,
        mut request: Message,
        items: &[Item],
        fault: Option<Fault>,
    ) -> std::io::Result<Answer> {
        match fault {
            Some(Fault::Refuse) => return Ok(Answer::Whole(too_many())),
            Some(Fault::Undead(delay)) => {
                let mut server = self.connect().await?;
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    ask(&mut server, &request).await
                });
                return Ok(Answer::None);
            }
            Some(Fault::RefuseItems(refusing)) => {
                let drawn = self
                    .plan
                    .lock()
                    .unwrap()
                    .refuse_items(items.to_vec(), refusing);
                request.body = drawn.body();
                let answer = if request.body.is_empty() {
                    None
                } else {
                    Some(ask(server, &request).await?)
                };
                return Ok(Answer::Whole(drawn.answer(answer)));
            }
            _ => {}
        }
        let mut answer = ask(server, &request).await?;
        Ok(match fault {
            Some(Fault::LoseAnswer) => Answer::None,
            Some(Fault::Repeat) => Answer::Whole(ask(server, &request).await?),
            Some(Fault::RepeatLater) => {
                let mut other = self.connect().await?;
                tokio::spawn(async move { ask(&mut other, &request).await });
                Answer::Whole(answer)
            }
            Some(Fault::Truncate) => Answer::Half(answer),
            Some(Fault::Shorten) => {
                answer.body = shortened(&answer.body);
                Answer::Whole(answer)
            }
            Some(Fault::Misanswer) => {
                Answer::Whole(Message::answer("200 OK", b"<html>Welcome!</html>".to_vec()))
            }
            _ => Answer::Whole(answer),
        })
    }

    async fn connect(&self) -> std::io::Result<BufReader<TcpStream>> {
        Ok(BufReader::new(TcpStream::connect(&self.target).await?))
    }
}

async fn ask(server: &mut BufReader<TcpStream>, request: &Message) -> std::io::Result<Message> {
    request.write(server).await?;
    Message::read(server, request.line().starts_with("HEAD ")).await
}

fn too_many() -> Message {
    let error =
        r#"{"error":{"type":"es_rejected_execution_exception","reason":"too many"},"status":429}"#;
    Message::answer("429 Too Many Requests", error.into())
}

/// A bulk answer without its last item; what is no bulk answer stays as it is.
fn shortened(body: &[u8]) -> Vec<u8> {
    let mut answer: Value = serde_json::from_slice(body).unwrap();
    if let Some(items) = answer["items"].as_array_mut() {
        items.pop();
    }
    answer.to_string().into_bytes()
}
