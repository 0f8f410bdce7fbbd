//! One rank's membership in a group: the control tree and what its rounds mean.

use std::collections::BTreeSet;
use std::time::Duration;

use panta_transports::copy::CopyCounter;
use panta_transports::coupling::{Process, Progress};
use panta_transports::time::{Interrupt, Wait};

use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::comm::{Comm, CommError, RankList};
use crate::config::{Engine, Options, Target, process_environment, resolve};
use crate::engine::{EngineFactory, OpenArguments};
use crate::error::{Failure, Fault, OpenError, Place, Travels};
use crate::tree::{ControlTree, TreeError, TreeOptions};

/// Ranks may come to a collective as much later as the root may take to decide,
/// so the others wait twice the deadline and this.
const GRACE: Duration = Duration::from_secs(1);

/// One rank of an open stream.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) stream: String,
    pub(super) target: Target,
    pub(super) tree: ControlTree,
    pub(super) deadline: Duration,
    pub(super) interrupt: Interrupt,
    pub(super) copies: CopyCounter,
    process: Process,
}

impl Group {
    /// Resolves the name alike on every rank and builds the tree.
    /// `interrupt` ends the waits of this opening and of the handle it makes.
    pub(super) fn form(
        name: &str,
        comm: &mut dyn Comm,
        progress: Option<Progress>,
        interrupt: &Interrupt,
    ) -> Result<Self, OpenError> {
        let config =
            |error: &dyn std::fmt::Display| OpenError::Config(format!("stream `{name}`: {error}"));
        let directory = std::env::current_dir().map_err(|error| config(&error));
        let target = directory.and_then(|directory| {
            resolve(name, &process_environment, &directory).map_err(|error| config(&error))
        });
        let target = target.and_then(|mut target| {
            if let Some(progress) = progress {
                target.options.set_progress(progress);
            }
            let checked = target.options.who_progresses();
            checked.map(|_| target).map_err(|error| config(&error))
        });
        let deadline = target
            .as_ref()
            .map_or(Duration::from_secs(60), |target| target.options.deadline);
        let options = TreeOptions {
            interface: target
                .as_ref()
                .ok()
                .and_then(|target| target.options.interface.clone()),
            ..TreeOptions::default()
        };
        let wait = Wait::new(deadline, interrupt);
        let tree = ControlTree::connect(comm, &options, &wait)
            .map_err(|error| tree_fault(error).at(Place::stream(name)))?;
        let mut group = Self {
            stream: name.to_owned(),
            target: target.clone().unwrap_or_else(|_| nowhere()),
            tree,
            deadline,
            interrupt: interrupt.clone(),
            copies: CopyCounter::new(),
            process: Process::current(),
        };
        group.same_target(target)?;
        Ok(group)
    }

    /// All ranks must have resolved the name alike: environments may differ.
    fn same_target(&mut self, target: Result<Target, OpenError>) -> Result<(), OpenError> {
        let local = target.map(|target| Plain(format!("{target:?}").into_bytes()));
        self.agree(local, |targets, at| {
            let place = at.place();
            match targets.iter().position(|target| target.0 != targets[0].0) {
                None => Ok(Nothing),
                Some(rank) => Err(OpenError::Config(format!(
                    "{place}: the name stands for another URL or other parameters on rank {rank} than on rank 0; \
                     give every rank the same environment and panta.toml"
                ))),
            }
        })?;
        Ok(())
    }

    /// The place of this stream.
    pub(super) fn place(&self) -> Place {
        Place::stream(&self.stream)
    }

    /// Whether this process is a child that was forked off since: what the group and the
    /// engine have is then the parent's, who goes on with it, and is to be left alone.
    pub(super) fn is_parents(&self) -> bool {
        self.process.is_child()
    }

    /// An error where that is so.
    pub(super) fn refuse_in_child(&self) -> Result<(), Failure> {
        if !self.is_parents() {
            return Ok(());
        }
        let fault = Fault::Refused {
            peer: "this handle".into(),
            why: "this is the child of a fork, and the stream is its parent's; open it anew after the fork".into(),
        };
        Err(fault.at(self.place()))
    }

    /// A wait of this stream's deadline.
    pub(super) fn wait(&self) -> Wait {
        Wait::new(self.deadline, &self.interrupt)
    }

    fn collective_wait(&self) -> Wait {
        Wait::new(
            self.deadline.saturating_mul(2).saturating_add(GRACE),
            &self.interrupt,
        )
    }

    /// The factory for this stream's scheme.
    pub(super) fn factory<'e>(
        &self,
        engines: &[&'e dyn EngineFactory],
    ) -> Result<&'e dyn EngineFactory, OpenError> {
        let wanted = self.target.engine;
        engines
            .iter()
            .find(|factory| factory.engine() == wanted)
            .copied()
            .ok_or_else(|| {
                let there: Vec<_> = engines
                    .iter()
                    .map(|factory| format!("`{}:`", factory.engine().scheme()))
                    .collect();
                let fault = Fault::Unsupported {
                    engine: wanted.scheme().to_owned(),
                    what: "be used: this build has no such engine".into(),
                    instead: format!("use one of {}", there.join(", ")),
                };
                fault.at(self.place()).into()
            })
    }

    /// What engines are told at open.
    pub(super) fn arguments<'a>(&'a self, wait: &'a Wait) -> OpenArguments<'a> {
        OpenArguments {
            stream: &self.stream,
            target: &self.target,
            rank: self.tree.rank(),
            size: self.tree.size(),
            wait,
            interrupt: &self.interrupt,
            copies: &self.copies,
        }
    }

    /// One round: every rank says its part or how it failed; if none failed the
    /// root decides; everyone gets the decision, or the same error.
    pub(super) fn agree<P: Coded, D: Coded, E: Travels>(
        &mut self,
        local: Result<P, E>,
        decide: impl FnOnce(&mut [P], &At<'_>) -> Result<D, E>,
    ) -> Result<D, E> {
        self.agree_at(None, local, decide)
    }

    /// The same about a step. A rank that is alone decides at once: nothing becomes bytes.
    pub(super) fn agree_at<P: Coded, D: Coded, E: Travels>(
        &mut self,
        step: Option<u64>,
        local: Result<P, E>,
        decide: impl FnOnce(&mut [P], &At<'_>) -> Result<D, E>,
    ) -> Result<D, E> {
        self.refuse_in_child()?;
        if self.tree.size() == 1 {
            self.tree.count_round();
            let at = At {
                stream: &self.stream,
                step,
            };
            return decide(std::slice::from_mut(&mut local?), &at);
        }
        let rank = self.tree.rank();
        let wait = self.collective_wait();
        let (stream, tree) = (&self.stream, &mut self.tree);
        let at = At { stream, step };
        let place = at.place();
        let mut own = None;
        let decided = tree.agree(
            Ok(Verdict::of(local.map(|part| part.to_bytes()), rank)),
            |all| match decide_all(all, &place, |mut parts| decide(&mut parts, &at)) {
                Ok(decision) => {
                    let bytes = decision.to_bytes();
                    own = Some(decision);
                    Verdict::of::<E>(Ok(bytes), 0)
                }
                Err(error) => Verdict::of(Err(error), 0),
            },
            &wait,
        );
        let bytes = decided.map_err(|error| tree_fault(error).at(place.clone()))?;
        match own {
            Some(own) => Ok(own),
            None => decode(
                &Verdict::read::<E>(bytes, &place)?,
                "the root's decision",
                &place,
            ),
        }
    }

    /// The root's result, on every rank.
    pub(super) fn told_by_root<D: Coded, E: Travels>(
        &mut self,
        root: Option<Result<D, E>>,
    ) -> Result<D, E> {
        self.refuse_in_child()?;
        if self.tree.size() == 1
            && let Some(root) = root
        {
            self.tree.count_round();
            return root;
        }
        let wait = self.collective_wait();
        let place = self.place();
        let (own, bytes) = match root {
            Some(Ok(decision)) => {
                let bytes = decision.to_bytes();
                (Some(decision), Some(Verdict::of::<E>(Ok(bytes), 0)))
            }
            Some(Err(error)) => (None, Some(Verdict::of(Err(error), 0))),
            None => (None, None),
        };
        let told = self.tree.broadcast(bytes, &wait);
        let told = told.map_err(|error| tree_fault(error).at(place.clone()))?;
        match own {
            Some(own) => Ok(own),
            None => decode(
                &Verdict::read::<E>(told, &place)?,
                "what the root told",
                &place,
            ),
        }
    }
}

/// Where a round is, for errors: made a place of only when there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    stream: &'a str,
    step: Option<u64>,
}

impl<'a> At<'a> {
    #[cfg(test)]
    pub(super) fn new(stream: &'a str, step: u64) -> Self {
        Self {
            stream,
            step: Some(step),
        }
    }
}

impl At<'_> {
    pub(super) fn place(&self) -> Place {
        let place = Place::stream(self.stream);
        match self.step {
            Some(step) => place.at_step(step),
            None => place,
        }
    }
}

/// Nothing to say or to decide but whether it went well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nothing;

impl Coded for Nothing {
    fn encode(&self, _into: &mut Encoder) {}

    fn decode(_from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// What the root's engine tells the ranks' engines; mostly nothing, which has no bytes.
#[derive(Clone, Debug)]
pub(super) struct Word(pub(super) Vec<u8>);

impl Coded for Word {
    fn encode(&self, into: &mut Encoder) {
        into.raw(&self.0);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self(from.rest().to_vec()))
    }
}

/// Bytes as they are.
#[derive(Clone, Debug)]
pub(super) struct Plain(pub(super) Vec<u8>);

impl Coded for Plain {
    fn encode(&self, into: &mut Encoder) {
        into.bytes(&self.0);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self(from.bytes()?.to_vec()))
    }
}

fn decode<T: Coded, E: Travels>(bytes: &[u8], what: &str, place: &Place) -> Result<T, E> {
    T::from_bytes(bytes).map_err(|error| Fault::corrupt(what, &error).at(place.clone()).into())
}

/// Stands in for a target that did not resolve, until the group has heard of it.
fn nowhere() -> Target {
    Target {
        engine: Engine::Null,
        name: String::new(),
        options: Options::default(),
        given: BTreeSet::new(),
    }
}

pub(super) fn decide_all<P: Coded, D, E: Travels>(
    all: Vec<Result<Vec<u8>, crate::tree::Failure>>,
    place: &Place,
    decide: impl FnOnce(Vec<P>) -> Result<D, E>,
) -> Result<D, E> {
    let mut parts = Vec::with_capacity(all.len());
    for (rank, part) in all.into_iter().enumerate() {
        let part = part.map_err(|failure| {
            Fault::OnRank {
                rank,
                what: failure.message,
            }
            .at(place.clone())
        })?;
        let part = Verdict::read::<E>(part, place)?;
        let what = |error| Fault::corrupt(format!("what rank {rank} said"), &error);
        let part = P::from_bytes(&part).map_err(|error| what(error).at(place.clone()))?;
        parts.push(part);
    }
    decide(parts)
}

/// A result in bytes: the last byte tells which.
pub(super) struct Verdict;

impl Verdict {
    pub(super) fn of<E: Travels>(result: Result<Vec<u8>, E>, rank: usize) -> Vec<u8> {
        let (mut bytes, failed) = match result {
            Ok(bytes) => (bytes, 0),
            Err(error) => (error.pack(rank), 1),
        };
        bytes.push(failed);
        bytes
    }

    pub(super) fn read<E: Travels>(mut bytes: Vec<u8>, place: &Place) -> Result<Vec<u8>, E> {
        match bytes.pop() {
            Some(0) => Ok(bytes),
            Some(_) => Err(E::unpack(&bytes, place)),
            None => Err(Fault::Corrupt {
                what: "a frame of the control tree".into(),
                problem: "it is empty".into(),
            }
            .at(place.clone())
            .into()),
        }
    }
}

/// What an error of the tree means to the group.
pub(super) fn tree_fault(error: TreeError) -> Fault {
    match error {
        TreeError::RankLost { rank, .. } => Fault::RankLost {
            rank,
            why: error.to_string(),
        },
        TreeError::Deadline {
            ref awaiting,
            after,
            ..
        } => {
            let ranks: Vec<_> = awaiting.iter().map(ToString::to_string).collect();
            Fault::Deadline {
                awaiting: format!("rank {} of this group", ranks.join(", ")),
                after,
            }
        }
        TreeError::Interrupted { rank } => Fault::Interrupted {
            awaiting: format!("the ranks of this group (on rank {rank})"),
        },
        TreeError::Open(error) => opening_fault(&error),
        other => Fault::Io {
            doing: "control tree of this group".into(),
            why: other.to_string(),
        },
    }
}

/// What an error of the communicator, which is used while a group opens, means to it.
fn opening_fault(error: &CommError) -> Fault {
    let why = error.to_string();
    match error {
        CommError::RankLost { rank } => Fault::RankLost { rank: *rank, why },
        CommError::Deadline { awaiting, after } => Fault::Deadline {
            awaiting: format!("{} of this group", RankList(awaiting)),
            after: *after,
        },
        CommError::Interrupted => Fault::Interrupted {
            awaiting: "the ranks of this group".into(),
        },
        CommError::System { action, reason } => Fault::Io {
            doing: action.clone(),
            why: reason.clone(),
        },
        CommError::Environment { .. } | CommError::Disagree { .. } | CommError::Foreign { .. } => {
            Fault::Communicator { why }
        }
    }
}

impl From<TreeError> for Fault {
    fn from(error: TreeError) -> Self {
        tree_fault(error)
    }
}

/// A failure at this stream, for brevity.
pub(super) fn failed<E: From<Failure>>(fault: Fault, place: Place) -> E {
    fault.at(place).into()
}
