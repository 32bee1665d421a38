//! The password file: `host:port:database:user:password` lines, the first that matches counts
//! (manual: "The Password File").

use std::{fs, path::Path};

use secrecy::SecretString;

/// One line. The pattern's fields are host, port, database and user; `None` matches anything.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pattern: [Option<String>; 4],
    password: SecretString,
}

/// The file's entries; none when there is no such file or, as libpq has it, when others can read it.
pub(super) fn read(path: &Path) -> Vec<Entry> {
    let Ok(text) = fs::read_to_string(path) else {
        return Vec::new();
    };
    if open_to_others(path) {
        tracing::warn!(
            path = %path.display(),
            "password file ignored: others can read it; chmod 600 mends that"
        );
        return Vec::new();
    }
    text.lines().filter_map(entry).collect()
}

/// The password of the first entry that matches host, port, database and user.
pub(super) fn find(entries: &[Entry], wanted: [&str; 4]) -> Option<SecretString> {
    let matches = |entry: &&Entry| {
        let mut fields = entry.pattern.iter().zip(wanted);
        fields.all(|(pattern, value)| pattern.as_deref().is_none_or(|p| p == value))
    };
    entries
        .iter()
        .find(matches)
        .map(|entry| entry.password.clone())
}

#[cfg(unix)]
fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn open_to_others(_path: &Path) -> bool {
    false
}

fn entry(line: &str) -> Option<Entry> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = fields(line).into_iter();
    let mut pattern = || fields.next().map(|field| (field != "*").then_some(field));
    let pattern = [pattern()?, pattern()?, pattern()?, pattern()?];
    Some(Entry {
        pattern,
        password: SecretString::from(fields.next()?),
    })
}

/// The five fields; a backslash takes the next character as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        let count = fields.len();
        let Some(field) = fields.last_mut() else {
            break;
        };
        match c {
            '\\' => field.extend(characters.next()),
            ':' if count < 5 => fields.push(String::new()),
            ':' => break,
            c => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_first_line_that_matches_gives_the_password() {
        let text = "# a:1:b:c:no\n\
                    a:5432:d:u:one\n\
                    a:*:*:u:t\\:w\\\\o\n\
                    broken\n\
                    *:*:*:*:any\n";
        let entries: Vec<Entry> = text.lines().filter_map(entry).collect();
        let password = |wanted| find(&entries, wanted).map(|p| p.expose_secret().to_owned());
        assert_eq!(password(["a", "5432", "d", "u"]).as_deref(), Some("one"));
        assert_eq!(password(["a", "1", "d", "u"]).as_deref(), Some("t:w\\o"));
        assert_eq!(password(["b", "1", "d", "u"]).as_deref(), Some("any"));
        assert_eq!(entries.len(), 3);
    }
    proptest! {
        #[test]
        fn any_password_can_be_written(host in "[^\n\r*#]{1,20}", password in "[^\n\r]{1,40}") {
            let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
            let line = format!("{}:5432:*:*:{}", escaped(&host), escaped(&password));
            let found = find(&[entry(&line).unwrap()], [&host, "5432", "d", "u"]);
            let found = found.unwrap();
            prop_assert_eq!(found.expose_secret(), password);
        }
    }
}
