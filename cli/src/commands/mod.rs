//! One module for each subcommand.

pub(crate) mod bench;
pub(crate) mod contact;
pub(crate) mod copy;
pub(crate) mod doctor;
pub(crate) mod ls;
pub(crate) mod plot;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod streams;
