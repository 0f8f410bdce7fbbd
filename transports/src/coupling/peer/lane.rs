//! A connection for data: what was asked for on it, and where the answers go.

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use super::core::{Sender, lost_by, lost_by_close};
use super::plan::{Part, Request};
use super::pushes::Pushes;
use super::unasked::receive_pushed;
use crate::channel::{ChannelError, PolledReceiver, UninitSlice};
use crate::coupling::wire::{Frame, parse_frame, read_head};
use crate::coupling::{Lost, Piece, PieceRef, Tag};

/// Slices that are received into at once.
const TARGETS: usize = 64;

/// A connection for data.
pub(super) struct Lane {
    pub(super) sender: Sender,
    pub(super) receiver: PolledReceiver,
    next_id: u64,
    /// Requests that are not sent, and those that are not answered.
    pub(super) pending: VecDeque<Request>,
    asked: VecDeque<Asked>,
    asked_bytes: u64,
    asked_parts: usize,
    /// What the body that is being received is.
    body: Body,
}

struct Asked {
    id: u64,
    request: Request,
    /// Whether nobody wants the answer any more.
    is_abandoned: bool,
    /// How far it is: parts that are full, and bytes of the next.
    part: usize,
    part_at: usize,
}

enum Body {
    None,
    /// Of the first request that is not answered.
    Data,
    Push {
        tag: Tag,
        bytes: Vec<u8>,
    },
    /// The push that is waited for, so far into the pieces that it belongs to.
    Wanted {
        piece: usize,
        at: usize,
    },
}

/// What is done with what comes.
pub(super) struct Targets<'t, 'p> {
    /// The pieces of the read that is being finished, or of the wanted push.
    pub(super) pieces: &'t mut [Piece<'p>],
    /// The push that is waited for, if one is: taken out once it has all come.
    pub(super) wanted: Option<Tag>,
    /// Where other pushed bytes go, and how many of them there may be.
    pub(super) pushes: &'t mut Pushes,
}

/// Why a lane came no further.
pub(super) enum LaneEnd {
    Lost(Lost),
    Missing(PieceRef),
}

fn misbehaved(what: &str) -> LaneEnd {
    LaneEnd::Lost(Lost::Misbehaved {
        what: what.to_owned(),
    })
}

impl Lane {
    pub(super) fn new(sender: Sender, receiver: PolledReceiver) -> Self {
        Self {
            sender,
            receiver,
            next_id: 0,
            pending: VecDeque::new(),
            asked: VecDeque::new(),
            asked_bytes: 0,
            asked_parts: 0,
            body: Body::None,
        }
    }

    /// Sends a frame, now or with the next. What fails is seen by the next that is
    /// received.
    pub(super) fn say(&mut self, head: Vec<u8>) {
        if self.sender.queue(head, Vec::new()).is_ok() {
            let _ = self.sender.flush(usize::MAX);
        }
    }

    /// Whether everything that was asked for on it has come.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty() && self.asked.iter().all(|asked| asked.is_abandoned)
    }

    /// Whether it waits for the socket to take more.
    pub(super) fn is_sending(&self) -> bool {
        !self.sender.is_empty()
    }

    /// Sends requests, as many as limits and the socket take.
    pub(super) fn ask(&mut self, limit_bytes: u64, limit_parts: u32) -> Result<(), LaneEnd> {
        while let Some(request) = self.pending.front() {
            let has_room = self.asked_bytes + request.bytes <= limit_bytes
                && self.asked_parts + request.parts.len() <= limit_parts as usize;
            if !has_room && !self.asked.is_empty() {
                break;
            }
            let Some(request) = self.pending.pop_front() else {
                break;
            };
            let id = self.next_id;
            self.next_id += 1;
            let head = read_head(id, request.parts.iter().map(|part| part.source));
            self.asked_bytes += request.bytes;
            self.asked_parts += request.parts.len();
            self.asked.push_back(Asked {
                id,
                request,
                is_abandoned: false,
                part: 0,
                part_at: 0,
            });
            let queued = self.sender.queue(head, Vec::new());
            queued.map_err(|error| LaneEnd::Lost(lost_by(&error)))?;
        }
        // A failure is seen, with its reason, by what is received.
        let _ = self.sender.flush(usize::MAX);
        Ok(())
    }

    /// Nobody wants what was asked for.
    pub(super) fn abandon(&mut self) {
        self.pending.clear();
        for asked in &mut self.asked {
            asked.is_abandoned = true;
        }
        match self.body {
            Body::Data => self.drop_first(),
            // What is left of it is skipped.
            Body::Wanted { .. } => self.body = Body::None,
            Body::None | Body::Push { .. } => {}
        }
    }

    /// The first request is answered, or what is left of its answer skipped.
    fn drop_first(&mut self) {
        if let Some(asked) = self.asked.pop_front() {
            self.asked_bytes -= asked.request.bytes;
            self.asked_parts -= asked.request.parts.len();
        }
        self.body = Body::None;
    }

    /// Takes what has come; whether anything had.
    pub(super) fn receive(&mut self, targets: &mut Targets<'_, '_>) -> Result<bool, LaneEnd> {
        let mut has_come = false;
        loop {
            let more = match &mut self.body {
                Body::None => self.receive_head(targets)?,
                Body::Data => self.receive_data(targets.pieces)?,
                Body::Push { .. } => self.receive_push(targets.pushes)?,
                Body::Wanted { .. } => self.receive_wanted(targets)?,
            };
            if !more {
                return Ok(has_come);
            }
            has_come = true;
            if matches!(self.body, Body::None) && self.is_done() {
                return Ok(true);
            }
        }
    }

    fn receive_head(&mut self, targets: &mut Targets<'_, '_>) -> Result<bool, LaneEnd> {
        let next = self.receiver.next_head(true);
        if !next.map_err(|error| LaneEnd::Lost(lost_by(&error)))? {
            return Ok(false);
        }
        let body_bytes = self.receiver.body_left();
        let frame = parse_frame(self.receiver.head());
        match frame.map_err(|bad| misbehaved(&bad.to_string()))? {
            Frame::Data { id } => {
                let first = self.asked.front().filter(|asked| asked.id == id);
                let first = first.ok_or_else(|| misbehaved("data that nobody asked for"))?;
                if first.request.bytes != body_bytes {
                    return Err(misbehaved("data of another length than was asked for"));
                }
                if first.is_abandoned {
                    self.drop_first();
                } else {
                    self.body = Body::Data;
                }
            }
            Frame::Missing { id, piece } => {
                let first = self.asked.front().filter(|asked| asked.id == id);
                let first = first.ok_or_else(|| misbehaved("an answer that nobody asked for"))?;
                let missing = first.request.parts.get(piece as usize);
                let missing =
                    missing.ok_or_else(|| misbehaved("it misses what nobody asked for"))?;
                let (source, is_abandoned) = (missing.source, first.is_abandoned);
                self.drop_first();
                if !is_abandoned {
                    return Err(LaneEnd::Missing(source));
                }
            }
            Frame::Push { tag } => self.begin_push(tag, body_bytes, targets)?,
            Frame::Close(lost) => return Err(LaneEnd::Lost(lost_by_close(lost))),
            _ => return Err(misbehaved("a frame where it has no place")),
        }
        Ok(true)
    }

    fn begin_push(
        &mut self,
        tag: Tag,
        body_bytes: u64,
        targets: &mut Targets<'_, '_>,
    ) -> Result<(), LaneEnd> {
        let begun = targets.pushes.begin(tag, body_bytes);
        begun.map_err(|bad| misbehaved(bad.0))?;
        let asked: u64 = targets.pieces.iter().map(|it| it.into.len() as u64).sum();
        if body_bytes == 0 {
            return Ok(());
        }
        let is_wanted = targets.wanted == Some(tag) && targets.pushes.wants(tag);
        self.body = match is_wanted && asked == body_bytes {
            true => {
                targets.pushes.let_go(body_bytes, true);
                Body::Wanted { piece: 0, at: 0 }
            }
            false => {
                targets.pushes.arrives(tag);
                Body::Push {
                    tag,
                    bytes: Vec::new(),
                }
            }
        };
        Ok(())
    }

    /// Whether the push that is waited for has begun to come.
    pub(super) fn is_receiving_wanted(&self) -> bool {
        matches!(self.body, Body::Wanted { .. })
    }

    /// Receives the push that is waited for to where it belongs.
    fn receive_wanted(&mut self, targets: &mut Targets<'_, '_>) -> Result<bool, LaneEnd> {
        let Body::Wanted { piece, at } = &mut self.body else {
            return Ok(false);
        };
        let received = receive_into(&mut self.receiver, targets.pieces, piece, at);
        let received = received.map_err(|error| LaneEnd::Lost(lost_by(&error)))?;
        if self.receiver.body_left() == 0 {
            self.body = Body::None;
            targets.wanted = None;
            return Ok(true);
        }
        Ok(received > 0)
    }

    fn receive_data(&mut self, pieces: &mut [Piece<'_>]) -> Result<bool, LaneEnd> {
        let Some(asked) = self.asked.front_mut() else {
            return Err(misbehaved("data that nobody asked for"));
        };
        let received = {
            let rest = &asked.request.parts[asked.part..];
            let mut targets = targets_of(rest, asked.part_at, pieces);
            self.receiver.receive_body(&mut targets)
        };
        let received = received.map_err(|error| LaneEnd::Lost(lost_by(&error)))?;
        asked.advance(received);
        if asked.part == asked.request.parts.len() {
            self.drop_first();
            return Ok(true);
        }
        Ok(received > 0)
    }

    fn receive_push(&mut self, pushes: &mut Pushes) -> Result<bool, LaneEnd> {
        let Body::Push { tag, bytes } = &mut self.body else {
            return Ok(false);
        };
        let before = bytes.len();
        let is_whole = receive_pushed(&mut self.receiver, bytes);
        if !is_whole.map_err(|error| LaneEnd::Lost(lost_by(&error)))? {
            return Ok(bytes.len() > before);
        }
        pushes.hold(*tag, std::mem::take(bytes));
        self.body = Body::None;
        Ok(true)
    }
}

/// Receives what has come of a body into pieces, from byte `at` of piece `first`
/// on, and moves these two on; how much that was.
pub(super) fn receive_into(
    receiver: &mut PolledReceiver,
    pieces: &mut [Piece<'_>],
    first: &mut usize,
    at: &mut usize,
) -> Result<usize, ChannelError> {
    let mut targets = Vec::with_capacity((pieces.len() - *first).min(TARGETS));
    for piece in pieces[*first..].iter_mut().take(TARGETS) {
        let from = if targets.is_empty() { *at } else { 0 };
        targets.push(UninitSlice::new(&mut piece.into[from..]));
    }
    let received = receiver.receive_body(&mut targets)?;
    *at += received;
    while let Some(piece) = pieces.get(*first)
        && *at >= piece.into.len()
    {
        *at -= piece.into.len();
        *first += 1;
    }
    Ok(received)
}

impl Asked {
    fn advance(&mut self, received: usize) {
        let mut left = received;
        while let Some(part) = self.request.parts.get(self.part) {
            let rest = part.source.bytes as usize - self.part_at;
            if left < rest {
                self.part_at += left;
                return;
            }
            left -= rest;
            self.part += 1;
            self.part_at = 0;
        }
    }
}

/// Where the next bytes go: parts in turn, the first from `part_at` on. The
/// parts of a request are in the order of the pieces, without overlap.
fn targets_of<'t>(
    parts: &[Part],
    part_at: usize,
    pieces: &'t mut [Piece<'_>],
) -> Vec<UninitSlice<'t>> {
    let mut targets = Vec::with_capacity(parts.len().min(TARGETS));
    let Some(first) = parts.first().map(|part| part.piece) else {
        return targets;
    };
    let mut pieces = pieces.iter_mut().enumerate().skip(first);
    let mut skip = part_at;
    let mut parts = parts.iter().take(TARGETS).peekable();
    while let Some(part) = parts.next() {
        // Empty pieces have no part.
        let Some((_, piece)) = pieces.find(|(index, _)| *index == part.piece) else {
            break;
        };
        let into: &'t mut [MaybeUninit<u8>] = &mut *piece.into;
        let at = part.at as usize;
        let end = at + part.source.bytes as usize;
        targets.push(UninitSlice::new(&mut into[at + skip..end]));
        skip = 0;
        debug_assert!(parts.peek().is_none_or(|next| next.piece > part.piece));
    }
    targets
}
