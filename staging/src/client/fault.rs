//! What goes wrong below, in core's words.

use panta_core::error::Fault;
use panta_transports::channel::ChannelError;
use panta_transports::time::WaitError;

use crate::proto::client::ClientError;
use crate::proto::message::Reason;

/// Why a call to the servers did not get its answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// The protocol says why.
    Client(ClientError),
    /// No channel can ever be had: another key, another version.
    Channel { name: String, error: ChannelError },
    /// The caller's interrupt.
    Interrupted { awaiting: String },
}

impl From<ClientError> for CallError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl CallError {
    /// A refusal's reason, bytes, step and text.
    pub(super) fn refusal(&self) -> Option<(Reason, u64, Option<u64>, &str)> {
        match self {
            Self::Client(ClientError::Refused {
                reason,
                bytes,
                step,
                detail,
                ..
            }) => Some((*reason, *bytes, *step, detail)),
            _ => None,
        }
    }

    /// Whether a request may have been carried out all the same.
    pub(super) fn leaves_doubt(&self) -> bool {
        matches!(
            self,
            Self::Interrupted { .. }
                | Self::Client(ClientError::Deadline { .. } | ClientError::Unreachable { .. })
        )
    }

    /// The common part.
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Interrupted { awaiting } => Fault::wait(WaitError::Interrupted, awaiting),
            Self::Channel { name, error } => Fault::Refused {
                peer: peer(&name),
                why: error.to_string(),
            },
            Self::Client(error) => client_fault(error),
        }
    }
}

fn client_fault(error: ClientError) -> Fault {
    let words = error.to_string();
    match error {
        ClientError::Deadline {
            operation,
            awaited,
            length,
        } => Fault::Deadline {
            awaiting: format!("{operation}: {awaited}"),
            after: length,
        },
        ClientError::Unreachable {
            operation,
            name,
            length,
            detail,
            ..
        } => Fault::PeerLost {
            peer: peer(&name),
            why: format!("{operation}: not reached within {length:?}: {detail}; is it running?"),
        },
        ClientError::Refused {
            operation,
            name,
            detail,
            ..
        } => Fault::Refused {
            peer: peer(&name),
            why: format!("{operation}: {detail}"),
        },
        ClientError::Protocol { name, detail, .. } => Fault::Corrupt {
            what: format!("the answer of {}", peer(&name)),
            problem: detail,
        },
        ClientError::Misuse { .. } => Fault::Refused {
            peer: "this client".into(),
            why: words,
        },
        ClientError::ServerLost {
            operation, name, ..
        } => Fault::PeerLost {
            peer: peer(&name),
            why: format!(
                "{operation}: it was restarted within the step and has lost what it had stored; \
                 write the step again"
            ),
        },
    }
}

/// How errors call a server.
pub(super) fn peer(name: &str) -> String {
    format!("staging server {name}")
}
