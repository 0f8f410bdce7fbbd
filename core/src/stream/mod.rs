//! `stream:` steps straight from their writers to their readers.
//!
//! ```text
//! writer rank                                        reader rank
//!   session                                            session
//!   memory: slots of sealed steps  <── map or read ──  fetch, haul: tiles of boxes
//!   root:  publisher  ── announcements, releases ──>   root:  subscriber
//!          contact file: how to find it, and its key
//! ```
//! - [`machine`]: the protocol, without sockets, clocks or bytes;
//! - `contact`, `address`, `port`, `process`: how writers and readers of a name find each other;
//! - [`glance`]: what there is to know of a writer without joining it;
//! - `slot`, `memory`: where a step's blocks lie with the rank that put them;
//! - `message`: what goes with the protocol's messages;
//! - `preload`: what is asked for step after step is pushed with the step;
//! - `spill`: steps that found no room, in a file;
//! - `writer`, `reader`: the engine's calls; `step`, `fetch`, `haul`, `peers`: reading.
//!
//! It promises: a step is announced when all its ranks have captured it, so
//! that readers see it whole or not at all; a step that a reader group was told
//! of stays until the group lets go of it or is lost; what is read is compared
//! with the checksums made at put.
//!
//! It does not: keep steps beyond the life of the writer.

mod address;
mod contact;
mod fetch;
pub mod glance;
mod haul;
pub mod machine;
mod memory;
mod message;
mod packing;
mod peers;
mod port;
mod preload;
mod process;
mod reader;
#[cfg(test)]
pub(crate) mod scale;
mod slot;
mod spill;
mod step;
mod writer;

use std::sync::Arc;

use panta_transports::coupling::{InterfaceChoice, Progress};
use panta_transports::rdma::FabricOptions;

use crate::config::{Engine, Interface, Options};
use crate::engine::{
    EngineFactory, OpenArguments, PreparedWriter, ReaderEngine, Resume, Start, WriterEngine,
};
use crate::error::OpenError;

/// Where endpoints listen.
fn interfaces(options: &Options) -> Vec<InterfaceChoice> {
    let given = options.interface.iter().flat_map(|it| &it.0);
    given.map(choice_of).collect()
}

fn choice_of(interface: &Interface) -> InterfaceChoice {
    match interface {
        Interface::Name(name) if name == "loopback" => InterfaceChoice::Loopback,
        Interface::Name(name) => InterfaceChoice::Name(name.clone()),
        Interface::Network { address, bits } => InterfaceChoice::Block {
            address: *address,
            prefix_bits: *bits,
        },
    }
}

/// Who does what is due between two calls; how a stream is opened has been checked.
fn progress(options: &Options) -> Progress {
    options.who_progresses().unwrap_or_default()
}

/// Which provider of libfabric, where one is named.
fn fabric(options: &Options) -> FabricOptions {
    FabricOptions {
        provider: options.fabric.clone(),
        ..FabricOptions::default()
    }
}

/// Opens `stream:` streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamEngine;

impl EngineFactory for StreamEngine {
    fn engine(&self) -> Engine {
        Engine::Stream
    }

    fn prepare_writer(
        &self,
        arguments: &OpenArguments<'_>,
        resume: Resume,
    ) -> Result<PreparedWriter, OpenError> {
        writer::prepare(arguments, resume)
    }

    fn attach_writer(
        &self,
        arguments: &OpenArguments<'_>,
        prepared: &PreparedWriter,
    ) -> Result<Box<dyn WriterEngine>, OpenError> {
        Ok(Box::new(writer::StreamWriter::attach(arguments, prepared)?))
    }

    fn prepare_reader(
        &self,
        _arguments: &OpenArguments<'_>,
        _start: &Start,
    ) -> Result<Vec<u8>, OpenError> {
        // The root finds the writer when it attaches; its ranks need nothing from it.
        Ok(Vec::new())
    }

    fn attach_reader(
        &self,
        arguments: &OpenArguments<'_>,
        start: &Start,
        _ticket: &[u8],
    ) -> Result<Arc<dyn ReaderEngine>, OpenError> {
        Ok(Arc::new(reader::StreamReader::attach(arguments, start)?))
    }
}
