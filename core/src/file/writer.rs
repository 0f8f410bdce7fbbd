//! The writing side of the engine: the traits' calls, in their order.
//!
//! ```text
//! root   prepare: look    admit: cut off    seal: meta, then the commit record    close_root
//! all    attach: the root takes the lock    begin    capture: data and index      close
//! ```

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;

use panta_transports::copy::{CopyCounter, checksum};
use panta_transports::time::{Wait, wall_clock_ns};

use super::dataset::{Dataset, Instance, Named};
use super::lock::AppendLock;
use super::pages::{Commit, CommitKind, PAGE_BYTES, PartReference, SegmentReference};
use super::resume::{self, Ticket};
use super::sections::{PartKind, encode_part};
use super::segment::{Manner, Segment};
use crate::codec::{Coded, Decoder, digest};
use crate::config::{Sync, Value};
use crate::engine::{
    Admission, Captured, EngineInfo, OpenArguments, PreparedWriter, PutBlock, Resume, Sealing,
    SpanId, SpanMemory, WriterEngine,
};
use crate::error::{BeginError, CloseError, EndError, Fault, OpenError, Place, PutError};
use crate::model::{Schema, StepHead};
use crate::spans::Spans;

/// Schemas and layouts whose places in `meta` are remembered.
const MAX_KNOWN_PARTS: usize = 65_536;

pub(super) fn prepare(
    arguments: &OpenArguments<'_>,
    resume: Resume,
) -> Result<PreparedWriter, OpenError> {
    let place = Place::stream(arguments.stream);
    let dataset = Dataset::new(&arguments.target.name);
    let at = |fault: Fault| OpenError::from(fault.at(place.clone()));
    resume::enter(&dataset).map_err(at)?;
    let lock = resume::lock(&dataset, &place)?;
    let (ticket, _) = resume::survey(&dataset, resume).map_err(at)?;
    drop(lock);
    let mut bytes = ticket.encode();
    bytes.extend(resume_code(resume));
    Ok(PreparedWriter {
        epoch: ticket.epoch,
        next_step: ticket.first_step,
        ticket: bytes,
    })
}

fn resume_code(resume: Resume) -> [u8; 9] {
    let (code, step) = match resume {
        Resume::Fresh => (0, 0),
        Resume::Last => (1, 0),
        Resume::After(step) => (2, step),
    };
    let mut bytes = [code; 9];
    bytes[1..]
        .iter_mut()
        .zip(step.to_le_bytes())
        .for_each(|(to, from)| *to = from);
    bytes
}

fn read_ticket(bytes: &[u8]) -> Result<(Ticket, Resume), crate::codec::DecodeError> {
    let (ticket, resume) = bytes.split_at(bytes.len().saturating_sub(9));
    let mut from = Decoder::new(resume);
    let resume = match (from.u8()?, from.u64()?) {
        (0, _) => Resume::Fresh,
        (1, _) => Resume::Last,
        (_, step) => Resume::After(step),
    };
    Ok((Ticket::decode(ticket)?, resume))
}

/// Carries the steps of one rank into its files.
#[derive(Debug)]
pub(super) struct FileWriter {
    place: Place,
    info: EngineInfo,
    limit_bytes: u64,
    sync: Sync,
    copies: CopyCounter,
    spans: Spans,
    segment: Segment,
    root: Option<Root>,
}

impl FileWriter {
    pub(super) fn attach(
        arguments: &OpenArguments<'_>,
        prepared: &PreparedWriter,
    ) -> Result<Self, OpenError> {
        let place = Place::stream(arguments.stream);
        let at = |fault: Fault| OpenError::from(fault.at(place.clone()));
        let (ticket, resume) = read_ticket(&prepared.ticket)
            .map_err(|error| at(Fault::corrupt("the root's ticket", &error)))?;
        let dataset = Dataset::new(&arguments.target.name);
        let options = &arguments.target.options;
        let root = if arguments.rank == 0 {
            let lock = resume::lock(&dataset, &place)?;
            let root = Root::open(&dataset, &ticket, resume, (lock, options.sync)).map_err(at)?;
            Some(root)
        } else {
            None
        };
        let transport = if options.direct {
            "O_DIRECT"
        } else {
            "page cache"
        };
        Ok(Self {
            info: EngineInfo {
                engine: "file",
                transport: transport.into(),
                why: format!(
                    "`file:` was asked for, with direct={}, compress={}; {}",
                    options.direct,
                    options.compress.print(),
                    dataset.directory().display()
                ),
            },
            limit_bytes: options.limit.0,
            sync: options.sync,
            copies: arguments.copies.clone(),
            spans: Spans::default(),
            segment: Segment::new(Manner {
                dataset,
                instance: ticket.instance,
                epoch: ticket.epoch,
                rank: u32::try_from(arguments.rank).unwrap_or(u32::MAX),
                direct: options.direct,
                compression: options.compress,
                sync_steps: options.sync == Sync::Step,
            }),
            root,
            place: place.on_rank(arguments.rank),
        })
    }

    fn root(&mut self) -> Result<&mut Root, Fault> {
        self.root.as_mut().ok_or_else(|| Fault::Refused {
            peer: "the file engine".into(),
            why: "only the root rank admits, seals and closes".into(),
        })
    }
}

impl WriterEngine for FileWriter {
    fn info(&self) -> EngineInfo {
        self.info.clone()
    }

    fn admit(
        &mut self,
        head: &StepHead,
        _schema: &Arc<Schema>,
        _reserve_bytes: &[u64],
        _wait: &Wait,
    ) -> Result<Admission, BeginError> {
        let place = self.place.clone().at_step(head.step);
        let admitted = self.root().and_then(|root| root.admit(head));
        admitted.map_err(|fault| fault.at(place))?;
        Ok(Admission::Write(Vec::new()))
    }

    fn begin(
        &mut self,
        head: &StepHead,
        _schema: &Arc<Schema>,
        _admission: &[u8],
    ) -> Result<(), BeginError> {
        let place = self.place.clone().at_step(head.step);
        self.segment.begin().map_err(|fault| fault.at(place).into())
    }

    fn span(&mut self, bytes: usize) -> Result<(SpanId, NonNull<u8>), PutError> {
        self.spans
            .lend(bytes, self.limit_bytes)
            .map_err(|bytes| PutError::StepTooLarge {
                place: self.place.clone(),
                bytes,
                limit_bytes: self.limit_bytes,
            })
    }

    fn span_memory(&self, span: SpanId) -> Option<SpanMemory> {
        self.spans.memory(span)
    }

    fn capture(
        &mut self,
        head: &StepHead,
        puts: &[PutBlock<'_>],
        into: &mut Captured,
        wait: &Wait,
    ) -> Result<(), PutError> {
        self.spans.round(puts);
        let captured = self
            .segment
            .capture(head, puts, &self.spans, (&self.copies, wait));
        *into = captured.map_err(|fault| fault.at(self.place.clone().at_step(head.step)))?;
        Ok(())
    }

    fn seal(&mut self, sealing: &Sealing<'_>, _wait: &Wait) -> Result<(), EndError> {
        let place = self.place.clone().at_step(sealing.record.head.step);
        let root = self.root().map_err(|fault| fault.at(place.clone()))?;
        match root.seal(sealing) {
            Ok(()) => Ok(()),
            Err(Unsealed::Failed(fault)) => Err(fault.at(place).into()),
            Err(Unsealed::InDoubt(why)) => Err(EndError::InDoubt { place, why }),
        }
    }

    fn finish(&mut self, _head: &StepHead, sealed: bool) {
        self.spans.finish();
        if sealed {
            self.segment.keep();
        }
    }

    fn close_root(&mut self, _wait: &Wait) -> Result<(), CloseError> {
        let place = self.place.clone();
        self.root()
            .and_then(Root::close)
            .map_err(|fault| fault.at(place).into())
    }

    fn close(&mut self, _wait: &Wait) -> Result<(), CloseError> {
        let mut synced = Ok(());
        if self.sync == Sync::Close {
            synced = self.segment.sync();
            if let Some(root) = &self.root {
                synced = synced.and_then(|()| root.sync());
            }
        }
        // The lock is let go last.
        self.root = None;
        synced.map_err(|fault| fault.at(self.place.clone()).into())
    }
}

/// Why a step is not sealed.
enum Unsealed {
    /// It is not, for certain.
    Failed(Fault),
    /// Readers may have seen it.
    InDoubt(String),
}

impl From<Fault> for Unsealed {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// What only the root has: the lock, `commits` and `meta`.
#[derive(Debug)]
struct Root {
    commits: Named,
    meta: Named,
    sync: Sync,
    instance: Instance,
    epoch: u64,
    next_step: u64,
    next_page: u64,
    chain: u32,
    meta_end: u64,
    /// Schemas and layouts already in `meta`, by kind and digest.
    known: BTreeMap<(u32, u64), PartReference>,
    /// Why no further step can be written.
    in_doubt: Option<String>,
    dataset: Dataset,
    _lock: AppendLock,
}

impl Root {
    /// Takes the dataset and begins the epoch.
    fn open(
        dataset: &Dataset,
        ticket: &Ticket,
        resume: Resume,
        (lock, sync): (AppendLock, Sync),
    ) -> Result<Self, Fault> {
        let taken = resume::take(dataset, ticket, resume)?;
        let mut root = Self {
            commits: taken.commits,
            meta: taken.meta,
            sync,
            instance: ticket.instance,
            epoch: ticket.epoch,
            next_step: ticket.first_step,
            next_page: taken.log.next_page,
            chain: taken.log.chain,
            meta_end: taken.log.meta_end,
            known: BTreeMap::new(),
            in_doubt: None,
            dataset: dataset.clone(),
            _lock: lock,
        };
        root.append(&root.bare(CommitKind::Open))
            .map_err(|unsealed| match unsealed {
                Unsealed::Failed(fault) => fault,
                Unsealed::InDoubt(why) => Fault::io("beginning the epoch", &why),
            })?;
        Ok(root)
    }

    fn bare(&self, kind: CommitKind) -> Commit {
        Commit {
            kind,
            instance: self.instance,
            epoch: self.epoch,
            step: self.next_step,
            wall_clock_ns: wall_clock_ns(),
            sim: None,
            parts: [PartReference::default(); 3],
            segments: Vec::new(),
        }
    }

    fn admit(&mut self, head: &StepHead) -> Result<(), Fault> {
        if let Some(why) = &self.in_doubt {
            return Err(Fault::Refused {
                peer: format!("the dataset {}", self.dataset.directory().display()),
                why: format!("{why}; close it and open it again with resume"),
            });
        }
        self.next_step = head.step.saturating_add(1);
        Ok(())
    }

    fn seal(&mut self, sealing: &Sealing<'_>) -> Result<(), Unsealed> {
        let mut segments = Vec::new();
        for (rank, contribution) in sealing.contributions.iter().enumerate() {
            if contribution.is_empty() {
                continue;
            }
            let segment = SegmentReference::decode(&mut Decoder::new(contribution))
                .map_err(|error| Fault::corrupt(format!("what rank {rank} wrote"), &error))?;
            segments.push(segment);
        }
        let record = sealing.record;
        let mut parts = Parts {
            begin: self.meta_end,
            bytes: Vec::new(),
            new: Vec::new(),
        };
        let schema = parts.named(
            &self.known,
            (PartKind::Schema, record.schema_digest),
            sealing.schema_bytes,
        )?;
        let layout = parts.named(
            &self.known,
            (PartKind::Layout, record.layout_digest),
            sealing.layout_bytes,
        )?;
        let body = record.to_bytes();
        let record_part = parts.add(PartKind::Record, digest(&body), &body);
        let appended = self.append_parts(&parts).map_err(Unsealed::Failed);
        let commit = Commit {
            kind: CommitKind::Step,
            instance: self.instance,
            epoch: record.head.epoch,
            step: record.head.step,
            wall_clock_ns: record.head.wall_clock_ns,
            sim: record.head.time.sim,
            parts: [schema, layout, record_part],
            segments,
        };
        let sealed = appended.and_then(|()| self.append(&commit));
        match &sealed {
            Ok(()) => {
                self.meta_end += parts.bytes.len() as u64;
                for (name, part) in parts.new {
                    if self.known.len() >= MAX_KNOWN_PARTS {
                        self.known.clear();
                    }
                    self.known.insert(name, part);
                }
            }
            Err(Unsealed::Failed(_)) => {
                // Room for the next try; what is left over is not named anywhere.
                let _ = self.meta.cut(self.meta_end);
            }
            Err(Unsealed::InDoubt(why)) => self.in_doubt = Some(why.clone()),
        }
        sealed
    }

    fn append_parts(&self, parts: &Parts) -> Result<(), Fault> {
        self.meta.write_at(&parts.bytes, self.meta_end)?;
        if self.sync == Sync::Step {
            self.meta.sync()?;
        }
        Ok(())
    }

    /// Appends one commit record: from here on what it names exists.
    fn append(&mut self, commit: &Commit) -> Result<(), Unsealed> {
        let (pages, crc) = commit.encode(self.next_page, self.chain);
        let at = self.next_page * PAGE_BYTES;
        if let Err(fault) = self.commits.write_at(&pages, at) {
            // Not all of it was written, so it is not whole and never will be.
            let _ = self.commits.cut(at);
            return Err(fault.into());
        }
        if self.sync == Sync::Step
            && let Err(fault) = self.commits.sync()
        {
            return Err(Unsealed::InDoubt(fault.to_string()));
        }
        self.next_page += pages.len() as u64 / PAGE_BYTES;
        self.chain = crc;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        if let Some(why) = &self.in_doubt {
            return Err(Fault::io("closing after a step in doubt", why));
        }
        match self.append(&self.bare(CommitKind::Close)) {
            Ok(()) => Ok(()),
            Err(Unsealed::Failed(fault)) => Err(fault),
            Err(Unsealed::InDoubt(why)) => Err(Fault::io("closing", &why)),
        }
    }

    fn sync(&self) -> Result<(), Fault> {
        self.meta.sync()?;
        self.commits.sync()?;
        super::dataset::sync_directory(self.dataset.directory())
    }
}

/// Parts about to be appended to `meta`.
struct Parts {
    begin: u64,
    bytes: Vec<u8>,
    new: Vec<((u32, u64), PartReference)>,
}

impl Parts {
    fn add(&mut self, kind: PartKind, name: u64, body: &[u8]) -> PartReference {
        let bytes = encode_part(kind, name, body);
        let part = PartReference {
            offset: self.begin + self.bytes.len() as u64,
            length: bytes.len() as u64,
            crc: checksum(&bytes),
        };
        self.bytes.extend(bytes);
        part
    }

    /// A part that is stored once.
    fn named(
        &mut self,
        known: &BTreeMap<(u32, u64), PartReference>,
        (kind, name): (PartKind, u64),
        body: &[u8],
    ) -> Result<PartReference, Fault> {
        if let Some(part) = known.get(&(kind as u32, name)) {
            return Ok(*part);
        }
        if digest(body) != name {
            return Err(Fault::Corrupt {
                what: format!("the step's {kind:?}"),
                problem: "its digest is not the one the record names".into(),
            });
        }
        let part = self.add(kind, name, body);
        self.new.push(((kind as u32, name), part));
        Ok(part)
    }
}
