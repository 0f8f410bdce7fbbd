//! Every limit of the machines.

/// Reader groups joined at one time; a further one is refused.
pub const MAX_GROUPS: usize = 256;
/// Steps held at one time, however small they are; beyond it there is no room.
pub const MAX_HELD_STEPS: usize = 1 << 16;
/// Cursors remembered; a further one is refused.
pub const MAX_CURSORS: usize = 1024;
/// Bytes of the name of a group or cursor.
pub const MAX_NAME_BYTES: usize = 256;
/// Under `spill`, steps that a group is told of before it let go of the first.
pub const SPILL_WINDOW_STEPS: u32 = 8;
/// Bytes of a message of either machine, without what the engine appends; only
/// `Leave` comes near.
pub const MAX_MESSAGE_BYTES: usize = 64 + 8 * MAX_HELD_STEPS;
