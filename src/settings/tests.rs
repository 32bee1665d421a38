use std::{ffi::OsString, fs};

use clap::{CommandFactory, FromArgMatches, Parser};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

#[derive(Debug, Parser)]
#[command(name = "test")]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// What a run is given: flags, variables, and a TOML file when it is not empty.
fn read(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Settings, String> {
    let directory = TempDir::new().unwrap();
    let mut environment: Environment = [("PGUSER", "cdc"), ("PGHOST", "db.example")]
        .iter()
        .chain(variables)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    if !file.is_empty() {
        let path = directory.path().join("sync-es.toml");
        fs::write(&path, file).unwrap();
        environment.insert("SYNC_ES_CONFIG".to_owned(), path.display().to_string());
    }
    let argv: Vec<OsString> = ["test"].iter().chain(flags).map(OsString::from).collect();
    let command = Line::command();
    let told = |refusal| match refusal {
        Refusal::Usage(error) => error.to_string(),
        Refusal::Setting(error) => error.to_string(),
    };
    let flags = super::flags(&command, &argv).map_err(told)?;
    let (matches, layers) = layered(&command, &argv, &flags, &environment).map_err(told)?;
    let line = Line::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    Settings::resolve(line.arguments, &layers, &environment).map_err(|error| error.to_string())
}

fn refused(flags: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    read(flags, variables, file).unwrap_err()
}

#[test]
fn defaults_are_those_that_today_s_users_have() {
    let settings = read(&[], &[], "").unwrap();
    assert_eq!(settings.document.embedding_dimensions, 256);
    assert_eq!(settings.elasticsearch.index, "integrated_records_v1");
    assert_eq!(settings.elasticsearch.alias, "integrated_records");
    assert_eq!(settings.elasticsearch.shards, 1);
    assert_eq!(settings.postgres.batch_rows, 10_000);
    assert_eq!(
        settings.delivery,
        Delivery {
            batch_documents: 500,
            stop_at_refusal: false,
            dead_letter_limit: 10_000,
            retries_max: 10,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        }
    );
    assert_eq!(
        settings.postgres.table.to_string(),
        "public.integrated_records"
    );
    assert_eq!(settings.postgres.key_column, "hk");
    assert_eq!(settings.postgres.slot, "sync_es_integrated_records");
    assert_eq!(settings.postgres.publication, "sync_es_integrated_records");
    assert!(matches!(
        settings.elasticsearch.credentials,
        Credentials::None
    ));
}

#[test]
fn a_flag_comes_before_a_variable_before_the_file() {
    let file = "es_max_retries = 3\nes_client_batch_size = 3\npostgres_client_batch_size = 3";
    let variables = [("ES_MAX_RETRIES", "2"), ("ES_CLIENT_BATCH_SIZE", "2")];
    let settings = read(&["--es-max-retries", "1"], &variables, file).unwrap();
    assert_eq!(settings.delivery.retries_max, 1);
    assert_eq!(settings.delivery.batch_documents, 2);
    assert_eq!(settings.postgres.batch_rows, 3);
}

#[test]
fn the_file_takes_each_kind_of_value_and_hands_the_document_on() {
    let settings = read(
        &[],
        &[],
        "elasticsearch_urls = ['http://a:9200', 'https://b:9200']\n\
         es_client_raise_errors = true\n\
         es_retry_backoff_seconds = 0.5\n\
         log_format = 'json'\n\
         [document]\nfields = { hk = 'id' }",
    )
    .unwrap();
    let urls: Vec<&str> = settings
        .elasticsearch
        .urls
        .iter()
        .map(Url::as_str)
        .collect();
    assert_eq!(urls, ["http://a:9200/", "https://b:9200/"]);
    assert!(settings.delivery.stop_at_refusal);
    assert_eq!(settings.delivery.backoff_first, Duration::from_millis(500));
    assert_eq!(settings.logs.format, Some(LogFormat::Json));
    assert_eq!(
        settings.document.declared["fields"]["hk"].as_str(),
        Some("id")
    );
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let settings = read(&[], &[("ES_MAX_RETRIES", ""), ("SYNC_ES_SLOT", "")], "").unwrap();
    assert_eq!(settings.delivery.retries_max, 10);
    assert_eq!(settings.postgres.slot, "sync_es_integrated_records");
}

#[test]
fn a_variable_that_is_almost_a_setting_is_told_and_is_no_error() {
    let ignored = |variables: &[(&str, &str)]| read(&[], variables, "").unwrap().ignored;
    let found = ignored(&[("ELASTICSEARCH_URL", "http://a:9200"), ("HOME", "/")]);
    let (url, urls) = ("ELASTICSEARCH_URL", "ELASTICSEARCH_URLS");
    assert_eq!(found, [(url.to_owned(), urls.to_owned())]);
    // Nobody means both; and these are those of PostgreSQL's own image.
    assert!(ignored(&[(url, "http://a:9200"), (urls, "http://a:9200")]).is_empty());
    assert!(ignored(&[("POSTGRES_USER", "u"), ("POSTGRES_DB", "d")]).is_empty());
}

#[test]
fn an_error_names_the_setting_its_source_the_value_and_the_range() {
    assert_eq!(
        refused(&["--es-max-retries", "x"], &[("ES_MAX_RETRIES", "y")], ""),
        r#"--es-max-retries is "x": expected a whole number from 0 to 1000000"#
    );
    assert_eq!(
        refused(&[], &[("ES_MAX_RETRIES", "y")], "es_max_retries = 'z'"),
        r#"ES_MAX_RETRIES (environment) is "y": expected a whole number from 0 to 1000000"#
    );
    let from_file = refused(&[], &[], "es_max_retries = -1");
    assert!(from_file.starts_with("es_max_retries ("), "{from_file}");
    assert!(from_file.contains(r#"sync-es.toml) is "-1": expected a whole number"#));
    let format = refused(&[], &[("SYNC_ES_LOG_FORMAT", "xml")], "");
    assert!(format.contains("expected text or json"), "{format}");
}

#[test]
fn what_is_no_setting_is_an_error_that_proposes_one() {
    assert_eq!(
        refused(&[], &[("SYNC_ES_SLOTT", "x")], ""),
        "unknown environment variable SYNC_ES_SLOTT; did you mean SYNC_ES_SLOT?"
    );
    assert!(read(&[], &[("SYNC_ES_TEST_SEED", "1")], "").is_ok());
    let key = refused(&[], &[], "es_max_retrys = 1");
    assert!(key.starts_with(r#"unknown key "es_max_retrys""#), "{key}");
    assert!(key.ends_with("did you mean es_max_retries?"), "{key}");
    assert!(refused(&[], &[], "[documents]").ends_with("did you mean document?"));
    assert!(refused(&[], &[], "config = 'x'").starts_with(r#"unknown key "config""#));
    assert!(refused(&["--es-max-retrys", "1"], &[], "").contains("--es-max-retries"));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let backoff = refused(&["--es-retry-backoff-seconds", "31"], &[], "");
    assert!(
        backoff.contains("--es-retry-backoff-seconds and ES_RETRY_MAX_BACKOFF_SECONDS (default)")
    );
    let names = refused(
        &[],
        &[("ELASTICSEARCH_INDEX_NAME", "integrated_records")],
        "",
    );
    assert!(
        names.contains("ELASTICSEARCH_INDEX_ALIAS (default)"),
        "{names}"
    );
    let both = [
        ("ELASTICSEARCH_API_KEY", "k"),
        ("ELASTICSEARCH_USERNAME", "u"),
        ("ELASTICSEARCH_PASSWORD", "p"),
    ];
    assert!(refused(&[], &both, "").contains("not both"));
    assert!(refused(&[], &both[1..2], "").contains("needs ELASTICSEARCH_PASSWORD"));
    assert!(refused(&[], &both[2..], "").contains("needs ELASTICSEARCH_USERNAME"));
}

#[test]
fn no_wait_is_zero_because_doubling_it_would_never_pause() {
    let zero = [
        ("ES_RETRY_BACKOFF_SECONDS", "0"),
        ("ES_RETRY_MAX_BACKOFF_SECONDS", "0"),
    ];
    let settings = read(&[], &zero, "").unwrap();
    assert_eq!(settings.delivery.backoff_first, Duration::from_millis(1));
    assert_eq!(settings.delivery.backoff_max, Duration::from_millis(1));
}

#[test]
fn a_secret_comes_from_a_variable_or_a_file_and_the_higher_source_wins() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, "from file\n").unwrap();
    let path = path.display().to_string();
    let key =
        |flags: &[&str], variables: &[(&str, &str)], file: &str| match read(flags, variables, file)
            .unwrap()
            .elasticsearch
            .credentials
        {
            Credentials::ApiKey(key) => key.value().expose_secret().to_owned(),
            other => panic!("{other:?}"),
        };
    assert_eq!(key(&[], &[("ELASTICSEARCH_API_KEY", "k")], ""), "k");
    let named = [("ELASTICSEARCH_API_KEY_FILE", path.as_str())];
    assert_eq!(key(&[], &named, "elasticsearch_api_key = 'k'"), "from file");
    let given = [("ELASTICSEARCH_API_KEY", "k")];
    assert_eq!(
        key(&["--elasticsearch-api-key-file", &path], &given, ""),
        "from file"
    );
    let both = refused(&[], &[named[0], given[0]], "");
    assert!(both.contains("give one of them"), "{both}");
    let missing = refused(&[], &[("ELASTICSEARCH_API_KEY_FILE", "/no/such")], "");
    assert!(missing.contains("cannot read /no/such"), "{missing}");
}

#[test]
fn no_error_and_no_output_repeats_a_secret() {
    let flag = refused(&["--postgres-url", "postgres://u:sekrit@db"], &[], "");
    assert!(flag.contains("POSTGRES_URL_FILE"), "{flag}");
    let wrong = [
        refused(&[], &[("POSTGRES_URL", "postgres://u:sekrit%zz@db")], ""),
        refused(&[], &[("POSTGRES_URL", "postgres://u:a/sekrit@db")], ""),
        refused(
            &[],
            &[("POSTGRES_URL", "postgres://u:a?sekrit@db?sekrit=1")],
            "",
        ),
        refused(
            &[],
            &[("ELASTICSEARCH_URLS", "http://u:sekrit@es:9200")],
            "",
        ),
        refused(
            &["--elasticsearch-urls", "http://u:sekrit@es:9200"],
            &[],
            "",
        ),
        refused(&[], &[], "postgres_url = 'postgres://u:sekrit@db"),
        refused(&[], &[], "postgres_url = ['postgres://u:sekrit@db']"),
        flag,
    ];
    for text in wrong {
        assert!(!text.contains("sekrit"), "{text}");
    }
    let variables = [
        ("POSTGRES_URL", "postgres://u:sekrit@db/d?sslmode=require"),
        ("ELASTICSEARCH_USERNAME", "u"),
        ("ELASTICSEARCH_PASSWORD", "sekrit"),
    ];
    let settings = read(&[], &variables, "").unwrap();
    let input = serde_json::to_string(&settings.input_db_backend_config()).unwrap();
    let output = serde_json::to_string(&settings.output_db_backend_config()).unwrap();
    assert!(input.contains("postgresql://u@db:5432/d"), "{input}");
    assert!(output.contains("http://localhost:9200/"), "{output}");
    for text in [input, output, format!("{settings:?}")] {
        assert!(!text.contains("sekrit"), "{text}");
    }
}

#[test]
fn the_manual_has_every_setting_as_it_is_declared() {
    let command = Line::command();
    let rows: String = layers::declarations(&command)
        .iter()
        .map(|setting| manual_row(&command, setting))
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let manual = fs::read_to_string(path).unwrap_or_default();
    assert!(
        manual.contains(&rows),
        "docs/configuration.md must have these rows, in this order:\n{rows}"
    );
}

fn manual_row(command: &clap::Command, setting: &layers::Declaration) -> String {
    let mut arguments = command.get_arguments();
    let arg = arguments
        .find(|arg| arg.get_id().as_str() == setting.key)
        .unwrap();
    let code = |name: &str, given: bool| {
        if given {
            format!("`{name}`")
        } else {
            "–".to_owned()
        }
    };
    let flag = code(&setting.flag, !setting.secret);
    let key = code(&setting.key, setting.key != "config");
    let help = arg.get_help().unwrap().to_string();
    let (help, told) = match help
        .strip_suffix(']')
        .and_then(|h| h.split_once(" [default: "))
    {
        Some((help, told)) => (help, told),
        None => (help.as_str(), "–"),
    };
    let default = match arg.get_default_values() {
        [] => told.replace('<', "\\<"),
        values => code(values[0].to_str().unwrap(), true),
    };
    let nothing = [OsString::from("test"), format!("{}=", setting.flag).into()];
    let value = match super::flags(command, &nothing) {
        Err(Refusal::Setting(SettingsError::Value { expected, .. })) => expected
            .replace("expected ", "")
            .replace('|', "\\|")
            .replace('<', "\\<")
            .replace('*', "\\*"),
        Err(Refusal::Usage(_)) => "a path".to_owned(),
        _ => "–".to_owned(),
    };
    let variable = &setting.variable;
    format!("| `{variable}` | {flag} | {key} | {default} | {value} | {help} |\n")
}
