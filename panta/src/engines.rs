//! The engines of this build, found by the scheme of a URL.

use std::sync::LazyLock;

use panta_core::engine::EngineFactory;
use panta_core::file::FileEngine;
use panta_core::null::NullEngine;
use panta_core::stream::StreamEngine;
use panta_staging::client::StagingEngine;

/// Every engine that a URL can name in this build; what shells of other languages and the
/// command give to the runtime-checked layer, [`panta_core::session`].
#[must_use]
pub fn registry() -> Vec<&'static dyn EngineFactory> {
    static STAGING: LazyLock<StagingEngine> = LazyLock::new(StagingEngine::new);
    vec![&FileEngine, &StreamEngine, &*STAGING, &NullEngine]
}
