//! `panta.toml`.
//!
//! ```toml
//! [defaults]                 # for every stream whose engine knows the key
//! deadline = "5min"
//!
//! [streams.run42]
//! url = "staging:run42"      # file:run42.panta if not given
//! servers = ["node7:7400", "node8:7400"]
//! ack = "disk"
//! ```
//!
//! All of it is checked at every open: keys exist, values can be read, URLs
//! can be taken apart.

use super::error::{ConfigError, Place};
use super::nearest;
use super::table::{Options, PARAMETERS, Parameter};
use super::url::{StreamUrl, check_name, parse_url};
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// A configuration file taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigFile {
    /// What `[defaults]` sets.
    pub defaults: Vec<Setting>,
    /// The tables `[streams.NAME]`, by name.
    pub streams: BTreeMap<String, StreamEntry>,
}

/// One `[streams.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEntry {
    /// Its `url`, and the line that is on.
    pub url: Option<(StreamUrl, usize)>,
    /// Its other keys.
    pub settings: Vec<Setting>,
}

/// A key and its value, as text, and the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The value as it would stand in a URL.
    pub value: String,
    /// The line, counted from 1.
    pub line: usize,
}

/// Takes the text of a `panta.toml` apart. Never panics, whatever the text.
///
/// # Errors
/// [`ConfigError`], placed at a line of a file called `panta.toml`.
pub fn parse_toml(text: &str) -> Result<ConfigFile, ConfigError> {
    let reader = Reader { text };
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        reader.bad(start, error.message())
    })?;
    let mut file = ConfigFile::default();
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "defaults" => {
                let table = reader.table("defaults", value)?;
                file.defaults = reader.settings(table, UrlKey::IsUnknown)?;
            }
            "streams" => {
                for (name, entry) in reader.table("streams", value)? {
                    let (name, entry) = reader.stream(name, entry)?;
                    file.streams.insert(name, entry);
                }
            }
            other => {
                let near = nearest(other, ["defaults", "streams"]).unwrap_or("streams.NAME");
                let reason = format!(
                    "no `{other}` here, only `[defaults]` and `[streams.NAME]`; \
                     did you mean `[{near}]`?"
                );
                return Err(reader.bad(key.span().start, &reason));
            }
        }
    }
    Ok(file)
}

/// The text, to find lines in.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn place(&self, offset: usize) -> Place {
        Place::File {
            path: PathBuf::from("panta.toml"),
            line: self.line(offset),
        }
    }

    fn bad(&self, offset: usize, reason: &str) -> ConfigError {
        ConfigError::BadFile {
            reason: reason.trim().to_owned(),
            place: self.place(offset),
        }
    }

    fn table<'t, 'i>(
        &self,
        what: &str,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Result<&'t DeTable<'i>, ConfigError> {
        let table = value.get_ref().as_table();
        table.ok_or_else(|| self.bad(value.span().start, &format!("`{what}` is a table")))
    }

    fn stream(
        &self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        entry: &Spanned<DeValue<'_>>,
    ) -> Result<(String, StreamEntry), ConfigError> {
        let start = name.span().start;
        let name = name.get_ref().to_string();
        let mut settings = self.settings(
            self.table(&format!("streams.{name}"), entry)?,
            UrlKey::IsLeftToCaller,
        )?;
        let url = match settings.iter().position(|it| it.key == URL_KEY) {
            None => {
                // The default is `file:NAME.panta`, which any path will do for.
                check_name(&name.replace('/', "_")).map_err(|why| self.bad(start, &why))?;
                None
            }
            Some(index) => {
                let Setting { value, line, .. } = settings.remove(index);
                let url = parse_url(&value).map_err(|error| {
                    error.at(|_| Place::File {
                        path: PathBuf::from("panta.toml"),
                        line,
                    })
                })?;
                Some((url, line))
            }
        };
        Ok((name, StreamEntry { url, settings }))
    }

    fn settings(&self, table: &DeTable<'_>, url_key: UrlKey) -> Result<Vec<Setting>, ConfigError> {
        let mut settings = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let start = key.span().start;
            let setting = Setting {
                key: name.to_owned(),
                value: self.scalar(name, value)?,
                line: self.line(start),
            };
            if name != URL_KEY || url_key == UrlKey::IsUnknown {
                self.check(&setting, start)?;
            }
            settings.push(setting);
        }
        Ok(settings)
    }

    /// Some engine knows the key, and the value can be read.
    fn check(&self, setting: &Setting, start: usize) -> Result<(), ConfigError> {
        let key = setting.key.as_str();
        let Some(row) = Parameter::find(key) else {
            return Err(ConfigError::UnknownKey {
                key: key.to_owned(),
                engine: None,
                nearest: nearest(key, PARAMETERS.iter().map(|row| row.name)).map(str::to_owned),
                place: self.place(start),
            });
        };
        row.read(&mut Options::default(), &setting.value, &self.place(start))
    }

    /// The value as it would stand in a URL.
    fn scalar(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            // Underscores are gone and the radix is ten unless 0x, 0o or 0b.
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Ok(number.to_string()),
                    Err(_) => Err(self.bad(value.span().start, "the number is too large")),
                }
            }
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| self.scalar(key, item));
                Ok(texts.collect::<Result<Vec<_>, _>>()?.join(","))
            }
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Err(self.bad(
                value.span().start,
                &format!("`{key}` is text, a whole number, `true`, `false`, or a list of texts"),
            )),
        }
    }
}

/// The one key of a stream's table that is no parameter.
const URL_KEY: &str = "url";

/// What [`URL_KEY`] means in a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UrlKey {
    IsUnknown,
    IsLeftToCaller,
}
