//! Keeps a home from holding a root dead that computes between two calls.
//!
//! One thread for each open stream, on the root rank only. Nearly always
//! asleep, it does nothing while a call is under way: that one is heard.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use panta_transports::time::Wait;

use super::driver::Driver;
use super::shared::{Shared, lock};
use crate::proto::Machine;
use crate::proto::client::{ClientAction, ClientEvent};

/// The machine speaks every third of its lease; the thread looks thrice as often.
const LOOKS_PER_LEASE: u32 = 9;
/// Between two looks at the least.
const LOOK_MIN: Duration = Duration::from_millis(10);
/// The longest one sign of life may take.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// The thread, until dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// # Errors
    /// Where the system has no thread.
    pub(super) fn start<M, Call>(driver: &Shared<Driver<M>>, lease: Duration) -> io::Result<Self>
    where
        M: Machine<Event = ClientEvent<Call>, Action = ClientAction> + Send + 'static,
    {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (told, driver) = (Arc::clone(&stop), Arc::clone(driver));
        let period = (lease / LOOKS_PER_LEASE).max(LOOK_MIN);
        let thread = std::thread::Builder::new()
            .name("panta-alive".into())
            .stack_size(256 << 10)
            .spawn(move || {
                let (flag, condition) = &*told;
                loop {
                    let stopped = condition
                        .wait_timeout_while(lock(flag), period, |stopped| !*stopped)
                        .unwrap_or_else(PoisonError::into_inner);
                    if *stopped.0 {
                        return;
                    }
                    drop(stopped);
                    if let Ok(mut driver) = driver.try_lock() {
                        driver.tick(&Wait::for_at_most(SEND_LIMIT));
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by its hook.
            let _ = thread.join();
        }
    }
}
