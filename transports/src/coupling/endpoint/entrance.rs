//! Who comes in: connections that have proven nothing yet, so many at once and no more.
//!
//! ```text
//!   the system's backlog ──> half open, at most so many ──hello──> a connection
//!                                      └── nothing said ──> closed
//! ```
//! Where all places are taken the next one waits in the backlog, with its hello, until
//! one is free. Who has a place and says nothing has it for [`PLACE_LIMIT`] where somebody
//! waits for it, and for [`HANDSHAKE_LIMIT`] else. So peers that come in the same moment all
//! get in, one after the other, and strangers keep nobody away for long.

use std::time::Duration;

use rustix::event::epoll;

use super::connection::Connection;
use super::reactor::{JOIN_LIMIT, Reactor};
use crate::channel::{Accepting, ChannelError, HANDSHAKE_LIMIT};
use crate::time::{Time, Wait};

/// How long a connection may say nothing while others wait for its place: an honest peer
/// sends its hello with its connection.
const PLACE_LIMIT: Duration = Duration::from_millis(250);

/// How long nothing is accepted after the system had no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that has proven nothing.
pub(super) struct HalfOpen {
    accepting: Accepting,
    since: Time,
    pub(super) until: Time,
}

impl Reactor {
    pub(super) fn accept(&mut self, listener: usize) {
        loop {
            if let Err(again) = self.find_place() {
                return self.pause_accepting(again);
            }
            let Some(listener) = self.listeners.get(listener) else {
                return;
            };
            let pending = match listener.accept(&Wait::for_at_most(Duration::ZERO)) {
                Ok(pending) => pending,
                Err(ChannelError::Wait { .. }) => return,
                Err(error) => {
                    // The system has no descriptor left, and would say so again at once.
                    self.refuse("a connection", &error.to_string());
                    return self.pause_accepting(self.now.after(ACCEPT_PAUSE));
                }
            };
            let token = self.next_token;
            self.next_token += 1;
            let accepting = Accepting::new(pending);
            let watched = accepting.fd().map(|fd| self.watch(fd, token));
            if !matches!(watched, Some(Ok(()))) {
                continue;
            }
            let half_open = HalfOpen {
                accepting,
                since: Time::now(),
                until: self.now.after(HANDSHAKE_LIMIT + self.absence()),
            };
            self.half_open.insert(token, half_open);
            // What it says first has often come with it.
            self.shake_hands(token);
        }
    }

    fn is_full(&self) -> bool {
        self.half_open.len() >= self.shared.options.limits.half_open as usize
    }

    /// Sees to it that there is a place for one more, or says when there will be.
    fn find_place(&mut self) -> Result<(), Time> {
        if !self.is_full() {
            return Ok(());
        }
        let oldest = self.half_open.first_key_value().map(|(token, _)| *token);
        // It may have spoken while this side was busy.
        oldest.into_iter().for_each(|token| self.shake_hands(token));
        if !self.is_full() {
            return Ok(());
        }
        let oldest = self.half_open.first_entry();
        let Some(oldest) = oldest else { return Ok(()) };
        let again = oldest.get().since.after(PLACE_LIMIT);
        if again > self.now {
            return Err(again);
        }
        // Counted before it is closed, which its other side sees.
        let silent = oldest.remove();
        self.refuse("a half-open connection", "there are too many of them");
        drop(silent);
        Ok(())
    }

    /// Whoever comes waits in the backlog until then.
    fn pause_accepting(&mut self, again: Time) {
        for listener in &self.listeners {
            // It is watched, or was not: either will do.
            let _ = epoll::delete(&self.shared.epoll, listener);
        }
        self.accept_again = Some(again);
    }

    /// A place is free: whoever waits for it need not wait longer.
    fn has_place(&mut self) {
        if let Some(again) = &mut self.accept_again {
            *again = self.now.min(*again);
        }
    }

    /// Looks at the listeners again, if it is time.
    pub(super) fn resume_accepting(&mut self) {
        if self.accept_again.is_some_and(|again| again <= self.now) {
            self.accept_again = None;
            if self.watch_listeners().is_err() {
                self.pause_accepting(self.now.after(ACCEPT_PAUSE));
            }
        }
    }

    /// Closes those that said nothing in their time.
    pub(super) fn end_silent(&mut self) {
        while let Some(entry) = self.half_open.first_entry()
            && entry.get().until <= self.now
        {
            // Counted before it is closed, which its other side sees.
            let silent = entry.remove();
            self.refuse("a silent connection", "it did not prove its key in time");
            drop(silent);
            self.has_place();
        }
    }

    pub(super) fn shake_hands(&mut self, token: u64) {
        self.met();
        let Some(half_open) = self.half_open.get_mut(&token) else {
            return;
        };
        let advanced = half_open.accepting.advance(&self.acceptor).transpose();
        let Some(advanced) = advanced else { return };
        self.half_open.remove(&token);
        self.has_place();
        match advanced {
            Ok(channel) => {
                self.connections
                    .insert(token, Connection::new(token, channel));
                let until = self.now.after(JOIN_LIMIT + self.absence());
                self.joining.push_back((until, token));
                // It may have said hello with its last message already.
                self.serve(token, epoll::EventFlags::IN);
            }
            Err(error) => {
                let kind = match error {
                    ChannelError::WrongKey { .. } => "a connection with another key",
                    ChannelError::WrongVersion { .. } => "a connection of another version",
                    ChannelError::EncryptionMismatch { .. } => {
                        "a connection that differs on encryption"
                    }
                    _ => "a connection that speaks otherwise",
                };
                self.refuse(kind, &error.to_string());
            }
        }
    }
}
