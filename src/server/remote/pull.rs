//! The rest of an answer that another replica's session gives, pulled part by part: the next is asked for when the client
//! has read the last, so that a slow client holds up the session as it would there.
//!
//! A part that did not come is asked for again, until the owner has been out of reach for [`PATIENCE`]: so a short failure
//! of what is between the two is not seen. After that the client's socket is closed, which it cannot take for the end of
//! the answer. A client whose answer has not begun by then is told.

use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};

use super::{Away, PART, REST, answers, number, numbered};
use crate::budget::Share;
use crate::conn::SHORT_STALL;
use crate::metrics::Counter;
use crate::outlet::{Form, Outlet};
use crate::server::Server;
use crate::server::gauge::Held;
use crate::store::{ACK_GRACE, HandOverError, Handed, Method, Reply};

/// How long the owner waits for something to answer with before it says that there is nothing yet.
pub(super) const HOLD: Duration = Duration::from_secs(9);
/// How long an owner that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before it is.
const PAUSE: Duration = Duration::from_secs(1);
/// How long after its owner has a part it may be asked for again: the last attempt, until its answer would be too late.
pub(super) const LONGEST: Duration = PATIENCE
    .saturating_add(PAUSE)
    .saturating_add(HOLD)
    .saturating_add(ACK_GRACE);

/// Whose answer it is.
pub(super) struct Rest {
    /// The session.
    pub(super) away: Away,
    /// The client, as its socket says.
    pub(super) peer: IpAddr,
}

/// Why there will be no more of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lost {
    /// Its session has ended, or is gone with its owner.
    Session,
    /// The owner is out of reach, or could not hand it over.
    Answer,
}

/// Writes an answer from its first part to its end, or until its client is gone. `held` says meanwhile that there is
/// something in flight.
///
/// # Errors
/// When the rest of it will not come.
pub(super) async fn run(
    server: &Server,
    rest: Rest,
    first: Reply,
    outlet: Outlet,
    held: Option<Held>,
) -> Result<(), Lost> {
    let mut share = Share::new(&server.shared.budget);
    let mut reply = first;
    let mut part = 0;
    let name = loop {
        let more = number(&reply.headers, REST);
        write(&outlet, reply);
        if more.is_none() {
            outlet.end();
        }
        let here = read(server, &outlet, &mut share).await;
        let Some(name) = more else { return Ok(()) };
        if !here {
            break name;
        }
        part += 1;
        tokio::select! {
            next = next(server, &rest, name, part) => match next {
                Ok(next) => reply = next,
                Err(lost) => {
                    debug!(?lost, "there will be no more of an answer");
                    // Where nothing of it was said the client gets another answer instead.
                    if outlet.form().is_some() {
                        outlet.cut();
                    }
                    return Err(lost);
                }
            },
            () = gone(&outlet) => break name,
        }
    };
    drop(held);
    // Nobody reads it any more. If this does not arrive, the owner gives it up when nobody asks.
    let forget = rest.request(Method::Delete, name, 0);
    let _ = server
        .shared
        .store
        .hand_over(&rest.away.owner, forget)
        .await;
    Ok(())
}

fn write(outlet: &Outlet, reply: Reply) {
    match answers::form(&reply) {
        Some(Form::Json) => outlet.whole(reply.body),
        Some(Form::Events) => {
            outlet.begin(Form::Events);
            outlet.push(reply.body);
        }
        // Nothing is known of it yet, or nothing has been written since.
        None => {}
    }
}

/// Waits until the client has read all that there is, which `share` counts. `false` when it is gone, or is closed because it
/// does not read.
async fn read(server: &Server, outlet: &Outlet, share: &mut Share) -> bool {
    let shared = &server.shared;
    loop {
        let waiting = outlet.waiting();
        share.set(waiting);
        if waiting == 0 {
            return true;
        }
        let moved = poll_fn(|cx| match outlet.poll_closed(cx, true) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending if outlet.waiting() < waiting => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        });
        // A look now and then, because there is less patience when memory is short.
        let end = |waiting| outlet.last_moved() + shared.patience(waiting);
        let until = end(waiting).min(Instant::now() + SHORT_STALL);
        match timeout_at(until, moved).await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_) if end(waiting) <= Instant::now() => {
                info!(
                    "the client of another replica's session has not read its answer for too long; closing it"
                );
                shared.metrics.add(Counter::StalledClients);
                outlet.cut();
                return false;
            }
            Err(_) => {}
        }
    }
}

async fn gone(outlet: &Outlet) {
    poll_fn(|cx| outlet.poll_closed(cx, false)).await;
}

/// The next part.
async fn next(server: &Server, rest: &Rest, name: u64, part: u64) -> Result<Reply, Lost> {
    let store = &server.shared.store;
    let since = Instant::now();
    loop {
        let request = rest.request(Method::Get, name, part);
        match store.hand_over(&rest.away.owner, request).await {
            Ok(reply) if reply.status == 200 => return Ok(reply),
            Ok(reply) if reply.status == 404 => return Err(Lost::Session),
            Err(HandOverError::OwnerGone) => return Err(Lost::Session),
            Ok(reply) if reply.status != 503 => return Err(Lost::Answer),
            Err(HandOverError::TooLarge) => return Err(Lost::Answer),
            Ok(_) | Err(_) if since.elapsed() >= PATIENCE => return Err(Lost::Answer),
            Ok(_) | Err(_) => sleep(PAUSE).await,
        }
    }
}

impl Rest {
    fn request(&self, method: Method, name: u64, part: u64) -> Handed {
        Handed {
            front: self.away.front,
            id: self.away.id.clone(),
            method,
            headers: vec![numbered(REST, name), numbered(PART, part)],
            peer: self.peer,
            body: Bytes::new(),
            hold: match method {
                Method::Get => HOLD,
                Method::Post | Method::Delete => Duration::ZERO,
            },
        }
    }
}
