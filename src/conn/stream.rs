//! One legacy connection as a task: its mailbox, its upstream exchanges and one timer go into the bridge, and what the
//! bridge asks for is carried out; its client has one stream, the socket of its `GET /sse`.
//!
//! The task lives from that GET until the farewell to the upstream is over, which is a little longer than the client.
//! There is no task per exchange: the few that are open are polled in turn. Nothing here knows a rule of the protocol.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, info};

use super::core::{Core, Origin, Towards};
use super::event_ids::event_id;
use super::wire::Wire;
use super::{LAST_WORDS, Registration, SHORT_STALL, SHORT_STALL_BYTES, Shared};
use crate::metrics::{self, Counter};
use crate::proto::bridge::Carried;
use crate::proto::sse;
use crate::store::{Binding, ConnectionId, Delivery, Front, MAILBOX};
use crate::tap::record::Front as Came;
use crate::tap::{Head, Label};

/// What one connection begins with.
#[derive(Debug)]
pub struct Opening {
    /// Its secret name.
    pub id: ConnectionId,
    /// Its name towards people.
    pub label: Label,
    /// The response head.
    pub head: bytes::Bytes,
    /// Whether the head announces the chunked coding; not towards HTTP/1.0.
    pub chunked: bool,
    /// The `endpoint` event, the first frame of the stream.
    pub first: bytes::Bytes,
    /// The client's address.
    pub peer: IpAddr,
    /// The head of the GET, where somebody watches.
    pub shown: Option<Arc<Head>>,
    /// The query of the GET, to be repeated upstream.
    pub query: Option<Arc<str>>,
    /// What the client carries from its last stream.
    pub carried: Option<Carried>,
    /// The `MCP-Protocol-Version` header of the GET.
    pub version: Option<Box<str>>,
    /// Who may post on it.
    pub binding: Binding,
}

/// Opens a connection on the socket that asked for it: registers it and starts its task. `guard` is dropped when all
/// is over.
pub fn open<G: Send + 'static>(
    shared: &Arc<Shared>,
    opening: Opening,
    socket: TcpStream,
    guard: G,
) {
    let Opening {
        id,
        label,
        head,
        chunked,
        first,
        peer,
        shown,
        query,
        carried,
        version,
        binding,
    } = opening;
    let (mailbox, deliveries) = mpsc::channel(MAILBOX);
    let registration = Registration::new(shared, id, label, Came::Sse, peer, shown);
    registration.claim(mailbox, binding, Front::Stream);
    let mut wire = Wire::new(socket, head, chunked);
    wire.push(first);
    let origin = Origin {
        label,
        front: metrics::labels::Front::Sse,
        query,
        version,
        carries: shared.store.sealer().is_some(),
        ages: true,
        holds: false,
    };
    let mut core = Core::new(Arc::clone(shared), origin);
    if let Some(carried) = carried {
        core.bridge.recall(carried);
    }
    // The task would keep it three times: as what it was given, as what it gives to `run`, and there.
    let connection = Box::new(Connection {
        core,
        wire,
        event_id: None,
        client_gone: false,
        finished: false,
    });
    let span = debug_span!("connection", %label);
    let task = async move {
        let registration = registration;
        connection.run(deliveries, &registration).await;
        drop(registration);
        drop(guard);
    };
    tokio::task::spawn(task.instrument(span));
}

/// What woke the task.
enum Woken {
    Delivery(Box<Delivery>),
    /// The exchange at this place has replies.
    Replies(usize),
    ClientGone,
    Time,
}

struct Connection {
    core: Core,
    wire: Wire,
    /// The event id of the next message, where it has one; an empty one takes back the last.
    event_id: Option<String>,
    client_gone: bool,
    finished: bool,
}

impl Connection {
    async fn run(
        mut self: Box<Self>,
        mut deliveries: mpsc::Receiver<Box<Delivery>>,
        registration: &Registration,
    ) {
        debug!("opened");
        // What the client brought from its last stream counts also while nothing happens.
        self.core.account(self.wire.waiting());
        let mut timer = pin!(tokio::time::sleep_until(self.next_time()));
        self.wire.write();
        while !self.finished {
            // The timer is only ever moved forward: one that fires early costs less than one that is reset each turn.
            let next = self.next_time();
            if next < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            let woken = poll_fn(|cx| {
                // It may have been found closed when it was last written to, by nobody who told.
                let closed = self.wire.is_closed() || self.wire.poll_closed(cx).is_ready();
                if closed && !self.client_gone {
                    return Poll::Ready(Woken::ClientGone);
                }
                if let Poll::Ready(Some(delivery)) = deliveries.poll_recv(cx) {
                    return Poll::Ready(Woken::Delivery(delivery));
                }
                if let Poll::Ready(place) = self.poll_calls(cx) {
                    return Poll::Ready(Woken::Replies(place));
                }
                timer.as_mut().poll(cx).map(|()| Woken::Time)
            })
            .await;
            match woken {
                Woken::Delivery(delivery) => self.on_delivery(*delivery),
                Woken::Replies(place) => self.core.on_replies(place),
                Woken::ClientGone => self.on_client_gone(registration),
                Woken::Time => self.on_time(registration),
            }
            self.carry_out(registration);
            self.wire.write();
            self.core.account(self.wire.waiting());
        }
        // The farewell may be over before a slow client has read its last events.
        let rest = poll_fn(|cx| {
            if self.wire.is_closed() {
                Poll::Ready(())
            } else {
                self.wire.poll_closed(cx)
            }
        });
        if tokio::time::timeout(LAST_WORDS, rest).await.is_err() {
            debug!("the client did not read its last events");
        }
        debug!("closed");
    }

    fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.core.may_read(self.wire.waiting()) {
            self.core.poll_calls(cx)
        } else {
            Poll::Pending
        }
    }

    fn next_time(&self) -> Instant {
        let limits = &self.core.shared.limits;
        let client = match self.wire.stalled_since() {
            _ if self.client_gone => None,
            // Bytes that are written while nothing else happens wake nobody: a look now and then, so that the next
            // keep-alive is not late.
            Some(since) => {
                let often = self.wire.waiting() > SHORT_STALL_BYTES;
                let pause = if often {
                    SHORT_STALL
                } else {
                    limits.keep_alive
                };
                let look = Instant::now() + pause;
                Some(look.min(since + limits.client_stall_timeout))
            }
            None => Some(self.wire.last_moved() + limits.keep_alive),
        };
        // With nobody to keep alive and nothing to wait for, only exchanges can wake the task; a minute is a backstop.
        client
            .into_iter()
            .chain(self.core.next_time(!self.client_gone))
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60))
    }

    fn on_delivery(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Posted(post) => {
                self.core.on_post(post);
            }
            Delivery::Drain(spread) => self.core.on_drain(spread),
            Delivery::Expire => self.core.on_expire(),
            // Only sessions are listened to and ended by a request; dropping the request refuses it.
            Delivery::Listen(_) | Delivery::Leave => {}
        }
    }

    /// The id becomes unknown at once, so that the client's next POST gets its 404 instead of silence.
    fn on_client_gone(&mut self, registration: &Registration) {
        self.client_gone = true;
        registration.release();
        self.core.on_client_gone();
    }

    fn on_time(&mut self, registration: &Registration) {
        let limits = &self.core.shared.limits;
        if !self.client_gone {
            let patience = self.core.patience(self.wire.waiting());
            match self.wire.stalled_since() {
                Some(since) if since + patience <= Instant::now() => {
                    info!("the client has not read for {patience:?}; closing it");
                    self.core.shared.metrics.add(Counter::StalledClients);
                    self.wire.close();
                    self.on_client_gone(registration);
                }
                Some(_) => {}
                None if self.wire.last_moved() + limits.keep_alive <= Instant::now() => {
                    self.wire.push(sse::KEEP_ALIVE);
                }
                None => {}
            }
        }
        self.core.on_time();
    }

    fn carry_out(&mut self, registration: &Registration) {
        while let Some(output) = self.core.next_output() {
            match output {
                Towards::Deliver(text, about) => {
                    self.core.delivered(&text, &about);
                    let id = self.event_id.take();
                    let id = id.as_deref();
                    self.wire.push(sse::message_with_id(&text, id));
                }
                Towards::Carry(text) => {
                    if let Some(sealer) = self.core.shared.store.sealer() {
                        self.event_id = Some(match text.is_empty() {
                            true => String::new(),
                            false => event_id(sealer, &text),
                        });
                    }
                }
                Towards::End => {
                    self.client_gone = true;
                    registration.release();
                    self.wire.end();
                }
                // The POST's own answer says it.
                Towards::TurnedAway(_) => {}
                Towards::Finished => self.finished = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;
    use crate::budget::Budget;
    use crate::config::{Config, CredentialBinding};
    use crate::proto::jsonrpc::Message;
    use crate::store::{Claim, Post, Store};
    use crate::upstream::{Forwarded, Upstream};

    fn shared() -> Arc<Shared> {
        let config = Config::for_upstream("http://127.0.0.1:1/mcp".parse().expect("a URL"));
        Arc::new(Shared {
            upstream: Upstream::new(&config).expect("an upstream"),
            store: Store::alone(&config.replicas).expect("a store"),
            bus: Arc::default(),
            metrics: Arc::default(),
            budget: Arc::new(Budget::new(config.limits.max_buffered)),
            limits: config.limits,
        })
    }

    fn opening(id: ConnectionId) -> Opening {
        let peer = [127, 0, 0, 1].into();
        let opened = Claim {
            fingerprint: None,
            holder: || None,
            address: peer,
        };
        Opening {
            id,
            label: Label(1),
            head: bytes::Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"),
            chunked: false,
            first: sse::endpoint("/messages"),
            peer,
            shown: None,
            query: None,
            carried: None,
            version: None,
            binding: Binding::new(CredentialBinding::Off, opened),
        }
    }

    /// Lets every other task run, and the system be asked what is new.
    async fn let_others_run() {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_client_brings_is_counted_before_it_says_anything() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connect");
        let (socket, _) = listener.accept().await.expect("accept");
        let shared = shared();
        let uris: Vec<String> = (0..256).map(|uri| format!("\"a:{uri:08}\"")).collect();
        let uris = uris.join(",");
        let text = format!(r#"{{"v":1,"initialize":{{}},"version":"9","subscriptions":[{uris}]}}"#);
        let opening = Opening {
            carried: Carried::parse(text.as_bytes()),
            ..opening(ConnectionId::random().expect("random"))
        };
        assert!(opening.carried.is_some());
        open(&shared, opening, socket, ());
        let_others_run().await;
        assert!(shared.budget.held() > text.len());
        drop(client);
        let_others_run().await;
        assert_eq!(shared.budget.held(), 0);
    }

    // The one who notices that the client has gone is whoever happens to write: here the system has not yet told that the
    // socket can be read, which would have told it too.
    #[tokio::test]
    async fn a_client_whose_end_is_noticed_by_a_write_has_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connect");
        let (socket, _) = listener.accept().await.expect("accept");
        let shared = shared();
        let id = ConnectionId::random().expect("random");
        open(&shared, opening(id.clone()), socket, ());
        let_others_run().await;
        let recipient = shared.store.find(&id, Front::Stream).expect("it is open");

        let client = client.into_std().expect("a socket");
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .expect("linger");
        drop(client);
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
        let (answer, answered) = oneshot::channel();
        let post = Post {
            messages: vec![Message::parse(text.into()).expect("a message")],
            batch: false,
            credential: 0,
            version: None,
            forwarded: Arc::new(Forwarded::default()),
            shown: None,
            answer,
            outlet: None,
        };
        assert!(recipient.deliver(post).await);
        answered.await.expect("it was taken");
        let_others_run().await;
        assert!(shared.store.find(&id, Front::Stream).is_none());
        assert_eq!(shared.metrics.get(Counter::ConnectionsClosed), 1);
    }
}
