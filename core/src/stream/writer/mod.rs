//! The writing side of the engine: the traits' calls, in their order.
//!
//! ```text
//! root   prepare: who has the name?    admit: ask the publisher     seal: tell it      close_root: wait for readers
//! all    attach: endpoint, memory      begin: free old steps        capture: one pass  close
//! ```
//! The root's admission tells every rank which steps' memory is free. A rank
//! that needs more than was reserved asks the root between two steps.

mod described;
mod fates;
mod open;
mod room;
mod root;
mod subscribed;
#[cfg(test)]
mod tests;

pub(super) use open::{answers, prepare};

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use panta_transports::copy::CopyCounter;
use panta_transports::coupling::{Endpoint, Peer, Progress, Ticket};
use panta_transports::time::{Interrupt, Time, Wait};

use self::described::{Described, Forms};
use self::fates::Fate;
use self::open::Told;
use self::room::await_memory;
use self::root::{Outcome, Root};
use self::subscribed::Subscribed;
use super::contact::ContactFile;
use super::memory::{Memory, Uncaptured};
use super::slot::Contribution;
use super::spill::{Spill, Written};
use crate::announce::decode_record;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::engine::{
    Admission, Beside, Captured, EngineInfo, PutBlock, Sealing, SpanId, SpanMemory, WriterEngine,
};
use crate::error::{BeginError, CloseError, EndError, Failure, Fault, Place, PutError};
use crate::model::{Schema, StepHead};

/// How often the next step's number is noted in the contact file, at most.
const NOTE_EVERY: Duration = Duration::from_millis(1);
/// How often the contact file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Bytes of an admission, as a rule: what becomes of a few steps.
const ADMISSION_BYTES: usize = 64;

/// Carries the steps of one rank.
pub(super) struct StreamWriter {
    place: Place,
    info: EngineInfo,
    limit_bytes: u64,
    /// Whether readers may hold a step up.
    is_patient: bool,
    deadline: Duration,
    interrupt: Interrupt,
    copies: CopyCounter,
    told: Told,
    memory: Memory,
    /// What readers want of this rank without asking.
    subscribed: Arc<Subscribed>,
    /// The step that is open, or was last.
    step: u64,
    endpoint: Arc<Endpoint>,
    /// Where steps go that find no room, under the policy `spill`.
    spill: Option<Spill>,
    /// The schema of the step that is open.
    schema: Arc<Schema>,
    /// Whether a step with this rank's ticket was sealed.
    ticket_told: bool,
    /// Whether the group has no other rank; then what this one says of the step that was
    /// captured, which becomes no bytes.
    alone: bool,
    own: Option<Contribution>,
    root: Option<RootSide>,
    /// Where the root's endpoint listens; with the first admission.
    root_ticket: Option<Ticket>,
    to_root: Option<Peer>,
    /// What was given up and readers have not unmapped, also when it was waited for.
    stuck_bytes: u64,
}

/// What only the root has.
struct RootSide {
    root: Arc<Root>,
    contact: Option<ContactFile>,
    /// The step that was admitted and not sealed.
    open: Option<u64>,
    tickets: Vec<Vec<u8>>,
    reach: Option<Arc<[u8]>>,
    ticket_told: bool,
    noted: Time,
    looked: Time,
    successor: Option<u64>,
    /// Every reader group had its steps, and the stream is closed.
    is_done: bool,
    /// Of the step that is being sealed, the ranks' shares in byte form, and the bytes
    /// of each; kept for their memory.
    shares: Encoder,
    bytes: Vec<u64>,
    /// What ranks wrote of steps that are being spilled.
    written: BTreeMap<u64, BTreeMap<usize, Option<Vec<u8>>>>,
    /// Groups that were told of the step that was just sealed.
    told: Vec<u64>,
    /// Steps whose memory is given back; kept for its memory.
    freed: Vec<(u64, Fate)>,
}

impl RootSide {
    /// Finds out whether another writer has taken the stream over.
    fn check_fence(&mut self) -> Result<(), Fault> {
        match Time::roughly().since(self.looked) >= LOOK_EVERY {
            true => self.check_fence_now(),
            false => self.fence(),
        }
    }

    fn check_fence_now(&mut self) -> Result<(), Fault> {
        self.looked = Time::roughly();
        if self.successor.is_none() {
            self.successor = self.contact.as_ref().and_then(ContactFile::successor);
        }
        self.fence()
    }

    fn fence(&self) -> Result<(), Fault> {
        match self.successor {
            Some(epoch) => Err(Fault::Fenced { epoch }),
            None => Ok(()),
        }
    }

    fn note(&mut self, next_step: u64) {
        let now = Time::roughly();
        if now.since(self.noted) >= NOTE_EVERY {
            self.noted = now;
            if let Some(contact) = &self.contact {
                contact.note(next_step);
            }
        }
    }

    /// Puts the ranks' shares together, and their bytes.
    fn take_in(
        &mut self,
        contributions: impl ExactSizeIterator<Item = Result<Contribution, DecodeError>>,
    ) -> Result<(), DecodeError> {
        self.shares.restart().length(contributions.len());
        self.bytes.clear();
        self.tickets.resize(contributions.len(), Vec::new());
        for (rank, contribution) in contributions.enumerate() {
            let contribution = contribution?;
            contribution.share.encode(&mut self.shares);
            self.bytes.push(contribution.share.bytes);
            self.take_written(rank, contribution.spilled);
            if let Some(ticket) = contribution.ticket
                && self.tickets[rank] != ticket
            {
                self.tickets[rank] = ticket;
                self.reach = None;
            }
        }
        Ok(())
    }

    fn take_written(&mut self, rank: usize, spilled: Vec<Written>) {
        for (step, written) in spilled {
            self.written.entry(step).or_default().insert(rank, written);
        }
    }

    /// Seals the spilled steps of which all `ranks` have said what they wrote.
    fn seal_spilled(&mut self, spill: &mut Spill, ranks: usize, wait: &Wait) {
        let whole = |written: &BTreeMap<usize, _>| written.len() >= ranks;
        let steps: Vec<u64> = self
            .written
            .iter()
            .filter_map(|(step, written)| whole(written).then_some(*step))
            .collect();
        for step in steps {
            let written = self.written.remove(&step).unwrap_or_default();
            let contributions: Option<Vec<Vec<u8>>> = written.into_values().collect();
            let described = self.root.spilling(step);
            let sealed = match (described, contributions) {
                (Some(step), Some(parts)) => spill_described(spill, &step, &parts, wait),
                _ => Err(None),
            };
            if let Err(Some(failure)) = &sealed {
                tracing::error!(step, %failure, "a step could not be spilled");
            }
            self.root
                .spilled(step, sealed.is_ok().then(|| spill.path()));
        }
    }

    fn reach(&mut self) -> Arc<[u8]> {
        let tickets = &self.tickets;
        let reach = self.reach.get_or_insert_with(|| {
            let mut encoder = Encoder::default();
            encoder.length(tickets.len());
            for ticket in tickets {
                encoder.bytes(ticket);
            }
            encoder.finish().into()
        });
        Arc::clone(reach)
    }
}

/// Seals a spilled step; the error, unless there is nothing to say of it.
fn spill_described(
    spill: &mut Spill,
    step: &Described,
    parts: &[Vec<u8>],
    wait: &Wait,
) -> Result<(), Option<Failure>> {
    let record = decode_record(&step.record).map_err(|_| None)?;
    let forms = step.forms.as_ref().ok_or(None)?;
    let described = (&record, &forms.schema, &forms.layout);
    spill.seal(described, parts, wait).map_err(Some)
}

fn not_root() -> Fault {
    Fault::Refused {
        peer: "the stream engine".into(),
        why: "only the root rank admits, seals and closes".into(),
    }
}

impl Beside for Endpoint {
    fn progress(&self) {
        Self::progress(self);
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Self::wait_fd(self)
    }
}

impl WriterEngine for StreamWriter {
    fn info(&self) -> EngineInfo {
        self.info.clone()
    }

    fn progress(&mut self) -> Result<(), Fault> {
        if self.told.progress == Progress::Threads {
            return Ok(());
        }
        self.endpoint.progress();
        if let Some(peer) = &self.to_root {
            peer.progress();
        }
        if self.to_root.as_ref().is_some_and(|it| it.away().is_some()) {
            // The root has no lease on its ranks: it is asked anew.
            self.to_root = None;
        }
        self.endpoint.away().map_or(Ok(()), |away| Err(away.into()))
    }

    fn beside(&self) -> Option<Arc<dyn Beside>> {
        let by_hand = self.told.progress != Progress::Threads;
        by_hand.then(|| Arc::clone(&self.endpoint) as _)
    }

    fn wait_fd(&self) -> Result<Option<OwnedFd>, Fault> {
        let fd = self.endpoint.wait_fd().map(|fd| fd.try_clone_to_owned());
        fd.transpose()
            .map_err(|error| Fault::io("making a descriptor", &error))
    }

    fn admit(
        &mut self,
        head: &StepHead,
        _schema: &Arc<Schema>,
        reserve_bytes: &[u64],
        wait: &Wait,
    ) -> Result<Admission, BeginError> {
        let stream = &self.place;
        let place = || stream.clone().at_step(head.step);
        let side = self.root.as_mut().ok_or_else(|| not_root().at(place()))?;
        side.check_fence().map_err(|fault| fault.at(place()))?;
        let outcome = side
            .root
            .admit(&self.endpoint, head.step, reserve_bytes, wait)
            .map_err(|(error, whom)| Fault::wait(error, whom).at(place()))?;
        match outcome {
            Outcome::Discarded => return Ok(Admission::Discard),
            Outcome::TooLarge {
                rank,
                bytes,
                limit_bytes,
            } => {
                return Err(BeginError::StepTooLarge {
                    place: place().on_rank(rank),
                    bytes,
                    limit_bytes,
                });
            }
            Outcome::Admitted => side.open = Some(head.step),
        }
        if self.is_patient {
            let bytes = reserve_bytes.first().copied().unwrap_or(0);
            let root = &side.root;
            await_memory(root, &self.endpoint, &self.memory, bytes, wait);
        }
        let mut admission = Encoder::with_capacity(ADMISSION_BYTES);
        match std::mem::replace(&mut side.ticket_told, true) {
            true => admission.bytes(&[]),
            false => admission.bytes(&self.endpoint.ticket().to_bytes()),
        };
        side.root.say_fates(&mut admission);
        Ok(Admission::Write(admission.finish()))
    }

    fn begin(
        &mut self,
        head: &StepHead,
        schema: &Arc<Schema>,
        admission: &[u8],
    ) -> Result<(), BeginError> {
        if self.spill.is_some() {
            self.schema = Arc::clone(schema);
        }
        self.step = head.step;
        let taken = self.take_admission(admission);
        taken.map_err(|error| {
            let fault = Fault::corrupt("the root's admission", &error);
            fault.at(self.place.clone().at_step(head.step)).into()
        })
    }

    fn span(&mut self, bytes: usize) -> Result<(SpanId, NonNull<u8>), PutError> {
        let wait = Wait::new(self.deadline, &self.interrupt);
        loop {
            match self.memory.span(bytes) {
                Ok(span) => return Ok(span),
                Err(error) => self.make_room(bytes as u64, &error, &wait)?,
            }
        }
    }

    fn span_memory(&self, span: SpanId) -> Option<SpanMemory> {
        self.memory.span_memory(span)
    }

    fn capture(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        into: &mut Captured,
        wait: &Wait,
    ) -> Result<(), PutError> {
        let share = loop {
            let schema = self.spill.is_some().then_some(&self.schema);
            let (stats, copies) = (&mut into.stats, &self.copies);
            match self.memory.capture(head, puts, stats, schema, copies) {
                Ok(captured) => break captured,
                Err(Uncaptured::Memory(error)) => {
                    self.make_room(Memory::main_bytes(puts), &error, wait)?;
                }
                Err(Uncaptured::Put(problem)) => {
                    let place = self.place.clone().at_step(head.step);
                    return Err(PutError::Shape { place, problem });
                }
            }
        };
        self.subscribed.captured(head.step, &share, puts);
        let ticket = (!self.ticket_told).then(|| self.endpoint.ticket().to_bytes());
        let spilled = self.spill.as_mut().map(Spill::tell_written);
        let contribution = Contribution {
            share,
            ticket,
            spilled: spilled.unwrap_or_default(),
        };
        if self.alone {
            self.own = Some(contribution);
            return Ok(());
        }
        let mut encoder = Encoder::from(std::mem::take(&mut into.contribution));
        contribution.encode(encoder.restart());
        into.contribution = encoder.finish();
        Ok(())
    }

    fn seal(&mut self, sealing: &Sealing<'_>, wait: &Wait) -> Result<(), EndError> {
        let step = sealing.record.head.step;
        let stream = &self.place;
        let place = || stream.clone().at_step(step);
        let side = self.root.as_mut().ok_or_else(|| not_root().at(place()))?;
        side.check_fence().map_err(|fault| fault.at(place()))?;
        let taken = match self.own.take() {
            Some(own) => side.take_in(std::iter::once(Ok(own))),
            None => {
                let said = sealing.contributions.iter();
                side.take_in(said.map(|said| Contribution::from_bytes(said)))
            }
        };
        taken.map_err(|error| {
            Fault::corrupt("what a rank said of its blocks", &error).at(place())
        })?;
        let forms = Forms {
            schema: Arc::clone(sealing.schema_bytes),
            layout: Arc::clone(sealing.layout_bytes),
            reach: side.reach(),
        };
        side.open = None;
        let (bytes, shares) = (&side.bytes, side.shares.so_far());
        side.told = side.root.seal(sealing.record, forms, bytes, shares);
        side.note(step.saturating_add(1));
        if let (Some(spill), Some(side)) = (&mut self.spill, &mut self.root) {
            side.seal_spilled(spill, sealing.contributions.len(), wait);
        }
        Ok(())
    }

    fn word(&mut self) -> Vec<u8> {
        let told = self
            .root
            .as_mut()
            .map(|side| std::mem::take(&mut side.told));
        let mut encoder = Encoder::default();
        for group in told.unwrap_or_default() {
            encoder.u64(group);
        }
        encoder.finish()
    }

    fn hear(&mut self, head: &StepHead, word: &[u8]) {
        if self.root.is_none() {
            let (groups, _) = word.as_chunks::<8>();
            let groups = groups.iter().map(|number| u64::from_le_bytes(*number));
            self.subscribed.ended(&self.endpoint, groups, head.step);
        }
    }

    fn finish(&mut self, head: &StepHead, sealed: bool) {
        if !sealed {
            self.subscribed.freed(head.step);
        }
        self.memory.finish(head.step, sealed);
        self.ticket_told |= sealed;
        if let Some(spill) = &mut self.spill {
            spill.was_told(sealed);
        }
        if let Some(side) = &mut self.root
            && !sealed
            && side.open.take().is_some()
        {
            side.root.abort(head.step);
        }
        self.tidy_up();
    }

    fn last_word(&mut self, answers: &[Vec<u8>], wait: &Wait) -> Result<Vec<u8>, CloseError> {
        let (Some(side), Some(spill)) = (&mut self.root, &mut self.spill) else {
            return Ok(Vec::new());
        };
        // Readers hear here already that no step follows.
        side.check_fence_now()
            .map_err(|fault| fault.at(self.place.clone()))?;
        for (rank, answer) in answers.iter().enumerate() {
            let answer = Contribution::from_bytes(answer).map_err(|error| {
                let what = format!("what rank {rank} said of what it spilled");
                Fault::corrupt(what, &error).at(self.place.clone())
            })?;
            side.take_written(rank, answer.spilled);
        }
        side.seal_spilled(spill, answers.len(), wait);
        if !side.root.asks_before_close(&self.endpoint, wait) {
            return Ok(Vec::new());
        }
        let mut word = Encoder::default();
        // No ticket: it was told with the first admission.
        side.root.say_fates(word.bytes(&[]));
        Ok(word.finish())
    }

    fn answer(&mut self, word: &[u8]) -> Result<Vec<u8>, CloseError> {
        if !word.is_empty() {
            self.take_admission(word).map_err(|error| {
                Fault::corrupt("the root's last word", &error).at(self.place.clone())
            })?;
        }
        let Some(spill) = &mut self.spill else {
            return Ok(Vec::new());
        };
        let answer = Contribution {
            spilled: spill.take_written(),
            ..Contribution::default()
        };
        Ok(answer.to_bytes())
    }

    fn close_root(&mut self, wait: &Wait) -> Result<(), CloseError> {
        let place = self.place.clone();
        let side = self.root.as_mut();
        let side = side.ok_or_else(|| not_root().at(place.clone()))?;
        // The stream is not this writer's to end: whoever still listens to it is to look for
        // the later one.
        side.check_fence_now()
            .map_err(|fault| fault.at(place.clone()))?;
        let closed = side.root.close(&self.endpoint, wait);
        side.is_done = closed.is_ok() && !side.root.is_owed_to_cursors();
        side.contact = None;
        let left = self.spill.as_ref().map(|spill| {
            let path = spill.path();
            format!(" (what readers did not have stays: open `file:{path}`)")
        });
        closed.map_err(|(error, whom)| {
            let whom = whom + &left.unwrap_or_default();
            Fault::wait(error, whom).at(place).into()
        })
    }

    fn close(&mut self, wait: &Wait) -> Result<(), CloseError> {
        if let Some(spill) = self.spill.take() {
            let needed = self.root.as_ref().is_some_and(|side| !side.is_done);
            spill.close(self.root.is_some(), needed, wait);
        }
        self.to_root = None;
        self.root = None;
        Ok(())
    }
}

impl StreamWriter {
    /// Between two steps: takes in what readers have let go of. They work on the step that was
    /// sealed meanwhile, and nobody waits for the next, which begins the sooner.
    fn tidy_up(&mut self) {
        let Some(side) = &mut self.root else { return };
        self.endpoint.poll();
        // A rank that is alone need not wait to be told.
        if self.alone {
            let mut freed = std::mem::take(&mut side.freed);
            side.root.take_freed(&mut freed);
            for (step, fate) in freed.drain(..) {
                self.let_go(step, fate);
            }
            if let Some(side) = &mut self.root {
                side.freed = freed;
            }
        }
    }

    fn take_admission(&mut self, admission: &[u8]) -> Result<(), DecodeError> {
        let mut from = Decoder::new(admission);
        let ticket = from.bytes()?;
        if !ticket.is_empty() {
            let ticket = Ticket::from_bytes(ticket);
            self.root_ticket = Some(ticket.map_err(|error| from.error(error.to_string()))?);
        }
        for _ in 0..from.count(9)? {
            let (step, fate) = (from.u64()?, from.u8()?);
            match Fate::from_number(fate) {
                Some(fate) => self.let_go(step, fate),
                None => return Err(from.error(format!("no fate {fate}"))),
            }
        }
        from.finish()
    }
}
