//! The side whose regions are mapped by others.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use super::error::ShmError;
use super::message::{Message, Offer, SECRET_BYTES};
use super::page::SharedPage;
use super::pass::{Connection, Listener, Packet};
use super::ring::{RingReader, RingWriter, Side, TheirSide};
use crate::random;
use crate::region::{Arena, Charge, MAX_REGIONS, Region};
use crate::time::Time;

/// The most offers that wait to be taken, and connections that were forgotten
/// and have memory mapped.
const MAX_OFFERS: usize = 4096;

/// The most connections that have not named an offer; beyond these the oldest
/// is closed.
const MAX_UNPROVEN: usize = 64;

/// How long a connection may take to name its offer, where others want its
/// place.
const PROVE_WITHIN: Duration = Duration::from_secs(2);

/// The most that waits for one connection: twice what it can have mapped.
const MAX_WAITING: usize = 2 * MAX_REGIONS;

/// The epoll number of the listener; connections count from 1.
const LISTENER: u64 = 0;

/// The epoll number of what tells that connections were cut off.
const CUT_OFF: u64 = u64::MAX;

/// How rings are made.
#[derive(Clone, Copy, Debug)]
pub struct ShmOptions {
    /// Data bytes of this side's ring.
    pub ring_bytes: usize,
    /// Bytes of one frame, sent or received.
    pub message_bytes: u32,
}

impl Default for ShmOptions {
    fn default() -> Self {
        Self {
            ring_bytes: 256 << 10,
            message_bytes: 16 << 20,
        }
    }
}

/// The rings of a linked connection.
#[derive(Debug)]
pub struct Rings {
    /// To the other side.
    pub writer: RingWriter,
    /// From the other side.
    pub reader: RingReader,
}

/// What became of an offer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each process that comes or goes, and not kept"
)]
pub enum ShmEvent {
    /// It was taken: regions are passed from now on.
    Joined {
        /// The number that the offer was made for.
        number: u64,
        /// Where the offer was for a linked one.
        rings: Option<Rings>,
    },
    /// The process that took it closed the connection, died, or broke the
    /// protocol.
    Lost {
        /// The number that the offer was made for.
        number: u64,
        /// Which of these.
        why: ShmError,
    },
}

/// Passes an arena's regions to processes of the same user on the same node
/// that were made an offer.
///
/// It has no thread: as a file descriptor it is readable when
/// [`ShmServer::handle`] has something to do.
#[derive(Debug)]
pub struct ShmServer(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    arena: Arena,
    options: ShmOptions,
    listener: Listener,
    page: SharedPage,
    pub(super) epoll: OwnedFd,
    pub(super) cut_off: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) offers: BTreeMap<[u8; SECRET_BYTES], Expected>,
    unproven: BTreeMap<u64, (Connection, Time)>,
    pub(super) joined: BTreeMap<u64, Joined>,
    /// Those that were forgotten, until they have unmapped everything.
    pub(super) forgotten: BTreeMap<u64, Joined>,
    last_key: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) number: u64,
    linked: bool,
}

#[derive(Debug)]
pub(super) struct Joined {
    pub(super) number: u64,
    pub(super) connection: Arc<Connection>,
    /// What the socket has not taken yet.
    pub(super) outbox: VecDeque<Waiting>,
    /// Regions that it was passed and has not said to have unmapped.
    pub(super) passed: BTreeMap<u32, Passed>,
    /// It takes nothing: no more is sent, and `handle` forgets it.
    pub(super) is_cut_off: bool,
}

#[derive(Debug)]
pub(super) struct Passed {
    pub(super) bytes: u64,
    pub(super) gone: bool,
    /// Once it was sent: its memory is in use until it is unmapped there.
    pub(super) charge: Option<Arc<Charge>>,
}

#[derive(Debug)]
pub(super) enum Waiting {
    Region { number: u32, region: Weak<Region> },
    Gone(u32),
}

impl ShmServer {
    /// Listens, for an arena whose regions are shared.
    ///
    /// # Errors
    /// [`ShmError::System`], [`ShmError::NoRandomness`].
    pub fn open(arena: &Arena, options: ShmOptions) -> Result<Self, ShmError> {
        let system = ShmError::system("epoll of shared memory");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(&system)?;
        let listener = Listener::bind()?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN).map_err(&system)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let cut_off = eventfd(0, flags).map_err(&system)?;
        let data = epoll::EventData::new_u64(CUT_OFF);
        epoll::add(&epoll, &cut_off, data, epoll::EventFlags::IN).map_err(&system)?;
        let inner = Arc::new(Inner {
            arena: arena.clone(),
            options,
            listener,
            page: SharedPage::make()?,
            epoll,
            cut_off,
            state: Mutex::default(),
        });
        let (made, gone) = (Arc::downgrade(&inner), Arc::downgrade(&inner));
        arena.on_new_region(Box::new(move |region| {
            if let Some(inner) = made.upgrade() {
                inner.region_made(region);
            }
        }));
        arena.on_region_gone(Box::new(move |region| {
            if let Some(inner) = gone.upgrade() {
                inner.region_gone(region);
            }
        }));
        Ok(Self(inner))
    }

    /// An offer for one process, good for one time; what becomes of it is told
    /// under `number`.
    ///
    /// # Errors
    /// [`ShmError::TooMany`] where too many wait, [`ShmError::NoRandomness`].
    pub fn offer(&self, number: u64, linked: bool) -> Result<Offer, ShmError> {
        let mut token = [0; SECRET_BYTES];
        random::fill(&mut token)?;
        let mut state = self.0.lock();
        if state.offers.len() + state.forgotten.len() >= MAX_OFFERS {
            return Err(ShmError::TooMany {
                what: "offers of shared memory that wait to be taken, and processes that were dropped and have it mapped",
                limit: MAX_OFFERS as u64,
            });
        }
        state.offers.insert(token, Expected { number, linked });
        Ok(Offer {
            name: self.0.listener.name().to_vec(),
            token,
            nonce: self.0.page.nonce(),
        })
    }

    /// Accepts, passes regions, and hears what others say. Never waits.
    pub fn handle(&self) -> Vec<ShmEvent> {
        let mut events = Vec::new();
        let mut ready = Vec::with_capacity(64);
        let none = rustix::event::Timespec::default();
        let buffer = rustix::buffer::spare_capacity(&mut ready);
        // It is asked again when something is left.
        if epoll::wait(&self.0.epoll, buffer, Some(&none)).is_err() {
            return events;
        }
        let mut state = self.0.lock();
        for event in ready {
            let key = event.data.u64();
            if key == LISTENER {
                self.0.accept(&mut state);
            } else if key == CUT_OFF {
                events.extend(self.0.forget_cut_off(&mut state));
            } else if state.unproven.contains_key(&key) {
                events.extend(self.0.prove(&mut state, key));
            } else if let Some(forgotten) = state.forgotten.get_mut(&key) {
                // Its end is that of its process, or of all that it had mapped.
                if forgotten.has_ended() {
                    state.forgotten.remove(&key);
                }
            } else {
                events.extend(self.0.serve(&mut state, key));
            }
        }
        events
    }
}

impl AsFd for ShmServer {
    /// Readable when [`ShmServer::handle`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.epoll.as_fd()
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, state: &mut MutexGuard<'_, State>) {
        // Those of other users, and those that ended meanwhile, are closed.
        while let Ok(Some(connection)) = self.listener.accept() {
            state.last_key += 1;
            let key = state.last_key;
            if self.watch(key, &connection).is_err() {
                continue;
            }
            let now = Time::now();
            let oldest = state.unproven.first_key_value();
            let oldest = oldest.map(|(key, (_, since))| (*key, now.since(*since)));
            if let Some((oldest, age)) = oldest
                && (age > PROVE_WITHIN || state.unproven.len() >= MAX_UNPROVEN)
            {
                state.unproven.remove(&oldest);
            }
            state.unproven.insert(key, (connection, now));
        }
    }

    /// Hears the first packet of a connection.
    fn prove(&self, state: &mut MutexGuard<'_, State>, key: u64) -> Option<ShmEvent> {
        let (connection, since) = state.unproven.remove(&key)?;
        let Packet { bytes, descriptors } = match connection.receive() {
            Ok(Some(packet)) => packet,
            Ok(None) => {
                state.unproven.insert(key, (connection, since));
                return None;
            }
            // Nobody waits for one that has named no offer.
            Err(_) => return None,
        };
        let Ok(Message::Hello { linked, token }) = Message::from_bytes(&bytes) else {
            return None;
        };
        let expected = state.offers.remove(&token)?;
        let number = expected.number;
        if linked != expected.linked {
            let what = "it links where that was not agreed, or does not where it was";
            let why = ShmError::Misbehaved { what };
            return Some(ShmEvent::Lost { number, why });
        }
        Some(
            match self.welcome(state, key, connection, expected, descriptors) {
                Ok(rings) => ShmEvent::Joined { number, rings },
                Err(why) => ShmEvent::Lost { number, why },
            },
        )
    }

    /// Answers one that has named its offer, and passes the regions there are.
    fn welcome(
        &self,
        state: &mut MutexGuard<'_, State>,
        key: u64,
        connection: Connection,
        expected: Expected,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Option<Rings>, ShmError> {
        let Expected { number, linked } = expected;
        if !linked && !descriptors.is_empty() {
            let what = "descriptors that nobody asked for";
            return Err(ShmError::Misbehaved { what });
        }
        let sides = if linked {
            Some((
                Side::make(self.options.ring_bytes)?,
                TheirSide::receive(descriptors)?,
            ))
        } else {
            None
        };
        let mut passed = vec![self.page.as_fd()];
        if let Some((own, _)) = &sides {
            passed.extend(own.descriptors());
        }
        if !connection.send(&Message::Welcome { linked }.to_bytes(), &passed)? {
            return Err(ShmError::Lost);
        }
        let rings = sides.map(|(own, theirs)| {
            // Its end is noticed by whoever calls `handle`.
            let (writer, reader) = own.join(theirs, self.options.message_bytes, None);
            Rings { writer, reader }
        });
        let mut joined = Joined {
            number,
            connection: Arc::new(connection),
            outbox: VecDeque::new(),
            passed: BTreeMap::new(),
            is_cut_off: false,
        };
        // Under the lock, so that no region is made or given up between.
        for region in self.arena.regions() {
            joined.queue_region(&region);
        }
        self.flush(key, &mut joined)?;
        state.joined.insert(key, joined);
        Ok(rings)
    }

    /// Hears what one says that has joined, and sends what waits.
    fn serve(&self, state: &mut MutexGuard<'_, State>, key: u64) -> Option<ShmEvent> {
        let joined = state.joined.get_mut(&key)?;
        let number = joined.number;
        let served = joined.hear().and_then(|()| self.flush(key, joined));
        let why = served.err()?;
        if let Some(joined) = state.joined.remove(&key)
            && !matches!(why, ShmError::Lost)
        {
            // It keeps what it has mapped.
            self.forget(state, key, joined);
        }
        Some(ShmEvent::Lost { number, why })
    }

    fn region_made(&self, region: &Arc<Region>) {
        let mut state = self.lock();
        // It may be given up already.
        if self.arena.region(region.id()).is_none() {
            return;
        }
        for (key, joined) in &mut state.joined {
            joined.queue_region(region);
            // An end of the connection is noticed by `handle`.
            let _ = self.flush(*key, joined);
            self.tell_if_cut_off(joined);
        }
    }

    fn region_gone(&self, region: u32) {
        let mut state = self.lock();
        for (key, joined) in &mut state.joined {
            if let Some(passed) = joined.passed.get_mut(&region) {
                passed.gone = true;
                joined.push(Waiting::Gone(region));
                let _ = self.flush(*key, joined);
                self.tell_if_cut_off(joined);
            }
        }
        for forgotten in state.forgotten.values_mut() {
            if let Some(passed) = forgotten.passed.get_mut(&region) {
                passed.gone = true;
            }
        }
    }

    /// Sends what the socket takes, and asks to be told when it takes more.
    fn flush(&self, key: u64, joined: &mut Joined) -> Result<(), ShmError> {
        let had = joined.outbox.len();
        let sent = joined.send_waiting();
        let is_left = !joined.outbox.is_empty();
        // Nothing changes while there is nothing, which is mostly so.
        if had > 0 {
            let out = if is_left {
                epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::empty()
            };
            let flags = epoll::EventFlags::IN | out;
            let data = epoll::EventData::new_u64(key);
            epoll::modify(&self.epoll, &*joined.connection, data, flags)
                .map_err(ShmError::system("epoll of a connection"))?;
        }
        sent
    }

    fn watch(&self, key: u64, connection: &Connection) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(key);
        epoll::add(&self.epoll, connection, data, epoll::EventFlags::IN)
    }
}

impl Joined {
    fn queue_region(&mut self, region: &Arc<Region>) {
        if self.is_cut_off {
            return;
        }
        let passed = Passed {
            bytes: region.bytes(),
            gone: false,
            charge: None,
        };
        if self.passed.insert(region.id(), passed).is_none() {
            self.push(Waiting::Region {
                number: region.id(),
                region: Arc::downgrade(region),
            });
        }
    }

    /// Queues what is to be sent. One that takes nothing for so long that this
    /// would grow without end is cut off. What it was sent is charged still: it
    /// is heard until it has unmapped that, or its process has ended.
    fn push(&mut self, waiting: Waiting) {
        self.is_cut_off |= self.outbox.len() >= MAX_WAITING;
        match self.is_cut_off {
            true => self.outbox.clear(),
            false => self.outbox.push_back(waiting),
        }
    }

    fn send_waiting(&mut self) -> Result<(), ShmError> {
        while let Some(packet) = self.outbox.front() {
            let is_sent = match packet {
                // One that went before it was passed is not passed; that it is
                // gone is said all the same.
                Waiting::Region { number, region } => match region.upgrade() {
                    Some(region) => {
                        let is_sent = self.send_region(&region)?;
                        if is_sent && let Some(passed) = self.passed.get_mut(number) {
                            passed.charge = Some(region.charge());
                        }
                        is_sent
                    }
                    None => {
                        self.passed.remove(number);
                        true
                    }
                },
                Waiting::Gone(region) => {
                    let message = Message::Gone { region: *region };
                    self.connection.send(&message.to_bytes(), &[])?
                }
            };
            if !is_sent {
                return Ok(());
            }
            self.outbox.pop_front();
        }
        Ok(())
    }

    fn send_region(&self, region: &Region) -> Result<bool, ShmError> {
        let Some(fd) = region.fd() else {
            return Ok(true);
        };
        let message = Message::Region {
            region: region.id(),
            bytes: region.bytes(),
        };
        self.connection.send(&message.to_bytes(), &[fd])
    }

    /// All that it says: which regions it has unmapped.
    pub(super) fn hear(&mut self) -> Result<(), ShmError> {
        while let Some(packet) = self.connection.receive()? {
            match Message::from_bytes(&packet.bytes) {
                Ok(Message::Unmapped { region }) => {
                    // Its number is given to no other region, so that it is
                    // not passed again.
                    if let Some(passed) = self.passed.get(&region)
                        && passed.gone
                    {
                        self.passed.remove(&region);
                    }
                }
                Ok(_) => {
                    let what = "a message that it has no reason to send";
                    return Err(ShmError::Misbehaved { what });
                }
                Err(what) => return Err(ShmError::Misbehaved { what }),
            }
        }
        Ok(())
    }
}
