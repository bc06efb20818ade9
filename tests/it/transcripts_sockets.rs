//! Runs every transcript of `fixtures/transcripts/` a second time, through the real proxy: a client on raw sockets, a
//! scripted upstream on raw sockets, the ferry in this process, a clock that moves only by the transcript's `@` lines.
//!
//! What counts is each side's own order: the client's stream, each POST's status, the requests that reach the upstream
//! (matched by what is in them, for they come on connections of their own). Behind each group of lines nothing else may
//! come. What only the bridge can say (`=` lines) is not seen here. A refused connection is a real one: the upstream
//! stops listening before the line that makes the ferry connect.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use mcp_ferry::config::{Config, UpstreamEra};
use mcp_ferry::proto::era::Era;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::support::client::{self, Client, Item};
use crate::support::clock::{Clock, within};
use crate::support::event_ids;
use crate::support::ferry::Ferry;
use crate::support::http::Response;
use crate::support::transcript::{self, Line, Reply, Request, Status, Step, Transcript};
use crate::support::upstream::{Answer, Call, Events, Received, Upstream};

/// The most bytes of one message, for transcripts in which the upstream exceeds it.
const MAX_MESSAGE: usize = 16 * 1024;

/// The upstream's address, which it can leave and come back to. A socket that never listens keeps the port.
struct Port {
    address: SocketAddr,
    _kept: TcpSocket,
    upstream: Option<Upstream>,
}

impl Port {
    fn new() -> Self {
        let kept = TcpSocket::new_v4().expect("a socket");
        kept.set_reuseaddr(true).expect("an option");
        kept.bind(([127, 0, 0, 1], 0).into()).expect("bind");
        let address = kept.local_addr().expect("an address");
        Self {
            address,
            _kept: kept,
            upstream: None,
        }
    }

    fn open(&mut self) -> &mut Upstream {
        self.upstream.get_or_insert_with(|| {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseaddr(true).expect("an option");
            socket.bind(self.address).expect("bind");
            Upstream::on(socket.listen(128).expect("listen"), |_| None)
        })
    }
}

/// How far an exchange is, on the upstream's side.
enum Exchange {
    Asked(Call),
    Begun(Events),
    /// Answered whole.
    Over,
}

struct Stage<'a> {
    lines: &'a [Line],
    clock: Clock,
    ferry: Ferry,
    port: Port,
    client: Option<Client>,
    /// Where the client posts to, also when its stream is gone.
    endpoint: (SocketAddr, String),
    /// Messages of the stream that were read and not expected yet.
    stream: VecDeque<Item>,
    /// What the next message must give the client to carry.
    carried: Option<String>,
    posts: Vec<(String, JoinHandle<Response>)>,
    exchanges: BTreeMap<u64, Exchange>,
    finished: bool,
}

impl<'a> Stage<'a> {
    async fn new(transcript: &'a Transcript) -> Self {
        let clock = Clock::stop();
        let port = Port::new();
        let url = format!("http://{}/mcp", port.address)
            .parse()
            .expect("a URL");
        let oversized = |line: &Line| matches!(line.step, Step::Reply(_, Reply::Oversized));
        let named =
            |(name, value): &(String, String)| (name == "last-event-id").then(|| value.clone());
        let carried = transcript
            .settings
            .iter()
            .find_map(named)
            .unwrap_or_default();
        let sealed = event_ids::sealed(1, &carried);
        let mut headers = Vec::new();
        let configure = |config: &mut Config| {
            if transcript.lines.iter().any(oversized) {
                config.limits.max_message = MAX_MESSAGE;
            }
            for (name, value) in &transcript.settings {
                match name.as_str() {
                    "max-in-flight" => {
                        config.limits.max_in_flight = value.parse().expect("a number")
                    }
                    "request-timeout" => {
                        config.limits.request_timeout = transcript::setting_duration(value)
                    }
                    "request-idle-timeout" => {
                        config.limits.request_idle_timeout = transcript::setting_duration(value)
                    }
                    "upstream-era" => {
                        let modern = value == "modern";
                        let era = if modern { Era::Modern } else { Era::Handshake };
                        config.upstream.era = UpstreamEra::Fixed(era);
                    }
                    "upstream-listen" => config.limits.upstream_listen = value == "on",
                    "downgrade-content" => config.limits.downgrade_content = value == "on",
                    "event-ids" => config.replicas.keys = Some(event_ids::keys(1)),
                    "last-event-id" => headers.push(("Last-Event-ID", sealed.as_str())),
                    "version-hint" => headers.push(("MCP-Protocol-Version", value.as_str())),
                    _ => panic!("unknown setting {name:?}"),
                }
            }
        };
        let ferry = Ferry::with(url, configure).await;
        let mut client = Client::open_with(ferry.address, "/sse", &headers).await;
        let ids = |(name, _): &(String, String)| name == "event-ids";
        client.stream.takes_ids = transcript.settings.iter().any(ids);
        let endpoint = (client.address, client.endpoint.clone());
        Self {
            lines: &transcript.lines,
            clock,
            ferry,
            port,
            client: Some(client),
            endpoint,
            stream: VecDeque::new(),
            carried: None,
            posts: Vec::new(),
            exchanges: BTreeMap::new(),
            finished: false,
        }
    }

    /// Plays the transcript. The number of lines that were played is written down, for whoever reports a failure.
    async fn play(mut self, played: &std::cell::Cell<usize>) {
        let mut at = 0;
        while let Some(line) = self.lines.get(at) {
            let group = self.lines[at + 1..]
                .iter()
                .take_while(|line| !line.step.is_input())
                .count();
            played.set(at + 1 + group);
            let group = &self.lines[at + 1..=at + group];
            self.prepare(group).await;
            self.feed(&line.step, group).await;
            self.expect(group).await;
            at += 1 + group.len();
            let next = self.lines.get(at).map(|line| &line.step);
            let early = matches!(next, Some(Step::Reply(_, Reply::Unreached)));
            self.nothing_else(early).await;
        }
        self.leave().await;
    }

    /// The upstream listens, or not, as what comes next has it.
    async fn prepare(&mut self, group: &[Line]) {
        let requests = group.iter().filter_map(|line| match &line.step {
            Step::Request(request) => Some(self.reached(request.call)),
            _ => None,
        });
        let reached: Vec<bool> = requests.collect();
        assert!(
            reached.iter().all(|it| *it == reached[0]),
            "some of these are reached, and some are not"
        );
        match reached.first() {
            Some(false) => {
                self.port.upstream = None;
                self.settle().await;
            }
            Some(true) => {
                self.port.open();
            }
            None => {}
        }
    }

    /// Whether the transcript lets the exchange find a connection.
    fn reached(&self, call: u64) -> bool {
        let first = self.lines.iter().find_map(|line| match &line.step {
            Step::Reply(of, reply) if *of == call => Some(reply),
            _ => None,
        });
        first != Some(&Reply::Unreached)
    }

    async fn feed(&mut self, step: &Step, group: &[Line]) {
        match step {
            Step::Post(post) => {
                let (address, endpoint) = self.endpoint.clone();
                let (credential, version) =
                    (format!("Bearer {}", post.credential), post.version.clone());
                let body = post.body.clone();
                let posted = tokio::task::spawn(async move {
                    let mut headers = vec![("Authorization", credential.as_str())];
                    headers.extend(
                        version
                            .as_deref()
                            .map(|version| ("MCP-Protocol-Version", version)),
                    );
                    client::post(address, &endpoint, &headers, body).await
                });
                self.posts.push((post.label.clone(), posted));
            }
            Step::Gone => self.client = None,
            Step::Drain => self.ferry.drain(),
            Step::DrainExpired => self.pass(Duration::from_secs(20)).await,
            Step::Wait(time) => self.pass(*time).await,
            // The proxy's attempts to connect fail at once, so they come at other times than in a transcript that
            // answers them one by one: the last of them may still be ahead, or may be over.
            Step::Reply(_, Reply::Unreached) if group.is_empty() => {}
            Step::Reply(_, Reply::Unreached) => self.pass(Duration::from_secs(1)).await,
            Step::Reply(call, reply) => self.reply(*call, reply).await,
            _ => unreachable!("not an input"),
        }
    }

    /// Time passes in steps, so that what a timer brings about happens near its time.
    async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(50).max(time / 400);
        let mut left = time;
        while !left.is_zero() {
            let now = left.min(step);
            tokio::time::advance(now).await;
            self.breathe().await;
            left -= now;
        }
        // Timers round up to the next millisecond.
        tokio::time::advance(Duration::from_millis(1)).await;
    }

    async fn reply(&mut self, call: u64, reply: &Reply) {
        let exchange = self
            .exchanges
            .remove(&call)
            .expect("an exchange that is open");
        let next = match (exchange, reply) {
            (
                Exchange::Asked(call),
                Reply::Head {
                    status,
                    body,
                    session,
                    whole,
                },
            ) => {
                let content_type = match body.as_str() {
                    "json" => "application/json",
                    "sse" => "text/event-stream",
                    "lines" => "application/x-ndjson",
                    other => other,
                };
                let mut headers = Vec::new();
                headers
                    .extend((!content_type.is_empty()).then_some(("Content-Type", content_type)));
                headers.extend(
                    session
                        .as_deref()
                        .map(|session| ("Mcp-Session-Id", session)),
                );
                match whole {
                    Some(body) => {
                        call.answer(Answer::new(*status, &headers, body)).await;
                        Exchange::Over
                    }
                    None => Exchange::Begun(call.events_with(&headers).await),
                }
            }
            (
                Exchange::Asked(call),
                Reply::Refused {
                    status,
                    headers,
                    body,
                },
            ) => {
                let headers: Vec<(&str, &str)> = headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                call.answer(Answer::new(*status, &headers, body)).await;
                Exchange::Over
            }
            (Exchange::Asked(call), Reply::Lost) => {
                call.reset();
                Exchange::Over
            }
            (Exchange::Begun(events), Reply::End) => {
                events.end().await;
                Exchange::Over
            }
            (Exchange::Begun(events), Reply::Cut) => {
                drop(events);
                Exchange::Over
            }
            (Exchange::Begun(mut events), reply) => {
                events.raw(on_stream(reply)).await;
                Exchange::Begun(events)
            }
            (_, reply) => panic!("no time for {reply:?}"),
        };
        self.exchanges.insert(call, next);
    }

    /// Everything that must come of the last input.
    async fn expect(&mut self, group: &[Line]) {
        let steps = || group.iter().map(|line| &line.step);
        let mut requests: Vec<&Request> = steps()
            .filter_map(|step| match step {
                Step::Request(request) if self.reached(request.call) => Some(request),
                _ => None,
            })
            .collect();
        while !requests.is_empty() {
            let call = self.port.open().next().await;
            let found = requests
                .iter()
                .position(|request| is(request, &call.request));
            let found = found.unwrap_or_else(|| panic!("upstream came {:?}", call.request));
            self.exchanges
                .insert(requests.remove(found).call, Exchange::Asked(call));
        }
        for step in steps() {
            match step {
                Step::Status(status) => self.expect_status(status).await,
                Step::Delivered(expected) => match self.next_item().await {
                    Item::Message(text) if transcript::matches(expected, &text) => {
                        let client = self.client.as_ref().expect("a client");
                        let id = client.stream.event_id.as_deref();
                        let text = id.map(|id| match id {
                            "" => "nothing".to_owned(),
                            id => event_ids::opened(1, id),
                        });
                        assert_eq!(text, self.carried.take(), "the event id of {expected}");
                    }
                    other => panic!("on the stream came {other:?}"),
                },
                Step::Carried(text) => self.carried = Some(text.clone()),
                Step::StreamEnd if self.client.is_some() => match self.next_item().await {
                    Item::End => {}
                    other => panic!("on the stream came {other:?}"),
                },
                Step::Aborted(call) => match self.exchanges.remove(call) {
                    Some(Exchange::Asked(call)) => {
                        within("it to be dropped", call.abandoned()).await
                    }
                    Some(Exchange::Begun(events)) => {
                        within("it to be dropped", events.abandoned()).await
                    }
                    Some(Exchange::Over) | None => {}
                },
                Step::Noted(what) if what == "finished" => {
                    self.finished = true;
                    self.ferry.quiet().await;
                }
                _ => {}
            }
        }
    }

    async fn expect_status(&mut self, expected: &Status) {
        let at = match &expected.label {
            Some(label) => self.posts.iter().position(|(open, _)| open == label),
            None => (self.posts.len() == 1).then_some(0),
        };
        let (label, posted) = self.posts.remove(at.expect("that POST, or the only one"));
        let response = within("a status", posted).await.expect("no panic");
        assert_eq!(
            response.status(),
            expected.status,
            "POST {label}: {response:?}"
        );
        match expected.status {
            202 => assert_eq!(response.text(), "Accepted"),
            401 | 403 => assert_eq!(response.text(), expected.body),
            _ => assert!(response.text().contains(&expected.body), "{response:?}"),
        }
        let challenges: Vec<&str> = expected
            .headers
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(response.head.all("www-authenticate"), challenges);
    }

    /// The next thing on the client's stream that is no keep-alive.
    async fn next_item(&mut self) -> Item {
        loop {
            let item = match self.stream.pop_front() {
                Some(item) => item,
                None => self.client.as_mut().expect("a client").next().await,
            };
            if item != Item::KeepAlive {
                return item;
            }
        }
    }

    /// Nothing more may come of it: no message (unless `early` allows for one of the next line's), no status, no request.
    async fn nothing_else(&mut self, early: bool) {
        self.settle().await;
        if let Some(client) = &mut self.client {
            let ready = tokio::select! {
                biased;
                item = client.try_next() => item.ok(),
                () = tokio::task::yield_now() => None,
            };
            match ready {
                None | Some(Item::KeepAlive) => {}
                // A stream that has ended is read once, where its end is expected.
                Some(Item::End)
                    if self.finished
                        || self.lines.iter().any(|line| line.step == Step::StreamEnd) => {}
                Some(item) if early => self.stream.push_back(item),
                Some(item) => panic!("then came on the stream {item:?}"),
            }
        }
        if let Some((label, _)) = self.posts.iter().find(|(_, posted)| posted.is_finished()) {
            panic!("then POST {label} got its status");
        }
        if let Some(upstream) = &mut self.port.upstream {
            upstream.assert_quiet();
        }
    }

    /// Lets everything happen that can happen now. Whether something does not happen takes some waiting to see.
    async fn settle(&self) {
        for _ in 0..3 {
            self.breathe().await;
        }
    }

    /// A moment of real time in which sockets are served.
    async fn breathe(&self) {
        let nap = || std::thread::park_timeout(Duration::from_micros(300));
        tokio::task::spawn_blocking(nap).await.expect("no panic");
    }

    /// The client leaves if it has not, an obliging upstream takes its farewell, and nothing may be left.
    async fn leave(mut self) {
        self.client = None;
        assert!(
            self.posts.is_empty(),
            "POSTs without a status: {:?}",
            self.posts
        );
        self.port.open();
        while !self.finished {
            let upstream = self.port.open();
            tokio::select! {
                biased;
                () = self.ferry.quiet() => self.finished = true,
                call = upstream.next() => call.answer(Answer::accepted()).await,
            }
        }
        self.ferry.stop().await;
        drop(self.clock);
    }
}

/// What the upstream writes into the body of an answer.
fn on_stream(reply: &Reply) -> String {
    match reply {
        Reply::Event { id, retry, data } => {
            let id = id
                .as_ref()
                .map(|id| format!("id: {id}\n"))
                .unwrap_or_default();
            let retry = retry
                .map(|retry| format!("retry: {retry}\n"))
                .unwrap_or_default();
            format!(
                "{id}{retry}data: {}\n\n",
                data.as_deref().unwrap_or_default()
            )
        }
        Reply::Line(text) => format!("{text}\n"),
        Reply::Oversized => format!("data: {}\n\n", "x".repeat(MAX_MESSAGE + 1)),
        other => panic!("not on a stream: {other:?}"),
    }
}

/// Whether a request upstream is the expected one.
fn is(expected: &Request, request: &Received) -> bool {
    let credential = format!("Bearer {}", expected.credential);
    let mirrored = |(name, value): &(String, String)| request.header(name) == Some(value);
    request.method() == expected.verb
        && expected.mirrored.iter().all(mirrored)
        && request.mirrored() == expected.mirrored.len()
        && transcript::matches(&expected.body, request.text())
        && request.header("mcp-session-id") == expected.session.as_deref()
        && request.header("mcp-protocol-version") == expected.version.as_deref()
        && request.header("last-event-id") == expected.last_event_id.as_deref()
        && request.header("authorization") == Some(credential.as_str())
}

fn run(transcript: &Transcript) -> Result<(), String> {
    let played = std::cell::Cell::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let play = std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async { Stage::new(transcript).await.play(&played).await });
    });
    let outcome = std::panic::catch_unwind(play);
    runtime.shutdown_background();
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let told: Vec<&str> = transcript
            .lines
            .iter()
            .take(played.get())
            .map(|line| line.text.as_str())
            .collect();
        format!(
            "{}\n{}\n  {}",
            transcript.name(),
            told.join("\n"),
            text.unwrap_or_default()
        )
    })
}

#[test]
fn every_transcript_runs_through_the_real_proxy() {
    let mut transcripts = transcript::all();
    // `TRANSCRIPT=resume` plays only those.
    if let Ok(wanted) = std::env::var("TRANSCRIPT") {
        transcripts.retain(|transcript| transcript.name().contains(&wanted));
    }
    let (played, skipped): (Vec<_>, Vec<_>) = transcripts
        .iter()
        .partition(|transcript| transcript.bridge_only.is_none());
    println!("{} through sockets", played.len());
    for transcript in skipped {
        let why = transcript.bridge_only.as_deref().unwrap_or_default();
        println!("only through the bridge: {}: {why}", transcript.name());
    }
    let half = |odd: usize| {
        let played = &played;
        move || -> Vec<String> {
            let mine = played.iter().skip(odd).step_by(2);
            mine.filter_map(|transcript| run(transcript).err())
                .collect()
        }
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves = [scope.spawn(half(0)), scope.spawn(half(1))];
        halves
            .into_iter()
            .flat_map(|half| half.join().expect("no panic"))
            .collect()
    });
    assert!(!played.is_empty());
    assert!(
        failures.is_empty(),
        "{} of {} differ\n\n{}",
        failures.len(),
        played.len(),
        failures.join("\n\n")
    );
}

#[test]
fn what_differs_is_noticed() {
    let post = r#"> {"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    let answer = r#"< {"jsonrpc":"2.0","id":1,"error":{"code":-32601,…}}"#;
    let ping = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let outcome = |text: String| run(&transcript::parse(&text));
    assert_eq!(
        outcome(format!(
            "{post}\n{answer}\n< 202\n> gone\n< end\n= finished\n"
        )),
        Ok(())
    );
    for wrong in [
        format!("{post}\n< 202\n"),
        format!("{post}\n{answer}\n"),
        format!("{post}\n{answer}\n< 400\n"),
        format!("{post}\n< {{\"jsonrpc\":\"2.0\", \"id\":1,…\n< 202\n"),
        format!("> {ping}\n>> #1 POST session=- version=- {ping}\n"),
        format!("> {ping}\n"),
    ] {
        assert!(outcome(wrong.clone()).is_err(), "{wrong}");
    }
}
