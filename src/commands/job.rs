//! What every command works on: the settings, in the rooms' own terms.

use std::{sync::Arc, time::Duration};

use crate::{
    delivery::{OnRefusal, Retry},
    document::{Shape, ShapeError},
    elasticsearch::{Auth, Client, Options},
    observe::{Meter, Subject, Traces},
    pipeline::{Backends, Job, LostSlot, Mode, Names, Role},
    settings::{self, Credentials, Settings, VectorIndex},
    stop::Stop,
};

/// How long Elasticsearch may take to answer a request. A bulk with vectors can take seconds; what
/// takes longer than this is sent again.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The settings in the rooms' own terms.
///
/// # Errors
/// Settings that do not fit each other, or a file that cannot be read.
pub(super) fn job(settings: &Settings, snapshot_only: bool, traces: Traces) -> Result<Job, Stop> {
    let Settings {
        postgres,
        elasticsearch,
        delivery,
        document,
        ..
    } = settings;
    let wrong = |error: &dyn std::fmt::Display| Stop::Settings(error.to_string());
    let mode = if snapshot_only {
        Mode::OneShot
    } else {
        Mode::Continuous
    };
    let names = names(settings);
    Ok(Job {
        mode,
        role: Role::Serve {
            first: names.index.clone(),
        },
        table: (postgres.table.schema.clone(), postgres.table.name.clone()),
        names,
        postgres: postgres.connection.clone(),
        elasticsearch: client(settings)?,
        shape: shape(settings)?,
        own_template: own_template(settings)?,
        shards: elasticsearch.shards,
        dimensions: document.embedding_dimensions,
        defer_vectors: elasticsearch.vector_index == VectorIndex::Deferred,
        lost_slot: match postgres.lost_slot {
            settings::LostSlot::Stop => LostSlot::Stop,
            settings::LostSlot::Heal => LostSlot::Heal,
            settings::LostSlot::Rebuild => LostSlot::Rebuild,
        },
        fetch_rows: postgres.batch_rows,
        documents_max: delivery
            .batch_documents
            .try_into()
            .map_err(|error| wrong(&error))?,
        retry: Retry {
            // A service never gives up: it says that it is not ready, and goes on trying.
            attempts_max: snapshot_only.then_some(delivery.retries_max),
            backoff: delivery.backoff_first,
            backoff_max: delivery.backoff_max,
        },
        on_refusal: if delivery.stop_at_refusal {
            OnRefusal::Stop
        } else {
            OnRefusal::SetAside {
                limit: delivery
                    .dead_letter_limit
                    .try_into()
                    .map_err(|error| wrong(&error))?,
            }
        },
        backends: Backends {
            input: settings.input_db_backend_config(),
            output: settings.output_db_backend_config(),
        },
        meter: meter(settings, snapshot_only, traces),
    })
}

fn shape(settings: &Settings) -> Result<Shape, Stop> {
    let Settings {
        postgres, document, ..
    } = settings;
    let shape = Shape::for_table(
        &postgres.table.name,
        Some(&document.declared),
        document.embedding_dimensions,
    );
    shape.map_err(|error| match (&error, &document.file) {
        (ShapeError::Declaration(_), Some(file)) => {
            Stop::Settings(format!("{}: {error}", file.display()))
        }
        _ => Stop::Settings(error.to_string()),
    })
}

/// What the settings call everything.
pub(super) fn names(settings: &Settings) -> Names {
    let (postgres, elasticsearch) = (&settings.postgres, &settings.elasticsearch);
    Names {
        key: postgres.key_column.clone(),
        publication: postgres.publication.clone(),
        slot: postgres.slot.clone(),
        index: elasticsearch.index.clone(),
        alias: elasticsearch.alias.clone(),
    }
}

fn meter(settings: &Settings, snapshot_only: bool, traces: Traces) -> Arc<Meter> {
    let postgres = &settings.postgres;
    let subject = Subject {
        table: postgres.table.to_string(),
        index: settings.elasticsearch.index.clone(),
        alias: settings.elasticsearch.alias.clone(),
        slot: (!snapshot_only).then(|| postgres.slot.clone()),
    };
    Meter::new(subject, settings.admin.ready_lag, traces)
}

/// Where the spans of a run go.
///
/// # Errors
/// The system gives no thread or no client.
pub(super) fn traces(settings: &Settings) -> Result<Traces, Stop> {
    match &settings.admin.otlp_endpoint {
        Some(endpoint) => Traces::to(endpoint).map_err(|error| Stop::Unexpected(error.to_string())),
        None => Ok(Traces::default()),
    }
}

/// The way to Elasticsearch.
pub(super) fn client(settings: &Settings) -> Result<Client, Stop> {
    let elasticsearch = &settings.elasticsearch;
    let credentials = elasticsearch.credentials.clone();
    let ca_certificate_pem = elasticsearch.ca_cert.as_ref().map(|path| {
        std::fs::read(path).map_err(|error| {
            Stop::Settings(format!(
                "ELASTICSEARCH_CA_CERT: {} cannot be read: {error}",
                path.display()
            ))
        })
    });
    let options = Options {
        urls: elasticsearch.urls.clone(),
        auth: auth(&credentials),
        renewed_auth: Some(Arc::new(move || auth(&credentials.renewed()))),
        ca_certificate_pem: ca_certificate_pem.transpose()?,
        request_timeout: REQUEST_TIMEOUT,
        opaque_id: format!("sync-es/{}", elasticsearch.alias),
    };
    Client::new(&options).map_err(|error| Stop::Settings(error.to_string()))
}

fn auth(credentials: &Credentials) -> Auth {
    match credentials {
        Credentials::None => Auth::None,
        Credentials::ApiKey(key) => Auth::ApiKey(key.value().clone()),
        Credentials::Basic { username, password } => Auth::Basic {
            username: username.clone(),
            password: password.value().clone(),
        },
    }
}

fn own_template(settings: &Settings) -> Result<Option<serde_json::Value>, Stop> {
    let Some(path) = &settings.elasticsearch.template else {
        return Ok(None);
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Stop::Settings(format!("the index template {}: {error}", path.display()))
    };
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| wrong(&error))
}
