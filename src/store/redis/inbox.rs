//! The task that waits at this replica's inbox, on a connection of its own because waiting occupies one.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, RedisResult, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::super::handover::{ACK_GRACE, Sender, TakenOver};
use super::keeper::{Backoff, LONGEST_WAIT};
use super::sending::{ASK_AGAIN, Put};
use super::way::{Connection, Trouble};
use super::{Arrived, Core, Handed, Keys, Reply};
use crate::metrics::Counter;

/// How long one wait is, and how long after it the Redis is taken for gone.
const WAIT: Duration = Duration::from_secs(5);
const OVERDUE: Duration = Duration::from_secs(3);
/// The most entries that one look finds, and how long it waits for one. The first on a connection is short and for one entry
/// only: so it is soon known that the inbox can be read, and one that holds more than can cross in time gets shorter.
#[derive(Clone, Copy)]
struct Look {
    most: usize,
    wait: Duration,
}
const LOOK: Look = Look {
    most: 32,
    wait: WAIT,
};
const FIRST_LOOK: Look = Look {
    most: 1,
    wait: AT_LEAST,
};
/// An empty answer that comes sooner is no wait; then this one is made here.
const AT_LEAST: Duration = Duration::from_millis(50);
/// The longest that a request of another replica may be held here, whatever it says.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// An entry with its id, as the Redis gives it.
struct Found {
    id: String,
    entry: Vec<u8>,
}

/// Runs as long as the store is there.
pub(super) async fn read(core: Arc<Core>) {
    let mut kept = core.kept.subscribe();
    let mut backoff = Backoff::new();
    loop {
        // Not before the keeper has a connection: two tasks that try would be twice the crowd, and without one nothing says
        // that the inbox is not another process's. And not longer than it has this one: the next may lead to another server.
        let Ok(number) = kept.wait_for(|number| *number != 0).await.map(|now| *now) else {
            return;
        };
        let began = Instant::now();
        let failed = tokio::select! {
            why = core.read_on() => Some(why),
            // An error means that the store is being dropped, and this task with it.
            _ = kept.wait_for(|now| *now != number) => None,
        };
        if let Some(why) = failed {
            core.metrics.add(Counter::StoreErrors);
            debug!("{}: {why}", core.way);
            if core.state.unread(&why.to_string()) {
                warn!(
                    "{}: this replica's inbox cannot be read: {why}. POSTs that others take for it get 503",
                    core.way
                );
            }
            core.look.notify_one();
            // What went well for a while and broke off is no reason to wait for long.
            if began.elapsed() > LONGEST_WAIT {
                backoff = Backoff::new();
            }
            sleep(backoff.next()).await;
        }
    }
}

impl Core {
    /// Reads until it fails, and says why.
    async fn read_on(self: &Arc<Self>) -> Trouble {
        let mut connection = match self.way.open(WAIT + OVERDUE).await {
            Ok(connection) => connection,
            Err(why) => return why,
        };
        let keys = self.keys_of(self.desk.own());
        if let Err(why) = self.is_ours(&mut connection, &keys).await {
            return why;
        }
        // From the beginning: what was read is deleted there, and what was not deleted is known here.
        let mut last = "0-0".to_owned();
        let mut read: Vec<String> = Vec::new();
        let mut look = FIRST_LOOK;
        loop {
            let began = Instant::now();
            let asked = ask(&mut connection, &keys.inbox, &last, &read, look);
            let found = match timeout(WAIT + OVERDUE, asked).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => return error.into(),
                Err(_) => return Trouble::Away("its inbox does not answer".to_owned()),
            };
            self.state.read();
            if found.is_empty() && began.elapsed() < AT_LEAST {
                sleep(AT_LEAST).await;
            }
            read = found.iter().map(|found| found.id.clone()).collect();
            if let Some(newest) = read.last() {
                last.clone_from(newest);
            } else if began.elapsed() >= WAIT {
                // Where it was emptied while its clock was set back, ids begin anew.
                "0-0".clone_into(&mut last);
            }
            self.take(found);
            look = LOOK;
        }
    }

    /// Whether this is the server that has this replica's heartbeat. At another the inbox would be empty for ever: sentinels
    /// may name one that has been replaced.
    async fn is_ours(&self, connection: &mut Connection, keys: &Keys) -> Result<(), Trouble> {
        let mut get = redis::cmd("GET");
        get.arg(&keys.heartbeat);
        let answer = match timeout(OVERDUE, connection.ask(&get)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Trouble::Away("its inbox does not answer".to_owned())),
        };
        match answer {
            Value::BulkString(there) if there.starts_with(self.desk.process()) => Ok(()),
            _ => Err(Trouble::Away(
                "this replica's heartbeat is not where its inbox is".to_owned(),
            )),
        }
    }

    fn take(self: &Arc<Self>, found: Vec<Found>) {
        let late = |id: &str| {
            let put = id.split('-').next().unwrap_or_default().parse();
            put.map_or(true, |put| self.state.is_late(put))
        };
        let entries: Vec<(Vec<u8>, bool)> = found
            .into_iter()
            .map(|found| {
                let late = late(&found.id);
                (found.entry, late)
            })
            .collect();
        let metrics = &self.metrics.taken_over;
        let count = |outcome| metrics.add(outcome, 1);
        let taken = self.desk.take(&entries, self.time(), count);
        for (sender, request) in taken.requests {
            self.serve(sender, request);
        }
        for sender in taken.astray {
            self.answer_aside(sender, Reply::astray());
        }
    }

    /// Gives a request to the server, and its answer to whoever asked.
    fn serve(self: &Arc<Self>, sender: Sender, request: Handed) {
        let count = |outcome| self.metrics.taken_over.add(outcome, 1);
        let hold = request.hold.min(LONGEST_HOLD) + ACK_GRACE;
        let (reply, replied) = oneshot::channel();
        let permit = Arc::clone(&self.serving).try_acquire_owned();
        let taken = permit.ok().and_then(|permit| {
            let arrived = self.arrivals.try_send(Arrived { request, reply });
            arrived.is_ok().then_some(permit)
        });
        if let Some(permit) = taken {
            count(TakenOver::Request);
            let core = Arc::clone(self);
            tokio::task::spawn(async move {
                let reply = match timeout(hold, replied).await {
                    Ok(Ok(reply)) => reply,
                    _ => Reply::text(503, "the request was not taken in time; try again"),
                };
                core.answer(&sender, &reply).await;
                drop(permit);
            });
            return;
        }
        count(TakenOver::Busy);
        let reply = Reply::text(503, "too many messages wait; try again later");
        self.answer_aside(sender, reply);
    }

    /// Answers what is not served. Without a place even for that, whoever asked finds out by waiting.
    fn answer_aside(self: &Arc<Self>, sender: Sender, reply: Reply) {
        if let Ok(permit) = Arc::clone(&self.aside).try_acquire_owned() {
            let core = Arc::clone(self);
            tokio::task::spawn(async move {
                core.answer(&sender, &reply).await;
                drop(permit);
            });
        }
    }

    /// Whoever asked may be missing for a moment, when the Redis has just come back empty; it waits no longer than this.
    async fn answer(&self, sender: &Sender, reply: &Reply) {
        let entry = self.desk.answer(sender, reply);
        let until = Instant::now() + ACK_GRACE;
        loop {
            match self.put(&sender.replica, &entry, until).await {
                Put::Done => return,
                Put::Gone if Instant::now() < until => sleep(ASK_AGAIN).await,
                lost => {
                    debug!(
                        "{}: an answer for {} is lost: {lost:?}",
                        self.way, sender.replica
                    );
                    return;
                }
            }
        }
    }
}

/// Deletes what was read, and waits for what comes after `last`.
async fn ask(
    connection: &mut Connection,
    inbox: &str,
    last: &str,
    read: &[String],
    look: Look,
) -> RedisResult<Vec<Found>> {
    let mut commands = Pipeline::new();
    if !read.is_empty() {
        commands.cmd("XDEL").arg(inbox).arg(read).ignore();
    }
    commands
        .cmd("XREAD")
        .arg("COUNT")
        .arg(look.most)
        .arg("BLOCK")
        .arg(look.wait.as_millis().to_string())
        .arg("STREAMS")
        .arg(inbox)
        .arg(last);
    let mut answers = connection.ask_all(&commands).await?;
    Ok(answers.pop().map(entries).unwrap_or_default())
}

/// What an answer to `XREAD` holds: a list of pairs of a stream's name and its entries, each a pair of its id and a list of
/// names and values. Whatever is no entry of ours is passed over, but its id is kept, to be deleted.
fn entries(answer: Value) -> Vec<Found> {
    let mut found = Vec::new();
    for stream in list(answer) {
        for entries in list(stream).into_iter().skip(1) {
            for entry in list(entries) {
                let mut parts = list(entry).into_iter();
                let Some(Value::BulkString(id)) = parts.next() else {
                    continue;
                };
                let fields = parts.next().map(list).unwrap_or_default();
                found.push(Found {
                    id: String::from_utf8_lossy(&id).into_owned(),
                    entry: field(fields),
                });
            }
        }
    }
    found
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// The one field of an entry; nothing where there are others.
fn field(fields: Vec<Value>) -> Vec<u8> {
    match <[Value; 2]>::try_from(fields) {
        Ok([Value::BulkString(name), Value::BulkString(entry)]) if name == b"e" => entry,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn entries_are_found_and_what_is_none_keeps_its_id() {
        let entry = |id, fields: &[&str]| {
            Value::Array(vec![
                bulk(id),
                Value::Array(fields.iter().map(|text| bulk(text)).collect()),
            ])
        };
        let all = vec![
            entry("1-0", &["e", "one"]),
            entry("1-1", &["f", "two"]),
            entry("1-2", &["e", "three", "x", "y"]),
            entry("1-3", &[]),
            Value::Nil,
            Value::Int(3),
            Value::Array(vec![]),
            entry("2-0", &["e", ""]),
        ];
        let stream = Value::Array(vec![bulk("name"), Value::Array(all)]);
        let found = entries(Value::Array(vec![stream]));
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.id.as_str(), found.entry.as_slice()))
            .collect();
        let nothing = b"".as_slice();
        assert_eq!(
            found,
            [
                ("1-0", b"one".as_slice()),
                ("1-1", nothing),
                ("1-2", nothing),
                ("1-3", nothing),
                ("2-0", nothing),
            ]
        );
        for nonsense in [
            Value::Nil,
            Value::Int(1),
            bulk("x"),
            Value::Array(vec![Value::Nil]),
        ] {
            assert!(entries(nonsense).is_empty());
        }
    }
}
