//! Elasticsearch: the cluster, what we may do there, and the index as it is set. Pure.

use super::finding::{End, Finding, Verdict};
use crate::{
    elasticsearch::{
        AutoCreation, Disk, Disks, Distribution, Look, Server, our_names,
        privileges::{CLUSTER, INDEX, Privileges, key_request},
    },
    stop::Stop,
};

/// The oldest versions that the tests run against.
const VERSION_MIN: (u16, u16) = (8, 19);
const OPENSEARCH_VERSION_MIN: (u16, u16) = (2, 19);

/// What was found of the cluster.
#[derive(Debug)]
pub(in crate::pipeline) struct Cluster {
    /// Who it is.
    pub server: Server,
    /// The alias.
    pub alias: String,
    /// A concrete index stands under the alias's name.
    pub alias_is_index: bool,
    /// The index.
    pub index: String,
    /// What we may do, or why that was not told.
    pub privileges: Result<Privileges, String>,
    /// On OpenSearch: which indices a write makes, or why that was not told.
    pub auto_creation: Option<Result<AutoCreation, String>>,
    /// The indices that we write to, and the alias.
    pub names: Vec<String>,
    /// How full it is, or why that was not told.
    pub disks: Result<Disks, String>,
}

fn see(what: &'static str, found: impl Into<String>) -> Finding {
    Finding::new(End::Elasticsearch, what, found)
}

pub(super) fn findings(cluster: &Cluster, list: &mut Vec<Finding>) {
    let server = &cluster.server;
    let (major, minor, patch) = server.version;
    let (name, tested) = match server.distribution {
        Distribution::Elasticsearch => ("Elasticsearch", (major, minor) >= VERSION_MIN),
        Distribution::OpenSearch => ("OpenSearch", (major, minor) >= OPENSEARCH_VERSION_MIN),
    };
    list.push(
        see("version", format!("{name} {major}.{minor}.{patch}"))
            .wanted("Elasticsearch 8.19 or OpenSearch 2.19, or newer")
            .unless(
                tested,
                Verdict::Warning,
                "upgrade to Elasticsearch 8.19, OpenSearch 2.19 or newer: no other has been tested",
            ),
    );
    list.push(match &cluster.privileges {
        Ok(told) => privileges(cluster, told),
        Err(why) => not_told("privileges", why),
    });
    list.extend(cluster.auto_creation.as_ref().map(|told| {
        match told {
            Ok(found) => auto_creation(cluster, found),
            // Nothing else keeps a deleted index from coming back empty.
            Err(why) => see("automatic creation", format!("not told: {why}"))
                .wanted("to be told")
                .must(false, "grant the right to read the cluster's settings"),
        }
    }));
    let alias = &cluster.alias;
    let stands = if cluster.alias_is_index {
        "an index has this name"
    } else {
        "free, or an alias"
    };
    list.push(
        see("alias", format!("{alias}: {stands}"))
            .wanted("no index of this name")
            .must(
                !cluster.alias_is_index,
                format!("ELASTICSEARCH_INDEX_ALIAS=…  # another name; or, if nobody needs that index: DELETE /{alias}"),
            ),
    );
    list.push(match &cluster.disks {
        Ok(disks) => disk(disks),
        Err(why) => not_told("disk", why),
    });
}

fn not_told(what: &'static str, why: &str) -> Finding {
    see(what, format!("not told: {why}"))
        .wanted("to be told")
        .unless(false, Verdict::Note, "")
}

fn privileges(cluster: &Cluster, told: &Privileges) -> Finding {
    /// There is no way around these; finer ones than the others may do.
    const INDISPENSABLE: [&str; 3] = ["manage_index_templates", "read", "write"];
    let missing = match told {
        Privileges::NotEnforced => &[][..],
        Privileges::Missing(missing) => missing,
    };
    let named = missing.iter().map(|(index, privilege)| match index {
        Some(index) => format!("{privilege} on {index}"),
        None => format!("{privilege} on the cluster"),
    });
    let found = match told {
        Privileges::NotEnforced => "not enforced".to_owned(),
        Privileges::Missing(_) if missing.is_empty() => "all that is needed".to_owned(),
        Privileges::Missing(_) => format!("without {}", named.collect::<Vec<_>>().join(", ")),
    };
    let indispensable = missing
        .iter()
        .any(|(_, privilege)| INDISPENSABLE.contains(&privilege.as_str()));
    let verdict = if indispensable {
        Verdict::Failed
    } else {
        Verdict::Warning
    };
    see("privileges", found)
        .wanted(format!(
            "{} on the cluster, {} on the indices",
            CLUSTER.join(", "),
            INDEX.join(", ")
        ))
        .unless(
            missing.is_empty(),
            verdict,
            key_request(&cluster.alias, &cluster.index),
        )
}

/// OpenSearch's templates cannot keep a write from making an index that somebody has deleted.
fn auto_creation(cluster: &Cluster, found: &AutoCreation) -> Finding {
    let made: Vec<&str> = cluster
        .names
        .iter()
        .map(String::as_str)
        .filter(|name| found.makes(name))
        .collect();
    let ours = our_names(&cluster.alias, &cluster.index);
    let told = match made.as_slice() {
        [] => "a write makes none of our indices".to_owned(),
        made => format!("a write makes what is missing of {}", made.join(", ")),
    };
    see("automatic creation", told)
        .wanted("an index that is deleted is not made anew, empty, by the next write")
        .must(made.is_empty(), found.request_without(&ours))
}

fn disk(disks: &Disks) -> Finding {
    let percent = |disk: &Disk| {
        let used = disk.total.saturating_sub(disk.available);
        (u128::from(used) * 100)
            .checked_div(disk.total.into())
            .unwrap_or_default()
    };
    let fullest = disks.nodes.iter().max_by_key(|disk| percent(disk));
    let found = fullest.map_or("no data node".to_owned(), |disk| {
        format!("{} % used on {}", percent(disk), disk.node)
    });
    let passed = disks.watermarks.iter().rev().find(|watermark| {
        disks.enforced && disks.nodes.iter().any(|disk| watermark.is_passed(disk))
    });
    let (found, mend) = match passed {
        None => (found, String::new()),
        Some(watermark) => (
            format!("{found}, above the {} watermark ({}): {}", watermark.name, watermark.setting, consequence(watermark.name)),
            "GET /_cat/indices?v&s=store.size:desc  # delete what nobody needs, or give the nodes more room".to_owned(),
        ),
    };
    see("disk", found)
        .wanted("below every watermark, with room for the index")
        .unless(passed.is_none(), Verdict::Warning, mend)
}

/// What Elasticsearch does above a watermark.
fn consequence(watermark: &str) -> &'static str {
    match watermark {
        "low" => "it gets no more replicas",
        "high" => "its shards go elsewhere, if there is room",
        _ => "writes are blocked until there is room",
    }
}

/// What is set of the index that is there.
pub(super) fn index_findings(index: &Look, list: &mut Vec<Finding>) {
    let name = &index.index;
    let refused = index.check_writes().err();
    let stop = |_: &Finding| {
        let told = refused.as_ref().map(ToString::to_string);
        Stop::Elasticsearch(told.unwrap_or_default())
    };
    list.push(
        see("durability", &index.durability)
            .wanted("request: what is acknowledged is on disk")
            .must(
                index.durability == "request",
                format!(r#"PUT /{name}/_settings {{"index.translog.durability":"request"}}"#),
            )
            .or_stop(stop),
    );
    for (what, pipeline) in [
        ("default_pipeline", &index.default_pipeline),
        ("final_pipeline", &index.final_pipeline),
    ] {
        let pipeline = pipeline.as_deref().filter(|&pipeline| pipeline != "_none");
        list.push(
            see(what, pipeline.unwrap_or("none"))
                .wanted("none: a pipeline can change or drop documents")
                .must(
                    pipeline.is_none(),
                    format!(r#"PUT /{name}/_settings {{"index.{what}":null}}"#),
                )
                .or_stop(stop),
        );
    }
    if !index.blocks.is_empty() {
        let off: Vec<String> = index
            .blocks
            .iter()
            .map(|block| format!(r#""{block}":null"#))
            .collect();
        list.push(
            see(
                "write block",
                format!(
                    "{}: writes wait until it is taken off",
                    index.blocks.join(", ")
                ),
            )
            .wanted("none")
            .unless(
                false,
                Verdict::Warning,
                format!("PUT /{name}/_settings {{{}}}", off.join(",")),
            ),
        );
    }
}
