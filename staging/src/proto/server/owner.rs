//! The owner: pieces of any stream, by (stream, epoch, step, variable).
//!
//! ```text
//!   Put       --> checks --> index --> Stored      region kept
//!   Get       --> checks --> index --> Gather      region named
//!   Watermark --> forget whole steps               regions dropped
//! ```
//!
//! Promises: a put is acknowledged when it can be read, and repeating it
//! changes nothing; a get is answered from exactly what was acknowledged for
//! the sealed step, or not at all; payload and index together stay within the
//! limit.
//!
//! What it does not know: which steps are sealed. That is the home's; an owner
//! learns what it may forget from what writers send along.

use super::super::RegionId;
use super::super::limits;
use super::super::message::{
    Get, Got, GotPiece, Kind, Map, OwnerShare, Put, Reason, Refused, Run, Statistics, Stored,
    Watermark,
};
use super::super::mutant::{Mutant, Planted};
use super::index::{Bounds, StoredPiece, VariableIndex};
use super::{GatherPart, ServerConfig};
use std::collections::BTreeMap;

/// What indexing one piece is charged, beside its payload and checksums.
const PIECE_CHARGE_BYTES: u64 = 256;
/// Lives of one stream that are held side by side. Only the home knows which
/// one lives; its earlier ones are forgotten when there are more, or when
/// memory is short.
const LIVES_LIMIT: usize = 4;

/// What an owner makes of a message.
#[derive(Debug)]
pub(super) enum OwnerReply {
    /// A message without a body.
    Message(Kind),
    /// A message whose body is to be gathered.
    Gather(Got, Vec<GatherPart>),
}

#[derive(Debug, Default)]
struct StepStore {
    variables: BTreeMap<String, VariableIndex>,
    /// By (slot, rank, sequence): the region of a put that is in.
    puts: BTreeMap<(u32, u32, u64), RegionId>,
    pieces: u64,
    payload_bytes: u64,
    charged_bytes: u64,
}

#[derive(Debug)]
struct OwnedStream {
    /// Counts the owner's puts: when this life had its last.
    last_put: u64,
    epoch: u64,
    oldest: u64,
    /// Steps below `oldest` that stay.
    kept: Vec<u64>,
    /// By (epoch, step).
    steps: BTreeMap<(u64, u64), StepStore>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Owner {
    incarnation: u64,
    server: u32,
    map: Map,
    limit_bytes: u64,
    charged_bytes: u64,
    /// By name and life.
    streams: BTreeMap<(String, u64), OwnedStream>,
    puts: u64,
    planted: Planted,
    /// Of the mutant that acknowledges before it indexes.
    delayed: Option<(Put, RegionId)>,
}

impl Owner {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            incarnation: config.incarnation,
            server: config.server.0,
            map: config.map.clone(),
            limit_bytes: config.limit_bytes,
            charged_bytes: 0,
            streams: BTreeMap::new(),
            puts: 0,
            planted: Planted::default(),
            delayed: None,
        }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Bytes held, with what indexing them is charged.
    pub(super) fn held_bytes(&self) -> u64 {
        self.charged_bytes
    }

    /// Statistics of a variable in a step, over what is here.
    pub(super) fn statistics(&self, run: &Run, step: u64, variable: &str) -> Option<Statistics> {
        self.streams
            .get(&key_of(run))?
            .steps
            .get(&(run.epoch, step))?
            .variables
            .get(variable)?
            .statistics()
    }

    /// Stores a put. Its body is kept, or dropped with `drop`.
    pub(super) fn put(
        &mut self,
        put: Put,
        body: Option<RegionId>,
        drop: &mut Vec<RegionId>,
    ) -> Kind {
        let Some(region) = body else {
            return Kind::Refused(Refused::new(Reason::Malformed, "a put without a body"));
        };
        match self.admit(&put, drop) {
            Ok(false) => {
                self.store(put, region, drop);
                self.stored()
            }
            Ok(true) => {
                drop.push(region);
                self.stored()
            }
            Err(refused) => {
                drop.push(region);
                Kind::Refused(refused)
            }
        }
    }

    fn stored(&self) -> Kind {
        Kind::Stored(Stored {
            incarnation: self.incarnation,
        })
    }

    /// Whether `put` is in already; refuses what must not get in.
    fn admit(&mut self, put: &Put, drop: &mut Vec<RegionId>) -> Result<bool, Refused> {
        let run = required(put.run.as_ref())?;
        if put.map_version != self.map.version && !self.planted.has(Mutant::AcceptStaleMap) {
            return Err(Refused {
                map: Some(self.map.clone()),
                ..Refused::new(
                    Reason::StaleMap,
                    format!(
                        "routed by map version {}, version {} holds",
                        put.map_version, self.map.version
                    ),
                )
            });
        }
        self.advance(run, put.base, (put.oldest, &put.kept), drop)?;
        let charge = charge_of(put);
        if self.is_short_of(charge) {
            self.forget_past_lives(run, drop);
        }
        let stream = self.streams.get(&key_of(run));
        if stream.is_some_and(|stream| put.step < stream.oldest) {
            return Err(Refused::new(
                Reason::Trimmed,
                format!("step {} is below the watermark", put.step),
            ));
        }
        let step = stream.and_then(|stream| stream.steps.get(&(run.epoch, put.step)));
        if let Some(step) = step {
            let known = step.puts.contains_key(&(put.slot, put.rank, put.sequence));
            if known && !self.planted.has(Mutant::CountRepeatedPut) {
                return Ok(true);
            }
            if step.pieces.saturating_add(put.pieces.len() as u64) > limits::STEP_PIECES_LIMIT {
                return Err(Refused::new(
                    Reason::TooMany,
                    "too many pieces in one step; use larger chunks",
                ));
            }
        }
        check_dimensions(put, step.and_then(|step| step.variables.get(&put.variable)))?;
        if self.is_short_of(charge) && !self.planted.has(Mutant::IgnoreLimit) {
            return Err(Refused {
                bytes: self.limit_bytes,
                ..Refused::new(
                    Reason::Full,
                    format!(
                        "{} of {} bytes are held",
                        self.charged_bytes, self.limit_bytes
                    ),
                )
            });
        }
        Ok(false)
    }

    /// Learns what a writer knows of its run: what is fenced, withdrawn and
    /// trimmed.
    fn advance(
        &mut self,
        run: &Run,
        base: Option<u64>,
        (oldest, kept): (u64, &[u64]),
        drop: &mut Vec<RegionId>,
    ) -> Result<(), Refused> {
        let key = key_of(run);
        if !self.streams.contains_key(&key) {
            if self.streams.len() >= limits::STREAMS_LIMIT {
                return Err(Refused::new(
                    Reason::TooMany,
                    "too many streams on this server",
                ));
            }
            self.make_room_for_life(&run.stream, drop);
        }
        let stream = self.streams.entry(key).or_insert_with(|| OwnedStream {
            last_put: 0,
            epoch: run.epoch,
            oldest: 0,
            kept: Vec::new(),
            steps: BTreeMap::new(),
        });
        let mut forgotten = Vec::new();
        if run.epoch < stream.epoch {
            return Err(Refused::new(
                Reason::Fenced,
                format!("epoch {} was fenced by epoch {}", run.epoch, stream.epoch),
            ));
        }
        if run.epoch > stream.epoch {
            (stream.epoch, stream.oldest) = (run.epoch, 0);
            stream.kept.clear();
            forgotten.extend(take(&mut stream.steps, |epoch, step| {
                epoch < run.epoch && base.is_none_or(|base| step > base)
            }));
        }
        // At one watermark what stays only becomes less; a message that is late
        // forgets nothing.
        if oldest > stream.oldest || (oldest == stream.oldest && kept != stream.kept) {
            stream.oldest = oldest;
            stream.kept.clear();
            stream.kept.extend_from_slice(kept);
            let stays = |step| kept.contains(&step) && !self.planted.has(Mutant::TrimKeptStep);
            forgotten.extend(take(&mut stream.steps, |_, step| {
                step < oldest && !stays(step)
            }));
        }
        for step in forgotten {
            self.forget(step, drop);
        }
        Ok(())
    }

    fn is_short_of(&self, charge: u64) -> bool {
        self.charged_bytes.saturating_add(charge) > self.limit_bytes
    }

    /// Of a stream's lives, the one that had no put for longest makes room
    /// for another.
    fn make_room_for_life(&mut self, stream: &str, drop: &mut Vec<RegionId>) {
        let lives = || (stream.to_owned(), 0)..=(stream.to_owned(), u64::MAX);
        if self.streams.range(lives()).count() < LIVES_LIMIT {
            return;
        }
        let idle = self
            .streams
            .range(lives())
            .min_by_key(|(_, life)| life.last_put)
            .map(|(key, _)| key.clone());
        if let Some(life) = idle.and_then(|key| self.streams.remove(&key)) {
            self.forget_all(life, drop);
        }
    }

    /// Forgets the lives of every stream that are not the one written to
    /// last, nor that of `run`: their homes, which knew what was sealed, are
    /// most likely gone.
    fn forget_past_lives(&mut self, run: &Run, drop: &mut Vec<RegionId>) {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for ((name, _), life) in &self.streams {
            let newest = last.entry(name.clone()).or_default();
            *newest = (*newest).max(life.last_put);
        }
        let past: Vec<_> = self
            .streams
            .extract_if(.., |(name, life), stream| {
                let newest = last.get(name).is_some_and(|last| *last == stream.last_put);
                let writes = *name == run.stream && *life == run.life;
                !newest && !writes
            })
            .collect();
        for (_, life) in past {
            self.forget_all(life, drop);
        }
    }

    fn forget_all(&mut self, life: OwnedStream, drop: &mut Vec<RegionId>) {
        for step in life.steps.into_values() {
            self.forget(step, drop);
        }
    }

    fn forget(&mut self, step: StepStore, drop: &mut Vec<RegionId>) {
        self.charged_bytes = self.charged_bytes.saturating_sub(step.charged_bytes);
        drop.extend(step.puts.into_values());
    }

    fn store(&mut self, put: Put, region: RegionId, drop: &mut Vec<RegionId>) {
        if self.planted.has(Mutant::AcknowledgeBeforeIndex) {
            if let Some((earlier, region)) = self.delayed.replace((put, region)) {
                self.index(earlier, region, drop);
            }
            return;
        }
        self.index(put, region, drop);
    }

    fn index(&mut self, put: Put, region: RegionId, drop: &mut Vec<RegionId>) {
        let charge = charge_of(&put);
        let Some(run) = put.run else { return };
        let Some(stream) = self.streams.get_mut(&key_of(&run)) else {
            return;
        };
        self.puts += 1;
        stream.last_put = self.puts;
        let step = stream.steps.entry((run.epoch, put.step)).or_default();
        if let Some(earlier) = step.puts.insert((put.slot, put.rank, put.sequence), region) {
            drop.push(earlier);
        }
        step.charged_bytes += charge;
        self.charged_bytes += charge;
        let variable = step.variables.entry(put.variable).or_default();
        let mut offset_bytes = 0;
        for piece in put.pieces {
            step.pieces += 1;
            step.payload_bytes += piece.length_bytes;
            let stored = StoredPiece {
                key: piece.key(),
                start: piece.start,
                count: piece.count,
                slot: put.slot,
                rank: put.rank,
                order: piece.order,
                layout: put.layout,
                element_bytes: put.element_bytes,
                region,
                offset_bytes,
                length_bytes: piece.length_bytes,
                checksums: piece.checksums,
            };
            offset_bytes += piece.length_bytes;
            variable.add(stored, piece.statistics);
        }
    }

    /// Forgets what a writer says may go. Never answered.
    pub(super) fn watermark(&mut self, watermark: &Watermark, drop: &mut Vec<RegionId>) {
        let Some(run) = watermark.run.as_ref() else {
            return;
        };
        if !self.streams.contains_key(&key_of(run))
            || self
                .advance(
                    run,
                    watermark.base,
                    (watermark.oldest, &watermark.kept),
                    drop,
                )
                .is_err()
        {
            return;
        }
        let aborted = watermark.aborted.and_then(|step| {
            self.streams
                .get_mut(&key_of(run))
                .and_then(|stream| stream.steps.remove(&(run.epoch, step)))
        });
        if let Some(step) = aborted {
            self.forget(step, drop);
        }
    }

    /// Finds what a reader wants.
    pub(super) fn get(&mut self, get: &Get) -> OwnerReply {
        match self.find(get) {
            Ok((got, parts)) => OwnerReply::Gather(got, parts),
            Err(refused) => OwnerReply::Message(Kind::Refused(refused)),
        }
    }

    fn find(&mut self, get: &Get) -> Result<(Got, Vec<GatherPart>), Refused> {
        let run = required(get.run.as_ref())?;
        let share = get.share.unwrap_or_default();
        let forgetful = self.planted.has(Mutant::ForgetIncarnation);
        if share.incarnation != self.incarnation && !forgetful {
            return Err(Refused::new(
                Reason::ServerLost,
                format!(
                    "server {} was restarted and has lost what it held of this step",
                    self.server
                ),
            ));
        }
        let others = (run.stream.clone(), 0)..=(run.stream.clone(), u64::MAX);
        let other_lives = self.streams.range(others).next().is_some();
        let stream = self.streams.get_mut(&key_of(run));
        if stream.is_none() && other_lives && share.pieces > 0 {
            return Err(Refused::new(
                Reason::StreamLost,
                "the stream was created anew at a restarted home; open it again",
            ));
        }
        let (epoch, oldest) = stream
            .as_ref()
            .map_or((0, 0), |stream| (stream.epoch, stream.oldest));
        let step = stream.and_then(|stream| stream.steps.get_mut(&(run.epoch, get.step)));
        let held = step
            .as_ref()
            .map_or((0, 0), |step| (step.pieces, step.payload_bytes));
        if held != (share.pieces, share.bytes) && !forgetful {
            return Err(not_held(get.step, run.epoch, epoch, oldest, held, share));
        }
        let Some(step) = step else {
            return Ok((Got::default(), Vec::new()));
        };
        collect(step, get)
    }
}

/// Says why a step is not here as it was sealed.
fn not_held(
    step: u64,
    asked: u64,
    epoch: u64,
    oldest: u64,
    held: (u64, u64),
    share: OwnerShare,
) -> Refused {
    if held == (0, 0) && step < oldest {
        return Refused {
            step: Some(oldest),
            ..Refused::new(
                Reason::Trimmed,
                format!("step {step} was trimmed; the oldest held is {oldest}"),
            )
        };
    }
    if held == (0, 0) && asked < epoch {
        return Refused::new(
            Reason::Trimmed,
            format!("step {step} of epoch {asked} was withdrawn by epoch {epoch}"),
        );
    }
    Refused::new(
        Reason::Incomplete,
        format!(
            "{} pieces with {} bytes are held, {} with {} were sealed",
            held.0, held.1, share.pieces, share.bytes
        ),
    )
}

fn collect(step: &mut StepStore, get: &Get) -> Result<(Got, Vec<GatherPart>), Refused> {
    let (mut got, mut parts) = (Got::default(), Vec::new());
    let mut bytes = 0_u64;
    for (query_number, query) in (0_u32..).zip(&get.queries) {
        let Some(variable) = step.variables.get_mut(&query.variable) else {
            continue;
        };
        for (region_number, region) in (0_u32..).zip(&query.boxes) {
            let mut wrong_layout = None;
            let wanted = Bounds::new(&region.start, &region.count);
            let complete = variable.query(&wanted, |piece, start, count| {
                if piece.layout != query.layout {
                    wrong_layout = Some(piece.layout);
                    return false;
                }
                let (sent, part) = cut(piece, start, count, query_number, region_number);
                bytes = bytes.saturating_add(sent.length_bytes);
                got.pieces.push(sent);
                parts.push(part);
                got.pieces.len() <= limits::GET_PIECES_LIMIT && bytes <= limits::BODY_LIMIT_BYTES
            });
            if let Some(layout) = wrong_layout {
                return Err(Refused::new(
                    Reason::WrongState,
                    format!(
                        "{} has layout {layout} here, {} was asked for",
                        query.variable, query.layout
                    ),
                ));
            }
            if !complete {
                return Err(Refused {
                    bytes: limits::BODY_LIMIT_BYTES,
                    ..Refused::new(
                        Reason::TooMany,
                        "too much for one get; ask for smaller boxes",
                    )
                });
            }
        }
    }
    Ok((got, parts))
}

/// What is sent of `piece`, and where it lies.
fn cut(
    piece: &StoredPiece,
    start: Vec<u64>,
    count: Vec<u64>,
    query: u32,
    region: u32,
) -> (GotPiece, GatherPart) {
    let whole = piece.element_bytes == 0 || count == piece.count;
    let (start, count) = if whole {
        (piece.start.clone(), piece.count.clone())
    } else {
        (start, count)
    };
    let length_bytes = if whole {
        piece.length_bytes
    } else {
        // No larger than the piece, whose product was checked when it came.
        count.iter().product::<u64>() * u64::from(piece.element_bytes)
    };
    let sent = GotPiece {
        query,
        region,
        start: start.clone(),
        count: count.clone(),
        slot: piece.slot,
        rank: piece.rank,
        order: piece.order,
        length_bytes,
        checksums: if whole {
            piece.checksums.clone()
        } else {
            Vec::new()
        },
        packed: piece.element_bytes == 0,
    };
    let part = GatherPart {
        region: piece.region,
        offset_bytes: piece.offset_bytes,
        length_bytes: piece.length_bytes,
        element_bytes: piece.element_bytes,
        piece_start: piece.start.clone(),
        piece_count: piece.count.clone(),
        start,
        count,
        whole,
        checksums: piece.checksums.clone(),
    };
    (sent, part)
}

/// Pieces of one variable have the same number of dimensions.
fn check_dimensions(put: &Put, variable: Option<&VariableIndex>) -> Result<(), Refused> {
    let first = variable
        .and_then(VariableIndex::dimensions)
        .or(put.pieces.first().map(|piece| piece.start.len()));
    if put
        .pieces
        .iter()
        .any(|piece| Some(piece.start.len()) != first)
    {
        return Err(Refused::new(
            Reason::Malformed,
            format!("pieces of {} differ in dimensions", put.variable),
        ));
    }
    Ok(())
}

fn charge_of(put: &Put) -> u64 {
    put.pieces.iter().fold(PIECE_CHARGE_BYTES, |sum, piece| {
        sum.saturating_add(piece.length_bytes)
            .saturating_add(PIECE_CHARGE_BYTES)
            .saturating_add(4 * piece.checksums.len() as u64)
    })
}

fn take(
    steps: &mut BTreeMap<(u64, u64), StepStore>,
    mut gone: impl FnMut(u64, u64) -> bool,
) -> Vec<StepStore> {
    steps
        .extract_if(.., |(epoch, step), _| gone(*epoch, *step))
        .map(|(_, step)| step)
        .collect()
}

fn required(run: Option<&Run>) -> Result<&Run, Refused> {
    run.ok_or_else(|| Refused::new(Reason::Malformed, "no run"))
}

fn key_of(run: &Run) -> (String, u64) {
    (run.stream.clone(), run.life)
}
