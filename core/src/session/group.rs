//! One rank's membership in a group: the control tree and what its rounds mean.

use std::collections::BTreeSet;
use std::time::Duration;

use panta_transports::copy::CopyCounter;
use panta_transports::time::{Interrupt, Wait};

use crate::comm::Comm;
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
}

impl Group {
    /// Resolves the name alike on every rank and builds the tree.
    /// `interrupt` ends the waits of this opening and of the handle it makes.
    pub(super) fn form(
        name: &str,
        comm: &mut dyn Comm,
        interrupt: &Interrupt,
    ) -> Result<Self, OpenError> {
        let config =
            |error: &dyn std::fmt::Display| OpenError::Config(format!("stream `{name}`: {error}"));
        let directory = std::env::current_dir().map_err(|error| config(&error));
        let target = directory.and_then(|directory| {
            resolve(name, &process_environment, &directory).map_err(|error| config(&error))
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
        };
        group.same_target(target)?;
        Ok(group)
    }

    /// All ranks must have resolved the name alike: environments may differ.
    fn same_target(&mut self, target: Result<Target, OpenError>) -> Result<(), OpenError> {
        let local = target.map(|target| format!("{target:?}").into_bytes());
        self.agree::<OpenError>(local, |targets, place| {
            match targets.iter().position(|target| *target != targets[0]) {
                None => Ok(Vec::new()),
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
    pub(super) fn agree<E: Travels>(
        &mut self,
        local: Result<Vec<u8>, E>,
        decide: impl FnOnce(Vec<Vec<u8>>, &Place) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let place = self.place();
        self.agree_at(local, place, decide)
    }

    /// The same, for errors at `place`.
    pub(super) fn agree_at<E: Travels>(
        &mut self,
        local: Result<Vec<u8>, E>,
        place: Place,
        decide: impl FnOnce(Vec<Vec<u8>>, &Place) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let rank = self.tree.rank();
        let wait = self.collective_wait();
        let decided = self.tree.agree(
            Ok(Verdict::of(local, rank)),
            |all| Verdict::of(decide_all(all, &place, decide), 0),
            &wait,
        );
        let bytes = decided.map_err(|error| tree_fault(error).at(place.clone()))?;
        Verdict::read(bytes, &place)
    }

    /// The root's result, on every rank.
    pub(super) fn told_by_root<E: Travels>(
        &mut self,
        root: Option<Result<Vec<u8>, E>>,
    ) -> Result<Vec<u8>, E> {
        let place = self.place();
        let wait = self.collective_wait();
        let decided = self
            .tree
            .broadcast(root.map(|result| Verdict::of(result, 0)), &wait);
        Verdict::read(
            decided.map_err(|error| tree_fault(error).at(place.clone()))?,
            &place,
        )
    }
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

fn decide_all<E: Travels>(
    all: Vec<Result<Vec<u8>, crate::tree::Failure>>,
    place: &Place,
    decide: impl FnOnce(Vec<Vec<u8>>, &Place) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let mut parts = Vec::with_capacity(all.len());
    for (rank, part) in all.into_iter().enumerate() {
        let part = part.map_err(|failure| {
            Fault::OnRank {
                rank,
                what: failure.message,
            }
            .at(place.clone())
        })?;
        parts.push(Verdict::read::<E>(part, place)?);
    }
    decide(parts, place)
}

/// A result in bytes: the last byte tells which.
struct Verdict;

impl Verdict {
    fn of<E: Travels>(result: Result<Vec<u8>, E>, rank: usize) -> Vec<u8> {
        let (mut bytes, failed) = match result {
            Ok(bytes) => (bytes, 0),
            Err(error) => (error.pack(rank), 1),
        };
        bytes.push(failed);
        bytes
    }

    fn read<E: Travels>(mut bytes: Vec<u8>, place: &Place) -> Result<Vec<u8>, E> {
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
        other => Fault::Io {
            doing: "control tree of this group".into(),
            why: other.to_string(),
        },
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
