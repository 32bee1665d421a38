//! libpq's connection parameters, their variables, and what we make of each
//! (manual: "Parameter Key Words" and "Environment Variables" of libpq).

/// A connection parameter.
#[derive(Debug)]
pub(super) struct Keyword {
    pub(super) name: &'static str,
    /// The `PG*` variable; empty when libpq has none.
    pub(super) variable: &'static str,
    meaning: Meaning,
}

#[derive(Debug)]
enum Meaning {
    /// `Options` reads it.
    Honoured,
    /// It has no effect on what we do.
    Ignored,
    /// Only these values are what we do anyway; another would be a promise that we break.
    Only(&'static [&'static str]),
}

use Meaning::{Honoured, Ignored, Only};

/// Every parameter up to PostgreSQL 18.
pub(super) const KEYWORDS: &[Keyword] = &[
    keyword("service", "PGSERVICE", Honoured),
    keyword("servicefile", "PGSERVICEFILE", Honoured),
    keyword("user", "PGUSER", Honoured),
    keyword("password", "PGPASSWORD", Honoured),
    keyword("passfile", "PGPASSFILE", Honoured),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT", Honoured),
    keyword("dbname", "PGDATABASE", Honoured),
    keyword("host", "PGHOST", Honoured),
    keyword("hostaddr", "PGHOSTADDR", Honoured),
    keyword("port", "PGPORT", Honoured),
    keyword("options", "PGOPTIONS", Honoured),
    keyword("application_name", "PGAPPNAME", Honoured),
    keyword("fallback_application_name", "", Honoured),
    keyword("keepalives", "", Honoured),
    keyword("keepalives_idle", "", Honoured),
    keyword("keepalives_interval", "", Honoured),
    keyword("keepalives_count", "", Honoured),
    keyword("tcp_user_timeout", "", Honoured),
    keyword("sslmode", "PGSSLMODE", Honoured),
    keyword("sslcert", "PGSSLCERT", Honoured),
    keyword("sslkey", "PGSSLKEY", Honoured),
    keyword("sslrootcert", "PGSSLROOTCERT", Honoured),
    keyword("target_session_attrs", "PGTARGETSESSIONATTRS", Honoured),
    keyword("client_encoding", "PGCLIENTENCODING", Ignored),
    keyword("sslcompression", "PGSSLCOMPRESSION", Ignored),
    keyword("krbsrvname", "PGKRBSRVNAME", Ignored),
    keyword("gsslib", "PGGSSLIB", Ignored),
    keyword("sslkeylogfile", "", Ignored),
    keyword(
        "channel_binding",
        "PGCHANNELBINDING",
        Only(&["disable", "prefer"]),
    ),
    keyword("require_auth", "PGREQUIREAUTH", Only(&[])),
    keyword("requirepeer", "PGREQUIREPEER", Only(&[])),
    keyword("requiressl", "PGREQUIRESSL", Only(&["0"])),
    keyword("sslcertmode", "PGSSLCERTMODE", Only(&["allow"])),
    keyword("sslpassword", "", Only(&[])),
    keyword("sslcrl", "PGSSLCRL", Only(&[])),
    keyword("sslcrldir", "PGSSLCRLDIR", Only(&[])),
    keyword("sslsni", "PGSSLSNI", Only(&["1"])),
    keyword("sslnegotiation", "PGSSLNEGOTIATION", Only(&["postgres"])),
    keyword(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        Only(&["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ),
    keyword(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        Only(&["TLSv1.3"]),
    ),
    keyword(
        "min_protocol_version",
        "PGMINPROTOCOLVERSION",
        Only(&["3.0"]),
    ),
    keyword("max_protocol_version", "PGMAXPROTOCOLVERSION", Ignored),
    keyword("gssencmode", "PGGSSENCMODE", Only(&["disable", "prefer"])),
    keyword("gssdelegation", "PGGSSDELEGATION", Only(&["0"])),
    keyword("scram_client_key", "", Only(&[])),
    keyword("scram_server_key", "", Only(&[])),
    keyword(
        "load_balance_hosts",
        "PGLOADBALANCEHOSTS",
        Only(&["disable"]),
    ),
    keyword("replication", "", Only(&[])),
];

const fn keyword(name: &'static str, variable: &'static str, meaning: Meaning) -> Keyword {
    Keyword {
        name,
        variable,
        meaning,
    }
}

impl Keyword {
    /// Why this value cannot be given, if it cannot.
    pub(super) fn refusal(&self, value: &str) -> Option<String> {
        match self.meaning {
            Honoured | Ignored => None,
            Only(values) if value.is_empty() || values.contains(&value) => None,
            Only([]) => Some("not supported; remove it".to_owned()),
            Only(values) => Some(format!("only {} is supported", values.join(" or "))),
        }
    }
}

/// The parameter of this name.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// The parameter that a slip of the hand could have turned into `name`.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    KEYWORDS
        .iter()
        .map(|keyword| (strsim::jaro_winkler(name, keyword.name), keyword.name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
