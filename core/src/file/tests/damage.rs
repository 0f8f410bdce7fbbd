//! Crashes and damage: every prefix of the writes, every file cut short, bytes
//! flipped, contents made up with checksums that fit.

use std::collections::BTreeMap;
use std::path::Path;

use panta_transports::copy::checksum;
use proptest::prelude::*;

use super::harness::*;
use crate::engine::{Resume, Start};
use crate::error::NextError;
use crate::file::dataset::Named;
use crate::file::log::Log;
use crate::file::pages::parse_page;
use crate::file::sections::{Frame, PartKind, encode_part, parse_part, parse_section};

type Sizes = BTreeMap<String, u64>;

fn sizes(directory: &Path) -> Sizes {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap().len())
        })
        .collect()
}

/// Copies a dataset, each file cut to its size; files without one are left out.
fn copy_cut(from: &Path, to: &Path, sizes: &Sizes) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    for (name, size) in sizes {
        let bytes = std::fs::read(from.join(name)).unwrap();
        std::fs::write(to.join(name), &bytes[..(*size as usize).min(bytes.len())]).unwrap();
    }
}

/// Reads all there is; gives the steps that were whole and right, and the end.
fn survivors(stream: &Stream) -> (Vec<u64>, Option<NextError>) {
    let reader = stream.reader(Start::Oldest).unwrap();
    let mut seen = Vec::new();
    loop {
        match next(&reader, &at_once()) {
            Ok(Some(step)) => {
                check_grid(&reader, &step);
                seen.push(step.head.step);
            }
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

#[test]
fn after_any_prefix_of_the_writes_exactly_the_sealed_steps_are_seen_and_the_next_writer_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(2, Resume::Fresh).unwrap();
    // What the disk holds after each call, and how many steps are then sealed.
    let mut moments = vec![(sizes(&stream.path("")), 0_u64)];
    for sealed in 0..3 {
        let half = |rank: u64| vec![Put::of_grid(sealed, &[rank * 32, 0], &[32, 48])];
        let captured = writers.capture(vec![half(0), half(1)]).unwrap();
        moments.push((sizes(&stream.path("")), sealed));
        writers.seal(captured).unwrap();
        moments.push((sizes(&stream.path("")), sealed + 1));
    }
    drop(writers);
    let crashed = Stream::at(&place.path().join("crashed"));
    let mut prefixes = 0;
    for pair in moments.windows(2) {
        let (before, after) = (&pair[0].0, &pair[1].0);
        let mut disk = before.clone();
        // `seal` appends to `meta`, then to `commits`.
        let mut grown: Vec<&String> = after
            .keys()
            .filter(|it| before.get(*it) != after.get(*it))
            .collect();
        grown.sort_by_key(|name| (*name == "commits", name.as_str()));
        for name in grown {
            let from = before.get(name).copied().unwrap_or(0);
            let to = after[name];
            let cuts = [
                from + 1,
                from + 7,
                (from + to) / 2,
                (from + to) / 2 / 8 * 8,
                to - 1,
                to,
            ];
            for cut in cuts.into_iter().filter(|cut| (from..=to).contains(cut)) {
                disk.insert(name.clone(), cut);
                copy_cut(&stream.path(""), &crashed.path(""), &disk);
                let sealed = if disk["commits"] == after["commits"] {
                    pair[1].1
                } else {
                    pair[0].1
                };
                let expected: Vec<u64> = (0..sealed).collect();
                let (seen, end) = survivors(&crashed);
                assert_eq!(seen, expected, "{name} of {cut} bytes");
                let lost = NextError::WriterLost {
                    stream: "run".into(),
                    last_sealed: sealed.checked_sub(1),
                };
                assert_eq!(end, Some(lost), "{name} of {cut} bytes");
                let mut resumed = crashed.writer(1, Resume::Last).unwrap();
                assert_eq!(resumed.step(), sealed);
                resumed.close();
                let (seen, end) = survivors(&crashed);
                assert_eq!(
                    (seen, end),
                    ((0..=sealed).collect(), None),
                    "{name} of {cut} bytes"
                );
                prefixes += 1;
            }
        }
    }
    assert!(prefixes > 80, "{prefixes}");
}

#[test]
fn a_file_cut_anywhere_is_named_and_the_steps_before_still_read() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    for _ in 0..3 {
        writers.step();
    }
    writers.close();
    let whole = sizes(&stream.path(""));
    let cut_short = Stream::at(&place.path().join("cut"));
    for name in ["commits", "meta", "data.0001.0000", "index.0001.0000"] {
        for part in 1..8 {
            let mut cut = whole.clone();
            let size = 4096 + (whole[name] - 4096) * part / 8;
            cut.insert(name.to_owned(), size);
            copy_cut(&stream.path(""), &cut_short.path(""), &cut);
            let reader = cut_short.reader(Start::Oldest).unwrap();
            let mut good = 0;
            let problem = loop {
                let step = match next(&reader, &at_once()) {
                    Ok(Some(step)) => step,
                    Ok(None) => panic!("{name} of {size} bytes: nothing was noticed"),
                    Err(error) => break error.to_string(),
                };
                match get(&reader, &step, 0, boxed(&[0, 0]), &[64, 48]) {
                    Ok(_) => good += 1,
                    Err(error) => break error.to_string(),
                }
            };
            let named = problem.contains(&format!("{name} at byte"))
                || (name == "commits" && problem.contains("lost"));
            assert!(named, "{name} of {size} bytes: {problem}");
            // Steps end at thirds, or before the record of the close.
            let least = if name == "commits" {
                part * 5 / 8
            } else {
                part * 3 / 8
            };
            assert!(good + 1 >= least, "{name} of {size} bytes: {good} steps");
        }
    }
}

#[test]
fn a_flipped_bit_in_any_region_of_any_file_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    for _ in 0..2 {
        writers.step();
    }
    writers.close();
    for name in ["commits", "meta", "data.0001.0000", "index.0001.0000"] {
        let path = stream.path(name);
        let original = std::fs::read(&path).unwrap();
        for offset in (0..original.len()).filter(|at| at % 127 == 0 || at % 4096 >= 4092) {
            let mut bytes = original.clone();
            bytes[offset] ^= 1 << (offset % 8);
            std::fs::write(&path, &bytes).unwrap();
            let noticed = match stream.reader(Start::Oldest) {
                Err(error) => error.to_string(),
                Ok(reader) => loop {
                    match next(&reader, &at_once()) {
                        Ok(None) => panic!("{name}: nothing notices the bit at {offset}"),
                        Err(error) => break error.to_string(),
                        Ok(Some(step)) => {
                            if let Err(error) = get(&reader, &step, 0, boxed(&[0, 0]), &[64, 48]) {
                                break error.to_string();
                            }
                        }
                    }
                },
            };
            assert!(
                noticed.contains(name) || noticed.contains("lost"),
                "{name}, {offset}: {noticed}"
            );
        }
        std::fs::write(&path, &original).unwrap();
    }
    assert_eq!(survivors(&stream).1, None);
}

#[test]
fn a_checksum_that_does_not_fit_names_stream_step_variable_and_block() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(2, Resume::Fresh).unwrap();
    writers.step();
    writers.close();
    let path = stream.path("data.0001.0001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + 5000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let reader = stream.reader(Start::Oldest).unwrap();
    let step = next(&reader, &at_once()).unwrap().unwrap();
    let error = get(&reader, &step, 0, boxed(&[30, 0]), &[34, 48])
        .unwrap_err()
        .to_string();
    for expected in [
        "`run`",
        "step 0",
        "`u`",
        "block 1 of rank 1",
        "tile 1 ",
        "data.0001.0001 at byte 8192",
    ] {
        assert!(error.contains(expected), "`{expected}` is not in: {error}");
    }
    // Tiles that are not touched are not looked at.
    assert!(get(&reader, &step, 0, boxed(&[0, 0]), &[36, 48]).is_ok());
    let mut careless = stream.clone();
    careless.target.options.verify = crate::config::Verify::Never;
    let reader = careless.reader(Start::Oldest).unwrap();
    let step = next(&reader, &at_once()).unwrap().unwrap();
    assert!(get(&reader, &step, 0, boxed(&[0, 0]), &[64, 48]).is_ok());
    assert_eq!(reader.counts().verified_tiles, 0);
}

#[test]
fn damage_inside_the_log_stops_a_writer_that_would_lose_the_steps_behind_it() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    for _ in 0..4 {
        writers.step();
    }
    writers.close();
    let path = stream.path("commits");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4 * 4096 + 50] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (seen, end) = survivors(&stream);
    assert_eq!(seen, [0, 1]);
    let said = end.unwrap().to_string();
    assert!(said.contains("commits at byte 16384"), "{said}");
    let refused = stream.writer(1, Resume::Last).err().unwrap().to_string();
    assert!(refused.contains("resumes"), "{refused}");
    let mut consents = stream.writer(1, Resume::After(1)).unwrap();
    assert_eq!(consents.step(), 2);
    consents.close();
    assert_eq!(survivors(&stream), (vec![0, 1, 2], None));
}

/// Puts a checksum that fits at the end of a page.
fn reseal(page: &mut [u8]) {
    let crc = checksum(&page[..4092]);
    page[4092..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn lengths_that_no_file_can_hold_are_refused_before_anything_is_allocated() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    writers.step();
    drop(writers);
    let path = stream.path("commits");
    let original = std::fs::read(&path).unwrap();
    // Lengths of the three parts, of the index section and of the data.
    for field in [104, 128, 152, 192 + 16, 192 + 32] {
        for value in [u64::MAX, i64::MAX as u64, 1 << 46] {
            let mut bytes = original.clone();
            let page = &mut bytes[2 * 4096..3 * 4096];
            page[field..field + 8].copy_from_slice(&value.to_le_bytes());
            reseal(page);
            std::fs::write(&path, &bytes).unwrap();
            let reader = stream.reader(Start::Oldest).unwrap();
            let outcome = match next(&reader, &at_once()) {
                Ok(Some(step)) => get(&reader, &step, 0, boxed(&[0, 0]), &[64, 48])
                    .map(drop)
                    .map_err(|error| error.to_string()),
                Ok(None) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            let error = outcome.expect_err("a made-up length");
            assert!(error.contains(" at byte "), "field {field}: {error}");
        }
    }
}

/// A valid byte string, some of its bytes changed.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        move |(changes, cut, shorten)| {
            let mut bytes = valid.clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if shorten {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        },
    )
}

fn a_section(frames: Option<Vec<Frame>>) -> Vec<u8> {
    let of_frames = |at: usize, bytes| match &frames {
        Some(frames) => (u64::from(frames[at].bytes), at as u64),
        None => (bytes, 0),
    };
    let entry = |order: u32, bytes: u64, first_tile: u64| {
        let (stored, first_frame) = of_frames(order as usize / 2, bytes);
        crate::file::sections::SectionEntry {
            variable: order,
            order,
            offset: 4096 * u64::from(order),
            bytes,
            first_tile,
            stored,
            first_frame,
        }
    };
    let section = crate::file::Section {
        instance: [7; 16],
        epoch: 1,
        step: 2,
        rank: 3,
        data_offset: 4096,
        data_length: 40_960,
        entries: vec![entry(1, 4096, 0), entry(2, 5000, 1), entry(4, 10, 3)],
        crcs: vec![1, 2, 3, 4],
        frames,
    };
    let (bytes, crc) = section.encode();
    assert_eq!(parse_section(&bytes).unwrap(), (section, crc));
    bytes
}

fn a_page() -> Vec<u8> {
    let commit = crate::file::Commit {
        kind: crate::file::CommitKind::Step,
        instance: [7; 16],
        epoch: 1,
        step: 2,
        wall_clock_ns: 3,
        sim: Some(0.5),
        parts: [Default::default(); 3],
        segments: vec![Default::default(); 200],
    };
    let (pages, _) = commit.encode(1, 0);
    assert_eq!(pages.len(), 3 * 4096);
    pages[..4096].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn sections_of_any_bytes_are_read_or_refused(
        mut bytes in prop_oneof![
            mutated(a_section(None)),
            mutated(a_section(Some([4096, 77, 10].map(|bytes| Frame { bytes, crc: 5 }).to_vec()))),
        ],
        reseal in any::<bool>(),
    ) {
        if reseal && bytes.len() > 4 {
            let end = bytes.len() - 4;
            let crc = checksum(&bytes[..end]);
            bytes[end..].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok((section, _)) = parse_section(&bytes) {
            prop_assert_eq!(section.encode().0, bytes);
        }
    }

    #[test]
    fn commit_pages_of_any_bytes_are_read_or_refused(mut bytes in mutated(a_page())) {
        if bytes.len() == 4096 {
            reseal(&mut bytes);
        }
        if let Ok((commit, link)) = parse_page(&bytes) {
            prop_assert!(commit.segments.len() <= 97 && link.page < link.pages);
        }
    }

    #[test]
    fn parts_of_any_bytes_are_read_or_refused(bytes in mutated(encode_part(PartKind::Layout, 9, b"thirteen bytes"))) {
        if let Ok((digest, body)) = parse_part(&bytes, PartKind::Layout) {
            prop_assert_eq!(encode_part(PartKind::Layout, digest, body), bytes);
        }
    }

    #[test]
    fn logs_of_any_bytes_are_read_or_refused(tail in mutated(a_page()), whole in 0_usize..3) {
        let place = tempfile::tempdir().unwrap();
        let stream = Stream::at(&place.path().join("run"));
        let mut writers = stream.writer(1, Resume::Fresh).unwrap();
        for _ in 0..whole {
            writers.step();
        }
        drop(writers);
        let mut bytes = std::fs::read(stream.path("commits")).unwrap();
        bytes.extend(tail);
        std::fs::write(stream.path("commits"), bytes).unwrap();
        let commits = Named::open(stream.path("commits")).unwrap();
        let mut log = Log::of(&commits).unwrap();
        prop_assert!(log.refresh(&commits).is_ok());
        prop_assert_eq!(log.steps.len(), whole);
    }
}

#[test]
fn a_record_exchanged_checksum_and_all_breaks_the_chain() {
    let place = tempfile::tempdir().unwrap();
    let stream = Stream::at(&place.path().join("run"));
    let mut writers = stream.writer(1, Resume::Fresh).unwrap();
    for _ in 0..3 {
        writers.step();
    }
    writers.close();
    let path = stream.path("commits");
    let mut bytes = std::fs::read(&path).unwrap();
    let page = &mut bytes[3 * 4096..4 * 4096];
    page[80] ^= 1;
    reseal(page);
    std::fs::write(&path, &bytes).unwrap();
    let said = survivors(&stream).1.unwrap().to_string();
    assert!(
        said.contains("commits at byte 16384") && said.contains("does not continue"),
        "{said}"
    );
}
