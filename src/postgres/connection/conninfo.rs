//! A connection string, URL or key=value, to its parameters, as libpq splits it
//! (manual: "Connection Strings"; `conninfo_parse` and `conninfo_uri_parse` in fe-connect.c).
//!
//! Pure. No error repeats a part of the string: where it is malformed, any part may be the password.

use percent_encoding::percent_decode_str;

/// Why a connection string cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it begins with neither postgresql:// nor postgres://")]
    Scheme,
    #[error("a name without \"=\" and a value")]
    NoValue,
    #[error("a quoted value without its closing quote")]
    NoClosingQuote,
    #[error("an address in brackets without its closing \"]\"")]
    NoClosingBracket,
    #[error(
        "a %-escape that is none; in a URL, write % as %25 and the characters @ : / ? # of a \
         password as %40 %3A %2F %3F %23"
    )]
    Escape,
    #[error(
        "a character out of place in the host or the database; in a URL, write the characters \
         @ : / ? # of a password as %40 %3A %2F %3F %23"
    )]
    OutOfPlace,
}

/// The parameters in the order they stand; a later one of the same name counts.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let text = text.trim();
    match text
        .strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
    {
        Some(rest) => url(rest),
        None if is_url(text) => Err(Malformed::Scheme),
        None => pairs(text),
    }
}

/// Of another scheme.
fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric()))
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let mut parameters = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(Malformed::NoValue)?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Malformed::NoValue);
        }
        let (value, after) = pair_value(after.trim_start())?;
        parameters.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(parameters)
}

/// A value up to white space or its closing quote; a backslash takes the next character as it is.
fn pair_value(text: &str) -> Result<(String, &str), Malformed> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        Err(Malformed::NoClosingQuote)
    } else {
        Ok((value, ""))
    }
}

/// `[user[:password]@][host[:port],…][/database][?name=value&…]`, after the scheme.
fn url(text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let mut parameters = Vec::new();
    let mut set = |name: &str, value: &str| -> Result<(), Malformed> {
        if !value.is_empty() {
            parameters.push((name.to_owned(), decoded(value)?));
        }
        Ok(())
    };
    let authority_end = text.find('/').unwrap_or(text.len());
    let rest = match text[..authority_end].find('@') {
        Some(at) => {
            let (user, password) = text[..at].split_once(':').unwrap_or((&text[..at], ""));
            set("user", user)?;
            set("password", password)?;
            &text[at + 1..]
        }
        None => text,
    };
    // libpq would take the end of a password that was not encoded for a host or a database, and
    // show it in its error.
    if rest
        .split('?')
        .next()
        .is_some_and(|part| part.contains('@'))
    {
        return Err(Malformed::OutOfPlace);
    }
    let (hosts, ports, rest) = addresses(rest)?;
    set("host", &hosts.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        set("port", &ports.join(","))?;
    }
    let (database, query) = match rest.split_once('?') {
        Some((database, query)) => (database, query),
        None => (rest, ""),
    };
    set("dbname", database.strip_prefix('/').unwrap_or(database))?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(Malformed::NoValue)?;
        parameters.push(match (decoded(name)?, decoded(value)?) {
            // As libpq does for URLs that were written for JDBC.
            (name, value) if name == "ssl" && value == "true" => {
                ("sslmode".to_owned(), "require".to_owned())
            }
            parameter => parameter,
        });
    }
    Ok(parameters)
}

/// Hosts and ports, one of each per address, and what follows them.
fn addresses(text: &str) -> Result<(Vec<&str>, Vec<&str>, &str), Malformed> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    let mut rest = text;
    loop {
        let host;
        (host, rest) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or(Malformed::NoClosingBracket)?,
            None => rest.split_at(rest.find([':', '/', '?', ',']).unwrap_or(rest.len())),
        };
        let port;
        (port, rest) = match rest.strip_prefix(':') {
            Some(after) => after.split_at(after.find(['/', '?', ',']).unwrap_or(after.len())),
            None => ("", rest),
        };
        hosts.push(host);
        ports.push(port);
        match rest.chars().next() {
            Some(',') => rest = &rest[1..],
            None | Some('/' | '?') => return Ok((hosts, ports, rest)),
            Some(_) => return Err(Malformed::OutOfPlace),
        }
    }
}

fn decoded(text: &str) -> Result<String, Malformed> {
    let mut escapes = text.split('%').skip(1);
    let valid = |escape: &str| {
        escape.len() >= 2
            && escape.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit)
            && !escape.starts_with("00")
    };
    if !escapes.all(valid) {
        return Err(Malformed::Escape);
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Malformed::Escape)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> String {
        parse(text)
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_string_is_split_as_libpq_splits_it() {
        let cases = [
            ("", ""),
            ("postgresql://", ""),
            ("postgres://db", "host=db"),
            ("postgresql:///records", "dbname=records"),
            (
                "postgresql://u:p%40%3A@db:5433/records?sslmode=require&application_name=a%20b",
                "user=u password=p@: host=db port=5433 dbname=records sslmode=require \
                 application_name=a b",
            ),
            (
                "postgresql://a:1,b,[::1]:3/d",
                "host=a,b,::1 port=1,,3 dbname=d",
            ),
            ("postgresql://%2Fvar%2Frun/d", "host=/var/run dbname=d"),
            ("postgresql://u@?host=/tmp", "user=u host=/tmp"),
            ("postgresql://db?ssl=true", "host=db sslmode=require"),
            ("host=db  port = 5433 user=u", "host=db port=5433 user=u"),
            (
                r"password='it\'s \\ so' dbname=d",
                r"password=it's \ so dbname=d",
            ),
            (r"password=a\ b user=", "password=a b user="),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_without_repeating_it() {
        let cases = [
            ("sekrit", Malformed::NoValue),
            ("mysql://u:sekrit@db", Malformed::Scheme),
            ("host=db sekrit", Malformed::NoValue),
            ("password='sekrit", Malformed::NoClosingQuote),
            ("postgresql://[::1/sekrit", Malformed::NoClosingBracket),
            ("postgresql://u:sekrit%zz@db", Malformed::Escape),
            ("postgresql://[::1]sekrit", Malformed::OutOfPlace),
            ("postgresql://u:a@sekrit@db/d", Malformed::OutOfPlace),
            ("postgresql://u:1/sekrit@db/d", Malformed::OutOfPlace),
            ("postgresql://db?sekrit", Malformed::NoValue),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("sekrit"));
        }
    }
    proptest! {
        #[test]
        fn what_is_written_by_the_rules_is_read_as_it_was_meant(
            user in "[^\\x00]{1,20}",
            password in "[^\\x00]{1,40}",
            value in "[^\\x00]{1,40}",
        ) {
            let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let url = format!(
                "postgresql://{}:{}@h/d?options={}",
                encoded(&user), encoded(&password), encoded(&value)
            );
            let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
            let pairs = format!(
                "user='{}' password = '{}' host=h dbname=d options='{}'",
                quoted(&user), quoted(&password), quoted(&value)
            );
            let meant = [
                ("user", user.as_str()),
                ("password", &password),
                ("host", "h"),
                ("dbname", "d"),
                ("options", &value),
            ];
            for text in [url, pairs] {
                let read = parse(&text).unwrap();
                let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                prop_assert_eq!(read, meant);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(postgres://)?\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
