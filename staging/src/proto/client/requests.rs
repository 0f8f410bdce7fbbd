//! Connections, outstanding requests and their deadlines: what writers and
//! readers have in common.
//!
//! ```text
//!   call --start--> outstanding --(connected)--> sent --> answer --> machine
//!                        ^                        |
//!                        '---- connection lost, --'
//!                              answer stays away
//! ```

use super::super::message::{Hello, Kind, Map, Message, Reason, Refused};
use super::super::placement::space_digest;
use super::super::{RegionId, ServerId, codec, limits};
use super::{Answer, CallId, ClientAction, ClientConfig, ClientError};
use panta_transports::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The request number of every `Hello`; others are larger.
const HELLO: u64 = 0;

/// One request under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) call: CallId,
    pub(super) server: ServerId,
    pub(super) operation: &'static str,
    pub(super) kind: Kind,
    pub(super) body: Option<RegionId>,
    pub(super) deadline: Time,
    pub(super) length: Duration,
    /// What the server said it waits for, when it last answered "not yet".
    pub(super) waiting_for: String,
    /// When to send it (again); `None`: as soon as there is a connection.
    repeat_at: Option<Time>,
}

#[derive(Debug)]
enum Link {
    /// No connection; whether one is being made.
    Down {
        connecting: bool,
        retry_at: Time,
        detail: String,
    },
    /// Connected, not welcomed yet.
    Greeting { repeat_at: Time },
    /// Welcomed.
    Up,
}

/// An answer and what it answers.
pub(super) type Answered = (Exchange, Kind, Option<RegionId>);

/// See the module.
#[derive(Debug)]
pub(super) struct Requests {
    config: ClientConfig,
    links: BTreeMap<ServerId, Link>,
    exchanges: BTreeMap<u64, Exchange>,
    last_request: u64,
    map: Option<Map>,
    /// The server to stay connected to.
    kept: Option<ServerId>,
    /// Set when a connection to `kept` has come (back).
    is_back: bool,
}

impl Requests {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            config,
            links: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            last_request: HELLO,
            map: None,
            kept: None,
            is_back: false,
        }
    }

    /// Stays connected to `server` also while nothing is asked of it.
    pub(super) fn keep(&mut self, server: Option<ServerId>) {
        self.kept = server;
    }

    /// Whether the connection to the kept server has come since last asked.
    pub(super) fn take_is_back(&mut self) -> bool {
        std::mem::take(&mut self.is_back)
    }

    fn wants(&self, server: ServerId) -> bool {
        self.kept == Some(server)
            || self
                .exchanges
                .values()
                .any(|exchange| exchange.server == server)
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The newest shard map that any server has sent.
    pub(super) fn map(&self) -> Option<&Map> {
        self.map.as_ref()
    }

    pub(super) fn learn_map(&mut self, map: Option<Map>) {
        if let Some(map) = map.filter(|map| {
            self.map
                .as_ref()
                .is_none_or(|known| known.version < map.version)
        }) {
            self.map = Some(map);
        }
    }

    /// A server's name, for errors.
    pub(super) fn name(&self, server: ServerId) -> String {
        self.config
            .names
            .get(server.0 as usize)
            .cloned()
            .unwrap_or_else(|| "not in the list".to_owned())
    }

    /// Starts an exchange.
    pub(super) fn start(&mut self, exchange: Exchange, now: Time, actions: &mut Vec<ClientAction>) {
        let misuse = |detail| ClientError::Misuse {
            operation: exchange.operation,
            detail,
        };
        let refusal = if self.exchanges.len() >= limits::REQUESTS_LIMIT {
            Some(misuse("too many requests are under way"))
        } else if exchange.server.0 as usize >= self.config.names.len() {
            Some(misuse("no such server in the list"))
        } else if codec::check(&exchange.kind).is_err() {
            Some(misuse(
                "a name, count or size exceeds the protocol's limits",
            ))
        } else {
            None
        };
        if let Some(error) = refusal {
            actions.push(ClientAction::Finished {
                id: exchange.call,
                result: Err(error),
            });
            return;
        }
        self.last_request += 1;
        let request = self.last_request;
        let server = exchange.server;
        self.exchanges.insert(request, exchange);
        match self.links.get(&server) {
            Some(Link::Up) => self.send(request, now, actions),
            Some(_) => {}
            None => self.connect(server, now, actions),
        }
    }

    /// Sends an exchange again after `pause`, with a fresh number, so that a
    /// late copy of the last answer isn't taken for the next.
    pub(super) fn again(
        &mut self,
        mut exchange: Exchange,
        pause: Duration,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        self.last_request += 1;
        let request = self.last_request;
        exchange.repeat_at = Some(now.after(pause));
        self.exchanges.insert(request, exchange);
        if pause.is_zero() {
            self.send(request, now, actions);
        }
    }

    /// Sends without expecting an answer; lost where there is no connection.
    pub(super) fn tell(&mut self, server: ServerId, kind: Kind, actions: &mut Vec<ClientAction>) {
        if matches!(self.links.get(&server), Some(Link::Up)) {
            self.last_request += 1;
            actions.push(ClientAction::Send {
                server,
                message: Message::new(self.last_request, kind),
                body: None,
            });
        }
    }

    /// Servers there is a connection to.
    pub(super) fn connected(&self) -> Vec<ServerId> {
        self.links
            .iter()
            .filter(|(_, link)| matches!(link, Link::Up))
            .map(|(server, _)| *server)
            .collect()
    }

    fn connect(&mut self, server: ServerId, now: Time, actions: &mut Vec<ClientAction>) {
        let link = Link::Down {
            connecting: true,
            retry_at: now,
            detail: "not connected yet".to_owned(),
        };
        self.links.insert(server, link);
        actions.push(ClientAction::Connect { server });
    }

    fn send(&mut self, request: u64, now: Time, actions: &mut Vec<ClientAction>) {
        let retry_after = self.config.retry_after;
        let Some(exchange) = self.exchanges.get_mut(&request) else {
            return;
        };
        if !matches!(self.links.get(&exchange.server), Some(Link::Up)) {
            exchange.repeat_at = None;
            return;
        }
        let wait = set_wait(
            &mut exchange.kind,
            exchange.deadline.since(now),
            retry_after,
        );
        exchange.repeat_at = Some(now.after(retry_after.saturating_add(wait)));
        actions.push(ClientAction::Send {
            server: exchange.server,
            message: Message::new(request, exchange.kind.clone()),
            body: exchange.body,
        });
    }

    /// A connection is there: says hello.
    pub(super) fn connected_to(
        &mut self,
        server: ServerId,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        self.links.insert(
            server,
            Link::Greeting {
                repeat_at: now.after(self.config.retry_after),
            },
        );
        self.hello(server, actions);
    }

    fn hello(&self, server: ServerId, actions: &mut Vec<ClientAction>) {
        let hello = Hello {
            version: limits::PROTOCOL_VERSION,
            space: space_digest(&self.config.names),
        };
        actions.push(ClientAction::Send {
            server,
            message: Message::new(HELLO, Kind::Hello(hello)),
            body: None,
        });
    }

    /// A connection has ended or could not be made.
    pub(super) fn disconnected(&mut self, server: ServerId, detail: String, now: Time) {
        let retry_at = now.after(limits::CONNECT_BACKOFF);
        self.links.insert(
            server,
            Link::Down {
                connecting: false,
                retry_at,
                detail,
            },
        );
        for exchange in self
            .exchanges
            .values_mut()
            .filter(|exchange| exchange.server == server)
        {
            exchange.repeat_at = None;
        }
    }

    /// A message has come. Gives back what it answers; bodies that answer
    /// nothing are dropped.
    pub(super) fn message(
        &mut self,
        server: ServerId,
        message: Message,
        body: Option<RegionId>,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) -> Option<Answered> {
        let known = self
            .exchanges
            .get(&message.request)
            .is_some_and(|exchange| exchange.server == server);
        if message.request == HELLO || !known {
            actions.extend(body.map(|region| ClientAction::Drop { region }));
            if message.request == HELLO {
                self.welcomed(server, message.kind, now, actions);
            }
            return None;
        }
        let exchange = self.exchanges.remove(&message.request)?;
        if matches!(message.kind, Kind::Got(_)) {
            return Some((exchange, message.kind, body));
        }
        actions.extend(body.map(|region| ClientAction::Drop { region }));
        Some((exchange, message.kind, None))
    }

    fn welcomed(
        &mut self,
        server: ServerId,
        kind: Kind,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        if !matches!(self.links.get(&server), Some(Link::Greeting { .. })) {
            return;
        }
        match kind {
            Kind::Welcome(welcome)
                if welcome.version == limits::PROTOCOL_VERSION && welcome.server == server.0 =>
            {
                self.links.insert(server, Link::Up);
                self.learn_map(welcome.map);
                self.is_back |= self.kept == Some(server);
                self.flush(server, now, actions);
            }
            Kind::Welcome(welcome) => {
                let detail = format!(
                    "it speaks version {} as server {}",
                    welcome.version, welcome.server
                );
                self.turn_away(
                    server,
                    &Refused::new(Reason::WrongVersion, detail),
                    now,
                    actions,
                );
            }
            Kind::Refused(refused) => self.turn_away(server, &refused, now, actions),
            _ => {}
        }
    }

    fn flush(&mut self, server: ServerId, now: Time, actions: &mut Vec<ClientAction>) {
        let mine: Vec<u64> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| exchange.server == server)
            .map(|(request, _)| *request)
            .collect();
        for request in mine {
            self.send(request, now, actions);
        }
    }

    /// Fails everything that waits for a server that will not speak with us.
    fn turn_away(
        &mut self,
        server: ServerId,
        refused: &Refused,
        now: Time,
        actions: &mut Vec<ClientAction>,
    ) {
        self.disconnected(server, refused.detail.clone(), now);
        actions.push(ClientAction::Disconnect { server });
        let mine: Vec<_> = self
            .exchanges
            .extract_if(.., |_, exchange| exchange.server == server)
            .collect();
        for (_, exchange) in mine {
            let result = Err(self.refusal(&exchange, refused.clone()));
            actions.push(ClientAction::Finished {
                id: exchange.call,
                result,
            });
        }
    }

    /// Ends what is overdue and repeats what was not answered.
    pub(super) fn tick(&mut self, now: Time, actions: &mut Vec<ClientAction>) {
        let overdue: Vec<_> = self
            .exchanges
            .extract_if(.., |_, exchange| exchange.deadline <= now)
            .collect();
        for (_, exchange) in overdue {
            let result = Err(self.late(&exchange));
            actions.push(ClientAction::Finished {
                id: exchange.call,
                result,
            });
        }
        let due: Vec<u64> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| exchange.repeat_at.is_some_and(|at| at <= now))
            .map(|(request, _)| *request)
            .collect();
        for request in due {
            self.send(request, now, actions);
        }
        let servers: Vec<ServerId> = self.links.keys().copied().collect();
        for server in servers {
            self.tick_link(server, now, actions);
        }
    }

    fn tick_link(&mut self, server: ServerId, now: Time, actions: &mut Vec<ClientAction>) {
        let wanted = self.wants(server);

        let repeat_at = now.after(self.config.retry_after);
        match self.links.get_mut(&server) {
            Some(Link::Down {
                connecting,
                retry_at,
                ..
            }) if wanted && !*connecting && *retry_at <= now => {
                *connecting = true;
                actions.push(ClientAction::Connect { server });
            }
            Some(Link::Greeting { repeat_at: at }) if *at <= now => {
                *at = repeat_at;
                self.hello(server, actions);
            }
            _ => {}
        }
    }

    fn late(&self, exchange: &Exchange) -> ClientError {
        let (operation, server, length) = (exchange.operation, exchange.server, exchange.length);
        let name = self.name(server);
        if let Some(Link::Down { detail, .. }) = self.links.get(&server) {
            return ClientError::Unreachable {
                operation,
                server,
                name,
                length,
                detail: detail.clone(),
            };
        }
        let awaited = if exchange.waiting_for.is_empty() {
            format!("{server} ({name}) to answer")
        } else {
            format!("{} (says {server}, {name})", exchange.waiting_for)
        };
        ClientError::Deadline {
            operation,
            awaited,
            length,
        }
    }

    /// The error that a refusal comes to.
    pub(super) fn refusal(&self, exchange: &Exchange, refused: Refused) -> ClientError {
        ClientError::Refused {
            operation: exchange.operation,
            server: exchange.server,
            name: self.name(exchange.server),
            reason: refused.reason(),
            detail: refused.detail,
            bytes: refused.bytes,
            step: refused.step,
            first: refused.first.map(Box::new),
        }
    }

    /// Finishes with what a server should not have answered.
    pub(super) fn unexpected(&self, exchange: &Exchange) -> Result<Answer, ClientError> {
        Err(ClientError::Protocol {
            operation: exchange.operation,
            server: exchange.server,
            name: self.name(exchange.server),
            detail: "an answer of another kind".to_owned(),
        })
    }

    /// Gives a call up.
    pub(super) fn forget(&mut self, call: CallId) {
        self.exchanges.retain(|_, exchange| exchange.call != call);
    }

    pub(super) fn next_tick(&self) -> Option<Time> {
        let exchanges = self.exchanges.values().map(|exchange| {
            exchange.repeat_at.map_or(exchange.deadline, |repeat_at| {
                repeat_at.min(exchange.deadline)
            })
        });
        let links = self.links.iter().filter_map(|(server, link)| match link {
            Link::Down {
                connecting: false,
                retry_at,
                ..
            } => self.wants(*server).then_some(*retry_at),
            Link::Greeting { repeat_at } => Some(*repeat_at),
            _ => None,
        });
        exchanges.chain(links).min()
    }
}

impl Exchange {
    /// A request for `call`, not yet sent.
    pub(super) fn new(
        call: CallId,
        server: ServerId,
        operation: &'static str,
        kind: Kind,
        (deadline, length): (Time, Duration),
    ) -> Self {
        Self {
            call,
            server,
            operation,
            kind,
            body: None,
            deadline,
            length,
            waiting_for: String::new(),
            repeat_at: None,
        }
    }
}

/// Lets the server keep a request waiting for most of what is left, so that
/// its answer (which says whom it waits for) is here before the deadline.
fn set_wait(kind: &mut Kind, left: Duration, retry_after: Duration) -> Duration {
    let wait = (left / 2).min(retry_after).min(limits::LONG_POLL_LIMIT);
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    match kind {
        Kind::Begin(begin) => begin.wait_ms = wait_ms,
        Kind::AwaitSeal(wait) => wait.wait_ms = wait_ms,
        Kind::OpenReader(open) => open.wait_ms = wait_ms,
        Kind::Next(next) if next.wait_ms != 0 => next.wait_ms = wait_ms.max(1),
        _ => return Duration::ZERO,
    }
    wait
}
