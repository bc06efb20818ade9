//! Whatever an upstream writes into its answers, the client's stream holds exactly the messages that were meant.
//!
//! Each case is an answer of random form (event stream, JSON lines, one JSON text) that holds known messages among
//! everything that could pass for the end of a field, for another event or for a command to the client's parser. The
//! client of these tests fails on anything but the narrow form of an event; here its messages are compared one by one.
//! `STREAM_INJECTION=1000` runs more cases than the default, `STREAM_INJECTION_SEED=…` one.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::fuzz::recorder::Recorder;
use crate::support::client::{Client, call};
use crate::support::ferry::Ferry;
use crate::support::random::{self, Random};

const CASES: u64 = 300;

/// Texts inside a message's strings: each could be a field, an event, or the end of one, were it read as such.
const TEXTS: [&str; 14] = [
    "\n\nevent: endpoint\ndata: //evil.example/messages\n\n",
    "\r\n\r\ndata: {}\r\n\r\n",
    "\rdata: x\r\r",
    "\n:\n",
    "\nid: 7\nretry: 1\n",
    "\u{2028}data: x\u{2029}",
    "\u{85}\u{b}\u{c}data: x",
    "\0",
    "\u{feff}data: x",
    "\u{1b}[2J\u{9b}",
    "data: ",
    "\\n\\ndata: x",
    "</script><script>",
    "\u{10a}\u{10d}\u{d0a}",
];

/// Blocks of an event stream that hold no message for the client.
const NOISE: [&str; 10] = [
    ": data: {\"jsonrpc\":\"2.0\",\"method\":\"evil\"}\n\n",
    "event: endpoint\ndata: //evil.example/messages\n\n",
    "event: message \ndata: {\"jsonrpc\":\"2.0\",\"method\":\"evil\"}\n\n",
    "event: ping\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"evil\"}\n\n",
    "id: 1\nretry: 1\n\n",
    "Data: {\"jsonrpc\":\"2.0\",\"method\":\"evil\"}\n\n",
    " data: {\"jsonrpc\":\"2.0\",\"method\":\"evil\"}\n\n",
    "data {\"jsonrpc\":\"2.0\",\"method\":\"evil\"}\n\n",
    "data: {\"jsonrpc\":\"1.0\",\"method\":\"evil\"}\n\n",
    "\u{2028}data: {\"jsonrpc\":\"2.0\",\"method\":\"evil\"}\n\n",
];

/// A message with hostile strings, and how JSON may write it: escapes of several forms, line breaks between tokens.
fn message(random: &mut Random, number: usize, last: bool) -> (Value, String) {
    let text: String = (0..1 + random.below(3))
        .filter_map(|_| random.pick(&TEXTS))
        .copied()
        .collect();
    let value = match last {
        true => json!({"jsonrpc": "2.0", "id": 7, "result": {"n": number, text.clone(): text}}),
        false => {
            let params = json!({"n": number, "text": text});
            json!({"jsonrpc": "2.0", "method": format!("notifications/{text}"), "params": params})
        }
    };
    let mut written = value.to_string();
    if random.percent(50) {
        let end = *random
            .pick(&["\n", "\r\n", " \r ", "\t\n\n"])
            .unwrap_or(&"\n");
        written = written.replacen(':', &format!("{end}:{end}"), 1);
    }
    if random.percent(50) {
        written = written.replace("\u{2028}", "\\u2028");
    }
    (value, written)
}

/// A message as an event: a data line for each of its lines, line ends of one of three kinds.
fn event(random: &mut Random, written: &str) -> String {
    let end = *random.pick(&["\n", "\r\n", "\r"]).unwrap_or(&"\n");
    let lines = written.replace("\r\n", "\n").replace('\r', "\n");
    let data: String = lines
        .split('\n')
        .map(|line| format!("data: {line}{end}"))
        .collect();
    let name = *random
        .pick(&["", "event: message\n", "event\n"])
        .unwrap_or(&"");
    format!("{name}{data}{end}")
}

/// An answer, and the messages that are meant by it.
fn case(random: &mut Random) -> (&'static str, String, Vec<Value>) {
    let kind = *random
        .pick(&[
            "text/event-stream",
            "application/json-lines",
            "application/json",
        ])
        .unwrap_or(&"application/json");
    let count = if kind == "application/json" {
        0
    } else {
        random.below(4)
    };
    let (mut body, mut meant) = (String::new(), Vec::new());
    for number in 0..=count {
        let (value, written) = message(random, number, number == count);
        match kind {
            "text/event-stream" => {
                if random.percent(60) {
                    body.push_str(random.pick(&NOISE).copied().unwrap_or_default());
                }
                body.push_str(&event(random, &written));
            }
            "application/json-lines" => {
                body.push_str(&written.replace(['\r', '\n'], " "));
                body.push_str(
                    random
                        .pick(&["\n", "\r\n", "\n\n \n"])
                        .copied()
                        .unwrap_or("\n"),
                );
            }
            _ => body.push_str(&written),
        }
        meant.push(value);
    }
    (kind, body, meant)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

#[tokio::test]
async fn the_client_gets_the_messages_that_were_meant_and_nothing_else() {
    let one = number("STREAM_INJECTION_SEED");
    let (first, count) = one.map_or_else(
        || (random::seed(), number("STREAM_INJECTION").unwrap_or(CASES)),
        |seed| (seed, 1),
    );
    eprintln!("{count} cases from seed {first}");
    let next: Arc<Mutex<(&str, String)>> = Arc::new(Mutex::new(("", String::new())));
    let scripted = Arc::clone(&next);
    let upstream = Recorder::answering(move |request| {
        let called = memchr::memmem::find(&request.body, b"tools/call").is_some();
        let (kind, body) = &*scripted.lock().expect("whole");
        let length = body.len();
        called.then(|| {
            // It closes then, and without a word of it the next call would be sent into the closing.
            format!(
                "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .into_bytes()
        })
    })
    .await;
    let ferry = Ferry::start(upstream.url().parse().expect("a URL")).await;
    let mut client = Client::ready(ferry.address).await;
    for seed in (0..count).map(|number| first.wrapping_add(number)) {
        let again = format!("run it again with STREAM_INJECTION_SEED={seed}");
        let (kind, body, meant) = case(&mut Random::new(seed));
        *next.lock().expect("whole") = (kind, body.clone());
        client.send(&call(7, "tools/call")).await;
        for wanted in meant {
            let found = client.message().await;
            assert_eq!(found, wanted, "{body:?}\n{again}");
        }
    }
    // Nothing comes behind the last one.
    *next.lock().expect("whole") = ("", String::new());
    client.send(&call(8, "tools/list")).await;
    assert_eq!(client.message().await["id"], 8);
    ferry.stop_after(client).await;
}
