//! Where requests to other replicas go out, and where theirs come in: which are on their way, which were seen, what is
//! believed of what an inbox holds. It makes entries and reads them; carrying them is the store's. No IO and no clock.
//!
//! Whoever carries the entries is trusted with nothing but carrying: it can lose them and be late. What it makes up, changes,
//! repeats or puts into another inbox is refused and counted, and so is what it keeps back for longer than [`MAX_DELAY`]: each
//! request says, sealed, which process is to take it and what time it was there when it was sent, and the owner looks at its
//! own name and clock. The sender has both from the owner's heartbeat, where they are sealed too, and lets the time go on by
//! its own clock. The heartbeat of a predecessor of the owner's so leads to nothing, however long it was kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::codec;
use super::entry::{self, Entry, Kind, Which};
use super::window::{Process, Seen};
use super::{HandOverError, Handed, MAX_ENTRY, MAX_HANDED, Reply};
use crate::metrics::labels::TakenOver;
use crate::store::ReplicaId;
use crate::store::seal::{Purpose, Sealer};

/// How long after it was sent a request is still taken, in milliseconds; twice what a heartbeat holds, which is how old the
/// time in it may be.
pub(crate) const MAX_DELAY: u64 = 30_000;
/// How far a sender's idea of the owner's time may be ahead, in milliseconds: clocks do not run alike.
const AHEAD: u64 = 2_000;

/// What came of one look into the inbox.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Requests of others.
    pub(crate) requests: Vec<(Sender, Handed)>,
    /// Those who have to ask what time it is here, and to send their request again.
    pub(crate) astray: Vec<Sender>,
}

/// One process's.
#[derive(Debug)]
pub(crate) struct Desk {
    sealer: Arc<Sealer>,
    own: ReplicaId,
    process: Process,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last request that went out.
    last: u64,
    /// Those that have no answer yet.
    out: HashMap<u64, Out>,
    seen: Seen,
}

#[derive(Debug)]
struct Out {
    owner: ReplicaId,
    reply: oneshot::Sender<Reply>,
}

/// A request on its way. Dropped, its answer is not waited for any more.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// For the owner's inbox.
    pub(crate) entry: Vec<u8>,
    /// Comes when the owner has answered.
    pub(crate) reply: oneshot::Receiver<Reply>,
    desk: Arc<Desk>,
    owner: ReplicaId,
    number: u64,
}

impl Ticket {
    /// For the owner's inbox: that it is to leave the request if it has not taken it.
    pub(crate) fn withdrawal(&self) -> Vec<u8> {
        let desk = &self.desk;
        let which = Which {
            process: desk.process,
            number: self.number,
        };
        entry::write(
            &desk.sealer,
            Kind::Withdrawal,
            &desk.own,
            &self.owner,
            &which,
            &[],
        )
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.desk.state().out.remove(&self.number);
    }
}

/// A request that was opened, who sent it, and the process and the time there that it was sent for.
type Opened = (Sender, Handed, Process, u64);

/// Where an answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    /// The replica that waits for it.
    pub(crate) replica: ReplicaId,
    which: Which,
}

impl Desk {
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn new(sealer: Arc<Sealer>, own: ReplicaId) -> Result<Self, getrandom::Error> {
        let mut process = Process::default();
        getrandom::fill(&mut process)?;
        Ok(Self {
            sealer,
            own,
            process,
            state: Mutex::default(),
        })
    }

    /// A name for this process that no other has, not even one of the same replica id.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// The name of this replica.
    pub(crate) fn own(&self) -> &ReplicaId {
        &self.own
    }

    /// What this replica's heartbeat says: which process it is, and, sealed, what time it is here, in milliseconds.
    pub(crate) fn heartbeat(&self, now: u64) -> Vec<u8> {
        let bound = bound(&self.own, &self.process);
        let sealed = self
            .sealer
            .seal(Purpose::Heartbeat, &bound, &now.to_be_bytes());
        [self.process.as_slice(), &sealed].concat()
    }

    /// Which process gave a heartbeat, and what time it says that it was there. `None` when no such replica of ours has made
    /// it.
    pub(crate) fn read_heartbeat(
        &self,
        of: &ReplicaId,
        heartbeat: &[u8],
    ) -> Option<(Process, u64)> {
        let (process, sealed) = heartbeat.split_first_chunk()?;
        let bound = bound(of, process);
        let time = self.sealer.open(Purpose::Heartbeat, &bound, sealed)?;
        Some((*process, u64::from_be_bytes(time.try_into().ok()?)))
    }

    /// Makes a request ready to go: to which process of the owner's, and what time it is there.
    ///
    /// # Errors
    /// [`HandOverError::TooLarge`] or [`HandOverError::Full`].
    pub(crate) fn send(
        self: &Arc<Self>,
        owner: &ReplicaId,
        request: &Handed,
        (to, theirs): (Process, u64),
    ) -> Result<Ticket, HandOverError> {
        let content = codec::write_request(request, &to, theirs);
        let content = content.filter(|content| content.len() <= MAX_ENTRY);
        let content = content.ok_or(HandOverError::TooLarge)?;
        let (reply, waits) = oneshot::channel();
        let number = {
            let mut state = self.state();
            if state.out.len() >= MAX_HANDED {
                return Err(HandOverError::Full);
            }
            state.last += 1;
            let (number, owner) = (state.last, owner.clone());
            state.out.insert(number, Out { owner, reply });
            number
        };
        let which = Which {
            process: self.process,
            number,
        };
        let (sealer, kind) = (&self.sealer, Kind::Request);
        Ok(Ticket {
            entry: entry::write(sealer, kind, &self.own, owner, &which, &content),
            reply: waits,
            desk: Arc::clone(self),
            owner: owner.clone(),
            number,
        })
    }

    /// Makes an answer ready to go. One that is too large to be sent becomes a 502 that says so.
    pub(crate) fn answer(&self, to: &Sender, reply: &Reply) -> Vec<u8> {
        let content = codec::write_reply(reply).filter(|content| content.len() <= MAX_ENTRY);
        let content = content
            .or_else(|| codec::write_reply(&Reply::text(502, "the answer is too large")))
            .unwrap_or_default();
        entry::write(
            &self.sealer,
            Kind::Answer,
            &self.own,
            &to.replica,
            &to.which,
            &content,
        )
    }

    /// Takes what one look into the inbox found, in its order: each entry, and whether it has lain there for too long. `now`
    /// is what time it is here, in milliseconds. Answers go to those who wait for them; what is returned are the requests of
    /// others. `count` is told what became of each.
    pub(crate) fn take(
        &self,
        entries: &[(Vec<u8>, bool)],
        now: u64,
        mut count: impl FnMut(TakenOver),
    ) -> Taken {
        let mut read: Vec<(Entry<'_>, bool)> = Vec::with_capacity(entries.len());
        for (entry, late) in entries {
            match Entry::read(entry) {
                Some(entry) => read.push((entry, *late)),
                None => count(TakenOver::Malformed),
            }
        }
        // Before all others, so that a request is left alone whose sender has given it up meanwhile.
        for (entry, _) in &read {
            if entry.kind == Kind::Withdrawal {
                count(self.withdraw(entry));
            }
        }
        let mut taken = Taken::default();
        for (entry, late) in &read {
            match entry.kind {
                Kind::Request => match self.request(entry, *late) {
                    Ok((sender, request, to, sent)) => {
                        if to == self.process
                            && sent.saturating_add(MAX_DELAY) >= now
                            && sent <= now.saturating_add(AHEAD)
                        {
                            taken.requests.push((sender, request));
                        } else {
                            count(TakenOver::Late);
                            taken.astray.push(sender);
                        }
                    }
                    Err(why) => count(why),
                },
                Kind::Answer => count(self.answered(entry)),
                Kind::Withdrawal => {}
            }
        }
        taken
    }

    fn request(&self, entry: &Entry<'_>, late: bool) -> Result<Opened, TakenOver> {
        let opened = entry.open(&self.sealer, &self.own);
        let content = opened.ok_or(TakenOver::Unopened)?;
        let which = &entry.which;
        if !self.state().seen.take(&which.process, which.number) {
            return Err(TakenOver::Repeated);
        }
        if late {
            return Err(TakenOver::Late);
        }
        let read = codec::read_request(content).ok_or(TakenOver::Malformed)?;
        let (request, to, sent) = read;
        let sender = Sender {
            replica: entry.from.clone(),
            which: which.clone(),
        };
        Ok((sender, request, to, sent))
    }

    /// Its number counts as seen, so the request is refused if it comes after this.
    fn withdraw(&self, entry: &Entry<'_>) -> TakenOver {
        if entry.open(&self.sealer, &self.own).is_none() {
            return TakenOver::Unopened;
        }
        let which = &entry.which;
        match self.state().seen.take(&which.process, which.number) {
            true => TakenOver::Withdrawn,
            false => TakenOver::Repeated,
        }
    }

    fn answered(&self, entry: &Entry<'_>) -> TakenOver {
        let Some(content) = entry.open(&self.sealer, &self.own) else {
            return TakenOver::Unopened;
        };
        let Some(reply) = codec::read_reply(content) else {
            return TakenOver::Malformed;
        };
        if entry.which.process != self.process {
            return TakenOver::Unasked;
        }
        let number = &entry.which.number;
        let mut state = self.state();
        let asked = state.out.get(number);
        if asked.is_none_or(|out| out.owner != entry.from) {
            return TakenOver::Unasked;
        }
        match state.out.remove(number).map(|out| out.reply.send(reply)) {
            Some(Ok(())) => TakenOver::Answer,
            _ => TakenOver::Unasked,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To what the time in a heartbeat is bound.
fn bound(replica: &ReplicaId, process: &Process) -> Vec<u8> {
    [process.as_slice(), replica.as_str().as_bytes()].concat()
}
