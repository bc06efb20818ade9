//! One connection as the ferry holds it: the shell around a bridge. It carries out what the bridge asks for, reads
//! the upstream's bytes, calls the timer (late, at times), and stops reading while its client does.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp_ferry::proto::bridge::{Answer, Bridge, CallId, End, Input, Output, Reply, Settings, Verb};

use crate::books::{Asks, Books, Check, Exchange, Kind, Said};
use crate::client::Client;
use crate::queue::{Event, Piece};
use crate::reading::Reader;
use crate::server::Link;
use crate::world::World;

/// How long a client may leave its stream unread.
const STALL: Duration = Duration::from_secs(30);
/// How often a bridge may want its timer at one and the same time.
const MAX_SPINS: u32 = 50;

#[derive(Debug)]
pub struct Connection {
    pub bridge: Bridge<(usize, u64)>,
    pub books: Books,
    pub client: Client,
    readers: BTreeMap<CallId, Reader>,
    /// What has arrived and may not be read yet.
    inbox: VecDeque<(CallId, Piece)>,
    /// What waits for a client that does not read, and since when.
    wire: VecDeque<String>,
    since: Instant,
    pub reads: bool,
    /// When the last message reaches the client that is on its way there.
    arrival: Instant,
    timer: Option<Instant>,
    /// How often the timer was called without time going on.
    spins: (Instant, u32),
    /// Whether the client is gone, or was told to go.
    pub gone: bool,
}

impl World {
    /// A client opens a stream.
    pub fn open(&mut self, returns: bool) -> usize {
        let number = self.connections.len();
        let settings = Settings {
            max_in_flight: self.plan.max_in_flight,
            request_timeout: self.plan.request_timeout,
            request_idle_timeout: self.plan.request_idle_timeout,
            seed: self.random.next(),
            ..Settings::default()
        };
        let client = Client::new(returns, self.plan.acts, &mut self.random);
        self.connections.push(Connection {
            bridge: Bridge::new(settings, self.now),
            books: Books::new(number, self.plan.stateful, self.plan.request_timeout),
            client,
            readers: BTreeMap::new(),
            inbox: VecDeque::new(),
            wire: VecDeque::new(),
            since: self.now,
            reads: true,
            arrival: self.now,
            timer: None,
            spins: (self.now, 0),
            gone: false,
        });
        number
    }

    /// Something happens to a bridge.
    pub fn input(&mut self, number: usize, input: Input<(usize, u64)>) -> Check {
        let now = self.now;
        self.connections[number].bridge.handle(input, now);
        self.settle(number)
    }

    /// Carries out what a bridge asks for, once the books agree.
    pub fn settle(&mut self, number: usize) -> Check {
        let now = self.now;
        while let Some(output) = self.connections[number].bridge.poll_output() {
            self.note(number, || shown(&output));
            match &output {
                Output::Count(what) => self.saw(&format!("{what:?}")),
                Output::Answer(_, Answer::Gone) => self.saw("POST behind the end"),
                Output::Answer(_, Answer::Refused(_)) => self.saw("POST refused"),
                Output::Answer(_, Answer::Busy) => self.saw("POST refused for a full queue"),
                Output::Answer(_, Answer::Invalid(_)) => self.saw("POST invalid"),
                _ => {}
            }
            self.connections[number].books.output(output, now)?;
        }
        for reason in std::mem::take(&mut self.connections[number].books.reasons) {
            self.saw(&reason);
        }
        let connection = &mut self.connections[number];
        connection.books.step(&connection.bridge, now)?;
        for asks in std::mem::take(&mut connection.books.asks) {
            match asks {
                Asks::Start(call) => self.start(number, call),
                Asks::Drop(call) => {
                    self.connections[number].readers.remove(&call);
                    let at = now + self.latency();
                    self.queue.push(at, Event::Dropped((number, call)));
                }
                Asks::Deliver(text) => self.deliver(number, text),
                Asks::End => self.connections[number].gone = true,
            }
        }
        self.set_timer(number);
        Ok(())
    }

    fn start(&mut self, number: usize, call: CallId) {
        // An exchange that was dropped in the very step that began it never leaves.
        let Some(exchange) = self.connections[number].books.exchanges.get(&call) else {
            return;
        };
        let link = Link::new(exchange.clone(), self.now);
        self.server.links.insert((number, call), link);
        let at = self.now + self.latency();
        self.queue.push(at, Event::Reaches((number, call)));
    }

    fn set_timer(&mut self, number: usize) {
        let wanted = self.connections[number].bridge.poll_timeout();
        if wanted == self.connections[number].timer {
            return;
        }
        self.connections[number].timer = wanted;
        if let Some(at) = wanted {
            let late = if self.random.percent(self.plan.late) {
                Duration::from_millis(self.random.next() % 800)
            } else {
                Duration::ZERO
            };
            self.queue
                .push(at.max(self.now) + late, Event::Timer(number, at));
        }
    }

    pub fn on_timer(&mut self, number: usize, at: Instant) -> Check {
        let now = self.now;
        let connection = &mut self.connections[number];
        if connection.timer != Some(at) {
            return Ok(());
        }
        connection.timer = None;
        connection.spins = match connection.spins {
            (since, count) if since == now => (now, count + 1),
            _ => (now, 0),
        };
        if connection.spins.1 > MAX_SPINS {
            return Err("handle_timeout at its own time brings the bridge no further".to_owned());
        }
        connection.bridge.handle_timeout(now);
        self.settle(number)
    }

    /// A message goes to the client, or waits for it to read.
    fn deliver(&mut self, number: usize, text: String) {
        let now = self.now;
        let latency = self.latency();
        let connection = &mut self.connections[number];
        if connection.reads {
            connection.arrival = connection.arrival.max(now + latency);
            let event = Event::Arrives(number, text);
            return self.queue.push(connection.arrival, event);
        }
        if connection.wire.is_empty() {
            connection.since = now;
            self.queue.push(now + STALL, Event::Stalls(number));
        }
        connection.wire.push_back(text);
    }

    /// The client reads again: what waited reaches it, and more is read from the upstream.
    pub fn on_reads(&mut self, number: usize) -> Check {
        let connection = &mut self.connections[number];
        connection.reads = true;
        for text in std::mem::take(&mut connection.wire) {
            self.deliver(number, text);
        }
        self.read(number)
    }

    pub fn on_stalls(&mut self, number: usize) -> Check {
        let connection = &self.connections[number];
        if connection.wire.is_empty() || connection.gone || self.now < connection.since + STALL {
            return Ok(());
        }
        self.note(number, || "> does not read, and is closed".to_owned());
        self.saw("stalled client closed");
        self.goes(number)
    }

    /// The client is gone.
    pub fn goes(&mut self, number: usize) -> Check {
        let connection = &mut self.connections[number];
        connection.gone = true;
        connection.wire.clear();
        connection.books.gone();
        self.input(number, Input::ClientGone)?;
        if !self.connections[number].books.ended {
            return Err("the client is gone, and its stream is not ended".to_owned());
        }
        self.read(number)
    }

    pub fn on_piece(&mut self, number: usize, call: CallId, piece: Piece) -> Check {
        self.connections[number].inbox.push_back((call, piece));
        self.read(number)
    }

    /// Reads what has arrived, while there is room for what may come of it.
    fn read(&mut self, number: usize) -> Check {
        loop {
            let connection = &mut self.connections[number];
            let waiting: usize = connection.wire.iter().map(String::len).sum();
            if waiting >= self.plan.client_buffer && !connection.gone {
                if !connection.inbox.is_empty() {
                    self.saw("upstream not read for its client");
                }
                return Ok(());
            }
            let Some((call, piece)) = connection.inbox.pop_front() else {
                return Ok(());
            };
            if connection.books.exchanges.contains_key(&call) {
                self.take_in(number, call, piece)?;
            } else if self.random.percent(30) {
                self.saw("reply behind the end of its exchange");
                self.take_in_late(number, call, piece)?;
            }
        }
    }

    fn take_in(&mut self, number: usize, call: CallId, piece: Piece) -> Check {
        self.note(number, || format!("<< #{} {}", call.0, piece.shown()));
        let limit = self.plan.max_message;
        let connection = &mut self.connections[number];
        match piece {
            Piece::Head {
                status,
                session,
                body,
            } => {
                connection.readers.insert(call, Reader::new(body, limit));
                if let Some(exchange) = connection.books.exchanges.get_mut(&call) {
                    exchange.named.clone_from(&session);
                    if exchange.kind == Kind::Initialized {
                        connection.books.open_gate(call);
                    }
                }
                let session = session.map(Into::into);
                let reply = Reply::Head {
                    status,
                    session,
                    body,
                };
                self.input(number, Input::Reply(call, reply))
            }
            Piece::Refused(refusal, lost) => {
                if let Some(exchange) = connection.books.closed(call).filter(|_| lost) {
                    connection.books.refused(&exchange);
                }
                let reply = Reply::Refused(Box::new(refusal));
                self.input(number, Input::Reply(call, reply))
            }
            Piece::Bytes(bytes, said) => {
                let reader = connection.readers.get_mut(&call);
                let replies = reader.map(|it| it.push(&bytes)).unwrap_or_default();
                self.replies(number, call, replies, said)
            }
            Piece::End(end, said) => {
                let reader = connection.readers.remove(&call);
                let replies = reader.unwrap_or(Reader::Silent).finish(end);
                self.replies(number, call, replies, said)
            }
        }
    }

    /// What was read must be what the upstream said, each thing when its last byte came.
    fn replies(
        &mut self,
        number: usize,
        call: CallId,
        replies: Vec<Reply>,
        said: Vec<Said>,
    ) -> Check {
        let mut said = said.into_iter();
        let mut over = false;
        for reply in replies {
            let books = &mut self.connections[number].books;
            if let Reply::Message { event_id, .. } | Reply::Mark { event_id, .. } = &reply
                && let Some(id) = event_id
            {
                books.marked(call, id);
            }
            match &reply {
                Reply::Message { text, .. } => {
                    let Some(said) = said.next() else {
                        return Err(format!("nobody said {text:?}"));
                    };
                    if matches!(&said, Said::Notice(wanted) if text != wanted.as_bytes()) {
                        return Err(format!("read {text:?}, and what was said is {said:?}"));
                    }
                    books.hear(call, &said);
                }
                Reply::Oversized => over = said.next().is_none(),
                Reply::End(end) => {
                    if let Some(exchange) = books.closed(call)
                        && matches!(end, End::Unreached(_))
                    {
                        books.unreached(&exchange);
                    }
                    over |= !matches!(end, End::Complete);
                }
                _ => {}
            }
            self.input(number, Input::Reply(call, reply))?;
        }
        match said.next().filter(|_| !over) {
            Some(said) => Err(format!("{said:?} was said, and not read")),
            None => Ok(()),
        }
    }

    /// Replies that were under way when their exchange was dropped: nothing may come of them.
    fn take_in_late(&mut self, number: usize, call: CallId, piece: Piece) -> Check {
        self.note(number, || {
            format!("<< #{} (over) {}", call.0, piece.shown())
        });
        let text = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/void"}"#);
        let reply = match piece {
            Piece::Head { status, body, .. } => Reply::Head {
                status,
                session: Some("void".into()),
                body,
            },
            Piece::Refused(refusal, _) => Reply::Refused(Box::new(refusal)),
            Piece::Bytes(..) => Reply::Message {
                text,
                event_id: None,
            },
            Piece::End(end, _) => Reply::End(end),
        };
        let now = self.now;
        let bridge = &mut self.connections[number].bridge;
        bridge.handle(Input::Reply(call, reply), now);
        match bridge.poll_output() {
            Some(output) => Err(format!("an exchange that is over brought {output:?}")),
            None => Ok(()),
        }
    }
}

impl Books {
    /// The ferry is told that the session of this exchange is unknown.
    fn refused(&mut self, exchange: &Exchange) {
        let name = exchange.session.as_ref();
        if let Some(session) = name.and_then(|name| self.sessions.get_mut(name)) {
            session.refused = true;
        }
    }
}

impl Piece {
    fn shown(&self) -> String {
        match self {
            Self::Bytes(bytes, said) => {
                let text = String::from_utf8_lossy(bytes);
                format!("{text:?}, complete: {said:?}")
            }
            other => format!("{other:?}"),
        }
    }
}

/// An output as a line.
fn shown(output: &Output<(usize, u64)>) -> String {
    match output {
        Output::Send(call, exchange) => {
            let session = exchange.session.as_deref().unwrap_or("-");
            let credential = exchange.context.1;
            let verb = match &exchange.verb {
                Verb::Post(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            format!(">> #{} session={session} cred={credential} {verb}", call.0)
        }
        Output::Deliver(text) => format!("< {}", String::from_utf8_lossy(text)),
        Output::Answer(post, answer) => format!("< p{} {answer:?}", post.0),
        other => format!("{other:?}"),
    }
}
