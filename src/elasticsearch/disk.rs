//! How full the data nodes' disks are, held against the watermarks at which Elasticsearch begins to
//! refuse: above the low one a node gets no more replicas, above the high one its shards go elsewhere,
//! above the flood stage every index with a shard on it takes no more writes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Client, Error, Method};

/// The cluster's disks and watermarks.
#[derive(Debug, Clone, PartialEq)]
pub struct Disks {
    /// The data nodes.
    pub nodes: Vec<Disk>,
    /// `cluster.routing.allocation.disk.threshold_enabled`: the watermarks are in force.
    pub enforced: bool,
    /// The watermarks, from the low one to the flood stage.
    pub watermarks: [Watermark; 3],
}

/// A data node's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The node's name.
    pub node: String,
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are free.
    pub available: u64,
}

/// Where the disk counts as too full.
#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    /// The last part of its setting: `low`, `high` or `flood_stage`.
    pub name: &'static str,
    /// As it is set, such as `85%` or `20gb`.
    pub setting: String,
    limit: Limit,
}

#[derive(Debug, Clone, PartialEq)]
enum Limit {
    /// This part of the disk may be in use, or more if so many bytes are free all the same.
    Used { part: f64, headroom: Option<u64> },
    /// So many bytes must be free.
    Free(u64),
}

/// Looks at the disks and at what is set.
///
/// # Errors
/// A request failed; it takes the privilege `monitor`.
pub async fn disks(client: &Client) -> Result<Disks, Error> {
    const SETTINGS: [(&str, &str); 3] = [
        ("include_defaults", "true"),
        ("flat_settings", "true"),
        (
            "filter_path",
            // The names are flat, and have dots in them.
            r"*.cluster\.routing\.allocation\.disk*",
        ),
    ];
    const STATS: [(&str, &str); 1] =
        [("filter_path", "nodes.*.name,nodes.*.roles,nodes.*.fs.total")];
    let settings = client
        .request(Method::Get, "_cluster/settings", &SETTINGS, None)
        .await?
        .json()?;
    let stats: Stats = client
        .request(Method::Get, "_nodes/stats/fs", &STATS, None)
        .await?
        .json()?;
    read(&settings, stats)
}

impl Watermark {
    /// From its setting, and from how many free bytes are enough on a disk of any size.
    #[must_use]
    pub fn parse(name: &'static str, setting: &str, headroom: Option<u64>) -> Option<Self> {
        Some(Self {
            name,
            setting: setting.to_owned(),
            limit: limit(setting, headroom)?,
        })
    }

    /// Whether a disk is fuller than this.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a part of a disk, not a count")]
    pub fn is_passed(&self, disk: &Disk) -> bool {
        match self.limit {
            Limit::Free(bytes) => disk.available < bytes,
            Limit::Used { part, headroom } => {
                let wanted = disk.total as f64 * (1.0 - part);
                let wanted = headroom.map_or(wanted, |headroom| wanted.min(headroom as f64));
                (disk.available as f64) < wanted
            }
        }
    }
}

const PREFIX: &str = "cluster.routing.allocation.disk";

/// Where a setting is found: the first of these that has it.
type Settings = BTreeMap<String, BTreeMap<String, serde_json::Value>>;

fn read(settings: &Settings, stats: Stats) -> Result<Disks, Error> {
    let nodes = stats.nodes.into_values();
    let holds_data = |node: &Node| node.roles.iter().any(|role| role.starts_with("data"));
    Ok(Disks {
        nodes: nodes
            .filter(holds_data)
            .map(|node| Disk {
                node: node.name,
                total: node.fs.total.total_in_bytes,
                available: node.fs.total.available_in_bytes,
            })
            .collect(),
        enforced: setting(settings, "threshold_enabled") != Some("false"),
        watermarks: [
            watermark(settings, "low")?,
            watermark(settings, "high")?,
            watermark(settings, "flood_stage")?,
        ],
    })
}

fn setting<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    let name = format!("{PREFIX}.{name}");
    ["transient", "persistent", "defaults"]
        .iter()
        .find_map(|scope| settings.get(*scope)?.get(&name)?.as_str())
}

fn watermark(settings: &Settings, name: &'static str) -> Result<Watermark, Error> {
    let text = setting(settings, &format!("watermark.{name}")).unwrap_or_default();
    let headroom = setting(settings, &format!("watermark.{name}.max_headroom")).and_then(bytes);
    Watermark::parse(name, text, headroom)
        .ok_or_else(|| Error::Malformed(format!("watermark {name} is {text:?}")))
}

/// `85%` and `0.85` are parts of the disk that may be in use, `20gb` is what must be free.
fn limit(text: &str, headroom: Option<u64>) -> Option<Limit> {
    let part = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    };
    match part {
        Some(part) => Some(Limit::Used { part, headroom }),
        None => bytes(text).map(Limit::Free),
    }
}

/// `500mb` in bytes, as Elasticsearch writes sizes; `-1`, which is none, gives none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a size of a disk, to the byte or near it"
)]
fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 6] = [
        ("pb", 1 << 50),
        ("tb", 1 << 40),
        ("gb", 1 << 30),
        ("mb", 1 << 20),
        ("kb", 1 << 10),
        ("b", 1),
    ];
    let text = text.to_ascii_lowercase();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))?;
    let number: f64 = number.trim().parse().ok()?;
    (number >= 0.0).then_some((number * unit as f64) as u64)
}

#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    nodes: BTreeMap<String, Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    #[serde(default)]
    roles: Vec<String>,
    fs: Fs,
}

#[derive(Deserialize)]
struct Fs {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    total_in_bytes: u64,
    available_in_bytes: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disk(total: u64, available: u64) -> Disk {
        Disk {
            node: "n".to_owned(),
            total,
            available,
        }
    }

    fn disks_of(settings: serde_json::Value) -> Disks {
        let stats = json!({"nodes": {
            "a": {"name": "data", "roles": ["data_hot"], "fs": {"total": {"total_in_bytes": 10, "available_in_bytes": 4}}},
            "b": {"name": "voting", "roles": ["master"], "fs": {"total": {"total_in_bytes": 10, "available_in_bytes": 0}}},
        }});
        let settings = serde_json::from_value(settings).unwrap();
        read(&settings, serde_json::from_value(stats).unwrap()).unwrap()
    }

    #[test]
    fn a_setting_goes_over_its_default_and_only_data_nodes_count() {
        let name = |of: &str| format!("{PREFIX}.watermark.{of}");
        let found = disks_of(json!({
            "persistent": {name("low"): "50%"},
            "transient": {},
            "defaults": {
                name("low"): "85%", name("low.max_headroom"): "-1",
                name("high"): "90%", name("high.max_headroom"): "3b",
                name("flood_stage"): "500mb",
                format!("{PREFIX}.threshold_enabled"): "false",
            },
        }));
        assert_eq!(
            found.nodes,
            [disk(10, 4)].map(|disk| Disk {
                node: "data".to_owned(),
                ..disk
            })
        );
        assert!(!found.enforced);
        let settings = found.watermarks.each_ref().map(|one| one.setting.as_str());
        assert_eq!(settings, ["50%", "90%", "500mb"]);
        let passed = found
            .watermarks
            .each_ref()
            .map(|one| one.is_passed(&found.nodes[0]));
        assert_eq!(passed, [true, false, true]);
    }

    #[test]
    fn a_large_disk_needs_no_more_free_than_the_headroom() {
        let of = |text: &str, headroom| Watermark::parse("low", text, headroom).unwrap();
        assert!(of("85%", None).is_passed(&disk(1000, 149)));
        assert!(!of("85%", None).is_passed(&disk(1000, 151)));
        assert!(!of("85%", Some(100)).is_passed(&disk(1000, 101)));
        assert!(of("0.85", Some(100)).is_passed(&disk(1000, 99)));
        assert!(of("1.5kb", None).is_passed(&disk(4000, 1535)));
        assert!(!of("1.5kb", None).is_passed(&disk(4000, 1536)));
        assert_eq!(limit("soon", None), None);
    }
}
