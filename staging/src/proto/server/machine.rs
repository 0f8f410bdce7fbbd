//! The server's machine: connections and roles in front of home and owner.

use super::super::message::{Hello, Kind, Message, Reason, Refused, Run, Statistics, Welcome};
#[cfg(feature = "mutants")]
use super::super::mutant::{Mutant, Planted};
use super::super::placement::space_digest;
use super::super::{ConnectionId, Machine, RegionId, limits};
use super::home::{Answers, Home};
use super::owner::{Owner, OwnerReply};
use super::{Role, ServerAction, ServerConfig, ServerEvent};
use panta_transports::time::Time;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
struct Connection {
    role: Role,
    greeted: bool,
}

/// A staging server. See the module above for how a driver uses it.
#[derive(Debug)]
pub struct ServerMachine {
    config: ServerConfig,
    home: Home,
    owner: Owner,
    connections: BTreeMap<ConnectionId, Connection>,
}

impl ServerMachine {
    /// A server that holds nothing yet.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self {
            home: Home::new(&config),
            owner: Owner::new(&config),
            connections: BTreeMap::new(),
            config,
        }
    }

    /// Gives the machine a bug.
    #[cfg(feature = "mutants")]
    pub fn plant(&mut self, mutant: Mutant) {
        self.home.plant(Planted::with(mutant));
        self.owner.plant(Planted::with(mutant));
    }

    /// Payload bytes held, with what indexing them is charged; never more than
    /// the limit.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.owner.held_bytes()
    }

    /// Requests that are kept waiting.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.home.waiting()
    }

    /// Connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Statistics of a variable in a step, over the pieces held here.
    #[must_use]
    pub fn statistics(&self, run: &Run, step: u64, variable: &str) -> Option<Statistics> {
        self.owner.statistics(run, step, variable)
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: Message,
        body: Option<RegionId>,
        now: Time,
        actions: &mut Vec<ServerAction>,
    ) {
        let Message { request, kind } = message;
        let send = |kind| ServerAction::Send {
            connection,
            message: Message::new(request, kind),
        };
        if let Err(refused) = self.admit(connection, &kind) {
            actions.extend(body.map(|region| ServerAction::Drop { region }));
            actions.push(send(Kind::Refused(refused)));
            return;
        }
        let body = if matches!(kind, Kind::Put(_)) {
            body
        } else {
            actions.extend(body.map(|region| ServerAction::Drop { region }));
            None
        };
        let mut dropped = Vec::new();
        match kind {
            Kind::Hello(hello) => self.greet(connection, request, hello, actions),
            Kind::Put(put) => {
                let answer = self.owner.put(put, body, &mut dropped);
                actions.push(send(answer));
            }
            Kind::Get(get) => match self.owner.get(&get) {
                OwnerReply::Message(kind) => actions.push(send(kind)),
                OwnerReply::Gather(got, parts) => {
                    actions.push(ServerAction::Gather {
                        connection,
                        request,
                        got,
                        parts,
                    });
                }
            },
            Kind::Watermark(watermark) => self.owner.watermark(&watermark, &mut dropped),
            Kind::Alive(alive) => self.home.alive(&alive, connection, now),
            kind => {
                let mut answers = Answers::new();
                self.home
                    .request(connection, request, kind, now, &mut answers);
                push_answers(answers, actions);
            }
        }
        actions.extend(
            dropped
                .into_iter()
                .map(|region| ServerAction::Drop { region }),
        );
    }

    /// Whether a connection may send this.
    fn admit(&self, connection: ConnectionId, kind: &Kind) -> Result<(), Refused> {
        let Some(known) = self.connections.get(&connection) else {
            return Err(Refused::new(Reason::Malformed, "an unknown connection"));
        };
        if !known.greeted && !matches!(kind, Kind::Hello(_)) {
            return Err(Refused::new(Reason::Malformed, "say hello first"));
        }
        if known.role == Role::Reader && is_writers(kind) {
            return Err(Refused::new(
                Reason::NotAllowed,
                "the key of this connection allows reading only",
            ));
        }
        if is_answer(kind) {
            return Err(Refused::new(
                Reason::Malformed,
                "an answer where a request belongs",
            ));
        }
        Ok(())
    }

    fn greet(
        &mut self,
        connection: ConnectionId,
        request: u64,
        hello: Hello,
        actions: &mut Vec<ServerAction>,
    ) {
        let send = |kind| ServerAction::Send {
            connection,
            message: Message::new(request, kind),
        };
        let refusal = if hello.version != limits::PROTOCOL_VERSION {
            Some(format!(
                "protocol version {} is spoken here, not {}",
                limits::PROTOCOL_VERSION,
                hello.version
            ))
        } else if hello.space != 0 && hello.space != space_digest(&self.config.names) {
            Some(format!(
                "another list of servers holds here: {}",
                self.config.names.join(", ")
            ))
        } else {
            None
        };
        if let Some(reason) = refusal {
            actions.push(send(Kind::Refused(Refused::new(
                Reason::WrongVersion,
                reason.clone(),
            ))));
            actions.push(ServerAction::Disconnect { connection, reason });
            return;
        }
        if let Some(known) = self.connections.get_mut(&connection) {
            known.greeted = true;
        }
        actions.push(send(Kind::Welcome(Welcome {
            version: limits::PROTOCOL_VERSION,
            server: self.config.server.0,
            incarnation: self.config.incarnation,
            map: Some(self.config.map.clone()),
        })));
    }
}

impl Machine for ServerMachine {
    type Event = ServerEvent;
    type Action = ServerAction;

    fn handle(&mut self, event: ServerEvent, now: Time, actions: &mut Vec<ServerAction>) {
        match event {
            ServerEvent::Connected { connection, role } => {
                self.connections.insert(
                    connection,
                    Connection {
                        role,
                        greeted: false,
                    },
                );
            }
            ServerEvent::Disconnected { connection } => {
                if self.connections.remove(&connection).is_some() {
                    self.home.disconnected(connection, now);
                }
            }
            ServerEvent::Message {
                connection,
                message,
                body,
            } => {
                self.message(connection, message, body, now, actions);
            }
            ServerEvent::Tick => {
                let mut answers = Answers::new();
                self.home.tick(now, &mut answers);
                push_answers(answers, actions);
            }
        }
    }

    fn next_tick(&self) -> Option<Time> {
        self.home.next_tick()
    }
}

fn push_answers(answers: Answers, actions: &mut Vec<ServerAction>) {
    actions.extend(
        answers
            .into_iter()
            .map(|(connection, request, kind)| ServerAction::Send {
                connection,
                message: Message::new(request, kind),
            }),
    );
}

fn is_writers(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::OpenWriter(_)
            | Kind::Define(_)
            | Kind::Begin(_)
            | Kind::Put(_)
            | Kind::End(_)
            | Kind::Abort(_)
            | Kind::AwaitSeal(_)
            | Kind::CloseWriter(_)
            | Kind::Watermark(_)
    )
}

fn is_answer(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Welcome(_)
            | Kind::WriterOpened(_)
            | Kind::Defined(_)
            | Kind::Began(_)
            | Kind::Stored(_)
            | Kind::Fate(_)
            | Kind::Done(_)
            | Kind::ReaderOpened(_)
            | Kind::NoStep(_)
            | Kind::SealedStep(_)
            | Kind::Got(_)
            | Kind::Streams(_)
            | Kind::Described(_)
            | Kind::Refused(_)
    )
}
