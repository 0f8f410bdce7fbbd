//! Calls that may wait: without the interpreter, and ended by Python's signals.
//!
//! ```text
//! call --detach--> engine waits --every 20 ms--> attach, check signals, detach
//!                                                    | a handler raised
//!      <--raise what it raised-- interrupted <-------+
//! ```

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use panta_transports::time::Interrupt;
use pyo3::prelude::*;

use crate::failed::Failed;

thread_local! {
    /// Whether this is the thread on which Python runs signal handlers.
    static IS_MAIN: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Locks, whatever became of who held it before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note_thread(py: Python<'_>) -> PyResult<()> {
    if IS_MAIN.get().is_none() {
        let threading = py.import("threading")?;
        let main = threading.call_method0("main_thread")?.getattr("ident")?;
        IS_MAIN.set(Some(main.eq(threading.call_method0("get_ident")?)?));
    }
    Ok(())
}

/// How the waits of one handle end early.
#[derive(Debug)]
pub(crate) struct Waits {
    interrupt: Interrupt,
    /// What a signal handler raised within a wait.
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Waits {
    pub(crate) fn new() -> Self {
        let raised = Arc::<Mutex<Option<PyErr>>>::default();
        let seen = Arc::clone(&raised);
        let interrupt = Interrupt::asking(move || {
            if IS_MAIN.get() != Some(true) {
                return false;
            }
            let signals = Python::try_attach(|py| py.check_signals());
            let Some(Err(error)) = signals else {
                return false;
            };
            *lock(&seen) = Some(error);
            true
        });
        Self { interrupt, raised }
    }

    /// The flag that the handle's waits look at.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Runs `act` without the interpreter. What a signal handler raised meanwhile is
    /// raised, whatever came of `act`.
    pub(crate) fn run<T: Send, E: Into<Failed> + Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce() -> Result<T, E> + Send,
    ) -> PyResult<T> {
        note_thread(py)?;
        let outcome = py.detach(act);
        if let Some(error) = lock(&self.raised).take() {
            self.interrupt.clear();
            return Err(error);
        }
        outcome.map_err(|error| error.into().raise(py))
    }
}
