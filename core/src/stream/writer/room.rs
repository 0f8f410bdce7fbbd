//! Room for a step that is open, on one rank: earlier steps go for it, or are waited for.
//!
//! The root asks its publisher; the other ranks ask the root, over a link of their own.

use std::time::Duration;

use panta_transports::coupling::{CouplingError, Endpoint, Peer, Progress, Urgency};
use panta_transports::region::RegionError;
use panta_transports::time::Wait;

use super::super::memory::Memory;
use super::StreamWriter;
use super::fates::{Fate, Growth, Room, TooLarge};
use super::root::Root;
use crate::codec::{Coded, Decoder, Encoder};
use crate::error::{Fault, PutError};

/// How long readers may take to unmap memory before other room is looked for.
const UNMAPPED_WITHIN: Duration = Duration::from_secs(1);

/// A writer that is so many steps ahead of a reader may wait for it a little.
const AHEAD_STEPS: u64 = 2;

/// Where the memory of a step of `bytes` had to be made, although readers are some
/// steps behind, waits for them to let go of one, for as long as making it would
/// take: at worst that takes twice as long. A writer that is about as fast as its readers
/// stays with a few regions; a faster one comes to all that its limit allows later.
pub(super) fn await_memory(
    root: &Root,
    endpoint: &Endpoint,
    memory: &Memory,
    bytes: u64,
    wait: &Wait,
) {
    let Some(patience) = memory.making_takes(bytes) else {
        return;
    };
    if root.ahead_steps() < AHEAD_STEPS {
        return;
    }
    let held: Vec<u64> = memory.steps().collect();
    let short = wait.at_most(patience);
    while root.freed_of(&held).is_empty() && endpoint.drive(&short).is_ok() {}
    // What they let go of in the last moment counts too.
    endpoint.poll();
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
    pub(super) fn make_room(
        &mut self,
        bytes: u64,
        error: &RegionError,
        wait: &Wait,
    ) -> Result<(), PutError> {
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
        let needed = with_lent;
        let growth = Growth {
            needed,
            // There may be bytes enough, and none of the holes large enough.
            wished: needed.saturating_add(in_holes(error)),
        };
        let room = match &self.root {
            Some(side) => match side.root.grow(self.step, 0, growth) {
                Ok(()) => wait_for_freed(&side.root, &self.endpoint, &held, wait).map(Room::Of),
                Err(too_large) => Ok(Room::None(too_large)),
            },
            None => self.ask_root(growth, &held, wait),
        };
        match room.map_err(|fault| fault.at(self.place.clone()))? {
            Room::Of(steps) => {
                for (step, fate) in steps {
                    self.let_go(step, fate);
                }
                Ok(())
            }
            Room::None(TooLarge { limit_bytes }) => Err(PutError::StepTooLarge {
                place: self.place.clone(),
                bytes: needed,
                limit_bytes,
            }),
        }
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

    /// What is to become of a step's memory on this rank.
    pub(super) fn let_go(&mut self, step: u64, fate: Fate) {
        if !matches!(fate, Fate::Write | Fate::Retire) {
            self.subscribed.freed(step);
        }
        match fate {
            Fate::Free => self.memory.free(step),
            Fate::Retire => self.memory.retire(step),
            Fate::Spill | Fate::Write => {
                let wait = Wait::new(self.deadline, &self.interrupt);
                if let Some(spill) = &mut self.spill {
                    // Nothing, if it was done when an open step outgrew its reservation.
                    self.memory.write(step, spill, &wait);
                }
                if fate == Fate::Spill {
                    self.memory.free(step);
                }
            }
        }
    }

    fn ask_root(&mut self, growth: Growth, held: &[u64], wait: &Wait) -> Result<Room, Fault> {
        let asked = self.try_ask_root(growth, held, wait);
        let lost = |why: String| Fault::PeerLost {
            peer: "the root of this writer".into(),
            why,
        };
        let answer = asked.map_err(|error| match error {
            CouplingError::NotReady { source, .. } => Fault::wait(
                source,
                "room for the step: readers hold the steps before it; the next step will be",
            ),
            error => lost(error.to_string()),
        })?;
        let answer = answer.ok_or_else(|| lost("its address was never told".into()))?;
        let mut from = Decoder::new(&answer);
        let room = from.u64().and_then(|_step| Room::decode(&mut from));
        room.map_err(|error| Fault::corrupt("the root's answer", &error))
    }

    fn try_ask_root(
        &mut self,
        growth: Growth,
        held: &[u64],
        wait: &Wait,
    ) -> Result<Option<Vec<u8>>, CouplingError> {
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
            return Ok(None);
        };
        let mut question = Encoder::default();
        let Growth { needed, wished } = growth;
        question.u64(self.step).u32(rank).u64(needed).u64(wished);
        question.u64s(held);
        peer.send(&[&question.finish()], Urgency::Now, wait)?;
        let mut answer = Vec::new();
        // Not what was said too late of a step before.
        while !answer.starts_with(&self.step.to_le_bytes()) {
            peer.receive(&mut answer, wait)?;
        }
        Ok(Some(answer))
    }
}

/// Bytes of regions that a step could not be taken from, since none of them is large enough.
fn in_holes(error: &RegionError) -> u64 {
    match error {
        RegionError::Limit {
            held_bytes,
            used_bytes,
            ..
        } => held_bytes.saturating_sub(*used_bytes),
        _ => 0,
    }
}

/// The root itself waits for readers to let go.
fn wait_for_freed(
    root: &Root,
    endpoint: &Endpoint,
    held: &[u64],
    wait: &Wait,
) -> Result<Vec<(u64, Fate)>, Fault> {
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
