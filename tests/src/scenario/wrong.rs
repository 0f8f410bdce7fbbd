//! What is wrong must say so: names, parameters, calls out of order, failed puts.

use std::time::Duration;

use ndarray::{Array1, ArrayD};
use panta::{BeginError, OpenError, PutError, Reader, Shape, Solo, Start, Writer};
use panta_transports::time::Wait;

use crate::cells;
use crate::part::{Part, time};
use crate::stage::Stage;

/// Bad names, keys and values are errors that name them, and the nearest good one.
pub fn names(stage: &mut Stage) {
    let file = stage.file("names").display().to_string();
    let cases = [
        (format!("file:{file}?limt=1GiB"), ["limt", "`limit`"]),
        (format!("file:{file}?limit=lots"), ["lots", "limit"]),
        (format!("file:{file}?policy=block"), ["policy", "staging"]),
        (format!("file:{file}?deadline=12"), ["12", "deadline"]),
        ("flie:run".to_owned(), ["flie", "`file:`"]),
        ("file:".to_owned(), ["file:", "path"]),
        ("stream:no/slash".to_owned(), ["no/slash", "letters"]),
        ("staging:x@:0".to_owned(), ["staging:", "host"]),
    ];
    for (url, wanted) in cases {
        let opened = [
            Writer::open(&url, Solo).map(drop).unwrap_err(),
            Reader::open(&url, Solo, Start::Oldest)
                .map(drop)
                .unwrap_err(),
        ];
        for error in opened {
            assert!(matches!(error, OpenError::Config(_)), "`{url}`: {error}");
            for word in wanted {
                assert!(
                    error.to_string().contains(word),
                    "`{url}`, no `{word}` in: {error}"
                );
            }
        }
    }
}

/// A put outside a step and a begin within one are errors, and harm nothing.
pub fn order(stage: &mut Stage) {
    let url = stage.url_with("order", stage.keep_all_alone());
    let mut out = Writer::open(&url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::global_value()).unwrap();
    let outside = out.session().put_value(0, panta::DType::F64, &[0; 8]);
    assert!(
        matches!(outside, Err(PutError::NoStep { .. })),
        "{outside:?}"
    );
    // The type forbids a second begin while a step lives; one that was
    // forgotten is still open.
    std::mem::forget(out.begin_step(time(0)).unwrap());
    let twice = out.begin_step(time(0)).map(drop).unwrap_err();
    assert!(
        matches!(twice, BeginError::InStep { step: 0, .. }),
        "{twice}"
    );
    drop(out);
    let mut out = Writer::open(&url, Solo).unwrap();
    let again = out.define::<f64>("u", Shape::global_value()).unwrap();
    out.define::<f32>("u", Shape::global_value()).unwrap_err();
    out.define::<f64>("u", Shape::global([3])).unwrap_err();
    let mut inp = Reader::open(&url, Solo, Start::Oldest).unwrap();
    let step = out.begin_step(time(0)).unwrap();
    step.put_value(again, &4.0).unwrap();
    step.end().unwrap();
    let _same_type = [u, again];
    let step = inp.next_step().unwrap().unwrap();
    assert_eq!(step.get_value::<f64>("u").unwrap(), 4.0);
    step.get_value::<f32>("u").unwrap_err();
    step.get_value::<f64>("v").unwrap_err();
    drop(step);
    out.close().unwrap();
}

/// One rank's put fails: the step's end fails alike on every rank, the step is
/// never shown, and the next one works.
pub fn failed_put(stage: &mut Stage) {
    let url = stage.url_with("failed", stage.keep_all());
    stage.start("wrong::failing_reader", 2, &url, &[]);
    stage.start("wrong::failing_writer", 3, &url, &[]);
    stage.all_ended();
}

const LINE: [u64; 1] = [9];

/// In step 2 rank 1 puts outside the array; in step 4 rank 2 drops its step.
pub fn failing_writer(part: &Part) {
    let mut simulation = part.comm();
    let mut out = part.writer();
    let u = out.define::<f64>("u", Shape::global(LINE)).unwrap();
    let start = [3 * part.rank as u64];
    for number in 0..7 {
        let own = cells::block::<f64>("u", number, &LINE, &start, &[3]);
        let step = out.begin_step(time(number)).unwrap();
        assert_eq!(step.number(), number);
        if number == 2 && part.rank == 1 {
            let error = step.put(u, &[7], &own).unwrap_err();
            assert!(matches!(error, PutError::Shape { .. }), "{error}");
        } else {
            step.put(u, &start, &own).unwrap();
        }
        let ended = match number {
            4 if part.rank == 2 => {
                step.abort();
                continue;
            }
            _ => step.end(),
        };
        match number {
            2 => {
                let error = ended.unwrap_err().to_string();
                assert!(error.contains("rank 1"), "{error}");
                let wait = Wait::for_at_most(Duration::from_secs(60));
                let all = simulation.allgather(error.as_bytes(), &wait).unwrap();
                assert!(all.iter().all(|other| other == error.as_bytes()), "{all:?}");
            }
            4 => {
                let error = ended.unwrap_err().to_string();
                assert!(error.contains("rank 2"), "{error}");
            }
            _ => assert_eq!(ended.unwrap().step, number),
        }
    }
    out.close().unwrap();
}

/// Sees every step but the two that failed.
pub fn failing_reader(part: &Part) {
    let mut inp = part.reader();
    let mut numbers = Vec::new();
    while let Some(step) = inp.next_step().unwrap() {
        let read: ArrayD<f64> = step.get("u", ..).unwrap();
        cells::check("u", step.number(), &LINE, &[0], read.view());
        numbers.push(step.number());
    }
    assert_eq!(numbers, [0, 1, 3, 5, 6]);
}

/// A step larger than the limit is an error on every rank before anything is written.
pub fn too_large(stage: &mut Stage) {
    let query = format!("limit=64KiB&{}", stage.alone());
    let url = stage.url_with("large", query.trim_end_matches('&'));
    let mut out = Writer::open(&url, Solo).unwrap();
    let u = out.define::<u8>("u", Shape::global([1 << 20])).unwrap();
    let begun = out.begin_step_of(time(0), 1 << 20).map(drop).unwrap_err();
    assert!(matches!(begun, BeginError::StepTooLarge { bytes, .. } if bytes == 1 << 20));
    let field = Array1::from_elem(1 << 20, 7_u8);
    let step = out.begin_step(time(0)).unwrap();
    let put = step.put(u, &[0], &field).unwrap_err();
    assert!(matches!(put, PutError::StepTooLarge { .. }), "{put}");
    step.end().unwrap_err();
    let step = out.begin_step(time(1)).unwrap();
    step.put(u, &[0], field.slice(ndarray::s![..1 << 10]))
        .unwrap();
    step.end().unwrap();
    out.close().unwrap();
}
