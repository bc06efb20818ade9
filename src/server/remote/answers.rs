//! Answers of this replica's sessions to requests that other replicas took: what is written of them waits here until it is
//! asked for, part by part.
//!
//! A part is kept until the next is asked for, so that one that got lost on its way can be asked for again. An answer that
//! nobody asks for any more is given up by its session, as one that its client does not read.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{REST, numbered, pull};
use crate::budget::{Budget, Share};
use crate::outlet::{Form, Outlet, Reader, Takes, outlet};
use crate::server::respond::Refused;
use crate::store::{ConnectionId, Reply};

/// Answers that other replicas have yet to ask for, or for more of; one more gets 503.
const MAX_ANSWERS: usize = 4096;
/// Bytes of one part of an event stream, give or take what is read at once.
const PART_BYTES: usize = 64 * 1024;
/// How long the last part is kept.
const KEPT: Duration = Duration::from_secs(45);
/// How long the first part is waited for beyond the status: short calls are answered at once.
const FIRST: Duration = Duration::from_secs(1);

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
    table: Mutex<HashMap<u64, Entry>>,
    last: AtomicU64,
    budget: Arc<Budget>,
    moved: Notify,
}

#[derive(Debug)]
struct Entry {
    /// Whose it is. A process of the same name before this one may have given others out by the same numbers.
    session: ConnectionId,
    /// What is still to come; not there while somebody waits for it, nor after the end.
    reader: Option<Reader>,
    /// The part that was asked for last, and how often that has happened.
    part: u64,
    reply: Option<Reply>,
    share: Share,
    /// Tells whoever waits for a part.
    given_up: Arc<Notify>,
    /// Since when all of it has been written.
    over: Option<Instant>,
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

    /// The beginning of an answer, and all of it if that does not take long.
    pub(super) async fn begin(
        &self,
        session: &ConnectionId,
        name: u64,
        mut reader: Reader,
    ) -> Result<Reply, Refused> {
        {
            let mut table = self.table();
            table.retain(|_, entry| entry.over.is_none_or(|over| over.elapsed() < KEPT));
            if table.len() >= MAX_ANSWERS {
                return Err(Refused::Busy);
            }
            table.insert(name, self.entry(session, None));
        }
        let part = part(&mut reader, Instant::now() + FIRST).await;
        let reply = self.keep(name, reader, part);
        // Its asker has it with this, or has nothing to ask for again by.
        if !reply.headers.iter().any(|(name, _)| **name == *REST) {
            self.forget(name);
        }
        match reply.status {
            404 => Err(Refused::UnknownSession),
            _ => Ok(reply),
        }
    }

    /// The beginning of a listen stream: its form.
    pub(super) fn begin_listening(
        &self,
        session: &ConnectionId,
        name: u64,
        reader: Reader,
    ) -> Result<Reply, Refused> {
        let mut table = self.table();
        if table.len() >= MAX_ANSWERS {
            return Err(Refused::Busy);
        }
        table.insert(name, self.entry(session, Some(reader)));
        Ok(reply(name, Some(Form::Events), Bytes::new(), false))
    }

    /// Another part, after waiting for it. One that was asked for before is the same again.
    pub(super) async fn next(&self, session: &ConnectionId, name: u64, wanted: u64) -> Reply {
        let (mut reader, given_up) = {
            let mut table = self.table();
            let entry = table.get_mut(&name);
            let Some(entry) = entry.filter(|entry| entry.session == *session) else {
                return lost();
            };
            if wanted == entry.part
                && let Some(reply) = &entry.reply
            {
                return reply.clone();
            }
            if wanted != entry.part + 1 && wanted != entry.part {
                return lost();
            }
            let Some(reader) = entry.reader.take() else {
                return Reply::text(503, "this part is waited for already");
            };
            entry.part = wanted;
            entry.reply = None;
            entry.share.set(0);
            (reader, Arc::clone(&entry.given_up))
        };
        let part = tokio::select! {
            part = part(&mut reader, Instant::now() + pull::HOLD) => part,
            () = given_up.notified() => None,
        };
        self.keep(name, reader, part)
    }

    /// Gives an answer of this session's up.
    pub(super) fn give_up(&self, session: &ConnectionId, name: u64) {
        let entry = self.table().get(&name).map(|entry| entry.session.clone());
        if entry.as_ref() == Some(session) {
            self.forget(name);
        }
    }

    /// Gives an answer up.
    fn forget(&self, name: u64) {
        // Dropped when the table is free again: that tells the session.
        let entry = self.table().remove(&name);
        if let Some(entry) = entry {
            entry.given_up.notify_one();
        }
        self.moved.notify_waiters();
    }

    /// Waits until all that is written has been asked for.
    pub(in crate::server) async fn empty(&self) {
        loop {
            let moved = self.moved.notified();
            if self.table().values().all(|entry| entry.over.is_some()) {
                return;
            }
            moved.await;
        }
    }

    /// Keeps a part until the next is asked for.
    fn keep(&self, name: u64, reader: Reader, part: Option<Part>) -> Reply {
        let Some(part) = part else {
            self.forget(name);
            return lost();
        };
        let reply = reply(name, part.form, part.body, part.ended);
        // The reader is dropped when the table is free again, if it was forgotten meanwhile.
        let mut reader = Some(reader);
        if let Some(entry) = self.table().get_mut(&name) {
            entry.share.set(reply.body.len());
            entry.reply = Some(reply.clone());
            if part.ended {
                entry.over = Some(Instant::now());
            } else {
                entry.reader = reader.take();
            }
        }
        drop(reader);
        self.moved.notify_waiters();
        reply
    }

    fn entry(&self, session: &ConnectionId, reader: Option<Reader>) -> Entry {
        Entry {
            session: session.clone(),
            reader,
            part: 0,
            reply: None,
            share: Share::new(&self.budget),
            given_up: Arc::default(),
            over: None,
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found of an answer.
struct Part {
    form: Option<Form>,
    body: Bytes,
    ended: bool,
}

/// Waits for something to be written, then takes what there is. `None` when the writer has gone without writing.
async fn part(reader: &mut Reader, until: Instant) -> Option<Part> {
    let mut part = Part {
        form: None,
        body: Bytes::new(),
        ended: false,
    };
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
mod tests {
    use super::*;

    fn answers() -> Arc<Answers> {
        Arc::new(Answers::new(&Arc::new(Budget::new(1 << 20))))
    }

    /// The one that all of these tests are about.
    fn session() -> ConnectionId {
        ConnectionId::parse(&"5".repeat(64)).expect("an id")
    }

    fn has_rest(reply: &Reply) -> bool {
        reply.headers.iter().any(|(name, _)| **name == *REST)
    }

    #[tokio::test]
    async fn a_short_answer_is_whole_at_once_and_nothing_is_kept() {
        let answers = answers();
        let (name, outlet, reader) = answers.open(Takes::Either);
        let text = Bytes::from(vec![b'x'; 3 * PART_BYTES]);
        outlet.whole(text.clone());
        let reply = answers
            .begin(&session(), name, reader)
            .await
            .expect("an answer");
        assert_eq!((form(&reply), &reply.body), (Some(Form::Json), &text));
        assert!(!has_rest(&reply) && answers.table().is_empty());
        assert_eq!(answers.next(&session(), name, 1).await.status, 404);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_comes_in_parts_and_each_can_be_asked_for_again() {
        let answers = answers();
        let (name, outlet, reader) = answers.open(Takes::Either);
        // Nothing is known of it yet.
        let reply = answers
            .begin(&session(), name, reader)
            .await
            .expect("an answer");
        assert!(form(&reply).is_none() && reply.body.is_empty() && has_rest(&reply));
        outlet.begin(Form::Events);
        outlet.push(Bytes::from(vec![b'x'; PART_BYTES]));
        outlet.push(Bytes::from_static(b"y"));
        let first = answers.next(&session(), name, 1).await;
        assert_eq!(form(&first), Some(Form::Events));
        assert_eq!(first.body.len(), PART_BYTES);
        assert_eq!(outlet.waiting(), 1, "the rest waits in its queue");
        assert_eq!(answers.next(&session(), name, 1).await, first);
        let second = answers.next(&session(), name, 2).await;
        assert_eq!(&*second.body, b"y");
        // Gone, and not yet there.
        assert_eq!(answers.next(&session(), name, 1).await.status, 404);
        assert_eq!(answers.next(&session(), name, 4).await.status, 404);
        let quiet = answers.next(&session(), name, 3).await;
        assert!(quiet.body.is_empty() && has_rest(&quiet));
        outlet.push(Bytes::from_static(b"z"));
        drop(outlet);
        let last = answers.next(&session(), name, 4).await;
        assert!(&*last.body == b"z" && !has_rest(&last));
        assert_eq!(answers.next(&session(), name, 4).await, last);
        answers.empty().await;
        // It is not kept for ever.
        tokio::time::advance(KEPT).await;
        let (other, outlet, reader) = answers.open(Takes::Json);
        outlet.whole(Bytes::from_static(b"{}"));
        assert!(answers.begin(&session(), other, reader).await.is_ok());
        assert!(answers.table().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_closed_for_its_writer_even_while_it_is_waited_for() {
        let answers = answers();
        let closed = |outlet: &Outlet| {
            let cx = Context::from_waker(Waker::noop());
            outlet.poll_closed(&cx, false).is_ready()
        };
        let (name, outlet, reader) = answers.open(Takes::Events);
        outlet.begin(Form::Events);
        let reply = answers
            .begin_listening(&session(), name, reader)
            .expect("a stream");
        assert!(form(&reply) == Some(Form::Events) && has_rest(&reply));
        assert!(!closed(&outlet));
        let (started, own) = (Instant::now(), session());
        let (lost, ()) = tokio::join!(answers.next(&own, name, 1), async {
            tokio::task::yield_now().await;
            let again = answers.next(&session(), name, 1).await;
            assert_eq!(again.status, 503, "two cannot wait for one part");
            answers.forget(name);
        });
        assert_eq!((lost.status, started.elapsed()), (404, Duration::ZERO));
        assert!(closed(&outlet));
        // Its session gives it up when nobody reads it.
        let (name, outlet, reader) = answers.open(Takes::Events);
        outlet.begin(Form::Events);
        assert!(answers.begin_listening(&session(), name, reader).is_ok());
        outlet.cut();
        assert!(closed(&outlet) && answers.table().is_empty());
    }

    #[tokio::test]
    async fn a_session_that_ends_without_an_answer_is_unknown() {
        let answers = answers();
        let (name, outlet, reader) = answers.open(Takes::Either);
        drop(outlet);
        let refused = answers.begin(&session(), name, reader).await;
        assert!(matches!(refused, Err(Refused::UnknownSession)));
        assert!(answers.table().is_empty());
    }

    #[tokio::test]
    async fn it_is_given_to_those_who_know_its_session_only() {
        let answers = answers();
        let (name, outlet, reader) = answers.open(Takes::Events);
        outlet.push(Bytes::from_static(b"secret"));
        outlet.begin(Form::Events);
        assert!(answers.begin_listening(&session(), name, reader).is_ok());
        let other = ConnectionId::random().expect("random");
        assert_eq!(answers.next(&other, name, 1).await.status, 404);
        answers.give_up(&other, name);
        assert_eq!(&*answers.next(&session(), name, 1).await.body, b"secret");
        answers.give_up(&session(), name);
        assert_eq!(answers.next(&session(), name, 1).await.status, 404);
    }

    #[tokio::test]
    async fn there_are_only_so_many() {
        let answers = answers();
        let mut writers = Vec::new();
        for count in 0..=MAX_ANSWERS {
            let (name, outlet, reader) = answers.open(Takes::Events);
            let taken = answers.begin_listening(&session(), name, reader).is_ok();
            assert_eq!(taken, count < MAX_ANSWERS);
            writers.push(outlet);
        }
        assert_eq!(answers.table().len(), MAX_ANSWERS);
    }
}
