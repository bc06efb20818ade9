//! Answers of this replica's sessions to requests that other replicas took: what is written of them waits here until it is
//! asked for, part by part.
//!
//! A part is kept until the next is asked for, so that one that got lost on its way can be asked for again; the last is kept
//! for [`KEPT`]. An answer that nobody asks for any more is given up by its session, as one that its client does not read. A
//! listen stream of which nobody may have asked for more is given up at once for a client that listens anew
//! ([`Answers::release_silent`]).

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{REST, numbered, pull};
use crate::budget::{Budget, Share};
use crate::outlet::{Form, Outlet, Reader, Takes, outlet};
use crate::server::respond::Refused;
use crate::store::{ConnectionId, Reply};

/// Answers that are not over; one more gets 503. Of those that are over as many are kept beside them, then the oldest go.
const MAX_ANSWERS: usize = 4096;
/// Bytes of one part of an event stream, give or take what is read at once.
const PART_BYTES: usize = 64 * 1024;
/// How long the last part is kept.
const KEPT: Duration = Duration::from_secs(45);
const _: () = assert!(
    KEPT.as_secs() >= pull::LONGEST.as_secs(),
    "it is kept for as long as it may be asked for again"
);
/// How long the first part is waited for beyond the status: short calls are answered at once.
const FIRST: Duration = Duration::from_secs(1);
/// How soon whoever pulls a listen stream asks for more, once it was given something: a round trip through the store, and
/// time to spare.
const ASKS_AGAIN: Duration = Duration::from_secs(1);

const EVENTS: &[u8] = b"text/event-stream";
const JSON: &[u8] = b"application/json";

/// What an answer is, as far as this part of it says.
pub(super) fn form(part: &Reply) -> Option<Form> {
    let named = part.headers.iter().find(|(it, _)| **it == *"content-type");
    match named.map(|(_, value)| &**value) {
        Some(EVENTS) => Some(Form::Events),
        Some(JSON) => Some(Form::Json),
        _ => None,
    }
}

/// The answers that are kept.
#[derive(Debug)]
pub(in crate::server) struct Answers {
    table: Mutex<Table>,
    last: AtomicU64,
    budget: Arc<Budget>,
    /// Something was asked for, or is over or gone.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    /// How many of them are not over.
    open: usize,
    /// Those that are over, and since when, the oldest first. Some may be gone.
    over: VecDeque<(Instant, u64)>,
    /// Whether a task waits to drop these.
    sweeping: bool,
}

#[derive(Debug)]
struct Entry {
    /// Whose it is. A process of the same name before this one may have given others out by the same numbers.
    session: ConnectionId,
    /// What is still to come; not there while somebody waits for it, nor after the end.
    reader: Option<Reader>,
    /// The part that was asked for last, counted from 1, and what it was, once it is known.
    part: u64,
    reply: Option<Reply>,
    share: Share,
    /// Tells whoever waits for a part that there will be none.
    given_up: Arc<Notify>,
    /// Has whoever waits for a part go with an empty one.
    poke: Arc<Notify>,
    /// It is a listen stream.
    listens: bool,
    /// All of it was written.
    over: bool,
}

/// A place in the table, before anything was asked of the session. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Admitted {
    answers: Arc<Answers>,
    name: u64,
    stays: bool,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.stays {
            self.answers.forget(self.name);
        }
    }
}

impl Table {
    fn remove(&mut self, name: u64) -> Option<Entry> {
        let entry = self.entries.remove(&name)?;
        if !entry.over {
            self.open -= 1;
        }
        Some(entry)
    }

    /// All of this answer was written.
    fn end(&mut self, name: u64) {
        if let Some(entry) = self.entries.get_mut(&name).filter(|entry| !entry.over) {
            entry.over = true;
            self.open -= 1;
            self.over.push_back((Instant::now(), name));
        }
        if self.over.len() > MAX_ANSWERS
            && let Some((_, oldest)) = self.over.pop_front()
        {
            self.remove(oldest);
        }
    }

    /// Drops what has been over for long enough, and says when to look again. `None` when there is nothing to wait for.
    fn sweep(&mut self) -> Option<Instant> {
        while let Some(&(since, name)) = self.over.front() {
            if since + KEPT > Instant::now() {
                return Some(since + KEPT);
            }
            self.over.pop_front();
            self.remove(name);
        }
        self.sweeping = false;
        None
    }
}

impl Answers {
    pub(in crate::server) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            table: Mutex::default(),
            last: AtomicU64::new(0),
            budget: Arc::clone(budget),
            moved: Notify::new(),
        }
    }

    /// A new answer, to be written and to be asked for by this name.
    pub(super) fn open(self: &Arc<Self>, takes: Takes) -> (u64, Outlet, Reader) {
        let name = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let answers = Arc::clone(self);
        let (outlet, reader) = outlet(takes, move || answers.forget(name));
        (name, outlet, reader)
    }

    /// Makes room for an answer, before the session is asked for it: once it was, it must not be refused any more.
    pub(super) fn admit(
        self: &Arc<Self>,
        session: &ConnectionId,
        name: u64,
    ) -> Result<Admitted, Refused> {
        let mut table = self.table();
        if table.open >= MAX_ANSWERS {
            return Err(Refused::Busy);
        }
        table.open += 1;
        let entry = Entry {
            session: session.clone(),
            reader: None,
            part: 0,
            reply: None,
            share: Share::new(&self.budget),
            given_up: Arc::default(),
            poke: Arc::default(),
            listens: false,
            over: false,
        };
        table.entries.insert(name, entry);
        drop(table);
        Ok(Admitted {
            answers: Arc::clone(self),
            name,
            stays: false,
        })
    }

    /// The beginning of an answer, and all of it if that does not take long.
    pub(super) async fn begin(
        self: &Arc<Self>,
        mut admitted: Admitted,
        mut reader: Reader,
    ) -> Result<Reply, Refused> {
        let part = part(&mut reader, Instant::now() + FIRST).await;
        let Some(part) = part else {
            return Err(Refused::UnknownSession);
        };
        if part.ended {
            // Its asker has it with this, or has nothing to ask for again by: nothing is kept.
            return Ok(reply(admitted.name, part.form, part.body, true));
        }
        admitted.stays = true;
        Ok(self.keep(admitted.name, reader, Some(part)))
    }

    /// The beginning of a listen stream: its form.
    pub(super) fn begin_listening(&self, mut admitted: Admitted, reader: Reader) -> Reply {
        admitted.stays = true;
        let name = admitted.name;
        if let Some(entry) = self.table().entries.get_mut(&name) {
            entry.reader = Some(reader);
            entry.listens = true;
        }
        reply(name, Some(Form::Events), Bytes::new(), false)
    }

    /// Another part, after waiting for it. One that was asked for before is the same again.
    pub(super) async fn next(
        self: &Arc<Self>,
        session: &ConnectionId,
        name: u64,
        wanted: u64,
    ) -> Reply {
        let asked = self.ask(session, name, wanted);
        self.moved.notify_waiters();
        let mut asked = match asked {
            Ok(asked) => asked,
            Err(reply) => return reply,
        };
        let part = tokio::select! {
            biased;
            () = asked.given_up.notified() => None,
            part = part(&mut asked.reader, Instant::now() + pull::HOLD) => part,
            () = asked.poke.notified() => Some(Part::nothing()),
        };
        self.keep(name, asked.reader, part)
    }

    /// What a part is to be read from, or what is known already of what to say.
    fn ask(&self, session: &ConnectionId, name: u64, wanted: u64) -> Result<Asked, Reply> {
        let mut table = self.table();
        let entry = table.entries.get_mut(&name);
        let entry = entry.filter(|entry| entry.session == *session);
        let entry = entry.ok_or_else(lost)?;
        if wanted == entry.part
            && let Some(reply) = &entry.reply
        {
            return Err(reply.clone());
        }
        if wanted != entry.part + 1 && wanted != entry.part {
            return Err(lost());
        }
        let Some(reader) = entry.reader.take() else {
            return Err(Reply::text(503, "this part is waited for already"));
        };
        entry.part = wanted;
        entry.reply = None;
        entry.share.set(0);
        Ok(Asked {
            reader,
            given_up: Arc::clone(&entry.given_up),
            poke: Arc::clone(&entry.poke),
        })
    }

    /// Gives an answer of this session's up.
    pub(super) fn give_up(&self, session: &ConnectionId, name: u64) {
        let entry = self.table().entries.get(&name).map(|it| it.session.clone());
        if entry.as_ref() == Some(session) {
            self.forget(name);
        }
    }

    /// Gives this session's listen stream up if nobody pulls it any more, as where the replica that did so is gone: it is
    /// given an empty part, and whoever is there asks for the next. One whose client has not read the last part yet does
    /// not ask either, and is given up too. `false` when there is none, or somebody asked.
    pub(in crate::server) async fn release_silent(&self, session: &ConnectionId) -> bool {
        let challenged = {
            let table = self.table();
            let mut entries = table.entries.iter();
            let listens = |entry: &Entry| entry.listens && !entry.over;
            let found = entries.find(|(_, it)| listens(it) && it.session == *session);
            // An ask for the part after this one may have been on its way for a while: that is no sign of life yet.
            let known = |entry: &Entry| entry.part + u64::from(entry.reader.is_some());
            found.map(|(name, entry)| (*name, known(entry), Arc::clone(&entry.poke)))
        };
        let Some((name, known, poke)) = challenged else {
            return false;
        };
        poke.notify_one();
        let until = Instant::now() + ASKS_AGAIN;
        loop {
            // Before the look, so that nothing is missed between the two.
            let moved = self.moved.notified();
            let part = self.table().entries.get(&name).map(|entry| entry.part);
            match part {
                None => return true,
                Some(part) if part > known => return false,
                Some(_) => {}
            }
            if timeout_at(until, moved).await.is_err() {
                self.forget(name);
                return true;
            }
        }
    }

    /// Gives an answer up.
    fn forget(&self, name: u64) {
        // Dropped when the table is free again: that tells the session.
        let entry = self.table().remove(name);
        if let Some(entry) = entry {
            entry.given_up.notify_one();
        }
        self.moved.notify_waiters();
    }

    /// Waits until all that is written has been asked for.
    pub(in crate::server) async fn empty(&self) {
        loop {
            let moved = self.moved.notified();
            if self.table().open == 0 {
                return;
            }
            moved.await;
        }
    }

    /// Keeps a part until the next is asked for.
    fn keep(self: &Arc<Self>, name: u64, reader: Reader, part: Option<Part>) -> Reply {
        let Some(part) = part else {
            self.forget(name);
            return lost();
        };
        let reply = reply(name, part.form, part.body, part.ended);
        // Dropped after the table is free again, if it is not kept.
        let mut reader = Some(reader);
        let mut sweeps = false;
        {
            let mut table = self.table();
            let Some(entry) = table.entries.get_mut(&name) else {
                // Given up meanwhile: then an end is none that its session has written.
                return lost();
            };
            entry.share.set(reply.body.len());
            entry.reply = Some(reply.clone());
            if part.ended {
                table.end(name);
                sweeps = !std::mem::replace(&mut table.sweeping, true);
            } else {
                entry.reader = reader.take();
            }
        }
        drop(reader);
        if sweeps {
            tokio::task::spawn(sweep(Arc::downgrade(self)));
        }
        self.moved.notify_waiters();
        reply
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what is over in time, until nothing is. No traffic is needed for that: what is kept counts as memory that is held,
/// and too much of it keeps new requests out.
async fn sweep(answers: Weak<Answers>) {
    loop {
        let next = answers.upgrade().and_then(|it| it.table().sweep());
        let Some(next) = next else { return };
        sleep_until(next).await;
    }
}

/// A part that is waited for.
struct Asked {
    reader: Reader,
    given_up: Arc<Notify>,
    poke: Arc<Notify>,
}

/// What was found of an answer.
struct Part {
    form: Option<Form>,
    body: Bytes,
    ended: bool,
}

impl Part {
    /// Nothing yet.
    fn nothing() -> Self {
        Self {
            form: None,
            body: Bytes::new(),
            ended: false,
        }
    }
}

/// Waits for something to be written, then takes what there is. `None` when the writer has gone without writing.
async fn part(reader: &mut Reader, until: Instant) -> Option<Part> {
    let mut part = Part::nothing();
    let Ok(form) = timeout_at(until, reader.form()).await else {
        return Some(part);
    };
    let form = form?;
    part.form = Some(form);
    let Ok(first) = timeout_at(until, poll_fn(|cx| reader.poll_piece(cx))).await else {
        return Some(part);
    };
    let mut body = BytesMut::new();
    let mut next = first;
    loop {
        match next {
            Some(piece) => body.extend_from_slice(&piece),
            None => {
                part.ended = true;
                break;
            }
        }
        // A JSON text is written at once, and asked for whole.
        if form == Form::Events && body.len() >= PART_BYTES {
            break;
        }
        match reader.poll_piece(&Context::from_waker(Waker::noop())) {
            Poll::Ready(piece) => next = piece,
            Poll::Pending => break,
        }
    }
    part.body = body.freeze();
    Some(part)
}

fn reply(name: u64, form: Option<Form>, body: Bytes, ended: bool) -> Reply {
    let kind = form.map(|form| match form {
        Form::Json => JSON,
        Form::Events => EVENTS,
    });
    let kind = kind.map(|kind| ("content-type".into(), kind.into()));
    let rest = (!ended).then(|| numbered(REST, name));
    Reply {
        status: 200,
        headers: kind.into_iter().chain(rest).collect(),
        body,
    }
}

fn lost() -> Reply {
    Reply::text(404, "there is nothing more of this answer")
}

#[cfg(test)]
mod tests;
