//! The bare server: holds steps between a writer's and a reader's TCP connection.
//!
//! It does what a staging server must at least do: take a whole step in, say that
//! it is held, and hand it out when asked. Four steps are held at most; memory is
//! used again.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Doing};
use crate::process::say;
use crate::server::{Counts, answer_until_end};

/// Steps held at most, as many as servers keep by default.
const HELD_LIMIT: usize = 4;
/// The largest step, in bytes.
const STEP_LIMIT_BYTES: u64 = 1 << 32;
/// The longest answer to a request, in bytes.
const ECHO_LIMIT_BYTES: u64 = 1 << 24;

/// What a relay says first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// Where it listens.
    pub(crate) address: String,
}

#[derive(Default)]
struct Held {
    steps: VecDeque<([u8; 8], Vec<u8>)>,
    unused: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Shelf {
    held: Mutex<Held>,
    changed: Condvar,
}

/// Serves one writer and one reader until standard input ends.
pub(crate) fn run() -> Result<(), BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").doing("listen")?;
    let address = listener.local_addr().doing("listen")?.to_string();
    say(&Listening { address })?;
    let shelf = Arc::new(Shelf::default());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let shelf = Arc::clone(&shelf);
            std::thread::spawn(move || serve(stream, &shelf));
        }
    });
    answer_until_end(Counts::default)
}

/// Serves a connection until its other end closes it.
fn serve(mut stream: TcpStream, shelf: &Shelf) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut side = [0];
    stream.read_exact(&mut side)?;
    loop {
        match side[0] {
            b'w' => shelf.take_in(&mut stream)?,
            b'e' => echo(&mut stream)?,
            _ => shelf.hand_out(&mut stream)?,
        }
    }
}

/// Answers a request of 64 bytes, the first 8 of which say how many bytes to answer.
fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut answer = Vec::new();
    loop {
        let mut request = [0; 64];
        stream.read_exact(&mut request)?;
        let (length, _) = request.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        if length > ECHO_LIMIT_BYTES {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        answer.resize(length as usize, 0);
        stream.write_all(&answer)?;
    }
}

impl Shelf {
    fn take_in(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let (mut stamp_ns, mut length) = ([0; 8], [0; 8]);
        stream.read_exact(&mut stamp_ns)?;
        stream.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > STEP_LIMIT_BYTES {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut step = self.lock().unused.pop().unwrap_or_default();
        step.resize(length as usize, 0);
        stream.read_exact(&mut step)?;
        let held = self.lock();
        let full = |held: &mut Held| held.steps.len() >= HELD_LIMIT;
        let mut held =
            (self.changed.wait_while(held, full)).unwrap_or_else(PoisonError::into_inner);
        held.steps.push_back((stamp_ns, step));
        drop(held);
        self.changed.notify_all();
        stream.write_all(b".")
    }

    fn hand_out(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.read_exact(&mut [0])?;
        let mut held = self.lock();
        let (stamp_ns, step) = loop {
            if let Some(step) = held.steps.pop_front() {
                break step;
            }
            held = self
                .changed
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(held);
        self.changed.notify_all();
        stream.write_all(&stamp_ns)?;
        stream.write_all(&step)?;
        self.lock().unused.push(step);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
