//! Which source speaks for a setting: flags, then the environment, then the TOML file, then the
//! default.
//!
//! clap knows flags and defaults; so what the environment and the file say is laid under the flags
//! as other defaults, and every source goes through the same parser. An empty variable counts as
//! not set, because `NAME=${NAME:-}` in a compose file means that.
//!
//! Flags are parsed alone first. What is wrong then is a flag's fault and clap says it; what is
//! wrong later is the fault of a layer that we know by its [`Origin`].

use std::{
    any::TypeId,
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use secrecy::SecretString;
use url::Url;

use super::{
    error::{Origin, SettingsError},
    secret::Secret,
};

/// The variables that a run may read, by name.
pub type Environment = BTreeMap<String, String>;

/// Why no settings came out.
#[derive(Debug)]
pub enum Refusal {
    /// Wrong usage, or help and version, which clap reports as errors too.
    Usage(Box<clap::Error>),
    /// A setting that cannot be used.
    Setting(SettingsError),
}

impl From<SettingsError> for Refusal {
    fn from(error: SettingsError) -> Self {
        Self::Setting(error)
    }
}

/// What the layers below the flags said.
#[derive(Debug, Default)]
pub struct Layers {
    /// The `[document]` table of the file.
    pub(super) document: toml::Table,
    /// The file that it stands in.
    pub(super) document_file: Option<PathBuf>,
    /// Variables that nobody reads, each with the setting that was probably meant.
    pub(super) ignored: Vec<(String, String)>,
    origins: BTreeMap<String, Origin>,
}

/// The names of one setting.
#[derive(Debug, Clone)]
pub(super) struct Declaration {
    /// Key of the TOML file, and clap's id.
    pub(super) key: String,
    pub(super) variable: String,
    pub(super) flag: String,
    /// Only ever read from the environment or a file.
    pub(super) secret: bool,
    /// Never repeated in an error.
    private: bool,
}

/// Variables with this prefix are ours, so an unknown one is a mistake.
const PREFIX: &str = "SYNC_ES_";
/// What our own tests read.
const TEST_PREFIX: &str = "SYNC_ES_TEST_";
/// The file's table that is not a setting.
const DOCUMENT: &str = "document";
/// The setting that the file cannot give.
const CONFIG: &str = "config";

/// The flags alone.
///
/// # Errors
/// Wrong usage, help or version, or a secret on the command line.
pub fn flags(command: &Command, argv: &[OsString]) -> Result<ArgMatches, Refusal> {
    let declarations = declarations(command);
    let matches = without_variables(command.clone())
        .try_get_matches_from(argv)
        .map_err(|error| match error.kind() {
            // Only the full declaration can show the variables in the help.
            ErrorKind::DisplayHelp => with_variables(command.clone())
                .try_get_matches_from(argv)
                .err()
                .unwrap_or(error),
            _ => error,
        })
        .map_err(|error| flag_error(error, &declarations))?;
    for setting in declarations.iter().filter(|setting| setting.secret) {
        if matches.value_source(&setting.key) == Some(ValueSource::CommandLine) {
            return Err(Refusal::Setting(SettingsError::SecretFlag {
                flag: setting.flag.clone(),
                variable: setting.variable.clone(),
            }));
        }
    }
    Ok(matches)
}

/// The flags over the environment over the file, and where each of the lower values came from.
///
/// # Errors
/// The file cannot be read, it or the environment has an unknown setting, or a value is wrong.
pub fn layered(
    command: &Command,
    argv: &[OsString],
    flags: &ArgMatches,
    environment: &Environment,
) -> Result<(ArgMatches, Layers), Refusal> {
    let declarations = declarations(command);
    refuse_unknown_variables(&declarations, environment)?;
    let mut layers = Layers::default();
    let mut values = BTreeMap::new();
    if let Some((path, origin)) = config_file(&declarations, flags, environment) {
        layers.read_file(&declarations, &path, origin, &mut values)?;
    }
    for setting in &declarations {
        let variable = environment.get(&setting.variable);
        if let Some(value) = variable.filter(|value| !value.is_empty()) {
            let origin = Origin::Environment(setting.variable.clone());
            layers.origins.insert(setting.key.clone(), origin);
            values.insert(setting.key.clone(), value.clone());
        }
        if flags.value_source(&setting.key) == Some(ValueSource::CommandLine) {
            let origin = Origin::Flag(setting.flag.clone());
            layers.origins.insert(setting.key.clone(), origin);
        } else if !layers.origins.contains_key(&setting.key) {
            let origin = Origin::Default(setting.variable.clone());
            layers.origins.insert(setting.key.clone(), origin);
        }
    }
    layers.ignored = layers.slips(&declarations, environment);
    let laid = without_variables(command.clone()).mut_args(|arg| {
        match values.get(arg.get_id().as_str()) {
            Some(value) => arg.default_value(value),
            None => arg,
        }
    });
    let matches = laid
        .try_get_matches_from(argv)
        .map_err(|error| layers.value_error(error, &declarations))?;
    Ok((matches, layers))
}

/// The settings that a command line declares: every argument that has a variable.
pub(super) fn declarations(command: &Command) -> Vec<Declaration> {
    command
        .get_arguments()
        .filter_map(|arg| {
            let holds = arg.get_value_parser().type_id();
            let secret = holds == TypeId::of::<SecretString>();
            Some(Declaration {
                key: arg.get_id().to_string(),
                variable: arg.get_env()?.to_str()?.to_owned(),
                flag: format!("--{}", arg.get_long()?),
                secret,
                private: secret || holds == TypeId::of::<Url>(),
            })
        })
        .collect()
}

impl Layers {
    /// Where the value of a setting came from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.origins
            .get(key)
            .cloned()
            .unwrap_or_else(|| Origin::Default(key.to_ascii_uppercase()))
    }

    /// A secret, given itself or as the name of a file that holds it; the higher source wins.
    pub(super) fn secret(
        &self,
        key: &str,
        given: Option<&SecretString>,
        file: Option<&Path>,
    ) -> Result<Option<Secret>, SettingsError> {
        let (here, there) = (self.origin(key), self.origin(&format!("{key}_file")));
        let path = match (given, file) {
            (given, None) => return Ok(given.cloned().map(Secret::given)),
            (None, Some(path)) => path,
            (Some(given), Some(path)) => match rank(&here).cmp(&rank(&there)) {
                std::cmp::Ordering::Greater => return Ok(Some(Secret::given(given.clone()))),
                std::cmp::Ordering::Less => path,
                std::cmp::Ordering::Equal => {
                    return Err(SettingsError::Contradiction {
                        first: here,
                        second: there,
                        problem: "give one of them".to_owned(),
                    });
                }
            },
        };
        match Secret::in_file(path) {
            Ok(Some(secret)) => Ok(Some(secret)),
            Ok(None) => Err(SettingsError::Value {
                origin: there,
                value: Some(path.display().to_string()),
                expected: "expected a file that is not empty".to_owned(),
            }),
            Err(error) => Err(SettingsError::unreadable(there, path, error)),
        }
    }

    /// Variables without our prefix that are a letter or two away from a setting which is not given. They
    /// may be another program's, so they are no mistake for sure.
    fn slips(
        &self,
        declarations: &[Declaration],
        environment: &Environment,
    ) -> Vec<(String, String)> {
        const LETTERS: usize = 2;
        let names = || declarations.iter().map(|setting| &setting.variable);
        let is_ours =
            |variable: &str| variable.starts_with(PREFIX) || names().any(|name| name == variable);
        let meant = |variable: &str| {
            declarations
                .iter()
                .filter(|setting| matches!(self.origin(&setting.key), Origin::Default(_)))
                .map(|setting| &setting.variable)
                .find(|name| strsim::damerau_levenshtein(variable, name) <= LETTERS)
        };
        environment
            .keys()
            .filter(|variable| !is_ours(variable))
            .filter_map(|variable| Some((variable.clone(), meant(variable)?.clone())))
            .collect()
    }

    fn read_file(
        &mut self,
        declarations: &[Declaration],
        path: &Path,
        origin: Origin,
        values: &mut BTreeMap<String, String>,
    ) -> Result<(), SettingsError> {
        let text = fs::read_to_string(path)
            .map_err(|error| SettingsError::unreadable(origin, path, error))?;
        let table: toml::Table = text.parse().map_err(|error| syntax(path, &text, &error))?;
        for (key, value) in table {
            match (key.as_str(), value) {
                (DOCUMENT, toml::Value::Table(table)) => {
                    self.document = table;
                    self.document_file = Some(path.to_owned());
                }
                (_, value) => {
                    let setting = declarations
                        .iter()
                        .find(|setting| setting.key == key && key != CONFIG)
                        .ok_or_else(|| unknown_key(&key, declarations, path))?;
                    let origin = Origin::File {
                        key: key.clone(),
                        path: path.to_owned(),
                    };
                    values.insert(key.clone(), written(value, setting, &origin)?);
                    self.origins.insert(key, origin);
                }
            }
        }
        Ok(())
    }

    fn value_error(&self, error: clap::Error, declarations: &[Declaration]) -> Refusal {
        match wrong_value(&error, declarations) {
            Some((setting, value, expected)) => Refusal::Setting(SettingsError::Value {
                origin: self.origin(&setting.key),
                value,
                expected,
            }),
            None => Refusal::Usage(Box::new(error)),
        }
    }
}

/// A flag's wrong value is told like that of any other source; all else is clap's to tell.
fn flag_error(error: clap::Error, declarations: &[Declaration]) -> Refusal {
    match wrong_value(&error, declarations) {
        Some((setting, value, expected)) => Refusal::Setting(SettingsError::Value {
            origin: Origin::Flag(setting.flag.clone()),
            value,
            expected,
        }),
        None => Refusal::Usage(Box::new(error)),
    }
}

/// Which setting's value clap could not take, the value if it may be shown, and what is expected.
fn wrong_value<'a>(
    error: &clap::Error,
    declarations: &'a [Declaration],
) -> Option<(&'a Declaration, Option<String>, String)> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let named = text(ContextKind::InvalidArg)?;
    let flag = named.split([' ', '=', '[']).next()?;
    let setting = declarations.iter().find(|setting| setting.flag == flag)?;
    let expected = match error.kind() {
        ErrorKind::ValueValidation => std::error::Error::source(error)?.to_string(),
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                format!("expected {}", valid.join(" or "))
            }
            _ => return None,
        },
        _ => return None,
    };
    let value = text(ContextKind::InvalidValue).filter(|_| !setting.private);
    Some((setting, value, expected))
}

fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Flag(_) => 3,
        Origin::Environment(_) => 2,
        Origin::File { .. } => 1,
        Origin::Default(_) => 0,
    }
}

/// clap would read the process's variables itself; the environment is an argument here.
fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| {
        if arg.get_env().is_some() {
            setting(arg).env(None::<&'static str>)
        } else {
            arg
        }
    })
}

fn with_variables(command: Command) -> Command {
    command.mut_args(|arg| {
        if arg.get_env().is_some() {
            setting(arg).hide_env_values(true)
        } else {
            arg
        }
    })
}

/// A setting may stand before or after the command's name.
fn setting(arg: Arg) -> Arg {
    arg.global(true)
}

fn config_file(
    declarations: &[Declaration],
    flags: &ArgMatches,
    environment: &Environment,
) -> Option<(PathBuf, Origin)> {
    let setting = declarations.iter().find(|setting| setting.key == CONFIG)?;
    if let Some(path) = flags.get_one::<PathBuf>(CONFIG) {
        return Some((path.clone(), Origin::Flag(setting.flag.clone())));
    }
    let path = environment
        .get(&setting.variable)
        .filter(|path| !path.is_empty())?;
    let origin = Origin::Environment(setting.variable.clone());
    Some((PathBuf::from(path), origin))
}

fn refuse_unknown_variables(
    declarations: &[Declaration],
    environment: &Environment,
) -> Result<(), SettingsError> {
    let known = |name: &String| declarations.iter().any(|setting| setting.variable == *name);
    let unknown = environment
        .keys()
        .find(|name| name.starts_with(PREFIX) && !name.starts_with(TEST_PREFIX) && !known(name));
    match unknown {
        Some(name) => Err(SettingsError::UnknownVariable {
            name: name.clone(),
            suggestion: nearest(name, declarations.iter().map(|s| s.variable.as_str())),
        }),
        None => Ok(()),
    }
}

fn unknown_key(key: &str, declarations: &[Declaration], path: &Path) -> SettingsError {
    let keys = declarations
        .iter()
        .map(|setting| setting.key.as_str())
        .filter(|key| *key != CONFIG)
        .chain([DOCUMENT]);
    SettingsError::UnknownKey {
        key: key.to_owned(),
        path: path.to_owned(),
        suggestion: nearest(key, keys),
    }
}

/// The candidate that a slip of the hand could have turned into `name`.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    candidates
        .map(|candidate| {
            let likeness = strsim::jaro_winkler(&lower, &candidate.to_ascii_lowercase());
            (likeness, candidate)
        })
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// A value of the file as it would be written in the environment.
fn written(
    value: toml::Value,
    setting: &Declaration,
    origin: &Origin,
) -> Result<String, SettingsError> {
    let refused = || SettingsError::Value {
        origin: origin.clone(),
        value: None,
        expected: "expected a string, a number, true or false, or a list of strings".to_owned(),
    };
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(yes) => Ok(yes.to_string()),
        toml::Value::Array(items) if !setting.secret => items
            .iter()
            .map(|item| item.as_str().ok_or_else(refused))
            .collect::<Result<Vec<_>, _>>()
            .map(|items| items.join(",")),
        _ => Err(refused()),
    }
}

/// The parser's own text would show the line.
fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> SettingsError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..start).unwrap_or_default();
    SettingsError::Syntax {
        path: path.to_owned(),
        line: 1 + before.matches('\n').count(),
        problem: error.message().to_owned(),
    }
}
