//! Runs every transcript of `fixtures/transcripts/` through the bridge alone.
//!
//! What a line feeds in must bring out exactly the lines that follow it, in order, byte for byte. At the end nothing
//! may be left: every POST answered, every exchange over except the listen stream, and a client that leaves then is
//! followed by the end of the session and by `finished`. A failure prints the transcript up to the line that differs.
//! `TRANSCRIPTS_REWRITE=1` writes what came out into the files instead: read the difference before you keep it.
//! Over 600 lines, because the player, what it makes of each line, and what shows that it notices belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp_ferry::proto::bridge::{
    Answer, Body, Bridge, CallId, Carried, End, Input, Mirrored, Output, PostId, Posted, Refusal,
    Reply, Settings, Verb,
};
use mcp_ferry::proto::era::Era;
use mcp_ferry::proto::jsonrpc::{self, Message};

use crate::support::transcript::{self, Line, Step, Transcript};

/// There are at least this many; one that gets lost is noticed.
const WRITTEN: usize = 216;

/// A bridge, and the lines that its outputs make.
struct Run {
    bridge: Bridge<String>,
    now: Instant,
    /// Labels of the POSTs, by number, and which of them have no status yet.
    posts: Vec<String>,
    unanswered: BTreeSet<u64>,
    /// Exchanges that are open, and which of them have been answered in part.
    open: BTreeMap<CallId, Verb>,
    begun: BTreeSet<CallId>,
    seen: Vec<String>,
    ended: bool,
    finished: bool,
    /// What the upstream was last known to speak.
    era: Era,
}

impl Run {
    fn new(settings: &[(String, String)]) -> Self {
        let mut with = Settings::default();
        let mut recalled = None;
        for (name, value) in settings {
            let time = || transcript::setting_duration(value);
            match name.as_str() {
                "max-in-flight" => with.max_in_flight = value.parse().expect("a number"),
                "request-timeout" => with.request_timeout = time(),
                "request-idle-timeout" => with.request_idle_timeout = time(),
                "upstream-era" => {
                    (with.era, with.era_fixed) = match value.as_str() {
                        "handshake" => (Era::Handshake, true),
                        "modern" => (Era::Modern, true),
                        "learnt-modern" => (Era::Modern, false),
                        other => panic!("unknown era {other:?}"),
                    }
                }
                "upstream-listen" => with.listen = value == "on",
                "downgrade-content" => with.downgrade_content = value == "on",
                "event-ids" => with.carry = value == "on",
                "last-event-id" => recalled = Carried::parse(value.as_bytes()),
                "version-hint" => with.version_hint = Some(value.as_str().into()),
                _ => panic!("unknown setting {name:?}"),
            }
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant will do as the first; time passes by hand"
        )]
        let now = Instant::now();
        let era = with.era;
        let mut bridge = Bridge::new(with, now);
        if let Some(carried) = recalled {
            bridge.recall(carried);
        }
        Self {
            bridge,
            now,
            posts: Vec::new(),
            unanswered: BTreeSet::new(),
            open: BTreeMap::new(),
            begun: BTreeSet::new(),
            seen: Vec::new(),
            ended: false,
            finished: false,
            era,
        }
    }

    fn feed(&mut self, step: &Step) {
        match step {
            Step::Post(post) => {
                let body = Bytes::copy_from_slice(post.body.as_bytes());
                let batch = jsonrpc::is_array(&body);
                let texts = if batch {
                    jsonrpc::batch(&body).expect("an array")
                } else {
                    vec![body]
                };
                let messages = texts
                    .into_iter()
                    .map(|text| Message::parse(text).expect("a message"));
                let number = self.posts.len() as u64;
                self.posts.push(post.label.clone());
                self.unanswered.insert(number);
                self.handle(Input::Posted(Posted {
                    post: PostId(number),
                    messages: messages.collect(),
                    batch,
                    credential: post
                        .credential
                        .bytes()
                        .fold(7, |sum, byte| sum * 31 + u64::from(byte)),
                    version: post.version.as_deref().map(Into::into),
                    context: post.credential.clone(),
                }));
            }
            Step::Gone => self.handle(Input::ClientGone),
            Step::Drain => self.handle(Input::Drain),
            Step::DrainExpired => self.handle(Input::Expire),
            Step::Wait(time) => self.wait(*time),
            Step::Reply(call, reply) => {
                let call = CallId(*call);
                self.check_turn(call, reply);
                for reply in replies(reply) {
                    if matches!(reply, Reply::End(_) | Reply::Refused(_)) {
                        self.open.remove(&call);
                    }
                    self.handle(Input::Reply(call, reply));
                }
            }
            _ => unreachable!("not an input"),
        }
    }

    /// An answer begins once; what may come before and after that is what HTTP lets come.
    fn check_turn(&mut self, call: CallId, reply: &transcript::Reply) {
        assert!(
            self.open.contains_key(&call),
            "{call:?} is not open: {reply:?}"
        );
        let begins = matches!(
            reply,
            transcript::Reply::Head { .. }
                | transcript::Reply::Refused { .. }
                | transcript::Reply::Unreached
                | transcript::Reply::Lost
        );
        let begun = self.begun.contains(&call);
        assert!(
            begins != begun,
            "{call:?} has begun: {begun}; so this cannot come: {reply:?}"
        );
        self.begun.insert(call);
    }

    fn handle(&mut self, input: Input<String>) {
        self.bridge.handle(input, self.now);
        self.take_outputs();
    }

    /// Lets time pass, stopping wherever the bridge wants to be called.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        let mut calls = 0;
        while let Some(at) = self.bridge.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.bridge.handle_timeout(self.now);
            self.take_outputs();
            calls += 1;
            assert!(calls < 1000, "handle_timeout brings the bridge no further");
        }
        self.now = until;
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.bridge.poll_output() {
            let late_post = matches!(output, Output::Answer(_, Answer::Gone));
            assert!(
                !self.finished || late_post,
                "nothing may follow `finished`: {output:?}"
            );
            let line = match output {
                Output::Answer(PostId(number), answer) => {
                    let alone = self.unanswered.len() == 1;
                    assert!(
                        self.unanswered.remove(&number),
                        "answered twice: POST {number}"
                    );
                    let label = &self.posts[usize::try_from(number).expect("small")];
                    let label = if alone {
                        String::new()
                    } else {
                        format!("{label} ")
                    };
                    format!("< {label}{}", status(&answer))
                }
                Output::Deliver(text, _) => {
                    assert!(
                        !self.ended,
                        "delivered after the end of the stream: {text:?}"
                    );
                    format!("< {}", std::str::from_utf8(&text).expect("UTF-8"))
                }
                Output::Carry(text) => {
                    let readable = text.is_empty() || Carried::parse(&text).is_some();
                    assert!(readable, "{text:?}");
                    let text = std::str::from_utf8(&text).expect("UTF-8");
                    let text = if text.is_empty() { "nothing" } else { text };
                    format!("< carries {text}")
                }
                Output::EndStream => {
                    self.ended = true;
                    "< end".to_owned()
                }
                Output::Send(call, exchange) => {
                    let mut line = format!(">> #{} ", call.0);
                    line.push_str(match exchange.verb {
                        Verb::Post(_) => "POST",
                        Verb::Get { .. } => "GET",
                        Verb::Delete => "DELETE",
                    });
                    if exchange.context != "a" {
                        let _ = write!(line, " cred={}", exchange.context);
                    }
                    let given = |value: Option<&str>| value.unwrap_or("-").to_owned();
                    let _ = write!(line, " session={}", given(exchange.session.as_deref()));
                    let _ = write!(line, " version={}", given(exchange.version.as_deref()));
                    for Mirrored { name, value } in &exchange.mirrored {
                        let _ = write!(line, " [{}: {value}]", name.to_lowercase());
                    }
                    match &exchange.verb {
                        Verb::Post(text) => {
                            let _ = write!(line, " {}", std::str::from_utf8(text).expect("UTF-8"));
                        }
                        Verb::Get {
                            last_event_id: Some(id),
                        } => {
                            let _ = write!(line, " last-event-id={id}");
                        }
                        _ => {}
                    }
                    assert!(
                        self.open.insert(call, exchange.verb).is_none(),
                        "an id used twice"
                    );
                    line
                }
                Output::Abort(call) => {
                    assert!(
                        self.open.remove(&call).is_some(),
                        "aborted, but not open: {call:?}"
                    );
                    format!(">> #{} abort", call.0)
                }
                Output::Learnt(era) => {
                    if std::mem::replace(&mut self.era, era) == era {
                        continue;
                    }
                    format!("= learnt-{era}")
                }
                Output::Warn(text) => format!("= warns {text}"),
                Output::Count(what) => format!("= {}", kebab(&format!("{what:?}"))),
                Output::Finished => {
                    self.finished = true;
                    "= finished".to_owned()
                }
            };
            self.seen.push(line);
        }
    }

    /// What is left when the transcript is over, where nothing should be.
    fn leftovers(&mut self) -> Result<(), String> {
        if !self.unanswered.is_empty() {
            return Err(format!("POSTs without a status: {:?}", self.unanswered));
        }
        if !self.finished {
            if self.bridge.in_flight() > 0 {
                return Err(format!(
                    "{} requests have had no outcome",
                    self.bridge.in_flight()
                ));
            }
            let open = |(_, verb): &(&CallId, &Verb)| !is_listening(verb);
            if let Some((call, verb)) = self.open.iter().find(open) {
                return Err(format!("exchange {call:?} is still open: {verb:?}"));
            }
            self.leave();
        }
        if !self.finished {
            return Err(format!(
                "the client left, and the connection is not finished:\n{}",
                self.seen.join("\n")
            ));
        }
        if let Some(call) = self.open.keys().next() {
            return Err(format!("exchange {call:?} is open behind `finished`"));
        }
        match self.bridge.poll_timeout() {
            Some(_) => Err("a timer is set behind `finished`".to_owned()),
            None => Ok(()),
        }
    }

    /// The client leaves, and the upstream does as it is told.
    fn leave(&mut self) {
        self.handle(Input::ClientGone);
        for _ in 0..100 {
            let Some(call) = self.open.keys().next().copied() else {
                return;
            };
            self.open.remove(&call);
            let head = Reply::Head {
                status: 202,
                session: None,
                body: Body::Other,
            };
            self.handle(Input::Reply(call, head));
            self.handle(Input::Reply(call, Reply::End(End::Complete)));
        }
    }
}

/// Whether this exchange is the stream that stays open: a GET, or the subscriptions of a modern upstream.
fn is_listening(verb: &Verb) -> bool {
    match verb {
        Verb::Get { .. } => true,
        Verb::Post(text) => {
            let message = Message::parse(text.clone()).expect("a message is sent");
            message.method() == "subscriptions/listen"
        }
        Verb::Delete => false,
    }
}

/// What the shell makes of what the upstream does.
fn replies(reply: &transcript::Reply) -> Vec<Reply> {
    let message = |text: &str, id: &Option<String>| Reply::Message {
        text: Bytes::copy_from_slice(text.as_bytes()),
        event_id: id.as_deref().map(Into::into),
    };
    match reply {
        transcript::Reply::Head {
            status,
            body,
            session,
            whole,
        } => {
            let (kind, wrong) = match body.as_str() {
                "json" => (Body::Json, None),
                "sse" => (Body::Events, None),
                "lines" => (Body::Lines, None),
                "" => (Body::Other, None),
                other => (Body::Other, Some(other)),
            };
            let session = session.as_deref().map(Into::into);
            let mut replies = vec![Reply::Head {
                status: *status,
                session,
                body: kind,
            }];
            if let Some(wrong) = wrong {
                replies.push(Reply::End(End::WrongType(wrong.to_owned())));
            } else if let Some(text) = whole {
                if !text.is_empty() {
                    replies.push(message(text, &None));
                }
                replies.push(Reply::End(End::Complete));
            }
            replies
        }
        transcript::Reply::Refused {
            status,
            headers,
            body,
        } => {
            let of = |name: &str| {
                headers
                    .iter()
                    .find(|(given, _)| given == name)
                    .map(|(_, value)| value.clone())
            };
            let challenges = headers
                .iter()
                .filter(|(name, _)| name == "www-authenticate");
            vec![Reply::Refused(Box::new(Refusal {
                status: *status,
                content_type: of("content-type"),
                challenges: challenges
                    .map(|(_, value)| value.clone().into_bytes())
                    .collect(),
                retry_after: of("retry-after").and_then(|seconds| seconds.parse().ok()),
                location: of("location"),
                body: Bytes::copy_from_slice(body.as_bytes()),
            }))]
        }
        transcript::Reply::Event { id, retry, data } => {
            let mut replies = Vec::new();
            if retry.is_some() || data.is_none() {
                let event_id = id.as_deref().map(Into::into);
                replies.push(Reply::Mark {
                    event_id,
                    retry: retry.map(Duration::from_millis),
                });
            }
            replies.extend(data.as_deref().map(|data| message(data, id)));
            replies
        }
        transcript::Reply::Line(text) => vec![message(text, &None)],
        transcript::Reply::Oversized => vec![Reply::Oversized],
        transcript::Reply::End => vec![Reply::End(End::Complete)],
        transcript::Reply::Cut => vec![Reply::End(End::Cut("connection closed".to_owned()))],
        transcript::Reply::Unreached => {
            vec![Reply::End(End::Unreached("connection refused".to_owned()))]
        }
        transcript::Reply::Lost => vec![Reply::End(End::Lost("connection closed".to_owned()))],
    }
}

fn status(answer: &Answer) -> String {
    match answer {
        Answer::Accepted => "202".to_owned(),
        Answer::Invalid(why) => format!("400 {why}"),
        Answer::Gone => "404".to_owned(),
        Answer::Busy => "503".to_owned(),
        Answer::Refused(refusal) => {
            let mut line = refusal.status.to_string();
            for challenge in &refusal.challenges {
                let _ = write!(
                    line,
                    " [www-authenticate: {}]",
                    String::from_utf8_lossy(challenge)
                );
            }
            if !refusal.body.is_empty() {
                let _ = write!(line, " {}", String::from_utf8_lossy(&refusal.body));
            }
            line
        }
    }
}

/// `LateAnswer` as `late-answer`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// Runs one transcript. `Err` says what differs and where.
fn run(transcript: &Transcript) -> Result<(), String> {
    let mut run = Run::new(&transcript.settings);
    let lines = &transcript.lines;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if !line.step.is_input() {
            return Err(told(
                lines,
                at,
                "it expects something before anything happened",
            ));
        }
        run.feed(&line.step);
        let actual = std::mem::take(&mut run.seen);
        let expected = expected_after(lines, at);
        for (index, actual) in actual.iter().enumerate() {
            match expected.get(index) {
                Some(line) if transcript::matches(&line.text, actual) => {}
                Some(_) => {
                    return Err(told(
                        lines,
                        at + index + 1,
                        &format!("the last line came out as\n    {actual}"),
                    ));
                }
                None => {
                    return Err(told(
                        lines,
                        at + index,
                        &format!("then came, and nothing should\n    {actual}"),
                    ));
                }
            }
        }
        if actual.len() < expected.len() {
            return Err(told(
                lines,
                at + actual.len() + 1,
                "the last line did not come",
            ));
        }
        at += 1 + expected.len();
    }
    run.leftovers()
}

fn expected_after(lines: &[Line], at: usize) -> &[Line] {
    let rest = &lines[at + 1..];
    let end = rest
        .iter()
        .position(|line| line.step.is_input())
        .unwrap_or(rest.len());
    &rest[..end]
}

fn told(lines: &[Line], upto: usize, what: &str) -> String {
    let told = lines
        .iter()
        .take(upto + 1)
        .map(|line| format!("{:>4}  {}", line.number, line.text));
    format!("{}\n{what}", told.collect::<Vec<_>>().join("\n"))
}

/// Puts what came out in the place of what was expected, in the file's own lines.
fn rewrite(transcript: &Transcript) {
    let mut run = Run::new(&transcript.settings);
    let mut actual = BTreeMap::new();
    for (at, line) in transcript
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.step.is_input())
    {
        run.feed(&line.step);
        let lines = std::mem::take(&mut run.seen);
        let expected = expected_after(&transcript.lines, at);
        let same = lines.len() == expected.len()
            && lines
                .iter()
                .zip(expected)
                .all(|(line, expected)| transcript::matches(&expected.text, line));
        if !same {
            actual.insert(line.number, lines);
        }
    }
    let text = std::fs::read_to_string(&transcript.path).expect("readable");
    let (mut written, mut replaced) = (String::new(), false);
    for (index, text) in text.lines().enumerate() {
        let line = transcript
            .lines
            .iter()
            .find(|line| line.number == index + 1);
        match line.map(|line| line.step.is_input()) {
            Some(false) if replaced => continue,
            Some(true) => replaced = actual.contains_key(&(index + 1)),
            _ => {}
        }
        written.push_str(text);
        written.push('\n');
        for line in line
            .and_then(|_| actual.get(&(index + 1)))
            .into_iter()
            .flatten()
        {
            written.push_str(line);
            written.push('\n');
        }
    }
    std::fs::write(&transcript.path, written).expect("writable");
}

#[test]
fn every_transcript_runs_through_the_bridge() {
    let transcripts = transcript::all();
    if std::env::var_os("TRANSCRIPTS_REWRITE").is_some() {
        transcripts.iter().for_each(rewrite);
        panic!("the transcripts were rewritten; read the difference");
    }
    let mut failures = Vec::new();
    for transcript in &transcripts {
        let name = transcript.name();
        assert!(transcript.lines.len() > 1, "{name} says nothing");
        if let Err(why) = run(transcript) {
            failures.push(format!("{name}\n{why}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} differ\n\n{}",
        failures.len(),
        transcripts.len(),
        failures.join("\n\n")
    );
    assert!(
        transcripts.len() >= WRITTEN,
        "only {} transcripts were found",
        transcripts.len()
    );
}

#[test]
fn a_line_too_many_too_few_or_different_is_noticed() {
    let read = transcript::parse;
    let post = r#"> {"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    let answer = r#"< {"jsonrpc":"2.0","id":1,"error":{"code":-32601,…}}"#;
    assert_eq!(
        run(&read(&format!(
            "{post}\n{answer}\n< 202\n> gone\n< end\n= finished\n"
        ))),
        Ok(())
    );
    assert_eq!(run(&read(&format!("{post}\n{answer}\n< 202\n"))), Ok(()));
    for wrong in [
        format!("{post}\n{answer}\n"),
        format!("{post}\n< 202\n{answer}\n"),
        format!("{post}\n{answer}\n< 202\n< end\n"),
        format!("{post}\n{answer}\n< 400\n"),
        format!("{post}\n< {{\"jsonrpc\":\"2.0\", \"id\":1,…\n< 202\n"),
        format!("{answer}\n{post}\n"),
        "> {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n".to_owned(),
    ] {
        assert!(run(&read(&wrong)).is_err(), "{wrong}");
    }
}
