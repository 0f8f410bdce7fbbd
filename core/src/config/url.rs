//! `scheme:name@servers?key=value&key=value`.
//!
//! ```text
//! file:runs/42.panta?direct=true&limit=2GiB      file:///scratch/42.panta
//! staging:run42@node7:7400,node8:7400?ack=disk   null:
//! stream:run42   stream:run42@node7:7400?key=run42.key
//! ```
//!
//! Names, paths and values may hold `%41`; `+` is itself. Names of streams go
//! into file names and addresses, so they are letters, digits, `.`, `_`, `-`.

use super::error::{ConfigError, Place};
use super::nearest;
use super::table::Engine;
use super::value::{Servers, Value};

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 64 << 10;
/// The longest name of a stream, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The longest path of a `file:` URL, in bytes; what Linux takes.
const MAX_PATH_BYTES: usize = 4095;

/// A URL taken apart. Keys and values of the query are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamUrl {
    /// The engine of the scheme.
    pub engine: Engine,
    /// A path for `file:`, empty for `null:`, else a stream's name.
    pub name: String,
    /// What follows `@`, for `staging:` and `stream:`.
    pub servers: Option<Servers>,
    /// The pairs after `?`, in order, decoded.
    pub query: Vec<(String, String)>,
}

/// Takes a URL apart. Never panics, whatever the text.
///
/// # Errors
/// [`ConfigError::UnknownScheme`] or [`ConfigError::BadUrl`], placed at the
/// URL itself.
pub fn parse_url(url: &str) -> Result<StreamUrl, ConfigError> {
    let bad = |reason: String| ConfigError::BadUrl {
        reason,
        place: Place::Opened(shortened(url)),
    };
    if url.len() > MAX_URL_BYTES {
        return Err(bad(format!("the URL is longer than {MAX_URL_BYTES} bytes")));
    }
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(bad("a URL starts with a scheme, as `file:`".to_owned()));
    };
    let Some(engine) = Engine::from_scheme(scheme) else {
        let schemes = Engine::ALL.map(Engine::scheme);
        return Err(ConfigError::UnknownScheme {
            scheme: scheme.to_owned(),
            nearest: nearest(scheme, schemes).map(|it| format!("{it}:")),
            place: Place::Opened(shortened(url)),
        });
    };
    let (target, query) = match rest.split_once('?') {
        Some((target, query)) => (target, parse_query(query).map_err(bad)?),
        None => (rest, Vec::new()),
    };
    let (name, servers) = parse_target(engine, target).map_err(bad)?;
    Ok(StreamUrl {
        engine,
        name,
        servers,
        query,
    })
}

/// What stands between the scheme and the query.
fn parse_target(engine: Engine, target: &str) -> Result<(String, Option<Servers>), String> {
    match engine {
        Engine::File => Ok((parse_path(target)?, None)),
        Engine::Null if target.is_empty() => Ok((String::new(), None)),
        Engine::Null => Err("`null:` has no name".to_owned()),
        Engine::Staging | Engine::Stream => match target.split_once('@') {
            None => Ok((parse_name(target)?, None)),
            Some((name, servers)) => {
                let servers = Servers::parse(servers)
                    .and_then(|servers| with_hosts(engine, servers))
                    .map_err(|why| format!("after `@` come {}: {why}", Servers::expected()))?;
                Ok((parse_name(name)?, Some(servers)))
            }
        },
    }
}

/// Servers that `engine` takes: only who listens can leave the host out.
pub(super) fn with_hosts(engine: Engine, servers: Servers) -> Result<Servers, String> {
    match servers.0.iter().find(|server| server.starts_with(':')) {
        Some(server) if engine != Engine::Stream => Err(format!("`{server}` names no host")),
        _ => Ok(servers),
    }
}

fn parse_path(text: &str) -> Result<String, String> {
    let path = match text.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err("`file:` paths are of this host: `file:///absolute`".to_owned()),
        None => text,
    };
    let path = percent_decoded(path)?;
    match path.len() {
        0 => Err("`file:` needs a path".to_owned()),
        1..=MAX_PATH_BYTES if !path.contains('\0') => Ok(path),
        1..=MAX_PATH_BYTES => Err("the path holds a zero byte".to_owned()),
        _ => Err(format!("the path is longer than {MAX_PATH_BYTES} bytes")),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let name = percent_decoded(text)?;
    check_name(&name)?;
    Ok(name)
}

/// Whether a stream may be called so.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |it: char| it.is_alphanumeric() || matches!(it, '.' | '_' | '-');
    if name.is_empty() {
        return Err("the name of the stream is missing".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("the name is longer than {MAX_NAME_BYTES} bytes"));
    }
    if name.starts_with('.') || !name.chars().all(allowed) {
        return Err(
            "names of streams are letters, digits, `.`, `_` and `-`, and don't start with `.`"
                .to_owned(),
        );
    }
    Ok(())
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |text: &str| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok((percent_decoded(key)?, percent_decoded(value)?))
        }
        _ => Err(format!("`{text}` is not `key=value`")),
    };
    query.split('&').map(pair).collect()
}

/// Undoes `%41`.
fn percent_decoded(text: &str) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        let Some(byte) = byte else {
            let excerpt: String = part.chars().take(2).collect();
            return Err(format!(
                "`%{excerpt}` is not a percent escape as `%25`, which is `%`"
            ));
        };
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "the percent escapes don't make UTF-8".to_owned())
}

/// What an error shows of a URL.
fn shortened(url: &str) -> String {
    const SHOWN_CHARACTERS: usize = 200;
    match url.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &url[..end]),
        None => url.to_owned(),
    }
}
