//! Whoever makes progress by hand has no thread that says that it lives: its program's
//! calls do, and find out here that it stayed away for longer than it had declared.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::coupling::Away;
use crate::time::Time;

/// Signs of life in the time that was declared: as an endpoint gives them.
const BEATS_A_SILENCE: u32 = 3;

/// When a program that makes progress by hand was last here, and last said so.
#[derive(Debug)]
pub struct ByHand {
    silence: Duration,
    /// When the program was last here.
    last: AtomicU64,
    /// When it last said so.
    said: AtomicU64,
    away: OnceLock<Away>,
}

/// What a look at the clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing is due.
    Nothing,
    /// A sign of life is.
    Due,
    /// The program comes too late; said once.
    Away(Away),
}

impl ByHand {
    /// One that is here now, and may stay away for so long.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        let now = Time::now().0;
        Self {
            silence,
            last: AtomicU64::new(now),
            said: AtomicU64::new(now),
            away: OnceLock::new(),
        }
    }

    /// Whether it ever came too late.
    #[must_use]
    pub fn away(&self) -> Option<Away> {
        self.away.get().copied()
    }

    /// The program is here.
    pub fn look(&self) -> Look {
        self.look_at(Time::now())
    }

    fn look_at(&self, now: Time) -> Look {
        let last = Time(self.last.swap(now.0, Ordering::Relaxed));
        if let Some(away) = Away::since(last, now, self.silence) {
            return match self.away.set(away) {
                Ok(()) => Look::Away(away),
                Err(_) => Look::Nothing,
            };
        }
        let said = Time(self.said.load(Ordering::Relaxed));
        if now.since(said) < self.silence / BEATS_A_SILENCE {
            return Look::Nothing;
        }
        self.said.store(now.0, Ordering::Relaxed);
        Look::Due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_comes_often_enough_says_so_now_and_then_and_who_does_not_is_away_once() {
        let silence = SECOND * 9;
        let by_hand = ByHand::new(silence);
        let begin = Time(by_hand.last.load(Ordering::Relaxed));
        let at = |seconds| begin.after(SECOND * seconds);
        assert_eq!(by_hand.look_at(at(2)), Look::Nothing);
        assert_eq!(by_hand.look_at(at(4)), Look::Due);
        assert_eq!(by_hand.look_at(at(5)), Look::Nothing);
        // As long as was declared, since the last call.
        assert_eq!(by_hand.look_at(at(14)), Look::Due);
        let away = Away {
            for_: SECOND * 10,
            silence,
        };
        assert_eq!(by_hand.look_at(at(24)), Look::Away(away));
        assert_eq!(by_hand.away(), Some(away));
        assert_ne!(by_hand.look_at(at(35)), Look::Away(away));
    }
}
