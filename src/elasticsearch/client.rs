//! Requests to Elasticsearch and OpenSearch, over the addresses that answer.
//!
//! The official client is named here alone, and used as a transport: one single-node transport an
//! address, because its own pool is a blind round robin. A transport whose request timed out is
//! replaced: its pooled connections are probably dead too, and each would cost another timeout.
//!
//! Every request of ours can be repeated (writes carry an external version, an expected sequence
//! number, or say what is to be), so one that found no node goes to the next within the same call. No
//! product check and no `compatible-with` header, which a cluster one major behind would refuse.
//!
//! A secret stands in the request's header and nowhere else: not in an address, an error or a
//! `Debug` form.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use elasticsearch::{
    cert::{Certificate, CertificateValidation},
    http::{
        headers::{
            ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT,
            X_OPAQUE_ID,
        },
        response::Response as ClientResponse,
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    answer::{Response, Server},
    bulk::Bulk,
    cause::{cause, deepest_cause},
    error::Error,
    nodes::{Nodes, Pick},
    verdict::{BULK_FILTER_PATH, Sent, Verdict, judge},
};
use crate::change::Version;

pub use elasticsearch::http::Method;

/// HTTP: we are not known, or not any more.
const UNAUTHORIZED: u16 = 401;

/// How long a node may take to say anything at all, when that is in doubt: far above what a busy one
/// takes, far below what a request may.
const SIGN_OF_LIFE_MAX: Duration = Duration::from_secs(5);
/// For how long a request is waited for before its node is in doubt, where there are others.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// Where Elasticsearch is and how to speak to it.
#[derive(Clone)]
pub struct Options {
    /// The nodes' addresses, at least one. A user and password in an address count as
    /// [`Auth::Basic`] for that node when `auth` is [`Auth::None`].
    pub urls: Vec<Url>,
    /// Who we are.
    pub auth: Auth,
    /// Who we are now: asked when Elasticsearch does not know `auth` any more, since a secret that
    /// stands in a file is renewed there.
    pub renewed_auth: Option<Renewal>,
    /// Certificates to trust beside the system's and Mozilla's.
    pub ca_certificate_pem: Option<Vec<u8>>,
    /// From the start of a request to the end of its answer.
    pub request_timeout: Duration,
    /// `X-Opaque-Id`: names us in Elasticsearch's task list and slow logs.
    pub opaque_id: String,
}

/// Tells who we are now.
pub type Renewal = Arc<dyn Fn() -> Auth + Send + Sync>;

/// How we authenticate.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// A user and a password.
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: SecretString,
    },
    /// An API key, as Elasticsearch's `encoded` or as `id:api_key`.
    ApiKey(SecretString),
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.urls.iter().map(node_name).collect();
        f.debug_struct("Options")
            .field("urls", &hosts)
            .field("auth", &self.auth)
            .field("request_timeout", &self.request_timeout)
            .field("opaque_id", &self.opaque_id)
            .finish_non_exhaustive()
    }
}

/// A handle on a cluster. Clones share connections and what is known of the nodes.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    nodes: Vec<Node>,
    health: Mutex<Nodes>,
    request_timeout: Duration,
    opaque_id: String,
    renewed_auth: Option<Renewal>,
}

struct Node {
    /// Without user and password.
    url: Url,
    /// Certificates to trust beside the system's and Mozilla's.
    ca_pem: Option<Vec<u8>>,
    transport: Mutex<Arc<Transport>>,
    headers: Mutex<HeaderMap>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls = self.shared.nodes.iter().map(|node| node.url.as_str());
        f.debug_list().entries(urls).finish()
    }
}

impl Client {
    /// Prepares the connections; none is opened yet.
    ///
    /// # Errors
    /// [`Error::Options`]: no address, a certificate or a key that cannot be used.
    pub fn new(options: &Options) -> Result<Self, Error> {
        if options.urls.is_empty() {
            return Err(Error::Options("no address is given".to_owned()));
        }
        let nodes = options
            .urls
            .iter()
            .map(|url| Node::new(url.clone(), options))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            shared: Arc::new(Shared {
                health: Mutex::new(Nodes::new(nodes.len())),
                nodes,
                request_timeout: options.request_timeout,
                opaque_id: options.opaque_id.clone(),
                renewed_auth: options.renewed_auth.clone(),
            }),
        })
    }

    /// Asks the cluster who it is.
    ///
    /// # Errors
    /// [`Error::Unreachable`] names the node, its port and the cause; others as [`Self::request`].
    pub async fn ping(&self) -> Result<Server, Error> {
        let answer = self.request(Method::Get, "", &[], None).await;
        answer.map_err(Error::with_hint)?.server()
    }

    /// Sends a bulk request to a concrete index, and judges each of its operations. `bound` is the
    /// highest version that the source can have given until now.
    ///
    /// # Errors
    /// The request as a whole failed. Some of its operations may have been applied, and a request
    /// that timed out may still be executed later: both are harmless to repeat.
    pub async fn bulk(
        &self,
        index: &str,
        bulk: &Bulk,
        bound: Version,
    ) -> Result<Vec<Verdict>, Error> {
        let path = format!("{}/_bulk", super::segment(index));
        let query = [("filter_path", BULK_FILTER_PATH)];
        let answer = self
            .request(Method::Post, &path, &query, Some(bulk.body()))
            .await?;
        failpoint!("bulk-sent", Error::Malformed);
        let sent = Sent {
            operations: bulk.len(),
            source_bytes: bulk.source_bytes(),
        };
        judge(&answer.body, sent, bound).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// Sends a request to the next node that can be reached. `path` is relative to a node's
    /// address and percent-encoded; a body is JSON.
    ///
    /// # Errors
    /// [`Error::Refused`] for an answer that is an error, [`Error::Unreachable`] when no node took
    /// the request, [`Error::TimedOut`] (not tried elsewhere: the cluster may be working on it).
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Response, Error> {
        // With one address a second try finds a connection that the server had closed meanwhile.
        let mut tries = self.shared.nodes.len().max(2);
        let mut renewed = false;
        loop {
            let pick = self.health().pick(Instant::now());
            let sent_as = lock(&self.shared.nodes[pick.node].headers).clone();
            match self.send(&pick, method, path, query, body.clone()).await {
                Ok(response) => {
                    self.health().answered(pick.node);
                    if response.status == UNAUTHORIZED && !renewed && self.renew(&sent_as)? {
                        renewed = true;
                        continue;
                    }
                    return response.unless_refused(|| {
                        format!("{} /{path}", format!("{method:?}").to_uppercase())
                    });
                }
                Err(error) => {
                    self.health().failed(&pick, Instant::now());
                    tries -= 1;
                    if tries == 0 || matches!(error, Error::TimedOut { .. }) {
                        return Err(error);
                    }
                    tracing::debug!(%error, "trying the next node");
                }
            }
        }
    }

    async fn send(
        &self,
        pick: &Pick,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Response, Error> {
        let node = &self.shared.nodes[pick.node];
        let limit = self.shared.request_timeout;
        if pick.unproven {
            node.lives(limit).await?;
        }
        let others = self.shared.nodes.len() > 1;
        tokio::select! {
            biased;
            answer = node.send(method, path, query, body, limit) => answer,
            dead = node.dies(limit), if others => Err(dead),
        }
    }

    /// Takes up credentials that were renewed, for every node, since the next try may go to another;
    /// false when they are those that were refused. Another request may have taken them up meanwhile.
    fn renew(&self, refused: &HeaderMap) -> Result<bool, Error> {
        let renewed = self.shared.renewed_auth.as_ref().map(|renewed| renewed());
        let Some(auth @ (Auth::Basic { .. } | Auth::ApiKey(_))) = renewed else {
            return Ok(false);
        };
        let renewed = headers(&auth, &self.shared.opaque_id)?;
        for node in &self.shared.nodes {
            lock(&node.headers).clone_from(&renewed);
        }
        Ok(renewed != *refused)
    }

    fn health(&self) -> MutexGuard<'_, Nodes> {
        lock(&self.shared.health)
    }
}

impl Node {
    fn new(mut url: Url, options: &Options) -> Result<Self, Error> {
        let auth = match (&options.auth, userinfo(&url)) {
            (Auth::None, Some(auth)) => auth,
            (auth, _) => auth.clone(),
        };
        // Refused for an address that cannot have them, which then has none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Options(format!("{url} is not an http(s) address")));
        }
        let ca_pem = options.ca_certificate_pem.clone();
        let transport = transport(&url, ca_pem.as_deref())?;
        let headers = headers(&auth, &options.opaque_id)?;
        Ok(Self {
            url,
            ca_pem,
            transport: Mutex::new(Arc::new(transport)),
            headers: Mutex::new(headers),
        })
    }

    fn transport(&self) -> Arc<Transport> {
        lock(&self.transport).clone()
    }

    /// Lets go of all connections of `dead`; requests that are under way keep theirs.
    fn connect_anew(&self, dead: &Arc<Transport>) {
        if !Arc::ptr_eq(&self.transport(), dead) {
            return;
        }
        // Before the lock is taken, which every request takes: this reads the system's certificates.
        let fresh = match transport(&self.url, self.ca_pem.as_deref()) {
            Ok(fresh) => Arc::new(fresh),
            Err(error) => {
                tracing::warn!(%error, "connections could not be made anew");
                return;
            }
        };
        let mut current = lock(&self.transport);
        if Arc::ptr_eq(&current, dead) {
            *current = fresh;
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<Response, Error> {
        let transport = self.transport();
        let trouble = |error: elasticsearch::Error| {
            if error.is_timeout() {
                self.connect_anew(&transport);
                Error::TimedOut {
                    node: self.name(),
                    limit,
                }
            } else {
                self.unreachable(&cause(&error))
            }
        };
        let headers = lock(&self.headers).clone();
        let response = transport
            .send(method, path, headers, Some(query), body, Some(limit))
            .await
            .map_err(trouble)?;
        self.check_answered_itself(&response)?;
        Ok(Response {
            status: response.status_code().as_u16(),
            retry_after: retry_after(response.headers()),
            body: response.bytes().await.map_err(trouble)?,
        })
    }

    /// Fails fast where a request would wait its whole time for a node that is not there, or that
    /// hangs: its system takes connections then, and nothing answers. Any answer is one.
    async fn lives(&self, limit: Duration) -> Result<(), Error> {
        let limit = limit.min(SIGN_OF_LIFE_MAX);
        match self.send(Method::Get, "", &[], None, limit).await {
            Err(Error::TimedOut { .. }) => {
                Err(self.unreachable(&format!("no sign of life within {limit:?}")))
            }
            other => other.map(drop),
        }
    }

    /// Ends once the node gives no sign of life any more, while a request to it is under way. What
    /// the request may still do there later is harmless, as it is after a time-out.
    async fn dies(&self, limit: Duration) -> Error {
        loop {
            tokio::time::sleep(QUIET_MAX).await;
            if let Err(error) = self.lives(limit).await {
                return error;
            }
        }
    }

    /// Something in between that redirects would turn a POST into a GET elsewhere.
    fn check_answered_itself(&self, response: &ClientResponse) -> Result<(), Error> {
        let answered = response.url();
        if answered.origin() == self.url.origin() {
            return Ok(());
        }
        let elsewhere = answered.origin().ascii_serialization();
        Err(Error::Options(format!(
            "{} redirects to {elsewhere}: give that address instead",
            self.name()
        )))
    }

    fn unreachable(&self, cause: &str) -> Error {
        Error::Unreachable {
            node: self.name(),
            cause: cause.to_owned(),
        }
    }

    fn name(&self) -> String {
        node_name(&self.url)
    }
}

fn transport(url: &Url, ca_pem: Option<&[u8]>) -> Result<Transport, Error> {
    let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url.clone()))
        .disable_proxy()
        .enable_meta_header(false);
    if let Some(pem) = ca_pem {
        let certificate = Certificate::from_pem(pem)
            .map_err(|error| Error::Options(format!("the CA certificate: {error}")))?;
        builder = builder.cert_validation(CertificateValidation::Full(certificate));
    }
    builder
        .build()
        .map_err(|error| Error::Options(deepest_cause(&error)))
}

/// Scheme, host and port, the port even where it is the scheme's own; never a user or a password.
fn node_name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}://{host}:{port}", url.scheme())
}

fn userinfo(url: &Url) -> Option<Auth> {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    url.password().map(|password| Auth::Basic {
        username: decoded(url.username()),
        password: decoded(password).into(),
    })
}

fn headers(auth: &Auth, opaque_id: &str) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let agent = concat!("sync-es/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    // Answers are small; packing them would cost both sides more than it saves.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let opaque_id = HeaderValue::try_from(opaque_id)
        .map_err(|_| Error::Options(format!("{opaque_id:?} cannot stand in X-Opaque-Id")))?;
    headers.insert(X_OPAQUE_ID, opaque_id);
    let credentials = match auth {
        Auth::None => return Ok(headers),
        Auth::Basic { username, password } => {
            let pair = format!("{username}:{}", password.expose_secret());
            format!("Basic {}", BASE64.encode(pair))
        }
        Auth::ApiKey(key) => match key.expose_secret() {
            pair if pair.contains(':') => format!("ApiKey {}", BASE64.encode(pair)),
            encoded => format!("ApiKey {encoded}"),
        },
    };
    let mut credentials = HeaderValue::try_from(credentials)
        .map_err(|_| Error::Options("the API key has characters that no API key has".to_owned()))?;
    credentials.set_sensitive(true);
    headers.insert(AUTHORIZATION, credentials);
    Ok(headers)
}

/// How long the answer asks to wait, where it says so in seconds (RFC 9110, section 10.2.3; the date
/// that it may hold instead is not read).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse();
    seconds.ok().map(Duration::from_secs)
}

/// Nothing that is done under these locks can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    use super::*;

    const SECRET: &str = "hunter2";

    fn options(url: &str, auth: Auth) -> Options {
        Options {
            urls: vec![url.parse().unwrap()],
            auth,
            renewed_auth: None,
            ca_certificate_pem: None,
            request_timeout: Duration::from_secs(1),
            opaque_id: "sync-es".to_owned(),
        }
    }

    fn authorization(url: &str, auth: Auth) -> Option<String> {
        let options = options(url, auth);
        let node = Node::new(options.urls[0].clone(), &options).unwrap();
        let headers = lock(&node.headers).clone();
        let header = headers.get(AUTHORIZATION)?;
        assert!(
            !format!("{header:?}").contains("Basic"),
            "not marked as sensitive"
        );
        Some(header.to_str().unwrap().to_owned())
    }

    #[test]
    fn credentials_come_from_the_options_or_else_from_the_address() {
        let basic = || Auth::Basic {
            username: "u".to_owned(),
            password: "p:ä".into(),
        };
        let header = |text: &str| Some(format!("Basic {}", BASE64.encode(text)));
        assert_eq!(authorization("http://h", Auth::None), None);
        assert_eq!(authorization("http://h", basic()), header("u:p:ä"));
        assert_eq!(
            authorization("http://a:b%40c@h", Auth::None),
            header("a:b@c")
        );
        assert_eq!(authorization("http://a:b@h", basic()), header("u:p:ä"));
        let key = |key: &str| authorization("http://h", Auth::ApiKey(key.into()));
        assert_eq!(key("aWQ6a2V5"), Some("ApiKey aWQ6a2V5".to_owned()));
        assert_eq!(key("id:key"), Some("ApiKey aWQ6a2V5".to_owned()));
    }

    #[test]
    fn no_secret_can_be_printed() {
        let url = format!("http://user:{SECRET}@localhost:9");
        let password = SECRET.into();
        let basic = Auth::Basic {
            username: "u".to_owned(),
            password,
        };
        let client = Client::new(&options(&url, Auth::None)).unwrap();
        let broken = Client::new(&options(
            "http://h",
            Auth::ApiKey(format!("{SECRET}\n").into()),
        ));
        for text in [
            format!("{client:?}"),
            format!("{basic:?} {:?}", Auth::ApiKey(SECRET.into())),
            format!("{:?}", options(&url, basic)),
            broken.unwrap_err().to_string(),
        ] {
            assert!(!text.contains(SECRET), "{text}");
        }
    }

    /// A node that answers each request, on a connection of its own, in turn: by closing it without a
    /// word, with 401, or as a node does that knows us. Gives what was in their `Authorization`.
    fn node(answers: &'static [&'static str]) -> (Url, mpsc::Receiver<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let answer = |(answer, connection): (&&str, io::Result<TcpStream>)| {
                let mut connection = BufReader::new(connection.unwrap());
                let mut authorization = String::new();
                let mut line = String::new();
                while connection.read_line(&mut line).unwrap() > 2 {
                    if let Some(value) = line.strip_prefix("authorization: ") {
                        value.trim_end().clone_into(&mut authorization);
                    }
                    line.clear();
                }
                connection.get_mut().write_all(answer.as_bytes()).unwrap();
                authorization
            };
            let seen = answers.iter().zip(listener.incoming()).map(answer);
            tell.send(seen.collect()).unwrap();
        });
        (url.parse().unwrap(), told)
    }

    /// What a node was asked as, once it has given all of its answers.
    fn asked_as(node: &mpsc::Receiver<Vec<String>>) -> Vec<String> {
        node.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    const SILENCE: &str = "";
    const UNKNOWN: &str =
        "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    const KNOWN: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

    fn with_renewed_key(urls: Vec<Url>) -> Client {
        Client::new(&Options {
            urls,
            renewed_auth: Some(Arc::new(|| Auth::ApiKey("new".into()))),
            ..options("http://h", Auth::ApiKey("old".into()))
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_renewed_key_is_tried_even_where_no_other_try_is_left() {
        // Each node is asked for a sign of life before it is proven.
        let (url, node) = node(&[SILENCE, UNKNOWN, UNKNOWN, KNOWN]);
        let client = with_renewed_key(vec![url]);
        let answer = client.request(Method::Get, "x", &[], None).await.unwrap();
        assert_eq!(answer.status, 200);
        let new = "ApiKey new";
        assert_eq!(asked_as(&node).pop().as_deref(), Some(new));
    }

    #[tokio::test]
    async fn a_renewed_key_goes_to_every_node() {
        let (first, one) = node(&[KNOWN, UNKNOWN]);
        let (second, other) = node(&[KNOWN, KNOWN]);
        let client = with_renewed_key(vec![first, second]);
        let answer = client.request(Method::Get, "x", &[], None).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(asked_as(&one), ["ApiKey old"; 2]);
        assert_eq!(asked_as(&other), ["ApiKey new"; 2]);
    }

    #[test]
    fn a_key_that_another_request_took_up_meanwhile_is_tried_too() {
        let client = with_renewed_key(vec!["http://h".parse().unwrap()]);
        let old = headers(&Auth::ApiKey("old".into()), "sync-es").unwrap();
        let new = headers(&Auth::ApiKey("new".into()), "sync-es").unwrap();
        assert!(client.renew(&old).unwrap());
        assert!(client.renew(&old).unwrap());
        assert!(!client.renew(&new).unwrap());
    }

    #[test]
    fn an_address_that_is_not_http_is_refused_before_anything_is_sent() {
        for url in ["ftp://h", "file:///x", "mailto:a@b"] {
            let refused = Client::new(&options(url, Auth::None)).unwrap_err();
            assert!(matches!(refused, Error::Options(_)), "{refused}");
        }
    }
}
