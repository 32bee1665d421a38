//! The parameters that were given, each from its highest source: the connection string, then the
//! service file (manual: "The Connection Service File"), then the `PG*` variables.

use std::{
    collections::BTreeMap,
    fs, iter,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    conninfo::{self, Malformed},
    keywords::{self, KEYWORDS},
    options::OptionsError,
};

/// What the environment says, by name.
pub(super) type Environment = BTreeMap<String, String>;

/// Parameters by keyword, each with the place that it came from.
pub(super) struct Given(BTreeMap<&'static str, (String, String)>);

impl Given {
    pub(super) fn collect(
        url: Option<&SecretString>,
        environment: &Environment,
    ) -> Result<Self, OptionsError> {
        let mut given = Self(BTreeMap::new());
        let text = url.map_or("", |url| url.expose_secret());
        let parameters =
            conninfo::parse(text).map_err(|problem| malformed("POSTGRES_URL", problem))?;
        // Of two with one name the last counts, so it goes in first.
        for (name, value) in parameters.into_iter().rev() {
            given.offer(&name, value, "POSTGRES_URL")?;
        }
        given.add_service(environment)?;
        for keyword in KEYWORDS
            .iter()
            .filter(|keyword| !keyword.variable.is_empty())
        {
            if let Some(value) = environment.get(keyword.variable) {
                given.offer(keyword.name, value.clone(), keyword.variable)?;
            }
        }
        Ok(given)
    }

    /// Keeps the value unless a higher source has given one. An empty value counts as not given.
    fn offer(&mut self, name: &str, value: String, origin: &str) -> Result<(), OptionsError> {
        let keyword = keywords::find(name).ok_or_else(|| OptionsError::Unknown {
            origin: origin.to_owned(),
            hint: keywords::nearest(name),
        })?;
        if let Some(reason) = keyword.refusal(&value) {
            return Err(OptionsError::Unsupported {
                parameter: keyword.name,
                origin: origin.to_owned(),
                reason,
            });
        }
        if !value.is_empty() {
            self.0
                .entry(keyword.name)
                .or_insert_with(|| (value, origin.to_owned()));
        }
        Ok(())
    }

    fn add_service(&mut self, environment: &Environment) -> Result<(), OptionsError> {
        let variable = environment.get("PGSERVICE").filter(|name| !name.is_empty());
        let (name, origin) = match (self.0.get("service"), variable) {
            (Some((name, origin)), _) => (name.clone(), origin.clone()),
            (None, Some(name)) => (name.clone(), "PGSERVICE".to_owned()),
            (None, None) => return Ok(()),
        };
        let named = self
            .get("servicefile")
            .or(environment.get("PGSERVICEFILE").map(String::as_str));
        let personal = match named {
            Some(path) => Some(PathBuf::from(path)),
            None => home(environment).map(|home| home.join(".pg_service.conf")),
        };
        let shared = environment
            .get("PGSYSCONFDIR")
            .map_or("/etc/postgresql-common", String::as_str);
        let files: Vec<PathBuf> = personal
            .into_iter()
            .chain(iter::once(Path::new(shared).join("pg_service.conf")))
            .collect();
        for file in &files {
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(OptionsError::Unreadable {
                        path: file.clone(),
                        problem: error.to_string(),
                    });
                }
            };
            let origin = format!("service in {}", file.display());
            if let Some(lines) = service(&text, &name) {
                for line in lines {
                    let (name, value) = line
                        .split_once('=')
                        .ok_or_else(|| malformed(&origin, Malformed::NoValue))?;
                    self.offer(name.trim(), value.trim().to_owned(), &origin)?;
                }
                return Ok(());
            }
        }
        Err(OptionsError::Service { origin, files })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    pub(super) fn number(&self, name: &'static str, default: u64) -> Result<u64, OptionsError> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse()
                .map_err(|_| self.wrong(name, "a whole number")),
        }
    }

    pub(super) fn wrong(&self, parameter: &'static str, expected: &str) -> OptionsError {
        OptionsError::Value {
            parameter,
            origin: self
                .0
                .get(parameter)
                .map_or_else(String::new, |(_, origin)| origin.clone()),
            expected: expected.to_owned(),
        }
    }
}

/// The lines of one section of a service file.
fn service<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) == Some(name))?;
    Some(
        lines
            .take_while(|line| !line.starts_with('['))
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect(),
    )
}

fn malformed(origin: &str, problem: Malformed) -> OptionsError {
    OptionsError::Malformed {
        origin: origin.to_owned(),
        problem: problem.to_string(),
    }
}

/// The home directory, which holds the files that nobody names.
pub(super) fn home(environment: &Environment) -> Option<PathBuf> {
    environment
        .get("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}
