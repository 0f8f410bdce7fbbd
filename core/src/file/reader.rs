//! The reading side of the engine: following the chain, telling the group, and
//! what every rank keeps of a step.
//!
//! ```text
//! root   prepare: wait for the dataset   next: follow `commits`, read `meta`, announce
//! all    attach                          load: take the announcement in   read: see `fetch`
//! ```
//! The root alone follows; other ranks open segments only.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use panta_transports::copy::{CopyCounter, checksum};
use panta_transports::time::{Wait, WaitError};

use super::cursor::Cursor;
use super::dataset::{Dataset, Instance, Named, damaged};
use super::fetch::OpenSegments;
use super::lock::LockProbe;
use super::log::{Life, Log, SealedStep, read_record};
use super::pages::{Commit, PartReference, Role, SegmentReference};
use super::sections::{PartKind, Section, parse_part};
use super::stored::Buffers;
use super::watch::{Patience, Watch};
use crate::announce::{Announced, Announcer};
use crate::codec::{Coded, DecodeError, Decoder, Encoder};
use crate::config::Verify;
use crate::engine::{EngineInfo, OpenArguments, Pinned, Read, ReaderEngine, Start};
use crate::error::{Failure, Fault, GetError, NextError, OpenError, Place};
use crate::model::{BlockId, StepHead, StepMeta, StepRecord};
use crate::notice::Notice;
use crate::plan::BlockIndex;

/// How often a file is to be looked at by who waits for a notice: writers on other hosts
/// give none, and neither does a writer that dies.
const NOTICE_EVERY: Duration = Duration::from_millis(50);

/// Waits until the dataset is there; gives its identity.
pub(super) fn prepare(arguments: &OpenArguments<'_>) -> Result<Vec<u8>, OpenError> {
    let dataset = Dataset::new(&arguments.target.name);
    let place = Place::stream(arguments.stream);
    let mut patience = Patience::new();
    loop {
        let path = dataset.commits();
        match path.try_exists() {
            Ok(true) => {
                match Named::open(path).and_then(|commits| commits.file_page(Role::Commits)) {
                    Ok(page) => return Ok(page.instance.to_vec()),
                    // Replaced between the two looks: the next one is coming.
                    Err(Fault::Io { .. }) if !dataset.commits().exists() => {}
                    Err(fault) => return Err(fault.at(place).into()),
                }
            }
            Ok(false) => {}
            Err(error) => {
                let fault = super::dataset::io("looking for", &path, &error);
                return Err(fault.at(place).into());
            }
        }
        match patience.pass(arguments.wait, None) {
            Ok(()) => {}
            Err(WaitError::Deadline(after)) => {
                return Err(OpenError::NotFound {
                    stream: arguments.stream.to_owned(),
                    what: format!("the dataset {}", dataset.directory().display()),
                    after,
                });
            }
            Err(error) => {
                let awaiting = format!("the dataset {}", dataset.directory().display());
                return Err(Fault::wait(error, awaiting).at(place).into());
            }
        }
    }
}

/// What a reader has taken from disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Bytes of blocks.
    pub data_bytes: u64,
    /// Tiles whose checksum was verified.
    pub verified_tiles: u64,
    /// Bytes of index sections.
    pub index_bytes: u64,
}

/// Brings the steps of a dataset to one rank.
#[derive(Debug)]
pub struct FileReader {
    pub(super) place: Place,
    pub(super) dataset: Dataset,
    pub(super) instance: Instance,
    pub(super) verify: bool,
    pub(super) copies: CopyCounter,
    pub(super) segments: OpenSegments,
    pub(super) buffers: Buffers,
    pub(super) data_bytes: AtomicU64,
    pub(super) verified_tiles: AtomicU64,
    pub(super) index_bytes: AtomicU64,
    announced: Announcer,
    indexes: Mutex<Option<(u64, Arc<LayoutIndexes>)>>,
    follower: Option<Mutex<Follower>>,
}

/// For each variable of a layout, where its blocks are; made when first needed.
pub(super) type LayoutIndexes = Vec<OnceLock<BlockIndex>>;

/// What every rank keeps of a step.
pub(super) struct FileStep {
    pub(super) epoch: u64,
    pub(super) segments: Vec<SegmentReference>,
    /// Beside `segments`; read when first needed.
    pub(super) sections: Vec<OnceLock<Section>>,
    pub(super) indexes: Arc<LayoutIndexes>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileReader {
    /// Joins the reader that the root prepared.
    ///
    /// # Errors
    /// [`OpenError`] if the dataset is damaged or was replaced meanwhile.
    pub fn attach(
        arguments: &OpenArguments<'_>,
        start: &Start,
        ticket: &[u8],
    ) -> Result<Self, OpenError> {
        let place = Place::stream(arguments.stream);
        let at = |fault: Fault| OpenError::from(fault.at(place.clone()));
        let dataset = Dataset::new(&arguments.target.name);
        let instance = Instance::try_from(ticket).map_err(|_| {
            at(Fault::Corrupt {
                what: "the root's ticket".into(),
                problem: "an identity has 16 bytes".into(),
            })
        })?;
        let follower = if arguments.rank == 0 {
            let mut follower = Follower::open(&dataset, instance, start).map_err(at)?;
            if arguments.target.options.precious_first {
                follower.first = First::Owed;
            }
            Some(Mutex::new(follower))
        } else {
            None
        };
        Ok(Self {
            place: place.on_rank(arguments.rank),
            dataset,
            instance,
            verify: arguments.target.options.verify != Verify::Never,
            copies: arguments.copies.clone(),
            segments: OpenSegments::default(),
            buffers: Buffers::default(),
            data_bytes: AtomicU64::new(0),
            verified_tiles: AtomicU64::new(0),
            index_bytes: AtomicU64::new(0),
            announced: Announcer::default(),
            indexes: Mutex::new(None),
            follower,
        })
    }

    /// What was taken from disk so far.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        ReadCounts {
            data_bytes: self.data_bytes.load(Ordering::Relaxed),
            verified_tiles: self.verified_tiles.load(Ordering::Relaxed),
            index_bytes: self.index_bytes.load(Ordering::Relaxed),
        }
    }

    fn follower(&self) -> Result<MutexGuard<'_, Follower>, Fault> {
        let none = || Fault::Refused {
            peer: "the file engine".into(),
            why: "only the root rank follows the dataset".into(),
        };
        Ok(locked(self.follower.as_ref().ok_or_else(none)?))
    }

    /// The indexes of a layout: those of the step before, if it is the same.
    fn indexes_of(&self, layout: u64, entries: usize) -> Arc<LayoutIndexes> {
        let mut indexes = locked(&self.indexes);
        match &*indexes {
            Some((known, indexes)) if *known == layout => Arc::clone(indexes),
            _ => {
                let made: LayoutIndexes = (0..entries).map(|_| OnceLock::new()).collect();
                let made = Arc::new(made);
                *indexes = Some((layout, Arc::clone(&made)));
                made
            }
        }
    }

    fn take_in(&self, step: &Announced, own: &[u8]) -> Result<FileStep, DecodeError> {
        let mut from = Decoder::new(own);
        let mut segments: Vec<SegmentReference> = Vec::new();
        for _ in 0..from.count(40)? {
            let segment = SegmentReference::decode(&mut from)?;
            if segments
                .last()
                .is_some_and(|last| last.rank >= segment.rank)
            {
                return Err(from.error("the segments are not in ascending order"));
            }
            segments.push(segment);
        }
        from.finish()?;
        Ok(FileStep {
            epoch: step.head.epoch,
            sections: segments.iter().map(|_| OnceLock::new()).collect(),
            segments,
            indexes: self.indexes_of(step.layout_digest, step.entries),
        })
    }
}

impl ReaderEngine for FileReader {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            engine: "file",
            transport: "page cache".into(),
            why: format!(
                "`file:` was asked for; {}",
                self.dataset.directory().display()
            ),
        }
    }

    fn next(&self, _held: &[Vec<u8>], into: &mut Vec<u8>, wait: &Wait) -> Result<bool, NextError> {
        let mut follower = self
            .follower()
            .map_err(|fault| fault.at(self.place.clone()))?;
        // Before it looks, so that what comes after the look is noticed.
        if let (Some(_), Some(watch)) = (&follower.notice, &follower.watch) {
            watch.drain();
        }
        let next = follower.next(&self.place, wait);
        if let Some(notice) = &follower.notice {
            notice.answered(!matches!(next, Err(NextError::NotReady { .. })));
        }
        let next = next?;
        let is_there = next.is_some();
        *into = next.unwrap_or_default();
        Ok(is_there)
    }

    fn notice(&self) -> Result<Arc<Notice>, Failure> {
        let failed = |fault: Fault| fault.at(self.place.clone());
        let mut follower = self.follower().map_err(failed)?;
        if let Some(notice) = &follower.notice {
            return Ok(Arc::clone(notice));
        }
        let make = || {
            let notice = Notice::new(NOTICE_EVERY)?;
            let watch = follower.watch.as_ref().map(AsFd::as_fd);
            notice.hear(watch.as_slice())?;
            Ok::<_, std::io::Error>(Arc::new(notice))
        };
        let made = make().map_err(|error| failed(Fault::io("making a descriptor", &error)))?;
        Ok(Arc::clone(follower.notice.insert(made)))
    }

    fn load(&self, announcement: &[u8]) -> Result<StepMeta, NextError> {
        let taken = self.announced.unpack(announcement, |step, own| {
            Ok(Arc::new(self.take_in(step, own)?))
        });
        taken.map_err(|error| {
            let fault = Fault::corrupt("the root's announcement of a step", &error);
            fault.at(self.place.clone()).into()
        })
    }

    fn read(&self, step: &StepMeta, reads: &mut [Read<'_>], wait: &Wait) -> Result<(), GetError> {
        super::fetch::read(self, step, reads, wait)
    }

    fn pin(&self, step: &StepMeta, _entry: usize, _block: BlockId) -> Result<Pinned, GetError> {
        let fault = Fault::Unsupported {
            engine: "file".into(),
            what: "show a block in place, its bytes are on disk".into(),
            instead: "get the block into an array".into(),
        };
        Err(fault.at(self.place.clone().at_step(step.head.step)).into())
    }

    fn release(&self, _step: &StepMeta) {}

    fn fetched_bytes(&self) -> u64 {
        self.counts().data_bytes
    }

    fn commit(&self, step: &StepHead, cursor: &str, _wait: &Wait) -> Result<(), Failure> {
        let position = Cursor {
            instance: self.instance,
            epoch: step.epoch,
            step: step.step,
        };
        position
            .store(&self.dataset, cursor)
            .map_err(|fault| fault.at(self.place.clone().at_step(step.step)))
    }

    fn close(&self, _wait: &Wait) {
        self.segments.close();
    }
}

/// Whether the first step comes before all others, wherever they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    InItsTurn,
    Owed,
    Given,
}

/// The root's place in the chain of commit records.
#[derive(Debug)]
struct Follower {
    dataset: Dataset,
    commits: Named,
    meta: Named,
    log: Log,
    probe: Option<LockProbe>,
    watch: Option<Watch>,
    /// Of a reader that was asked for one.
    notice: Option<Arc<Notice>>,
    /// What is looked for before anything is given; then steps follow each other.
    seek: Option<Start>,
    /// The place in `log.steps` of the next step.
    next: usize,
    first: First,
    /// Steps that were seen are withdrawn, and the reader has not been told.
    rolled_back: bool,
    /// Schema and layout as they were last read.
    parts: [Option<(PartReference, Vec<u8>)>; 2],
    announcer: Announcer,
}

impl Follower {
    fn open(dataset: &Dataset, instance: Instance, start: &Start) -> Result<Self, Fault> {
        let commits = Named::open(dataset.commits())?;
        let meta = Named::open(dataset.meta())?;
        let log = Log::of(&commits)?;
        let page = meta.file_page(Role::Meta)?;
        if (log.instance, page.instance) != (instance, instance) {
            return Err(replaced(dataset));
        }
        let mut follower = Self {
            watch: Watch::on(&commits.path),
            notice: None,
            probe: LockProbe::open(dataset)?,
            dataset: dataset.clone(),
            commits,
            meta,
            log,
            seek: None,
            next: 0,
            first: First::InItsTurn,
            rolled_back: false,
            parts: [None, None],
            announcer: Announcer::default(),
        };
        // Damage shows when the reader comes to it; steps before it are good.
        let _ = follower.log.refresh(&follower.commits);
        follower.log.take_fewest();
        follower.begin_at(start)?;
        Ok(follower)
    }

    fn begin_at(&mut self, start: &Start) -> Result<(), Fault> {
        match start {
            Start::Oldest => {}
            Start::Latest => self.next = self.log.steps.len().saturating_sub(1),
            Start::Cursor(name) => {
                let cursor = Cursor::load(&self.dataset, name)?;
                if let Some(cursor) = cursor.filter(|it| it.instance == self.log.instance) {
                    self.go_on_after(&cursor);
                }
            }
            Start::At(_) | Start::After(_) | Start::AtTime(_) => self.seek = Some(start.clone()),
        }
        Ok(())
    }

    fn go_on_after(&mut self, cursor: &Cursor) {
        let seen = |step: &SealedStep| step.epoch <= cursor.epoch && step.step <= cursor.step;
        self.next = self.log.steps.partition_point(seen);
        let last = self.next.checked_sub(1).map(|at| self.log.steps[at]);
        self.rolled_back = last.is_none_or(|last| last.step != cursor.step)
            || last.is_some_and(|last| last.epoch != cursor.epoch);
    }

    fn next(&mut self, place: &Place, wait: &Wait) -> Result<Option<Vec<u8>>, NextError> {
        let stream = || place.stream.clone();
        let failed = |fault: Fault| NextError::from(fault.at(place.clone()));
        let at_step = |fault: Fault, step: &SealedStep| fault.at(place.clone().at_step(step.step));
        let mut patience = Patience::new();
        loop {
            // Whether a writer lives is asked before the last look at its
            // records: what it sealed before it died is then seen.
            let writer_lives = self.writer_lives().map_err(failed)?;
            let refreshed = self.log.refresh(&self.commits);
            self.notice_withdrawal();
            if self.rolled_back {
                self.rolled_back = false;
                let to = self.next.checked_sub(1).map(|at| self.log.steps[at].step);
                return Err(NextError::RolledBack {
                    stream: stream(),
                    to,
                });
            }
            let owed = self.log.steps.first().copied();
            if let Some(step) = owed.filter(|_| self.first == First::Owed) {
                let announcement = self.announce(&step);
                self.first = First::Given;
                return Ok(Some(announcement.map_err(|fault| at_step(fault, &step))?));
            }
            if let Some(step) = self.due(place)? {
                let announcement = self
                    .announce(&step)
                    .map_err(|fault| at_step(fault, &step))?;
                self.next += 1;
                return Ok(Some(announcement));
            }
            refreshed.map_err(failed)?;
            if self.is_replaced() {
                return Err(failed(replaced(&self.dataset)));
            }
            if self.log.life == Life::Closed {
                return Ok(None);
            }
            if !writer_lives {
                return Err(NextError::WriterLost {
                    stream: stream(),
                    last_sealed: self.log.steps.last().map(|last| last.step),
                });
            }
            match patience.pass(wait, self.watch.as_ref()) {
                Ok(()) => {}
                Err(WaitError::Deadline(after)) => {
                    return Err(NextError::NotReady {
                        stream: stream(),
                        after,
                    });
                }
                Err(error) => return Err(failed(Fault::wait(error, "the next step"))),
            }
        }
    }

    fn notice_withdrawal(&mut self) {
        let fewest = self.log.take_fewest();
        if fewest < self.next {
            self.next = fewest;
            self.rolled_back = true;
        }
        if fewest == 0 && self.first == First::Given {
            // What takes the place of the first step has not been given.
            self.first = First::Owed;
            self.rolled_back = true;
        }
    }

    /// The next step to give, if it is sealed.
    fn due(&mut self, place: &Place) -> Result<Option<SealedStep>, NextError> {
        let steps = &self.log.steps;
        if let Some(seek) = &self.seek {
            let found = match seek {
                Start::At(wanted) => steps.partition_point(|step| step.step < *wanted),
                Start::After(seen) => steps.partition_point(|step| step.step <= *seen),
                Start::AtTime(time) => steps
                    .iter()
                    .position(|step| step.sim.is_some_and(|sim| sim >= *time))
                    .unwrap_or(steps.len()),
                Start::Oldest | Start::Latest | Start::Cursor(_) => 0,
            };
            let Some(step) = steps.get(found) else {
                return Ok(None);
            };
            if matches!(seek, Start::At(wanted) if *wanted != step.step) {
                return Err(NextError::Trimmed {
                    stream: place.stream.clone(),
                    oldest: steps.first().map(|step| step.step),
                });
            }
            self.next = found;
            self.seek = None;
        }
        if self.first == First::Given {
            self.next = self.next.max(1);
        }
        Ok(self.log.steps.get(self.next).copied())
    }

    fn writer_lives(&mut self) -> Result<bool, Fault> {
        if self.probe.is_none() {
            self.probe = LockProbe::open(&self.dataset)?;
        }
        self.probe.as_ref().map_or(Ok(false), LockProbe::is_held)
    }

    /// Whether another dataset, or none, has this one's name now.
    fn is_replaced(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let ours = self.commits.file.metadata();
        let there = std::fs::metadata(&self.commits.path);
        match (ours, there) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) != (there.dev(), there.ino()),
            _ => true,
        }
    }

    fn announce(&mut self, step: &SealedStep) -> Result<Vec<u8>, Fault> {
        let commit = read_record(&self.commits, step.sequence)?;
        let record = self.read_record_part(&commit)?;
        let mut engine = Encoder::default();
        engine.length(commit.segments.len());
        for segment in &commit.segments {
            segment.encode(&mut engine);
        }
        let names = [record.schema_digest, record.layout_digest];
        for (at, kind) in [PartKind::Schema, PartKind::Layout].into_iter().enumerate() {
            self.read_named_part(at, kind, commit.parts[at], names[at])?;
        }
        let body = |at: usize| match &self.parts[at] {
            Some((_, bytes)) => bytes.as_slice(),
            None => &[],
        };
        let engine = engine.finish();
        Ok(self.announcer.pack(&record, body(0), body(1), &engine))
    }

    fn read_record_part(&self, commit: &Commit) -> Result<StepRecord, Fault> {
        let place = commit.parts[2];
        let bytes = self.read_part(place)?;
        let wrong = |error: DecodeError| {
            damaged(
                &self.meta.path,
                place.offset + error.offset as u64,
                error.problem,
            )
        };
        let (_, body) = parse_part(&bytes, PartKind::Record).map_err(wrong)?;
        let record = StepRecord::from_bytes(body).map_err(wrong)?;
        if (record.head.epoch, record.head.step) != (commit.epoch, commit.step) {
            let problem = "the record is of another step than its commit record";
            return Err(damaged(&self.meta.path, place.offset, problem));
        }
        Ok(record)
    }

    /// Reads schema or layout into `parts`, unless it is there from the last step.
    fn read_named_part(
        &mut self,
        at: usize,
        kind: PartKind,
        place: PartReference,
        name: u64,
    ) -> Result<(), Fault> {
        if matches!(&self.parts[at], Some((known, _)) if *known == place) {
            return Ok(());
        }
        let bytes = self.read_part(place)?;
        let (digest, body) = parse_part(&bytes, kind).map_err(|error| {
            damaged(
                &self.meta.path,
                place.offset + error.offset as u64,
                error.problem,
            )
        })?;
        if digest != name {
            let problem = "the part is not the one that the step's record names";
            return Err(damaged(&self.meta.path, place.offset, problem));
        }
        self.parts[at] = Some((place, body.to_vec()));
        Ok(())
    }

    fn read_part(&self, place: PartReference) -> Result<Vec<u8>, Fault> {
        let bytes = self.meta.read_checked(place.offset, place.length)?;
        let found = checksum(&bytes);
        if found == place.crc {
            return Ok(bytes);
        }
        let problem = format!(
            "{} bytes have checksum {found:#010x}, the commit record says {:#010x}",
            place.length, place.crc
        );
        Err(damaged(&self.meta.path, place.offset, problem))
    }
}

pub(super) fn replaced(dataset: &Dataset) -> Fault {
    Fault::PeerLost {
        peer: format!("the dataset {}", dataset.directory().display()),
        why: "it was removed, or a writer replaced it with a new one; open the stream again".into(),
    }
}
