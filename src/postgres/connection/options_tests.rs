use std::fs;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use SslMode::{Disable, Require, VerifyCa, VerifyFull};

use super::*;

fn read(url: &str, variables: &[(&str, &str)]) -> Result<Options, OptionsError> {
    let environment: Environment = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Options::read(Some(&SecretString::from(url.to_owned())), &environment)
}

fn password(options: &Options) -> Option<String> {
    options
        .password(&options.hosts[0])
        .map(|password| password.expose_secret().to_owned())
}

/// A home directory with a service file and a password file.
fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    fs::write(
        home.path().join(".pg_service.conf"),
        "# comment\n[other]\nhost=other\n\n[records]\nhost=service.example\nport=6000\ndbname=records\nuser=u\n",
    )
    .unwrap();
    let passfile = home.path().join(".pgpass");
    fs::write(&passfile, "service.example:6000:records:u:from passfile\n").unwrap();
    chmod(&passfile, 0o600);
    home
}

#[cfg(unix)]
fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_string_comes_before_the_service_before_the_variables() {
    let home = home();
    let variables = [
        ("HOME", home.path().to_str().unwrap()),
        ("PGSERVICE", "records"),
        ("PGPORT", "7000"),
        ("PGAPPNAME", "app"),
    ];
    let options = read("dbname=mine user=u", &variables).unwrap();
    assert_eq!(options.describe(), "u@service.example:6000/mine");
    assert_eq!(options.application_name, "app");
    assert_eq!(password(&options), None);
    let options = read("", &variables).unwrap();
    assert_eq!(password(&options).as_deref(), Some("from passfile"));
    let options = read("password=given", &variables).unwrap();
    assert_eq!(password(&options).as_deref(), Some("given"));
}

#[cfg(unix)]
#[test]
fn a_password_file_that_others_can_read_is_ignored() {
    let home = home();
    chmod(&home.path().join(".pgpass"), 0o640);
    let variables = [
        ("HOME", home.path().to_str().unwrap()),
        ("PGSERVICE", "records"),
    ];
    assert_eq!(password(&read("", &variables).unwrap()), None);
}

#[test]
fn a_service_that_is_not_defined_is_an_error_with_the_files() {
    let home = home();
    let variables = [
        ("HOME", home.path().to_str().unwrap()),
        ("PGSERVICE", "nope"),
    ];
    let error = read("", &variables).unwrap_err().to_string();
    assert!(
        error.contains("PGSERVICE") && error.contains(".pg_service.conf"),
        "{error}"
    );
}

#[test]
fn hosts_and_ports_pair_up() {
    let options = read("postgres://u@a:1,[::1],c:3/d", &[]).unwrap();
    assert_eq!(options.describe(), "u@a:1,[::1]:5432,c:3/d");
    let options = read("host=a,b port=6432 user=u dbname=d", &[]).unwrap();
    assert_eq!(options.describe(), "u@a:6432,b:6432/d");
    let options = read("host=name hostaddr=10.0.0.1 user=u", &[]).unwrap();
    assert_eq!(options.hosts[0].address, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(options.describe(), "u@name:5432/u");
    for wrong in [
        "host=a,b port=1,2,3",
        "host=a port=0",
        "host=a port=x",
        "host=a,b hostaddr=10.0.0.1",
        "hostaddr=name",
    ] {
        assert!(
            matches!(read(wrong, &[]), Err(OptionsError::Value { .. })),
            "{wrong}"
        );
    }
}

#[test]
fn a_server_elsewhere_must_prove_who_it_is_unless_told_otherwise() {
    let attempts = |url: &str| {
        let options = read(url, &[]).unwrap();
        options.tls.attempts(&options.hosts[0]).to_vec()
    };
    assert_eq!(attempts("host=db.example user=u"), [VerifyFull]);
    assert_eq!(attempts("host=10.0.0.1 user=u"), [VerifyFull]);
    assert_eq!(
        attempts("host=localhost hostaddr=10.0.0.1 user=u"),
        [VerifyFull]
    );
    for local in ["localhost", "127.0.0.1", "::1"] {
        assert_eq!(
            attempts(&format!("host={local} user=u")),
            [Require, Disable]
        );
    }
    assert_eq!(attempts("host=/tmp user=u sslmode=verify-full"), [Disable]);
    assert_eq!(attempts("host=db user=u sslmode=disable"), [Disable]);
    assert_eq!(attempts("host=db user=u sslmode=allow"), [Disable, Require]);
    assert_eq!(attempts("host=db user=u sslmode=require"), [Require]);
    assert_eq!(
        attempts("host=db user=u sslmode=require sslrootcert=/ca"),
        [VerifyCa]
    );
    assert_eq!(
        attempts("host=localhost user=u sslrootcert=system"),
        [VerifyFull]
    );
}

#[test]
fn a_parameter_that_is_not_honoured_is_refused() {
    for wrong in [
        "channel_binding=require",
        "require_auth=scram-sha-256",
        "sslcrl=/crl",
        "gssencmode=require",
        "load_balance_hosts=random",
        "replication=database",
        "ssl_min_protocol_version=TLSv1.3",
    ] {
        let error = read(wrong, &[]).unwrap_err();
        assert!(
            matches!(error, OptionsError::Unsupported { .. }),
            "{wrong}: {error}"
        );
    }
    let error = read("", &[("PGCHANNELBINDING", "require")])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "channel_binding (PGCHANNELBINDING): only disable or prefer is supported"
    );
}

#[test]
fn a_wrong_parameter_is_named_but_its_value_is_not() {
    let error = read("sslmode=sekrit", &[]).unwrap_err().to_string();
    assert!(
        error.starts_with("sslmode (POSTGRES_URL): expected disable"),
        "{error}"
    );
    let error = read("sslmod=sekrit", &[]).unwrap_err().to_string();
    assert!(error.ends_with("did you mean sslmode?"), "{error}");
    let error = read("postgres://u:se?krit@db/d?x=1", &[])
        .unwrap_err()
        .to_string();
    assert!(!error.contains("krit"), "{error}");
}

#[test]
fn descriptions_hold_no_password() {
    let options = read("postgres://us%2Fer:sekrit@%2Ftmp/d%40b", &[]).unwrap();
    assert_eq!(options.describe(), "us/er@/tmp:5432/d@b");
    assert_eq!(
        options.url_without_secrets(),
        "postgresql://us%2Fer@%2Ftmp:5432/d%40b"
    );
    assert!(!format!("{options:?}").contains("sekrit"));
}
