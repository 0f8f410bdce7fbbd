//! A reader group: an application that takes steps, holds some, leaves, stops
//! or is killed, and comes back; around a [`Subscriber`].

use super::oracle::{Committed, Given};
use super::plan::{Begin, ReaderPlan};
use super::{Event, Link, ToReader, ToWriter, World};
use panta_core::codec::Coded;
use panta_core::engine::Start;
use panta_core::stream::machine::{
    Gone, GroupId, Position, Subscriber, SubscriberAction, SubscriberEvent, SubscriberOptions,
    WriterMessage,
};
use panta_transports::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug)]
pub struct Reader {
    pub plan: ReaderPlan,
    machine: Option<Subscriber>,
    /// Counts its processes.
    life: u64,
    pub group: Option<GroupId>,
    /// The link over which a writer has welcomed it.
    welcomed: Option<GroupId>,
    /// Steps the application holds, in the order they came, and over which link.
    held: Vec<(Position, GroupId)>,
    /// Announced, and neither delivered nor forgotten; over which link.
    unread: BTreeMap<Position, GroupId>,
    /// Links that ended so that nothing can be read any more.
    unreadable: BTreeSet<GroupId>,
    /// The last step delivered that stands.
    last: Option<Position>,
    /// Whether nothing may be missing before the next step.
    strict: bool,
    /// It was told that some of the steps up to this one are gone.
    holes_to: Option<u64>,
    waiting: bool,
    waits: u64,
    delivered: u64,
    /// Of these, since it began, or was told that what it had is withdrawn.
    in_a_row: u64,
    pub committed: Committed,
    /// Whether it must hear that what it has seen was withdrawn.
    owed_rollback: bool,
    /// The newest life of the writer that has welcomed it.
    epoch: u64,
    stopped_until: Time,
    tick_at: Option<Time>,
    pub done: bool,
}

impl Reader {
    pub fn new(plan: ReaderPlan) -> Self {
        Self {
            plan,
            machine: None,
            life: 0,
            group: None,
            welcomed: None,
            held: Vec::new(),
            unread: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            last: None,
            strict: false,
            holes_to: None,
            waiting: false,
            waits: 0,
            delivered: 0,
            in_a_row: 0,
            committed: Committed::default(),
            owed_rollback: false,
            epoch: 0,
            stopped_until: Time(0),
            tick_at: None,
            done: false,
        }
    }
}

impl World {
    pub fn start_reader(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        let start = match reader.plan.begin {
            Begin::Oldest => Start::Oldest,
            Begin::Latest => Start::Latest,
            Begin::At(step) => Start::At(step),
            Begin::After(step) => Start::After(step),
            Begin::AtTime(time) => Start::AtTime(time),
            Begin::Cursor => Start::Cursor(format!("cursor {index}")),
        };
        let mut machine = Subscriber::new(SubscriberOptions {
            name: format!("reader {index}"),
            start,
            latest_only: reader.plan.latest_only,
            alive_every: Some(Duration::from_millis(300)),
        });
        if let Some(mutant) = self.mutant {
            machine.plant(mutant);
        }
        let life = reader.life + 1;
        *reader = Reader {
            machine: Some(machine),
            life,
            committed: reader.committed,
            stopped_until: reader.stopped_until,
            ..Reader::new(reader.plan.clone())
        };
        self.after_us(0, Event::Connect(index, life));
        self.after_us(0, Event::Act(index, life));
    }

    pub fn kill_reader(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        if reader.done || reader.machine.is_none() {
            return;
        }
        reader.machine = None;
        reader.life += 1;
        let comes_back_ms = reader.plan.comes_back_ms.take();
        let groups: BTreeSet<GroupId> = reader.held.iter().map(|(_, group)| *group).collect();
        let linked = reader.group.take();
        reader.done = comes_back_ms.is_none();
        for group in groups.into_iter().chain(linked) {
            self.oracle.process_gone(group);
        }
        if let Some(group) = linked {
            self.send_to_writer(group, ToWriter::End(Gone::Died));
        }
        if let Some(ms) = comes_back_ms {
            self.after_us(1_000 * ms, Event::ReaderStarts(index));
        }
    }

    pub fn stop_reader(&mut self, index: usize) {
        if let Some((_, length_ms)) = self.readers[index].plan.stops_ms {
            let until = self.now.after(Duration::from_millis(length_ms));
            self.readers[index].stopped_until = until;
        }
    }

    pub fn reader_event(&mut self, event: Event) {
        let (index, life) = match event {
            Event::Act(index, life)
            | Event::ReaderGiveUp(index, life, _)
            | Event::ReaderTick(index, life)
            | Event::Connect(index, life) => (index, life),
            _ => return,
        };
        let reader = &mut self.readers[index];
        if reader.life != life || reader.machine.is_none() {
            return;
        }
        if reader.stopped_until > self.now {
            let at = reader.stopped_until;
            self.at(at, event);
            return;
        }
        match event {
            Event::Act(..) => self.act(index),
            Event::Connect(..) => self.connect(index),
            Event::ReaderGiveUp(_, _, wait) => {
                if reader.waiting && reader.waits == wait {
                    self.subscriber_handles(index, SubscriberEvent::GiveUp);
                }
            }
            _ => {
                reader.tick_at = None;
                self.subscriber_handles(index, SubscriberEvent::Tick);
            }
        }
    }

    /// Looks for the writer until it is found, or will never come again.
    fn connect(&mut self, index: usize) {
        let life = self.readers[index].life;
        if self.readers[index].done || self.readers[index].group.is_some() {
            return;
        }
        if !self.writer.is_up() {
            if self.writer.is_over(&self.plan) {
                self.finish(index);
            } else {
                self.after_us(20_000, Event::Connect(index, life));
            }
            return;
        }
        let group = GroupId(self.links.len() as u64 + 1);
        let link = Link {
            reader: index,
            life,
            epoch: self.writer.epoch,
            open: true,
            ..Link::default()
        };
        self.links.insert(group, link);
        self.readers[index].group = Some(group);
        if let Some(machine) = &self.readers[index].machine {
            let join = machine.join();
            self.log(|| format!("reader {index} joins as {group}: {join:?}"));
            self.send_to_writer(group, ToWriter::Join(join.to_bytes()));
        }
    }

    fn finish(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        reader.done = true;
        reader.machine = None;
    }

    /// The application's loop: lets go of what it need not keep, waits for the next.
    fn act(&mut self, index: usize) {
        let reader = &self.readers[index];
        if reader.waiting || reader.done {
            return;
        }
        if reader.plan.leaves_after == Some(reader.delivered) {
            self.leave(index);
            return;
        }
        while self.readers[index].held.len() >= self.readers[index].plan.keeps {
            self.let_go(index);
        }
        let mut steps: Vec<u64> = self.readers[index]
            .held
            .iter()
            .map(|(at, _)| at.step)
            .collect();
        steps.sort_unstable();
        self.subscriber_handles(index, SubscriberEvent::Held { steps: &steps });
        let reader = &mut self.readers[index];
        reader.waiting = true;
        reader.waits += 1;
        let (wait, life, patience_ms) = (reader.waits, reader.life, reader.plan.patience_ms);
        self.subscriber_handles(index, SubscriberEvent::Next);
        self.after_us(1_000 * patience_ms, Event::ReaderGiveUp(index, life, wait));
    }

    /// The application drops the oldest step that it holds.
    fn let_go(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        if reader.held.is_empty() {
            return;
        }
        let (at, group) = reader.held.remove(0);
        self.oracle.lets_go(group, at.step);
    }

    fn leave(&mut self, index: usize) {
        self.subscriber_handles(index, SubscriberEvent::Close);
        if let Some(group) = self.readers[index].group.take() {
            self.send_to_writer(group, ToWriter::End(Gone::Closed));
        }
        self.finish(index);
    }

    pub fn deliver_to_reader(&mut self, group: GroupId) {
        let Some(link) = self.links.get_mut(&group) else {
            return;
        };
        let (index, life) = (link.reader, link.life);
        let reader = &mut self.readers[index];
        if reader.life == life && reader.stopped_until > self.now && reader.machine.is_some() {
            let at = reader.stopped_until;
            self.at(at, Event::ToReader(group));
            return;
        }
        let Some(what) = link.to_reader.pop_front() else {
            return;
        };
        if reader.life != life || reader.machine.is_none() || reader.group != Some(group) {
            return;
        }
        match what {
            ToReader::End { readable } => {
                reader.group = None;
                if !readable {
                    reader.unreadable.insert(group);
                }
                self.subscriber_handles(index, SubscriberEvent::Lost { readable });
            }
            ToReader::Message(bytes) => {
                let message = WriterMessage::from_bytes(&bytes).expect("an encoded message");
                self.log(|| format!("reader {index} hears {message:?}"));
                self.hears(index, group, &message);
                self.subscriber_handles(index, SubscriberEvent::Message(&message));
            }
        }
    }

    /// Notes what a message means, whatever the machine makes of it.
    fn hears(&mut self, index: usize, group: GroupId, message: &WriterMessage) {
        match message {
            WriterMessage::Welcome { epoch, newest, .. } => {
                let reader = &mut self.readers[index];
                reader.epoch = *epoch;
                // What was held when it joined may have holes; the link knows which.
                reader.holes_to = reader.holes_to.max(*newest);
                reader.welcomed = Some(group);
                reader.owed_rollback |= reader
                    .last
                    .is_some_and(|last| self.oracle.is_withdrawn(last, *epoch));
            }
            WriterMessage::Announced { at, .. } => {
                self.readers[index].unread.insert(*at, group);
            }
            _ => {}
        }
    }

    fn subscriber_handles(&mut self, index: usize, event: SubscriberEvent<'_>) {
        let now = self.now;
        let reader = &mut self.readers[index];
        let Some(machine) = reader.machine.as_mut() else {
            return;
        };
        let mut actions = Vec::new();
        machine.handle(event, now, &mut actions);
        let (tick, life) = (machine.next_tick(), reader.life);
        if let Some(tick) = tick
            && reader.tick_at.is_none_or(|at| tick < at)
        {
            reader.tick_at = Some(tick);
            self.at(tick, Event::ReaderTick(index, life));
        }
        for action in actions {
            self.log(|| format!("reader {index}: {action:?}"));
            self.subscriber_acts(index, action);
        }
    }

    fn subscriber_acts(&mut self, index: usize, action: SubscriberAction) {
        let life = self.readers[index].life;
        match action {
            SubscriberAction::Send(message) => {
                if let Some(group) = self.readers[index].group {
                    self.send_to_writer(group, ToWriter::Message(message.to_bytes()));
                }
                return;
            }
            SubscriberAction::Forget { at } => {
                if let Some(group) = self.readers[index].unread.remove(&at) {
                    self.oracle.lets_go(group, at.step);
                }
                return;
            }
            SubscriberAction::Committed { at, remembered } => {
                let committed = &mut self.readers[index].committed;
                if remembered {
                    committed.acknowledged = committed.acknowledged.max(Some(at));
                }
                return;
            }
            _ => {}
        }
        if !std::mem::take(&mut self.readers[index].waiting) {
            self.fail(format!("reader {index} is answered, and did not ask"));
        }
        match action {
            SubscriberAction::Deliver { at } => self.takes(index, at),
            SubscriberAction::NotReady => {
                let us = self.random.between(1_000, 10_000);
                self.after_us(us, Event::Act(index, life));
            }
            SubscriberAction::Trimmed { .. } => {
                self.oracle.trimmed += 1;
                // Of the life that said so, which may be over by now.
                let newest = self.oracle.newest_of(self.readers[index].epoch);
                let reader = &mut self.readers[index];
                reader.holes_to = reader.holes_to.max(newest);
                self.after_us(0, Event::Act(index, life));
            }
            SubscriberAction::RolledBack { to } => self.goes_back(index, to),
            SubscriberAction::WouldDeadlock { held_bytes, .. } => {
                self.oracle.deadlocks += 1;
                if held_bytes == 0 || self.readers[index].held.is_empty() {
                    self.fail("a deadlock without anything held");
                }
                self.let_go(index);
                self.after_us(100, Event::Act(index, life));
            }
            SubscriberAction::Ended => self.ended(index),
            SubscriberAction::WriterLost { last_sealed } => self.lost(index, last_sealed),
            SubscriberAction::Fenced => {
                self.oracle.fenced += 1;
                if self.readers[index].plan.stops_ms.is_none() {
                    self.fail(format!("reader {index} is fenced, and never stopped"));
                }
                self.after_us(30_000, Event::Connect(index, life));
                self.after_us(31_000, Event::Act(index, life));
            }
            other => self.fail(format!("reader {index}: {other:?}")),
        }
    }

    fn takes(&mut self, index: usize, at: Position) {
        let reader = &mut self.readers[index];
        let Some(group) = reader.unread.remove(&at) else {
            self.fail(format!("{at:?} is delivered, and was not announced"));
            return;
        };
        let (owed, unreadable) = (reader.owed_rollback, reader.unreadable.contains(&group));
        let epoch = reader.epoch;
        let last = reader.last.map(|last| last.step);
        let strict = reader.strict && !reader.plan.latest_only && last >= reader.holes_to;
        let to = Given {
            reader: reader.life as usize * 1_000 + index,
            group,
            epoch: self.links.get(&group).map_or(epoch, |link| link.epoch),
        };
        reader.held.push((at, group));
        reader.last = Some(at).max(reader.last);
        reader.delivered += 1;
        reader.in_a_row += 1;
        // The precious step may come long before the others.
        reader.strict = reader.in_a_row > 1 || !self.plan.precious_first;
        if owed {
            self.fail(format!(
                "reader {index} does not hear of the rollback before {at:?}"
            ));
        }
        if unreadable {
            self.fail(format!("{at:?} is delivered, and cannot be read any more"));
        }
        if self.oracle.is_withdrawn(at, epoch) {
            self.fail(format!("{at:?} is delivered, and known to be withdrawn"));
        }
        let verdict = self.oracle.delivers(to, at, last, strict);
        self.check(verdict);
        if self.readers[index].plan.commits && self.random.chance(60) {
            let committed = &mut self.readers[index].committed;
            committed.sent = committed.sent.max(Some(at));
            let cursor = format!("cursor {index}");
            let cursor = cursor.as_str();
            self.subscriber_handles(index, SubscriberEvent::Commit { cursor, at });
        }
        let work_us = self
            .random
            .between(0, 1_000 * self.readers[index].plan.work_ms);
        let life = self.readers[index].life;
        self.after_us(work_us, Event::Act(index, life));
    }

    fn goes_back(&mut self, index: usize, to: Option<u64>) {
        self.oracle.rolled_back += 1;
        let reader = &mut self.readers[index];
        if !reader.owed_rollback {
            self.fail(format!(
                "reader {index} is told of a rollback that it has not seen"
            ));
            return;
        }
        reader.strict = false;
        reader.in_a_row = 0;
        let seen_in = reader.last.map_or(0, |last| last.epoch);
        reader.last = to.map(|step| Position {
            epoch: seen_in,
            step,
        });
        // Of what one life let stand, a later one may have withdrawn more.
        reader.owed_rollback = reader
            .last
            .is_some_and(|last| self.oracle.is_withdrawn(last, reader.epoch));
        let life = reader.life;
        self.after_us(0, Event::Act(index, life));
    }

    fn ended(&mut self, index: usize) {
        let reader = &self.readers[index];
        if !reader.unread.is_empty() {
            self.fail(format!(
                "reader {index} ends before it was given everything"
            ));
        }
        let reader = &self.readers[index];
        let last = reader.last.map(|last| last.step).max(reader.holes_to);
        let newest = self.links.values().rev().find(|link| link.reader == index);
        if let Some(link) = newest
            && !self.readers[index].plan.latest_only
            && link.epoch == self.writer.epoch
        {
            let verdict = self.oracle.ends(last, &link.expected);
            let left = link.expected.steps.clone();
            self.check(verdict);
            if !left.is_empty() {
                self.fail(format!(
                    "reader {index} ends, {left:?} were held when it joined"
                ));
            }
        }
        self.leave(index);
    }

    fn lost(&mut self, index: usize, last_sealed: Option<u64>) {
        let reader = &self.readers[index];
        self.oracle.writer_lost += u64::from(reader.welcomed.is_some());
        if reader.group.is_some() && reader.group == reader.welcomed {
            self.fail(format!(
                "reader {index} takes a writer for lost that it is linked to"
            ));
            return;
        }
        if !reader.unread.is_empty() {
            self.fail(format!("reader {index} is not given what can be read"));
            return;
        }
        if last_sealed < reader.last.map(|last| last.step) {
            self.fail(format!(
                "reader {index} knows of later steps than {last_sealed:?}"
            ));
        }
        let life = self.readers[index].life;
        self.after_us(5_000, Event::Connect(index, life));
        self.after_us(60_000, Event::Act(index, life));
    }
}

impl Link {
    /// Whether the next step that the writer tells of is the one to come.
    pub fn announced(&mut self, at: Position) -> Result<(), String> {
        self.announced += 1;
        if self.announced == 1
            && let Some(precious) = self.expected.precious
            && precious != at.step
        {
            return Err(format!("{at:?} comes before the precious step {precious}"));
        }
        if let Some(least) = self.expected.least
            && at.step < least
            && self.expected.precious != Some(at.step)
        {
            return Err(format!("{at:?} comes again, although {least} is next"));
        }
        let Some(next) = self.expected.steps.first().copied() else {
            return Ok(());
        };
        let before = self.expected.from_cursor && at.step < next;
        if next == at.step {
            self.expected.steps.remove(0);
        } else if !before {
            return Err(format!("{at:?} comes first, {next} was held"));
        }
        Ok(())
    }
}
