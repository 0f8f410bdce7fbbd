//! Reads over a fabric: regions are registered, and the endpoint's thread
//! moves along what the hardware does not.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::coupling;
use crate::coupling::options::NO_THREAD;
use crate::rdma::{Fabric, FabricExposure, Progress, uses_sockets};

/// The fabric of an endpoint.
pub(super) struct ServedFabric {
    exposure: Arc<FabricExposure>,
    /// Whether the provider is more than software, so that it is worth taking
    /// without having been asked for.
    pub(super) is_hardware: bool,
    /// Peers that read over it.
    pub(super) peers: usize,
    has_more: bool,
}

impl ServedFabric {
    /// The fabric that the options mean, or why there is none. `reached` is where
    /// peers find the endpoint.
    pub(super) fn open(shared: &Shared, reached: Option<&SocketAddr>) -> Result<Self, String> {
        let options = &shared.options;
        if !options.transports.rdma {
            return Err("the endpoint does not allow it".to_owned());
        }
        if options.progress != coupling::Progress::Threads {
            return Err(NO_THREAD.to_owned());
        }
        let text = |error: crate::rdma::FabricError| error.to_string();
        let fabric = Fabric::load().map_err(text)?;
        let mut chosen = options.fabric.clone();
        if chosen.provider.as_deref().is_some_and(uses_sockets) {
            // As all sockets do: on loopback unless an interface is named.
            let here = reached.map(|address| address.ip().to_string());
            chosen.node = chosen.node.or(here);
        }
        let exposure = FabricExposure::open(&fabric, &chosen, &shared.arena);
        let exposure = exposure.map_err(text)?;
        let providers = fabric.providers().map_err(text)?;
        let is_hardware = providers
            .iter()
            .any(|one| one.provider == exposure.provider() && !one.software);
        Ok(Self {
            exposure,
            is_hardware,
            peers: 0,
            has_more: false,
        })
    }

    pub(super) fn offer(&self) -> Vec<u8> {
        self.exposure.offer().to_vec()
    }

    /// Moves reads along; why the fabric is of no more use, if so.
    pub(super) fn progress(&mut self) -> Result<(), String> {
        let progress = self.exposure.progress();
        self.has_more = progress.map_err(|error| error.to_string())? == Progress::More;
        Ok(())
    }

    /// How long it may be left alone; none: until its descriptor says more.
    pub(super) fn time_left(&self) -> Option<Duration> {
        if self.peers == 0 {
            None
        } else if self.has_more {
            Some(Duration::ZERO)
        } else {
            self.exposure.poll_interval()
        }
    }

    /// What tells that there is something to move along.
    pub(super) fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.exposure.wait_fd()
    }
}
