//! Values of one side that become headers of the other: nothing in them ends a header, begins another one, or splits an
//! answer in two.
//!
//! Both ends of each test are strict: the client reads answers and the upstream reads requests so that a control
//! character in a head, a header of an odd form, or a second answer fails the test.

use std::sync::{Arc, Mutex};

use hyper::header::HeaderName;

use crate::fuzz::raw::{self, Answer, Until, answers};
use crate::fuzz::recorder::Recorder;
use crate::support::client::{Client, call, initialize};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::http::request;

/// What must stay a part of its value, or make the whole value be dropped or refused.
const HOSTILE: [&[u8]; 18] = [
    b"\r\nInjected: yes",
    b"\nInjected: yes",
    b"\rInjected: yes",
    b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\nInjected: yes\r\n\r\n",
    b"\r\n Injected: yes",
    b"\0",
    b"\x01",
    b"\t",
    b"\x08\x0b\x0c\x1b[2J",
    b"\x7f",
    b"\x80\x85\x9b",
    b"\xff\xfe",
    "é\u{2028}\u{2029}\u{202e}".as_bytes(),
    "\u{10a}\u{10d}Injected: yes\u{10a}".as_bytes(),
    b"%0d%0aInjected:%20yes",
    b"\", injected=\"yes",
    b"; injected=yes, injected=yes",
    b" ",
];

/// Headers that the ferry's own answers and the refusals that it hands on may have.
const ALLOWED: [&str; 9] = [
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "retry-after",
    "transfer-encoding",
    "www-authenticate",
    "x-content-type-options",
];

/// `before`, what is hostile, and `after`.
fn with(template: &str, hostile: &[u8]) -> Vec<u8> {
    let (before, after) = template.split_once("{}").expect("a place");
    [before.as_bytes(), hostile, after.as_bytes()].concat()
}

/// A whole 200 of an upstream.
fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 X\r\n{headers}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The one answer to one request.
async fn one(ferry: &Ferry, text: &[u8]) -> Result<Answer, String> {
    let sent = raw::exchange(ferry.address, text, 1, Until::Answers(1)).await;
    match &answers(&sent)?[..] {
        [one] => Ok(one.clone()),
        other => Err(format!("{} answers: {other:?}", other.len())),
    }
}

fn post(target: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let json = [("Content-Type", "application/json")];
    request("POST", target, &[&json, headers].concat(), body.as_bytes())
}

#[tokio::test]
async fn nothing_in_an_upstream_s_head_becomes_a_header_of_the_client_s_answer() {
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
    let ok = |header: &str| {
        let header = format!("{header}\r\nContent-Type: application/json");
        String::from_utf8(ok(&header, RESULT.as_bytes())).expect("text")
    };
    let no = |status: &str, header: &str| {
        format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: 2\r\n\r\nno")
    };
    let next: Arc<Mutex<Vec<u8>>> = Arc::default();
    let scripted = Arc::clone(&next);
    let upstream = Recorder::answering(move |_| match &scripted.lock().expect("whole")[..] {
        [] => None,
        answer => Some(answer.to_vec()),
    })
    .await;
    let ferry = Ferry::start(upstream.url().parse().expect("a URL")).await;
    // A POST is held for some seconds where the upstream's answer makes no sense.
    let clock = Clock::stop();
    for template in [
        no("401 Rea{}son", "X: y"),
        no("401 X", r#"WWW-Authenticate: Bearer realm="{}""#),
        no("403 X", "Content-Type: text/{}"),
        no("429 X", "Retry-After: 1{}"),
        no("307 X", "Location: /mcp?{}"),
        no("401 X", "X{}: y"),
        ok("Mcp-Session-Id: s{}"),
        ok("Set-Cookie: a={}; Path=/"),
        ok("Content-Type: application/json{}\r\nX: y"),
        ok("X{}: y"),
    ] {
        for hostile in HOSTILE {
            let shown = format!("{template:?} with {}", hostile.escape_ascii());
            let mut client = Client::open(ferry.address).await;
            *next.lock().expect("whole") = with(&template, hostile);
            let initialize = initialize().to_string();
            let text = post(&client.endpoint, &[], &initialize);
            let answer = clock.pass_until("an answer", one(&ferry, &text)).await;
            let answer = answer.unwrap_or_else(|why| panic!("{shown}: {why}"));
            for (name, _) in &answer.headers {
                assert!(ALLOWED.contains(&name.as_str()), "{shown}: {answer:?}");
            }
            // Passed through, an upstream's header is its own affair, as long as it is one.
            let passed = one(&ferry, &post("/mcp", &[], &initialize)).await;
            passed.unwrap_or_else(|why| panic!("passed through, {shown}: {why}"));
            // What was taken from that answer goes back to the upstream.
            next.lock().expect("whole").clear();
            let called = async {
                client.send(&call(7, "tools/list")).await;
                while client.message().await["id"] != 7 {}
            };
            clock.pass_until("the call's outcome", called).await;
            client.leave();
            ferry.quiet().await;
            upstream
                .take()
                .unwrap_or_else(|why| panic!("{shown}: {why}"));
        }
    }
    ferry.stop().await;
}

#[tokio::test]
async fn nothing_in_a_client_s_head_becomes_a_header_of_its_own_upstream() {
    let upstream = Recorder::start().await;
    let ferry = Ferry::with(upstream.url().parse().expect("a URL"), |config| {
        config.upstream.forward_headers = vec![HeaderName::from_static("x-api-key")];
        config.guard.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let mut client = Client::ready(ferry.address).await;
    let endpoint = client.endpoint.clone();
    for name in [
        "Authorization",
        "X-Api-Key",
        "Traceparent",
        "Tracestate",
        "Baggage",
        "Mcp-Protocol-Version",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "User-Agent",
        "Cookie",
        "Mcp-Session-Id",
        "Last-Event-ID",
    ] {
        for hostile in HOSTILE {
            let shown = format!("{name} with {}", hostile.escape_ascii());
            let header = with(&format!("Host: localhost\r\n{name}: a{{}}b\r\n"), hostile);
            for target in [endpoint.as_str(), "/mcp"] {
                let body = call(7, "tools/list").to_string();
                let text = post(target, &[], &body);
                let host = b"Host: localhost\r\n";
                let at = memchr::memmem::find(&text, host).expect("a host");
                let text = [&text[..at], &header, &text[at + host.len()..]].concat();
                let sent = raw::exchange(ferry.address, &text, 1, Until::Answers(1)).await;
                let answers = answers(&sent).unwrap_or_else(|why| panic!("{shown}: {why}"));
                let taken = matches!(&answers[..], [first, ..] if first.status < 300);
                if taken && target != "/mcp" {
                    while client.message().await["id"] != 7 {}
                }
            }
            let seen = upstream
                .take()
                .unwrap_or_else(|why| panic!("{shown}: {why}"));
            for request in seen {
                // Passed through, a header that the client has written is the client's own.
                let translated = request.head.contains("user-agent: mcp-ferry/");
                let injected = request.head.to_ascii_lowercase().contains("\r\ninjected:");
                assert!(!(translated && injected), "{shown}: {request:?}");
            }
        }
    }
    for hostile in HOSTILE {
        let head = b" HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let get = [&with("GET /sse?key=a{}b", hostile)[..], head].concat();
        let mut socket = tokio::net::TcpStream::connect(ferry.address)
            .await
            .expect("connect");
        tokio::io::AsyncWriteExt::write_all(&mut socket, &get)
            .await
            .expect("write");
        drop(socket);
    }
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn nothing_in_an_upstream_s_messages_becomes_a_header_of_its_own() {
    let next: Arc<Mutex<(Vec<u8>, String)>> = Arc::default();
    let scripted = Arc::clone(&next);
    let upstream = Recorder::answering(move |request| {
        let (event_id, version) = &*scripted.lock().expect("whole");
        let message: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match message["method"].as_str() {
            Some("initialize") => {
                let result = format!(r#"{{"protocolVersion":{version},"capabilities":{{}}}}"#);
                let body = format!(r#"{{"jsonrpc":"2.0","id":0,"result":{result}}}"#);
                let head = "Content-Type: application/json\r\nMcp-Session-Id: s";
                Some(ok(head, body.as_bytes()))
            }
            Some("tools/call") => {
                let body = [b"retry: 1\nid: e", &event_id[..], b"\ndata: \n\n"].concat();
                Some(ok("Content-Type: text/event-stream", &body))
            }
            _ => None,
        }
    })
    .await;
    let ferry = Ferry::start(upstream.url().parse().expect("a URL")).await;
    let clock = Clock::stop();
    for hostile in HOSTILE {
        let shown = hostile.escape_ascii().to_string();
        let text = String::from_utf8_lossy(hostile);
        let version = serde_json::Value::from(format!("2025-11-25{text}")).to_string();
        let event_id = hostile
            .iter()
            .copied()
            .filter(|byte| !b"\r\n".contains(byte));
        *next.lock().expect("whole") = (event_id.collect(), version);
        let mut client = Client::open(ferry.address).await;
        client.send(&initialize()).await;
        assert_eq!(client.message().await["id"], 0, "{shown}");
        client.send(&call(7, "tools/call")).await;
        // The stream broke off: it is resumed behind the event, or the call failed when no id could be read.
        let asked = resumed(&upstream);
        let asked = clock
            .pass_until("the stream to be asked for again", async {
                tokio::select! {
                    asked = asked => asked,
                    failed = client.message() => {
                        assert_eq!(failed["id"], 7, "{shown}: {failed}");
                        upstream.take().map(|seen| seen.into_iter().map(|one| one.head).collect())
                    }
                }
            })
            .await;
        let asked = asked.unwrap_or_else(|why| panic!("{shown}: {why}"));
        for head in asked {
            assert!(
                !head.to_ascii_lowercase().contains("\r\ninjected:"),
                "{shown}: {head}"
            );
        }
        client.leave();
        clock.pass_until("the farewell", ferry.quiet()).await;
        upstream
            .take()
            .unwrap_or_else(|why| panic!("{shown}: {why}"));
    }
    ferry.stop().await;
}

/// The heads of all requests up to the first GET.
async fn resumed(upstream: &Recorder) -> Result<Vec<String>, String> {
    let mut heads: Vec<String> = Vec::new();
    while !heads.iter().any(|head| head.starts_with("GET ")) {
        tokio::task::yield_now().await;
        heads.extend(upstream.take()?.into_iter().map(|request| request.head));
    }
    Ok(heads)
}
