//! A world in which servers, writers and readers run in virtual time over a
//! network that loses, doubles, delays and reorders messages and breaks
//! connections, while servers and clients crash, restart and are stopped.
//!
//! One seed is one schedule; the same seed gives the same run, event by event.

mod actors;
mod network;
mod oracle;
mod plan;
mod random;
mod readers;
mod writers;

use actors::{Group, Rank};
use network::Connection;
use oracle::Oracle;
use panta_staging::proto::message::{Map, Message};
use panta_staging::proto::mutant::Mutant;
use panta_staging::proto::server::{
    GatherPart, ServerAction, ServerConfig, ServerEvent, ServerMachine,
};
use panta_staging::proto::{ConnectionId, Machine, RegionId, ServerId};
use panta_transports::time::Time;
use plan::{CLOSE_AT, END_AT, Fault, Plan, QUIET_AT};
use random::Random;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub type Payload = Vec<u64>;

/// The map version that holds.
pub const MAP_VERSION: u64 = 2;

pub enum Event {
    ToServer {
        connection: u64,
        message: Message,
        body: Option<Payload>,
    },
    ToClient {
        connection: u64,
        message: Message,
        body: Option<Payload>,
    },
    ServerHears {
        connection: u64,
        connected: bool,
    },
    ClientHears {
        connection: u64,
        connected: bool,
    },
    ServerTick {
        server: usize,
    },
    RankTick {
        rank: usize,
    },
    /// A group goes on by itself.
    Act {
        group: usize,
        turn: u64,
    },
    RestartServer {
        server: usize,
    },
    RestartGroup {
        group: usize,
    },
    Fault(Fault),
    Mend,
}

pub struct Server {
    machine: Option<ServerMachine>,
    incarnation: u64,
    regions: BTreeMap<RegionId, Payload>,
    held_bytes: u64,
    tick_at: Option<Time>,
    isolated_until: Time,
}

/// How a run went.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    pub events: u64,
    pub faults: u64,
    pub steps_whole: u64,
    pub rolled_back: u64,
    pub writer_lost: u64,
    pub server_lost: u64,
    pub fenced: u64,
    pub trimmed: u64,
    pub deadlines: u64,
    pub discarded: u64,
    pub precious: u64,
    pub inherited: u64,
}

pub struct World {
    pub now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub random: Random,
    pub plan: Plan,
    servers: Vec<Server>,
    ranks: Vec<Rank>,
    groups: Vec<Group>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    next_region: u64,
    next_call: u64,
    pub oracle: Oracle,
    mutant: Option<Mutant>,
    trace: bool,
    violation: Option<String>,
    storm: Option<(Time, u64, u64, u64)>,
    events: u64,
    faults: u64,
    spins: (Time, u64),
    names: Vec<String>,
}

/// Runs one schedule.
pub fn run(
    seed: u64,
    mutant: Option<Mutant>,
    faulty: bool,
    trace: bool,
) -> Result<Summary, String> {
    World::new(seed, mutant, faulty, trace).run()
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>, faulty: bool, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random, faulty);
        let names = (0..plan.servers)
            .map(|server| format!("node{server}:7000"))
            .collect();
        let mut world = Self {
            now: Time(0),
            queue: BTreeMap::new(),
            sequence: 0,
            random,
            servers: Vec::new(),
            ranks: Vec::new(),
            groups: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 1,
            next_region: 1,
            next_call: 1,
            oracle: Oracle::default(),
            mutant,
            trace,
            violation: None,
            storm: None,
            events: 0,
            faults: 0,
            spins: (Time(0), 0),
            names,
            plan,
        };
        world.log(&format_args!("{:?}", world.plan));
        for server in 0..world.plan.servers {
            world.servers.push(Server {
                machine: None,
                incarnation: 0,
                regions: BTreeMap::new(),
                held_bytes: 0,
                tick_at: None,
                isolated_until: Time(0),
            });
            world.start_server(server);
        }
        world.create_groups();
        for (at, fault) in world.plan.faults.clone() {
            world.at(at, Event::Fault(fault));
        }
        world.at(QUIET_AT, Event::Mend);
        world
    }

    fn run(mut self) -> Result<Summary, String> {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > END_AT || self.violation.is_some() || self.is_over() {
                break;
            }
            if at > self.now {
                self.check_deadlines(at);
            }
            self.now = at;
            self.events += 1;
            self.count_spin();
            self.process(event);
        }
        if self.violation.is_none() {
            self.check_end();
        }
        match self.violation {
            Some(violation) => Err(format!("at {:?}: {violation}", self.now)),
            None => Ok(Summary {
                events: self.events,
                faults: self.faults,
                steps_whole: self.oracle.steps_whole,
                rolled_back: self.oracle.rolled_back,
                writer_lost: self.oracle.writer_lost,
                server_lost: self.oracle.server_lost,
                fenced: self.oracle.fenced,
                trimmed: self.oracle.trimmed,
                deadlines: self.oracle.deadlines,
                discarded: self.oracle.discarded,
                precious: self.oracle.precious,
                inherited: self.oracle.inherited,
            }),
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.now >= QUIET_AT
    }

    pub fn is_closing(&self) -> bool {
        self.now >= CLOSE_AT
    }

    pub fn at(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    pub fn after_ms(&mut self, delay_ms: u64, event: Event) {
        let at = self.now.after(Duration::from_millis(delay_ms));
        self.at(at, event);
    }

    pub fn fail(&mut self, violation: String) {
        self.log(&format_args!("VIOLATION {violation}"));
        self.violation.get_or_insert(violation);
    }

    pub fn log(&self, text: &fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>9.3} ms  {text}", self.now.0 as f64 / 1e6);
        }
    }

    pub fn region(&mut self) -> RegionId {
        self.next_region += 1;
        RegionId(self.next_region)
    }

    /// A machine that wants a tick again and again at one time never lets
    /// time pass.
    fn count_spin(&mut self) {
        if self.spins.0 == self.now {
            self.spins.1 += 1;
            if self.spins.1 > 20_000 {
                self.fail("time stands still: a machine asks for ticks without end".to_owned());
            }
        } else {
            self.spins = (self.now, 0);
        }
    }

    fn process(&mut self, event: Event) {
        match event {
            Event::ToServer {
                connection,
                message,
                body,
            } => self.deliver_to_server(connection, message, body),
            Event::ToClient {
                connection,
                message,
                body,
            } => self.deliver_to_client(connection, message, body),
            Event::ServerHears {
                connection,
                connected,
            } => self.server_hears(connection, connected),
            Event::ClientHears {
                connection,
                connected,
            } => self.client_hears(connection, connected),
            Event::ServerTick { server } => {
                self.servers[server].tick_at = None;
                self.server_handles(server, ServerEvent::Tick);
            }
            Event::RankTick { rank } => self.rank_tick(rank),
            Event::Act { group, turn } => self.act(group, turn),
            Event::RestartServer { server } => self.start_server(server),
            Event::RestartGroup { group } => self.start_group(group),
            Event::Fault(fault) => self.inflict(fault),
            Event::Mend => self.mend(),
        }
    }

    fn start_server(&mut self, server: usize) {
        if self.servers[server].machine.is_some() {
            return;
        }
        let incarnation = self.random.number();
        let mut machine = ServerMachine::new(ServerConfig {
            server: ServerId(server as u32),
            names: self.names.clone(),
            incarnation,
            map: Map {
                version: MAP_VERSION,
                bytes: vec![2; 8],
            },
            limit_bytes: self.plan.limit_bytes,
            reconnect_grace: Duration::from_millis(300),
        });
        if let Some(mutant) = self.mutant {
            machine.plant(mutant);
        }
        self.log(&format_args!("server {server} starts as {incarnation:x}"));
        self.servers[server].machine = Some(machine);
        self.servers[server].incarnation = incarnation;
    }

    fn inflict(&mut self, fault: Fault) {
        self.faults += 1;
        self.log(&format_args!("FAULT {fault:?}"));
        match fault {
            Fault::CrashServer { server, down_ms } => self.crash_server(server, down_ms),
            Fault::CrashGroup { group, down_ms } => {
                self.stop_group(group);
                self.groups[group].done |= self.groups[group].replaced;
                self.after_ms(down_ms, Event::RestartGroup { group });
            }
            Fault::PauseGroup {
                group,
                pause_ms,
                replaced,
            } => self.pause_group(group, pause_ms, replaced),
            Fault::BreakConnections { percent } => {
                let all: Vec<u64> = self.connections.keys().copied().collect();
                for connection in all {
                    if self.random.chance(percent) {
                        self.break_connection(connection);
                    }
                }
            }
            Fault::Isolate { server, for_ms } => {
                self.servers[server].isolated_until = self.now.after(Duration::from_millis(for_ms));
            }
            Fault::Storm {
                for_ms,
                drop,
                double,
                delay,
            } => {
                let until = self.now.after(Duration::from_millis(for_ms)).min(QUIET_AT);
                self.storm = Some((until, drop, double, delay));
            }
        }
    }

    fn crash_server(&mut self, server: usize, down_ms: u64) {
        if self.servers[server].machine.take().is_none() {
            return;
        }
        self.servers[server].regions.clear();
        self.servers[server].held_bytes = 0;
        self.servers[server].tick_at = None;
        let mine: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.server == server)
            .map(|(number, _)| *number)
            .collect();
        for connection in mine {
            self.break_connection(connection);
            // The next life of the server never hears of it.
            if let Some(connection) = self.connections.get_mut(&connection) {
                connection.server_open = false;
            }
        }
        self.after_ms(down_ms, Event::RestartServer { server });
    }

    /// The end of all faults.
    fn mend(&mut self) {
        self.log(&format_args!("everything is mended"));
        self.storm = None;
        for server in 0..self.servers.len() {
            self.servers[server].isolated_until = self.now;
            self.start_server(server);
        }
        self.mend_groups();
    }

    /// Gives an event to a server and does what it wants.
    fn server_handles(&mut self, server: usize, event: ServerEvent) {
        let mut actions = Vec::new();
        let Some(machine) = self.servers[server].machine.as_mut() else {
            return;
        };
        machine.handle(event, self.now, &mut actions);
        let (tick, held) = (machine.next_tick(), machine.held_bytes());
        for action in actions {
            self.server_acts(server, action);
        }
        let host = &mut self.servers[server];
        if held > self.plan.limit_bytes || host.held_bytes > self.plan.limit_bytes {
            let stored = host.held_bytes;
            self.fail(format!(
                "server {server} holds {held} bytes ({stored} of payload), limit {}",
                self.plan.limit_bytes
            ));
            return;
        }
        if let Some(tick) = tick
            && host.tick_at.is_none_or(|at| tick < at)
        {
            host.tick_at = Some(tick);
            self.at(tick, Event::ServerTick { server });
        }
    }

    fn server_acts(&mut self, server: usize, action: ServerAction) {
        match action {
            ServerAction::Send {
                connection,
                message,
            } => {
                let life = self.servers[server].incarnation;
                if let Err(violation) = self.oracle.server_sends(life, &message, self.plan.writers)
                {
                    self.fail(violation);
                }
                self.send_to_client(connection.0, message, None);
            }
            ServerAction::Gather {
                connection,
                request,
                got,
                parts,
            } => {
                let mut body = Payload::new();
                for part in &parts {
                    if let Err(violation) = gather(&self.servers[server].regions, part, &mut body) {
                        self.fail(violation);
                        return;
                    }
                }
                let kind = panta_staging::proto::message::Kind::Got(got);
                self.send_to_client(connection.0, Message::new(request, kind), Some(body));
            }
            ServerAction::Drop { region } => match self.servers[server].regions.remove(&region) {
                Some(body) => self.servers[server].held_bytes -= 8 * body.len() as u64,
                None => self.fail(format!(
                    "server {server} drops {region:?}, which it does not have"
                )),
            },
            ServerAction::Disconnect { connection, reason } => {
                self.log(&format_args!(
                    "server {server} disconnects {}: {reason}",
                    connection.0
                ));
                self.break_connection(connection.0);
            }
        }
    }

    /// Keeps a body for a server.
    fn keep(&mut self, server: usize, body: Option<Payload>) -> Option<RegionId> {
        let body = body?;
        let region = self.region();
        self.servers[server].held_bytes += 8 * body.len() as u64;
        self.servers[server].regions.insert(region, body);
        Some(region)
    }

    fn server_message(&mut self, connection: u64, message: Message, body: Option<Payload>) {
        let Some(server) = self
            .connections
            .get(&connection)
            .map(|connection| connection.server)
        else {
            return;
        };
        let body = self.keep(server, body);
        let event = ServerEvent::Message {
            connection: ConnectionId(connection),
            message,
            body,
        };
        self.server_handles(server, event);
    }
}

/// Copies the wanted part of a stored piece, as a driver would.
fn gather(
    regions: &BTreeMap<RegionId, Payload>,
    part: &GatherPart,
    body: &mut Payload,
) -> Result<(), String> {
    let Some(region) = regions.get(&part.region) else {
        return Err(format!("gather names {:?}, which was dropped", part.region));
    };
    let skipped = if part.whole {
        0
    } else {
        part.start[0] - part.piece_start[0]
    };
    let cells = if part.whole {
        part.length_bytes / 8
    } else {
        part.count[0]
    };
    let first = (part.offset_bytes / 8 + skipped) as usize;
    match region.get(first..first + cells as usize) {
        Some(cells) => body.extend_from_slice(cells),
        None => return Err(format!("gather reads beyond {:?}", part.region)),
    }
    Ok(())
}
