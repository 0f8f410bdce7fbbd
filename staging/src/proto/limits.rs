//! Every limit of the protocol in one table.
//!
//! A count or size that comes from a peer is compared with one of these
//! before anything is kept because of it; [`super::codec`] does so for single
//! messages, the machines for what adds up over many.

use std::time::Duration;

/// The version of the protocol that this code speaks; others are refused.
pub const PROTOCOL_VERSION: u32 = 2;

/// The longest encoded message head.
pub const HEAD_LIMIT_BYTES: usize = 8 << 20;
/// The longest body that may follow a head; a client splits larger puts.
pub const BODY_LIMIT_BYTES: u64 = 64 << 20;
/// The longest name of a stream, variable, reader group or cursor.
pub const NAME_LIMIT_BYTES: usize = 255;
/// The most dimensions of a box: an array's, and one that numbers local blocks.
pub const DIMS_LIMIT: usize = 17;
/// The most bytes of one part (fixed or shape) of a layout: a schema or the
/// list of all blocks of a step is one.
pub const LAYOUT_PART_LIMIT_BYTES: usize = 2 << 20;
/// The most bytes of attributes of one step, over its writer groups.
pub const ATTRIBUTES_LIMIT_BYTES: usize = 1 << 20;
/// The longest encoded shard map.
pub const MAP_LIMIT_BYTES: usize = 256 << 10;
/// The most variables of one step.
pub const VARIABLES_LIMIT: usize = 1024;
/// The most servers of a space.
pub const SERVERS_LIMIT: usize = 1024;
/// The most writer groups that may declare to write one stream together.
pub const WRITERS_LIMIT: u32 = 64;
/// The most pieces in one put.
pub const PIECES_LIMIT: usize = 4096;
/// The most tile checksums in one put (4 KiB tiles of the largest body, and
/// one more per piece).
pub const CHECKSUMS_LIMIT: usize = (BODY_LIMIT_BYTES as usize / 4096) + PIECES_LIMIT;
/// The most variables asked for in one get.
pub const QUERIES_LIMIT: usize = 256;
/// The most boxes asked for in one get, over all its variables.
pub const BOXES_LIMIT: usize = 4096;
/// The most pieces one get answers with; a client asks for smaller boxes.
pub const GET_PIECES_LIMIT: usize = 8192;
/// The longest text in a refusal.
pub const DETAIL_LIMIT_BYTES: usize = 1024;

/// The most streams one server is home to.
pub const STREAMS_LIMIT: usize = 4096;
/// The most reader groups of one stream.
pub const GROUPS_LIMIT: usize = 1024;
/// The most named cursors of one stream.
pub const CURSORS_LIMIT: usize = 1024;
/// The most layouts that the held steps of one stream may use together.
pub const LAYOUTS_LIMIT: usize = 4096;
/// The most bytes of these layouts; with attributes, variables and owners
/// they fit into one head.
pub const LAYOUTS_LIMIT_BYTES: usize = 4 << 20;
/// The most steps a stream may retain.
pub const RETAINED_STEPS_LIMIT: u64 = 65_536;
/// The most held steps of one stream below the watermark.
pub const KEPT_LIMIT: usize = 1024;
/// The most steps that may be begun and not yet sealed in one stream.
pub const OPEN_STEPS_LIMIT: usize = 256;
/// The most steps one reader group may hold claimed.
pub const CLAIMS_LIMIT: usize = 1024;
/// The most requests a server keeps waiting, over all connections.
pub const PENDING_LIMIT: usize = 16_384;
/// The most requests a server keeps waiting for one connection.
pub const PENDING_PER_CONNECTION_LIMIT: usize = 64;
/// The most pieces an owner indexes for one step.
pub const STEP_PIECES_LIMIT: u64 = 1 << 22;
/// The most requests a client has outstanding at once.
pub const REQUESTS_LIMIT: usize = 4096;

/// Steps a stream retains when the writer names no number.
pub const RETAIN_STEPS_DEFAULT: u64 = 16;
/// Bytes a stream retains when the writer names no number.
pub const RETAIN_BYTES_DEFAULT: u64 = 1 << 30;
/// Payload bytes a server holds when it is given no number.
pub const SERVER_BYTES_DEFAULT: u64 = 8 << 30;

/// How long a silent writer or reader is believed alive.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(60);
/// The shortest and longest lease a client may ask for.
pub const LEASE_RANGE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(3600));
/// How long after the end of its connection a writer or reader may come back
/// before it is held dead.
pub const RECONNECT_GRACE_DEFAULT: Duration = Duration::from_secs(1);
/// The longest a server keeps one request waiting; the client asks again.
pub const LONG_POLL_LIMIT: Duration = Duration::from_secs(30);
/// How long a client waits for an answer before it repeats a request.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// How long a client waits before it connects again after a failure.
pub const CONNECT_BACKOFF: Duration = Duration::from_millis(100);
/// How long a client waits before it repeats a put that met a full server.
pub const FULL_BACKOFF: Duration = Duration::from_millis(20);
