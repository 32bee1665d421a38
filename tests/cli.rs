//! The program as it is called: what it answers to a command line, an environment and a file that
//! it cannot use. No server is needed: nothing is contacted before all of them are right.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// Arguments and variables.
type Call<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

/// The binary with these arguments and no variables but these.
fn sync_es(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sync-es"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What it says on standard error when it refuses with the exit code for wrong usage.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = sync_es(arguments, variables);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

/// A settings file with this content, in a directory that goes when the first value is dropped.
fn file(content: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sync-es.toml");
    fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn help_goes_to_standard_output_and_has_settings_variables_and_examples() {
    let output = sync_es(&["--help"], &[("ES_MAX_RETRIES", "not a number")]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
    let help = stdout(&output);
    for part in [
        "Usage: sync-es [OPTIONS] [COMMAND]",
        "--snapshot-only",
        "PostgreSQL:",
        "Elasticsearch:",
        "--es-max-retries <N>",
        "[env: ES_MAX_RETRIES]",
        "[default: 10]",
        "Examples:",
    ] {
        assert!(help.contains(part), "{part} in\n{help}");
    }
    for command in ["run", "status", "drop-slot", "completions", "manual"] {
        let output = sync_es(&[command, "--help"], &[]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(stdout(&output).contains("Usage: sync-es"), "{command}");
    }
}

#[test]
fn the_short_help_fits_on_fewer_lines_than_the_long_one() {
    let lines = |flag| stdout(&sync_es(&[flag], &[])).lines().count();
    assert!(lines("-h") < lines("--help"));
}

#[test]
fn the_version_is_the_package_s() {
    let output = sync_es(&["--version"], &[]);
    let expected = concat!("sync-es ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(stdout(&output), expected);
}

#[test]
fn completions_are_printed_for_each_shell_whatever_the_settings_are() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = sync_es(&["completions", shell], &[("ES_MAX_RETRIES", "x")]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(stdout(&output).contains("sync-es"), "{shell}");
    }
}

#[test]
fn there_is_a_manual_page_of_the_program_and_of_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let output = sync_es(&["manual", path], &[("ES_MAX_RETRIES", "x")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (page, part) in [
        ("sync-es.1", "EMBEDDING_DIMENSIONS"),
        ("sync-es-verify.1", "repair"),
        ("sync-es-dead-letters-retry.1", "rows as they are now"),
    ] {
        let text = std::fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(text.contains(part), "{page}");
    }
    assert!(refusal(&["manual", "/nowhere"], &[]).contains("/nowhere"));
}

#[test]
fn an_unknown_flag_or_command_is_an_error_that_proposes_one() {
    assert!(refusal(&["--es-max-retry", "1"], &[]).contains("--es-max-retries"));
    assert!(refusal(&["completion"], &[]).contains("completions"));
    assert!(refusal(&["drop-slot", "--snapshot-only"], &[]).contains("--snapshot-only"));
    assert!(refusal(&["--snapshot-only", "drop-slot"], &[]).contains("--snapshot-only"));
}

#[test]
fn an_unknown_variable_of_ours_is_an_error_that_proposes_one() {
    let told = refusal(&[], &[("SYNC_ES_PUBLICATIONS", "p")]);
    assert!(told.contains("SYNC_ES_PUBLICATIONS"), "{told}");
    assert!(told.contains("did you mean SYNC_ES_PUBLICATION?"), "{told}");
}

#[test]
fn an_unknown_key_of_the_file_is_an_error_that_proposes_one() {
    let (_directory, path) = file("embeding_dimensions = 3\n");
    for (arguments, variables) in [
        (vec!["--config", &path], vec![]),
        (vec![], vec![("SYNC_ES_CONFIG", path.as_str())]),
    ] {
        let told = refusal(&arguments, &variables);
        assert!(told.contains(&path), "{told}");
        assert!(
            told.contains("did you mean embedding_dimensions?"),
            "{told}"
        );
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_an_error_with_its_place() {
    let told = refusal(&["--config", "/no/such.toml"], &[]);
    assert!(
        told.contains("--config: cannot read /no/such.toml"),
        "{told}"
    );
    let (_directory, path) = file("es_max_retries = 1\n\nes_max_retries = 'a\n");
    let told = refusal(&["--config", &path], &[]);
    assert!(told.contains(&format!("{path}, line 3: ")), "{told}");
    let (_directory, path) = file("[document]\ncolumn = { a = false }\n");
    let told = refusal(&["run", "--config", &path], &[]);
    assert!(told.contains(&path) && told.contains("`column`"), "{told}");
}

/// The ten variables that users of the job before this one have set, with values that are wrong.
const MALFORMED: [(&str, &[&str]); 10] = [
    ("EMBEDDING_DIMENSIONS", &["0", "4097", "256.5", "many"]),
    (
        "ELASTICSEARCH_INDEX_NAME",
        &["Upper", "a b", "_a", "integrated_records"],
    ),
    (
        "ELASTICSEARCH_INDEX_ALIAS",
        &["a*", "-a", "integrated_records_v1"],
    ),
    (
        "ELASTICSEARCH_NUMBER_OF_SHARDS",
        &["0", "1025", "-1", "one"],
    ),
    ("ES_CLIENT_BATCH_SIZE", &["0", "100001", "1e2", "x"]),
    ("ES_CLIENT_RAISE_ERRORS", &["2", "maybe"]),
    ("ES_MAX_RETRIES", &["-1", "1.5", "x"]),
    (
        "ES_RETRY_BACKOFF_SECONDS",
        &["-0.1", "NaN", "inf", "3601", "x", "31"],
    ),
    ("ES_RETRY_MAX_BACKOFF_SECONDS", &["-1", "NaN", "x", "0.5"]),
    ("POSTGRES_CLIENT_BATCH_SIZE", &["0", "1000001", "x"]),
];

#[test]
fn each_of_the_ten_variables_is_refused_when_it_is_malformed() {
    for (name, values) in MALFORMED {
        for value in values {
            let told = refusal(&[], &[(name, value)]);
            assert!(
                told.contains(&format!("{name} (environment)")),
                "{name}={value}: {told}"
            );
        }
    }
}

#[test]
fn each_of_the_ten_is_refused_alike_as_a_flag_and_in_the_file() {
    for (name, values) in MALFORMED {
        let key = name.to_ascii_lowercase();
        let flag = format!("--{}", key.replace('_', "-"));
        let told = refusal(&[&format!("{flag}={}", values[0])], &[]);
        assert!(told.contains(&flag), "{told}");
        let (_directory, path) = file(&format!("{key} = '{}'\n", values[0]));
        let told = refusal(&["--config", &path], &[]);
        assert!(told.contains(&format!("{key} ({path})")), "{told}");
    }
}

#[test]
fn a_value_out_of_range_is_told_with_its_source_and_the_range() {
    let told = refusal(&[], &[("ES_CLIENT_BATCH_SIZE", "0")]);
    assert!(
        told.starts_with(
            "error: ES_CLIENT_BATCH_SIZE (environment) is \"0\": \
             expected a whole number from 1 to 100000\n"
        ),
        "{told}"
    );
}

#[test]
fn a_secret_is_never_printed_whatever_is_wrong() {
    let (_directory, broken) = file("postgres_url = 'postgres://u:sekrit@db\n");
    let cases: [Call; 7] = [
        (&["--postgres-url", "postgres://u:sekrit@db"], &[]),
        (&["--elasticsearch-password", "sekrit"], &[]),
        (&["--config", &broken], &[]),
        (&[], &[("POSTGRES_URL", "postgres://u:sekrit%@db/d")]),
        (&[], &[("POSTGRES_URL", "postgres://u:a/sekrit@db")]),
        (&[], &[("ELASTICSEARCH_URLS", "http://u:sekrit@es:9200")]),
        (
            &[],
            &[
                ("ELASTICSEARCH_API_KEY", "sekrit"),
                ("ELASTICSEARCH_PASSWORD", "sekrit"),
            ],
        ),
    ];
    for (arguments, variables) in cases {
        let told = refusal(arguments, variables);
        assert!(
            told.starts_with("error: ") && !told.contains("sekrit"),
            "{told}"
        );
    }
    let help = sync_es(&["--help"], &[("POSTGRES_URL", "postgres://u:sekrit@db/d")]);
    assert!(!stdout(&help).contains("sekrit"));
}

#[test]
fn a_server_that_does_not_answer_is_named_with_the_cause_and_without_the_password() {
    // Port 1 of this machine: nothing listens there.
    let variables = [
        ("POSTGRES_URL", "postgres://cdc:sekrit@127.0.0.1:1/records"),
        ("ELASTICSEARCH_URLS", "http://127.0.0.1:1"),
        ("ES_MAX_RETRIES", "0"),
        ("SYNC_ES_LOG", "trace"),
    ];
    for arguments in [&["drop-slot"][..], &["--snapshot-only"]] {
        let output = sync_es(arguments, &variables);
        assert!(!matches!(output.status.code(), Some(0 | 2)), "{output:?}");
        let told = stderr(&output);
        for part in ["127.0.0.1:1", "records", "cdc", "refused"] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(!told.contains("sekrit"), "{told}");
    }
}

#[test]
fn logs_are_json_when_nobody_looks_and_text_on_demand() {
    let url = ("POSTGRES_URL", "postgres://cdc@127.0.0.1:1/records");
    let first = |variables: &[(&str, &str)]| {
        let told = stderr(&sync_es(&["drop-slot"], variables));
        told.lines().next().unwrap_or_default().to_owned()
    };
    let line: serde_json::Value = serde_json::from_str(&first(&[url])).unwrap();
    assert_eq!(line["level"], "ERROR");
    let line = first(&[url, ("SYNC_ES_LOG_FORMAT", "text")]);
    assert!(line.contains(" ERROR ") && !line.contains('{'), "{line}");
}

#[test]
fn the_manual_names_the_exit_code_of_wrong_usage() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let manual = fs::read_to_string(manual).unwrap();
    let words: Vec<&str> = manual.split_whitespace().collect();
    assert!(words.join(" ").contains("the exit code is 2"));
}

#[test]
fn where_no_server_was_named_it_is_said() {
    let nowhere = [("PGPORT", "1"), ("SYNC_ES_ADMIN_ADDR", "off")];
    let output = sync_es(&["run"], &nowhere);
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    let told = format!("{}{}", stdout(&output), stderr(&output));
    assert!(told.contains("POSTGRES_URL is not set"), "{told}");
}
