//! Gates in front of the test's servers, which themselves speak neither TLS nor ask who comes: one
//! speaks PostgreSQL's way into TLS, one HTTPS with credentials. What comes through is recorded.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{Arc, Mutex},
};

use elasticsearch::http::Url;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use super::{
    certificates::{Authority, Identity},
    proxy::http::Message,
    world::World,
};

/// How a gate meets who comes.
#[derive(Clone, Default)]
pub(crate) struct Door(Option<Arc<ServerConfig>>);

impl Door {
    /// Without TLS.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    /// With TLS, as this server.
    pub(crate) fn tls(identity: &Identity) -> Self {
        Self::with(identity, None)
    }

    /// With TLS, and only for clients with a certificate of this authority.
    pub(crate) fn for_clients_of(identity: &Identity, authority: &Authority) -> Self {
        Self::with(identity, Some(authority))
    }

    fn with(identity: &Identity, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let pem = authority.pem();
                roots
                    .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
                    .unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        Self(Some(Arc::new(
            builder.with_single_cert(vec![certificate], key).unwrap(),
        )))
    }
}

/// A connection whose client has said what it wants: PostgreSQL's startup message has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) encrypted: bool,
    /// For the replication protocol.
    pub(crate) replication: bool,
}

/// A gate in front of PostgreSQL; it ends with the test.
pub(crate) struct PostgresGate {
    port: u16,
    url: Url,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    task: JoinHandle<()>,
}

impl PostgresGate {
    /// The first connection comes to the first door and so on, all further ones to the last.
    pub(crate) async fn start(world: &World, doors: Vec<Door>) -> Self {
        let url = world.postgres_url();
        let target = address(&url);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
        let recorded = Arc::clone(&arrivals);
        let mut doors = VecDeque::from(doors);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let door = match doors.len() {
                    1 => doors[0].clone(),
                    _ => doors.pop_front().unwrap(),
                };
                let pass = pass_postgres(client, target.clone(), door, Arc::clone(&recorded));
                // A client that leaves, and one that is not let in, are what tests are about.
                tokio::spawn(pass);
            }
        });
        Self {
            port,
            url,
            arrivals,
            task,
        }
    }

    /// The URL of the test's database through this gate, at `localhost`.
    pub(crate) fn url(&self, parameters: &str) -> String {
        let mut url = self.url.clone();
        url.set_host(Some("localhost")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.set_query(Some(parameters));
        url.to_string()
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }
}

impl Drop for PostgresGate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The requests that may come before a startup message (manual: "Message Formats").
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

async fn pass_postgres(
    mut client: TcpStream,
    target: String,
    door: Door,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
) -> io::Result<()> {
    loop {
        let (length, code) = (client.read_u32().await?, client.read_u32().await?);
        match (code, &door.0) {
            (SSL_REQUEST, Some(config)) => {
                client.write_all(b"S").await?;
                let acceptor = TlsAcceptor::from(Arc::clone(config));
                let mut client = acceptor.accept(client).await?;
                let (length, code) = (client.read_u32().await?, client.read_u32().await?);
                return begin(client, (length, code), target, |replication| {
                    arrivals.lock().unwrap().push(Arrival {
                        encrypted: true,
                        replication,
                    });
                })
                .await;
            }
            (SSL_REQUEST | GSS_REQUEST, _) => client.write_all(b"N").await?,
            _ => {
                return begin(client, (length, code), target, |replication| {
                    arrivals.lock().unwrap().push(Arrival {
                        encrypted: false,
                        replication,
                    });
                })
                .await;
            }
        }
    }
}

/// Reads the rest of the startup message, says what it wants, and passes everything on.
async fn begin(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    (length, code): (u32, u32),
    target: String,
    arrived: impl FnOnce(bool),
) -> io::Result<()> {
    let mut parameters = vec![0; usize::try_from(length).unwrap() - 8];
    client.read_exact(&mut parameters).await?;
    arrived(
        parameters
            .split(|byte| *byte == 0)
            .any(|word| word == b"replication"),
    );
    let mut server = TcpStream::connect(target).await?;
    server.write_u32(length).await?;
    server.write_u32(code).await?;
    server.write_all(&parameters).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A gate in front of Elasticsearch; it ends with the test.
pub(crate) struct ElasticsearchGate {
    port: u16,
    scheme: &'static str,
    rules: Arc<Mutex<Rules>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Rules {
    /// The values of `Authorization` that are let in; all, when there are none.
    accepted: BTreeSet<String>,
    /// Where every request is sent to.
    redirect: Option<String>,
    /// `Authorization` of each request, in order.
    seen: Vec<Option<String>>,
    refused: usize,
}

impl ElasticsearchGate {
    pub(crate) async fn start(world: &World, door: Door) -> Self {
        let target = address(world.elasticsearch_url());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if door.0.is_some() { "https" } else { "http" };
        let rules = Arc::<Mutex<Rules>>::default();
        let shared = Arc::clone(&rules);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (door, target, rules) = (door.clone(), target.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    match door.0 {
                        None => pass_http(client, target, rules).await,
                        Some(config) => {
                            let client = TlsAcceptor::from(config).accept(client).await?;
                            pass_http(client, target, rules).await
                        }
                    }
                });
            }
        });
        Self {
            port,
            scheme,
            rules,
            task,
        }
    }

    /// Its URL at `localhost`.
    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.port)
    }

    /// From now on only these values of `Authorization` are let in.
    pub(crate) fn accept(&self, authorizations: &[&str]) {
        self.rules.lock().unwrap().accepted =
            authorizations.iter().map(ToString::to_string).collect();
    }

    /// Every request is answered with "go there".
    pub(crate) fn redirect(&self, to: &str) {
        self.rules.lock().unwrap().redirect = Some(to.to_owned());
    }

    /// `Authorization` of each request that came, in order.
    pub(crate) fn seen(&self) -> Vec<Option<String>> {
        self.rules.lock().unwrap().seen.clone()
    }

    /// How many requests were not let in.
    pub(crate) fn refused(&self) -> usize {
        self.rules.lock().unwrap().refused
    }
}

impl Drop for ElasticsearchGate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_http(
    client: impl AsyncRead + AsyncWrite + Unpin,
    target: String,
    rules: Arc<Mutex<Rules>>,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(target).await?);
    loop {
        let request = Message::read(&mut client, false).await?;
        let answer = rules.lock().unwrap().answer(&request);
        if let Some(answer) = answer {
            client.write_all(answer.as_bytes()).await?;
            continue;
        }
        request.write(&mut server).await?;
        let bodyless = request.line().starts_with("HEAD ");
        let answer = Message::read(&mut server, bodyless).await?;
        answer.write(&mut client).await?;
    }
}

impl Rules {
    /// What is answered instead of Elasticsearch.
    fn answer(&mut self, request: &Message) -> Option<String> {
        let authorization = request.header("authorization");
        self.seen.push(authorization.clone());
        if let Some(to) = &self.redirect {
            let line = request.line();
            let path = line.split(' ').nth(1).unwrap_or_default();
            return Some(format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}{path}\r\ncontent-length: 0\r\n\r\n"
            ));
        }
        let known = authorization.is_some_and(|value| self.accepted.contains(&value));
        if known || self.accepted.is_empty() {
            return None;
        }
        self.refused += 1;
        // As Elasticsearch 8.19 with its security switched on says it.
        let error = r#"{"error":{"root_cause":[{"type":"security_exception","reason":"unable to authenticate with provided credentials and anonymous access is not allowed for this request"}],"type":"security_exception","reason":"unable to authenticate with provided credentials and anonymous access is not allowed for this request"},"status":401}"#;
        Some(format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\nwww-authenticate: ApiKey\r\ncontent-length: {}\r\n\r\n{error}",
            error.len()
        ))
    }
}

fn address(url: &Url) -> String {
    let (host, port) = (url.host_str().unwrap(), url.port_or_known_default());
    format!("{host}:{}", port.unwrap_or(5432))
}
