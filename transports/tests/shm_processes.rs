//! Shared memory between processes that are killed and stopped at each point
//! of a slot's life, and what is left of them.
//!
//! A test starts this very program again with the name of a play and of the
//! point where it pauses; `child` is what that process runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use panta_transports::region::{Arena, ArenaOptions, Extent};
use panta_transports::shm::{
    Offer, RingError, Rings, Rouse, ShmError, ShmEvent, ShmOptions, ShmRemote, ShmServer,
};
use panta_transports::time::{Time, Wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

const PLAY_VARIABLE: &str = "PANTA_TEST_PLAY";
const POINT_VARIABLE: &str = "PANTA_TEST_POINT";

/// What a wait may take that is ended by a death; none should come near.
const LONG: Duration = Duration::from_secs(60);
const STEP_BYTES: usize = 5 << 20;
const LARGE_FRAME_BYTES: usize = 1 << 20;
const MARK: u8 = 0x5a;

fn long() -> Wait {
    Wait::for_at_most(LONG)
}

fn short() -> Wait {
    Wait::for_at_most(Duration::from_millis(60))
}

fn say(line: &str) {
    // Starts a line, since libtest may have begun one.
    println!("\nchild:{line}");
    std::io::stdout().flush().unwrap();
}

fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len() / 2).map(|at| &text[2 * at..2 * at + 2]);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn arena() -> Arena {
    Arena::new(ArenaOptions {
        limit_bytes: 1 << 30,
        shared: true,
    })
}

fn wait_for(fd: BorrowedFd<'_>) {
    let slice = Timespec::try_from(Duration::from_millis(50)).unwrap();
    let _ = poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        Some(&slice),
    );
}

fn event(server: &ShmServer) -> ShmEvent {
    let end = Time::now().after(LONG);
    while Time::now() < end {
        if let Some(event) = server.handle().pop() {
            return event;
        }
        wait_for(server.as_fd());
    }
    panic!("nothing came");
}

fn join(server: &ShmServer) -> Rings {
    match event(server) {
        ShmEvent::Joined { rings, .. } => rings.unwrap(),
        ShmEvent::Lost { why, .. } => panic!("{why}"),
    }
}

/// Where the bytes of an extent are, as it is announced.
fn announcement(extent: &Extent) -> Vec<u8> {
    let mut bytes = extent.region().to_le_bytes().to_vec();
    bytes.extend_from_slice(&extent.offset().to_le_bytes());
    bytes.extend_from_slice(&(extent.bytes() as u64).to_le_bytes());
    bytes
}

fn place(announced: &[u8]) -> (u32, u64, usize) {
    let region = u32::from_le_bytes(announced[..4].try_into().unwrap());
    let offset = u64::from_le_bytes(announced[4..12].try_into().unwrap());
    let bytes = u64::from_le_bytes(announced[12..20].try_into().unwrap());
    (region, offset, bytes as usize)
}

/// One side of a play; does nothing unless started as one.
#[test]
fn child() {
    let Ok(play) = std::env::var(PLAY_VARIABLE) else {
        return;
    };
    let point = std::env::var(POINT_VARIABLE).unwrap().parse().unwrap();
    match play.as_str() {
        "writer" => writer(point),
        "reader" => reader(point),
        "echo" => echo(),
        "leaks" => leaks(),
        other => panic!("no play is named {other}"),
    }
}

/// Says that it has come to the point, and waits there to be ended.
fn pause(here: u32, point: u32) {
    if here == point {
        say("there");
        hear();
    }
}

const WRITER_POINTS: u32 = 8;

/// The life of a slot, at its owner.
fn writer(point: u32) {
    let arena = arena();
    let server = ShmServer::open(&arena, ShmOptions::default()).unwrap();
    let offer = server.offer(1, true).unwrap();
    say(&to_hex(&offer.to_bytes()));
    pause(0, point); // connected at most
    let mut rings = join(&server);
    pause(1, point); // joined
    let mut extent = arena.allocate(STEP_BYTES).unwrap();
    extent.as_mut_slice()[..STEP_BYTES / 2].fill(MARK);
    pause(2, point); // being written
    extent.as_mut_slice().fill(MARK);
    let announced = announcement(&extent);
    assert!(
        rings
            .writer
            .try_send(&[&announced], Rouse::Sleeper)
            .unwrap()
    );
    pause(3, point); // announced
    let large = vec![0; LARGE_FRAME_BYTES];
    let mut sent = 0;
    assert!(
        !rings
            .writer
            .try_stream(&[&large], &mut sent, Rouse::Sleeper)
            .unwrap()
    );
    pause(4, point); // part of a frame is out
    let mut claimed = Vec::new();
    let done = rings
        .reader
        .receive(&mut claimed, Duration::ZERO, &long(), None);
    done.unwrap();
    pause(5, point); // mapped and claimed
    arena.retire(extent.region());
    pause(6, point); // retired while claimed
    drop(extent);
    pause(7, point); // given up here
}

const READER_POINTS: u32 = 6;

/// The life of a slot, at a process that reads it.
fn reader(point: u32) {
    let offer = Offer::from_bytes(&from_hex(&hear())).unwrap();
    pause(0, point); // knows where
    let (remote, rings) =
        ShmRemote::connect(&offer, true, &ShmOptions::default(), &long()).unwrap();
    let mut rings = rings.unwrap();
    pause(1, point); // joined
    let mut announced = Vec::new();
    let received = rings
        .reader
        .receive(&mut announced, Duration::ZERO, &long(), None);
    received.unwrap();
    pause(2, point); // has heard of the step
    let (region, offset, bytes) = place(&announced);
    let mapped = remote.map(region, offset, bytes, &long()).unwrap();
    assert!(mapped.iter().all(|byte| *byte == MARK));
    pause(3, point); // has it mapped
    if point >= 5 {
        say("mapped");
    }
    let large = vec![0; LARGE_FRAME_BYTES];
    let mut sent = 0;
    assert!(
        !rings
            .writer
            .try_stream(&[&large], &mut sent, Rouse::Sleeper)
            .unwrap()
    );
    pause(4, point); // part of a frame is out
    let end = Time::now().after(LONG);
    while remote.regions() > 0 {
        assert!(Time::now() < end, "the region stays");
        wait_for(remote.as_fd());
        remote.drain().unwrap();
    }
    pause(5, point); // knows that it is retired, and looks at it still
    drop(mapped);
}

/// A child, ended when dropped.
struct Actor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Actor {
    fn start(play: &str, point: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(PLAY_VARIABLE, play)
            .env(POINT_VARIABLE, point.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some(said) = line.trim().strip_prefix("child:") {
                return said.to_owned();
            }
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap();
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a reader can still do when the writer has come to `point` and is dead.
fn after_writer(
    point: u32,
    remote: &ShmRemote,
    rings: &mut Rings,
    step: Option<(u32, u64, usize)>,
) {
    let mut into = Vec::new();
    let mut step = step;
    if point >= 3 && step.is_none() {
        // Announced before it died: it arrives, and its bytes are there.
        rings
            .reader
            .receive(&mut into, Duration::ZERO, &long(), None)
            .unwrap();
        step = Some(place(&into));
    }
    if let Some((region, offset, bytes)) = step
        && point < 6
    {
        let mapped = remote.map(region, offset, bytes, &long()).unwrap();
        assert!(mapped.iter().all(|byte| *byte == MARK));
    }
    let error = rings
        .reader
        .receive(&mut into, Duration::ZERO, &long(), None);
    assert!(matches!(error, Err(RingError::Died)), "{point}: {error:?}");
    let large = vec![0; LARGE_FRAME_BYTES];
    let error = rings.writer.send(&[&large], Rouse::Anyone, &long());
    assert!(matches!(error, Err(RingError::Died)), "{point}: {error:?}");
    let error = remote.map(999, 0, 1, &long()).unwrap_err();
    assert!(matches!(error, ShmError::Lost), "{point}: {error}");
}

fn play_writer(point: u32, stop_first: bool) {
    let mut actor = Actor::start("writer", point);
    let offer = Offer::from_bytes(&from_hex(&actor.line())).unwrap();
    let options = ShmOptions::default();
    let start = Time::now();
    if point == 0 {
        assert_eq!(actor.line(), "there");
        if stop_first {
            actor.signal(Signal::STOP);
            let error = ShmRemote::connect(&offer, true, &options, &short());
            assert!(matches!(error, Err(ShmError::NotReady { .. })), "{error:?}");
        }
        let waiting = std::thread::spawn(move || {
            ShmRemote::connect(&offer, true, &options, &long()).map(drop)
        });
        actor.kill();
        let error = waiting.join().unwrap().unwrap_err();
        let is_clear = matches!(error, ShmError::Lost | ShmError::NotHere { .. });
        assert!(is_clear, "{error}");
        return;
    }
    let (remote, rings) = ShmRemote::connect(&offer, true, &options, &long()).unwrap();
    let mut rings = rings.unwrap();
    let mut step = None;
    let mut kept = None;
    if point >= 5 {
        let mut into = Vec::new();
        rings
            .reader
            .receive(&mut into, Duration::ZERO, &long(), None)
            .unwrap();
        let (region, offset, bytes) = place(&into);
        kept = Some(remote.map(region, offset, bytes, &long()).unwrap());
        step = Some((region, offset, bytes));
        rings
            .writer
            .send(&[b"claimed"], Rouse::Anyone, &long())
            .unwrap();
    }
    assert_eq!(actor.line(), "there");
    if stop_first {
        actor.signal(Signal::STOP);
        let mut into = Vec::new();
        if point == 3 || point == 4 {
            rings
                .reader
                .receive(&mut into, Duration::ZERO, &long(), None)
                .unwrap();
            step = Some(place(&into));
        }
        let error = rings
            .reader
            .receive(&mut into, Duration::ZERO, &short(), None);
        assert!(
            matches!(error, Err(RingError::Wait { .. })),
            "{point}: {error:?}"
        );
        let error = remote.map(999, 0, 1, &short()).unwrap_err();
        assert!(
            matches!(error, ShmError::NotReady { .. }),
            "{point}: {error}"
        );
    }
    actor.kill();
    after_writer(point, &remote, &mut rings, step);
    if let Some(mapped) = kept {
        assert!(mapped.iter().all(|byte| *byte == MARK), "{point}");
    }
    assert!(
        Time::now().since(start) < LONG / 2,
        "a wait took all its time"
    );
}

#[test]
fn a_writer_killed_at_any_point_leaves_what_it_announced_and_is_noticed_at_once() {
    for point in 0..WRITER_POINTS {
        play_writer(point, false);
    }
}

#[test]
fn a_writer_stopped_at_any_point_holds_a_reader_no_longer_than_its_deadlines() {
    for point in 0..WRITER_POINTS {
        play_writer(point, true);
    }
}

fn play_reader(point: u32, stop_first: bool) {
    let mut actor = Actor::start("reader", point);
    let arena = arena();
    let server = ShmServer::open(&arena, ShmOptions::default()).unwrap();
    let offer = server.offer(1, true).unwrap();
    actor.tell(&to_hex(&offer.to_bytes()));
    let mut rings = (point >= 1).then(|| join(&server));
    let mut extent = arena.allocate(STEP_BYTES).unwrap();
    extent.as_mut_slice().fill(MARK);
    let region = extent.region();
    if let Some(rings) = &mut rings
        && point >= 2
    {
        let announced = announcement(&extent);
        assert!(rings.writer.try_send(&[&announced], Rouse::Anyone).unwrap());
    }
    let mut extent = Some(extent);
    if point >= 5 {
        assert_eq!(actor.line(), "mapped");
        arena.retire(region);
        // Given up here, while it is looked at there: the test's own doing.
        extent = None;
    }
    assert_eq!(actor.line(), "there");
    if point >= 5 {
        server.handle();
        assert!(server.lingering_bytes() > 0);
    }
    let mut into = Vec::new();
    if stop_first {
        actor.signal(Signal::STOP);
        // Nothing that the owner of the memory does waits for it.
        assert!(server.handle().is_empty());
        if let Some(rings) = &mut rings {
            while rings.writer.try_send(&[&[1; 1000]], Rouse::Anyone).unwrap() {}
            assert!(!rings.reader.try_receive(&mut into).unwrap());
        }
        drop(arena.allocate(STEP_BYTES).unwrap());
    }
    actor.kill();
    if let Some(rings) = &mut rings {
        assert!(
            matches!(event(&server), ShmEvent::Lost { number: 1, .. }),
            "{point}"
        );
        assert!(!rings.reader.try_receive(&mut into).unwrap());
        while rings.writer.try_send(&[&[1; 1000]], Rouse::Anyone).unwrap() {}
    } else {
        assert!(server.handle().is_empty());
    }
    // Nobody looks at it any more.
    arena.retire(region);
    drop(extent);
    assert_eq!(server.lingering_bytes(), 0);
    assert!(arena.region(region).is_none());
}

#[test]
fn a_reader_killed_at_any_point_is_noticed_and_costs_its_writer_nothing() {
    for point in 0..READER_POINTS {
        play_reader(point, false);
    }
}

#[test]
fn a_reader_stopped_at_any_point_holds_its_writer_nowhere() {
    for point in 0..READER_POINTS {
        play_reader(point, true);
    }
}

#[test]
fn what_a_stopped_reader_has_mapped_is_charged_though_it_was_cut_off_until_it_has_ended() {
    let mut actor = Actor::start("reader", 3);
    let arena = arena();
    let server = ShmServer::open(&arena, ShmOptions::default()).unwrap();
    let offer = server.offer(1, true).unwrap();
    actor.tell(&to_hex(&offer.to_bytes()));
    let mut rings = join(&server);
    let mut extent = arena.allocate(STEP_BYTES).unwrap();
    extent.as_mut_slice().fill(MARK);
    let announced = announcement(&extent);
    assert!(rings.writer.try_send(&[&announced], Rouse::Anyone).unwrap());
    assert_eq!(actor.line(), "there");
    actor.signal(Signal::STOP);
    // More comes and goes than its socket and the queue behind it take.
    for _ in 0..5000 {
        let small = arena.allocate(10).unwrap();
        arena.retire(small.region());
    }
    let ShmEvent::Lost { number: 1, why } = event(&server) else {
        panic!("it is not cut off");
    };
    assert!(matches!(why, ShmError::Misbehaved { .. }), "{why}");
    arena.retire(extent.region());
    drop(extent);
    assert!(server.lingering_bytes() >= STEP_BYTES as u64);
    assert_eq!(arena.lingering_bytes(), server.lingering_bytes());
    actor.kill();
    let end = Time::now().after(LONG);
    while server.lingering_bytes() > 0 {
        assert!(Time::now() < end, "it is charged for good");
        wait_for(server.as_fd());
        assert!(server.handle().is_empty());
    }
    assert_eq!(arena.lingering_bytes(), 0);
}

/// The bytes of a frame, from its number: any length, now and then one that is
/// larger than the ring.
fn frame(number: u64) -> Vec<u8> {
    let start = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = match number % 97 {
        96 => 20_000 + start % 50_000,
        _ => start % 400,
    };
    (0..bytes)
        .map(|at| (start.wrapping_add(at * 131) >> 9) as u8)
        .collect()
}

const FRAMES: u64 = 20_000;

fn small_ring() -> ShmOptions {
    ShmOptions {
        ring_bytes: 8192,
        ..ShmOptions::default()
    }
}

/// Whether a side looks for a while first, which changes now and then.
fn spin(number: u64) -> Duration {
    Duration::from_micros(number / 64 % 3 * 30)
}

fn echo() {
    let offer = Offer::from_bytes(&from_hex(&hear())).unwrap();
    let (_remote, rings) = ShmRemote::connect(&offer, true, &small_ring(), &long()).unwrap();
    let mut rings = rings.unwrap();
    let mut into = Vec::new();
    for number in 0..FRAMES {
        rings
            .reader
            .receive(&mut into, spin(number), &long(), None)
            .unwrap();
        assert!(into == frame(number), "frame {number}");
        if number % 3 == 0 {
            rings
                .writer
                .send(&[&into], Rouse::Sleeper, &long())
                .unwrap();
        }
    }
    say("all");
    hear();
}

#[test]
fn every_byte_of_many_frames_between_two_processes_arrives() {
    let mut actor = Actor::start("echo", 0);
    let arena = arena();
    let server = ShmServer::open(&arena, small_ring()).unwrap();
    let offer = server.offer(1, true).unwrap();
    actor.tell(&to_hex(&offer.to_bytes()));
    let Rings {
        mut writer,
        mut reader,
    } = join(&server);
    let sending = std::thread::spawn(move || {
        for number in 0..FRAMES {
            writer
                .send(&[&frame(number)], Rouse::Sleeper, &long())
                .unwrap();
        }
        writer
    });
    let mut into = Vec::new();
    for number in (0..FRAMES).step_by(3) {
        reader
            .receive(&mut into, spin(number / 5), &long(), None)
            .unwrap();
        assert!(into == frame(number), "frame {number}");
    }
    sending.join().unwrap();
    assert_eq!(actor.line(), "all");
}

/// Descriptors and mappings of this process that are ours, or may be.
fn held() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mappings = maps.lines().filter(|line| line.contains("memfd:panta"));
    (descriptors, mappings.count())
}

fn leaks() {
    let once = || {
        let arena = arena();
        let server = ShmServer::open(&arena, ShmOptions::default()).unwrap();
        let offer = server.offer(1, true).unwrap();
        let remote = std::thread::spawn(move || {
            ShmRemote::connect(&offer, true, &ShmOptions::default(), &long()).unwrap()
        });
        let rings = join(&server);
        let (remote, theirs) = remote.join().unwrap();
        let extents = [100, STEP_BYTES].map(|bytes| arena.allocate(bytes).unwrap());
        for extent in &extents {
            let mapped = remote.map(extent.region(), extent.offset(), extent.bytes(), &long());
            mapped.unwrap();
        }
        // Whichever goes first.
        drop((extents, rings, remote, theirs, server));
    };
    once();
    let before = held();
    for _ in 0..30 {
        once();
    }
    assert_eq!(held(), before);
    assert_eq!(before.1, 0);
    say("none");
    hear();
}

#[test]
fn no_descriptor_or_mapping_is_left() {
    assert_eq!(Actor::start("leaks", 0).line(), "none");
}

/// What a process has open or mapped that has a name in a file system of
/// memory, and what of it is in none.
fn shared_by(id: u32) -> (Vec<String>, usize) {
    let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    let links = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    let links = links.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap());
    let mut names: Vec<String> = links.map(|path| path.display().to_string()).collect();
    names.extend(maps.lines().map(str::to_owned));
    let nameless = names.iter().filter(|name| name.contains("/memfd:panta"));
    let nameless = nameless.count();
    names.retain(|name| name.contains("/dev/shm"));
    (names, nameless)
}

/// Not by looking for files, which others on the machine may make: what never
/// had a name cannot be left behind, whenever the process is killed.
#[test]
fn shared_memory_never_has_a_name_in_a_file_system() {
    let mut actor = Actor::start("writer", 3);
    let offer = Offer::from_bytes(&from_hex(&actor.line())).unwrap();
    let options = ShmOptions::default();
    let connected = ShmRemote::connect(&offer, true, &options, &long()).unwrap();
    assert_eq!(actor.line(), "there");
    let (named, nameless) = shared_by(actor.child.id());
    assert_eq!(named, Vec::<String>::new());
    assert!(nameless > 0, "nothing is shared at all");
    drop(connected);
}
