//! What every transport must do, run over each of them.
//!
//! A scenario is a function of the transport; the table at the end runs every
//! scenario over every transport. Where a process must die or stop, the test
//! starts itself again as that process: see `child`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and children talk over their output"
)]

mod child;
mod hostile;
mod losses;
mod manual;
mod messages;
mod pushes;
mod reads;
mod support;
mod waits;

use panta_transports::coupling::TransportName;

/// One scenario over one transport.
macro_rules! scenarios {
    (tcp, $($module:ident :: $scenario:ident),*) => {
        $(#[test] fn $scenario() {
            crate::$module::$scenario(crate::TransportName::Tcp);
        })*
    };
    (shm, $($module:ident :: $scenario:ident),*) => {
        $(#[test] fn $scenario() {
            crate::$module::$scenario(crate::TransportName::Shm);
        })*
    };
    (rdma, $($module:ident :: $scenario:ident),*) => {
        $(#[test] fn $scenario() {
            crate::child::alone_with_fabric(concat!("rdma::", stringify!($scenario)), || {
                crate::$module::$scenario(crate::TransportName::Rdma);
            });
        })*
    };
}

macro_rules! suite {
    ($($module:ident :: $scenario:ident),* $(,)?) => {
        mod tcp {
            scenarios!(tcp, $($module::$scenario),*);
        }
        mod shm {
            scenarios!(shm, $($module::$scenario),*);
        }
        mod rdma {
            scenarios!(rdma, $($module::$scenario),*);
        }
    };
}

suite! {
    messages::messages_of_all_sizes_arrive_in_order_both_ways,
    messages::a_message_in_parts_arrives_as_one,
    messages::messages_sent_while_joining_come_after_the_welcome,
    messages::the_hello_and_the_choice_are_told_to_the_handler,
    messages::a_peer_that_the_handler_refuses_hears_why,
    messages::a_peer_that_does_not_listen_is_dropped_at_the_limit,
    messages::a_message_beyond_the_limit_is_refused_where_it_is_sent,
    messages::only_linked_peers_exchange_messages,
    messages::an_urgent_message_reaches_an_endpoint_that_nobody_drives,
    reads::reads_of_every_shape_are_what_was_written,
    reads::large_reads_are_what_was_written,
    reads::regions_made_after_connecting_can_be_read,
    reads::what_is_not_exposed_is_an_error_and_the_next_read_works,
    reads::a_reading_that_is_dropped_or_late_leaves_the_next_unharmed,
    reads::several_peers_are_read_from_at_once,
    reads::other_pieces_than_were_asked_for_are_refused,
    reads::a_read_costs_one_round_trip_and_its_copies,
    pushes::what_was_subscribed_to_comes_within_the_credit,
    pushes::what_nobody_wants_gives_its_credit_back,
    pushes::a_message_and_what_follows_it_come_in_their_order,
    pushes::a_message_that_came_with_a_push_is_told_of_who_waits,
    waits::a_deadline_of_zero_ends_every_call_at_once,
    waits::an_interrupt_ends_every_wait_soon,
    losses::a_peer_that_closes_is_told_from_one_that_dies,
    losses::a_peer_killed_while_idle_is_seen_at_once,
    losses::a_peer_killed_while_reading_is_seen_and_others_go_on,
    losses::a_peer_killed_while_sending_is_seen_after_its_messages,
    losses::an_endpoint_killed_while_idle_is_seen_at_once,
    losses::an_endpoint_killed_while_read_from_is_seen_at_once,
    losses::an_endpoint_that_closes_says_so,
    losses::a_peer_that_is_stopped_is_silent_after_its_lease,
    losses::an_endpoint_that_is_stopped_is_silent_after_its_lease,
    losses::a_peer_that_computes_is_not_silent,
    losses::a_dropped_peer_hears_why,
    losses::the_child_of_a_fork_gets_an_error,
    losses::a_thousand_peers_leave_nothing_behind,
}

/// Progress by hand, which there is over all transports but fabrics.
macro_rules! by_hand {
    ($($scenario:ident),* $(,)?) => {
        mod by_hand {
            mod tcp {
                scenarios!(tcp, $(manual::$scenario),*);
            }
            mod shm {
                scenarios!(shm, $(manual::$scenario),*);
            }
        }
    };
}

by_hand! {
    nothing_happens_before_the_host_calls,
    who_declared_it_computes_for_long_and_lives,
    an_endpoint_left_alone_for_too_long_is_dead_and_knows,
    a_peer_left_alone_for_too_long_is_dead_and_knows,
    who_declared_little_is_held_to_it,
    a_wait_for_something_else_shows_life,
}
