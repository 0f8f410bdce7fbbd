//! `panta serve`: one staging server, until it is told to end.

use std::io::Write;

use panta_staging_server::{Server, ServerOptions};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::arguments::ServeArguments;
use crate::error::CommandError;

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), CommandError> {
    let listen = arguments.listen;
    let server = place(arguments)?;
    // Before any thread of the server is there, so that none misses the signal.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| CommandError::failed(format!("signals cannot be awaited: {error}")))?;
    let options = ServerOptions {
        listen,
        names: arguments.servers.clone(),
        server,
        key: arguments.key.clone(),
        encrypt: arguments.encrypt,
        limit_bytes: arguments.limit.0,
        connections: arguments.connections,
        ..ServerOptions::default()
    };
    let server = Server::start(options).map_err(|error| CommandError::failed(error.to_string()))?;
    let mut output = std::io::stdout().lock();
    writeln!(
        output,
        "serving at {}, key in {}",
        server.address(),
        server.key_path().display()
    )?;
    output.flush()?;
    drop(output);
    signals.forever().next();
    server.stop();
    Ok(())
}

/// This server's place in the list of all: as told, or where the list names the address
/// that it listens on.
fn place(arguments: &ServeArguments) -> Result<usize, CommandError> {
    if let Some(server) = arguments.server {
        return Ok(server);
    }
    if arguments.servers.is_empty() {
        return Ok(0);
    }
    let listen = arguments.listen.to_string();
    arguments.servers.iter().position(|name| *name == listen).ok_or_else(|| {
        CommandError::Usage(format!(
            "--servers does not name {listen}, the address of --listen; say with --server which of the list this server is, from 0"
        ))
    })
}
