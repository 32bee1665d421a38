//! `sync-es run`: snapshot or resume, then tail until stopped.

use std::{process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    delivery::{OnRefusal, Retry},
    document::Shape,
    elasticsearch::{Auth, Client, Options},
    pipeline::{self, Backends, Job, Mode, Names, Outcome, Shutdown},
    settings::{Credentials, Settings, VectorIndex},
    stop::Stop,
};

/// How long Elasticsearch may take to answer a request. A bulk with vectors can take seconds; what
/// takes longer than this is sent again.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Runs until the snapshot is done (`snapshot_only`) or until stopped.
pub(super) async fn run(settings: &Settings, snapshot_only: bool) -> ExitCode {
    let ended = match shutdown_on_signals() {
        Ok(shutdown) => match job(settings, snapshot_only) {
            Ok(job) => Box::pin(pipeline::run(&job, shutdown)).await,
            Err(stop) => Err(stop),
        },
        Err(error) => Err(Stop::Unexpected(format!(
            "signals cannot be caught: {error}"
        ))),
    };
    match ended {
        Ok(Outcome::Complete) => {
            tracing::info!("done: the index equals the table as it was read");
            ExitCode::SUCCESS
        }
        Ok(Outcome::Interrupted) => {
            tracing::info!("ended as asked; the next start goes on from here");
            ExitCode::SUCCESS
        }
        Err(stop) => {
            tracing::error!(exit_code = stop.exit_code(), "{stop}");
            ExitCode::from(stop.exit_code())
        }
    }
}

/// The first SIGTERM or SIGINT asks to end in order; the second ends at once, which loses nothing
/// either: what was not acknowledged comes again.
fn shutdown_on_signals() -> std::io::Result<Shutdown> {
    let (ask, asked) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut any = async || {
            tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            }
        };
        any().await;
        tracing::info!("asked to end: finishing what is in flight (ask again to end at once)");
        ask.send_replace(true);
        let code = any().await;
        #[expect(clippy::exit, reason = "the person has asked twice")]
        std::process::exit(code);
    });
    Ok(Shutdown::new(asked))
}

/// The settings in the rooms' own terms.
///
/// # Errors
/// Settings that do not fit each other, or a file that cannot be read.
pub(super) fn job(settings: &Settings, snapshot_only: bool) -> Result<Job, Stop> {
    let Settings {
        postgres,
        elasticsearch,
        delivery,
        document,
        ..
    } = settings;
    let wrong = |error: &dyn std::fmt::Display| Stop::Settings(error.to_string());
    let shape = Shape::for_table(
        &postgres.table.name,
        Some(&document.declared),
        document.embedding_dimensions,
    )
    .map_err(|error| wrong(&error))?;
    let mode = if snapshot_only {
        Mode::OneShot
    } else {
        Mode::Continuous
    };
    Ok(Job {
        mode,
        table: (postgres.table.schema.clone(), postgres.table.name.clone()),
        names: Names {
            key: postgres.key_column.clone(),
            publication: postgres.publication.clone(),
            slot: postgres.slot.clone(),
            index: elasticsearch.index.clone(),
            alias: elasticsearch.alias.clone(),
        },
        postgres: postgres.connection.clone(),
        elasticsearch: client(settings)?,
        shape,
        own_template: own_template(settings)?,
        shards: elasticsearch.shards,
        dimensions: document.embedding_dimensions,
        defer_vectors: elasticsearch.vector_index == VectorIndex::Deferred,
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
    })
}

fn client(settings: &Settings) -> Result<Client, Stop> {
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
