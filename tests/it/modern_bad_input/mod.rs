//! What a modern upstream and its clients can do wrong in numbers and sizes that no transcript should hold.
//!
//! Each case is played with the bridge alone: a client of 2025-06-18 that can be asked for everything has shaken hands with a
//! modern upstream. Whatever one call meets, another one must go on as if nothing had happened ([`Talk::goes_on`]).
//! `rounds` holds what has to do with questions to the client, `sizes` the rest.

mod rounds;
mod sizes;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp_ferry::proto::bridge::{
    Body, Bridge, CallId, Counted, End, Input, Output, PostId, Posted, Reply, Settings, Verb,
};
use mcp_ferry::proto::era::Era;
use mcp_ferry::proto::jsonrpc::Message;

/// The longest value of a header, in bytes.
const MAX_VALUE: usize = 8 * 1024;

/// A connection, and what came of it.
struct Talk {
    bridge: Bridge<()>,
    now: Instant,
    posts: u64,
    sent: VecDeque<(CallId, String)>,
    aborted: usize,
    delivered: VecDeque<String>,
    counted: Vec<Counted>,
    /// Bytes that are held while nothing is in flight: what the client said of itself.
    kept: usize,
}

impl Talk {
    /// A client that has shaken hands with a modern upstream of these capabilities.
    fn with(capabilities: &str) -> Self {
        let settings = Settings {
            era: Era::Modern,
            era_fixed: true,
            ..Settings::default()
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant will do as the first; time passes by hand"
        )]
        let now = Instant::now();
        let mut talk = Self {
            bridge: Bridge::new(settings, now),
            now,
            posts: 0,
            sent: VecDeque::new(),
            aborted: 0,
            delivered: VecDeque::new(),
            counted: Vec::new(),
            kept: 0,
        };
        talk.post(
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"sampling":{},"roots":{},"elicitation":{}},"clientInfo":{"name":"old","version":"1"}}}"#,
        );
        talk.answer(&format!(
            r#"{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{capabilities}}}"#
        ));
        assert!(talk.next_delivered().contains(r#""id":0,"result""#));
        talk.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        talk.kept = talk.bridge.held_bytes();
        assert!((1..1024).contains(&talk.kept), "{}", talk.kept);
        talk
    }

    fn handle(&mut self, input: Input<()>) {
        self.bridge.handle(input, self.now);
        self.take_outputs();
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.bridge.poll_output() {
            match output {
                Output::Send(call, exchange) => {
                    let Verb::Post(text) = exchange.verb else {
                        panic!("a modern upstream is only posted to");
                    };
                    let long = |value: &str| value.len() > MAX_VALUE;
                    assert!(!exchange.mirrored.iter().any(|it| long(&it.value)));
                    self.sent.push_back((call, utf8(&text)));
                }
                Output::Deliver(text, _) => self.delivered.push_back(utf8(&text)),
                Output::Abort(_) => self.aborted += 1,
                Output::Count(what) => self.counted.push(what),
                _ => {}
            }
        }
    }

    fn post(&mut self, text: &str) {
        self.posts += 1;
        let message = Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect("a message");
        self.handle(Input::Posted(Posted {
            post: PostId(self.posts),
            messages: vec![message],
            batch: false,
            credential: 1,
            version: None,
            context: (),
        }));
    }

    fn reply(&mut self, call: CallId, reply: Reply) {
        self.handle(Input::Reply(call, reply));
    }

    fn begin(&mut self, call: CallId, body: Body) {
        let (status, session) = (200, None);
        self.reply(
            call,
            Reply::Head {
                status,
                session,
                body,
            },
        );
    }

    fn say(&mut self, call: CallId, text: String) {
        let event_id = None;
        let text = text.into();
        self.reply(call, Reply::Message { text, event_id });
    }

    /// What was sent upstream next.
    fn next_sent(&mut self) -> (CallId, String) {
        self.sent.pop_front().expect("something is sent upstream")
    }

    fn next_delivered(&mut self) -> String {
        let next = self.delivered.pop_front();
        next.expect("something is delivered to the client")
    }

    /// The upstream answers what was sent next with this result. Gives back what was sent.
    fn answer(&mut self, result: &str) -> String {
        let (call, text) = self.next_sent();
        let id = Message::parse(text.clone().into()).expect("a message");
        let id = id.id_text();
        self.begin(call, Body::Json);
        self.say(
            call,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        );
        self.reply(call, Reply::End(End::Complete));
        text
    }

    /// Lets time pass, stopping wherever the bridge wants to be called.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.bridge.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.bridge.handle_timeout(self.now);
            self.take_outputs();
        }
        self.now = until;
    }

    /// Nothing is left over, and a call goes through in one exchange.
    fn goes_on(&mut self) {
        assert!(self.sent.is_empty(), "{:?}", self.sent);
        assert!(self.delivered.is_empty(), "{:?}", self.delivered);
        let held = (self.bridge.in_flight(), self.bridge.held_bytes());
        assert_eq!(held, (0, self.kept));
        self.post(r#"{"jsonrpc":"2.0","id":"on","method":"prompts/list"}"#);
        self.answer(r#"{"resultType":"complete","prompts":[]}"#);
        let answer = self.next_delivered();
        assert_eq!(
            answer,
            r#"{"jsonrpc":"2.0","id":"on","result":{"prompts":[]}}"#
        );
        assert!(self.sent.is_empty() && self.delivered.is_empty());
    }

    /// The next thing that the client gets is this request's error, short, with these words in it.
    fn fails(&mut self, id: &str, words: &str) {
        let error = self.next_delivered();
        assert!(error.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error""#)));
        assert!(error.contains(words), "{error}");
        assert!(error.len() < 1024, "{} bytes of error", error.len());
    }
}

fn utf8(text: &Bytes) -> String {
    String::from_utf8(text.to_vec()).expect("UTF-8")
}

fn get(id: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"prompts/get","params":{{"name":"a"}}}}"#)
}
