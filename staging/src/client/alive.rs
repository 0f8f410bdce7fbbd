//! Keeps a home from holding a root dead that computes between two calls.
//!
//! One thread for each open stream, on the root rank only. Nearly always
//! asleep, it does nothing while a call is under way: that one is heard. Where the
//! program makes progress by hand there is no thread: its calls say so, and its waits.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use panta_core::error::Fault;
use panta_transports::coupling::{Away, ByHand};
use panta_transports::time::{Interrupt, Meanwhile, Wait};

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

/// The thread, until dropped; or what is done in its place.
pub(super) enum Keeper {
    #[expect(dead_code, reason = "kept for its drop, which ends the thread")]
    Thread(Thread),
    ByHand(Arc<dyn Hand>),
}

pub(super) struct Thread {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// Progress by hand.
pub(super) trait Hand: Meanwhile {
    /// Says that this side lives, if it is time; whether it comes too late.
    fn progress(&self) -> Option<Away>;
}

struct HandOf<M> {
    driver: Shared<Driver<M>>,
    clock: ByHand,
}

impl<M, Call> Hand for HandOf<M>
where
    M: Machine<Event = ClientEvent<Call>, Action = ClientAction> + Send + 'static,
{
    fn progress(&self) -> Option<Away> {
        self.clock.look();
        let away = self.clock.away();
        // Whoever is held dead is silent from now on.
        if away.is_none()
            && let Ok(mut driver) = self.driver.try_lock()
        {
            driver.tick(&Wait::for_at_most(SEND_LIMIT));
        }
        away
    }
}

impl<M, Call> Meanwhile for HandOf<M>
where
    M: Machine<Event = ClientEvent<Call>, Action = ClientAction> + Send + 'static,
{
    fn meanwhile(&self) {
        self.progress();
    }
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
        Ok(Self::Thread(Thread {
            stop,
            thread: Some(thread),
        }))
    }

    /// One whose [`progress`](Self::progress) is called, and which the waits of this
    /// handle call.
    pub(super) fn by_hand<M, Call>(
        driver: &Shared<Driver<M>>,
        silence: Duration,
        waits: &Interrupt,
    ) -> Self
    where
        M: Machine<Event = ClientEvent<Call>, Action = ClientAction> + Send + 'static,
    {
        let hand = Arc::new(HandOf {
            driver: Arc::clone(driver),
            clock: ByHand::new(silence),
        });
        let beside: Arc<dyn Meanwhile> = Arc::clone(&hand) as _;
        waits.meanwhile(Arc::downgrade(&beside));
        Self::ByHand(hand)
    }

    /// Where progress is made by hand, says that this side lives, if it is time.
    ///
    /// # Errors
    /// [`Fault::Away`] where it comes too late.
    pub(super) fn progress(&self) -> Result<(), Fault> {
        match self {
            Self::Thread(_) => Ok(()),
            Self::ByHand(hand) => hand.progress().map_or(Ok(()), |away| Err(away.into())),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by its hook.
            let _ = thread.join();
        }
    }
}
