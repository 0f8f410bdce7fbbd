//! Reading: the root follows the home, every rank gets from the owners.
//!
//! ```text
//!   next     root    Next (waits at the home)    -> announcement: record, schema, layout, holding
//!   read     ranks   Get, Get, …                 -> the user's arrays
//!   release  ranks   Release                     -> the claim ends with the last rank
//! ```
//! The root has two connections to the home: one that waits for steps, and one
//! for all else, so that a step can be read and let go while the next is
//! awaited.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use panta_core::announce::Announcer;
use panta_core::codec::{Coded, DecodeError};
use panta_core::engine::{EngineInfo, Pinned, Read, ReaderEngine};
use panta_core::error::{Failure, Fault, GetError, NextError, Place};
use panta_core::model::{BlockId, StepHead, StepMeta};
use panta_core::notice::Notice;
use panta_core::plan::BlockIndex;
use panta_transports::copy::CopyCounter;
use panta_transports::time::{Interrupt, Wait, WaitError};

use super::alive::Keeper;
use super::driver::Driver;
use super::fault::CallError;
use super::fetch::Fetch;
use super::grid::Grid;
use super::record::{Holding, read_step};
use super::shared::{Shared, lock};
use crate::proto::client::{Answer, ClientError, NextAnswer, ReaderCall, ReaderMachine};
use crate::proto::message::{Reason, SealedStep};
use crate::routing::Router;
use crate::shard::ShardMap;

/// The longest a release is waited for.
const RELEASE_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);
/// How long a release that was not answered is repeated.
const RELEASE_LASTS: std::time::Duration = std::time::Duration::from_secs(3600);
/// The longest a goodbye is waited for.
const CLOSE_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// How long the root waits before it asks again for a step that others hold up.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_millis(5);
/// How often the home is asked by who waits for a notice: it gives none by itself.
const NOTICE_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
/// How long a poll's answer may take.
const POLL_ANSWER_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// See the module.
pub(super) struct StagingReader {
    pub(super) stream: String,
    pub(super) why: String,
    pub(super) rank: usize,
    pub(super) map: ShardMap,
    /// Of the root.
    pub(super) control: Option<Shared<Driver<ReaderMachine>>>,
    pub(super) data: Shared<Driver<ReaderMachine>>,
    pub(super) keeper: Mutex<Option<Keeper>>,
    pub(super) verify: bool,
    /// Whether steps that are not the newest are skipped.
    pub(super) latest_only: bool,
    pub(super) copies: CopyCounter,
    /// Bytes that servers sent.
    pub(super) fetched: AtomicU64,
    pub(super) interrupt: Interrupt,
    /// Of a reader that was asked for one.
    pub(super) notice: OnceLock<Arc<Notice>>,
    pub(super) state: State,
}

/// What changes from step to step.
#[derive(Default)]
pub(super) struct State {
    packer: Announcer,
    unpacker: Announcer,
    router: Mutex<Router>,
    plans: Mutex<Option<(u64, u64, Arc<Plans>)>>,
    /// The steps that this root was given and has not let go of.
    claimed: Mutex<Claimed>,
}

#[derive(Clone, Copy, Default)]
struct Claimed {
    steps: u64,
    bytes: u64,
}

/// What is worked out once for a schema and layout, as needed: for each entry
/// its grid, and an index of its blocks.
#[derive(Default)]
pub(super) struct Plans {
    entries: OnceLock<Vec<EntryPlan>>,
}

#[derive(Default)]
struct EntryPlan {
    grid: OnceLock<Result<Grid, String>>,
    index: OnceLock<BlockIndex>,
}

/// What this engine keeps with a step.
pub(super) struct StepParts {
    pub(super) stream: String,
    pub(super) holding: Holding,
    plans: Arc<Plans>,
}

impl StepParts {
    fn plan(&self, meta: &StepMeta, entry: usize) -> &EntryPlan {
        let entries = self
            .plans
            .entries
            .get_or_init(|| meta.entries.iter().map(|_| EntryPlan::default()).collect());
        &entries[entry]
    }

    pub(super) fn index(&self, meta: &StepMeta, entry: usize) -> &BlockIndex {
        self.plan(meta, entry).index.get_or_init(|| {
            let blocks = meta.entries[entry].blocks.iter();
            BlockIndex::new(blocks.map(|put| (&put.block.start[..], &put.block.count[..])))
        })
    }

    pub(super) fn grid(&self, meta: &StepMeta, entry: usize) -> Result<&Grid, String> {
        let grid = self.plan(meta, entry).grid.get_or_init(|| {
            Grid::new(&self.stream, &meta.entries[entry].definition)
                .map_err(|error| error.to_string())
        });
        grid.as_ref().map_err(Clone::clone)
    }
}

impl std::fmt::Debug for StagingReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StagingReader")
            .field("stream", &self.stream)
            .field("rank", &self.rank)
            .finish_non_exhaustive()
    }
}

impl StagingReader {
    fn place(&self) -> Place {
        Place::stream(&self.stream)
    }

    fn parts<'m>(&self, meta: &'m StepMeta) -> Option<&'m StepParts> {
        meta.engine.downcast_ref::<StepParts>()
    }

    fn announce(&self, step: &SealedStep, machine: &ReaderMachine) -> Result<Vec<u8>, NextError> {
        let document = |number| machine.layout(number).map(|layout| &layout.shape[..]);
        let told = read_step(step, document).map_err(|error| self.corrupt(&error))?;
        let bytes: u64 = step.owners.iter().map(|share| share.bytes).sum();
        let mut claimed = lock(&self.state.claimed);
        claimed.steps += 1;
        claimed.bytes = claimed.bytes.saturating_add(bytes);
        drop(claimed);
        let engine = told.holding.to_bytes();
        Ok(self
            .state
            .packer
            .pack(&told.record, &told.schema, &told.layout, &engine))
    }

    fn corrupt(&self, error: &DecodeError) -> NextError {
        Fault::corrupt("what the stream's home said of a step", error)
            .at(self.place())
            .into()
    }

    fn ended(&self, error: WaitError) -> NextError {
        match error {
            WaitError::Deadline(after) => NextError::NotReady {
                stream: self.stream.clone(),
                after,
            },
            WaitError::Interrupted => Fault::wait(error, "the other ranks to release a step")
                .at(self.place())
                .into(),
        }
    }

    fn ask_for_next(&self, into: &mut Vec<u8>, wait: &Wait) -> Result<bool, NextError> {
        let Some(control) = &self.control else {
            let fault = Fault::Refused {
                peer: "this engine".into(),
                why: "only the root asks for the next step".into(),
            };
            return Err(fault.at(self.place().on_rank(self.rank)).into());
        };
        let stream = self.stream.clone();
        // Releases that were not answered are repeated here too.
        lock(&self.data).tick(wait);
        let mut driver = lock(control);
        let after = wait.deadline().length();
        // Polling is a question that the home answers at once.
        let poll = after.is_zero();
        let answer_by = if poll {
            Wait::for_at_most(POLL_ANSWER_LIMIT)
        } else {
            wait.clone()
        };
        let call = ReaderCall::Next {
            latest: self.latest_only,
            poll,
        };
        let answer = loop {
            let answer = driver.call(call.clone(), &answer_by);
            let answer = answer.map_err(|error| self.no_step(error))?;
            let held = *lock(&self.state.claimed);
            if !matches!(answer, Answer::Next(NextAnswer::WouldDeadlock)) || held.steps > 0 {
                break answer;
            }
            // What the home misses is on its way, or with a rank that is still at it.
            if poll {
                return Err(NextError::NotReady { stream, after });
            }
            let slice = wait.slice().map_err(|error| self.ended(error))?;
            pause(slice.min(ASK_AGAIN));
        };
        match answer {
            Answer::Next(NextAnswer::Step(step)) => {
                *into = self.announce(&step, driver.machine())?;
                Ok(true)
            }
            Answer::Next(NextAnswer::Closed) => Ok(false),
            Answer::Next(NextAnswer::NotYet { .. }) => Err(NextError::NotReady { stream, after }),
            Answer::Next(NextAnswer::WriterLost { last_sealed }) => Err(NextError::WriterLost {
                stream,
                last_sealed,
            }),
            Answer::Next(NextAnswer::RolledBack { to }) => {
                Err(NextError::RolledBack { stream, to })
            }
            Answer::Next(NextAnswer::Trimmed { oldest }) => {
                Err(NextError::Trimmed { stream, oldest })
            }
            Answer::Next(NextAnswer::WouldDeadlock) => {
                let held_bytes = lock(&self.state.claimed).bytes;
                Err(NextError::WouldDeadlock {
                    stream,
                    held_bytes,
                    limit_bytes: held_bytes,
                })
            }
            _ => Err(self.corrupt(&DecodeError {
                offset: 0,
                problem: "the answer is of another kind".into(),
            })),
        }
    }

    fn no_step(&self, error: CallError) -> NextError {
        let stream = self.stream.clone();
        match &error {
            CallError::Client(ClientError::Deadline { length, .. }) => NextError::NotReady {
                stream,
                after: *length,
            },
            CallError::Client(ClientError::Refused {
                reason: Reason::Trimmed,
                step,
                ..
            }) => NextError::Trimmed {
                stream,
                oldest: *step,
            },
            _ => error.fault().at(self.place()).into(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a slice of a wait that has a deadline and an interrupt"
)]
fn pause(slice: std::time::Duration) {
    std::thread::sleep(slice);
}

impl ReaderEngine for StagingReader {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: "staging",
            transport: "tcp".into(),
            why: self.why.clone(),
        }
    }

    fn progress(&self) -> Result<(), Fault> {
        if let Some(notice) = self.notice.get() {
            notice.ticked();
        }
        lock(&self.keeper).as_ref().map_or(Ok(()), Keeper::progress)
    }

    fn next(&self, _held: &[Vec<u8>], into: &mut Vec<u8>, wait: &Wait) -> Result<bool, NextError> {
        let answer = self.ask_for_next(into, wait);
        if let Some(notice) = self.notice.get() {
            notice.answered(!matches!(answer, Err(NextError::NotReady { .. })));
        }
        answer
    }

    fn notice(&self) -> Result<Arc<Notice>, Failure> {
        if let Some(notice) = self.notice.get() {
            return Ok(Arc::clone(notice));
        }
        let made = Notice::new(NOTICE_EVERY).map_err(|error| {
            Fault::io("making a descriptor", &error).at(self.place().on_rank(self.rank))
        })?;
        Ok(Arc::clone(self.notice.get_or_init(|| Arc::new(made))))
    }

    fn load(&self, announcement: &[u8]) -> Result<StepMeta, NextError> {
        let loaded = self.state.unpacker.unpack(announcement, |record, own| {
            let holding = Holding::from_bytes(own)?;
            let mut known = lock(&self.state.plans);
            let plans = match &*known {
                Some((schema, layout, plans))
                    if (*schema, *layout) == (record.schema_digest, record.layout_digest) =>
                {
                    Arc::clone(plans)
                }
                _ => {
                    let plans = Arc::new(Plans::default());
                    *known = Some((
                        record.schema_digest,
                        record.layout_digest,
                        Arc::clone(&plans),
                    ));
                    plans
                }
            };
            let parts: Arc<dyn std::any::Any + Send + Sync> = Arc::new(StepParts {
                stream: self.stream.clone(),
                holding,
                plans,
            });
            Ok(parts)
        });
        loaded.map_err(|error| self.corrupt(&error))
    }

    fn read(&self, step: &StepMeta, reads: &mut [Read<'_>], wait: &Wait) -> Result<(), GetError> {
        let place = self.place().at_step(step.head.step).on_rank(self.rank);
        let Some(parts) = self.parts(step) else {
            let fault = Fault::Refused {
                peer: "this engine".into(),
                why: "the step is another engine's".into(),
            };
            return Err(fault.at(place).into());
        };
        let fetch = Fetch {
            meta: step,
            parts,
            map: &self.map,
            place,
            verify: self.verify,
            copies: &self.copies,
            fetched: &self.fetched,
            unpacking: None,
            wait,
            reads,
        };
        let mut driver = lock(&self.data);
        fetch.run(&mut driver, &mut lock(&self.state.router))
    }

    fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    fn pin(&self, step: &StepMeta, entry: usize, _: BlockId) -> Result<Pinned, GetError> {
        let definition = &step.entries[entry].definition;
        let place = self
            .place()
            .at_step(step.head.step)
            .of_variable(&definition.name);
        let fault = Fault::Unsupported {
            engine: "staging".into(),
            what: "show a block in place".into(),
            instead: "read it into memory of your own".into(),
        };
        Err(fault.at(place.on_rank(self.rank)).into())
    }

    fn release(&self, step: &StepMeta) {
        let Some(parts) = self.parts(step) else {
            return;
        };
        let holding = &parts.holding;
        let bytes: u64 = holding.shares.iter().map(|share| share.bytes).sum();
        let mut claimed = lock(&self.state.claimed);
        claimed.steps = claimed.steps.saturating_sub(1);
        claimed.bytes = claimed.bytes.saturating_sub(bytes);
        drop(claimed);
        let call = ReaderCall::Release {
            epoch: holding.epoch,
            step: holding.step,
        };
        let wait = Wait::new(RELEASE_LIMIT, &self.interrupt);
        // What cannot be said now is said again with this rank's next call.
        lock(&self.data).insist(call, RELEASE_LASTS, &wait);
    }

    fn commit(&self, step: &StepHead, cursor: &str, wait: &Wait) -> Result<(), Failure> {
        let call = ReaderCall::Commit {
            cursor: cursor.to_owned(),
            epoch: step.epoch,
            step: step.step,
        };
        let committed = lock(&self.data).call(call, wait);
        committed
            .map(drop)
            .map_err(|error| error.fault().at(self.place().at_step(step.step)))
    }

    fn close(&self, wait: &Wait) {
        *lock(&self.keeper) = None;
        if let Some(control) = &self.control {
            // Whoever does not hear it learns it from the end of the connection.
            let _ = lock(control).call(ReaderCall::Close, &wait.at_most(CLOSE_LIMIT));
        }
    }
}
