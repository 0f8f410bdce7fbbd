//! The writer: an application that makes steps, ranks that spill, a process
//! that dies and starts again; around a [`Publisher`].

use super::oracle::Committed;
use super::plan::Plan;
use super::{Event, LEASE, PATIENCE, ToReader, ToWriter, World};
use panta_core::codec::Coded;
use panta_core::config::Policy;
use panta_core::engine::Start;
use panta_core::stream::machine::{
    Gone, GroupId, Join, Life, Position, Publisher, PublisherAction, PublisherEvent,
    PublisherOptions, ReaderMessage, Recovered, WriterMessage,
};
use panta_transports::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Writer {
    /// None while it is down.
    machine: Option<Publisher>,
    /// Lives so far.
    pub epoch: u64,
    lives: Vec<Life>,
    next_step: u64,
    steps_left: u64,
    /// The step that has not begun or needs more, and what it reserves.
    admitting: Option<(u64, Vec<u64>)>,
    /// Whether it has begun.
    growing: bool,
    /// Admissions asked for, to tell one from the next.
    asked: u64,
    /// Steps begun and not sealed, and what they reserved.
    open: BTreeMap<u64, Vec<u64>>,
    last_seal: Time,
    closing: bool,
    drained: bool,
    tick_at: Option<Time>,
    /// What a file remembers from life to life.
    cursors: BTreeMap<String, Position>,
}

impl Writer {
    /// Whether no life is to come any more.
    pub fn is_over(&self, plan: &Plan) -> bool {
        self.machine.is_none() && self.epoch >= plan.lives.len() as u64
    }

    pub fn is_up(&self) -> bool {
        self.machine.is_some()
    }
}

impl World {
    pub fn start_writer(&mut self) {
        let index = self.writer.epoch as usize;
        let life_plan = self.plan.lives[index].clone();
        let epoch = self.writer.epoch + 1;
        let newest = self.oracle.newest();
        let after = match (epoch, life_plan.back) {
            (1, _) | (_, None) => None,
            (_, Some(back)) => newest.and_then(|newest| newest.checked_sub(back)),
        };
        let life = Life { epoch, after };
        let recovered = self.oracle.recovered(after);
        let earlier = self.writer.lives.clone();
        self.oracle.life_begins(life);
        let mut machine = Publisher::new(PublisherOptions {
            life,
            earlier,
            limit_bytes: self.plan.limit_bytes,
            ranks: self.plan.ranks,
            policy: self.plan.policy,
            distribution: self.plan.distribution,
            rendezvous: if epoch == 1 { self.plan.rendezvous } else { 0 },
            retain_steps: self.plan.retain_steps,
            retain_bytes: self.plan.retain_bytes,
            precious_first: self.plan.precious_first,
            lease: Some(LEASE),
            recovered: recovered
                .into_iter()
                .map(|(at, time)| Recovered {
                    at,
                    time: Some(time),
                })
                .collect(),
            cursors: self.writer.cursors.clone().into_iter().collect(),
        });
        if let Some(mutant) = self.mutant {
            machine.plant(mutant);
        }
        self.log(|| format!("the writer begins {life:?}"));
        let writer = &mut self.writer;
        writer.machine = Some(machine);
        writer.epoch = epoch;
        writer.lives.push(life);
        writer.next_step = after.map_or(0, |after| after + 1);
        writer.steps_left = life_plan.steps;
        writer.admitting = None;
        writer.growing = false;
        writer.open.clear();
        writer.closing = false;
        writer.drained = false;
        writer.tick_at = None;
        self.after_us(0, Event::Begin(epoch));
        if let Some(dies_ms) = life_plan.dies_ms {
            self.after_us(1_000 * dies_ms, Event::WriterDies(epoch));
        }
    }

    pub fn writer_event(&mut self, event: Event) {
        let epoch = match event {
            Event::Begin(epoch)
            | Event::Grows(epoch, _)
            | Event::Ends(epoch, _)
            | Event::Seal(epoch, _)
            | Event::Spilled(epoch, _)
            | Event::SpillFailed(epoch, _)
            | Event::Impatient(epoch, _)
            | Event::GiveUp(epoch, _)
            | Event::NotDrained(epoch)
            | Event::Abandons(epoch)
            | Event::WriterDies(epoch)
            | Event::WriterTick(epoch) => epoch,
            _ => return,
        };
        if epoch != self.writer.epoch || !self.writer.is_up() {
            return;
        }
        match event {
            Event::Begin(_) => self.begin(),
            Event::Grows(_, step) => self.grows(step),
            Event::Ends(_, step) => self.end(step),
            Event::Seal(_, step) => self.seal(step),
            Event::Spilled(_, step) => {
                self.oracle.spilled(step);
                self.publisher_handles(PublisherEvent::Spilled { step });
            }
            Event::SpillFailed(_, step) => {
                if self.oracle.spill_failed(step) {
                    self.expect_no_more(step);
                }
                self.publisher_handles(PublisherEvent::SpillFailed { step });
            }
            Event::Impatient(_, asked) => self.impatient(asked),
            Event::GiveUp(_, asked) => {
                if asked == self.writer.asked && self.writer.growing {
                    self.stays_small();
                } else if asked == self.writer.asked && self.writer.admitting.take().is_some() {
                    self.publisher_handles(PublisherEvent::GiveUp);
                    self.after_us(500, Event::Begin(epoch));
                }
            }
            Event::NotDrained(_) => self.fail("closing does not end"),
            Event::Abandons(_) => {
                self.oracle.abandoned += 1;
                self.publisher_handles(PublisherEvent::Abandon);
                let verdict = self.oracle.abandons();
                self.check(verdict);
            }
            Event::WriterDies(_) => self.writer_dies(),
            _ => {
                self.writer.tick_at = None;
                self.publisher_handles(PublisherEvent::Tick);
            }
        }
    }

    fn largest(&mut self) -> u64 {
        let most = self.plan.limit_bytes * self.plan.largest_percent / 100;
        self.random.between(0, most)
    }

    fn begin(&mut self) {
        let epoch = self.writer.epoch;
        if self.writer.steps_left == 0 {
            if self.writer.open.is_empty() && !self.writer.closing {
                self.writer.closing = true;
                self.publisher_handles(PublisherEvent::Closing);
                if !self.writer.drained {
                    self.after(2 * PATIENCE, Event::NotDrained(epoch));
                    // What is written then must not be in the way of those who still read.
                    let ms = self.random.between(0, 200);
                    self.after(Duration::from_millis(ms), Event::Abandons(epoch));
                }
            }
            return;
        }
        let step = self.writer.next_step;
        let mut reserve: Vec<u64> = (0..self.plan.ranks).map(|_| self.largest()).collect();
        let too_large = self.random.chance(2);
        if too_large {
            reserve[0] = self.plan.limit_bytes + 1;
        }
        self.writer.asked += 1;
        self.writer.admitting = Some((step, reserve.clone()));
        // Whoever asks that looks at nothing else before it begins.
        let machine = self.writer.machine.as_ref();
        let fits = machine.is_some_and(|it| it.fits_within(&reserve, u64::MAX));
        let is_met = machine.is_some_and(|it| it.missing_groups() == 0);
        self.publisher_handles(PublisherEvent::Admit {
            step,
            reserve_bytes: &reserve,
        });
        if fits && is_met && !too_large && !self.writer.open.contains_key(&step) {
            self.fail("a step that fits does not begin");
        }
        if self.writer.admitting.is_none() {
            return;
        }
        if too_large {
            self.fail("a step larger than the limit waits");
        }
        let asked = self.writer.asked;
        let groups_are_there = self.linked_groups() >= self.plan.rendezvous || epoch > 1;
        if groups_are_there
            && matches!(self.plan.policy, Policy::DropOldest | Policy::DropNewest)
            && step > 0
        {
            self.fail("a writer that drops waits");
        }
        if self.random.chance(5) {
            self.after_us(3_000, Event::GiveUp(epoch, asked));
        }
        self.after(PATIENCE, Event::Impatient(epoch, asked));
    }

    /// Groups that the publisher was told of and has not lost.
    fn linked_groups(&self) -> usize {
        self.links
            .values()
            .filter(|link| link.open && link.joined && link.epoch == self.writer.epoch)
            .count()
    }

    fn impatient(&mut self, asked: u64) {
        if self.writer.admitting.is_none() || asked != self.writer.asked {
            return;
        }
        let missing = self.writer.machine.as_ref().map(Publisher::missing_groups);
        if missing == Some(0) || self.linked_groups() >= self.plan.rendezvous {
            let awaiting = self.writer.machine.as_ref().map(Publisher::awaiting);
            self.fail(format!("the writer is kept waiting for {awaiting:?}"));
        } else {
            // It will not be read by as many as it was told: it gives up.
            self.writer.admitting = None;
            self.writer.steps_left = 0;
            self.publisher_handles(PublisherEvent::GiveUp);
            self.after_us(0, Event::Begin(self.writer.epoch));
        }
    }

    fn admitted(&mut self, step: u64) {
        let Some((asked, reserve)) = self.writer.admitting.take() else {
            self.fail(format!("step {step} is admitted, and nobody asked"));
            return;
        };
        if asked != step {
            self.fail(format!("step {step} is admitted, {asked} was asked for"));
        }
        let verdict = self.oracle.admitted(step, &reserve);
        self.check(verdict);
        let known = self.writer.open.insert(step, reserve).is_some();
        if known != std::mem::take(&mut self.writer.growing) {
            self.fail(format!(
                "step {step} is admitted and was not to grow, or grows anew"
            ));
        }
        if known {
            self.oracle.grown += 1;
        } else {
            self.step_was_decided();
        }
        let epoch = self.writer.epoch;
        let compute_us = self.compute_us();
        if self.random.chance(15) {
            self.after_us(compute_us, Event::Grows(epoch, step));
        } else {
            self.after_us(compute_us, Event::Ends(epoch, step));
        }
    }

    fn compute_us(&mut self) -> u64 {
        let compute_ms = self.plan.lives[self.writer.epoch as usize - 1].compute_ms;
        self.random.between(0, 1_000 * compute_ms)
    }

    /// A rank has more to put than it reserved: the step cannot end before it may.
    fn grows(&mut self, step: u64) {
        let Some(mut reserve) = self.writer.open.get(&step).cloned() else {
            return;
        };
        let rank = self.random.between(0, reserve.len() as u64 - 1) as usize;
        reserve[rank] += self.largest();
        self.writer.asked += 1;
        self.writer.growing = true;
        self.writer.admitting = Some((step, reserve.clone()));
        let (epoch, asked) = (self.writer.epoch, self.writer.asked);
        self.publisher_handles(PublisherEvent::Admit {
            step,
            reserve_bytes: &reserve,
        });
        if !self.writer.growing || self.writer.asked != asked {
            return;
        }
        if self.random.chance(30) {
            self.after_us(3_000, Event::GiveUp(epoch, asked));
        }
        self.after(PATIENCE, Event::Impatient(epoch, asked));
    }

    /// It gets no more: what it could not put is missing, or the step is given up.
    fn stays_small(&mut self) {
        let Some((step, _)) = self.writer.admitting.take() else {
            return;
        };
        self.writer.growing = false;
        self.oracle.not_grown += 1;
        let epoch = self.writer.epoch;
        match self.random.between(0, 3) {
            // It waited no longer, and is given up some time later.
            0 => {
                self.publisher_handles(PublisherEvent::GiveUp);
                self.gives_up(step);
                self.after_us(0, Event::Begin(epoch));
            }
            // It is given up at once, as when a put has failed; readers let go of others
            // before the next one begins.
            1 => {
                self.gives_up(step);
                let us = self.random.between(0, 60_000);
                self.after_us(us, Event::Begin(epoch));
            }
            // The rank found room without an answer, as where a part of what it asked for was
            // enough: the step is sealed, and nobody says that it waits no longer.
            2 if self.writer.open.len() == 1 => {
                self.seal(step);
                let us = self.random.between(0, 60_000);
                self.after_us(us, Event::Begin(epoch));
            }
            _ => {
                self.publisher_handles(PublisherEvent::GiveUp);
                let compute_us = self.compute_us();
                self.after_us(compute_us, Event::Ends(epoch, step));
            }
        }
    }

    fn gives_up(&mut self, step: u64) {
        self.writer.open.remove(&step);
        self.oracle.aborted(step);
        self.publisher_handles(PublisherEvent::Aborted { step });
    }

    fn step_was_decided(&mut self) {
        self.writer.next_step += 1;
        // A planted bug decides what nobody asked for, which is found in a moment.
        self.writer.steps_left = self.writer.steps_left.saturating_sub(1);
    }

    fn shed(&mut self) {
        if self.writer.growing {
            self.stays_small();
            return;
        }
        self.writer.admitting = None;
        self.step_was_decided();
        let compute_us = self.random.between(10, 5_000);
        self.after_us(compute_us, Event::Begin(self.writer.epoch));
    }

    /// The step's end: it is given up, or sealed while the next one begins.
    fn end(&mut self, step: u64) {
        let epoch = self.writer.epoch;
        let abort_percent = self.plan.lives[epoch as usize - 1].abort_percent;
        if self.random.chance(abort_percent) {
            self.gives_up(step);
        } else {
            let behind = self.random.between(0, 3_000);
            let at = self.now.after(Duration::from_micros(behind));
            self.writer.last_seal = self.writer.last_seal.max(at);
            let at = self.writer.last_seal;
            self.at(at, Event::Seal(epoch, step));
        }
        self.after_us(0, Event::Begin(epoch));
    }

    fn seal(&mut self, step: u64) {
        let Some(reserve) = self.writer.open.remove(&step) else {
            return;
        };
        let bytes: Vec<u64> = reserve
            .iter()
            .map(|reserve| self.random.between(0, *reserve))
            .collect();
        let time = step as f64 / 2.0;
        let at = Position {
            epoch: self.writer.epoch,
            step,
        };
        let verdict = self.oracle.seals(at, time, &bytes);
        self.check(verdict);
        self.publisher_handles(PublisherEvent::Sealed {
            step,
            time: Some(time),
            bytes: &bytes,
        });
        if self.writer.steps_left == 0 {
            self.begin();
        }
    }

    fn writer_dies(&mut self) {
        self.writer.machine = None;
        let groups: Vec<GroupId> = self.open_groups();
        let readable = self.plan.readable;
        for group in groups {
            if let Some(link) = self.links.get_mut(&group) {
                link.open = false;
            }
            self.send_to_reader(group, ToReader::End { readable });
        }
        self.next_life();
    }

    fn next_life(&mut self) {
        if !self.writer.is_over(&self.plan) {
            let down_us = self.random.between(1_000, 200_000);
            self.after_us(down_us, Event::WriterStarts);
        }
    }

    fn open_groups(&self) -> Vec<GroupId> {
        let open = self.links.iter().filter(|(_, link)| link.open);
        open.map(|(group, _)| *group).collect()
    }

    pub fn deliver_to_writer(&mut self, group: GroupId) {
        let Some(link) = self.links.get_mut(&group) else {
            return;
        };
        let Some(what) = link.to_writer.pop_front() else {
            return;
        };
        if !link.open {
            return;
        }
        let reader = link.reader;
        match what {
            ToWriter::Join(bytes) => {
                let join = Join::from_bytes(&bytes).expect("a join that a reader has encoded");
                link.joined = true;
                self.joins(group, reader, &join);
            }
            ToWriter::Message(bytes) => {
                let message =
                    ReaderMessage::from_bytes(&bytes).expect("a message that was encoded");
                let mut sight = Vec::new();
                if let ReaderMessage::Leave { held } = &message {
                    sight = self.oracle.in_sight(group);
                    sight.retain(|step| held.contains(step));
                    self.oracle.group_gone(group);
                    link_closed(self, group);
                }
                let message = &message;
                let event = PublisherEvent::Message { group, message };
                self.publisher_handles_with(event, sight);
            }
            ToWriter::End(how) => {
                let mut sight = self.oracle.in_sight(group);
                if how == Gone::Died {
                    sight.clear();
                }
                self.oracle.group_gone(group);
                link_closed(self, group);
                self.publisher_handles_with(PublisherEvent::Lost { group, how }, sight);
            }
        }
    }

    fn joins(&mut self, group: GroupId, reader: usize, join: &Join) {
        if reader == 0 {
            self.oracle.steady_joins(group);
        }
        let committed = match &join.start {
            Start::Cursor(_) => self.readers[reader].committed,
            _ => Committed::default(),
        };
        // What is held before the machine may let go of it.
        let before = self.oracle.joins(join, &[], &committed);
        if let Some(link) = self.links.get_mut(&group) {
            link.expected = before;
        }
        let sent_before = self
            .links
            .get(&group)
            .map_or(0, |link| link.to_reader.len());
        self.publisher_handles(PublisherEvent::Joined { group, join });
        let said = self.links[&group].to_reader.iter().skip(sent_before);
        let told = said.into_iter().any(|what| match what {
            ToReader::Message(bytes) => matches!(
                WriterMessage::from_bytes(bytes),
                Ok(WriterMessage::Trimmed { .. })
            ),
            ToReader::End { .. } => false,
        });
        if self.links[&group].expected.must_say_trimmed && !told {
            self.fail(format!("{group} is not told that steps it wants are gone"));
        }
    }

    fn publisher_handles(&mut self, event: PublisherEvent<'_>) {
        self.publisher_handles_with(event, Vec::new());
    }

    /// `sight`: steps that must be retired before their memory is free.
    fn publisher_handles_with(&mut self, event: PublisherEvent<'_>, mut sight: Vec<u64>) {
        let Some(machine) = self.writer.machine.as_mut() else {
            return;
        };
        let mut actions = Vec::new();
        machine.handle(event, self.now, &mut actions);
        let tick = machine.next_tick();
        let most = (0..self.plan.ranks)
            .map(|rank| machine.used_bytes(rank))
            .max();
        if most > Some(self.plan.limit_bytes) {
            self.fail(format!("the publisher accounts for {most:?} bytes"));
        }
        for action in actions {
            self.log(|| format!("publisher: {action:?}"));
            match action {
                PublisherAction::Fence { group } => {
                    sight.extend(self.oracle.in_sight(group));
                    self.oracle.group_gone(group);
                    link_closed(self, group);
                    let readable = false;
                    self.send_to_reader(group, ToReader::End { readable });
                }
                PublisherAction::Retire { step } => sight.retain(|seen| *seen != step),
                PublisherAction::Free { step } if sight.contains(&step) => {
                    self.fail(format!("step {step} is freed, not retired, under a view"));
                }
                action => self.publisher_acts(action),
            }
        }
        self.check_accounts();
        if let Some(tick) = tick
            && self.writer.tick_at.is_none_or(|at| tick < at)
        {
            self.writer.tick_at = Some(tick);
            // A machine that forgets a tick must not stop time.
            let tick = tick.max(self.now.after(Duration::from_millis(1)));
            self.at(tick, Event::WriterTick(self.writer.epoch));
        }
    }

    /// What the publisher counts is what there is.
    fn check_accounts(&mut self) {
        let Some(machine) = &self.writer.machine else {
            return;
        };
        for rank in 0..self.plan.ranks {
            let (counted, there) = (machine.used_bytes(rank), self.oracle.used_bytes(rank));
            if counted != there {
                let what = format!("{counted} bytes of rank {rank} are counted, {there} are there");
                self.fail(what);
                return;
            }
        }
    }

    /// A step is lost, to whoever hears of this life.
    fn expect_no_more(&mut self, step: u64) {
        let epoch = self.writer.epoch;
        for link in self.links.values_mut().filter(|it| it.epoch == epoch) {
            link.expected.steps.retain(|expected| *expected != step);
            link.expected.precious = link.expected.precious.filter(|it| *it != step);
        }
    }

    fn publisher_acts(&mut self, action: PublisherAction) {
        let being_filed = match action {
            PublisherAction::Spill { step } => self.oracle.is_being_filed(step),
            _ => false,
        };
        if let PublisherAction::Free { step } = action
            && self.oracle.leaves(step)
        {
            self.expect_no_more(step);
        }
        let verdict = self.oracle.acts(&action);
        self.check(verdict);
        match action {
            PublisherAction::Admitted { step } => self.admitted(step),
            PublisherAction::Discard { .. } | PublisherAction::TooLarge { .. } => self.shed(),
            // Answered once.
            PublisherAction::Spill { .. } if being_filed => {}
            PublisherAction::Spill { step } | PublisherAction::Write { step } => {
                let us = self.random.between(100, 9_000);
                let epoch = self.writer.epoch;
                if self.random.chance(self.plan.spill_fails_percent) {
                    self.after_us(us, Event::SpillFailed(epoch, step));
                } else {
                    self.after_us(us, Event::Spilled(epoch, step));
                }
            }
            PublisherAction::Announce {
                group, at, newest, ..
            } => {
                let verdict = self.links.get_mut(&group).map(|link| link.announced(at));
                self.check(verdict.unwrap_or(Ok(())));
                let message = WriterMessage::Announced { at, newest };
                self.send_to_reader(group, ToReader::Message(message.to_bytes()));
            }
            PublisherAction::Send { group, message } => {
                self.send_to_reader(group, ToReader::Message(message.to_bytes()));
            }
            PublisherAction::Remember { cursor, at } => {
                self.writer.cursors.insert(cursor, at);
            }
            PublisherAction::Drained => self.drained(),
            _ => {}
        }
    }

    fn drained(&mut self) {
        if !self.writer.closing || self.writer.drained {
            self.fail("drained, and nobody asked");
        }
        let verdict = self.oracle.all_given();
        self.check(verdict);
        self.writer.drained = true;
        for group in self.open_groups() {
            link_closed(self, group);
            let readable = false;
            self.send_to_reader(group, ToReader::End { readable });
        }
        self.writer.machine = None;
        self.next_life();
    }
}

/// The writer's end of a link is closed.
fn link_closed(world: &mut World, group: GroupId) {
    if let Some(link) = world.links.get_mut(&group) {
        link.open = false;
    }
}
