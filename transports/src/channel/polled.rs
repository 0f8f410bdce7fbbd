//! A channel whose calls never wait, for threads that serve many.
//!
//! ```text
//!   send    queue of frames --seal the first--> sealed bytes, slices of the body --> socket
//!   receive socket --> input --open--> head;  body straight to the caller
//! ```
//! Frames wait in the queue unsealed, so that a frame costs its own bytes
//! and no more, and bodies are read when the socket takes them. What may wait
//! is the caller's to bound: see [`PolledSender::waiting_bytes`].

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::ChannelCounters;
use super::error::ChannelError;
use super::frames::{Channel, Link, check_limit, open, seal};
use super::socket::{SLICES_PER_CALL, UninitSlice};
use super::wire::{
    BODY_LENGTH_BYTES, BODY_PIECE_BYTES, FRAME_MIN_BYTES, HEAD_PIECE_BYTES, PREFIX_BYTES, Prefix,
    TAG_BYTES, parse_prefix, sealed_head_bytes,
};
use crate::copy::{copy_bytes, copy_bytes_uninit};

/// Sealed bytes are sent once so many of them are there.
const SEALED_AT_ONCE_BYTES: usize = 4 * BODY_PIECE_BYTES;

/// Bytes asked of a socket for heads.
const INPUT_BYTES: usize = 64 << 10;

/// Bytes of a body taken off the wire at once where nobody wants them.
const SKIP_BYTES: usize = 64 << 10;

/// How far [`PolledSender::flush`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is sent.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// The budget is used up; the socket may take more.
    Budget,
}

struct Frame<B> {
    head: Vec<u8>,
    parts: Vec<B>,
    body_bytes: u64,
}

/// The sending direction. `B` is what parts of bodies are, which it keeps
/// until they are sent.
pub struct PolledSender<B> {
    link: Arc<Link>,
    nonce: u64,
    queue: VecDeque<Frame<B>>,
    waiting_head_bytes: u64,
    waiting_body_bytes: u64,
    waiting_parts: usize,
    /// Whether the head of the first frame of the queue is sealed; then
    /// `part` and `part_at` say how far its body is.
    is_begun: bool,
    part: usize,
    part_at: usize,
    /// Bytes ready to be sent before the rest of that body.
    sealed: Vec<u8>,
    sealed_at: usize,
    /// The nonce before `sealed`, and whether it began between two frames.
    batch_nonce: u64,
    batch_is_clean: bool,
    piece: Vec<u8>,
    is_ended: bool,
}

/// The receiving direction.
pub struct PolledReceiver {
    link: Arc<Link>,
    nonce: u64,
    /// Whether no byte beyond the present head is taken from the socket.
    is_exact: bool,
    /// `start..end` is received and not used yet.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of input that the next thing takes.
    need: usize,
    head: Vec<u8>,
    body_left: u64,
    /// A sealed piece that was opened, of which `piece_at..` is not delivered.
    piece: Vec<u8>,
    piece_at: usize,
    is_ended: bool,
}

impl Channel {
    /// The two directions of this channel, to be used without waiting. With
    /// `is_exact` the receiver takes bodies from the socket straight to where
    /// they belong, at the price of a system call more for each frame.
    #[must_use]
    pub fn into_polled<B: AsRef<[u8]>>(self, is_exact: bool) -> (PolledSender<B>, PolledReceiver) {
        let (link, send_nonce, receive_nonce) = self.into_link();
        let sender = PolledSender {
            link: Arc::clone(&link),
            nonce: send_nonce,
            queue: VecDeque::new(),
            waiting_head_bytes: 0,
            waiting_body_bytes: 0,
            waiting_parts: 0,
            is_begun: false,
            part: 0,
            part_at: 0,
            sealed: Vec::new(),
            sealed_at: 0,
            batch_nonce: send_nonce,
            batch_is_clean: true,
            piece: Vec::new(),
            is_ended: false,
        };
        let receiver = PolledReceiver {
            link,
            nonce: receive_nonce,
            is_exact,
            input: Vec::new(),
            start: 0,
            end: 0,
            need: FRAME_MIN_BYTES,
            head: Vec::new(),
            body_left: 0,
            piece: Vec::new(),
            piece_at: 0,
            is_ended: false,
        };
        (sender, receiver)
    }
}

impl<B: AsRef<[u8]>> PolledSender<B> {
    /// The other side.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.link.socket.peer()
    }

    /// Ends both directions now.
    pub fn close(&self) {
        self.link.socket.close();
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.sealed_at == self.sealed.len()
    }

    /// Bytes of heads that wait, sealed or not.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_head_bytes + (self.sealed.len() - self.sealed_at) as u64
    }

    /// Bytes of the bodies of frames that are not wholly sent.
    #[must_use]
    pub fn waiting_body_bytes(&self) -> u64 {
        self.waiting_body_bytes
    }

    /// Parts of the bodies of frames that are not wholly sent, and frames.
    #[must_use]
    pub fn waiting_parts(&self) -> usize {
        self.waiting_parts
    }

    /// Puts a frame at the end of the queue; [`PolledSender::flush`] sends it.
    ///
    /// # Errors
    /// [`ChannelError::TooLarge`] beyond this side's limits, with nothing
    /// queued; [`ChannelError::Closed`] after an error of `flush`.
    pub fn queue(&mut self, head: Vec<u8>, parts: Vec<B>) -> Result<(), ChannelError> {
        let peer = self.peer();
        if self.is_ended {
            let during = "send";
            return Err(ChannelError::Closed { peer, during });
        }
        let body_bytes = parts.iter().map(|part| part.as_ref().len() as u64).sum();
        let limits = self.link.limits;
        let head_limit = u64::from(limits.head_bytes);
        check_limit(peer, "a head", head.len() as u64, head_limit)?;
        check_limit(peer, "a body", body_bytes, limits.body_bytes)?;
        self.waiting_head_bytes += head.len() as u64;
        self.waiting_body_bytes += body_bytes;
        self.waiting_parts += 1 + parts.len();
        self.queue.push_back(Frame {
            head,
            parts,
            body_bytes,
        });
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it, and about
    /// `budget_bytes` at most, so that one peer cannot keep a thread that has
    /// others.
    ///
    /// # Errors
    /// Any ends the channel.
    pub fn flush(&mut self, budget_bytes: usize) -> Result<Flushed, ChannelError> {
        if self.is_ended {
            return Err(ChannelError::Closed {
                peer: self.peer(),
                during: "send",
            });
        }
        let result = self.try_flush(budget_bytes);
        if result.is_err() {
            self.is_ended = true;
            self.close();
        }
        result
    }

    fn try_flush(&mut self, budget_bytes: usize) -> Result<Flushed, ChannelError> {
        let mut sent = 0;
        loop {
            self.prepare()?;
            if self.is_empty() {
                return Ok(Flushed::All);
            }
            if sent >= budget_bytes {
                return Ok(Flushed::Budget);
            }
            let now = {
                let mut slices = [IoSlice::new(&[]); SLICES_PER_CALL];
                let count = self.slices(&mut slices);
                self.link.socket.try_send(&slices[..count], "send")?
            };
            match now {
                Some(bytes) => {
                    sent += bytes;
                    self.advance(bytes);
                }
                None => return Ok(Flushed::Blocked),
            }
        }
    }

    /// Takes back everything that waits, if no byte of it has gone out.
    pub fn cancel(&mut self) -> bool {
        let is_untouched = if self.sealed_at == self.sealed.len() {
            !self.is_begun
        } else {
            self.batch_is_clean && self.sealed_at == 0
        };
        if is_untouched {
            if self.sealed_at < self.sealed.len() {
                self.nonce = self.batch_nonce;
            }
            self.sealed.clear();
            self.sealed_at = 0;
            self.queue.clear();
            self.is_begun = false;
            (self.part, self.part_at) = (0, 0);
            self.waiting_head_bytes = 0;
            self.waiting_body_bytes = 0;
            self.waiting_parts = 0;
        }
        is_untouched
    }

    /// Seals what comes next, once everything sealed has gone out.
    fn prepare(&mut self) -> Result<(), ChannelError> {
        if self.sealed_at < self.sealed.len() {
            return Ok(());
        }
        self.sealed.clear();
        self.sealed_at = 0;
        self.batch_nonce = self.nonce;
        self.batch_is_clean = !self.is_begun;
        while self.sealed.len() < SEALED_AT_ONCE_BYTES {
            let Some(frame) = self.queue.front() else {
                break;
            };
            if !self.is_begun {
                self.seal_head()?;
            } else if self.part == frame.parts.len() {
                self.finish_frame();
            } else if self.link.encrypt {
                self.seal_piece()?;
            } else {
                break;
            }
        }
        Ok(())
    }

    fn seal_head(&mut self) -> Result<(), ChannelError> {
        let Some(frame) = self.queue.front_mut() else {
            return Ok(());
        };
        let prefix = Prefix {
            // Below the limit, which is a u32.
            head_bytes: frame.head.len() as u32,
            body_bytes: frame.body_bytes,
        };
        self.sealed.extend_from_slice(&prefix.to_bytes());
        self.piece.clear();
        self.piece
            .extend_from_slice(&frame.body_bytes.to_le_bytes());
        self.piece.extend_from_slice(&frame.head);
        for piece in self.piece.chunks(HEAD_PIECE_BYTES) {
            seal(&self.link, &mut self.nonce, piece, &mut self.sealed)?;
        }
        self.waiting_head_bytes -= frame.head.len() as u64;
        let counted = std::mem::take(&mut frame.head).len();
        self.link.counters.0.sent.add(counted, frame.body_bytes);
        self.is_begun = true;
        (self.part, self.part_at) = (0, 0);
        self.skip_empty_parts();
        Ok(())
    }

    /// Seals the next piece of the body, whatever parts it lies in.
    fn seal_piece(&mut self) -> Result<(), ChannelError> {
        let Some(frame) = self.queue.front() else {
            return Ok(());
        };
        let rest = |part: usize, at: usize| frame.parts.get(part).map(|part| &part.as_ref()[at..]);
        let first = rest(self.part, self.part_at).unwrap_or_default();
        if first.len() >= BODY_PIECE_BYTES {
            let piece = &first[..BODY_PIECE_BYTES];
            seal(&self.link, &mut self.nonce, piece, &mut self.sealed)?;
            self.part_at += BODY_PIECE_BYTES;
        } else {
            self.piece.clear();
            while let Some(now) = rest(self.part, self.part_at)
                && self.piece.len() < BODY_PIECE_BYTES
            {
                let take = now.len().min(BODY_PIECE_BYTES - self.piece.len());
                let at = self.piece.len();
                self.piece.resize(at + take, 0);
                let copies = self.link.counters.copies();
                copy_bytes(&mut self.piece[at..], &now[..take], copies);
                self.part_at += take;
                if take == now.len() {
                    self.part += 1;
                    self.part_at = 0;
                }
            }
            seal(&self.link, &mut self.nonce, &self.piece, &mut self.sealed)?;
        }
        self.skip_empty_parts();
        Ok(())
    }

    /// What is to be sent next: sealed bytes, then the raw body.
    fn slices<'s>(&'s self, slices: &mut [IoSlice<'s>; SLICES_PER_CALL]) -> usize {
        let mut count = 0;
        if self.sealed_at < self.sealed.len() {
            slices[0] = IoSlice::new(&self.sealed[self.sealed_at..]);
            count = 1;
        }
        if !self.is_begun || self.link.encrypt {
            return count;
        }
        let Some(frame) = self.queue.front() else {
            return count;
        };
        let mut at = self.part_at;
        for part in &frame.parts[self.part..] {
            if count == slices.len() {
                break;
            }
            slices[count] = IoSlice::new(&part.as_ref()[at..]);
            count += 1;
            at = 0;
        }
        count
    }

    /// Moves on by bytes that were sent.
    fn advance(&mut self, bytes: usize) {
        let of_sealed = bytes.min(self.sealed.len() - self.sealed_at);
        self.sealed_at += of_sealed;
        let mut left = bytes - of_sealed;
        while left > 0 {
            let Some(part) = self.queue.front().and_then(|f| f.parts.get(self.part)) else {
                return;
            };
            let rest = part.as_ref().len() - self.part_at;
            let take = rest.min(left);
            left -= take;
            self.part_at += take;
            self.skip_empty_parts();
        }
    }

    /// Moves on to a part that has bytes left, or to the end of the body.
    fn skip_empty_parts(&mut self) {
        let Some(frame) = self.queue.front() else {
            return;
        };
        while let Some(part) = frame.parts.get(self.part)
            && self.part_at == part.as_ref().len()
        {
            self.part += 1;
            self.part_at = 0;
        }
    }

    fn finish_frame(&mut self) {
        if let Some(frame) = self.queue.pop_front() {
            self.waiting_body_bytes -= frame.body_bytes;
            self.waiting_parts -= 1 + frame.parts.len();
        }
        self.is_begun = false;
    }
}

impl<B> AsFd for PolledSender<B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.socket.as_fd()
    }
}

impl PolledReceiver {
    /// The other side.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.link.socket.peer()
    }

    /// Ends both directions now.
    pub fn close(&self) {
        self.link.socket.close();
    }

    /// Whether no byte beyond the present head is taken from the socket; see
    /// [`Channel::into_polled`].
    pub fn set_exact(&mut self, is_exact: bool) {
        self.is_exact = is_exact;
    }

    /// What this channel counts into.
    #[must_use]
    pub fn counters(&self) -> &ChannelCounters {
        &self.link.counters
    }

    /// The present head.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.head.get(BODY_LENGTH_BYTES..).unwrap_or_default()
    }

    /// Bytes of the present body not received yet.
    #[must_use]
    pub fn body_left(&self) -> u64 {
        self.body_left
    }

    /// Whether bytes lie here that were taken from the socket and not looked at.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.start < self.end
    }

    /// Opens the next head, if it is there: what is left of the body before
    /// is skipped. With `may_receive` unset only bytes that were received
    /// already are looked at.
    ///
    /// # Errors
    /// Any ends the channel.
    pub fn next_head(&mut self, may_receive: bool) -> Result<bool, ChannelError> {
        self.guarded(|this| this.try_next_head(may_receive))
    }

    /// Receives bytes of the present body into `targets`, in turn, as many as
    /// are there and fit; they may not be longer than what is left of it.
    ///
    /// # Errors
    /// Any ends the channel.
    pub fn receive_body(&mut self, targets: &mut [UninitSlice<'_>]) -> Result<usize, ChannelError> {
        self.guarded(|this| this.try_receive_body(targets))
    }

    /// Takes what is left of the present body off the wire; whether that is
    /// done.
    ///
    /// # Errors
    /// Any ends the channel.
    pub fn skip_body(&mut self) -> Result<bool, ChannelError> {
        self.guarded(Self::try_skip_body)
    }

    fn guarded<T>(
        &mut self,
        receive: impl FnOnce(&mut Self) -> Result<T, ChannelError>,
    ) -> Result<T, ChannelError> {
        if self.is_ended {
            return Err(ChannelError::Closed {
                peer: self.peer(),
                during: "receive",
            });
        }
        let result = receive(self);
        if result.is_err() {
            self.is_ended = true;
            self.close();
        }
        result
    }

    fn try_next_head(&mut self, may_receive: bool) -> Result<bool, ChannelError> {
        if self.body_left > 0 && !(may_receive && self.try_skip_body()?) {
            return Ok(false);
        }
        let mut has_received = false;
        loop {
            if self.parse_head()? {
                return Ok(true);
            }
            // Once is enough for a whole turn: the socket says if there is more.
            if !may_receive || (has_received && !self.is_exact) || !self.fill()? {
                return Ok(false);
            }
            has_received = true;
        }
    }

    fn parse_head(&mut self) -> Result<bool, ChannelError> {
        let peer = self.peer();
        let available = self.end - self.start;
        self.need = self.need.max(FRAME_MIN_BYTES);
        if available < FRAME_MIN_BYTES {
            return Ok(false);
        }
        let input = &self.input[self.start..self.end];
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&input[..PREFIX_BYTES]);
        let prefix = parse_prefix(&prefix);
        let limits = self.link.limits;
        let head_limit = u64::from(limits.head_bytes);
        check_limit(peer, "a head", u64::from(prefix.head_bytes), head_limit)?;
        check_limit(peer, "a body", prefix.body_bytes, limits.body_bytes)?;
        let all = PREFIX_BYTES + sealed_head_bytes(prefix.head_bytes);
        self.need = all;
        if available < all {
            return Ok(false);
        }
        self.head
            .resize(BODY_LENGTH_BYTES + prefix.head_bytes as usize, 0);
        let pieces = input[PREFIX_BYTES..all].chunks(HEAD_PIECE_BYTES + TAG_BYTES);
        for (sealed, plain) in pieces.zip(self.head.chunks_mut(HEAD_PIECE_BYTES)) {
            open(&self.link, &mut self.nonce, sealed, plain, "a head")?;
        }
        if self.head[..BODY_LENGTH_BYTES] != prefix.body_bytes.to_le_bytes() {
            let what = "a body's length";
            return Err(ChannelError::Altered { peer, what });
        }
        self.take_input(all);
        self.body_left = prefix.body_bytes;
        let head_bytes = prefix.head_bytes as usize;
        let received = &self.link.counters.0.received;
        received.add(head_bytes, prefix.body_bytes);
        Ok(true)
    }

    fn take_input(&mut self, bytes: usize) {
        self.start += bytes;
        self.need = FRAME_MIN_BYTES;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // A large message is no reason to keep its memory for ever.
            if self.input.len() > 16 * INPUT_BYTES {
                self.input = Vec::new();
            }
        }
    }

    /// Receives some bytes of input; whether any came. Room grows with what
    /// has come, never with what was announced.
    fn fill(&mut self) -> Result<bool, ChannelError> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let missing = self.need.saturating_sub(self.end);
        let want = if self.is_exact {
            missing.min(INPUT_BYTES.max(self.end))
        } else {
            INPUT_BYTES.max(self.end)
        };
        if self.input.len() < self.end + want {
            self.input.resize(self.end + want, 0);
        }
        let into = &mut self.input[self.end..self.end + want];
        match self.link.socket.try_receive(into, "receive")? {
            Some(bytes) => {
                self.end += bytes;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn try_receive_body(&mut self, targets: &mut [UninitSlice<'_>]) -> Result<usize, ChannelError> {
        let asked: u64 = targets.iter().map(|target| target.len() as u64).sum();
        if asked > self.body_left {
            return Err(ChannelError::BodyEnds {
                peer: self.peer(),
                asked,
                left: self.body_left,
            });
        }
        if self.link.encrypt {
            return self.receive_sealed(targets);
        }
        let mut filled = 0;
        if self.start < self.end {
            filled = self.deliver_input(targets);
        } else if asked > 0
            && let Some(bytes) = self.link.socket.try_receive_into(targets, "receive")?
        {
            filled = bytes;
        }
        self.body_left -= filled as u64;
        Ok(filled)
    }

    /// Copies bytes of a raw body that came with the head.
    fn deliver_input(&mut self, targets: &mut [UninitSlice<'_>]) -> usize {
        let mut filled = 0;
        for target in targets {
            let take = target.len().min(self.end - self.start);
            let from = &self.input[self.start..self.start + take];
            let copies = self.link.counters.copies();
            copy_bytes_uninit(&mut target.as_uninit()[..take], from, copies);
            self.start += take;
            filled += take;
        }
        self.take_input(0);
        filled
    }

    fn receive_sealed(&mut self, targets: &mut [UninitSlice<'_>]) -> Result<usize, ChannelError> {
        let mut filled = 0;
        for target in targets {
            let mut into = target.as_uninit();
            while !into.is_empty() {
                if self.piece_at == self.piece.len() && !self.open_piece()? {
                    return Ok(filled);
                }
                let rest = &self.piece[self.piece_at..];
                let take = rest.len().min(into.len());
                let (now, after) = into.split_at_mut(take);
                copy_bytes_uninit(now, &rest[..take], self.link.counters.copies());
                self.piece_at += take;
                self.body_left -= take as u64;
                filled += take;
                into = after;
            }
        }
        Ok(filled)
    }

    /// Opens the next sealed piece of the body, if it is there.
    fn open_piece(&mut self) -> Result<bool, ChannelError> {
        let plain_bytes = self.body_left.min(BODY_PIECE_BYTES as u64) as usize;
        let all = plain_bytes + TAG_BYTES;
        self.need = all;
        while self.end - self.start < all {
            if !self.fill()? {
                return Ok(false);
            }
        }
        self.piece.resize(plain_bytes, 0);
        self.piece_at = 0;
        let sealed = &self.input[self.start..self.start + all];
        open(
            &self.link,
            &mut self.nonce,
            sealed,
            &mut self.piece,
            "a body",
        )?;
        self.take_input(all);
        Ok(true)
    }

    fn try_skip_body(&mut self) -> Result<bool, ChannelError> {
        let mut nowhere = Vec::new();
        while self.body_left > 0 {
            if nowhere.is_empty() {
                nowhere.resize(SKIP_BYTES, MaybeUninit::uninit());
            }
            let some = self.body_left.min(SKIP_BYTES as u64) as usize;
            let mut targets = [UninitSlice::new(&mut nowhere[..some])];
            if self.try_receive_body(&mut targets)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl AsFd for PolledReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.socket.as_fd()
    }
}
