//! The Elasticsearch room against a real server, whose address is in
//! `SYNC_ES_TEST_ELASTICSEARCH_URL`. Each test has indices and templates of its own, by its name.

mod records;

use std::{
    collections::BTreeMap, convert::Infallible, net::TcpListener, process, slice::from_ref,
    time::Duration,
};

use serde_json::{Map, Value, json};
use sync_es::{
    change::{Key, Lsn, Version},
    elasticsearch::{
        Auth, Bulk, Client, Distribution, Error, Index, IndexError, Meta, Method, Move, Options,
        RelationName, Verdict, alias_targets, put_template, swap_alias,
    },
};
use url::Url;

const BOUND: Version = Version(1 << 50);

#[tokio::test]
async fn a_server_says_who_it_is_and_one_that_is_not_there_is_named() {
    let server = client([server_url()]).ping().await.unwrap();
    assert!(server.version.0 >= 2, "{server:?}");

    let nowhere = closed_port();
    let error = client([nowhere.clone()]).ping().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!("127.0.0.1:{}", nowhere.port().unwrap())),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
    assert!(text.contains("is Elasticsearch running there"), "{text}");
    assert!(error.heals());
    let mut encrypted = server_url();
    encrypted.set_scheme("https").unwrap();
    let text = client([encrypted]).ping().await.unwrap_err().to_string();
    assert!(text.contains("is it http://"), "{text}");

    let unknown = client(["http://no-such-host.invalid:9200".parse().unwrap()]);
    let text = unknown.ping().await.unwrap_err().to_string();
    assert!(text.contains("no-such-host.invalid:9200"), "{text}");
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_costs_no_request() {
    let client = client([closed_port(), server_url(), closed_port()]);
    for _ in 0..6 {
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_gets_no_answer_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let options = Options {
        request_timeout: Duration::from_millis(200),
        ..options([url.parse().unwrap()])
    };
    let error = Client::new(&options).unwrap().ping().await.unwrap_err();
    // It accepts connections and says nothing.
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_guarded_name_is_never_made_by_a_write() {
    let test = Test::new("guarded").await;
    let index = Index::new(&test.client, &test.name);
    let mut bulk = Bulk::new();
    push(&mut bulk, "a", 1, "{}");
    bulk.push_delete(&Key::new("b"), Version(1));
    let verdicts = test.client.bulk(&test.name, &bulk, BOUND).await.unwrap();
    for verdict in verdicts {
        assert!(
            matches!(&verdict, Verdict::System { kind, .. } if kind == "index_not_found_exception"),
            "{verdict:?}"
        );
    }
    assert_eq!(index.look().await.unwrap(), None);
    test.clean(&[]).await;
}

#[tokio::test]
async fn an_index_says_what_it_was_made_for() {
    let test = Test::new("made-for").await;
    let index = Index::new(&test.client, &test.name);
    index
        .create(&meta(), &Map::new(), &Map::new())
        .await
        .unwrap();
    index
        .create(&meta(), &Map::new(), &Map::new())
        .await
        .expect("the answer of the first could have been lost");
    let other = Meta {
        timeline: 2,
        ..meta()
    };
    let refused = index.create(&other, &Map::new(), &Map::new()).await;
    assert!(
        matches!(refused, Err(IndexError::Exists { .. })),
        "{refused:?}"
    );

    let found = index.look().await.unwrap().unwrap();
    assert_eq!(found.meta, Some(meta()));
    found.check_writes().unwrap();
    index.put_meta(&other).await.unwrap();
    let fields = as_map(json!({"extra": {"type": "keyword"}}));
    index.put_properties(&fields).await.unwrap();
    let changed = index.look().await.unwrap().unwrap();
    assert_eq!(changed.meta, Some(other));
    assert_eq!(changed.uuid, found.uuid);
    assert!(changed.properties.contains_key("extra") && changed.properties.contains_key("n"));
    let mapping = test.get(&format!("{}/_mapping", test.name)).await;
    assert_eq!(
        mapping[&test.name]["mappings"]["_meta"]["owner"],
        json!("user")
    );

    let settings = json!({"index.translog.durability": "async", "index.refresh_interval": "5s"});
    let path = format!("{}/_settings", test.name);
    let settings = Some(settings.to_string().into());
    let put = test.client.request(Method::Put, &path, &[], settings);
    put.await.unwrap();
    let look = index.look().await.unwrap().unwrap();
    assert_eq!(look.refresh_interval.as_deref(), Some("5s"));
    let refused = look.check_writes();
    assert!(
        matches!(refused, Err(IndexError::NotDurable { .. })),
        "{refused:?}"
    );
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn each_operation_has_its_verdict_and_the_failed_ones_are_sent_alone() {
    let test = Test::new("verdicts").await;
    Index::new(&test.client, &test.name)
        .create(&meta(), &Map::new(), &Map::new())
        .await
        .unwrap();
    let mut bulk = Bulk::new();
    push(&mut bulk, "a", 5, r#"{"n":1}"#);
    push(&mut bulk, "poison", 5, r#"{"n":"x"}"#);
    bulk.push_delete(&Key::new("absent\n\"/"), Version(5));
    push(&mut bulk, "a", 4, r#"{"n":2}"#);
    push(&mut bulk, "unknown", 5, r#"{"zz":1}"#);
    let verdicts = test.client.bulk(&test.name, &bulk, BOUND).await.unwrap();
    assert_eq!(verdicts[0], Verdict::Applied);
    assert!(matches!(&verdicts[1], Verdict::Refused { reason, .. } if reason.contains("[n]")));
    assert_eq!(verdicts[2], Verdict::Applied);
    assert_eq!(verdicts[3], Verdict::Superseded);
    assert!(
        matches!(&verdicts[4], Verdict::Refused { kind, .. } if kind == "strict_dynamic_mapping_exception")
    );

    let again = test
        .client
        .bulk(&test.name, &bulk.select(&[2, 0]), BOUND)
        .await
        .unwrap();
    assert_eq!(again, [Verdict::Superseded, Verdict::Superseded]);
    let below = test
        .client
        .bulk(&test.name, &bulk.select(&[3]), Version(4))
        .await
        .unwrap();
    assert_eq!(below, [Verdict::Foreign { stored: Version(5) }]);
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn every_document_is_read_once_by_id_and_version() {
    let test = Test::new("every-document").await;
    let index = Index::new(&test.client, &test.name);
    index
        .create(&meta(), &Map::new(), &Map::new())
        .await
        .unwrap();
    let mut bulk = Bulk::new();
    for n in 0..10_050 {
        push(&mut bulk, &format!("k{n}"), n + 1, "{}");
    }
    let verdicts = test.client.bulk(&test.name, &bulk, BOUND).await.unwrap();
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Applied));

    let all = read_all(&index, test.distribution, None).await;
    assert_eq!(all.len(), 10_050);
    assert!((0..10_050).all(|n| all[&Key::new(&format!("k{n}"))] == Version(n + 1)));
    let old = read_all(&index, test.distribution, Some(Version(3))).await;
    assert_eq!(
        old.into_values().collect::<Vec<_>>(),
        [Version(1), Version(2)]
    );
    assert_eq!(index.count().await.unwrap(), 10_050);
    test.clean(&[&test.name]).await;
}

#[tokio::test]
async fn an_alias_moves_in_one_step_and_only_from_where_it_is_expected() {
    let test = Test::new("alias").await;
    let names = [1, 2, 3].map(|n| format!("{}-v{n}", test.name));
    for name in &names {
        Index::new(&test.client, name)
            .create(&meta(), &Map::new(), &Map::new())
            .await
            .unwrap();
    }
    let [first, second, third] = &names;
    let alias = format!("{}-alias", test.name);
    let targets = || async { alias_targets(&test.client, &alias).await.unwrap() };
    let moved = async |from: &[String], to: &str| {
        let swap = Move {
            alias: &alias,
            from,
            to,
            previous: None,
        };
        swap_alias(&test.client, &swap).await
    };
    assert!(targets().await.is_empty());
    moved(&[], first).await.unwrap();
    assert_eq!(targets().await, from_ref(first));
    moved(from_ref(first), second).await.unwrap();
    assert_eq!(targets().await, from_ref(second));
    moved(from_ref(first), second)
        .await
        .expect("it stands there");
    let refused = moved(from_ref(first), third).await;
    assert!(
        matches!(refused, Err(IndexError::AliasElsewhere { .. })),
        "{refused:?}"
    );
    assert_eq!(targets().await, from_ref(second));
    let found = Index::new(&test.client, &alias).look().await;
    assert!(matches!(found, Err(IndexError::Alias { .. })), "{found:?}");
    test.clean(&[first, second, third]).await;
}

/// A test's own names on the server.
struct Test {
    client: Client,
    distribution: Distribution,
    name: String,
}

impl Test {
    async fn new(name: &str) -> Self {
        let client = client([server_url()]);
        let distribution = client.ping().await.unwrap().distribution;
        let name = format!("sync-es-test-{}-{name}", process::id());
        let mut template = json!({
            "index_patterns": [format!("{name}*")],
            "priority": 900,
            "template": {
                "settings": {"number_of_replicas": 0},
                "mappings": {
                    "dynamic": "strict",
                    "_meta": {"owner": "user"},
                    "properties": {"n": {"type": "long"}},
                },
            },
        });
        // On OpenSearch the cluster is set so.
        if distribution == Distribution::Elasticsearch {
            template["allow_auto_create"] = false.into();
        }
        put_template(&client, &name, &template).await.unwrap();
        Self {
            client,
            distribution,
            name,
        }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self
            .client
            .request(Method::Get, path, &[], None)
            .await
            .unwrap();
        answer.json().unwrap()
    }

    async fn delete(&self, path: &str) {
        self.client
            .request(Method::Delete, path, &[], None)
            .await
            .unwrap();
    }

    async fn clean(&self, indices: &[&str]) {
        for index in indices {
            self.delete(index).await;
        }
        self.delete(&format!("_index_template/{}", self.name)).await;
    }
}

async fn read_all(
    index: &Index,
    distribution: Distribution,
    below: Option<Version>,
) -> BTreeMap<Key, Version> {
    let mut documents = index.documents(distribution, below).await.unwrap();
    let mut all = BTreeMap::new();
    while let Some(page) = documents.next().await.unwrap() {
        for (key, version) in page {
            assert_eq!(all.insert(key, version), None);
        }
    }
    all
}

fn push(bulk: &mut Bulk, key: &str, version: u64, document: &str) {
    bulk.push_index(&Key::new(key), Version(version), |out| {
        out.extend_from_slice(document.as_bytes());
        Ok::<_, Infallible>(())
    })
    .unwrap();
}

fn server_url() -> Url {
    let url = std::env::var("SYNC_ES_TEST_ELASTICSEARCH_URL");
    url.expect("SYNC_ES_TEST_ELASTICSEARCH_URL names a server")
        .parse()
        .unwrap()
}

/// An address at which nobody listens.
fn closed_port() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap()
}

fn client(urls: impl IntoIterator<Item = Url>) -> Client {
    Client::new(&options(urls)).unwrap()
}

fn options(urls: impl IntoIterator<Item = Url>) -> Options {
    Options {
        urls: urls.into_iter().collect(),
        auth: Auth::None,
        renewed_auth: None,
        ca_certificate_pem: None,
        request_timeout: Duration::from_mins(1),
        opaque_id: "sync-es-test".to_owned(),
    }
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

fn meta() -> Meta {
    Meta {
        system_identifier: "7436363636363636363".to_owned(),
        timeline: 1,
        slot: Some("sync_es".to_owned()),
        consistent_point: Some(Lsn(0x15A_AD08)),
        relation: RelationName {
            schema: "public".to_owned(),
            name: "integrated_records".to_owned(),
            oid: 16_385,
        },
        relation_fingerprint: "f".to_owned(),
        key_column: "hk".to_owned(),
        version_scheme: "s".to_owned(),
        program_version: "0.1.0".to_owned(),
        created_at: "2026-11-24T23:33:00Z".parse().unwrap(),
    }
}
