//! One connection as the ferry holds it: the shell around a bridge. It carries out what the bridge asks for, reads
//! the upstream's bytes, calls the timer (late, at times), and stops reading while its client does.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mcp_ferry::proto::bridge::{Answer, Bridge, CallId, Carried, Input, Output, Settings, Verb};

use mcp_ferry::proto::era::Era;

use crate::books::{Asks, Books, Check};
use crate::client::Client;
use crate::plan::Taken;
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
    pub readers: BTreeMap<CallId, Reader>,
    /// What has arrived and may not be read yet.
    pub inbox: VecDeque<(CallId, Piece)>,
    /// What waits for a client that does not read, and since when.
    pub wire: VecDeque<String>,
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
        let (era, era_fixed) = match self.plan.taken {
            Taken::AsLearnt => (self.learnt.unwrap_or(Era::Handshake), false),
            Taken::For(era) => (era, false),
            Taken::Fixed(era) => (era, true),
        };
        let settings = Settings {
            era,
            era_fixed,
            listen: self.plan.listen,
            max_in_flight: self.plan.max_in_flight,
            request_timeout: self.plan.request_timeout,
            request_idle_timeout: self.plan.request_idle_timeout,
            carry: true,
            seed: self.random.next(),
            ..Settings::default()
        };
        let client = Client::new(returns, self.plan.acts, &mut self.random);
        let mut books = Books::new(number, self.plan.stateful, self.plan.request_timeout);
        books.listens_at_all = self.plan.listen;
        let mut bridge = Bridge::new(settings, self.now);
        if let Some(text) = self.carried.clone().filter(|_| returns) {
            books.recalls(&text);
            bridge.recall(Carried::parse(&text).expect("readable"));
            self.saw("recalled");
        }
        self.connections.push(Connection {
            bridge,
            books,
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
                Output::Learnt(era) => {
                    self.learnt = Some(*era);
                    self.saw(&format!("Learnt {era}"));
                }
                Output::Warn(_) => self.saw("warned"),
                Output::Carry(text) => {
                    self.carried = Some(text.clone());
                    self.saw("Carry");
                }
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
            // Late by the time that was asked for: a timer that is set anew when it is overdue gets no further delay,
            // as it does not from the real shell.
            let rings = (at + late).max(self.now);
            self.queue.push(rings, Event::Timer(number, at));
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
            let version = exchange.version.as_deref().unwrap_or("-");
            let headers: Vec<_> = exchange.mirrored.iter().skip(1).collect();
            format!(
                ">> #{} session={session} version={version} cred={credential} {headers:?} {verb}",
                call.0
            )
        }
        Output::Deliver(text, _) => format!("< {}", String::from_utf8_lossy(text)),
        Output::Answer(post, answer) => format!("< p{} {answer:?}", post.0),
        other => format!("{other:?}"),
    }
}
