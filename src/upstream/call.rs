//! One translated exchange: from the request that the bridge asked for to the replies that it understands.
//!
//! A call is driven by [`Call::poll_replies`], which hands over everything that has already arrived, so that an answer
//! that came in one piece costs one turn. It follows redirects within [`redirect`](super::redirect)'s rules, reads the
//! body by its content type, and turns every failure into an [`End`]. It repeats nothing but a DELETE, once, which is
//! idempotent (RFC 9110 §9.2.2) and would leave a session behind. Bounds: one message holds at most `--max-message`
//! bytes, a refusal's body [`MAX_REFUSAL`].

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::{Response, Uri};
use hyper_util::client::legacy;

use super::breaker::Leave;
use super::{Outgoing, Upstream, redirect};
use crate::proto::bridge::{Body, End, Refusal, Reply, Verb};
use crate::proto::{era, json_lines, sse};

/// Bytes of a refusal's body that are kept; the rest is not read.
pub(super) const MAX_REFUSAL: usize = 1024 * 1024;
/// Frames that are taken in one turn, and the bytes after which it ends: so that a fast upstream does not starve the rest
/// of its connection, and a client that does not read is found out before much was read for it.
const FRAMES_A_TURN: usize = 32;
const BYTES_A_TURN: usize = 64 * 1024;

/// An exchange with the upstream under way.
#[derive(Debug)]
pub struct Call {
    upstream: Arc<Upstream>,
    outgoing: Outgoing,
    uri: Arc<Uri>,
    hops: u8,
    /// Whether its one repetition is used up; only a DELETE has one.
    resent: bool,
    /// Bytes came since the last reply was handed over.
    heard: bool,
    /// Bytes of the body that were taken in this turn.
    taken: usize,
    state: State,
    /// Until it is over: it may be what everybody waits for.
    _leave: Option<Leave>,
    /// What is kept to be shown; `None` when nobody wants it.
    heads: Option<Box<Heads>>,
    /// The answer's headers, where they set cookies; taken by the owner of the jar.
    pub cookies: Option<Box<HeaderMap>>,
}

/// The heads of a call that have not been asked for yet.
#[derive(Debug, Default)]
struct Heads {
    sent: Option<Sent>,
    answered: Option<Answered>,
}

/// The head of a request, as it was sent.
#[derive(Debug)]
pub struct Sent {
    /// The method.
    pub method: hyper::Method,
    /// Where to.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
}

/// The head of an answer, as it came.
#[derive(Debug)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
}

#[derive(Debug)]
enum State {
    Sending(legacy::ResponseFuture),
    /// It was not tried; says why.
    NotTried(String),
    Refused(Incoming, Box<Refusal>, BytesMut),
    Json(Incoming, Collected),
    Events(Incoming, Box<sse::Decoder>),
    Lines(Incoming, Box<json_lines::Decoder>),
    /// A body that says nothing; read to its end so that the connection can be used again.
    Silent(Incoming),
    Done,
}

/// A JSON body so far. An answer of one piece is never copied.
#[derive(Debug, Default)]
struct Collected {
    first: Bytes,
    rest: BytesMut,
}

impl Call {
    pub(super) fn new(upstream: Arc<Upstream>, outgoing: Outgoing, keep_heads: bool) -> Self {
        let uri = upstream.endpoint();
        let leave = upstream.breaker.leave(outgoing.repeated);
        let request = upstream.request(&outgoing, &uri);
        let heads = keep_heads.then(|| {
            let sent = Some(Sent {
                method: request.method().clone(),
                uri: request.uri().clone(),
                headers: request.headers().clone(),
            });
            let answered = None;
            Box::new(Heads { sent, answered })
        });
        let (state, leave) = match leave {
            Err(why) => (State::NotTried(why), None),
            Ok(leave) => (
                State::Sending(upstream.client.request(request)),
                Some(leave),
            ),
        };
        Self {
            heads,
            upstream,
            outgoing,
            uri,
            hops: 0,
            resent: false,
            heard: false,
            taken: 0,
            state,
            _leave: leave,
            cookies: None,
        }
    }

    /// The head of the request, once, where heads are kept.
    pub fn take_sent(&mut self) -> Option<Sent> {
        self.heads.as_mut()?.sent.take()
    }

    /// The head of the answer, once, where heads are kept and it has come.
    pub fn take_answered(&mut self) -> Option<Answered> {
        self.heads.as_mut()?.answered.take()
    }

    /// Where the exchange is, for the cookies it sets.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Adds everything that has happened to `replies`, and is ready when that is anything. After a `Refused` or an
    /// `End` the call is over and must not be polled again.
    pub fn poll_replies(&mut self, cx: &mut Context<'_>, replies: &mut Vec<Reply>) -> Poll<()> {
        self.taken = 0;
        for _ in 0..FRAMES_A_TURN {
            if self.taken >= BYTES_A_TURN {
                break;
            }
            let polled = match &mut self.state {
                State::NotTried(why) => {
                    replies.push(Reply::End(End::Unreached(std::mem::take(why))));
                    self.state = State::Done;
                    break;
                }
                State::Sending(response) => Pin::new(response)
                    .poll(cx)
                    .map(|answer| self.on_response(answer, replies)),
                State::Refused(body, ..)
                | State::Json(body, _)
                | State::Events(body, _)
                | State::Lines(body, _)
                | State::Silent(body) => Pin::new(body)
                    .poll_frame(cx)
                    .map(|frame| self.on_frame(frame, replies)),
                State::Done => break,
            };
            if polled.is_pending() {
                if replies.is_empty() && !self.heard {
                    return Poll::Pending;
                }
                break;
            }
        }
        if std::mem::take(&mut self.heard) && replies.is_empty() {
            replies.push(Reply::Alive);
        }
        Poll::Ready(())
    }

    fn on_response(
        &mut self,
        answer: Result<Response<Incoming>, legacy::Error>,
        replies: &mut Vec<Reply>,
    ) {
        let response = match answer {
            Ok(response) => {
                self.upstream.breaker.succeeded();
                response
            }
            Err(_) if matches!(self.outgoing.verb, Verb::Delete) && !self.resent => {
                self.resent = true;
                return self.send();
            }
            Err(error) => {
                self.state = State::Done;
                let why = root_cause(&error);
                let end = if error.is_connect() {
                    self.upstream.breaker.failed(&why);
                    End::Unreached(why)
                } else {
                    End::Lost(why)
                };
                return replies.push(Reply::End(end));
            }
        };
        let (head, body) = response.into_parts();
        if let Some(to) = redirect::target(&self.uri, head.status, &head.headers)
            .filter(|_| self.hops < redirect::MAX_HOPS)
        {
            return self.follow(to);
        }
        if let Some(heads) = &mut self.heads {
            heads.answered = Some(Answered {
                status: head.status.as_u16(),
                headers: head.headers.clone(),
            });
        }
        if head.headers.contains_key(header::SET_COOKIE) {
            self.cookies = Some(Box::new(head.headers.clone()));
        }
        let status = head.status.as_u16();
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        if !head.status.is_success() {
            if status == 404 && self.outgoing.session.is_none() {
                self.upstream.forget_redirect();
            }
            let refusal = Refusal {
                status,
                content_type: text("content-type").map(str::to_owned),
                challenges: head
                    .headers
                    .get_all(header::WWW_AUTHENTICATE)
                    .iter()
                    .map(|value| value.as_bytes().to_vec())
                    .collect(),
                retry_after: text("retry-after").and_then(|seconds| seconds.trim().parse().ok()),
                location: text("location")
                    .map(|location| location.split('?').next().unwrap_or_default().to_owned()),
                body: Bytes::new(),
            };
            self.state = State::Refused(body, Box::new(refusal), BytesMut::new());
            return;
        }
        let session = text(era::SESSION_HEADER)
            .filter(|id| !id.is_empty())
            .map(Into::into);
        let media = text("content-type").map(|value| {
            value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        });
        let encoded =
            text("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"));
        let limit = self.upstream.max_message;
        let (kind, state) = match media.as_deref() {
            _ if encoded => {
                let coding = text("content-encoding").unwrap_or_default().to_owned();
                replies.push(Reply::Head {
                    status,
                    session,
                    body: Body::Other,
                });
                replies.push(Reply::End(End::WrongType(format!(
                    "a body in the encoding {coding:?} that was not asked for"
                ))));
                self.state = State::Done;
                return;
            }
            Some("text/event-stream") => (
                Body::Events,
                State::Events(body, Box::new(sse::Decoder::new(limit))),
            ),
            Some(
                "application/json-lines"
                | "application/jsonl"
                | "application/x-ndjson"
                | "application/x-jsonlines",
            ) => (
                Body::Lines,
                State::Lines(body, Box::new(json_lines::Decoder::new(limit))),
            ),
            Some("application/json") => (Body::Json, State::Json(body, Collected::default())),
            Some(media) if media.ends_with("+json") => {
                (Body::Json, State::Json(body, Collected::default()))
            }
            _ if matches!(status, 202 | 204 | 205) || body.is_end_stream() => {
                (Body::Other, State::Silent(body))
            }
            None => (Body::Json, State::Json(body, Collected::default())),
            Some(media) => {
                replies.push(Reply::Head {
                    status,
                    session,
                    body: Body::Other,
                });
                replies.push(Reply::End(End::WrongType(media.chars().take(80).collect())));
                self.state = State::Done;
                return;
            }
        };
        replies.push(Reply::Head {
            status,
            session,
            body: kind,
        });
        self.state = state;
    }

    fn follow(&mut self, to: Uri) {
        self.hops += 1;
        self.uri = Arc::new(to);
        self.upstream.move_endpoint((*self.uri).clone());
        self.send();
    }

    fn send(&mut self) {
        let request = self.upstream.request(&self.outgoing, &self.uri);
        self.state = State::Sending(self.upstream.client.request(request));
    }

    fn on_frame(
        &mut self,
        frame: Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>,
        replies: &mut Vec<Reply>,
    ) {
        match frame {
            Some(Ok(frame)) => {
                self.heard = true;
                if let Ok(data) = frame.into_data() {
                    self.taken += data.len();
                    self.on_data(data, replies);
                }
            }
            Some(Err(error)) => self.on_body_end(Some(root_cause(&error)), replies),
            None => self.on_body_end(None, replies),
        }
    }

    fn on_data(&mut self, data: Bytes, replies: &mut Vec<Reply>) {
        match &mut self.state {
            State::Refused(_, _, kept) => {
                let room = MAX_REFUSAL.saturating_sub(kept.len());
                kept.extend_from_slice(data.get(..data.len().min(room)).unwrap_or_default());
                if data.len() >= room {
                    self.on_body_end(None, replies);
                }
            }
            State::Json(body, collected) => {
                let limit = self.upstream.max_message;
                if collected.len() + data.len() > limit {
                    replies.push(Reply::Oversized);
                    replies.push(Reply::End(End::Complete));
                    self.state = State::Done;
                } else {
                    let left = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
                    collected.push(data, left.min(limit));
                }
            }
            State::Events(_, decoder) => decoder.push(&data, |decoded| match decoded {
                sse::Decoded::Event(event) => on_event(event, replies),
                sse::Decoded::Oversized { .. } => replies.push(Reply::Oversized),
            }),
            State::Lines(_, decoder) => decoder.push(&data, |decoded| on_line(decoded, replies)),
            State::Sending(_) | State::NotTried(_) | State::Silent(_) | State::Done => {}
        }
    }

    /// The body ended: whole, or broken off for the given reason.
    fn on_body_end(&mut self, broken: Option<String>, replies: &mut Vec<Reply>) {
        let end = broken.clone().map_or(End::Complete, End::Cut);
        match std::mem::replace(&mut self.state, State::Done) {
            State::Refused(_, mut refusal, kept) => {
                refusal.body = kept.freeze();
                return replies.push(Reply::Refused(refusal));
            }
            State::Json(_, collected) if broken.is_none() => {
                let text = collected.finish();
                if !text.trim_ascii().is_empty() {
                    replies.push(Reply::Message {
                        text,
                        event_id: None,
                    });
                }
            }
            State::Lines(_, mut decoder) if broken.is_none() => {
                decoder.finish(|decoded| on_line(decoded, replies))
            }
            _ => {}
        }
        replies.push(Reply::End(end));
    }

    /// Bytes of a message that has not come whole.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.state {
            State::Refused(_, _, kept) => kept.len(),
            State::Json(_, collected) => collected.len(),
            State::Events(_, decoder) => decoder.held(),
            State::Lines(_, decoder) => decoder.held(),
            State::Sending(_) | State::NotTried(_) | State::Silent(_) | State::Done => 0,
        }
    }

    /// What this exchange asks for.
    #[must_use]
    pub fn verb(&self) -> &Verb {
        &self.outgoing.verb
    }
}

impl Collected {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Takes a piece, after which `left` bytes are announced. There is one buffer, and of the announced size: growing it
    /// step by step would need three times the message for a moment.
    fn push(&mut self, data: Bytes, left: usize) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(self.first.len() + data.len() + left);
            self.rest
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        }
    }
}

fn on_event(event: sse::Event, replies: &mut Vec<Reply>) {
    if event.retry.is_some() || event.data.is_empty() {
        replies.push(Reply::Mark {
            event_id: event.id.clone(),
            retry: event.retry.map(Duration::from_millis),
        });
    }
    // Streamable HTTP names no event types: anything but `message` is not for JSON-RPC.
    if !event.data.is_empty() && (event.name.is_empty() || &*event.name == "message") {
        replies.push(Reply::Message {
            text: event.data,
            event_id: event.id,
        });
    }
}

fn on_line(decoded: json_lines::Decoded, replies: &mut Vec<Reply>) {
    replies.push(match decoded {
        json_lines::Decoded::Line(text) => Reply::Message {
            text,
            event_id: None,
        },
        json_lines::Decoded::Oversized => Reply::Oversized,
    });
}

/// The words of the innermost cause, which says most: "Connection refused" rather than "client error".
#[must_use]
pub fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
