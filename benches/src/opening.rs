//! From opening a stream to its first element, and closing again, while the writer is up
//! and holds a step: what an analysis pays that comes late, and one that comes often.
//!
//! Each round is a writer process and a fresh reader process, which opens, gets, checks
//! and closes again and again; its very first opening is told apart.

use ndarray::Array1;
use panta::{Reader, Shape, Solo, Start, StepTime, Writer};
use panta_core::config::Engine;
use serde::{Deserialize, Serialize};

use crate::Request;
use crate::error::{BenchError, Doing};
use crate::pair::{Directory, engines};
use crate::pattern;
use crate::process::{Process, say, wait_for_word};
use crate::role::{Ready, Role};
use crate::row::{Row, rounded};
use crate::server::Servers;
use crate::statistics::{median, seconds, set_percentiles};

/// Bytes of the step that is there.
const BYTES: u64 = 1 << 10;
/// Openings of one round.
const OPENINGS: u64 = 50;
const VARIABLE: &str = "u";

/// Where the stream is, and how often it is opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opening {
    url: String,
    bytes: u64,
    openings: u64,
}

/// What a reader says last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Opened {
    /// From before the opening until the last element was looked at.
    got_us: Vec<f64>,
    /// Of the close after it.
    closed_us: Vec<f64>,
}

/// What a writer says last.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Closed {
    closed_us: f64,
}

/// Runs the workload.
pub(crate) fn run(request: &Request, report: &mut dyn FnMut(&Row)) -> Result<(), BenchError> {
    for engine in engines(request)? {
        let transports: Vec<Option<String>> = match (engine, &request.transport) {
            (Engine::Stream, None) => vec![Some("shm".into()), Some("tcp".into())],
            (Engine::Stream, Some(transport)) => vec![Some(transport.clone())],
            _ => vec![None],
        };
        for transport in transports {
            measure(request, engine, transport.as_deref(), report)?;
        }
    }
    Ok(())
}

fn measure(
    request: &Request,
    engine: Engine,
    transport: Option<&str>,
    report: &mut dyn FnMut(&Row),
) -> Result<(), BenchError> {
    let openings = request.steps.unwrap_or(OPENINGS).max(2);
    let bytes = request.bytes.unwrap_or(BYTES).max(8) / 8 * 8;
    let mut over = String::new();
    let (mut got_us, mut closed_us) = (Vec::new(), Vec::new());
    let (mut first_us, mut writer_closed_us) = (Vec::new(), Vec::new());
    for _ in 0..request.rounds {
        let place = Directory::new()?;
        let directory = place.0.path();
        let at = directory.display();
        let (_servers, url) = match engine {
            Engine::Staging => {
                let space = Servers::start(&request.executable, 1, directory)?;
                let url = space.url("opening", &request.verify);
                (space.servers, url)
            }
            Engine::Stream => {
                let transport = transport.unwrap_or("auto");
                let mut url = format!(
                    "stream:opening?contact={at}/opening.panta-contact&rendezvous=0&transport={transport}"
                );
                if let Some(provider) = &request.fabric {
                    url.push_str(&format!("&fabric={provider}"));
                }
                (Vec::new(), url)
            }
            engine => (
                Vec::new(),
                format!("{}:{at}/opening.panta", engine.scheme()),
            ),
        };
        let role = Opening {
            url,
            bytes,
            openings,
        };
        let start = |name, role| Process::start(name, &request.executable, &role);
        let mut writer = start("writer", Role::OpeningWriter(role.clone()))?;
        let ready: Ready = writer.hear()?;
        let mut reader = start("reader", Role::OpeningReader(role))?;
        let opened: Opened = reader.hear()?;
        reader.finish()?;
        writer.tell()?;
        let closed: Closed = writer.hear()?;
        writer.finish()?;
        over = ready.transport;
        first_us.extend(opened.got_us.first());
        got_us.extend(opened.got_us.into_iter().skip(1));
        closed_us.extend(opened.closed_us);
        writer_closed_us.push(closed.closed_us);
    }
    let mut row = Row {
        workload: "opening",
        engine: Some(engine.scheme().to_owned()),
        transport: Some(over),
        bytes: Some(bytes),
        steps: Some(openings),
        ..Row::default()
    };
    set_percentiles(&mut row, got_us);
    let row = row
        .with("first_us", rounded(median(&first_us)))
        .with("reader_close_us", rounded(median(&closed_us)))
        .with("writer_close_us", rounded(median(&writer_closed_us)));
    report(&row);
    Ok(())
}

/// Puts a step and keeps it there until told to end.
pub(crate) fn write(opening: &Opening) -> Result<(), BenchError> {
    let elements = opening.bytes / 8;
    let mut writer = Writer::open(&opening.url, Solo).doing("open for writing")?;
    let variable = writer
        .define::<f64>(VARIABLE, Shape::global([elements]))
        .doing("define")?;
    let mut field = Array1::zeros(elements as usize);
    pattern::fill(field.as_slice_mut().unwrap_or_default(), 0, 0);
    let step = writer
        .begin_step(StepTime::default())
        .doing("begin a step")?;
    step.put(variable, &[0], field.view()).doing("put")?;
    step.end().doing("end a step")?;
    say(&Ready {
        transport: writer.info().transport,
    })?;
    wait_for_word();
    let mut closed = Ok(());
    let took = seconds(|| closed = writer.close());
    closed.doing("close")?;
    say(&Closed {
        closed_us: took * 1e6,
    })
}

/// Opens, gets, checks and closes.
pub(crate) fn read(opening: &Opening) -> Result<(), BenchError> {
    let mut field = Array1::zeros(opening.bytes as usize / 8);
    let mut measured = Opened::default();
    for _ in 0..opening.openings {
        let mut got = Ok(None);
        let took = seconds(|| got = get(opening, &mut field));
        measured.got_us.push(took * 1e6);
        let reader = got?;
        let took = seconds(|| drop(reader));
        measured.closed_us.push(took * 1e6);
    }
    say(&measured)
}

fn get(opening: &Opening, field: &mut Array1<f64>) -> Result<Option<Reader>, BenchError> {
    field.fill(-1.0);
    let mut reader = Reader::open(&opening.url, Solo, Start::Oldest).doing("open for reading")?;
    let step = reader.next_step().doing("wait for the step")?;
    let step = step.ok_or_else(|| BenchError::Failed {
        doing: "wait for the step".into(),
        why: "the stream was closed".into(),
    })?;
    step.get_into(VARIABLE, .., field.view_mut()).doing("get")?;
    drop(step);
    let values = field.as_slice().unwrap_or_default();
    pattern::check(values, 0, 0, "the array")?;
    Ok(Some(reader))
}
