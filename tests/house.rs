//! The rules of the house, read off `src/` and the documents: which room may use which, what a pure
//! file may not do, how long a file and a function may be, and what the documents must name.
//!
//! Where the code breaks a rule today, the exception stands here with its reason; an exception that
//! is no longer needed fails too.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// The rooms in the order of `src/lib.rs`, each with what it may use of the others. `pipeline` and
/// `commands` alone know both ends; `observe` is a leaf that all may use.
const ROOMS: [(&str, &[&str]); 11] = [
    ("value", &[]),
    ("change", &["value"]),
    ("stop", &["change"]),
    ("postgres", &["value", "change"]),
    ("document", &["value", "change"]),
    ("elasticsearch", &["change"]),
    // A lane encodes its own documents: docs/decisions/0003.
    ("delivery", &["change", "document", "elasticsearch", "stop"]),
    ("observe", &[]),
    ("settings", &["postgres"]),
    (
        "pipeline",
        &[
            "value",
            "change",
            "postgres",
            "document",
            "elasticsearch",
            "delivery",
            "stop",
        ],
    ),
    (
        "commands",
        &[
            "change",
            "document",
            "elasticsearch",
            "delivery",
            "postgres",
            "stop",
            "settings",
            "pipeline",
        ],
    ),
];

/// Files without I/O, async, clock or randomness; a folder means all that is in it.
const PURE: [&str; 27] = [
    "value/",
    "change/",
    "document/",
    "postgres/connection/conninfo.rs",
    "postgres/pgoutput.rs",
    "postgres/transaction.rs",
    "elasticsearch/answer.rs",
    "elasticsearch/bulk.rs",
    "elasticsearch/generation.rs",
    "elasticsearch/nodes.rs",
    "elasticsearch/records/run.rs",
    "elasticsearch/verdict.rs",
    "delivery/acknowledgement.rs",
    "delivery/capacity.rs",
    "delivery/lanes.rs",
    "delivery/refusals.rs",
    "delivery/request.rs",
    "delivery/retry.rs",
    "observe/commits.rs",
    "observe/health.rs",
    "observe/names.rs",
    "observe/status.rs",
    "pipeline/ahead.rs",
    "pipeline/mapping.rs",
    "pipeline/plan.rs",
    "pipeline/verify/report.rs",
    "pipeline/preconditions/",
];

const IMPURE: [&str; 15] = [
    "async ",
    ".await",
    "tokio::",
    "tokio_postgres::Client",
    "fs::",
    "std::net",
    "std::io",
    "env::var",
    "thread::",
    "::now()",
    "SystemTime",
    "RandomState",
    "rand::",
    "tracing::",
    "failpoint!",
];

/// A foreign client, and where alone it may be named, so that it can be replaced.
const CLIENTS: [(&str, &[&str]); 3] = [
    ("pgwire_replication::", &["postgres/replication.rs"]),
    ("use elasticsearch::", &["elasticsearch/client.rs"]),
    (
        "tokio_postgres::",
        &[
            "postgres/",
            // The pipeline holds sessions open and passes their clients on; it makes no query text
            // but for the alias's lock.
            "pipeline/prepare.rs",
            "pipeline/snapshot.rs",
            "pipeline/table.rs",
        ],
    ),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

const LONG_FILES: [(&str, &str); 0] = [];

const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

#[test]
fn rooms_stand_in_the_order_of_the_way() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(
        declared,
        ROOMS.map(|(room, _)| room),
        "src/lib.rs and ROOMS"
    );
    let place = |room: &str| declared.iter().position(|other| *other == room);
    for (room, uses) in ROOMS {
        for used in uses {
            assert!(
                place(used) < place(room),
                "{room} uses {used}, which stands below it"
            );
        }
    }
}

#[test]
fn no_room_uses_one_that_it_may_not_know() {
    let mut seen = BTreeSet::new();
    for file in sources() {
        let Some((room, may)) = ROOMS.into_iter().find(|(room, _)| *room == file.room()) else {
            continue;
        };
        let used = file.uses();
        seen.extend(used.iter().map(|used| (room, used.clone())));
        let wrong: Vec<&String> = used
            .iter()
            .filter(|used| {
                let used = used.as_str();
                used != room && used != "observe" && !may.contains(&used)
            })
            .collect();
        assert!(wrong.is_empty(), "{} uses {wrong:?}", file.path);
    }
    for (room, may) in ROOMS {
        for used in may {
            let pair = (room, (*used).to_owned());
            assert!(seen.contains(&pair), "{room} no longer uses {used}");
        }
    }
}

#[test]
fn a_foreign_client_is_named_where_it_can_be_replaced() {
    for (client, homes) in CLIENTS {
        for file in sources() {
            let named = file.code().any(|line| {
                line.split(client).next().is_some_and(|before| {
                    before.len() < line.len()
                        && !before.ends_with(|last: char| {
                            last.is_alphanumeric() || last == '_' || last == ':'
                        })
                })
            });
            let at_home = homes.iter().any(|home| file.path.starts_with(home));
            assert!(at_home || !named, "{} names {client}", file.path);
        }
    }
}

#[test]
fn a_pure_file_has_no_io_no_clock_and_no_randomness() {
    for file in sources() {
        let pure = PURE.iter().any(|path| file.path.starts_with(path));
        let says_so = file
            .head()
            .any(|line| line.contains("Pure") || line.contains("is pure"));
        assert!(
            pure || !says_so,
            "{} says it is pure: add it to PURE",
            file.path
        );
        for line in file.code().filter(|_| pure) {
            let found = IMPURE.iter().find(|token| line.contains(**token));
            assert_eq!(found, None, "{}: {line}", file.path);
        }
    }
}

#[test]
fn every_file_says_in_its_head_what_must_hold() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|file| file.head().next().is_none())
        .map(|file| file.path.clone())
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn a_file_can_be_read_in_one_go() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|file| file.without_tests().lines().count() > FILE_LINES_MAX)
        .map(|file| file.path.clone())
        .collect();
    assert_eq!(long, LONG_FILES.map(|(path, _)| path));
}

#[test]
fn a_function_fits_on_a_screen() {
    let mut long = Vec::new();
    for file in sources() {
        for (name, lines) in file.functions() {
            if lines > FUNCTION_LINES_MAX {
                long.push((file.path.clone(), name));
            }
        }
    }
    let allowed = LONG_FUNCTIONS.map(|(path, name, _)| (path.to_owned(), name.to_owned()));
    assert_eq!(long, allowed);
}

#[test]
fn every_setting_stands_in_the_configuration_document() {
    let declared = fs::read_to_string(root().join("src/settings/arguments.rs")).unwrap();
    let names: Vec<&str> = declared
        .split("env = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(
        names.len() > 20,
        "the declarations look otherwise: {names:?}"
    );
    let document = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    for name in names {
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn every_metric_stands_in_its_document_and_no_other() {
    let metrics = |text: &str, before: &str, after: char| -> BTreeSet<String> {
        let rests = text.split(before).skip(1);
        rests
            .filter_map(|rest| rest.split(after).next())
            .map(ToOwned::to_owned)
            .collect()
    };
    let declared = fs::read_to_string(root().join("src/observe/names.rs")).unwrap();
    let declared = metrics(&declared, "\"sync_es_", '"');
    assert!(declared.len() > 20, "names.rs looks otherwise");
    let document = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    assert_eq!(metrics(&document, "| `sync_es_", '`'), declared);
}

#[test]
fn every_exit_code_stands_in_the_operations_document() {
    let stops = fs::read_to_string(root().join("src/stop.rs")).unwrap();
    let (_, exit_code) = stops.split_once("fn exit_code").unwrap();
    let codes: Vec<(&str, &str)> = exit_code
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => "))
        .map(|(stop, code)| {
            let name = stop.split([' ', '(']).next().unwrap();
            (name, code.trim_end_matches(','))
        })
        .collect();
    assert!(codes.len() > 10, "exit_code looks otherwise: {codes:?}");
    let document = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for (name, code) in &codes {
        let row = format!("| {code} | `{name}` |");
        assert!(document.contains(&row), "no row begins with {row}");
    }
    let rows = document.lines().filter(|line| {
        let cell = line.strip_prefix("| ").unwrap_or_default();
        cell.starts_with(|first: char| first.is_ascii_digit())
    });
    assert_eq!(rows.count(), codes.len(), "a row without a stop");
}

#[test]
fn the_map_names_every_file_and_nothing_else() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(map.lines().count() <= 120, "ARCHITECTURE.md is a page");
    let files = sources();
    let named: BTreeSet<&str> = map
        .split(|c: char| !(c.is_alphanumeric() || "_./".contains(c)))
        .map(|word| word.rsplit('/').next().unwrap())
        .filter(|name| name.rsplit_once('.').is_some_and(|(_, end)| end == "rs"))
        .collect();
    let there: BTreeSet<&str> = files.iter().map(SourceFile::name).collect();
    let tests = ["house.rs", "cli.rs"];
    for file in files.iter().filter(|file| file.name() != "mod.rs") {
        assert!(named.contains(file.name()), "{} is missing", file.path);
    }
    for name in named {
        assert!(
            there.contains(name) || tests.contains(&name),
            "{name} is gone"
        );
    }
}

/// `scripts/mutations` needs half an hour; that its patches still fit the code is seen at once.
#[test]
fn every_mutation_fits_the_code_that_it_breaks() {
    let patches: Vec<_> = fs::read_dir(root().join("tests/mutations"))
        .unwrap()
        .collect();
    assert!(!patches.is_empty());
    for patch in patches {
        let patch = patch.unwrap().path();
        let text = fs::read_to_string(&patch).unwrap();
        assert!(
            text.starts_with("Breaks: ") && text.contains("\nCaught by: "),
            "{}",
            patch.display()
        );
        let check = Command::new("git")
            .current_dir(root())
            .args(["apply", "--check"])
            .arg(&patch)
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stderr)
        );
    }
}

#[test]
fn every_failpoint_is_in_the_sweep_with_what_it_can_do() {
    let mut there = BTreeMap::new();
    for file in sources() {
        let code: String = file.code().collect();
        for point in code.split("failpoint!(\"").skip(1) {
            let (name, rest) = point.split_once('"').unwrap();
            let place = there.insert(name.to_owned(), rest.starts_with(','));
            assert_eq!(place, None, "{name} is at two places");
        }
    }
    let listed = fs::read_to_string(root().join("tests/faults/program/points.rs")).unwrap();
    let swept = listed.split("Point::new(\"").skip(1).map(|point| {
        let (name, rest) = point.split_once('"').unwrap();
        let end = rest.find("),\n").unwrap();
        (name.to_owned(), rest[..end].ends_with(", Error"))
    });
    assert_eq!(
        there,
        swept.collect(),
        "src/ and tests/faults/program/points.rs"
    );
}

/// A file of `src/` that is not all tests.
struct SourceFile {
    /// Below `src/`.
    path: String,
    text: String,
}

impl SourceFile {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    fn head(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| line.starts_with("//!"))
    }

    fn without_tests(&self) -> &str {
        ["\n#[cfg(test)]\nmod tests", "\n#[cfg(test)]\n#[path"]
            .iter()
            .find_map(|tests| self.text.split_once(tests))
            .map_or(&self.text, |(code, _)| code)
    }

    /// Its lines without comments, blank ones and the trailing tests.
    fn code(&self) -> impl Iterator<Item = &str> {
        let lines = self.without_tests().lines();
        lines.filter(
            |line| !matches!(line.trim_start(), line if line.is_empty() || line.starts_with("//")),
        )
    }

    /// The rooms that follow `crate::`, alone or in braces.
    fn uses(&self) -> BTreeSet<String> {
        let code: String = self.code().flat_map(|line| [line, "\n"]).collect();
        let first_word = |text: &str| -> String {
            let text = text.trim_start();
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        let mut used = BTreeSet::new();
        for after in code.split("crate::").skip(1) {
            let Some(group) = after.strip_prefix('{') else {
                used.insert(first_word(after));
                continue;
            };
            let mut depth = 0;
            let mut next_is_room = true;
            for (at, c) in group.char_indices() {
                match c {
                    '}' if depth == 0 => break,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => next_is_room = true,
                    _ if next_is_room && !c.is_whitespace() => {
                        used.insert(first_word(&group[at..]));
                        next_is_room = false;
                    }
                    _ => {}
                }
            }
        }
        used
    }

    /// Names of its functions with their lines of code, as rustfmt lays them out: a function ends
    /// with the brace below its first character.
    fn functions(&self) -> Vec<(String, usize)> {
        let lines: Vec<&str> = self.code().collect();
        let mut functions = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let start = line.trim_start();
            let is_one = start.starts_with("fn ")
                || (start.contains(" fn ")
                    && (start.starts_with("pub")
                        || start.starts_with("async")
                        || start.starts_with("const")));
            if !is_one || line.ends_with('}') {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - start.len()]);
            let length = lines[at..].iter().position(|line| **line == end);
            let name = start.split("fn ").nth(1).unwrap();
            let name = name.split(['(', '<']).next().unwrap();
            functions.push((name.to_owned(), length.map_or(0, |length| length + 1)));
        }
        functions
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of `src/`, but for those that only tests use.
fn sources() -> Vec<SourceFile> {
    let mut folders = vec![root().join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root().join("src")).unwrap();
                let path = path.to_str().unwrap().to_owned();
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let doors: String = files.iter().map(|file| file.text.as_str()).collect();
    files.retain(|file| {
        let stem = file.name().trim_end_matches(".rs");
        let only_tests =
            stem.ends_with("tests") || doors.contains(&format!("#[cfg(test)]\nmod {stem};"));
        !only_tests
    });
    files
}
