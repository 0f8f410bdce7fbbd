//! Steps that are pushed to a reader that asked for the same before, while one side dies.

use ndarray::Array1;
use panta::{NextError, Resume, Shape, Start, StepTime, Writer};

use super::many::Held;
use crate::part::Part;

/// Cells of a step: 7 MiB, of which one rank pushes no more than 8.
pub const CELLS: u64 = 7 << 17;

/// Does as it is told: `write V`, a step all cells of which are V; `early` and `settle`,
/// which finds no more held than was then; `close`.
pub fn told_writer(part: &Part) {
    let mut options = Writer::options();
    if part.has("resume") {
        options = options.resume(Resume::After(part.number("resume")));
    }
    let mut out = options.open(&part.url, part.comm()).unwrap();
    let u = out.define::<f64>("u", Shape::global([CELLS])).unwrap();
    part.say("opened");
    let mut early = None;
    loop {
        let order = part.hear();
        match order.split_once(' ') {
            Some(("write", value)) => {
                let field = Array1::from_elem(CELLS as usize, value.parse::<f64>().unwrap());
                let step = out.begin_step(StepTime::sim(0.0)).unwrap();
                let number = step.number();
                step.put(u, &[0], field.view()).unwrap();
                step.end().unwrap();
                part.say(format_args!("wrote {number}"));
            }
            _ if order == "early" => {
                early = Some(Held::now());
                part.say("noted");
            }
            _ if order == "settle" => {
                Held::settles_to(early.expect("`early` before"));
                part.say("settled");
            }
            _ => return out.close().unwrap(),
        }
    }
}

/// Gets the next step whenever it is told to, and says what it got: the step, the value
/// of all of its cells, and how many of its gets were pushed so far.
pub fn told_reader(part: &Part) {
    let start = match part.has("latest") {
        true => Start::Latest,
        false => Start::Oldest,
    };
    let mut inp = part.reader_from(start);
    inp.freeze_selections();
    part.say("opened");
    while part.hear() == "next" {
        let said = match inp.next_step() {
            Ok(Some(step)) => {
                let got: Result<Array1<f64>, _> = step.get("u", ..);
                match got {
                    Ok(got) => {
                        let value = got[0];
                        assert!(got.iter().all(|cell| *cell == value), "of two steps");
                        format!("saw {} {value}", step.number())
                    }
                    Err(error) => format!("no get of {}: {error}", step.number()),
                }
            }
            Ok(None) => "closed".into(),
            Err(NextError::WriterLost { last_sealed, .. }) => format!("lost {last_sealed:?}"),
            Err(NextError::RolledBack { to, .. }) => format!("rolled back {to:?}"),
            Err(error) => format!("error {error}"),
        };
        part.say(format_args!("{said}, {} pushed", inp.push_counts().used));
    }
}
