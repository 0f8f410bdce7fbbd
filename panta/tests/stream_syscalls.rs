//! What a step of a stream over shared memory asks of the system: nothing, as long as
//! nobody sleeps, and to wake who does, once.
//!
//! The test runs itself again and follows that process's first thread from system call to
//! system call. What that thread does by the clock (it notes how far it is, and looks
//! whether another writer has come) is not in every step: medians count.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ndarray::Array1;
use panta::{Reader, Shape, Solo, Start, StepTime, Var, Writer};
use panta_transports::time::Time;

/// `PTRACE_SYSCALL_INFO_ENTRY`.
const ENTRY: u8 = 1;

/// Says which of the cases a process is to run, and be followed in.
const CASE: &str = "PANTA_TEST_SYSCALLS_OF";
const STEPS: u64 = 200;
/// How long a case may take, and a reader to fall asleep.
const DEADLINE: Duration = Duration::from_secs(60);

/// A case: what it is called, what runs, and how many system calls a step may make.
struct Case {
    name: &'static str,
    run: fn(&str),
    most: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "a_written_step_makes_no_system_call",
        run: |url| in_turn(url, true),
        most: 0,
    },
    Case {
        name: "a_step_that_is_there_is_read_without_a_system_call",
        run: |url| in_turn(url, false),
        most: 0,
    },
    Case {
        name: "a_step_for_a_reader_that_sleeps_makes_one_system_call",
        run: for_one_that_sleeps,
        most: 1,
    },
    Case {
        name: "what_is_counted_is_there_to_be_counted",
        run: |_| {
            for _ in 0..STEPS {
                mark();
                thread::yield_now();
                thread::yield_now();
            }
            mark();
        },
        most: 2,
    },
];

/// Divides what is followed into steps.
fn mark() {
    // SAFETY: it takes nothing and gives a number.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn open(url: &str) -> (Writer, Var<f64>, Reader) {
    let mut writer = Writer::open(url, Solo).unwrap();
    let u = writer.define::<f64>("u", Shape::global([128])).unwrap();
    let reader = Reader::open(url, Solo, Start::Oldest).unwrap();
    (writer, u, reader)
}

fn write(writer: &mut Writer, variable: Var<f64>, values: &Array1<f64>) {
    let step = writer.begin_step(StepTime::default()).unwrap();
    step.put(variable, &[0], values).unwrap();
    step.end().unwrap();
}

fn read(reader: &mut Reader, into: &mut Array1<f64>) {
    let step = reader.next_step().unwrap().unwrap();
    step.get_into("u", .., into.view_mut()).unwrap();
}

/// Writer and reader on one thread, which never wait; marks are around one of them.
fn in_turn(url: &str, around_writer: bool) {
    let (mut writer, u, mut reader) = open(url);
    let mut values = Array1::zeros(128);
    for step in 0..STEPS {
        let filled = Array1::from_elem(128, step as f64);
        if around_writer {
            mark();
            write(&mut writer, u, &filled);
            mark();
            read(&mut reader, &mut values);
        } else {
            write(&mut writer, u, &filled);
            mark();
            read(&mut reader, &mut values);
            mark();
        }
        assert_eq!(values, filled);
    }
}

/// The writer on this thread; the reader on another, which sleeps at once when there is
/// nothing to read. No step is written before the last was read.
fn for_one_that_sleeps(url: &str) {
    let (mut writer, u, mut reader) = open(&format!("{url}&spin=0us"));
    let values = Array1::from_elem(128, 1.0);
    let (seen, number) = (AtomicU64::new(0), AtomicI32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: it takes nothing and gives a number.
            number.store(unsafe { libc::gettid() }, Ordering::Release);
            let mut into = Array1::zeros(128);
            for step in 1..=STEPS {
                read(&mut reader, &mut into);
                seen.store(step, Ordering::Release);
            }
        });
        for step in 1..=STEPS {
            let until = Time::now().after(DEADLINE);
            while !is_asleep(number.load(Ordering::Acquire)) {
                assert!(Time::now() < until, "the reader does not fall asleep");
            }
            mark();
            write(&mut writer, u, &values);
            mark();
            while seen.load(Ordering::Acquire) < step {
                std::hint::spin_loop();
            }
        }
    });
}

/// Whether a thread of this process sleeps, as the system says.
fn is_asleep(thread: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    let status = status.unwrap_or_default();
    // The state comes after the name, which may hold anything but is in brackets.
    let state = status.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| state.starts_with('S'))
}

/// How many system calls the first thread of a case made between each mark and the next.
#[expect(
    clippy::zombie_processes,
    reason = "it is waited for by its number, as whoever follows a process does"
)]
fn follow(case: &Case) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CASE, case.name).stdin(Stdio::null());
    // SAFETY: the call is one that may be made between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let child = command.spawn().unwrap();
    let process = libc::pid_t::try_from(child.id()).unwrap();
    let (mut counts, mut count) = (Vec::new(), 0);
    let mut is_first_stop = true;
    loop {
        let mut status = 0;
        // SAFETY: the process is a child of this one, and traced by it.
        let waited = unsafe { libc::waitpid(process, &raw mut status, libc::__WALL) };
        assert_eq!(waited, process, "{}", std::io::Error::last_os_error());
        if libc::WIFEXITED(status) {
            assert_eq!(libc::WEXITSTATUS(status), 0, "{} failed", case.name);
            return counts;
        }
        assert!(libc::WIFSTOPPED(status), "{} was killed", case.name);
        let mut signal = libc::WSTOPSIG(status);
        if std::mem::take(&mut is_first_stop) {
            // It is about to begin: from now on stops at system calls are told from others.
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
            // SAFETY: as above; it is stopped.
            let set = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, process, 0, options) };
            assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
            signal = 0;
        } else if signal == libc::SIGTRAP | 0x80 {
            signal = 0;
            match entering(process) {
                Some(number) if number == libc::SYS_getppid as u64 => {
                    counts.push(std::mem::take(&mut count));
                }
                Some(_) => count += 1,
                None => {}
            }
        }
        // SAFETY: as above; it is stopped.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, process, 0, signal) };
    }
}

/// What the system says of a process that is stopped at a call, as far as is asked for.
#[repr(C)]
#[derive(Default)]
struct Stopped {
    /// [`ENTRY`], or something else.
    kind: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction: u64,
    stack: u64,
    number: u64,
}

/// The number of the system call that is about to be made; `None` where one was made.
fn entering(process: libc::pid_t) -> Option<u64> {
    let mut stopped = Stopped::default();
    // SAFETY: the process is stopped, and as many bytes are written as there is room for.
    let bytes = unsafe {
        libc::ptrace(
            libc::PTRACE_GET_SYSCALL_INFO,
            process,
            size_of::<Stopped>(),
            &raw mut stopped,
        )
    };
    assert!(bytes > 0, "{}", std::io::Error::last_os_error());
    (stopped.kind == ENTRY).then_some(stopped.number)
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let contact = directory.path().join("contact");
    let url = format!("stream:calls?contact={}&transport=shm", contact.display());
    if let Ok(name) = std::env::var(CASE) {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        (case.run)(&url);
        return;
    }
    for case in CASES {
        let counts = follow(&case);
        // What lies before the first mark of a pair is not asked for; the first steps,
        // which make what later ones use again, are not either.
        let counts: Vec<u64> = match case.name {
            "what_is_counted_is_there_to_be_counted" => counts[1..].to_vec(),
            _ => counts.chunks(2).skip(20).map(|pair| pair[1]).collect(),
        };
        let mut sorted = counts.clone();
        sorted.sort_unstable();
        let median = sorted[sorted.len() / 2];
        assert!(
            counts.len() as u64 >= STEPS - 20 && median == case.most,
            "{}: {median} in the median of {counts:?}",
            case.name
        );
        println!("test {} ... ok ({median} a step)", case.name);
    }
}
