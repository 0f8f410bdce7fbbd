//! What readers still look at counts against the writer's limit, also when the writer has
//! let go of it: a step then has no room, which is an error; memory does not grow.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mapped.rs"]
mod mapped;

use ndarray::Array1;
use panta::{BlockId, PinnedView, Reader, Shape, Solo, Start, StepTime, Var, Writer};

use mapped::shared_bytes;

const MIB: usize = 1 << 20;
const STEP_VALUES: usize = 6 * MIB / size_of::<f64>();
/// What steps may take, and what an engine may beside it.
const LIMIT_BYTES: usize = 24 * MIB;
const BESIDE_BYTES: usize = LIMIT_BYTES / 8 + 4 * MIB;

fn write(writer: &mut Writer, u: Var<f64>, step: usize) -> Result<(), String> {
    let values = Array1::from_elem(STEP_VALUES, step as f64);
    let open = writer.begin_step(StepTime::default());
    let open = open.map_err(|error| error.to_string())?;
    open.put(u, &[0], &values)
        .map_err(|error| error.to_string())?;
    open.end().map(drop).map_err(|error| error.to_string())
}

/// A reader comes, looks at the latest step, and goes; the view stays.
fn keep_a_view(url: &str) -> PinnedView<'static, f64> {
    let mut reader = Reader::open(url, Solo, Start::Latest).unwrap();
    let step = reader.next_step().unwrap().unwrap();
    step.view_owned("u", BlockId(0)).unwrap()
}

#[test]
fn views_that_outlive_their_reader_keep_the_writer_within_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let contact = directory.path().join("contact");
    let url = format!(
        "stream:memory?contact={}&transport=shm&limit=24MiB&retain_steps=1&policy=drop-oldest&rendezvous=0",
        contact.display()
    );
    let mut writer = Writer::open(&format!("{url}&deadline=3s"), Solo).unwrap();
    let u = writer
        .define::<f64>("u", Shape::global([STEP_VALUES as u64]))
        .unwrap();
    let mut views = Vec::new();
    let refused = loop {
        let step = views.len();
        assert!(step < 20, "nobody counts what is looked at");
        let written = write(&mut writer, u, step);
        assert!(shared_bytes() <= LIMIT_BYTES + BESIDE_BYTES);
        match written {
            Ok(()) => views.push(keep_a_view(&url)),
            Err(error) => break error,
        }
    };
    assert!(refused.contains("to unmap"), "{refused}");
    assert!(
        views.len() >= LIMIT_BYTES / (6 * MIB) - 1,
        "{}",
        views.len()
    );
    for (step, view) in views.iter().enumerate() {
        assert!(view.as_array().iter().all(|value| *value == step as f64));
    }
    views.clear();
    write(&mut writer, u, 100).unwrap();
    assert!(
        keep_a_view(&url)
            .as_array()
            .iter()
            .all(|value| *value == 100.0)
    );
}
