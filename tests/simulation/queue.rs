//! Virtual time: what is going to happen, in the order of its time, and of its making where times are equal.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Instant;

use mcp_ferry::proto::bridge::{Body, CallId, End, Refusal};

use crate::books::Said;

/// An exchange: the connection that it belongs to, and its number there.
pub type Key = (usize, CallId);

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// A client connects. The flag: it comes back, and does not shake hands again.
    Connects(bool),
    /// A client does something of its own accord.
    Acts(usize),
    /// A message has reached a client.
    Arrives(usize, String),
    /// A client's answer to a question, known to it by this id, reaches the ferry.
    Answers(usize, String),
    /// A client's `notifications/initialized` reaches the ferry.
    Confirms(usize),
    /// A client's stream is getting old.
    Ages(usize),
    /// A client that did not read reads again.
    Reads(usize),
    /// A client that does not read may have done so for too long.
    Stalls(usize),
    /// A bridge's timer, set for this time.
    Timer(usize, Instant),
    /// An exchange reaches the upstream.
    Reaches(Key),
    /// The upstream learns that an exchange was dropped.
    Dropped(Key),
    /// The upstream goes on with a job, if it still means to do so at this time.
    Works(usize, Instant),
    /// A part of an answer reaches the ferry.
    Piece(Key, Piece),
    /// The upstream is restarted: all sessions are lost, and nobody listens for a while.
    Restarts,
    /// It is there again.
    Started,
    /// It is replaced by one of the other era.
    Flips,
    /// Something changes there: a resource, or a list.
    Changes,
    /// One session is forgotten.
    Forgets,
    /// The ferry is told to stop; its time to finish is over.
    Drains,
    DrainExpires,
}

/// A part of an answer, as it crosses the network.
#[derive(Debug)]
pub enum Piece {
    Head {
        status: u16,
        session: Option<String>,
        body: Body,
    },
    /// A whole answer that is not 2xx. The flag: it says that the session is unknown.
    Refused(Refusal, bool),
    /// Bytes of the body, and what is complete with them.
    Bytes(Vec<u8>, Vec<Said>),
    /// The end, and what is complete only with it.
    End(End, Vec<Said>),
}

/// The next thing comes first: the one with the least time, and of these the first that was made.
#[derive(Debug)]
struct Entry {
    at: Reverse<(Instant, u64)>,
    event: Box<Event>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Debug, Default)]
pub struct Queue {
    entries: BinaryHeap<Entry>,
    last: u64,
}

impl Queue {
    pub fn push(&mut self, at: Instant, event: Event) {
        self.last += 1;
        self.entries.push(Entry {
            at: Reverse((at, self.last)),
            event: Box::new(event),
        });
    }

    /// The next event, if it is not later than `until`.
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, Event)> {
        let Reverse((at, _)) = self.entries.peek()?.at;
        if at > until {
            return None;
        }
        Some((at, *self.entries.pop()?.event))
    }
}
