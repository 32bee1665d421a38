//! Looks at both ends for the list of preconditions. Nothing is changed: documents and template are
//! tried by what Elasticsearch simulates.

use serde_json::Map;

use super::{
    Failure,
    job::Job,
    mapping::additions,
    plan::{Facts, LostSlot, Mode, plan},
    preconditions::{self, Cluster, Findings, Fit, Keys, Sample, Vectors, Verdict},
    prepare,
    table::{CurrentTable, Look},
};
use crate::{
    change::Row,
    delivery::OnRefusal,
    elasticsearch::{
        self, Against, Distribution, Index, IndexError, Run, Trial, auto_creation, disks,
        key_problem, privileges::privileges, try_documents, try_template,
    },
    postgres::{
        Session,
        catalog::quoted,
        retention::{self, Retention},
        rows,
    },
    stop::Stop,
    value::Value,
};

/// Rows that are tried.
const ROWS: u32 = 100;
/// No more rows are tried once they have so many bytes on the wire.
const BYTES_MAX: usize = 4 << 20;
/// HTTP: what is asked for cannot be.
const BAD_REQUEST: u16 = 400;

/// What has been looked at, beside the facts that a plan is made from.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// For how long PostgreSQL keeps WAL.
    pub retention: Option<Retention>,
    /// Elasticsearch.
    pub cluster: Option<Cluster>,
    /// The rows beside the template and the mapping.
    pub fit: Option<Fit>,
}

impl Seen {
    /// The list, as far as things have been looked at.
    pub(super) fn findings(
        &self,
        facts: Option<&Facts>,
        index: Option<&elasticsearch::Look>,
    ) -> Findings {
        preconditions::findings(&preconditions::Survey {
            facts,
            retention: self.retention.as_ref(),
            cluster: self.cluster.as_ref(),
            index,
            fit: self.fit.as_ref(),
        })
    }
}

/// What a run is planned from, once nothing in the list stops it. A process looks at everything
/// `first`; when it comes again, at what a plan is made from alone.
///
/// # Errors
/// One of the ends cannot be asked, or what the list ends with.
pub(super) async fn before_a_run(
    job: &Job,
    session: &Session,
    run: Option<Run>,
    first: bool,
) -> Result<(elasticsearch::Server, Facts, CurrentTable), Failure> {
    let server = job.elasticsearch.ping().await?;
    let index = index(job).await?;
    let mut facts = prepare::facts(job, &session.client, run, index).await?;
    facts.lost_slot = prepare::about_lost_changes(job).await?;
    facts.fed = prepare::fed_by_a_service(job, &session.client).await?;
    let mut seen = Seen::default();
    let listed = |seen: &Seen| seen.findings(Some(&facts), facts.index.as_ref());
    if !first {
        if server.distribution == Distribution::OpenSearch {
            // What guards the names there can be taken back at any time.
            seen.cluster = Some(cluster(job, server.clone()).await?);
        }
        stop_at(listed(&seen))?;
        let table = prepare::table(job, &facts, &server).await?;
        return Ok((server, facts, table));
    }
    seen.retention = retention(job, session, &facts).await?;
    seen.cluster = Some(cluster(job, server.clone()).await?);
    stop_at(listed(&seen))?;
    if facts.lost_slot == LostSlot::Rebuild {
        // An index that is about to be replaced need not fit the rows any more.
        plan(&facts)?;
    }
    let table = prepare::table(job, &facts, &server).await?;
    seen.fit = Some(fit(job, &facts, &table, &server).await?);
    let findings = listed(&seen);
    for finding in &findings.0 {
        if finding.verdict == Verdict::Warning {
            let mend = finding.mend.as_deref().unwrap_or_default();
            tracing::warn!(found = finding.told(), mend, "can do harm later");
        }
    }
    stop_at(findings)?;
    Ok((server, facts, table))
}

/// Ends where the settings do not fit the table, before another instance is waited for: that would come
/// to light only when this one is wanted.
///
/// # Errors
/// They do not. Whatever else is not as it must be can be so by then.
pub(super) async fn before_standing_by(job: &Job, session: &Session) -> Result<(), Failure> {
    let looked = async {
        let server = job.elasticsearch.ping().await?;
        let index = index(job).await?;
        let facts = prepare::facts(job, &session.client, None, index).await?;
        let table = prepare::table(job, &facts, &server).await?;
        prepare::index_template(job, &*table.look().await, &server)?;
        Ok(())
    };
    match looked.await {
        Err(Failure::Stop(stop @ Stop::Settings(_))) => Err(stop.into()),
        Ok(()) => Ok(()),
        Err::<(), Failure>(failure) => {
            tracing::debug!(?failure, "looking whether the settings fit");
            Ok(())
        }
    }
}

/// Ends where the rows do not fit the index, or the index would not keep them, as a run would.
///
/// # Errors
/// One of the ends cannot be asked, or what the list ends with.
pub(super) async fn stop_unless_it_fits(
    job: &Job,
    facts: &Facts,
    table: &CurrentTable,
    server: &elasticsearch::Server,
) -> Result<(), Failure> {
    let seen = Seen {
        fit: Some(fit(job, facts, table, server).await?),
        ..Seen::default()
    };
    stop_at(seen.findings(None, facts.index.as_ref()))
}

fn stop_at(findings: Findings) -> Result<(), Failure> {
    findings.into_stop().map_or(Ok(()), |stop| Err(stop.into()))
}

/// The index, if there is one.
///
/// # Errors
/// Elasticsearch cannot be asked, or the name is not that of an index of ours.
pub(super) async fn index(job: &Job) -> Result<Option<elasticsearch::Look>, Failure> {
    Ok(Index::new(&job.elasticsearch, &job.names.index)
        .look()
        .await?)
}

/// For how long PostgreSQL keeps WAL, for a run that needs it to.
///
/// # Errors
/// PostgreSQL cannot be asked.
pub(super) async fn retention(
    job: &Job,
    session: &Session,
    facts: &Facts,
) -> Result<Option<Retention>, Failure> {
    match job.mode {
        Mode::OneShot => Ok(None),
        Mode::Continuous => {
            let slot = &job.names.slot;
            Ok(Some(
                retention::look(&session.client, &facts.server, slot).await?,
            ))
        }
    }
}

/// Elasticsearch, as it is.
///
/// # Errors
/// It cannot be asked. What it does not tell for want of a privilege is left out.
pub(super) async fn cluster(job: &Job, server: elasticsearch::Server) -> Result<Cluster, Failure> {
    let client = &job.elasticsearch;
    let names = vec![
        job.names.alias.clone(),
        job.names.index.clone(),
        prepare::metadata_index(&job.names),
        prepare::dead_letters_index(&job.names),
    ];
    let (privileges, auto_creation) = match server.distribution {
        Distribution::Elasticsearch => (told(privileges(client, &names).await)?, None),
        Distribution::OpenSearch => (
            Err("OpenSearch is not asked".to_owned()),
            Some(told(auto_creation(client).await)?),
        ),
    };
    // An alias of this name is what is expected, and not an index.
    let alias = Index::new(client, &job.names.alias).look().await;
    let alias_is_index = match alias {
        Ok(found) => found.is_some(),
        Err(IndexError::Request(error)) => told::<()>(Err(error))?.is_ok(),
        Err(_) => false,
    };
    Ok(Cluster {
        disks: told(disks(client).await)?,
        privileges,
        auto_creation,
        names,
        alias: job.names.alias.clone(),
        alias_is_index,
        index: job.names.index.clone(),
        server,
    })
}

/// The answer to what is only asked to tell a person, or else why there is none: a run does not end
/// for it.
///
/// # Errors
/// Elasticsearch cannot be reached.
fn told<T>(answer: Result<T, elasticsearch::Error>) -> Result<Result<T, String>, Failure> {
    match answer {
        Ok(told) => Ok(Ok(told)),
        Err(
            error @ (elasticsearch::Error::Refused { .. } | elasticsearch::Error::Malformed(_)),
        ) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// The table's rows beside the template and the mapping.
///
/// # Errors
/// One of the ends cannot be asked.
pub(super) async fn fit(
    job: &Job,
    facts: &Facts,
    table: &CurrentTable,
    server: &elasticsearch::Server,
) -> Result<Fit, Failure> {
    let look = table.look().await;
    let rows = rows::sample(table.client(), &look.query, ROWS, BYTES_MAX).await?;
    let mut fit = Fit {
        table: facts.table.quoted(),
        key: quoted(&facts.names.key),
        vectors: vectors(&look, &rows),
        keys: keys(&look, &rows)?,
        stops_at_refusal: matches!(job.on_refusal, OnRefusal::Stop),
        index_exists: facts.index.is_some(),
        own_template: None,
        template_refused: None,
        conflict: None,
        sample: Err("OpenSearch cannot try documents without a write".to_owned()),
    };
    let template = match prepare::index_template(job, &look, server) {
        Ok(template) => template,
        Err(error) => {
            fit.own_template = Some(error.to_string());
            return Ok(fit);
        }
    };
    let (client, names) = (&job.elasticsearch, &facts.names);
    fit.template_refused = match try_template(client, &names.alias, &template).await {
        Err(elasticsearch::Error::Refused {
            status: BAD_REQUEST,
            reason,
            ..
        }) => Some(reason),
        // Where it may not be asked, the privileges' line says what is missing.
        answer => {
            told(answer)?.ok();
            None
        }
    };
    let wanted = look.layout.properties();
    let wanted = wanted.as_object().cloned().unwrap_or_default();
    let index = facts.index.as_ref();
    let added = match index.map(|index| additions(&index.properties, &wanted)) {
        None => None,
        Some(Ok(added)) => Some(added),
        // A user's own mapping may differ.
        Some(Err(_)) if job.own_template.is_some() => Some(Map::new()),
        Some(Err(conflict)) => {
            fit.conflict = Some(conflict.to_string());
            return Ok(fit);
        }
    };
    let against = match &added {
        Some(added) => Against::IndexWith(added),
        None => Against::Template {
            name: &names.alias,
            template: &template,
        },
    };
    if server.distribution == Distribution::Elasticsearch && fit.template_refused.is_none() {
        let trials = trials(&look, &rows)?;
        let refused = try_documents(client, &names.index, &trials, against).await;
        fit.sample = told(refused)?.map(|refused| Sample {
            tried: trials.len(),
            refused,
        });
    }
    Ok(fit)
}

/// The rows as documents; those whose key cannot be an `_id` have a line of their own.
fn trials(look: &Look, rows: &[Row]) -> Result<Vec<Trial>, Failure> {
    let mut trials = Vec::new();
    for row in rows {
        let key = look.key(row)?;
        let mut document = Vec::new();
        // One that cannot be encoded is a dead letter, which a run tells of.
        if key_problem(&key).is_some() || look.layout.encode(row, &mut document).is_err() {
            continue;
        }
        trials.push(Trial { key, document });
    }
    Ok(trials)
}

fn keys(look: &Look, rows: &[Row]) -> Result<Keys, Failure> {
    let mut keys = Keys::default();
    for row in rows {
        let key = look.key(row)?;
        keys.count += 1;
        keys.bytes_max = keys.bytes_max.max(key.as_str().len());
        keys.problem = keys.problem.or(key_problem(&key));
    }
    Ok(keys)
}

/// The lengths of the vectors in the rows; where there are none, the length of the column's type.
fn vectors(look: &Look, rows: &[Row]) -> Vec<Vectors> {
    let of_column = |(column, wanted): (usize, u32)| {
        let name = look.relation.columns[column].name.clone();
        let found = rows.iter().filter_map(|row| vector_length(row, column));
        let mut found: Vec<usize> = found.collect();
        if found.is_empty() {
            let declared = look.table.columns.iter().find(|one| one.name == name);
            found.extend(declared.and_then(|column| declared_length(&column.type_name)));
        }
        Vectors {
            column: name,
            wanted,
            found,
        }
    };
    look.layout.vectors().into_iter().map(of_column).collect()
}

fn vector_length(row: &Row, column: usize) -> Option<usize> {
    match row.value(column).ok()? {
        Value::Floats(floats) => Some(floats.len()),
        Value::Array(items) => Some(items.len()),
        _ => None,
    }
}

/// The length that pgvector's types are declared with, such as `halfvec(1024)`.
fn declared_length(type_name: &str) -> Option<usize> {
    let (name, rest) = type_name.split_once('(')?;
    let name = name.rsplit('.').next()?;
    let is_vector = ["vector", "halfvec"].contains(&name);
    rest.strip_suffix(')').filter(|_| is_vector)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::declared_length;

    #[test]
    fn a_declared_length_is_a_vector_s_alone() {
        assert_eq!(declared_length("vector(1024)"), Some(1024));
        assert_eq!(declared_length("public.halfvec(3)"), Some(3));
        assert_eq!(declared_length("character varying(36)"), None);
        assert_eq!(declared_length("vector"), None);
        assert_eq!(declared_length("real[]"), None);
    }
}
