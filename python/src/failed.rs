//! Errors on their way to Python: a class of `panta.errors`, and the fields.

use panta_core::comm::CommError;
use panta_core::error::{
    BeginError, CloseError, DefineError, EndError, Failure, Fault, GetError, NextError, OpenError,
    Place, PutError,
};
use panta_transports::copy::LayoutError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// An error on its way out. Boxed, so that results stay small.
#[derive(Debug, Default)]
pub(crate) struct Failed(Box<Parts>);

#[derive(Debug, Default)]
struct Parts {
    class: &'static str,
    message: String,
    stream: Option<String>,
    step: Option<u64>,
    variable: Option<String>,
    rank: Option<usize>,
}

impl Failed {
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            class,
            message: message.into(),
            ..Parts::default()
        }))
    }

    /// An argument that is wrong: `ShapeError`, with what is wrong with which.
    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::new("ShapeError", message)
    }

    /// An argument of a wrong type.
    pub(crate) fn dtype(message: impl Into<String>) -> Self {
        Self::new("DTypeError", message)
    }

    /// An index that an array does not have, or not of this kind.
    pub(crate) fn selection(message: impl Into<String>) -> Self {
        Self::new("SelectionError", message)
    }

    /// A handle that was closed.
    pub(crate) fn closed(what: &str) -> Self {
        Self::new("ClosedError", format!("the {what} was closed"))
    }

    /// A handle that another thread uses.
    pub(crate) fn in_use(what: &str) -> Self {
        let message = format!("another thread uses the {what}; use one handle from one at a time");
        Self::new("InUseError", message)
    }

    pub(crate) fn at(mut self, place: &Place) -> Self {
        self.0.stream = Some(place.stream.clone());
        self.0.step = place.step;
        self.0.variable.clone_from(&place.variable);
        self.0.rank = place.rank;
        self
    }

    pub(crate) fn of_stream(mut self, stream: &str, step: Option<u64>) -> Self {
        self.0.stream = Some(stream.to_owned());
        self.0.step = step;
        self
    }

    pub(crate) fn of_variable(mut self, variable: &str) -> Self {
        self.0.variable = Some(variable.to_owned());
        self
    }

    /// The error in Python.
    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        match self.instance(py) {
            Ok(instance) => PyErr::from_value(instance),
            Err(error) => error,
        }
    }

    fn instance(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
        let classes = CLASSES
            .get_or_try_init(py, || py.import("panta.errors").map(Bound::unbind))?
            .bind(py);
        let fields = PyDict::new(py);
        fields.set_item("stream", self.0.stream)?;
        fields.set_item("step", self.0.step)?;
        fields.set_item("variable", self.0.variable)?;
        fields.set_item("rank", self.0.rank)?;
        classes
            .getattr(self.0.class)?
            .call((self.0.message,), Some(&fields))
    }
}

impl From<Failed> for PyErr {
    fn from(failed: Failed) -> Self {
        Python::attach(|py| failed.raise(py))
    }
}

fn fault_class(fault: &Fault) -> &'static str {
    match fault {
        Fault::Io { .. } => "IoError",
        Fault::Communicator { .. } => "CommunicatorError",
        Fault::Deadline { .. } => "DeadlineError",
        Fault::Interrupted { .. } => "InterruptedWait",
        Fault::RankLost { .. } => "RankLost",
        Fault::OnRank { .. } => "RankFailed",
        Fault::PeerLost { .. } => "PeerLost",
        Fault::Refused { .. } => "RefusedError",
        Fault::Corrupt { .. } => "CorruptError",
        Fault::Unsupported { .. } => "UnsupportedError",
        Fault::Fenced { .. } | Fault::Away { .. } => "FencedError",
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let mut failed =
            Self::new(fault_class(&failure.fault), failure.to_string()).at(&failure.place);
        if let Fault::OnRank { rank, .. } | Fault::RankLost { rank, .. } = failure.fault {
            failed.0.rank = Some(rank);
        }
        failed
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::Config(_) => Self::new("ConfigError", message),
            OpenError::NotFound { stream, .. } => {
                Self::new("NotFoundError", message).of_stream(&stream, None)
            }
            OpenError::Busy { stream, .. } => {
                Self::new("BusyError", message).of_stream(&stream, None)
            }
            OpenError::Failed(failure) => failure.into(),
        }
    }
}

impl From<CommError> for Failed {
    fn from(error: CommError) -> Self {
        let class = match error {
            CommError::RankLost { .. } => "RankLost",
            CommError::Deadline { .. } => "DeadlineError",
            CommError::Interrupted => "InterruptedWait",
            CommError::System { .. } => "IoError",
            _ => "CommunicatorError",
        };
        Self::new(class, error.to_string())
    }
}

impl From<DefineError> for Failed {
    fn from(error: DefineError) -> Self {
        let message = error.to_string();
        let (class, name) = match error {
            DefineError::Definition(error) => ("DefinitionError", error.name),
            DefineError::Redefined { name, .. } | DefineError::Frozen { name, .. } => {
                ("RedefinedError", name)
            }
            DefineError::UnknownVariable { name, .. } => ("UnknownVariable", name),
        };
        Self::new(class, message).of_variable(&name)
    }
}

impl From<BeginError> for Failed {
    fn from(error: BeginError) -> Self {
        let message = error.to_string();
        match error {
            BeginError::InStep { stream, step } => {
                Self::new("StepOpenError", message).of_stream(&stream, Some(step))
            }
            BeginError::StepTooLarge { place, .. } => Self::new("StepTooLarge", message).at(&place),
            BeginError::Disagreement { place, .. } => {
                Self::new("DisagreementError", message).at(&place)
            }
            BeginError::Failed(failure) => failure.into(),
        }
    }
}

impl From<PutError> for Failed {
    fn from(error: PutError) -> Self {
        let message = error.to_string();
        match error {
            PutError::NoStep { stream } => {
                Self::new("NoStepError", message).of_stream(&stream, None)
            }
            PutError::DTypeMismatch { place, .. } => Self::new("DTypeError", message).at(&place),
            PutError::Shape { place, .. } => Self::new("ShapeError", message).at(&place),
            PutError::StepTooLarge { place, .. } => Self::new("StepTooLarge", message).at(&place),
            PutError::Failed(failure) => failure.into(),
        }
    }
}

impl From<EndError> for Failed {
    fn from(error: EndError) -> Self {
        let message = error.to_string();
        match error {
            EndError::InDoubt { place, .. } => Self::new("InDoubtError", message).at(&place),
            EndError::Overlap { place, .. } => Self::new("OverlapError", message).at(&place),
            EndError::Failed(failure) => failure.into(),
        }
    }
}

impl From<CloseError> for Failed {
    fn from(CloseError::Failed(failure): CloseError) -> Self {
        failure.into()
    }
}

impl From<NextError> for Failed {
    fn from(error: NextError) -> Self {
        let message = error.to_string();
        let (class, stream, step) = match error {
            NextError::NotReady { stream, .. } => ("NotReady", stream, None),
            NextError::WriterLost {
                stream,
                last_sealed,
            } => ("WriterLost", stream, last_sealed),
            NextError::RolledBack { stream, to } => ("RolledBack", stream, to),
            NextError::Trimmed { stream, oldest } => ("Trimmed", stream, oldest),
            NextError::WouldDeadlock { stream, .. } => ("WouldDeadlock", stream, None),
            NextError::Failed(failure) => return failure.into(),
        };
        Self::new(class, message).of_stream(&stream, step)
    }
}

impl From<GetError> for Failed {
    fn from(error: GetError) -> Self {
        let message = error.to_string();
        let (class, place) = match error {
            GetError::UnknownVariable { place, .. } => ("UnknownVariable", place),
            GetError::DTypeMismatch { place, .. } => ("DTypeError", place),
            GetError::Selection { place, .. } => ("SelectionError", place),
            GetError::Shape { place, .. } => ("ShapeError", place),
            GetError::NoSuchBlock { place, .. } => ("NoSuchBlock", place),
            GetError::NotCovered { place, .. } => ("NotCovered", place),
            GetError::Checksum { place, .. } => ("ChecksumError", place),
            GetError::Failed(failure) => return failure.into(),
        };
        Self::new(class, message).at(&place)
    }
}

impl From<LayoutError> for Failed {
    fn from(error: LayoutError) -> Self {
        Self::shape(error.to_string())
    }
}
