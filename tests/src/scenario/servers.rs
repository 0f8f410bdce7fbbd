//! Staging servers as processes, and what strangers send them.

use panta_staging_server::{Server, ServerOptions};

use crate::part::Part;

/// A server of the space that the list in the URL's place makes; serves until it is told
/// otherwise.
pub fn serve(part: &Part) {
    let (names, key) = part.url.split_once(' ').unwrap();
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    let server = Server::start(ServerOptions {
        listen: names[part.rank].parse().unwrap(),
        server: part.rank,
        names,
        key: Some(key.into()),
        ..ServerOptions::default()
    });
    let server = server.expect("the server starts");
    part.say("serving");
    loop {
        match part.hear().as_str() {
            "held" => part.say(format_args!("held {}", server.held_bytes())),
            _ => return server.stop(),
        }
    }
}
