//! The steps before the first row: what is there, what has to be made.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::Client;

use super::{
    Failure,
    generation::serving_instead,
    job::Job,
    mapping::additions,
    plan::{Facts, LostSlot, Mode, Names, Plan},
    record::Record,
    table::{CurrentTable, Look},
};
use crate::{
    change::{Coverage, Lsn, Windows},
    delivery::{Writer, WriterOptions},
    document::{
        Deferral, Dialect, Layout, TemplateError, TemplateOptions, deferral, own_template, template,
    },
    elasticsearch::{
        self, DeadLetters, Distribution, Index, Meta, Phase, RelationName, Run, Runs,
        alias_targets, put_template,
    },
    postgres::{
        self,
        catalog::{self, Publication, Table},
        coverage, resolve, slot,
    },
    stop::Stop,
    value::Type,
};

/// The run that this one goes on from: the process's own, unless another instance has written since;
/// else the latest of this kind. A one-shot run is gone on with only if nothing else has filled the
/// index meanwhile: its version would be too old for what it has not copied yet.
///
/// # Errors
/// Elasticsearch cannot be asked.
pub(super) async fn stored_run(
    job: &Job,
    runs: &Runs,
    record: &mut Option<Record>,
) -> Result<Option<Run>, Failure> {
    let latest = runs.latest().await?.map_or(0, |run| run.number);
    let is_over = |record: &Record| {
        record.run.output_es_index != job.names.index || record.run.number < latest
    };
    if record.as_ref().is_some_and(is_over) {
        *record = None;
    }
    if let Some(record) = record {
        return Ok(Some(record.run.clone()));
    }
    let continuous = job.mode == Mode::Continuous;
    let stored = runs.latest_of(continuous).await?;
    Ok(stored.filter(|run| continuous || run.number == latest))
}

/// What PostgreSQL tells, beside the stored run and the index.
///
/// # Errors
/// PostgreSQL cannot be asked, or the table is not there.
pub(super) async fn facts(
    job: &Job,
    client: &Client,
    run: Option<Run>,
    index: Option<elasticsearch::Look>,
) -> Result<Facts, Failure> {
    let server = catalog::server(client).await?;
    let (schema, name) = &job.table;
    let table = catalog::table(client, schema, name).await?;
    let table = table.ok_or_else(|| Stop::Settings(format!("there is no table {schema:?}.{name:?} in this database: name it in POSTGRES_TABLE as schema.table")))?;
    let names = &job.names;
    let continuous = job.mode == Mode::Continuous;
    let publication = catalog::publication(client, &server, &names.publication, &table).await?;
    let coverage = coverage::look(client, &names.publication, table.oid).await?;
    let known = run.as_ref().filter(|_| continuous);
    let unseen = match known.filter(|run| run.phase != Phase::Preparing) {
        Some(run) => unseen(client, run.coverage.as_ref(), &coverage).await?,
        None => None,
    };
    Ok(Facts {
        mode: job.mode,
        key: catalog::key(client, table.oid, &names.key).await?,
        key_type: key_type(client, &table, &names.key).await?,
        slot: if continuous {
            slot::look(client, &names.slot).await?
        } else {
            None
        },
        database: catalog::database(client).await?,
        fingerprint: fingerprint(&table, publication.as_ref()),
        names: names.clone(),
        server,
        table,
        publication,
        coverage,
        unseen,
        index,
        run,
        lost_slot: job.lost_slot,
        fed: None,
    })
}

async fn key_type(client: &Client, table: &Table, key: &str) -> Result<Option<Arc<Type>>, Failure> {
    let Some(column) = table.columns.iter().find(|column| column.name == key) else {
        return Ok(None);
    };
    let mut resolved = resolve(client, &[column.type_oid]).await?;
    Ok(resolved.remove(&column.type_oid))
}

/// For a one-shot run: the other index that the alias is on, if a service streams into it, or can go on to.
///
/// # Errors
/// One of the ends cannot be asked.
pub(super) async fn fed_by_a_service(job: &Job, client: &Client) -> Result<Option<Names>, Failure> {
    if job.mode == Mode::Continuous {
        return Ok(None);
    }
    let Some(serving) = serving_instead(&job.elasticsearch, &job.names).await? else {
        return Ok(None);
    };
    let slot = slot::look(client, &serving.slot).await?;
    Ok(slot.map(|_| serving))
}

/// What is done when changes are lost to the index. An index without the alias serves nobody, so no second
/// one is filled beside it; and a one-shot run has no slot.
///
/// # Errors
/// Elasticsearch cannot be asked.
pub(super) async fn about_lost_changes(job: &Job) -> Result<LostSlot, Failure> {
    if job.mode == Mode::OneShot {
        return Ok(LostSlot::Stop);
    }
    if job.lost_slot == LostSlot::Rebuild {
        let targets = alias_targets(&job.elasticsearch, &job.names.alias).await?;
        if targets != [job.names.index.as_str()] {
            return Ok(LostSlot::Heal);
        }
    }
    Ok(job.lost_slot)
}

/// Why rows have come or gone, or may have, since the publication and the partitions were as `known`
/// and without a change that the stream could tell; `None` when none has.
///
/// # Errors
/// PostgreSQL cannot be asked.
pub(super) async fn unseen(
    client: &Client,
    known: Option<&Coverage>,
    now: &Coverage,
) -> Result<Option<String>, Failure> {
    let Some(known) = known else {
        return Ok(Some("what the index was read from is not known".to_owned()));
    };
    let new = match known.until(now) {
        Ok(new) => new,
        Err(why) => return Ok(Some(why)),
    };
    for partition in new {
        let name = &partition.name;
        if coverage::brought_rows(client, partition).await? {
            let why = format!("partition {name} was attached with rows in it");
            return Ok(Some(why));
        }
        tracing::info!(partition = name, "a partition that brought no rows is new");
    }
    Ok(None)
}

/// The table as it is to be copied.
///
/// # Errors
/// The table cannot be read, or its rows cannot become documents.
pub(super) async fn table(
    job: &Job,
    facts: &Facts,
    server: &elasticsearch::Server,
) -> Result<CurrentTable, Failure> {
    let reader = Arc::new(postgres::connect(&job.postgres).await?);
    CurrentTable::new(
        reader,
        facts.server.clone(),
        facts.table.clone(),
        &job.names.key,
        job.shape.clone().in_words_of(dialect(server)),
        &job.names.publication,
    )
    .await
}

/// In whose words mappings are.
fn dialect(server: &elasticsearch::Server) -> Dialect {
    match server.distribution {
        Distribution::Elasticsearch => Dialect::Elasticsearch,
        Distribution::OpenSearch => Dialect::OpenSearch,
    }
}

/// The published columns with their types, and which rows, as they are compared between runs.
fn fingerprint(table: &Table, publication: Option<&Publication>) -> String {
    let published = publication.and_then(|publication| publication.table.as_ref());
    let list = published.and_then(|published| published.columns.as_ref());
    let columns = table
        .columns
        .iter()
        .filter(|column| list.is_none_or(|list| list.contains(&column.name)));
    let columns: Vec<String> = columns
        .map(|column| format!("{:?} {}", column.name, column.type_name))
        .collect();
    let filter = published.and_then(|published| published.row_filter.as_ref());
    let filter = filter
        .map(|filter| format!(" WHERE {filter}"))
        .unwrap_or_default();
    format!("{}{filter}", columns.join(", "))
}

/// The index with its UUID, made with its template if it is missing. An index that exists gets the
/// fields that it lacks.
///
/// # Errors
/// Elasticsearch cannot be asked, or the table does not fit the index.
pub(super) async fn index(
    job: &Job,
    facts: &Facts,
    look: &Look,
    server: &elasticsearch::Server,
    plan: Plan,
) -> Result<(Index, String), Failure> {
    let names = &job.names;
    let index = Index::new(&job.elasticsearch, &names.index);
    let body = index_template(job, look, server)?;
    put_template(&job.elasticsearch, &names.alias, &body).await?;
    if let Some(found) = &facts.index {
        let strict = job.own_template.is_none();
        let added = add_fields(&index, found, &look.layout, strict).await?;
        // Otherwise each document is about to be written.
        if !added.is_empty() && plan == Plan::Tail {
            tracing::warn!(
                fields = ?added,
                index = names.index,
                "the table or the settings had fields that the index lacked: its documents get them as their rows change, or all at once by `sync-es verify --repair`"
            );
        }
        return Ok((index, found.uuid.clone()));
    }
    let Deferral { flat, wanted } = if job.defer_vectors && can_defer(server) {
        deferral(&body)
    } else {
        Deferral::default()
    };
    index.create(&meta(facts, None), &flat, &wanted).await?;
    failpoint!("index-created", Failure::Heals);
    tracing::info!(index = names.index, "created the index");
    let made = index.look().await?;
    let made =
        made.ok_or_else(|| Failure::Heals(format!("index {} is gone again", names.index)))?;
    Ok((index, made.uuid))
}

/// The template that the index is made from.
///
/// # Errors
/// The user's own does not keep what is promised.
pub(super) fn index_template(
    job: &Job,
    look: &Look,
    server: &elasticsearch::Server,
) -> Result<serde_json::Value, TemplateError> {
    let (major, minor, _) = server.version;
    let options = TemplateOptions {
        alias: job.names.alias.clone(),
        index: job.names.index.clone(),
        shards: job.shards,
        dimensions: job.dimensions,
        server_version: (major.into(), minor.into()),
    };
    match &job.own_template {
        Some(own) => own_template(own.clone(), &look.layout, &options),
        None => Ok(template(&look.layout, &options)),
    }
}

/// Whether the server lets a vector field go from one form to another: tried from this version on.
fn can_defer(server: &elasticsearch::Server) -> bool {
    let (major, minor, _) = server.version;
    server.distribution == Distribution::Elasticsearch && (major, minor) >= (8, 19)
}

/// What the index says of itself, once the slot is made with its consistent point.
#[must_use]
pub(super) fn meta(facts: &Facts, consistent_point: Option<Lsn>) -> Meta {
    let table = &facts.table;
    let before = facts.index.as_ref().and_then(|index| index.meta.as_ref());
    Meta {
        system_identifier: facts.server.system_identifier.clone(),
        timeline: facts.server.timeline,
        slot: (facts.mode == Mode::Continuous).then(|| facts.names.slot.clone()),
        consistent_point,
        relation: RelationName {
            schema: table.schema.clone(),
            name: table.name.clone(),
            oid: table.oid,
        },
        relation_fingerprint: facts.fingerprint.clone(),
        key_column: facts.names.key.clone(),
        version_scheme: Windows::SCHEME.to_owned(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: before.map_or_else(Timestamp::now, |meta| meta.created_at),
    }
}

/// Adds the fields that the layout has and the index lacks. With `strict`, a field that is mapped
/// otherwise than its column needs is a stop; a user's own mapping may differ.
///
/// # Errors
/// Elasticsearch cannot be asked, or refuses the fields.
pub(super) async fn extend_mapping(
    index: &Index,
    layout: &Layout,
    strict: bool,
) -> Result<(), Failure> {
    match index.look().await? {
        Some(found) => add_fields(index, &found, layout, strict).await.map(drop),
        None => Ok(()),
    }
}

/// Gives the names of what it has added.
async fn add_fields(
    index: &Index,
    found: &elasticsearch::Look,
    layout: &Layout,
    strict: bool,
) -> Result<Vec<String>, Failure> {
    let wanted = layout.properties();
    let Some(wanted) = wanted.as_object() else {
        return Ok(Vec::new());
    };
    let added = match additions(&found.properties, wanted) {
        Ok(added) => added,
        Err(conflict) if strict => return Err(Stop::table_changed(conflict.to_string()).into()),
        Err(_) => return Ok(Vec::new()),
    };
    let fields: Vec<String> = added.keys().cloned().collect();
    if !added.is_empty() {
        tracing::info!(
            ?fields,
            "adding fields to the mapping: documents get them as their rows change"
        );
        index.put_properties(&added).await?;
        failpoint!("mapping-extended", Failure::Heals);
    }
    Ok(fields)
}

/// Up to where rows were read ahead into the index of `base`, the run that is gone on from. Its writer
/// can have raised that after `base` was looked up, so it is taken from the run that was `fenced`. When
/// that is another run, such as a one-shot run that has come since, it is not known.
fn read_ahead_to(base: &Run, fenced: Option<&Run>) -> Option<Lsn> {
    let fenced = fenced.filter(|fenced| fenced.number == base.number)?;
    fenced.read_ahead_to
}

/// A new run's record, going on from the stored one's position if there is one. `fenced` is the
/// latest run, as it was when it was taken over.
#[must_use]
pub(super) fn run(
    job: &Job,
    facts: &Facts,
    fenced: Option<&Run>,
    (index_uuid, index_was_new): (&str, bool),
) -> Run {
    let now = Timestamp::now();
    let base = facts.run.clone();
    let base = base.as_ref();
    Run {
        number: 0,
        phase: base.map_or(Phase::Preparing, |run| run.phase),
        input_postgres_table: facts.table.quoted(),
        output_es_index: job.names.index.clone(),
        input_db_backend_config: job.backends.input.clone(),
        output_db_backend_config: job.backends.output.clone(),
        n_input_records: base.map_or(0, |run| run.n_input_records),
        n_output_records: base.map_or(0, |run| run.n_output_records),
        n_dead_letters: base.map_or(0, |run| run.n_dead_letters),
        last_synced_item: base.and_then(|run| run.last_synced_item.clone()),
        sync_finished: base.is_some_and(|run| run.sync_finished),
        slot: (job.mode == Mode::Continuous).then(|| job.names.slot.clone()),
        consistent_point: base.and_then(|run| run.consistent_point),
        snapshot_point: base.and_then(|run| run.snapshot_point),
        barrier_xmax: base.and_then(|run| run.barrier_xmax),
        acknowledged_lsn: base.and_then(|run| run.acknowledged_lsn),
        read_ahead_to: base.and_then(|run| read_ahead_to(run, fenced)),
        system_identifier: facts.server.system_identifier.clone(),
        timeline: facts.server.timeline,
        index_uuid: index_uuid.to_owned(),
        index_was_new: base.map_or(index_was_new, |run| run.index_was_new),
        relation_fingerprint: base.map_or_else(
            || facts.fingerprint.clone(),
            |run| run.relation_fingerprint.clone(),
        ),
        storage: base.map_or_else(|| facts.table.storage.clone(), |run| run.storage.clone()),
        coverage: base.and_then(|run| run.coverage.clone()),
        started_at: now,
        updated_at: now,
        finished_at: None,
        error: None,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: whoami::hostname().unwrap_or_else(|_| "unknown".to_owned()),
    }
}

/// The writer into the index, with the keys that have a dead letter now.
///
/// # Errors
/// Elasticsearch cannot be asked.
pub(super) async fn writer(
    job: &Job,
    server: &elasticsearch::Server,
    index_uuid: &str,
    run: u64,
    lanes: usize,
) -> Result<Arc<Writer>, Failure> {
    let dead_letters = dead_letters(job, server, index_uuid);
    dead_letters.prepare().await?;
    let dead_keys = dead_letters.keys().await?;
    if !dead_keys.is_empty() {
        tracing::warn!(
            documents = dead_keys.len(),
            index = dead_letters_index(&job.names),
            "there are dead letters from before"
        );
    }
    let options = WriterOptions {
        index: job.names.index.clone(),
        documents_max: job.documents_max,
        requests_max: lanes,
        retry: job.retry,
        on_refusal: job.on_refusal,
        run,
        meter: job.meter.clone(),
    };
    Ok(Arc::new(Writer::new(
        job.elasticsearch.clone(),
        dead_letters,
        dead_keys,
        options,
    )))
}

/// The runs into the job's generation.
pub(super) fn runs(job: &Job) -> Runs {
    let index = metadata_index(&job.names);
    Runs::new(&job.elasticsearch, &index, &job.names.index)
}

/// Where run metadata is kept.
#[must_use]
pub(super) fn metadata_index(names: &Names) -> String {
    format!("{}-sync-metadata", names.alias)
}

/// The refused documents of an index.
pub(super) fn dead_letters(
    job: &Job,
    server: &elasticsearch::Server,
    index_uuid: &str,
) -> DeadLetters {
    let index = dead_letters_index(&job.names);
    DeadLetters::new(&job.elasticsearch, server.distribution, &index, index_uuid)
}

/// Where refused documents are kept.
#[must_use]
pub(super) fn dead_letters_index(names: &Names) -> String {
    format!("{}-sync-dead-letters", names.alias)
}
