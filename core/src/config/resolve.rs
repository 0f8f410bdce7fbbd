//! Which of the places decides, and what the parameters then are.

use super::error::{ConfigError, Place};
use super::file::{ConfigFile, MAX_FILE_BYTES, Setting, StreamEntry, parse_toml};
use super::nearest;
use super::table::{Engine, Options, PARAMETERS, Parameter};
use super::url::{StreamUrl, parse_url, with_hosts};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The variable that names another configuration file.
const CONFIG_VARIABLE: &str = "PANTA_CONFIG";
/// The configuration file of a working directory.
const CONFIG_FILE: &str = "panta.toml";
/// The key that `@` in a URL sets.
const SERVERS_KEY: &str = "servers";

/// What a name stands for: an engine, what it should open, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The engine that the scheme names.
    pub engine: Engine,
    /// The path for `file:` (relative ones to the process's working
    /// directory), empty for `null:`, the stream's name for the others.
    pub name: String,
    /// The parameters.
    pub options: Options,
    /// The keys set somewhere; the others are at their defaults.
    pub given: BTreeSet<&'static str>,
}

/// Finds what a name, or a URL, stands for.
///
/// `environment` gives the value of a variable, as [`process_environment`]
/// does. `panta.toml` is looked for in `working_directory` only, unless
/// `PANTA_CONFIG` names a file.
///
/// # Errors
/// [`ConfigError`], also for a mistake in parts of the configuration file that
/// do not concern this name.
pub fn resolve(
    name_or_url: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    working_directory: &Path,
) -> Result<Target, ConfigError> {
    let (path, file) = read_file(environment, working_directory)?;
    let in_file = |line| Place::File {
        path: path.clone(),
        line,
    };
    let opened = Place::Opened(name_or_url.to_owned());
    let variable = environment_variable(name_or_url);
    let (url, place, beside) = if name_or_url.contains(':') {
        (parse_url(name_or_url)?, opened, None)
    } else if let Some(url) = environment(&variable) {
        let place = Place::Environment(variable);
        let url = parse_url(&url).map_err(|error| error.at(|_| place.clone()))?;
        (url, place, None)
    } else {
        match file.streams.get(name_or_url) {
            Some(
                entry @ StreamEntry {
                    url: Some((url, line)),
                    ..
                },
            ) => (url.clone(), in_file(*line), Some(entry)),
            entry => (file_url(name_or_url)?, opened, entry),
        }
    };
    let mut target = Target {
        engine: url.engine,
        name: url.name.clone(),
        options: Options::default(),
        given: BTreeSet::new(),
    };
    // The weakest first; what comes later overwrites.
    for setting in &file.defaults {
        if Parameter::find(&setting.key).is_some_and(|row| row.is_for(target.engine)) {
            target.set(&setting.key, &setting.value, &in_file(setting.line))?;
        }
    }
    for Setting { key, value, line } in beside.map_or(&[][..], |entry| &entry.settings) {
        target.set(key, value, &in_file(*line))?;
    }
    target.set_from_url(url, &place)?;
    Ok(target)
}

/// The variable that redirects a stream: `PANTA_URL_RUN42` for `run42`.
#[must_use]
pub fn environment_variable(name: &str) -> String {
    let upper = name.chars().map(|it| match it {
        it if it.is_ascii_alphanumeric() => it.to_ascii_uppercase(),
        _ => '_',
    });
    format!("PANTA_URL_{}", upper.collect::<String>())
}

/// The environment of this process, for [`resolve`].
#[must_use]
pub fn process_environment(variable: &str) -> Option<String> {
    std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
}

impl Target {
    /// Sets one parameter, as a host or a command line may after resolving.
    ///
    /// # Errors
    /// [`ConfigError`] if the engine does not take the key, or the value can't
    /// be read.
    pub fn set(&mut self, key: &str, value: &str, place: &Place) -> Result<(), ConfigError> {
        let row = row_for(self.engine, key, place)?;
        row.read(&mut self.options, value, place)?;
        if row.name == SERVERS_KEY {
            let servers = std::mem::take(&mut self.options.servers);
            let servers = with_hosts(self.engine, servers);
            self.options.servers =
                servers.map_err(|reason| row.bad_value(value, &reason, place))?;
        }
        self.given.insert(row.name);
        Ok(())
    }

    fn set_from_url(&mut self, url: StreamUrl, place: &Place) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        if let Some(servers) = url.servers {
            self.options.servers = servers;
            self.given.insert(SERVERS_KEY);
            seen.insert(SERVERS_KEY.to_owned());
        }
        for (key, value) in url.query {
            self.set(&key, &value, place)?;
            if !seen.insert(key.clone()) {
                let place = place.clone();
                return Err(ConfigError::SetTwice { key, place });
            }
        }
        Ok(())
    }
}

impl Parameter {
    /// Reads a value into its field.
    pub(super) fn read(
        &self,
        options: &mut Options,
        value: &str,
        place: &Place,
    ) -> Result<(), ConfigError> {
        (self.parse_into)(options, value).map_err(|reason| self.bad_value(value, &reason, place))
    }

    fn bad_value(&self, value: &str, reason: &str, place: &Place) -> ConfigError {
        ConfigError::BadValue {
            key: self.name.to_owned(),
            value: value.to_owned(),
            reason: match reason {
                "" => format!("it is {}", (self.expected)()),
                reason => format!("{reason}; it is {}", (self.expected)()),
            },
            place: place.clone(),
        }
    }
}

/// The row of a key that `engine` takes.
fn row_for(engine: Engine, key: &str, place: &Place) -> Result<&'static Parameter, ConfigError> {
    let own = PARAMETERS.iter().filter(|row| row.is_for(engine));
    let nearest = nearest(key, own.map(|row| row.name)).map(str::to_owned);
    match Parameter::find(key) {
        Some(row) if row.is_for(engine) => Ok(row),
        Some(row) => Err(ConfigError::OtherEngine {
            key: key.to_owned(),
            engine,
            accepted_by: row.engines.to_vec(),
            nearest,
            place: place.clone(),
        }),
        None => Err(ConfigError::UnknownKey {
            key: key.to_owned(),
            engine: Some(engine),
            nearest,
            place: place.clone(),
        }),
    }
}

/// What a name means that nothing else explains.
fn file_url(name: &str) -> Result<StreamUrl, ConfigError> {
    if name.is_empty() || name.contains(['\0', '?']) {
        return Err(ConfigError::BadUrl {
            reason: "not a name of a stream; parameters need a URL, as `file:run42.panta?…`"
                .to_owned(),
            place: Place::Opened(name.to_owned()),
        });
    }
    Ok(StreamUrl {
        engine: Engine::File,
        name: format!("{name}.panta"),
        servers: None,
        query: Vec::new(),
    })
}

/// The configuration file, empty if there is none, and its path.
fn read_file(
    environment: &dyn Fn(&str) -> Option<String>,
    working_directory: &Path,
) -> Result<(PathBuf, ConfigFile), ConfigError> {
    let named = environment(CONFIG_VARIABLE);
    let path = working_directory.join(named.as_deref().unwrap_or(CONFIG_FILE));
    let unreadable = |reason: String| ConfigError::Unreadable {
        path: path.clone(),
        reason,
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok((path, ConfigFile::default()));
        }
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    let parsed = parse_toml(&text).map_err(|error| {
        error.at(|place| match place {
            Place::File { line, .. } => Place::File {
                path: path.clone(),
                line: *line,
            },
            other => other.clone(),
        })
    })?;
    Ok((path, parsed))
}
