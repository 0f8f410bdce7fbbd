//! Memory shared by processes of one node: a peer's regions mapped read-only,
//! and rings for messages.
//!
//! ```text
//!   ShmServer                                   ShmRemote
//!     abstract Unix socket  <---- token -------   connects
//!                           ---- page, regions ->  maps after checking seals
//!     Side (memfd, 2 bells) <---- fds ---------   Side (memfd, 2 bells)
//!     RingWriter  ==== ring in the server's side ====>  RingReader
//!     RingReader  <=== ring in the remote's side =====  RingWriter
//! ```
//!
//! Promises:
//! - Each side writes only to memory of its own; what the other wrote is
//!   looked at once and checked. A peer can send any bytes, but cannot make
//!   this side read or write elsewhere, wait without end, or die by a signal:
//!   memory is mapped only if it can neither shrink nor lack pages it has.
//! - A frame arrives whole or not at all, and what was sent before the other
//!   side died still arrives.
//! - Only processes of the same user connect, with a token that is good for
//!   one time and was told over another, authenticated way. That the memory is
//!   the same one is shown by a nonce read through it.
//! - Nothing is left in any file system, whoever dies when.
//!
//! What it does not do: settle which transport is used, authenticate, notice a
//! peer that is alive and silent. A process of the same user can stop this one
//! in simpler ways than by its bells; against those there is no defence here.

mod error;
mod lingering;
mod mapped;
mod message;
mod page;
mod pass;
mod remote;
mod ring;
mod server;
#[cfg(test)]
mod tests;

pub use error::{RingError, ShmError};
pub use mapped::Mapped;
pub use message::{BadOffer, Offer};
pub use page::SharedPage;
pub use pass::{Connection, Listener, MAX_DESCRIPTORS, MAX_PACKET_BYTES, Packet};
pub use remote::ShmRemote;
pub use ring::{
    Attention, MAX_RING_BYTES, MIN_RING_BYTES, RingReader, RingWriter, Rouse, Side, TheirSide,
};
pub use server::{Rings, ShmEvent, ShmOptions, ShmServer};
