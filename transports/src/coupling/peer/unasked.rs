//! What comes over the link: messages, and what was subscribed to between them.
//!
//! ```text
//!   socket ──frames──> message       to whoever receives
//!                      push, wanted  straight to where it belongs
//!                      push          held until it is wanted
//! ```
//! Whoever looks for a message passes pushes over, and holds them; whoever looks for
//! a push stops at a message, which the next that receives is given. What is taken from
//! the socket so is told of by a descriptor: the socket no longer does.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use super::core::{Core, Looking, lock, lost_by, lost_by_close};
use super::lane::receive_into;
use super::pushes::Known;
use crate::channel::{ChannelError, PolledReceiver, UninitSlice};
use crate::copy::copy_bytes_uninit;
use crate::coupling::wire::{Frame, parse_frame};
use crate::coupling::{CouplingError, Lost, Piece, Tag};
use crate::time::{Time, Wait};

/// The name of the call, in errors.
const PUSH: &str = "receive_push";

/// The receiving side of the link.
pub(super) struct Receiving {
    pub(super) receiver: PolledReceiver,
    /// A push that is being received, to be held.
    arriving: Option<(Tag, Vec<u8>)>,
    /// A message that came where a push was looked for.
    pub(super) passed: Option<Vec<u8>>,
}

impl Receiving {
    pub(super) fn new(receiver: PolledReceiver) -> Self {
        Self {
            receiver,
            arriving: None,
            passed: None,
        }
    }
}

/// What has come over the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Nothing,
    Message,
    /// The wanted push, its body not received, or one behind it.
    Wanted,
}

/// Receives what has come of a pushed body; whether all of it has.
pub(super) fn receive_pushed(
    receiver: &mut PolledReceiver,
    bytes: &mut Vec<u8>,
) -> Result<bool, ChannelError> {
    let left = receiver.body_left() as usize;
    // At most the credit that this side has given.
    bytes.reserve_exact(left);
    let received = {
        let mut targets = [UninitSlice::new(&mut bytes.spare_capacity_mut()[..left])];
        receiver.receive_body(&mut targets)?
    };
    // SAFETY: so many bytes more were received, at the end of it.
    unsafe { bytes.set_len(bytes.len() + received) };
    Ok(received == left)
}

fn misbehaved(what: &str) -> Lost {
    let what = what.to_owned();
    Lost::Misbehaved { what }
}

impl Core {
    /// Calls `with` the descriptors of which one is readable when a message has come, or
    /// the end.
    pub(super) fn hear(&self, with: &mut dyn FnMut(&[BorrowedFd<'_>])) {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        if self.ahead.get().is_none()
            && let Ok(made) = eventfd(u32::from(self.is_ahead.load(Ordering::SeqCst)), flags)
        {
            let _ = self.ahead.set(made);
        }
        match self.ahead.get() {
            Some(ahead) => with(&[self.socket(), ahead.as_fd()]),
            // The system is out of descriptors; whoever waits looks now and then.
            None => with(&[self.socket()]),
        }
    }

    /// Whether a message was taken from the socket that nobody has received. What is
    /// taken after this is told by the descriptor.
    pub(super) fn arm(&self) -> bool {
        if let Some(ahead) = self.ahead.get() {
            // It fails only where it is silent already.
            let _ = rustix::io::read(ahead, &mut [0; 8]);
        }
        self.is_ahead.load(Ordering::SeqCst)
    }

    /// Says that what was taken from the socket may hold a message.
    fn tell_ahead(&self, receiving: &Receiving) {
        if receiving.passed.is_none() && !receiving.receiver.has_input() {
            return;
        }
        let is_told = self.is_ahead.swap(true, Ordering::SeqCst);
        if let Some(ahead) = self.ahead.get()
            && !is_told
        {
            // It fails only where it is readable already.
            let _ = rustix::io::write(ahead, &1_u64.to_ne_bytes());
        }
    }

    /// Takes frames that have come, up to a message, or the head of the wanted push.
    pub(super) fn take_frames(
        &self,
        receiving: &mut Receiving,
        into: &mut Vec<u8>,
        wanted: Option<Tag>,
    ) -> Result<Came, CouplingError> {
        loop {
            if receiving.arriving.is_some() && !self.receive_arriving(receiving)? {
                return Ok(Came::Nothing);
            }
            match receiving.receiver.next_head(true) {
                Ok(true) => {}
                Ok(false) => return Ok(Came::Nothing),
                Err(error) => return Err(self.lose(lost_by(&error))),
            }
            self.heard.store(Time::now().0, Ordering::Relaxed);
            let body_bytes = receiving.receiver.body_left();
            match parse_frame(receiving.receiver.head()) {
                Ok(Frame::Message(message)) => {
                    into.clear();
                    into.extend_from_slice(message);
                    return Ok(Came::Message);
                }
                Ok(Frame::Push { tag }) => {
                    let begun = lock(&self.pushes).begin(tag, body_bytes);
                    begun.map_err(|bad| self.lose(misbehaved(bad.0)))?;
                    if wanted.is_some_and(|wanted| wanted <= tag && wanted.subject == tag.subject) {
                        if body_bytes > 0 && wanted != Some(tag) {
                            lock(&self.pushes).arrives(tag);
                            receiving.arriving = Some((tag, Vec::new()));
                        }
                        return Ok(Came::Wanted);
                    }
                    if body_bytes > 0 {
                        lock(&self.pushes).arrives(tag);
                        receiving.arriving = Some((tag, Vec::new()));
                    }
                }
                Ok(Frame::Heartbeat) => {}
                Ok(Frame::Close(lost)) => return Err(self.lose(lost_by_close(lost))),
                Ok(_) => return Err(self.lose(misbehaved("a frame where it has no place"))),
                Err(bad) => return Err(self.lose(misbehaved(&bad.to_string()))),
            }
        }
    }

    /// Receives the push that is coming, to be held; whether it is all here.
    fn receive_arriving(&self, receiving: &mut Receiving) -> Result<bool, CouplingError> {
        let Some((tag, bytes)) = &mut receiving.arriving else {
            return Ok(true);
        };
        let before = bytes.len();
        let is_whole = receive_pushed(&mut receiving.receiver, bytes);
        let is_whole = is_whole.map_err(|error| self.lose(lost_by(&error)))?;
        if bytes.len() > before {
            self.heard.store(Time::now().0, Ordering::Relaxed);
        }
        if !is_whole {
            return Ok(false);
        }
        let (tag, bytes) = (*tag, std::mem::take(bytes));
        receiving.arriving = None;
        lock(&self.pushes).hold(tag, bytes);
        Ok(true)
    }

    /// See [`Peer::receive_push`](super::Peer::receive_push), for what comes over the link.
    pub(super) fn receive_push(
        &self,
        tag: Tag,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<bool, CouplingError> {
        let turn = self.receiving.take(wait);
        let _turn = turn.map_err(|source| self.not_ready(PUSH, source))?;
        let mut receiver = lock(&self.receiver);
        let Some(receiving) = &mut *receiver else {
            return Err(CouplingError::NotLinked);
        };
        let received = self.receive_push_from(receiving, tag, pieces, wait);
        self.tell_ahead(receiving);
        received
    }

    fn receive_push_from(
        &self,
        receiving: &mut Receiving,
        tag: Tag,
        pieces: &mut [Piece<'_>],
        wait: &Wait,
    ) -> Result<bool, CouplingError> {
        let looking = Looking::new(self.options.spin);
        loop {
            let known = lock(&self.pushes).take(tag);
            match known {
                Known::Held(bytes) => return self.fill(&bytes, pieces),
                Known::Never => return Ok(false),
                // What comes before a message does not come after it.
                Known::ToCome | Known::Unheard if receiving.passed.is_some() => {
                    return Ok(false);
                }
                Known::ToCome | Known::Unheard => {}
            }
            let mut message = Vec::new();
            match self.take_frames(receiving, &mut message, Some(tag))? {
                Came::Wanted if receiving.receiver.body_left() > 0 => {
                    if receiving.arriving.is_none() {
                        return self.receive_straight(receiving, pieces, &looking, wait);
                    }
                }
                Came::Wanted => {}
                Came::Message => receiving.passed = Some(message),
                // All that has come was looked at.
                Came::Nothing if lock(&self.pushes).is_unheard(tag) => return Ok(false),
                Came::Nothing => self.pause(receiving, &looking, PUSH, wait)?,
            }
        }
    }

    fn pause(
        &self,
        receiving: &Receiving,
        looking: &Looking,
        during: &'static str,
        wait: &Wait,
    ) -> Result<(), CouplingError> {
        let at_most = self.check_silence()?;
        let mut fds = [PollFd::new(&receiving.receiver, PollFlags::IN)];
        let paused = looking.pause(&mut fds, wait, at_most);
        paused.map_err(|source| self.not_ready(during, source))
    }

    /// Receives the push that begins to where it is wanted. What of it is not
    /// received, if this fails, is skipped by whoever receives next.
    fn receive_straight(
        &self,
        receiving: &mut Receiving,
        pieces: &mut [Piece<'_>],
        looking: &Looking,
        wait: &Wait,
    ) -> Result<bool, CouplingError> {
        let bytes = receiving.receiver.body_left();
        let asked: u64 = pieces.iter().map(|piece| piece.into.len() as u64).sum();
        let are_the_same = asked == bytes;
        lock(&self.pushes).let_go(bytes, are_the_same);
        self.give_credit();
        if !are_the_same {
            return Err(CouplingError::OtherPieces);
        }
        let (mut first, mut at) = (0, 0);
        while receiving.receiver.body_left() > 0 {
            let received = receive_into(&mut receiving.receiver, pieces, &mut first, &mut at);
            if received.map_err(|error| self.lose(lost_by(&error)))? == 0 {
                self.pause(receiving, looking, PUSH, wait)?;
            } else {
                self.heard.store(Time::now().0, Ordering::Relaxed);
            }
        }
        self.counts.push_bytes.add(bytes);
        Ok(true)
    }

    /// Fills pieces with what was pushed; it is held no more.
    pub(super) fn fill(
        &self,
        bytes: &[u8],
        pieces: &mut [Piece<'_>],
    ) -> Result<bool, CouplingError> {
        let asked: usize = pieces.iter().map(|piece| piece.into.len()).sum();
        let are_the_same = asked == bytes.len();
        lock(&self.pushes).let_go(bytes.len() as u64, are_the_same);
        if self.info.linked {
            self.give_credit();
        }
        if !are_the_same {
            return Err(CouplingError::OtherPieces);
        }
        self.counts.push_bytes.add(asked as u64);
        let mut rest = bytes;
        for piece in pieces {
            let (now, after) = rest.split_at(piece.into.len());
            copy_bytes_uninit(piece.into, now, self.channel_counters.copies());
            rest = after;
        }
        Ok(true)
    }

    /// Gives credit back over the link, if it is worth it.
    pub(super) fn give_credit(&self) {
        let owed = lock(&self.pushes).take_owed();
        if let Some(bytes) = owed {
            self.say(Frame::Credit { bytes }.to_bytes());
        }
    }

    /// Sends a frame over the link, at once or when something else is sent. What
    /// fails is seen by whoever receives.
    pub(super) fn say(&self, head: Vec<u8>) {
        self.with_sender(|sender| {
            if sender.queue(head, Vec::new()).is_ok() {
                let _ = sender.flush(usize::MAX);
            }
        });
    }
}
