//! The one door to clocks: monotonic time, deadlines, interruption.
//!
//! Everything above that waits takes a [`Wait`]: a deadline and an interrupt
//! flag. Nothing above this crate calls `Instant::now`, so that protocols can
//! run in virtual time and so that every wait ends.
//!
//! What it does not do: wall-clock arithmetic. [`wall_clock_ns`] exists to
//! stamp steps, never to decide anything.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest a wait sleeps before it looks at its interrupt flag again.
pub const INTERRUPT_POLL: Duration = Duration::from_millis(50);

/// A point of monotonic time: nanoseconds since this process first asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self::by(libc::CLOCK_MONOTONIC)
    }

    /// The present as of the system's last tick: some milliseconds ago at most, never
    /// ahead of [`Time::now`], and never going back by itself. Costs a fraction of it:
    /// for what is done now and then, which is asked of every step.
    #[must_use]
    pub fn roughly() -> Self {
        Self::by(libc::CLOCK_MONOTONIC_COARSE)
    }

    fn by(clock: libc::clockid_t) -> Self {
        static START: OnceLock<u64> = OnceLock::new();
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // By way of the C library, which finds the fast way also where a debugger has
        // hidden it.
        // SAFETY: the call writes to `time` alone. It fails only for clocks that are none.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        // Monotonic time counts from the system's start: it is never negative, and
        // lasts for centuries.
        let now = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        // The rough one lies behind, also when it is the first that is asked.
        Self(now.saturating_sub(*START.get_or_init(|| now)))
    }

    /// This point moved later by `duration`, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Nanoseconds since 1970, for stamping steps only.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

/// A point in time by which a wait ends, and the length it was made from,
/// which errors print.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Time,
    length: Duration,
}

impl Deadline {
    /// `length` from now.
    #[must_use]
    pub fn after(length: Duration) -> Self {
        Self {
            at: Time::now().after(length),
            length,
        }
    }

    /// The point itself.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// The length this deadline was made from.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Time left; zero once passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.at.since(Time::now())
    }
}

/// How often, at most, a wait asks whether it is to end; see [`Interrupt::asking`].
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What is to be done while something else is waited for, by whoever waits.
pub trait Meanwhile: Send + Sync {
    /// Does it. Must not wait, nor take a lock that somebody may hold who waits.
    fn meanwhile(&self);
}

/// A flag that ends waits early. Clones share the flag; setting it is
/// async-signal-safe.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Flag>);

#[derive(Default)]
struct Flag {
    set: AtomicBool,
    ask: Option<Ask>,
    asked: AtomicU64,
    /// Whether there is anything in `meanwhile`, or was.
    has_meanwhile: AtomicBool,
    meanwhile: Mutex<Vec<Weak<dyn Meanwhile>>>,
}

type Ask = Box<dyn Fn() -> bool + Send + Sync>;

impl fmt::Debug for Interrupt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.0.set.load(Ordering::Acquire);
        formatter.debug_tuple("Interrupt").field(&set).finish()
    }
}

impl Interrupt {
    /// A flag that waits also ask about, on their own threads, every 20 ms at most: once
    /// `ask` says yes, it is set. For languages whose signals are seen by asking.
    #[must_use]
    pub fn asking(ask: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Flag {
            ask: Some(Box::new(ask)),
            ..Flag::default()
        }))
    }

    /// Ends the waits that carry this flag within [`INTERRUPT_POLL`].
    pub fn set(&self) {
        self.0.set.store(true, Ordering::Release);
    }

    /// Takes the flag back, so that later waits run normally.
    pub fn clear(&self) {
        self.0.set.store(false, Ordering::Release);
    }

    /// Waits that carry this flag also do this, [`INTERRUPT_POLL`] apart at most, as long
    /// as it is there.
    pub fn meanwhile(&self, what: Weak<dyn Meanwhile>) {
        let all = self.0.meanwhile.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(what);
        self.0.has_meanwhile.store(true, Ordering::Release);
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.do_meanwhile();
        self.0.set.load(Ordering::Acquire) || self.0.is_set_when_asked()
    }
}

impl Flag {
    fn do_meanwhile(&self) {
        if !self.has_meanwhile.load(Ordering::Acquire) {
            return;
        }
        // Without the lock: what is done may ask again.
        let Ok(all) = self.meanwhile.try_lock().map(|all| all.clone()) else {
            return;
        };
        for one in all.iter().filter_map(Weak::upgrade) {
            one.meanwhile();
        }
    }

    fn is_set_when_asked(&self) -> bool {
        let Some(ask) = &self.ask else { return false };
        let now = Time::now();
        let last = Time(self.asked.load(Ordering::Relaxed));
        if now.since(last) < ASK_EVERY {
            return false;
        }
        self.asked.store(now.0, Ordering::Relaxed);
        let yes = ask();
        if yes {
            self.set.store(true, Ordering::Release);
        }
        yes
    }
}

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The deadline passed; holds the length of the wait.
    Deadline(Duration),
    /// The interrupt flag was set.
    Interrupted,
}

impl fmt::Display for WaitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(length) => write!(formatter, "the deadline of {length:?} passed"),
            Self::Interrupted => formatter.write_str("interrupted"),
        }
    }
}

impl std::error::Error for WaitError {}

/// A deadline and an interrupt flag: what every blocking call is given.
///
/// The time runs from when somebody first asks how much there is: a call that
/// does not come to wait never looks at a clock.
#[derive(Clone, Debug)]
pub struct Wait {
    length: Duration,
    deadline: OnceLock<Deadline>,
    interrupt: Interrupt,
}

impl Wait {
    /// Waits `length` at most, and less if `interrupt` is set.
    #[must_use]
    pub fn new(length: Duration, interrupt: &Interrupt) -> Self {
        Self {
            length,
            deadline: OnceLock::new(),
            interrupt: interrupt.clone(),
        }
    }

    /// Waits `length` at most and cannot be interrupted.
    #[must_use]
    pub fn for_at_most(length: Duration) -> Self {
        Self::new(length, &Interrupt::default())
    }

    /// This wait, or one of `length` from now where that ends earlier; the
    /// interrupt flag stays the same.
    #[must_use]
    pub fn at_most(&self, length: Duration) -> Self {
        let (shorter, whole) = (Deadline::after(length), self.deadline());
        let deadline = if shorter.at < whole.at {
            shorter
        } else {
            whole
        };
        Self {
            length: deadline.length,
            deadline: OnceLock::from(deadline),
            interrupt: self.interrupt.clone(),
        }
    }

    /// When the wait ends.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        *self.deadline.get_or_init(|| Deadline::after(self.length))
    }

    /// The longest the caller may sleep before asking again, at most
    /// [`INTERRUPT_POLL`] and never zero.
    ///
    /// # Errors
    /// [`WaitError`] once the deadline has passed or the flag is set.
    pub fn slice(&self) -> Result<Duration, WaitError> {
        if self.interrupt.is_set() {
            return Err(WaitError::Interrupted);
        }
        let remaining = self.deadline().remaining();
        if remaining.is_zero() {
            return Err(WaitError::Deadline(self.length));
        }
        Ok(remaining.clamp(Duration::from_micros(1), INTERRUPT_POLL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_zero_has_already_ended() {
        let wait = Wait::for_at_most(Duration::ZERO);
        assert_eq!(wait.slice(), Err(WaitError::Deadline(Duration::ZERO)));
    }

    #[test]
    fn rough_time_is_never_ahead_and_comes_along() {
        let began = Time::now();
        let mut last = Time::roughly();
        // Until it has ticked, however long the machine takes for that.
        while last <= began {
            let rough = Time::roughly();
            assert!(rough <= Time::now());
            assert!(rough >= last);
            last = rough;
        }
    }

    #[test]
    fn a_shortened_wait_keeps_the_flag_and_never_gets_longer() {
        let interrupt = Interrupt::default();
        let wait = Wait::new(Duration::from_secs(3600), &interrupt);
        let short = wait.at_most(Duration::ZERO);
        assert_eq!(short.slice(), Err(WaitError::Deadline(Duration::ZERO)));
        let same = wait.at_most(Duration::from_secs(7200));
        assert_eq!(same.deadline().at(), wait.deadline().at());
        interrupt.set();
        assert_eq!(same.slice(), Err(WaitError::Interrupted));
    }

    #[test]
    fn an_interrupt_ends_a_wait_and_can_be_taken_back() {
        let interrupt = Interrupt::default();
        let wait = Wait::new(Duration::from_secs(3600), &interrupt);
        assert_eq!(wait.slice(), Ok(INTERRUPT_POLL));
        interrupt.set();
        assert_eq!(wait.slice(), Err(WaitError::Interrupted));
        interrupt.clear();
        assert_eq!(wait.slice(), Ok(INTERRUPT_POLL));
    }

    #[test]
    fn a_flag_that_asks_is_set_by_a_yes_and_asks_no_oftener_than_it_says() {
        let (asked, yes) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, answer) = (Arc::clone(&asked), Arc::clone(&yes));
        let interrupt = Interrupt::asking(move || {
            count.fetch_add(1, Ordering::Relaxed);
            answer.load(Ordering::Relaxed)
        });
        let wait = Wait::new(Duration::from_secs(3600), &interrupt);
        let began = Time::now();
        while Time::now().since(began) < ASK_EVERY * 3 {
            assert_eq!(wait.slice(), Ok(INTERRUPT_POLL));
        }
        let least = asked.load(Ordering::Relaxed);
        assert!(
            (1..=4).contains(&least),
            "asked {least} times in {:?}",
            ASK_EVERY * 3
        );
        yes.store(true, Ordering::Relaxed);
        while wait.slice().is_ok() {}
        yes.store(false, Ordering::Relaxed);
        assert!(interrupt.is_set(), "a yes holds until the flag is cleared");
        interrupt.clear();
        assert!(!interrupt.is_set());
    }
}
