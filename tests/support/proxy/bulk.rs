//! Bulk requests item by item: some held back from the server and answered as refused, which is what
//! a partial refusal is; some carried out and answered as refused; and a ledger of what was asked.

use std::collections::{HashMap, HashSet};

use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use super::http::Message;

/// What a refused item says: overload, a shard that is away, a fault of the server's.
const REFUSALS: [(u16, &str); 3] = [
    (429, "es_rejected_execution_exception"),
    (503, "unavailable_shards_exception"),
    (500, "i_o_exception"),
];

/// One operation of a bulk request.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// `index` or `delete`.
    action: String,
    key: String,
    version: Option<u64>,
    /// Its lines in the body.
    lines: Vec<u8>,
}

/// The operations of a bulk request.
pub(super) fn items(body: &[u8]) -> Vec<Item> {
    let mut lines = body.split_inclusive(|byte| *byte == b'\n');
    let mut items = Vec::new();
    while let Some(line) = lines.next() {
        let Value::Object(action) = serde_json::from_slice(line).unwrap() else {
            panic!("an action is an object");
        };
        let (name, target) = action.into_iter().next().unwrap();
        let mut both = line.to_vec();
        if name != "delete" {
            both.extend_from_slice(lines.next().unwrap());
        }
        items.push(Item {
            action: name,
            key: target["_id"].as_str().unwrap_or_default().to_owned(),
            version: target["version"].as_u64(),
            lines: both,
        });
    }
    items
}

/// The share of items that are refused, each kind by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Refusing {
    /// They never reach the server.
    pub(crate) held_back: f64,
    /// The server carries them out.
    pub(crate) carried_out: f64,
}

/// A bulk request of which the items are refused that `refused` has an answer for.
pub(super) struct Partial {
    items: Vec<Item>,
    refused: Vec<Option<(Value, bool)>>,
}

impl Partial {
    /// Draws which items are refused, and how.
    pub(super) fn draw(items: Vec<Item>, refusing: Refusing, random: &mut StdRng) -> Self {
        let refused = items
            .iter()
            .map(|item| {
                let held_back = random.random_bool(refusing.held_back);
                let carried_out = random.random_bool(refusing.carried_out);
                let (status, kind) = REFUSALS[random.random_range(0..REFUSALS.len())];
                let error = json!({ "type": kind, "reason": "the proxy says so" });
                let answer = json!({ &item.action: { "status": status, "error": error } });
                (held_back || carried_out).then_some((answer, held_back))
            })
            .collect();
        Self { items, refused }
    }

    /// What reaches the server.
    pub(super) fn body(&self) -> Vec<u8> {
        let passed = self.items.iter().zip(&self.refused);
        passed
            .filter(|(_, refused)| !matches!(refused, Some((_, true))))
            .flat_map(|(item, _)| item.lines.clone())
            .collect()
    }

    /// What the client is told: the server's answers, and between them, each in its item's place,
    /// the refusals.
    pub(super) fn answer(&self, server: Option<Message>) -> Message {
        let told: Value = match &server {
            Some(answer) if !answer.is_ok() => return server.unwrap(),
            Some(answer) => serde_json::from_slice(&answer.body).unwrap(),
            None => Value::Null,
        };
        let mut told = told["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter();
        let answers: Vec<Value> = self
            .refused
            .iter()
            .map(|refused| match refused {
                Some((answer, true)) => answer.clone(),
                Some((answer, false)) => {
                    told.next();
                    answer.clone()
                }
                None => told.next().unwrap(),
            })
            .collect();
        let body = json!({ "errors": true, "items": answers });
        Message::answer("200 OK", body.to_string().into_bytes())
    }
}

/// What was asked and answered, operation by operation.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Key and version of what was answered as done.
    done: HashSet<(String, u64)>,
    /// What was answered as refused and has not been answered as done since.
    refused: HashMap<String, u64>,
    /// Operations that were sent again though they had been answered as done.
    pub(super) again: Vec<String>,
    /// Operations that were sent while an older one of their key was refused.
    pub(super) overtaking: Vec<String>,
}

impl Ledger {
    pub(super) fn asked(&mut self, items: &[Item]) {
        for Item { key, version, .. } in items {
            let Some(version) = *version else { continue };
            let operation = format!("{key:?} at {version}");
            if self.done.contains(&(key.clone(), version)) {
                self.again.push(operation.clone());
            }
            if self
                .refused
                .get(key)
                .is_some_and(|refused| *refused < version)
            {
                self.overtaking.push(operation);
            }
        }
    }

    /// Takes a whole answer in.
    pub(super) fn answered(&mut self, items: &[Item], answer: &Message) {
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.body) else {
            return;
        };
        let answers = answer["items"].as_array().into_iter().flatten();
        for (item, answer) in items.iter().zip(answers) {
            let Some(version) = item.version else {
                continue;
            };
            // A conflict says that a version at least as new is there.
            match answer[&item.action]["status"].as_u64() {
                Some(200..300 | 404 | 409) => {
                    self.done.insert((item.key.clone(), version));
                    self.refused.remove(&item.key);
                }
                _ => {
                    self.refused.insert(item.key.clone(), version);
                }
            }
        }
    }
}
