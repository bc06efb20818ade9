//! Any course of things around one connection's state machine.
//!
//! The input is read as what happens: the client posts (single messages, batches, what it made up), the upstream
//! replies in any order and any form that the shell hands on, time passes, a drain begins, the client goes. Whatever the
//! course, each POST is answered once, no request has two outcomes, what is open stays within its bounds, each step
//! says a bounded amount, timers lead on, and after the client has gone everything ends. `tests/simulation/` holds more
//! rules over courses that a sane client and a sane upstream could take; here neither need be sane. With `FUZZ_SHOW=1`
//! the course is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp_ferry::proto::bridge::{
    Answer, Body, Bridge, CallId, Carried, End, Input, MAX_ASKED, MAX_NOTICES, Output, PostId,
    Posted, Refusal, Reply, Settings, Verb,
};
use mcp_ferry::proto::jsonrpc::{Id, Kind, Message, quote};

use super::Decisions;

/// Ids that meet: of both sides, equal ones in other forms, one that looks like the ferry's own.
const IDS: [&str; 8] = [
    "1",
    "2",
    "\"1\"",
    "1.0",
    "\"ferry:1\"",
    "0",
    "1e400",
    "\"\\u0031\"",
];

const SESSIONS: [Option<&str>; 4] = [None, Some("s1"), Some("s2"), Some("s\u{7f}3")];

pub fn check(input: &[u8]) {
    let mut course = Course::new(Decisions::new(input));
    while !course.decisions.is_empty() {
        course.step();
    }
    course.end();
}

/// An exchange that is open: what was asked, whether its answer has begun, and the id of the request in it.
struct Open {
    verb: Verb,
    begun: bool,
    id: Option<String>,
}

struct Course<'a> {
    decisions: Decisions<'a>,
    max_in_flight: usize,
    bridge: Bridge<()>,
    now: Instant,
    last_post: u64,
    /// POSTs without a status: the ids of the requests in them, and how many messages they hold.
    posts: BTreeMap<u64, (Vec<Id>, usize)>,
    /// How many outcomes each id may still have.
    owed: BTreeMap<Id, usize>,
    calls: BTreeMap<CallId, Open>,
    last_call: u64,
    /// What the client was asked and has not answered.
    asked: BTreeSet<String>,
    /// The longest text that anybody said so far.
    longest: usize,
    ended: bool,
    finished: bool,
    /// Whether to print what happens.
    shown: bool,
}

impl<'a> Course<'a> {
    fn new(mut decisions: Decisions<'a>) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "any instant will do as the first; time passes by hand"
        )]
        let now = Instant::now();
        let max_in_flight = decisions.pick(&[128, 1, 2]);
        let settings = Settings {
            max_in_flight,
            request_timeout: Duration::from_secs(decisions.pick(&[60, 3600])),
            carry: true,
            ..Settings::default()
        };
        Self {
            decisions,
            max_in_flight,
            bridge: Bridge::new(settings, now),
            now,
            last_post: 0,
            posts: BTreeMap::new(),
            owed: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            asked: BTreeSet::new(),
            longest: 0,
            ended: false,
            finished: false,
            shown: std::env::var_os("FUZZ_SHOW").is_some(),
        }
    }

    fn step(&mut self) {
        match self.decisions.below(16) {
            0..5 => self.post(1),
            5 => {
                let count = self.decisions.below(5);
                self.post(count);
            }
            6..13 => self.reply(),
            13 => {
                let millis = u64::from(self.decisions.byte()) * 100;
                self.pass(Duration::from_millis(millis));
            }
            14 => {
                let time = self.bridge.poll_timeout();
                let wait = time.map(|at| at.saturating_duration_since(self.now));
                self.pass(wait.unwrap_or_default());
            }
            _ => match self.decisions.below(5) {
                0 => self.handle(Input::Drain),
                1 => self.handle(Input::Expire),
                2 => self.handle(Input::ClientGone),
                3 => self.handle(Input::Retire),
                // A shell whose clock was late.
                _ => self.now += Duration::from_secs(1),
            },
        }
    }

    /// The client goes, the upstream says nothing more, time passes: then all must be over.
    fn end(&mut self) {
        self.handle(Input::ClientGone);
        let until = self.now + Duration::from_secs(120);
        while !self.finished {
            let at = self.bridge.poll_timeout().expect("something to wait for");
            assert!(at <= until, "the farewell takes longer than two minutes");
            self.pass(at.saturating_duration_since(self.now));
        }
        assert!(self.posts.is_empty(), "without a status: {:?}", self.posts);
        let open: Vec<&Verb> = self.calls.values().map(|open| &open.verb).collect();
        assert!(open.is_empty(), "still open: {open:?}");
        assert_eq!(self.bridge.in_flight(), 0);
        assert_eq!(self.bridge.poll_timeout(), None);
        // Too late, and answered all the same.
        self.post(1);
        assert!(self.posts.is_empty());
    }

    /// Posts so many messages, as a batch unless it is one.
    fn post(&mut self, count: usize) {
        let messages: Vec<Message> = (0..count).filter_map(|_| self.client_message()).collect();
        let batch = count != 1;
        if messages.is_empty() && !batch {
            return;
        }
        let requests = messages
            .iter()
            .filter(|message| message.kind() == Kind::Request);
        let ids: Vec<Id> = requests
            .filter_map(|message| message.id().cloned())
            .collect();
        for id in &ids {
            *self.owed.entry(id.clone()).or_default() += 1;
        }
        self.last_post += 1;
        self.posts.insert(self.last_post, (ids, messages.len()));
        let posted = Posted {
            post: PostId(self.last_post),
            messages,
            batch,
            credential: u64::from(self.decisions.byte() % 3),
            version: self
                .decisions
                .pick(&[None, Some("2025-03-26")])
                .map(Into::into),
            context: (),
        };
        self.handle(Input::Posted(posted));
    }

    fn client_message(&mut self) -> Option<Message> {
        let id = self.decisions.pick(&IDS);
        let call = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
        };
        let note = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
        };
        let text = match self.decisions.below(14) {
            0 => call("initialize", r#"{"protocolVersion":"2024-11-05"}"#),
            1 => call("initialize", r#"{"protocolVersion":7}"#),
            2 => note("notifications/initialized", "{}"),
            3 => call("tools/call", r#"{"_meta":{"progressToken":1}}"#),
            4 => call("tools/list", "{}"),
            5 => call("ping", "null"),
            6 => call("logging/setLevel", r#"{"level":"debug"}"#),
            7 => call("resources/subscribe", r#"{"uri":"a"}"#),
            8 => call("server/discover", "{}"),
            9 => note(
                "notifications/cancelled",
                &format!(r#"{{"requestId":{id}}}"#),
            ),
            10 => note("notifications/cancelled", r#"{"requestId":{}}"#),
            11 => {
                let place = self.decisions.below(self.asked.len().max(1));
                let asked = self.asked.iter().nth(place).cloned();
                let id = asked.unwrap_or_else(|| id.to_owned());
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
            }
            12 => r#"{"jsonrpc":"2.0","error":{"code":1,"message":""}}"#.to_owned(),
            _ => String::from_utf8_lossy(self.decisions.piece()).into_owned(),
        };
        self.longest = self.longest.max(text.len());
        Message::parse(Bytes::from(text)).ok()
    }

    /// An exchange goes on, or one that is not open any more.
    fn reply(&mut self) {
        let place = self.decisions.below(self.calls.len() + 1);
        let Some(call) = self.calls.keys().nth(place).copied() else {
            let call = CallId(self.last_call / 2);
            self.calls.remove(&call);
            return self.handle(Input::Reply(call, Reply::End(End::Complete)));
        };
        let begun = self.calls[&call].begun;
        let reply = if begun {
            self.going_on(call)
        } else {
            self.beginning()
        };
        if matches!(reply, Reply::End(_) | Reply::Refused(_)) {
            self.calls.remove(&call);
        } else if let Some(open) = self.calls.get_mut(&call) {
            open.begun = true;
        }
        self.handle(Input::Reply(call, reply));
    }

    fn beginning(&mut self) -> Reply {
        match self.decisions.below(8) {
            0..5 => Reply::Head {
                status: self.decisions.pick(&[200, 202, 204, 299]),
                session: self.decisions.pick(&SESSIONS).map(Into::into),
                body: self
                    .decisions
                    .pick(&[Body::Json, Body::Events, Body::Lines, Body::Other]),
            },
            5 | 6 => {
                let refusal = Refusal {
                    status: self
                        .decisions
                        .pick(&[400, 401, 403, 404, 405, 409, 429, 500, 503, 307]),
                    retry_after: self.decisions.pick(&[None, Some(0), Some(u64::MAX)]),
                    location: self
                        .decisions
                        .pick(&[None, Some("elsewhere")])
                        .map(Into::into),
                    body: self.upstream_text(None),
                    ..Refusal::default()
                };
                Reply::Refused(Box::new(refusal))
            }
            _ => Reply::End(self.how_it_ends()),
        }
    }

    fn going_on(&mut self, call: CallId) -> Reply {
        match self.decisions.below(10) {
            0..6 => {
                let id = self.calls.get(&call).and_then(|open| open.id.clone());
                Reply::Message {
                    text: self.upstream_text(id.as_deref()),
                    event_id: self
                        .decisions
                        .pick(&[None, Some("e1"), Some("")])
                        .map(Into::into),
                }
            }
            6 => Reply::Mark {
                event_id: self.decisions.pick(&[None, Some("e2")]).map(Into::into),
                retry: self
                    .decisions
                    .pick(&[None, Some(0), Some(u64::MAX)])
                    .map(Duration::from_millis),
            },
            7 => Reply::Oversized,
            _ => Reply::End(self.how_it_ends()),
        }
    }

    fn how_it_ends(&mut self) -> End {
        let why = "said so".to_owned();
        match self.decisions.below(5) {
            0 => End::Complete,
            1 => End::Cut(why),
            2 => End::Unreached(why),
            3 => End::Lost(why),
            _ => End::WrongType(why),
        }
    }

    /// What an upstream says in an exchange for the request of this id.
    fn upstream_text(&mut self, own: Option<&str>) -> Bytes {
        let other = self.decisions.pick(&IDS);
        let result = |id: &str, what: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},{what}}}"#);
        let own = own.unwrap_or(other);
        let text = match self.decisions.below(12) {
            0 => result(own, r#""result":{"protocolVersion":"2025-11-25"}"#),
            1 => result(own, r#""result":{}"#),
            2 => result(own, r#""error":{"code":-32000,"message":"no"}"#),
            3 => result(
                "null",
                r#""error":{"code":-32600,"message":"session not found"}"#,
            ),
            4 => result(other, r#""result":null"#),
            5 => result(other, r#""method":"ping""#),
            6 => result(other, r#""method":"sampling/createMessage","params":{}"#),
            7 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{other}}}}}"#
            ),
            8 => r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#.to_owned(),
            9 => format!(
                "[{},{}]",
                result(own, r#""result":1"#),
                result(other, r#""result":2"#)
            ),
            10 => return Bytes::copy_from_slice(self.decisions.piece()),
            _ => quote(&String::from_utf8_lossy(self.decisions.piece())),
        };
        Bytes::from(text)
    }

    /// Time passes; the bridge is called when it wants to be.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut calls = 0;
        while let Some(at) = self.bridge.poll_timeout().filter(|at| *at <= until) {
            calls = if at > self.now { 0 } else { calls + 1 };
            assert!(calls < 50, "its own time brings the bridge no further");
            self.now = at.max(self.now);
            self.bridge.handle_timeout(self.now);
            self.watch();
        }
        self.now = until;
    }

    fn handle(&mut self, input: Input<()>) {
        if let Input::Reply(_, Reply::Message { text, .. }) = &input {
            self.longest = self.longest.max(text.len());
        }
        if self.shown {
            eprintln!("> {input:?}");
        }
        self.bridge.handle(input, self.now);
        self.watch();
    }

    /// Takes the outputs of one step.
    fn watch(&mut self) {
        let open = self.calls.len() + self.posts.len() + self.bridge.in_flight() + self.owed.len();
        let most = 32 + MAX_NOTICES + 8 * (open + self.asked.len());
        let mut count = 0;
        while let Some(output) = self.bridge.poll_output() {
            if self.shown {
                eprintln!("< {output:?}");
            }
            count += 1;
            assert!(count <= most, "one step says more than {most} things");
            let too_late = self.finished && !matches!(output, Output::Answer(_, Answer::Gone));
            assert!(!too_late, "behind the end came {output:?}");
            match output {
                Output::Answer(post, answer) => self.on_status(post.0, &answer),
                Output::Send(call, exchange) => {
                    assert!(
                        call.0 > self.last_call,
                        "an exchange's number is used twice"
                    );
                    self.last_call = call.0;
                    let id = match &exchange.verb {
                        Verb::Post(text) => {
                            let message = Message::parse(text.clone()).expect("a message is sent");
                            message.id().map(|_| message.id_text().to_owned())
                        }
                        Verb::Get { .. } | Verb::Delete => None,
                    };
                    let (verb, begun) = (exchange.verb, false);
                    self.calls.insert(call, Open { verb, begun, id });
                }
                Output::Abort(call) => {
                    assert!(self.calls.remove(&call).is_some(), "{call:?} was not open");
                }
                Output::Deliver(text, _) => self.on_delivery(text),
                Output::Carry(text) => {
                    let readable = text.is_empty() || Carried::parse(&text).is_some();
                    assert!(readable, "{text:?}");
                }
                Output::EndStream => assert!(!std::mem::replace(&mut self.ended, true)),
                Output::Count(_) | Output::Learnt(_) | Output::Warn(_) => {}
                Output::Finished => self.finished = true,
            }
        }
        assert!(self.bridge.in_flight() <= self.max_in_flight);
        assert!(self.asked.len() <= MAX_ASKED);
        // The listen stream, the handshake's two, what lingers, the farewell's last words.
        let most = self.max_in_flight + MAX_NOTICES + MAX_ASKED + 32;
        assert!(
            self.calls.len() <= most,
            "{} exchanges are open",
            self.calls.len()
        );
    }

    fn on_status(&mut self, post: u64, answer: &Answer) {
        let (ids, messages) = self.posts.remove(&post).expect("a POST is answered once");
        // A batch that the upstream refused in part may go on in others, or have been answered in part.
        if *answer == Answer::Accepted || matches!(answer, Answer::Refused(_)) && messages > 1 {
            return;
        }
        for id in ids {
            self.pay(&id);
        }
    }

    fn on_delivery(&mut self, text: Bytes) {
        assert!(!self.ended, "delivered behind the end of the stream");
        assert!(
            text.len() <= 8 * self.longest + 2048,
            "{} bytes",
            text.len()
        );
        assert!(!text.contains(&b'\n') && !text.contains(&b'\r'));
        let message = Message::parse(text).expect("a message is delivered");
        match message.kind() {
            Kind::Response => self.pay(message.id().expect("an answer names its request")),
            Kind::Request => {
                let fresh = self.asked.insert(message.id_text().to_owned());
                assert!(fresh, "asked twice under {}", message.id_text());
            }
            Kind::Notification => {
                if let Some((_, id)) = message.param("requestId") {
                    self.asked.remove(id);
                }
            }
        }
    }

    /// One outcome of this id came.
    fn pay(&mut self, id: &Id) {
        let left = self.owed.get_mut(id).expect("nobody asked under this id");
        *left = left.checked_sub(1).expect("one outcome too many");
        if *left == 0 {
            self.owed.remove(id);
        }
    }
}
