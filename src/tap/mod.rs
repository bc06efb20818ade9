//! The tap: watching what crosses, without touching it.
//!
//! | module | what it is |
//! | --- | --- |
//! | `bus` | where traffic says what crosses; it never waits |
//! | `event` | the vocabulary of that |
//! | `hub` | one task that takes it from there, keeps it, and hands it to those who watch |
//! | `recorder` | the rules of that: what is numbered, paired, named; pure |
//! | `summary` | what a message is, read from its text; pure |
//! | [`redact`] | what nobody is shown; pure |
//! | `ring` | what is kept, and its bounds |
//! | [`record`] | the form of what is kept and shown |
//! | [`terminal`], [`file`](mod@file) | what is printed, and written to a file |
//! | `writer` | the threads for that |

mod bus;
mod event;
pub mod file;
mod hub;
pub mod record;
mod recorder;
pub mod redact;
mod ring;
mod summary;
pub mod terminal;
mod writer;

pub use bus::{Bus, DEFAULT_MAX_BODY, Keep, MAX_QUEUED, MAX_QUEUED_BYTES, Pass};
pub(crate) use bus::{Incoming, Lost};
pub use event::{CLIENT_LEFT, Crossing, Event, FERRY_ENDED, Head, Label, Passing, Text, What};
pub use hub::{Filter, MAX_WATCHERS, PACE, Rows, Seen, Settings, State, Tap, Watcher};
pub use recorder::Change;
pub use redact::Redactor;
