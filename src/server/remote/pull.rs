//! The rest of an answer that another replica's session gives, pulled part by part: the next is asked for when the client
//! has read the last, so that a slow client holds up the session as it would there.
//!
//! A part that did not come is asked for again, until the owner has been out of reach for [`PATIENCE`]: so a short failure
//! of what is between the two is not seen. After that the client's socket is closed, which it cannot take for the end of
//! the answer.

use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::{Away, PART, REST, answers, number, numbered};
use crate::outlet::{Form, Outlet};
use crate::server::Server;
use crate::store::{HandOverError, Handed, Method, Reply};

/// How long the owner waits for something to answer with before it says that there is nothing yet.
pub(super) const HOLD: Duration = Duration::from_secs(9);
/// How long an owner that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before it is.
const PAUSE: Duration = Duration::from_secs(1);

/// What is still to come of an answer.
pub(super) struct Rest {
    /// The session.
    pub(super) away: Away,
    /// The client, as its socket says.
    pub(super) peer: IpAddr,
    /// What the owner calls it.
    pub(super) name: u64,
}

/// Writes an answer from its first part to its end, or until its client is gone.
pub(super) async fn run(server: &Server, rest: Rest, first: Reply, outlet: Outlet) {
    let mut reply = first;
    let mut part = 0;
    loop {
        write(&outlet, &reply);
        if number(&reply.headers, REST).is_none() {
            outlet.end();
            return;
        }
        part += 1;
        if !read(server, &outlet).await {
            break;
        }
        tokio::select! {
            next = next(server, &rest, part) => match next {
                Some(next) => reply = next,
                None => {
                    debug!("the rest of an answer is lost with its owner");
                    outlet.cut();
                    return;
                }
            },
            () = gone(&outlet) => break,
        }
    }
    // Nobody reads it any more. If this does not arrive, the owner gives it up when nobody asks.
    let forget = rest.request(Method::Delete, 0);
    let _ = server
        .shared
        .store
        .hand_over(&rest.away.owner, forget)
        .await;
}

fn write(outlet: &Outlet, reply: &Reply) {
    match answers::form(reply) {
        Some(Form::Json) => outlet.whole(reply.body.clone()),
        Some(Form::Events) => {
            outlet.begin(Form::Events);
            outlet.push(reply.body.clone());
        }
        // Nothing is known of it yet.
        None => {}
    }
}

/// Waits until the client has read all that there is. `false` when it is gone, or is closed because it does not read.
async fn read(server: &Server, outlet: &Outlet) -> bool {
    let patience = server.shared.limits.client_stall_timeout;
    loop {
        let waiting = outlet.waiting();
        if waiting == 0 {
            return true;
        }
        let moved = poll_fn(|cx| match outlet.poll_closed(cx, true) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending if outlet.waiting() < waiting => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        });
        match timeout_at(outlet.last_moved() + patience, moved).await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_) => {
                outlet.cut();
                return false;
            }
        }
    }
}

async fn gone(outlet: &Outlet) {
    poll_fn(|cx| outlet.poll_closed(cx, false)).await;
}

/// The next part. `None` when there will be none.
async fn next(server: &Server, rest: &Rest, part: u64) -> Option<Reply> {
    let store = &server.shared.store;
    let since = Instant::now();
    loop {
        let request = rest.request(Method::Get, part);
        match store.hand_over(&rest.away.owner, request).await {
            Ok(reply) if reply.status == 200 => return Some(reply),
            Ok(reply) if reply.status != 503 => return None,
            Err(HandOverError::OwnerGone | HandOverError::TooLarge) => return None,
            Ok(_) | Err(_) if since.elapsed() >= PATIENCE => return None,
            Ok(_) | Err(_) => sleep(PAUSE).await,
        }
    }
}

impl Rest {
    fn request(&self, method: Method, part: u64) -> Handed {
        Handed {
            front: self.away.front,
            id: self.away.id.clone(),
            method,
            headers: vec![numbered(REST, self.name), numbered(PART, part)],
            peer: self.peer,
            body: Bytes::new(),
            hold: HOLD,
        }
    }
}
