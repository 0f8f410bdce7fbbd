//! The writer root: the publisher, and the endpoint that speaks for it.
//!
//! ```text
//!   session ── admit, seal, close ──> Publisher ──actions──> Endpoint ──> reader roots
//!   Endpoint ── joined, message, lost ──────^
//! ```
//! The machine is fed by whoever has news: the thread inside a call, or the
//! endpoint's own when nobody is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use panta_transports::coupling::{Endpoint, Handler, Lost, PeerId, PeerInfo};
use panta_transports::time::{Time, Wait, WaitError};

use super::super::machine::{
    Awaited, Gone, GroupId, Publisher, PublisherAction, PublisherEvent, PublisherOptions,
    ReaderMessage, WriterMessage,
};
use super::super::message::Greeting;
use super::described::{Described, Forms, Group};
use super::fates::{Fate, Growth, Room, TooLarge};
use super::subscribed::Subscribed;
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::model::StepRecord;
use crate::ordered::Ordered;

/// The publisher is opened without a lease, since the endpoint notices silence: it asks
/// for no tick, and no clock is looked at for it.
const NO_TIME: Time = Time(0);

/// Descriptions kept for steps to come, at most: as many as come and go meanwhile.
const MAX_SPARE: usize = 64;

/// Bytes of steps in memory up to which one begins without a look at what readers have let
/// go of since the last one ended: to use other memory costs nothing then.
const NEAR_BYTES: u64 = 64 << 10;

/// What became of a step that was to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Admitted,
    Discarded,
    TooLarge {
        rank: usize,
        bytes: u64,
        limit_bytes: u64,
    },
}

/// What the root knows.
struct State {
    stream: String,
    publisher: Publisher,
    actions: Vec<PublisherAction>,
    groups: BTreeMap<PeerId, Group>,
    steps: Ordered<u64, Described>,
    /// Descriptions of steps that are gone, for steps to come.
    spare: Vec<Described>,
    /// What is being said; kept for its memory.
    saying: Encoder,
    /// Steps that ranks are to write to the spill file, until it has them; and whether
    /// that is [`Fate::Spill`] or [`Fate::Write`].
    spilling: BTreeMap<u64, Fate>,
    /// Where the spill file is, once it has a step.
    dataset: String,
    /// What readers did not let go of in time is being written.
    abandoned: bool,
    outcome: Option<Outcome>,
    /// What each rank reserved for the step that is open.
    reserved: Vec<u64>,
    drained: bool,
    /// What ranks have to hear when the next step begins.
    fates: Vec<(u64, Fate)>,
    /// Ranks of the writer that wait, in a step, for one of these to be freed.
    wanting: BTreeMap<PeerId, (u64, Vec<u64>)>,
    /// What readers want to have without asking.
    subscribed: Arc<Subscribed>,
    /// The step that is being sealed, and the groups that were told of it.
    sealing: Option<u64>,
    told: Vec<u64>,
}

/// The root's half of the engine, shared with the endpoint's thread.
pub(super) struct Root {
    state: Mutex<State>,
    endpoint: OnceLock<Weak<Endpoint>>,
}

impl Root {
    pub(super) fn new(
        stream: &str,
        options: PublisherOptions,
        subscribed: Arc<Subscribed>,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                stream: stream.to_owned(),
                publisher: Publisher::new(options),
                actions: Vec::new(),
                groups: BTreeMap::new(),
                steps: Ordered::default(),
                spare: Vec::new(),
                saying: Encoder::default(),
                spilling: BTreeMap::new(),
                dataset: String::new(),
                abandoned: false,
                outcome: None,
                reserved: Vec::new(),
                drained: false,
                fates: Vec::new(),
                wanting: BTreeMap::new(),
                subscribed,
                sealing: None,
                told: Vec::new(),
            }),
            endpoint: OnceLock::new(),
        }
    }

    /// From now on what is to be said is said by this endpoint; what readers who came
    /// since it listens have to hear was kept until now.
    pub(super) fn speak_through(&self, endpoint: &Arc<Endpoint>) {
        let mut state = self.lock();
        // Set once, by whoever opened the endpoint.
        let _ = self.endpoint.set(Arc::downgrade(endpoint));
        state.carry_out(Some(endpoint));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.endpoint.get().and_then(Weak::upgrade)
    }

    fn feed(&self, state: &mut State, event: PublisherEvent<'_>) {
        state.publisher.handle(event, NO_TIME, &mut state.actions);
        if !state.actions.is_empty() && self.endpoint.get().is_some() {
            state.carry_out(self.endpoint().as_deref());
        }
    }

    /// Asks whether the step may begin, and waits for the answer.
    pub(super) fn admit(
        &self,
        endpoint: &Endpoint,
        step: u64,
        reserve_bytes: &[u64],
        wait: &Wait,
    ) -> Result<Outcome, (WaitError, String)> {
        let mut state = self.lock();
        if !state.publisher.fits_within(reserve_bytes, NEAR_BYTES) {
            drop(state);
            endpoint.poll();
            state = self.lock();
        }
        state.outcome = None;
        state.reserved.clear();
        state.reserved.extend_from_slice(reserve_bytes);
        let admit = PublisherEvent::Admit {
            step,
            reserve_bytes,
        };
        self.feed(&mut state, admit);
        loop {
            if let Some(outcome) = state.outcome.take() {
                return Ok(outcome);
            }
            drop(state);
            let driven = endpoint.drive(wait);
            state = self.lock();
            if driven.is_err()
                && state.outcome.is_none()
                && let Err(error) = wait.slice()
            {
                let whom = state.waited_for();
                self.feed(&mut state, PublisherEvent::GiveUp);
                return Err((error, whom));
            }
        }
    }

    /// A rank needs more for the step that is open: older steps may go for it. An error
    /// is that it gets none whatever goes.
    pub(super) fn grow(&self, step: u64, rank: usize, growth: Growth) -> Result<(), TooLarge> {
        self.grow_in(&mut self.lock(), step, rank, growth)
    }

    fn grow_in(
        &self,
        state: &mut State,
        step: u64,
        rank: usize,
        Growth { needed, wished }: Growth,
    ) -> Result<(), TooLarge> {
        // A rank that waited in vain may be heard when its step is over.
        if !state.publisher.is_open(step) {
            return Ok(());
        }
        let bytes = wished.min(state.publisher.most_room(step, rank));
        let bytes = bytes.max(needed);
        state.outcome = None;
        let mut reserved = state.reserved.clone();
        if let Some(reserved) = reserved.get_mut(rank) {
            *reserved = bytes.max(*reserved);
        }
        let reserve_bytes = &reserved;
        self.feed(
            state,
            PublisherEvent::Admit {
                step,
                reserve_bytes,
            },
        );
        match state.outcome.take() {
            Some(Outcome::TooLarge { limit_bytes, .. }) => {
                // The others need not have what this one cannot.
                Err(TooLarge { limit_bytes })
            }
            _ => {
                state.reserved = reserved;
                Ok(())
            }
        }
    }

    /// A step is whole: tells whoever is to be told. `bytes` and `shares` are of each rank.
    /// The numbers of the groups that were told.
    pub(super) fn seal(
        &self,
        record: &StepRecord,
        forms: Forms,
        bytes: &[u64],
        shares: &[u8],
    ) -> Vec<u64> {
        let (step, time) = (record.head.step, record.head.time.sim);
        let mut state = self.lock();
        let mut described = state.spare.pop().unwrap_or_default();
        described.take_in(record, forms, shares);
        state.steps.insert(step, described);
        // One that is alone says it with the announcement.
        state.sealing = (bytes.len() > 1).then_some(step);
        self.feed(&mut state, PublisherEvent::Sealed { step, time, bytes });
        state.sealing = None;
        std::mem::take(&mut state.told)
    }

    /// What is known of a step that is being spilled.
    pub(super) fn spilling(&self, step: u64) -> Option<Described> {
        let state = self.lock();
        let known = state.spilling.contains_key(&step);
        known.then(|| state.steps.get(step).cloned()).flatten()
    }

    /// A step lies in the dataset at `path`; `None`: it is lost.
    pub(super) fn spilled(&self, step: u64, path: Option<String>) {
        let mut state = self.lock();
        let Some(fate) = state.spilling.remove(&step) else {
            return;
        };
        let event = match path {
            Some(path) => {
                state.dataset = path;
                PublisherEvent::Spilled { step }
            }
            None => PublisherEvent::SpillFailed { step },
        };
        if fate == Fate::Spill {
            state.lies_in_file(step);
        }
        self.feed(&mut state, event);
    }

    pub(super) fn abort(&self, step: u64) {
        let mut state = self.lock();
        self.feed(&mut state, PublisherEvent::Aborted { step });
    }

    /// Appends what ranks have to hear of their memory since this was last asked.
    pub(super) fn say_fates(&self, into: &mut Encoder) {
        let mut state = self.lock();
        into.length(state.fates.len());
        for (step, fate) in state.fates.drain(..) {
            into.u64(step).u8(fate.number());
        }
    }

    /// Takes what ranks would have to hear of, if that is only of memory that is given back.
    pub(super) fn take_freed(&self, into: &mut Vec<(u64, Fate)>) {
        let mut state = self.lock();
        let is_freed = |(_, fate): &(u64, Fate)| matches!(fate, Fate::Free | Fate::Retire);
        if state.fates.iter().all(is_freed) {
            into.append(&mut state.fates);
        }
    }

    /// How many steps the slowest reader group has not let go of.
    pub(super) fn ahead_steps(&self) -> u64 {
        let awaiting = self.lock().publisher.awaiting();
        let behind = awaiting.iter().map(|group| group.holds + group.to_come);
        behind.max().unwrap_or(0)
    }

    /// Which of these steps are to be in memory no more, and what becomes of them.
    pub(super) fn freed_of(&self, steps: &[u64]) -> Vec<(u64, Fate)> {
        self.lock().freed_of(steps)
    }

    /// No step follows: waits until readers have what they get, or ranks have to write
    /// something for them first; when the wait is over, all that readers do not have.
    /// Whether ranks have to; they hear of it by their [fates](Self::say_fates).
    pub(super) fn asks_before_close(&self, endpoint: &Endpoint, wait: &Wait) -> bool {
        let mut state = self.lock();
        self.feed(&mut state, PublisherEvent::Closing);
        loop {
            let is_told = |(_, fate): &(u64, Fate)| matches!(fate, Fate::Spill | Fate::Write);
            if state.fates.iter().any(is_told) {
                return true;
            }
            if state.drained || state.abandoned {
                return false;
            }
            drop(state);
            let driven = endpoint.drive(wait);
            state = self.lock();
            if driven.is_err() && !state.drained && wait.slice().is_err() {
                state.abandoned = true;
                self.feed(&mut state, PublisherEvent::Abandon);
            }
        }
    }

    /// Whether the cursor of a group that is not there has yet to come to a step.
    pub(super) fn is_owed_to_cursors(&self) -> bool {
        self.lock().publisher.is_owed_to_cursors()
    }

    /// Tells readers that no step follows, and waits until they have what they get.
    pub(super) fn close(
        &self,
        endpoint: &Endpoint,
        wait: &Wait,
    ) -> Result<(), (WaitError, String)> {
        let mut state = self.lock();
        self.feed(&mut state, PublisherEvent::Closing);
        while !state.drained {
            drop(state);
            let driven = endpoint.drive(wait);
            state = self.lock();
            if driven.is_err()
                && !state.drained
                && let Err(error) = wait.slice()
            {
                return Err((error, state.waited_for()));
            }
        }
        Ok(())
    }

    fn message_of_reader(&self, state: &mut State, peer: PeerId, bytes: &[u8]) {
        let group = GroupId(peer.0);
        let mut from = Decoder::new(bytes);
        // What it says at one time comes as one.
        loop {
            match ReaderMessage::decode(&mut from) {
                Ok(message) => {
                    let message = &message;
                    self.feed(state, PublisherEvent::Message { group, message });
                }
                Err(error) => {
                    state.groups.remove(&peer);
                    let how = Gone::Misbehaved;
                    self.feed(state, PublisherEvent::Lost { group, how });
                    if let Some(endpoint) = self.endpoint() {
                        endpoint.drop_peer(peer, &format!("a message does not decode: {error}"));
                    }
                    return;
                }
            }
            if from.left() == 0 {
                return;
            }
        }
    }

    /// A rank of the writer needs more for a step, names the steps it holds, and
    /// waits for some of them to be freed.
    fn message_of_writer(&self, state: &mut State, peer: PeerId, bytes: &[u8]) {
        let mut from = Decoder::new(bytes);
        let mut read = || {
            let (step, rank) = (from.u64()?, from.u32()?);
            let (needed, wished) = (from.u64()?, from.u64()?);
            Ok::<_, DecodeError>((step, rank, Growth { needed, wished }, from.u64s()?))
        };
        // A rank of this very writer; what it says wrong it waits for in vain.
        let Ok((step, rank, growth, held)) = read() else {
            return;
        };
        let endpoint = self.endpoint();
        match self.grow_in(state, step, rank as usize, growth) {
            Ok(()) => {
                state.wanting.insert(peer, (step, held));
                state.answer_wanting(endpoint.as_deref());
            }
            Err(too_large) => answer(endpoint.as_deref(), (peer, step), &Room::None(too_large)),
        }
    }
}

impl State {
    fn freed_of(&self, steps: &[u64]) -> Vec<(u64, Fate)> {
        let live: Vec<u64> = self.publisher.in_memory().collect();
        let fate = |step: u64| match self.spilling.get(&step) {
            // What is to be written before others are spilled is written before them.
            Some(fate) => Some((step, *fate)),
            None if live.binary_search(&step).is_ok() => None,
            None if self.fates.contains(&(step, Fate::Retire)) => None,
            None => Some((step, Fate::Free)),
        };
        let fates: Vec<_> = steps.iter().copied().filter_map(fate).collect();
        let is_freed = |(_, fate): &(u64, Fate)| *fate != Fate::Write;
        match fates.iter().any(is_freed) {
            true => fates,
            false => Vec::new(),
        }
    }

    fn answer_wanting(&mut self, endpoint: Option<&Endpoint>) {
        for (peer, (step, held)) in std::mem::take(&mut self.wanting) {
            let freed = self.freed_of(&held);
            if freed.is_empty() {
                self.wanting.insert(peer, (step, held));
                continue;
            }
            answer(endpoint, (peer, step), &Room::Of(freed));
        }
    }

    /// Whom the writer waits for, in words.
    fn waited_for(&self) -> String {
        let awaiting = self.publisher.awaiting();
        if awaiting.is_empty() {
            return "a reader group to open the stream (`rendezvous` says how many are waited for)"
                .into();
        }
        let groups: Vec<String> = awaiting.iter().map(in_words).collect();
        groups.join(", ")
    }

    fn carry_out(&mut self, endpoint: Option<&Endpoint>) {
        let mut freed = false;
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                PublisherAction::Admitted { .. } => self.outcome = Some(Outcome::Admitted),
                PublisherAction::Discard { .. } => self.outcome = Some(Outcome::Discarded),
                PublisherAction::TooLarge {
                    rank,
                    bytes,
                    limit_bytes,
                    ..
                } => {
                    self.outcome = Some(Outcome::TooLarge {
                        rank,
                        bytes,
                        limit_bytes,
                    });
                }
                PublisherAction::Retire { step } => self.fates.push((step, Fate::Retire)),
                PublisherAction::Spill { step } => {
                    self.spilling.insert(step, Fate::Spill);
                    self.fates.push((step, Fate::Spill));
                    freed = true;
                }
                PublisherAction::Write { step } => {
                    self.spilling.insert(step, Fate::Write);
                    self.fates.push((step, Fate::Write));
                }
                PublisherAction::Evict { step } => {
                    self.lies_in_file(step);
                    self.fates.push((step, Fate::Free));
                    freed = true;
                }
                PublisherAction::Free { step } => {
                    self.spilling.remove(&step);
                    self.let_go(step);
                    self.fates.push((step, Fate::Free));
                    freed = true;
                }
                PublisherAction::Announce {
                    group, at, newest, ..
                } => self.announce(endpoint, group, &WriterMessage::Announced { at, newest }),
                PublisherAction::Send { group, message } => {
                    message.encode(self.saying.restart());
                    say(endpoint, group, self.saying.so_far());
                }
                PublisherAction::Fence { group, .. } => {
                    let peer = PeerId(group.0);
                    self.groups.remove(&peer);
                    if let Some(endpoint) = endpoint {
                        endpoint.drop_peer(peer, "the writer does not serve this reader group");
                    }
                }
                // The publisher itself remembers, for as long as the stream lives.
                PublisherAction::Remember { .. } => {}
                PublisherAction::Drained => self.drained = true,
            }
        }
        self.actions = actions;
        if freed && !self.wanting.is_empty() {
            self.answer_wanting(endpoint);
        }
    }

    /// From now on readers are told that a step lies in the spill file.
    fn lies_in_file(&mut self, step: u64) {
        if let Some(described) = self.steps.get_mut(step) {
            described.lies_in(&self.dataset);
        }
    }

    /// Forgets a step, but not the memory of its description.
    fn let_go(&mut self, step: u64) {
        if let Some(mut described) = self.steps.remove(step)
            && self.spare.len() < MAX_SPARE
        {
            described.forms = None;
            self.spare.push(described);
        }
    }

    fn announce(&mut self, endpoint: Option<&Endpoint>, group: GroupId, message: &WriterMessage) {
        let WriterMessage::Announced { at, .. } = message else {
            return;
        };
        let (peer, number) = (PeerId(group.0), at.step);
        let told = self.groups.get_mut(&peer);
        let (Some(told), Some(step), Some(endpoint)) = (told, self.steps.get(number), endpoint)
        else {
            return;
        };
        told.told = told.told.max(Some(number));
        let all_push = self.sealing == Some(number);
        message.encode(self.saying.restart());
        told.announce(step, all_push, &mut self.saying);
        let pushes = self.subscribed.with_announcement(peer, number);
        let sent = endpoint.send_and_push(peer, &[self.saying.so_far()], &pushes);
        if let Err(error) = sent {
            // Its loss is told to the handler.
            endpoint.drop_peer(peer, &error.to_string());
        }
        self.subscribed.push(endpoint, group.0, number);
        if all_push {
            self.told.push(group.0);
        }
    }
}

/// Tells a rank of the writer what it gets for the step that it asked for.
fn answer(endpoint: Option<&Endpoint>, (peer, step): (PeerId, u64), room: &Room) {
    if let Some(endpoint) = endpoint {
        // A rank that is lost asks no more.
        let _ = endpoint.send(peer, &[&step.to_le_bytes(), &room.to_bytes()]);
    }
}

fn say(endpoint: Option<&Endpoint>, group: GroupId, message: &[u8]) {
    let Some(endpoint) = endpoint else {
        return;
    };
    let peer = PeerId(group.0);
    if let Err(error) = endpoint.send(peer, &[message]) {
        // Its loss is told to the handler.
        endpoint.drop_peer(peer, &error.to_string());
    }
}

fn in_words(group: &Awaited) -> String {
    let name = if group.name.is_empty() {
        group.group.to_string()
    } else {
        format!("reader group `{}`", group.name)
    };
    let holds = match (group.holds, group.oldest) {
        (0, _) | (_, None) => "holds no step".to_owned(),
        (1, Some(oldest)) => format!("holds step {oldest}"),
        (count, Some(oldest)) => format!("holds {count} steps, the oldest is {oldest}"),
    };
    format!("{name}, which {holds} and has yet to see {}", group.to_come)
}

impl Handler for Root {
    fn joined(&self, peer: PeerId, hello: &[u8], _how: &PeerInfo) -> Result<(), String> {
        let greeting = Greeting::from_bytes(hello).map_err(|error| error.to_string())?;
        let Greeting::ReaderRoot {
            stream,
            ranks,
            join,
        } = greeting
        else {
            return Ok(());
        };
        let mut state = self.lock();
        if stream != state.stream {
            return Err(format!(
                "this is stream `{}`, not `{stream}`; look at the address or the contact file",
                state.stream
            ));
        }
        state.groups.insert(peer, Group::new(ranks));
        let (group, join) = (GroupId(peer.0), &join);
        self.feed(&mut state, PublisherEvent::Joined { group, join });
        Ok(())
    }

    fn message(&self, peer: PeerId, message: &[u8]) {
        let mut state = self.lock();
        if state.groups.contains_key(&peer) {
            self.message_of_reader(&mut state, peer, message);
        } else {
            self.message_of_writer(&mut state, peer, message);
        }
    }

    fn subscribed(&self, peer: PeerId, what: &[u8]) {
        let state = self.lock();
        let told = |group| state.groups.get(&PeerId(group))?.told;
        if let Some(endpoint) = self.endpoint() {
            state.subscribed.subscribe(&endpoint, peer, what, told);
        }
    }

    fn lost(&self, peer: PeerId, why: &Lost) {
        let mut state = self.lock();
        state.wanting.remove(&peer);
        state.subscribed.lost(peer);
        let Some(group) = state.groups.remove(&peer) else {
            return;
        };
        let how = match why {
            // Its other ranks may live, and look.
            Lost::Died if group.ranks == 1 => Gone::Died,
            Lost::Died | Lost::Closed => Gone::Closed,
            Lost::Silent { .. } => Gone::Silent,
            Lost::Misbehaved { .. } | Lost::Dropped { .. } => Gone::Misbehaved,
        };
        let group = GroupId(peer.0);
        self.feed(&mut state, PublisherEvent::Lost { group, how });
    }
}

#[cfg(test)]
mod tests;
