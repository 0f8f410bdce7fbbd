//! The writing side of the engine: the traits' calls, in their order.
//!
//! ```text
//! root   prepare: who has the name?    admit: ask the publisher     seal: tell it      close_root: wait for readers
//! all    attach: endpoint, memory      begin: free old steps        capture: one pass  close
//! ```
//! The root's admission tells every rank which steps' memory is free. A rank
//! that needs more than was reserved asks the root between two steps.

mod open;
mod root;
mod subscribed;

pub(super) use open::prepare;

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use panta_transports::copy::CopyCounter;
use panta_transports::coupling::{CouplingError, Endpoint, Peer, Progress, Ticket, Urgency};
use panta_transports::region::RegionError;
use panta_transports::time::{Interrupt, Time, Wait};

use self::open::Told;
use self::root::{Described, Fate, Forms, Outcome, Root};
use self::subscribed::Subscribed;
use super::contact::ContactFile;
use super::memory::{Memory, Uncaptured};
use super::slot::Contribution;
use super::spill::Spill;
use crate::announce::decode_record;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::engine::{
    Admission, Beside, Captured, EngineInfo, PutBlock, Sealing, SpanId, SpanMemory, WriterEngine,
};
use crate::error::{BeginError, CloseError, EndError, Failure, Fault, Place, PutError};
use crate::model::{Schema, StepHead};

/// How often the next step's number is noted in the contact file, at most.
const NOTE_EVERY: Duration = Duration::from_millis(1);
/// How long readers may take to unmap memory before other room is looked for.
const UNMAPPED_WITHIN: Duration = Duration::from_secs(1);
/// How often the contact file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Bytes of an admission, as a rule: what becomes of a few steps.
const ADMISSION_BYTES: usize = 64;

/// Carries the steps of one rank.
pub(super) struct StreamWriter {
    place: Place,
    info: EngineInfo,
    limit_bytes: u64,
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
    drained: bool,
    /// Of the step that is being sealed, the ranks' shares in byte form, and the bytes
    /// of each; kept for their memory.
    shares: Encoder,
    bytes: Vec<u64>,
    /// What ranks wrote of steps that are being spilled.
    written: BTreeMap<u64, Vec<Option<Vec<u8>>>>,
    /// Groups that were told of the step that was just sealed.
    told: Vec<u64>,
}

impl RootSide {
    /// Finds out whether another writer has taken the stream over.
    fn check_fence(&mut self) -> Result<(), Fault> {
        let now = Time::roughly();
        if self.successor.is_none() && now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.successor = self.contact.as_ref().and_then(ContactFile::successor);
        }
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
    fn take_in(&mut self, contributions: &[Vec<u8>]) -> Result<(), DecodeError> {
        self.shares.restart().length(contributions.len());
        self.bytes.clear();
        self.tickets.resize(contributions.len(), Vec::new());
        for (rank, contribution) in contributions.iter().enumerate() {
            let contribution = Contribution::from_bytes(contribution)?;
            contribution.share.encode(&mut self.shares);
            self.bytes.push(contribution.share.bytes);
            for (step, written) in contribution.spilled {
                self.written.entry(step).or_default().push(written);
            }
            if let Some(ticket) = contribution.ticket
                && self.tickets[rank] != ticket
            {
                self.tickets[rank] = ticket;
                self.reach = None;
            }
        }
        Ok(())
    }

    /// Seals the spilled steps of which all `ranks` have said what they wrote.
    fn seal_spilled(&mut self, spill: &mut Spill, ranks: usize, wait: &Wait) {
        let whole = |written: &Vec<Option<Vec<u8>>>| written.len() >= ranks;
        let steps: Vec<u64> = self
            .written
            .iter()
            .filter_map(|(step, written)| whole(written).then_some(*step))
            .collect();
        for step in steps {
            let written = self.written.remove(&step).unwrap_or_default();
            let contributions: Option<Vec<Vec<u8>>> = written.into_iter().collect();
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

impl StreamWriter {
    fn too_large(&self, bytes: u64) -> PutError {
        PutError::StepTooLarge {
            place: self.place.clone(),
            bytes,
            limit_bytes: self.limit_bytes,
        }
    }

    /// Waits until memory of an earlier step is free again.
    fn make_room(&mut self, bytes: u64, error: &RegionError, wait: &Wait) -> Result<(), PutError> {
        let held: Vec<u64> = self.memory.steps().collect();
        let limited = matches!(
            error,
            RegionError::Limit { .. } | RegionError::TooManyRegions { .. }
        );
        let with_lent = self.memory.lent_bytes().saturating_add(bytes);
        if limited && with_lent > self.memory.limit_bytes() {
            return Err(self.too_large(bytes));
        }
        if limited && self.wait_for_lingering(bytes, held.is_empty(), wait)? {
            return Ok(());
        }
        if limited && held.is_empty() {
            return Err(self.too_large(bytes));
        }
        if !limited {
            let fault = Fault::io(format!("taking {bytes} bytes of memory"), error);
            return Err(fault.at(self.place.clone()).into());
        }
        let needed = self.memory.lent_bytes().saturating_add(bytes);
        let freed = match &self.root {
            Some(side) => {
                side.root.grow(self.step, 0, needed);
                wait_for_freed(&side.root, &self.endpoint, &held, wait)
            }
            None => self.ask_root(needed, &held, wait),
        };
        let freed = freed.map_err(|fault| fault.at(self.place.clone()))?;
        for step in freed {
            self.subscribed.freed(step);
            self.memory.free(step);
        }
        Ok(())
    }

    /// Waits for readers to unmap what was given up, which takes them a moment;
    /// once for what they do not, and longer only where there is `nothing_else` to
    /// wait for. Whether it is worth trying again.
    fn wait_for_lingering(
        &mut self,
        bytes: u64,
        nothing_else: bool,
        wait: &Wait,
    ) -> Result<bool, PutError> {
        let lingering = self.memory.lingering_bytes();
        self.stuck_bytes = self.stuck_bytes.min(lingering);
        if lingering > self.stuck_bytes {
            let short = wait.at_most(UNMAPPED_WITHIN);
            if self.memory.wait_for_lingering(&short).is_ok() {
                return Ok(true);
            }
            self.stuck_bytes = lingering;
            self.memory.make_room(bytes);
            if self.memory.lingering_bytes() > lingering {
                return Ok(true);
            }
        }
        if lingering == 0 || !nothing_else {
            return Ok(false);
        }
        let waited = self.memory.wait_for_lingering(wait);
        waited.map(|()| true).map_err(|error| {
            let whom = format!(
                "readers that were excluded, or let go of earlier steps, to unmap {lingering} bytes of them"
            );
            Fault::wait(error, whom).at(self.place.clone()).into()
        })
    }

    fn ask_root(&mut self, needed: u64, held: &[u64], wait: &Wait) -> Result<Vec<u64>, Fault> {
        let asked = self.try_ask_root(needed, held, wait);
        asked.map_err(|error| match error {
            CouplingError::NotReady { source, .. } => Fault::wait(
                source,
                "room for the step: readers hold the steps before it; the next step will be",
            ),
            error => Fault::PeerLost {
                peer: "the root of this writer".into(),
                why: error.to_string(),
            },
        })
    }

    fn try_ask_root(
        &mut self,
        needed: u64,
        held: &[u64],
        wait: &Wait,
    ) -> Result<Vec<u64>, CouplingError> {
        let rank = u32::try_from(self.place.rank.unwrap_or(0)).unwrap_or(u32::MAX);
        if self.to_root.is_none()
            && let Some(ticket) = &self.root_ticket
        {
            let options = self.told.peer_options(self.told.lease);
            let peer = Peer::connect(ticket, &options, wait)?;
            if self.told.progress != Progress::Threads {
                self.interrupt.meanwhile(peer.meanwhile());
            }
            self.to_root = Some(peer);
        }
        let Some(peer) = &self.to_root else {
            return Ok(Vec::new());
        };
        let mut question = Encoder::default();
        question.u64(self.step).u32(rank).u64(needed).u64s(held);
        peer.send(&[&question.finish()], Urgency::Now, wait)?;
        let mut answer = Vec::new();
        peer.receive(&mut answer, wait)?;
        Ok(Decoder::new(&answer).u64s().unwrap_or_default())
    }
}

fn not_root() -> Fault {
    Fault::Refused {
        peer: "the stream engine".into(),
        why: "only the root rank admits, seals and closes".into(),
    }
}

/// The root itself waits for readers to let go.
fn wait_for_freed(
    root: &Root,
    endpoint: &Endpoint,
    held: &[u64],
    wait: &Wait,
) -> Result<Vec<u64>, Fault> {
    loop {
        let freed = root.freed_of(held);
        if !freed.is_empty() {
            return Ok(freed);
        }
        endpoint
            .drive(wait)
            .map_err(|error| Fault::wait(error, "readers to let go of earlier steps"))?;
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
        let spilled = self.spill.as_mut().map(Spill::take_written);
        let contribution = Contribution {
            share,
            ticket,
            spilled: spilled.unwrap_or_default(),
        };
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
        side.take_in(sealing.contributions).map_err(|error| {
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
        if let Some(side) = &mut self.root
            && !sealed
            && side.open.take().is_some()
        {
            side.root.abort(head.step);
        }
    }

    fn close_root(&mut self, wait: &Wait) -> Result<(), CloseError> {
        let place = self.place.clone();
        let side = self.root.as_mut();
        let side = side.ok_or_else(|| not_root().at(place.clone()))?;
        let closed = side.root.close(&self.endpoint, wait);
        side.drained = closed.is_ok();
        side.contact = None;
        closed.map_err(|(error, whom)| Fault::wait(error, whom).at(place).into())
    }

    fn close(&mut self, wait: &Wait) -> Result<(), CloseError> {
        if let Some(spill) = self.spill.take() {
            let needed = self.root.as_ref().is_some_and(|side| !side.drained);
            spill.close(self.root.is_some(), needed, wait);
        }
        self.to_root = None;
        self.root = None;
        Ok(())
    }
}

impl StreamWriter {
    fn take_admission(&mut self, admission: &[u8]) -> Result<(), DecodeError> {
        let mut from = Decoder::new(admission);
        let ticket = from.bytes()?;
        if !ticket.is_empty() {
            let ticket = Ticket::from_bytes(ticket);
            self.root_ticket = Some(ticket.map_err(|error| from.error(error.to_string()))?);
        }
        for _ in 0..from.count(9)? {
            let (step, fate) = (from.u64()?, from.u8()?);
            self.subscribed.freed(step);
            match Fate::from_number(fate) {
                Some(Fate::Free) => self.memory.free(step),
                Some(Fate::Retire) => self.memory.retire(step),
                Some(Fate::Spill) => {
                    let wait = Wait::new(self.deadline, &self.interrupt);
                    if let Some(spill) = &mut self.spill {
                        self.memory.spill(step, spill, &wait);
                    }
                }
                None => return Err(from.error(format!("no fate {fate}"))),
            }
        }
        from.finish()
    }
}
