//! Connections, and what happens to messages on their way.

use super::plan::QUIET_AT;
use super::{Event, Payload, World};
use panta_staging::proto::client::ClientEvent;
use panta_staging::proto::codec;
use panta_staging::proto::message::Message;
use panta_staging::proto::server::{Role, ServerEvent};
use panta_staging::proto::{ConnectionId, ServerId};

pub struct Connection {
    pub rank: usize,
    pub server: usize,
    /// Whether each side still believes in it.
    pub client_open: bool,
    pub server_open: bool,
    broken: bool,
}

impl World {
    /// A rank wants a connection.
    pub fn connect(&mut self, rank: usize, server: usize) {
        let number = self.next_connection;
        self.next_connection += 1;
        let reachable = self.servers[server].machine.is_some()
            && self.servers[server].isolated_until <= self.now;
        let connection = Connection {
            rank,
            server,
            client_open: true,
            server_open: reachable,
            broken: !reachable,
        };
        self.connections.insert(number, connection);
        self.ranks[rank].links.insert(server, number);
        let delay = self.random.between(1, 5);
        if reachable {
            self.after_ms(
                delay,
                Event::ServerHears {
                    connection: number,
                    connected: true,
                },
            );
            self.after_ms(
                delay + 1,
                Event::ClientHears {
                    connection: number,
                    connected: true,
                },
            );
        } else {
            self.after_ms(
                delay,
                Event::ClientHears {
                    connection: number,
                    connected: false,
                },
            );
        }
    }

    /// Both sides will hear of the end, each in its time.
    pub fn break_connection(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.broken {
            return;
        }
        connection.broken = true;
        let (client, server) = (self.random.between(0, 40), self.random.between(0, 40));
        self.after_ms(
            client,
            Event::ClientHears {
                connection: number,
                connected: false,
            },
        );
        self.after_ms(
            server,
            Event::ServerHears {
                connection: number,
                connected: false,
            },
        );
    }

    pub fn server_hears(&mut self, number: u64, connected: bool) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let server = connection.server;
        if connected {
            if !connection.broken {
                let event = ServerEvent::Connected {
                    connection: ConnectionId(number),
                    role: Role::Writer,
                };
                self.server_handles(server, event);
            }
        } else if std::mem::take(&mut connection.server_open) {
            self.server_handles(
                server,
                ServerEvent::Disconnected {
                    connection: ConnectionId(number),
                },
            );
            self.forget_connection(number);
        }
    }

    pub fn client_hears(&mut self, number: u64, connected: bool) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let (rank, server) = (connection.rank, connection.server);
        if let Some(until) = self.ranks[rank].stopped_until(self.now) {
            self.at(
                until,
                Event::ClientHears {
                    connection: number,
                    connected,
                },
            );
            return;
        }
        if connected {
            if !connection.broken {
                self.rank_handles(
                    rank,
                    ClientEvent::Connected {
                        server: ServerId(server as u32),
                    },
                );
            }
        } else if std::mem::take(&mut connection.client_open) {
            self.forget_connection(number);
            if self.ranks[rank].links.get(&server) == Some(&number) {
                self.ranks[rank].links.remove(&server);
                let event = ClientEvent::Disconnected {
                    server: ServerId(server as u32),
                    detail: "connection reset".to_owned(),
                };
                self.rank_handles(rank, event);
            }
        }
    }

    fn forget_connection(&mut self, number: u64) {
        if self
            .connections
            .get(&number)
            .is_some_and(|known| !known.client_open && !known.server_open)
        {
            self.connections.remove(&number);
        }
    }

    pub fn send_to_server(
        &mut self,
        rank: usize,
        server: usize,
        message: Message,
        body: Option<Payload>,
    ) {
        let Some(&connection) = self.ranks[rank].links.get(&server) else {
            return;
        };
        for delay in self.fate(server) {
            let event = Event::ToServer {
                connection,
                message: message.clone(),
                body: body.clone(),
            };
            self.after_us(delay, event);
        }
    }

    pub fn send_to_client(&mut self, connection: u64, message: Message, body: Option<Payload>) {
        let Some(server) = self
            .connections
            .get(&connection)
            .map(|connection| connection.server)
        else {
            return;
        };
        for delay in self.fate(server) {
            let event = Event::ToClient {
                connection,
                message: message.clone(),
                body: body.clone(),
            };
            self.after_us(delay, event);
        }
    }

    fn after_us(&mut self, delay_us: u64, event: Event) {
        self.at(
            panta_transports::time::Time(self.now.0 + delay_us * 1_000),
            event,
        );
    }

    /// The delays of the copies of a message that arrive: none, one, two.
    fn fate(&mut self, server: usize) -> Vec<u64> {
        let jitter = if self.now < QUIET_AT {
            self.plan.jitter_ms
        } else {
            0
        };
        let mut delays = vec![200 + self.random.between(0, jitter * 1_000)];
        if self.servers[server].isolated_until > self.now {
            return Vec::new();
        }
        let Some((until, drop, double, delay)) = self.storm else {
            return delays;
        };
        if until <= self.now {
            return delays;
        }
        if self.random.chance(drop) {
            return Vec::new();
        }
        if self.random.chance(delay) {
            delays[0] += self.random.between(10_000, 900_000);
        }
        if self.random.chance(double) {
            delays.push(200 + self.random.between(0, 400_000));
        }
        delays
    }

    pub fn deliver_to_server(&mut self, number: u64, message: Message, body: Option<Payload>) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if !connection.server_open || self.servers[connection.server].machine.is_none() {
            return;
        }
        let Some(message) = self.over_the_wire(message, body.as_ref()) else {
            return;
        };
        self.server_message(number, message, body);
    }

    pub fn deliver_to_client(&mut self, number: u64, message: Message, body: Option<Payload>) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let (rank, server) = (connection.rank, connection.server);
        if !connection.client_open || self.ranks[rank].links.get(&server) != Some(&number) {
            return;
        }
        if let Some(until) = self.ranks[rank].stopped_until(self.now) {
            self.at(
                until,
                Event::ToClient {
                    connection: number,
                    message,
                    body,
                },
            );
            return;
        }
        let Some(message) = self.over_the_wire(message, body.as_ref()) else {
            return;
        };
        let region = body.map(|body| {
            let region = self.region();
            self.ranks[rank].regions.insert(region, body);
            region
        });
        let event = ClientEvent::Message {
            server: ServerId(server as u32),
            message,
            body: region,
        };
        self.rank_handles(rank, event);
    }

    /// In some runs every message goes through the codec.
    fn over_the_wire(&mut self, message: Message, body: Option<&Payload>) -> Option<Message> {
        if codec::body_bytes(&message.kind) != body.map(|body| 8 * body.len() as u64) {
            self.fail(format!("the body of {:?} has another length", message.kind));
            return None;
        }
        if !self.plan.encode {
            return Some(message);
        }
        match codec::decode(&codec::encode(&message)) {
            Ok(decoded) if decoded == message => Some(decoded),
            other => {
                self.fail(format!("{message:?} comes out of the codec as {other:?}"));
                None
            }
        }
    }
}
