//! The side that maps another process's regions.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ShmError;
use super::mapped::{Mapped, MappedRegion, map_sealed};
use super::message::{Message, Offer};
use super::page::SharedPage;
use super::pass::{Connection, Packet};
use super::ring::{Side, TheirSide};
use super::server::{Rings, ShmOptions};
use crate::region::MAX_REGIONS;
use crate::time::Wait;

/// A connection to a [`ShmServer`](super::ShmServer): its regions, mapped
/// read-only as they come.
///
/// Somebody has to call [`ShmRemote::drain`] when the socket is readable, so
/// that regions which the server gives up are unmapped.
#[derive(Debug)]
pub struct ShmRemote {
    connection: Arc<Connection>,
    state: Mutex<State>,
    /// Calls that wait for a region, and want to be the ones that find it.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    regions: BTreeMap<u32, Arc<MappedRegion>>,
    /// The latest that went, so that nobody waits for them.
    gone: BTreeSet<u32>,
    lost: bool,
}

/// What a packet changes.
enum Change {
    Came(Arc<MappedRegion>),
    Gone(Option<Arc<MappedRegion>>),
}

/// One call more that waits, while it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ShmRemote {
    /// Connects to the server that made the offer, and checks that its memory
    /// is the one meant. With `linked` there are rings as well, if the offer
    /// was for a linked one.
    ///
    /// # Errors
    /// [`ShmError::NotHere`] where the server is not on this node,
    /// [`ShmError::OtherMemory`], [`ShmError::OtherUser`],
    /// [`ShmError::Unsealed`], [`ShmError::Misbehaved`], [`ShmError::Lost`]
    /// where the server does not know the offer (any more),
    /// [`ShmError::NotReady`], [`ShmError::System`].
    pub fn connect(
        offer: &Offer,
        linked: bool,
        options: &ShmOptions,
        wait: &Wait,
    ) -> Result<(Self, Option<Rings>), ShmError> {
        let connection = Connection::connect(&offer.name, wait)?;
        let side = if linked {
            Some(Side::make(options.ring_bytes)?)
        } else {
            None
        };
        let hello = Message::Hello {
            linked,
            token: offer.token,
        };
        let descriptors = side.as_ref().map(Side::descriptors);
        let descriptors = descriptors.as_ref().map_or(&[][..], |some| &some[..]);
        if !connection.send(&hello.to_bytes(), descriptors)? {
            return Err(misbehaved("it has no room for a first packet"));
        }
        let mut descriptors = welcome(&connection, linked, wait)?.into_iter();
        let page = descriptors.next();
        let page = page.ok_or(misbehaved("no page came with its welcome"))?;
        if SharedPage::read_nonce(page.as_fd())? != offer.nonce {
            return Err(ShmError::OtherMemory {
                what: "its page holds another nonce",
            });
        }
        let connection = Arc::new(connection);
        let rings = match side {
            Some(side) => {
                let theirs = TheirSide::receive(descriptors)?;
                let socket = connection
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(ShmError::system("dup of a socket"))?;
                let (writer, reader) =
                    side.join(theirs, options.message_bytes, Some(Arc::new(socket)));
                Some(Rings { writer, reader })
            }
            None => None,
        };
        let remote = Self {
            connection,
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
        };
        Ok((remote, rings))
    }

    /// `bytes` at `offset` of a region, in place. Waits for a region that has
    /// not come yet.
    ///
    /// # Errors
    /// [`ShmError::OutOfRange`], [`ShmError::Gone`], [`ShmError::Lost`] where
    /// the server is gone and the region was not mapped before,
    /// [`ShmError::NotReady`]; and what is wrong with what came.
    pub fn map(
        &self,
        region: u32,
        offset: u64,
        bytes: usize,
        wait: &Wait,
    ) -> Result<Mapped, ShmError> {
        if let Some(found) = self.lock().regions.get(&region).cloned() {
            return found.slice(offset, bytes);
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let drained = self.drain();
            let state = self.lock();
            let found = state.regions.get(&region).cloned();
            let is_gone = state.gone.contains(&region);
            drop(state);
            if let Some(found) = found {
                return found.slice(offset, bytes);
            }
            if is_gone {
                return Err(ShmError::Gone { region });
            }
            drained?;
            self.connection
                .wait_readable("waiting for a region to be passed", wait)?;
        }
    }

    /// Takes what lies on the socket: regions that are new, and those that are
    /// gone, which are unmapped once nobody has bytes of them. Never waits.
    ///
    /// # Errors
    /// [`ShmError::Lost`] where the server closed it or died; what was mapped
    /// before can still be used. [`ShmError::Misbehaved`],
    /// [`ShmError::Unsealed`], [`ShmError::TooMany`], [`ShmError::System`].
    pub fn drain(&self) -> Result<(), ShmError> {
        let (mut gone, mut came) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        if state.lost {
            return Err(ShmError::Lost);
        }
        let drained = loop {
            match self.connection.receive() {
                Ok(None) => break Ok(()),
                Ok(Some(packet)) => match self.take(&mut state, packet) {
                    Ok(Change::Came(region)) => came.push(region),
                    Ok(Change::Gone(region)) => gone.extend(region),
                    Err(error) => break Err(error),
                },
                Err(error) => break Err(error),
            }
        };
        state.lost = drained.is_err();
        // Unmapping takes long, and sends; nobody has to wait for it.
        drop(state);
        drop(gone);
        // A new one will be looked at soon. Of several some may never be: they
        // were there before.
        if let [region] = &came[..] {
            // What fails here will where it is looked at.
            let _ = region.make_present();
        }
        drained
    }

    /// [`drain`](Self::drain), for a thread that has nothing else to do: leaves
    /// it to calls that wait.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn tidy(&self) -> Result<(), ShmError> {
        match self.waiting.load(Ordering::Relaxed) {
            0 => self.drain(),
            _ => Ok(()),
        }
    }

    /// How many regions are mapped.
    #[must_use]
    pub fn regions(&self) -> usize {
        self.lock().regions.len()
    }

    /// Handles one packet.
    fn take(&self, state: &mut MutexGuard<'_, State>, packet: Packet) -> Result<Change, ShmError> {
        let message = Message::from_bytes(&packet.bytes).map_err(misbehaved)?;
        match (message, packet.descriptors.as_slice()) {
            (Message::Region { region, bytes }, [fd]) => {
                if state.regions.len() >= MAX_REGIONS {
                    return Err(ShmError::TooMany {
                        what: "regions of one process",
                        limit: MAX_REGIONS as u64,
                    });
                }
                if state.regions.contains_key(&region) {
                    return Err(misbehaved("two regions have one number"));
                }
                let mapping = map_sealed(fd, bytes)?;
                let owner = Arc::clone(&self.connection);
                let mapped = Arc::new(MappedRegion::new(region, mapping, owner));
                state.regions.insert(region, Arc::clone(&mapped));
                Ok(Change::Came(mapped))
            }
            (Message::Gone { region }, []) => {
                state.gone.insert(region);
                if state.gone.len() > MAX_REGIONS {
                    state.gone.pop_first();
                }
                Ok(Change::Gone(state.regions.remove(&region)))
            }
            _ => Err(misbehaved("a message that it has no reason to send")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for ShmRemote {
    /// The socket: readable when [`ShmRemote::drain`] has something to do. Its
    /// end is the server's end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Waits for the server's first packet; the descriptors that came with it.
fn welcome(connection: &Connection, linked: bool, wait: &Wait) -> Result<Vec<OwnedFd>, ShmError> {
    loop {
        if let Some(packet) = connection.receive()? {
            let message = Message::from_bytes(&packet.bytes).map_err(misbehaved)?;
            if message != (Message::Welcome { linked }) {
                return Err(misbehaved("it answers with something else"));
            }
            return Ok(packet.descriptors);
        }
        connection.wait_readable("waiting for shared memory to be passed", wait)?;
    }
}

fn misbehaved(what: &'static str) -> ShmError {
    ShmError::Misbehaved { what }
}
