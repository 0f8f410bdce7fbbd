//! Staging servers as processes: what they hold, whom they wait for, whom they
//! fence, and what strangers get from them.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use panta::{NextError, Reader, Shape, Solo, Start, Writer};
use panta_staging_server::{Server, ServerOptions};
use panta_transports::channel::Hello;
use panta_transports::coupling::Ticket;

use super::groups::{get_slab, put_slab};
use super::many::resident_bytes;
use crate::part::{Part, time};
use crate::stage::{Engine, Stage};

/// A server of the space that the list in the URL's place makes; serves until it is told
/// otherwise.
pub fn serve(part: &Part) {
    let (names, key) = part.url.split_once(' ').unwrap();
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    let server = Server::start(ServerOptions {
        listen: names[part.rank].parse().unwrap(),
        server: part.rank,
        names,
        key: Some(key.into()),
        ..ServerOptions::default()
    });
    let server = server.expect("the server starts");
    part.say("serving");
    loop {
        match part.hear().as_str() {
            "measure" => part.say(format_args!(
                "holds {} {}",
                server.held_bytes(),
                resident_bytes()
            )),
            _ => return server.stop(),
        }
    }
}

/// Bytes of payload and of memory of all servers together.
fn measured(stage: &mut Stage) -> (u64, u64) {
    let servers = stage.servers();
    stage.tell_all(servers, "measure");
    let all = stage.all_heard(servers, "holds");
    all.iter().fold((0, 0), |(held, resident), words| {
        let (one, other) = words.split_once(' ').unwrap();
        (
            held + one.parse::<u64>().unwrap(),
            resident + other.parse::<u64>().unwrap(),
        )
    })
}

/// A reader that holds a step dies: the writer that waits for it goes on.
pub fn dead_reader_blocks(stage: &mut Stage) {
    let query = format!("{}&lease=2s", stage.room_for_three(2));
    let url = stage.url_with("blocked", &query);
    let writer = stage.start("death::told_writer", 2, &url, &[]);
    stage.tell_all(writer, "write 0");
    let reader = stage.start("late::gap_reader", 1, &url, &[]);
    stage.heard(reader, 0, "holding 0");
    stage.tell_all(writer, "write 2");
    stage.all_heard(writer, "wrote 2");
    // Three are kept, the oldest of them is held: the next has to wait.
    stage.tell_all(writer, "write 9");
    stage.kill(reader, 0);
    stage.all_heard(writer, "wrote 9");
    stage.tell_all(writer, "close");
    stage.all_ended();
}

/// A reader that keeps steps until its limit, and waits for more, is told so.
pub fn views_to_the_limit(stage: &mut Stage) {
    let url = stage.url_with("kept", &stage.room_for_three(1));
    let writer = stage.start("death::told_writer", 1, &url, &[]);
    stage.tell(writer, 0, "write 0");
    let reader = stage.start("servers::keeping_reader", 1, &url, &[]);
    // Before it is there, nothing would keep the first steps for it.
    stage.heard(reader, 0, "keeping 0");
    stage.tell(writer, 0, "write 7");
    stage.tell(writer, 0, "close");
    stage.ended(reader);
    stage.ended(writer);
}

/// Keeps three steps of the three there may be; lets go when it is told of the deadlock.
pub fn keeping_reader(part: &Part) {
    let mut inp = part.reader();
    let mut kept = Vec::new();
    for number in 0..3 {
        let step = inp.next_step().unwrap().unwrap();
        assert_eq!(step.number(), number);
        kept.push(step.detach());
        part.say(format_args!("keeping {number}"));
    }
    // It is told at the end of its wait: another rank might let go in between.
    match inp.next_step_within(Duration::from_millis(500)).map(drop) {
        Err(NextError::WouldDeadlock { held_bytes, .. }) => assert!(held_bytes > 0),
        other => panic!("not told: {other:?}"),
    }
    kept.clear();
    for number in 3..8 {
        assert_eq!(get_slab(&mut inp, "u", part), Some(number));
    }
    assert_eq!(get_slab(&mut inp, "u", part), None);
}

/// A writer that is stopped for longer than its lease is fenced: another takes
/// over, and nothing the first says later is shown.
pub fn fenced(stage: &mut Stage) {
    let url = stage.url_with("usurped", "retain_steps=100&lease=1s");
    let first = stage.start("death::told_writer", 1, &url, &[]);
    let reader = stage.start("death::told_reader", 2, &url, &[]);
    stage.tell(first, 0, "write 3");
    stage.heard(first, 0, "wrote 3");
    for step in 0..=3 {
        stage.tell_all(reader, "next");
        stage.all_heard(reader, &format!("saw {step}"));
    }
    stage.stop(first, 0, true);
    stage.tell_all(reader, "next");
    stage.all_heard(reader, "lost Some(3)");
    let second = stage.start("death::told_writer", 2, &url, &[("resume", 3)]);
    stage.all_heard(second, "opened");
    stage.stop(first, 0, false);
    stage.tell(first, 0, "write 20");
    let error = stage.heard(first, 0, "error");
    let is_told = ["fenced", "taken the stream over"];
    assert!(is_told.iter().any(|it| error.contains(it)), "{error}");
    // What the first wrote went with it, where steps do not outlive their writer.
    let first_step = if stage.outlives_its_writer() { 0 } else { 4 };
    let later = stage.start("replay::fenced_reader", 1, &url, &[("first", first_step)]);
    stage.tell_all(second, "write 6");
    stage.all_heard(second, "wrote 6");
    stage.tell_all(second, "close");
    stage.ended(later);
    stage.tell_all(reader, "quit");
    stage.all_ended();
}

/// A simulation that computes for longer than its lease, without a call, lives.
pub fn long_silence(stage: &mut Stage) {
    let url = stage.url_with("silent", "retain_steps=100&lease=1s");
    stage.start("groups::plain_reader", 2, &url, &[("steps", 2)]);
    stage.start("servers::silent_writer", 2, &url, &[]);
    stage.all_ended();
    super::by_hand::long_silence(stage);
}

/// Computes between two steps.
pub fn silent_writer(part: &Part) {
    let mut out = part.writer();
    put_slab(&mut out, "u", part);
    thread::sleep(Duration::from_secs(3));
    put_slab(&mut out, "u", part);
    out.close().unwrap();
}

const MEBIBYTE: usize = 1 << 20;

/// Spans go from the transport's memory to the servers without a copy.
pub fn spans_are_free(stage: &mut Stage) {
    let url = stage.url_with("spans", stage.keep_all_alone());
    stage.start("servers::span_writer", 2, &url, &[]);
    stage.all_ended();
}

/// Computes into spans; counts copies.
pub fn span_writer(part: &Part) {
    let mut out = part.writer();
    let shape = [2 * MEBIBYTE as u64];
    let u = out.define::<u8>("u", Shape::global(shape)).unwrap();
    for number in 0..5 {
        let step = out.begin_step(time(number)).unwrap();
        let start = [(part.rank * MEBIBYTE) as u64];
        let mut span = step.span(u, &start, &[MEBIBYTE as u64]).unwrap();
        span.as_mut_slice().fill(number as u8);
        step.end().unwrap();
    }
    assert_eq!(out.copies().bytes(), 0, "bytes were copied");
    out.close().unwrap();
}

/// Bytes that the servers may keep.
const CEILING_BYTES: u64 = 32 << 20;

/// A reader 100 times slower than its writer: servers keep within what they were
/// given, plus a tenth.
pub fn memory_ceiling(stage: &mut Stage) {
    let query = format!("retain_steps=1000&retain_bytes={CEILING_BYTES}&limit=32MiB");
    let url = stage.url_with("ceiling", &query);
    let writer = stage.start("servers::large_writer", 1, &url, &[]);
    let reader = stage.start("servers::crawling_reader", 1, &url, &[]);
    if !stage.outlives_its_writer() {
        // There are no servers; the writer measures itself.
        return stage.all_ended();
    }
    let (_, before) = measured(stage);
    for _ in 0..4 {
        stage.heard(reader, 0, "ten more");
        let (held, resident) = measured(stage);
        assert!(held <= CEILING_BYTES, "{held} bytes are held");
        let grown = resident.saturating_sub(before);
        // What is being received and what is idle have stated shares beside it.
        let limit = CEILING_BYTES + CEILING_BYTES / 10 + (32 << 20);
        assert!(grown < limit, "grown by {grown} bytes");
    }
    stage.ended(writer);
    stage.all_ended();
}

/// Writes 100 MiB as fast as it may, and must not grow itself.
pub fn large_writer(part: &Part) {
    let mut out = part.writer();
    let u = out
        .define::<u8>("u", Shape::global([MEBIBYTE as u64]))
        .unwrap();
    let field = vec![5_u8; MEBIBYTE];
    let before = resident_bytes();
    for number in 0..100 {
        let step = out.begin_step(time(number)).unwrap();
        step.put(u, &[0], &field).unwrap();
        step.end().unwrap();
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "the writer grew by {grown} bytes");
    out.close().unwrap();
}

/// Sees every step, each after a while.
pub fn crawling_reader(part: &Part) {
    let mut inp = part.reader();
    let mut seen = 0;
    while let Some(step) = inp.next_step().unwrap() {
        assert_eq!(step.number(), seen);
        thread::sleep(Duration::from_millis(20));
        let last: u8 = step
            .get::<u8, ndarray::Ix1>("u", ndarray::s![-1..])
            .unwrap()[0];
        assert_eq!(last, 5);
        seen += 1;
        if seen % 10 == 0 && seen <= 40 {
            part.say("ten more");
        }
    }
    assert_eq!(seen, 100);
}

/// What strangers send: nothing of it may do harm.
fn strange_bytes() -> Vec<Vec<u8>> {
    let future = Hello {
        version: u16::MAX,
        role: 1,
        encrypt: false,
        noise_bytes: 48,
    };
    let mut announced = b"PANTA\x01\x01\x00\x01\x00\xff\xff".to_vec();
    announced.extend([0; 600]);
    vec![
        b"GET / HTTP/1.1\r\nHost: node7\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        Vec::new(),
        vec![0xff; 4096],
        [future.to_bytes().as_slice(), &[7; 48]].concat(),
        announced,
    ]
}

/// Bytes of port scanners, other versions and other keys: errors for them, and
/// the server goes on as if nothing had been.
pub fn strangers(stage: &mut Stage) {
    let direct = matches!(stage.engine, Engine::Stream(_));
    let key = stage.directory().join("key");
    let query = match direct {
        true => format!("{}&key={}", stage.keep_all_alone(), key.display()),
        false => stage.keep_all().to_owned(),
    };
    let url = stage.url_with("good", &query);
    let writer = stage.start("death::told_writer", 2, &url, &[]);
    stage.tell_all(writer, "write 3");
    let addresses = match direct {
        true => {
            stage.all_heard(writer, "opened");
            listeners(stage.pid(writer, 0))
        }
        false => stage.addresses(),
    };
    assert!(!addresses.is_empty());
    let fabrics = match stage.engine {
        Engine::Stream("rdma") => without_the_endpoint(stage, &addresses),
        _ => Vec::new(),
    };
    for bytes in strange_bytes() {
        for address in &addresses {
            let mut stranger = TcpStream::connect(address).unwrap();
            // It may hang up before it has heard all.
            let _ = stranger.write_all(&bytes);
            let _ = stranger.shutdown(std::net::Shutdown::Write);
            if fabrics.contains(address) {
                // The library may wait for more, and is only asked to survive it.
                continue;
            }
            stranger
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let mut answer = Vec::new();
            // Reset or closed: either way it ends.
            let ended = stranger.read_to_end(&mut answer);
            let kind = ended.as_ref().err().map(std::io::Error::kind);
            assert_ne!(kind, Some(std::io::ErrorKind::WouldBlock), "left hanging");
            assert!(answer.len() <= 512, "{} bytes for a stranger", answer.len());
        }
    }
    if direct {
        let error = with_another_key(stage, &url);
        assert!(error.to_string().contains("key"), "{error}");
    } else {
        lock_out(stage, &url);
    }
    stage.all_heard(writer, "wrote 3");
    let reader = stage.start("groups::plain_reader", 2, &url, &[("steps", 5)]);
    if direct {
        stage.all_heard(reader, "opened");
    }
    stage.tell_all(writer, "write 4");
    stage.all_heard(writer, "wrote 4");
    stage.tell_all(writer, "close");
    stage.ended(reader);
    stage.all_ended();
}

/// Where a process of this host listens.
fn listeners(process: u32) -> Vec<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let sockets: Vec<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| {
            let link = link.to_string_lossy().into_owned();
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    const LISTENING: &str = "0A";
    let of_process = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = fields[3] == LISTENING && sockets.iter().any(|it| it == fields[9]);
        let (_, port) = fields[1].split_once(':').unwrap();
        listens.then(|| format!("127.0.0.1:{}", u16::from_str_radix(port, 16).unwrap()))
    };
    table.lines().skip(1).filter_map(of_process).collect()
}

/// Those of the addresses that the contact file does not name: where libfabric listens.
fn without_the_endpoint(stage: &Stage, addresses: &[String]) -> Vec<String> {
    let contact = std::fs::read(stage.directory().join("good.panta-contact")).unwrap();
    let begin = contact.windows(4).position(|it| it == b"PNTK").unwrap();
    // Its length stands before it.
    let length = contact[..begin]
        .last_chunk()
        .map(|it| u32::from_le_bytes(*it));
    let end = begin + length.unwrap() as usize;
    let ticket = Ticket::from_bytes(&contact[begin..end]).unwrap();
    let is_told = |address: &&String| {
        let told = ticket.addresses.iter();
        told.map(ToString::to_string).any(|it| it == **address)
    };
    let (told, others): (Vec<_>, Vec<_>) = addresses.iter().partition(is_told);
    assert_eq!((told.len(), others.len()), (1, 1), "{addresses:?}");
    others.into_iter().cloned().collect()
}

/// A reader whose contact file tells another key than the writer's.
fn with_another_key(stage: &Stage, url: &str) -> panta::OpenError {
    const CHECKSUM_AT: usize = 16;
    const BODY_AT: usize = 40;
    let directory = stage.directory();
    let mut contact = std::fs::read(directory.join("good.panta-contact")).unwrap();
    let key = std::fs::read(directory.join("key")).unwrap();
    let at = contact.windows(key.len()).position(|it| it == key).unwrap();
    contact[at] ^= 1;
    let checksum = panta_transports::copy::checksum(&contact[BODY_AT..]);
    contact[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    let forged = directory.join("forged.panta-contact");
    std::fs::write(&forged, contact).unwrap();
    std::fs::set_permissions(&forged, std::fs::Permissions::from_mode(0o600)).unwrap();
    let url = url
        .replace("good.panta-contact", "forged.panta-contact")
        .replace("deadline=40s", "deadline=2s");
    Reader::open(&url, Solo, Start::Oldest)
        .map(drop)
        .unwrap_err()
}

/// Readers and writers that hold another key than the servers.
fn lock_out(stage: &Stage, url: &str) {
    let other_key = stage.directory().join("other-key");
    std::fs::copy(stage.directory().join("key"), &other_key).unwrap();
    let mut secret = std::fs::read(&other_key).unwrap();
    *secret.last_mut().unwrap() ^= 1;
    std::fs::write(&other_key, secret).unwrap();
    let key = |path: &std::path::Path| format!("key={}&", path.display());
    let locked_out = url.replace(&key(&stage.directory().join("key")), &key(&other_key));
    assert_ne!(locked_out, url);
    for error in [
        Reader::open(&locked_out, Solo, Start::Oldest)
            .map(drop)
            .unwrap_err(),
        Writer::open(&locked_out, Solo).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains("key"), "{error}");
    }
}
