//! The chain of commit records: which steps are sealed, and what became of the writer.
//!
//! Readers follow it, writers go on after it. Only whole records that continue
//! the chain count. What follows the last of them is a torn tail, which is
//! ignored; unless a whole page stands behind it, for then bytes were changed.

use std::collections::BTreeMap;

use super::dataset::{Instance, Named, damaged};
use super::pages::{Commit, CommitKind, FilePage, Link, MAX_RECORD_PAGES, PAGE_BYTES, parse_page};
use crate::error::Fault;

/// Pages read at a time.
const PAGES_AT_ONCE: u64 = 64;

/// A sealed step that was not withdrawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SealedStep {
    pub(super) epoch: u64,
    pub(super) step: u64,
    pub(super) sim: Option<f64>,
    /// Where its commit record begins, in pages.
    pub(super) sequence: u64,
}

/// What the last record says of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// No epoch has begun.
    Unborn,
    /// An epoch has begun and was not closed.
    Writing,
    /// The writer closed.
    Closed,
}

/// All that the records say, as far as they were read.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) instance: Instance,
    pub(super) epoch: u64,
    pub(super) life: Life,
    /// The sealed steps that hold, ascending.
    pub(super) steps: Vec<SealedStep>,
    /// The number of the next step, at least.
    pub(super) next_step: u64,
    /// The page after the last whole record.
    pub(super) next_page: u64,
    /// The checksum of the page before that.
    pub(super) chain: u32,
    /// End of the last part of `meta` that a record names.
    pub(super) meta_end: u64,
    /// Ends of the present epoch's segments, (data, index) by rank.
    pub(super) segment_ends: BTreeMap<u32, (u64, u64)>,
    /// The fewest steps that held since this was last taken.
    fewest: usize,
}

/// A record in the making: its first page's link, and the last's.
struct Partial {
    commit: Commit,
    first: Link,
    last: Link,
}

impl Log {
    /// Nothing read yet; begins behind the first page of `commits`.
    pub(super) fn new(page: &FilePage, page_crc: u32) -> Self {
        Self {
            instance: page.instance,
            epoch: 0,
            life: Life::Unborn,
            steps: Vec::new(),
            next_step: 0,
            next_page: 1,
            chain: page_crc,
            meta_end: PAGE_BYTES,
            segment_ends: BTreeMap::new(),
            fewest: usize::MAX,
        }
    }

    /// Opens the log of `commits`; reads nothing but the first page.
    pub(super) fn of(commits: &Named) -> Result<Self, Fault> {
        let page = commits.file_page(super::pages::Role::Commits)?;
        let mut crc = [0; 4];
        commits.read_at(&mut crc, PAGE_BYTES - 4)?;
        Ok(Self::new(&page, u32::from_le_bytes(crc)))
    }

    /// Takes in the whole records that were added. Whether there were any.
    pub(super) fn refresh(&mut self, commits: &Named) -> Result<bool, Fault> {
        let begun_at = self.next_page;
        let pages = commits.length()? / PAGE_BYTES;
        let mut at = self.next_page;
        let mut chain = self.chain;
        let mut partial: Option<Partial> = None;
        while at < pages {
            let batch = (pages - at).min(PAGES_AT_ONCE);
            let mut bytes = vec![0; (batch * PAGE_BYTES) as usize];
            commits.read_at(&mut bytes, at * PAGE_BYTES)?;
            for page in bytes.chunks_exact(PAGE_BYTES as usize) {
                let Some((commit, link)) = self.take_page(page, at, chain, partial.as_ref()) else {
                    self.refuse_damage(commits, at, pages)?;
                    return Ok(self.next_page > begun_at);
                };
                chain = link.crc;
                at += 1;
                let record = match partial.take() {
                    None => Partial {
                        commit,
                        first: link,
                        last: link,
                    },
                    Some(mut record) => {
                        record.commit.segments.extend(commit.segments);
                        record.last = link;
                        record
                    }
                };
                if link.page + 1 < link.pages {
                    partial = Some(record);
                    continue;
                }
                self.apply(&record).map_err(|problem| {
                    damaged(&commits.path, record.first.sequence * PAGE_BYTES, problem)
                })?;
                (self.next_page, self.chain) = (at, chain);
            }
        }
        Ok(self.next_page > begun_at)
    }

    /// The page, if it is whole and continues the chain and the record.
    fn take_page(
        &self,
        page: &[u8],
        at: u64,
        chain: u32,
        partial: Option<&Partial>,
    ) -> Option<(Commit, Link)> {
        let (commit, link) = parse_page(page).ok()?;
        let continues = match partial {
            None => link.page == 0,
            Some(record) => {
                link.page == record.last.page + 1
                    && link.pages == record.first.pages
                    && link.segments == record.first.segments
                    && (commit.kind, commit.epoch, commit.step)
                        == (record.commit.kind, record.commit.epoch, record.commit.step)
            }
        };
        let ours = commit.instance == self.instance && link.sequence == at;
        (ours && link.previous == chain && continues).then_some((commit, link))
    }

    /// The page at `at` does not continue the chain. Whole pages from there on
    /// mean that bytes were changed; none, that the tail is torn.
    fn refuse_damage(&self, commits: &Named, at: u64, pages: u64) -> Result<(), Fault> {
        let mut page = vec![0; PAGE_BYTES as usize];
        for later in at..pages {
            commits.read_at(&mut page, later * PAGE_BYTES)?;
            let whole = parse_page(&page).is_ok_and(|(commit, link)| {
                commit.instance == self.instance && link.sequence == later && link.page == 0
            });
            if whole {
                let what = if later == at {
                    "the record does not continue the one before it"
                } else {
                    "the record is damaged, and others follow it"
                };
                let last = self.steps.last().map(|sealed| sealed.step);
                return Err(damaged(
                    &commits.path,
                    at * PAGE_BYTES,
                    format!(
                        "{what}; the last step before it is {last:?}; a writer that resumes \
                         after that step, or an older one, cuts it off"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn apply(&mut self, record: &Partial) -> Result<(), String> {
        let (commit, link) = (&record.commit, &record.first);
        if commit.segments.len() != link.segments as usize {
            return Err(format!(
                "{} segments in a record of {}",
                commit.segments.len(),
                link.segments
            ));
        }
        match commit.kind {
            CommitKind::Open => {
                if commit.epoch <= self.epoch || commit.step > self.next_step {
                    return Err(format!(
                        "epoch {} from step {} on cannot follow epoch {}, step {}",
                        commit.epoch, commit.step, self.epoch, self.next_step
                    ));
                }
                let held = self.steps.partition_point(|step| step.step < commit.step);
                self.steps.truncate(held);
                self.fewest = self.fewest.min(held);
                self.epoch = commit.epoch;
                self.life = Life::Writing;
                self.next_step = commit.step;
                self.segment_ends.clear();
            }
            CommitKind::Step => {
                self.expect_epoch(commit)?;
                if commit.step < self.next_step {
                    return Err(format!(
                        "step {} where {} is next",
                        commit.step, self.next_step
                    ));
                }
                self.take_ends(commit)?;
                self.next_step = commit.step.saturating_add(1);
                self.steps.push(SealedStep {
                    epoch: commit.epoch,
                    step: commit.step,
                    sim: commit.sim,
                    sequence: link.sequence,
                });
            }
            CommitKind::Close => {
                self.expect_epoch(commit)?;
                self.life = Life::Closed;
                // Numbers of steps that were given up are not used again.
                self.next_step = self.next_step.max(commit.step);
            }
        }
        Ok(())
    }

    fn expect_epoch(&self, commit: &Commit) -> Result<(), String> {
        if commit.epoch == self.epoch && self.life == Life::Writing {
            return Ok(());
        }
        Err(format!(
            "a record of epoch {} while epoch {} is {:?}",
            commit.epoch, self.epoch, self.life
        ))
    }

    fn take_ends(&mut self, commit: &Commit) -> Result<(), String> {
        let overflow = || "an extent overflows".to_owned();
        for part in &commit.parts {
            let end = part.offset.checked_add(part.length).ok_or_else(overflow)?;
            self.meta_end = self.meta_end.max(end);
        }
        for segment in &commit.segments {
            let data = segment.data_offset.checked_add(segment.data_length);
            let index = segment.index_offset.checked_add(segment.index_length);
            let ends = self.segment_ends.entry(segment.rank).or_default();
            ends.0 = ends.0.max(data.ok_or_else(overflow)?);
            ends.1 = ends.1.max(index.ok_or_else(overflow)?);
        }
        Ok(())
    }

    /// The fewest steps that held since this was last asked: shorter than what
    /// a reader has seen, if steps were withdrawn.
    pub(super) fn take_fewest(&mut self) -> usize {
        let held = self.steps.len();
        std::mem::replace(&mut self.fewest, usize::MAX).min(held)
    }
}

/// Reads and checks one whole record again.
pub(super) fn read_record(commits: &Named, sequence: u64) -> Result<Commit, Fault> {
    let mut at = sequence;
    let mut record: Option<Commit> = None;
    loop {
        let bytes = commits.read_checked(at * PAGE_BYTES, PAGE_BYTES)?;
        let (commit, link) = parse_page(&bytes).map_err(|error| {
            damaged(
                &commits.path,
                at * PAGE_BYTES + error.offset as u64,
                error.problem,
            )
        })?;
        if link.sequence != at || u64::from(link.page) != at - sequence {
            let problem = "another page than was announced";
            return Err(damaged(&commits.path, at * PAGE_BYTES, problem));
        }
        match &mut record {
            None => record = Some(commit),
            Some(record) => record.segments.extend(commit.segments),
        }
        at += 1;
        match record.take() {
            Some(record) if link.page + 1 >= link.pages.min(MAX_RECORD_PAGES) => {
                return Ok(record);
            }
            partial => record = partial,
        }
    }
}
