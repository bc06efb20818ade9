//! Malformed input, committed and random: what no peer should send, and every peer may.
//!
//! The committed files are read whole, split at every byte, and byte by byte. The random ones are good streams that were
//! cut, spliced and sprinkled; they run through the decoders and the bridge, and whatever comes out to the client must
//! have been sent as a whole, judged by a second decoder that is written as plainly as the standard. `MALFORMED=100000`
//! runs more of them, `MALFORMED_SEED=…` one. Over 600 lines, because the second decoder belongs beside its only use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp_ferry::proto::bridge::{
    Answer, Body, Bridge, CallId, End, Input, Output, PostId, Posted, Reply, Settings, Verb,
};
use mcp_ferry::proto::jsonrpc::{self, Kind, Message};
use mcp_ferry::proto::{json_lines, sse};
use serde_json::{Value, json};

use crate::support::random::{self, Random};

const CASES: u64 = 3000;
/// The decoders' bound in these tests, small enough to be met.
const LIMIT: usize = 600;

/// What each file of `fixtures/envelope/refused/` is refused with.
const REFUSED: [(&str, &str); 30] = [
    ("array", "it must be one JSON object"),
    ("blank", "the body is not JSON"),
    ("byte-order-mark", "the body is not JSON"),
    ("deep", "nested deeper than 128"),
    ("deep-unclosed", "nested deeper than 128"),
    ("empty", "the body is not JSON"),
    ("half", "the body is not JSON"),
    ("html", "the body is not JSON"),
    ("id-bool", "\"id\" must be a string or a number"),
    ("id-null", "must not be null"),
    ("id-object", "\"id\" must be a string or a number"),
    ("id-twice", "a member appears twice"),
    ("id-twice-escaped", "a member appears twice"),
    ("lone-surrogate-method", "\"method\" must be a string"),
    ("method-and-result", "both a method and a result"),
    ("method-number", "\"method\" must be a string"),
    ("no-version", "\"jsonrpc\" must be \"2.0\""),
    ("not-utf-8", "not UTF-8"),
    ("nothing-said", "neither a method nor a result"),
    ("nul", "the body is not JSON"),
    ("number", "it must be one JSON object"),
    ("raw-line-break-in-string", "the body is not JSON"),
    ("result-and-error", "both a result and an error"),
    ("result-without-id", "a result needs the \"id\""),
    ("single-quotes", "the body is not JSON"),
    ("string", "it must be one JSON object"),
    ("trailing-comma", "the body is not JSON"),
    ("two-messages", "the body is not JSON"),
    ("version-1", "\"jsonrpc\" must be \"2.0\""),
    ("version-number", "\"jsonrpc\" must be \"2.0\""),
];

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(folder);
    let entries = fs::read_dir(&folder).expect("a folder of fixtures");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    assert!(
        paths.len() > 8,
        "{} holds only {}",
        folder.display(),
        paths.len()
    );
    paths
}

fn name(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[test]
fn event_streams_of_real_and_damaged_servers_are_read() {
    for path in files("sse", "sse") {
        let bytes = fs::read(&path).expect("readable");
        let wanted = fs::read(path.with_extension("json")).expect("readable");
        let wanted: Vec<Value> = serde_json::from_slice(&wanted).expect("JSON");
        let read = |chunks: &[&[u8]]| -> Vec<Value> {
            decode(chunks)
                .into_iter()
                .map(|decoded| shown(&decoded))
                .collect()
        };
        let whole = read(&[&bytes]);
        assert_eq!(whole, wanted, "{}", name(&path));
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(
                read(&[head, tail]),
                wanted,
                "{} split at byte {at}",
                name(&path)
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), wanted, "{} byte by byte", name(&path));
    }
}

fn decode(chunks: &[&[u8]]) -> Vec<sse::Decoded> {
    let mut decoder = sse::Decoder::new(1 << 20);
    let mut found = Vec::new();
    for chunk in chunks {
        decoder.push(chunk, |decoded| found.push(decoded));
    }
    found
}

fn shown(decoded: &sse::Decoded) -> Value {
    let sse::Decoded::Event(event) = decoded else {
        return json!("oversized");
    };
    let mut shown = match std::str::from_utf8(&event.data) {
        Ok(text) => json!({ "data": text }),
        Err(_) => {
            json!({ "data_hex": event.data.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    };
    if !event.name.is_empty() {
        shown["event"] = json!(*event.name);
    }
    if let Some(id) = &event.id {
        shown["id"] = json!(**id);
    }
    if let Some(retry) = event.retry {
        shown["retry"] = json!(retry);
    }
    shown
}

#[test]
fn envelopes_are_accepted_or_refused_for_a_reason() {
    for path in files("envelope/accepted", "json") {
        let bytes = Bytes::from(fs::read(&path).expect("readable"));
        let message = Message::parse(bytes.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        let kind = match message.kind() {
            Kind::Request => "request",
            Kind::Notification => "notification",
            Kind::Response => "response",
        };
        assert!(name(&path).starts_with(kind), "{} is a {kind}", name(&path));
        let one_line = String::from_utf8_lossy(&bytes)
            .trim()
            .replace(['\r', '\n'], " ");
        assert_eq!(message.as_str(), one_line, "{}", name(&path));
    }
    let refused = files("envelope/refused", "json");
    for path in &refused {
        let bytes = Bytes::from(fs::read(path).expect("readable"));
        let error = Message::parse(bytes).expect_err(&name(path)).to_string();
        let found = REFUSED.iter().find(|(file, _)| *file == name(path));
        let (_, wanted) =
            found.unwrap_or_else(|| panic!("{} is not in the table: {error}", name(path)));
        assert!(error.contains(wanted), "{}: {error}", name(path));
    }
    assert_eq!(
        refused.len(),
        REFUSED.len(),
        "the table names files that are not there"
    );
}

/// A bridge whose listen stream is open in exchange 3.
fn listening() -> Bridge<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the first; time passes by hand"
    )]
    let now = Instant::now();
    let mut bridge = Bridge::new(Settings::default(), now);
    let post = |number, text: &str| {
        Input::Posted(Posted {
            post: PostId(number),
            messages: vec![
                Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect("a message"),
            ],
            batch: false,
            credential: 1,
            version: None,
            context: (),
        })
    };
    let head = |call, session: Option<&str>, body| {
        Input::Reply(
            CallId(call),
            Reply::Head {
                status: 200,
                session: session.map(Into::into),
                body,
            },
        )
    };
    let result = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
    let inputs = [
        post(
            1,
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05"}}"#,
        ),
        head(1, Some("s"), Body::Json),
        Input::Reply(
            CallId(1),
            Reply::Message {
                text: result.into(),
                event_id: None,
            },
        ),
        Input::Reply(CallId(1), Reply::End(End::Complete)),
        post(
            2,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        ),
        head(2, None, Body::Other),
        head(3, None, Body::Events),
    ];
    let mut listens = false;
    for input in inputs {
        bridge.handle(input, now);
        while let Some(output) = bridge.poll_output() {
            listens |= matches!(output, Output::Send(CallId(3), exchange) if matches!(exchange.verb, Verb::Get { .. }));
        }
    }
    assert!(listens);
    bridge
}

/// Feeds replies to the listen stream; what the client gets, ids of requests left out.
fn delivered(replies: Vec<Reply>) -> Vec<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the bridge only compares instants"
    )]
    let now = Instant::now();
    let mut bridge = listening();
    let mut delivered = Vec::new();
    for reply in replies {
        bridge.handle(Input::Reply(CallId(3), reply), now);
        while let Some(output) = bridge.poll_output() {
            if let Output::Deliver(text, _) = output {
                assert!(!text.contains(&b'\n') && !text.contains(&b'\r'), "{text:?}");
                delivered.push(without_ferry_id(std::str::from_utf8(&text).expect("UTF-8")));
            }
        }
    }
    delivered
}

/// The message with the id that the ferry gave it blotted out.
fn without_ferry_id(text: &str) -> String {
    match text.find("\"ferry:") {
        Some(start) => {
            let length = text[start + 1..].find('"').map_or(0, |end| end + 2);
            format!("{}?{}", &text[..start], &text[start + length..])
        }
        None => text.to_owned(),
    }
}

/// What the shell makes of an event.
fn replies_of(event: sse::Event, replies: &mut Vec<Reply>) {
    let retry = event.retry.map(Duration::from_millis);
    if retry.is_some() || event.data.is_empty() {
        replies.push(Reply::Mark {
            event_id: event.id.clone(),
            retry,
        });
    }
    if !event.data.is_empty() && (event.name.is_empty() || &*event.name == "message") {
        replies.push(Reply::Message {
            text: event.data,
            event_id: event.id,
        });
    }
}

/// Every message that a body holds whole, found without the code under test: blocks of the HTML standard's event
/// streams, or lines. `None` stands for a body that does not end whole.
fn whole(body: &[u8], events: bool, ended: bool) -> Vec<String> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    if events {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        let mut bytes = body.iter().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\r' => {
                    if bytes.peek() == Some(&&b'\n') {
                        bytes.next();
                    }
                    lines.push(Vec::new());
                }
                b'\n' => lines.push(Vec::new()),
                byte => lines.last_mut().expect("a line").push(*byte),
            }
        }
        // The last line has no end, so it is none.
        lines.pop();
        let (mut data, mut name) = (Vec::new(), Vec::new());
        for line in lines {
            if line.is_empty() {
                let joined = data.join(&b'\n');
                if !joined.is_empty() && (name.is_empty() || name == b"message") {
                    texts.push(joined);
                }
                data = Vec::new();
                name = Vec::new();
                continue;
            }
            let at = line
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(line.len());
            let value = line.get(at + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
            match &line[..at] {
                b"data" => data.push(value),
                b"event" => name = value,
                _ => {}
            }
        }
    } else {
        texts = body
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        if !ended {
            texts.pop();
        }
    }
    texts.iter().flat_map(|text| messages(text)).collect()
}

/// The requests and notifications in a text, as the client may see them.
fn messages(text: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Vec::new();
    };
    let texts: Vec<&serde_json::value::RawValue> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text).unwrap_or_default(),
        false => serde_json::from_str(text)
            .map(|one| vec![one])
            .unwrap_or_default(),
    };
    let mut found = Vec::new();
    for raw in texts {
        let Ok(Value::Object(value)) = serde_json::from_str(raw.get()) else {
            continue;
        };
        if value.get("jsonrpc") != Some(&json!("2.0"))
            || !value.get("method").is_some_and(Value::is_string)
        {
            continue;
        }
        found.push(raw.get().replace(['\r', '\n'], " "));
    }
    found
}

/// A stream of good events or lines, with requests of one form of id so that it can be blotted out.
fn good_stream(random: &mut Random, events: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    for number in 0..random.below(6) {
        let text = match random.below(5) {
            0 => format!(r#"{{"jsonrpc":"2.0","id":"q{number}","method":"ping"}}"#),
            1 => format!(
                r#"[{{"jsonrpc":"2.0","method":"a","params":{number}}}, {{"jsonrpc":"2.0","method":"b"}}]"#
            ),
            2 => format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#),
            3 => format!(
                r#"{{"jsonrpc":"2.0","method":"é\n","params":["{}"]}}"#,
                "x".repeat(random.below(900))
            ),
            _ => {
                format!(r#"{{"jsonrpc":"2.0","method":"n","params":{{"data: ":"id: {number}"}}}}"#)
            }
        };
        let end = *random.pick(&["\n", "\r\n", "\r"]).unwrap_or(&"\n");
        if !events {
            stream.extend_from_slice(
                format!("{text}{}", if end == "\r" { "\n\n" } else { end }).as_bytes(),
            );
            continue;
        }
        if random.percent(30) {
            stream.extend_from_slice(format!(": ping{end}{end}").as_bytes());
        }
        if random.percent(50) {
            stream.extend_from_slice(format!("id: {number}{end}event: message{end}").as_bytes());
        }
        // JSON may be broken between its tokens.
        let text = if random.percent(30) {
            text.replace(",\"method", &format!(",{end}data: \"method"))
        } else {
            text
        };
        stream.extend_from_slice(format!("data: {text}{end}{end}").as_bytes());
    }
    stream
}

/// Does damage.
fn damage(random: &mut Random, stream: &mut Vec<u8>) {
    const BITS: [&[u8]; 10] = [
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\"",
        b"}",
        b"{",
        b"data:",
        b"\n\n",
        b"\xef\xbb\xbf",
    ];
    for _ in 0..random.below(4) {
        let at = random.below(stream.len() + 1);
        let upto = (at + random.below(40)).min(stream.len());
        match random.below(5) {
            0 => drop(stream.drain(at..upto)),
            1 => {
                let copy = stream[at..upto].to_vec();
                stream.splice(at..at, copy);
            }
            2 => {
                let bit = random.pick(&BITS).copied().unwrap_or_default();
                stream.splice(at..at, bit.iter().copied());
            }
            3 if at < stream.len() => stream[at] ^= 1 << random.below(8),
            _ => stream.truncate(at),
        }
    }
}

/// One random body, in random chunks, through decoder and bridge.
fn upstream_case(seed: u64) -> Result<(), String> {
    let random = &mut Random::new(seed);
    let (events, ended, damaged) = (random.percent(70), random.percent(50), random.percent(70));
    let mut body = good_stream(random, events);
    if damaged {
        damage(random, &mut body);
    } else {
        body.truncate(random.below(body.len() + 1));
    }
    let mut replies = Vec::new();
    let mut large = false;
    let mut rest = &body[..];
    let mut sse = sse::Decoder::new(LIMIT);
    let mut lines = json_lines::Decoder::new(LIMIT);
    let mut on_line = |decoded, replies: &mut Vec<Reply>| match decoded {
        json_lines::Decoded::Line(text) => replies.push(Reply::Message {
            text,
            event_id: None,
        }),
        json_lines::Decoded::Oversized => large = true,
    };
    let mut large_event = false;
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(1 + random.below(rest.len().min(50)));
        rest = tail;
        match events {
            true => sse.push(chunk, |decoded| match decoded {
                sse::Decoded::Event(event) => replies_of(event, &mut replies),
                sse::Decoded::Oversized { .. } => large_event = true,
            }),
            false => lines.push(chunk, |decoded| on_line(decoded, &mut replies)),
        }
    }
    if ended && !events {
        lines.finish(|decoded| on_line(decoded, &mut replies));
    }
    let (actual, sent) = (delivered(replies), whole(&body, events, ended));
    let sent: Vec<String> = sent.iter().map(|text| blot_request_id(text)).collect();
    let mut rest = sent.iter();
    for text in &actual {
        if !rest.any(|sent| sent == text) {
            return Err(format!(
                "{text} was not sent so:\n{sent:#?}\n{:?}",
                String::from_utf8_lossy(&body)
            ));
        }
    }
    // Where nothing was damaged and nothing too large, everything that was sent whole arrives.
    if !damaged && !large && !large_event && actual != sent {
        return Err(format!(
            "{actual:#?} instead of {sent:#?}\n{:?}",
            String::from_utf8_lossy(&body)
        ));
    }
    Ok(())
}

/// The id of a request, wherever it stands, blotted out.
fn blot_request_id(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        id: Option<&'a serde_json::value::RawValue>,
    }
    let id = serde_json::from_str::<Envelope<'_>>(text)
        .ok()
        .and_then(|envelope| envelope.id);
    match id {
        Some(id) => {
            let start = id.get().as_ptr() as usize - text.as_ptr() as usize;
            format!("{}?{}", &text[..start], &text[start + id.get().len()..])
        }
        None => text.to_owned(),
    }
}

/// One random POST body of the client: parsed, and what parses is posted.
fn client_case(seed: u64) -> Result<(), String> {
    let random = &mut Random::new(seed);
    let mut body = good_stream(random, false);
    damage(random, &mut body);
    if random.percent(20) {
        body = (0..random.below(200))
            .map(|_| random.next().to_le_bytes()[0])
            .collect();
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the bridge only compares instants"
    )]
    let now = Instant::now();
    let mut bridge = listening();
    for (number, text) in (3..).zip(body.split(|byte| *byte == b'\n')) {
        let text = Bytes::copy_from_slice(text);
        let batch = jsonrpc::is_array(&text);
        let texts = if batch {
            jsonrpc::batch(&text)
        } else {
            Ok(vec![text])
        };
        let Ok(texts) = texts else { continue };
        let Ok(messages) = texts
            .into_iter()
            .map(Message::parse)
            .collect::<Result<Vec<_>, _>>()
        else {
            continue;
        };
        for message in &messages {
            let with_id =
                Message::parse(message.text_with_id("7")).map_err(|error| error.to_string())?;
            if with_id.kind() != message.kind() {
                return Err(format!("{message:?} is another kind with another id"));
            }
        }
        let (post, version) = (PostId(number), None);
        let posted = Posted {
            post,
            messages,
            batch,
            credential: 1,
            version,
            context: (),
        };
        bridge.handle(Input::Posted(posted), now);
        let mut answers = 0;
        while let Some(output) = bridge.poll_output() {
            answers += usize::from(matches!(
                output,
                Output::Answer(_, Answer::Accepted | Answer::Invalid(_))
            ));
        }
        if answers != 1 {
            return Err(format!("{answers} statuses for one POST"));
        }
    }
    Ok(())
}

fn cases(what: &str, case: impl Fn(u64) -> Result<(), String>) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        )
    };
    let one = number("MALFORMED_SEED");
    let (first, count) = one.map_or_else(
        || (random::seed(), number("MALFORMED").unwrap_or(CASES)),
        |seed| (seed, 1),
    );
    eprintln!("{count} cases of {what} from seed {first}");
    for seed in (0..count).map(|number| first.wrapping_add(number)) {
        case(seed).unwrap_or_else(|why| {
            panic!("{why}\nseed {seed}: run it again with MALFORMED_SEED={seed}")
        });
    }
}

#[test]
fn no_bytes_of_an_upstream_become_a_message_that_it_did_not_send() {
    cases("upstream bytes", upstream_case);
}

#[test]
fn no_bytes_of_a_client_do_harm() {
    cases("client bytes", client_case);
}
