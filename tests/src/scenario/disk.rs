//! Disks that are full, read-only or damaged: errors name them, and what was
//! sealed before can still be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use panta::{Reader, Shape, Solo, Start, Writer};

use crate::cells;
use crate::part::time;
use crate::stage::Stage;

/// A file system in memory, for as long as it lives.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this user or container may not mount.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(at).output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is left mounted goes with the container.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// Says that a test is skipped; where everything must be there, that is a failure.
#[allow(clippy::print_stderr, reason = "a skip says so by name")]
fn skip(what: &str) {
    assert!(
        std::env::var_os("PANTA_CI").is_none(),
        "{what}, and PANTA_CI is set"
    );
    eprintln!("skipped: {what}");
}

const SHAPE: [u64; 2] = [64, 128];

fn write_until_error(url: &str) -> (u64, String) {
    let mut out = Writer::open(url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::global(SHAPE)).unwrap();
    for number in 0.. {
        let field = cells::block::<f64>("u", number, &SHAPE, &[0, 0], &SHAPE);
        let step = match out.begin_step(time(number)) {
            Ok(step) => step,
            Err(error) => return (number, error.to_string()),
        };
        let put = step
            .put(u, &[0, 0], &field)
            .map_err(|error| error.to_string());
        if let Err(error) = put.and_then(|()| step.end().map_err(|error| error.to_string())) {
            return (number, error);
        }
    }
    unreachable!("a disk without end")
}

/// Reads and checks every step there is; how many, and the error that ended it.
fn read_all(url: &str) -> (u64, Option<String>) {
    let mut inp = match Reader::open(url, Solo, Start::Oldest) {
        Ok(inp) => inp,
        Err(error) => return (0, Some(error.to_string())),
    };
    let mut steps = 0;
    loop {
        let step = match inp.next_step() {
            Ok(Some(step)) => step,
            Ok(None) => return (steps, None),
            Err(error) => return (steps, Some(error.to_string())),
        };
        match step.get::<f64, ndarray::IxDyn>("u", ..) {
            Ok(read) => cells::check("u", step.number(), &SHAPE, &[0, 0], read.view()),
            Err(error) => return (steps, Some(error.to_string())),
        }
        steps += 1;
    }
}

/// A full disk is an error that says so; the steps before it can be read.
pub fn full(stage: &mut Stage) {
    let at = stage.directory().join("small");
    let Some(_mounted) = Mounted::tmpfs(&at, "size=1m") else {
        return skip("disk full (may not mount a tmpfs)");
    };
    let url = format!("file:{}?deadline=2s", at.join("full.panta").display());
    let (written, error) = write_until_error(&url);
    assert!(written > 3, "only {written} steps fit: {error}");
    assert!(error.contains("No space left"), "{error}");
    assert!(error.contains("full.panta"), "{error}");
    let (read, error) = read_all(&url);
    assert_eq!(read, written, "{error:?}");
}

/// A directory that cannot be written is an error that names it.
pub fn read_only(stage: &mut Stage) {
    let at = stage.directory().join("read-only");
    let Some(_mounted) = Mounted::tmpfs(&at, "ro") else {
        return skip("read-only directory (may not mount a tmpfs)");
    };
    let url = format!("file:{}?deadline=2s", at.join("never.panta").display());
    let error = Writer::open(&url, Solo).map(drop).unwrap_err().to_string();
    assert!(error.contains("never.panta"), "{error}");
    assert!(error.contains("Read-only file system"), "{error}");
}

const STEPS: u64 = 6;

/// With blocks as they are, and compressed.
const MANNERS: [&str; 2] = ["none", "zstd"];

fn written(stage: &Stage, name: &str, compress: &str) -> (String, PathBuf) {
    let name = &format!("{name}-{compress}");
    let url = stage.url_with(name, &format!("deadline=300ms&compress={compress}"));
    let mut out = Writer::open(&url, Solo).unwrap();
    let u = out.define::<f64>("u", Shape::global(SHAPE)).unwrap();
    for number in 0..STEPS {
        let field = cells::block::<f64>("u", number, &SHAPE, &[0, 0], &SHAPE);
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &[0, 0], &field).unwrap();
        step.end().unwrap();
    }
    out.close().unwrap();
    let path = stage.file(name);
    (url, path)
}

/// The files of a stream, whether it is one or a directory of them.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .flat_map(|entry| files(&entry.unwrap().path()))
        .collect();
    files.sort();
    files
}

/// Each file is cut at many places: the steps sealed before read right, then
/// comes an error or the end, never wrong data.
pub fn torn_tail(stage: &mut Stage) {
    for compress in MANNERS {
        cut_short(written(stage, "torn", compress));
    }
}

fn cut_short((url, path): (String, PathBuf)) {
    assert_eq!(read_all(&url), (STEPS, None));
    for file in files(&path) {
        let whole = fs::read(&file).unwrap();
        for cut in 1..=12 {
            let length = whole.len() - whole.len() * cut / 12;
            fs::write(&file, &whole[..length]).unwrap();
            let (read, _) = read_all(&url);
            assert!(read <= STEPS);
        }
        // A few bytes off the end cost no more than the last steps.
        fs::write(&file, &whole[..whole.len().saturating_sub(3)]).unwrap();
        let (read, error) = read_all(&url);
        assert!(
            read + 1 >= STEPS || error.is_some(),
            "{file:?}: {read} {error:?}"
        );
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(read_all(&url), (STEPS, None));
}

/// A bit is flipped in each region of each file: right data or an error, never
/// wrong data; and damage to data is found and named.
pub fn flipped_bit(stage: &mut Stage) {
    for compress in MANNERS {
        flip(written(stage, "flipped", compress));
    }
}

fn flip((url, path): (String, PathBuf)) {
    const PLACES: usize = 40;
    let mut found = 0;
    for file in files(&path) {
        let whole = fs::read(&file).unwrap();
        for place in 0..PLACES.min(whole.len()) {
            let mut damaged = whole.clone();
            let at = place * whole.len() / PLACES.min(whole.len());
            damaged[at] ^= 1 << (place % 8);
            fs::write(&file, &damaged).unwrap();
            let (_, error) = read_all(&url);
            found += usize::from(error.is_some());
        }
        fs::write(&file, &whole).unwrap();
    }
    assert!(found > PLACES / 2, "only {found} damages were found");
    assert_eq!(read_all(&url), (STEPS, None));
}
