//! The engines of this build, found by the scheme of a URL.

use panta_core::engine::EngineFactory;

/// Every engine that a URL can name in this build.
pub(crate) fn registry() -> Vec<&'static dyn EngineFactory> {
    vec![]
}
