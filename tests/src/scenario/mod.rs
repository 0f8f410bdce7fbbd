//! The scenarios: for each what the test does on a [`Stage`](crate::stage::Stage),
//! and the roles of the ranks.

use crate::part::Role;

pub mod apart;
pub mod arrays;
pub mod blocks;
pub mod by_hand;
pub mod death;
pub mod disk;
pub mod groups;
pub mod languages;
pub mod late;
pub mod layouts;
pub mod many;
pub mod packed;
pub mod pushes;
pub mod replay;
pub mod rounded;
pub mod servers;
pub mod sharing;
pub mod wrong;

macro_rules! roles {
    ($($module:ident: $($role:ident)*;)*) => {
        /// The role of a scenario.
        #[must_use]
        pub fn find(scenario: &str, role: &str) -> Option<Role> {
            match (scenario, role) {
                $($((stringify!($module), stringify!($role)) => Some($module::$role),)*)*
                _ => None,
            }
        }
    };
}

roles! {
    layouts: types_writer types_reader modes_writer modes_reader mixes_writer mixes_reader
        planes_writer planes_reader;
    arrays: joined_writer joined_reader local_writer local_reader shapes_writer shapes_reader
        attributes_writer attributes_reader ghosts_writer ghosts_reader;
    blocks: empty_writer empty_reader again_writer again_reader locked_writer locked_reader amr_writer amr_reader
        ragged_writer ragged_reader holes_writer holes_reader overlap_writer overlap_reader;
    by_hand: writer reader late_writer refused;
    groups: plain_writer plain_reader early_reader dropping_writer dropping_reader
        two_streams_writer two_streams_reader both_ways;
    languages: writer reader;
    late: late_writer late_reader alone_writer awaiting_reader poll_writer polling_reader
        latest_writer latest_reader slow_writer slow_reader interrupted_writer
        interrupted_reader interrupted_opening shedding_writer gap_reader;
    death: endless_writer passing_reader told_writer told_reader
        cursor_reader cut_reader;
    wrong: failing_writer failing_reader;
    replay: recorded_writer replay_reader trimmed_reader fenced_reader;
    many: churn at_once_writer at_once_reader;
    packed: writer reader;
    pushes: told_writer told_reader;
    rounded: writer reader span_writer;
    sharing: sharing_reader precious_reader paced_writer newest_reader;
    apart: asked_writer asked_reader refused_reader refused_writer;
    servers: serve keeping_reader silent_writer span_writer large_writer crawling_reader;
}
