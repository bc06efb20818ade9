//! `mcp-ferry replay` as a process: what the tap's file has recorded, played against the same server, a changed one, and
//! none; and files that cannot be used. Comparing and reading have their own tests beside their code.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use mcp_ferry::config::TapFile;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::client::{Client, call};
use crate::support::clock::within;
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::port::ClosedPort;
use crate::support::upstream::{Answer, Received, Upstream, routine};

/// Stands in what must not be in a file.
const CANARY: &str = "c4n4ry";

/// A directory of one test, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("mcp-ferry-replay-{}-{name}", std::process::id()));
        // What an earlier run with this process id has left.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("traffic.jsonl")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server whose tools have this description, in this order.
async fn server(description: &'static str, names: &'static [&'static str]) -> Upstream {
    let answer = move |request: &Received| {
        let asked = request.json();
        let text = format!(
            "at {:?} for {}",
            std::time::SystemTime::UNIX_EPOCH,
            asked["params"]["name"]
        );
        let result = match request.rpc().as_str() {
            "initialize" => return Some(Answer::initialize(request, Some("session-1"))),
            "tools/list" => {
                let tool = |name| json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
                json!({"tools": names.iter().map(tool).collect::<Vec<_>>()})
            }
            "tools/call" => json!({"content": [{"type": "text", "text": text}], "now": random()}),
            "resources/read" => json!({"contents": [{"uri": "a:b", "text": random()}]}),
            "prompts/list" => {
                let error = json!({"code": -32601, "message": "no prompts"});
                return Some(Answer::json(
                    &json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}),
                ));
            }
            _ => return routine(request),
        };
        Some(Answer::json(
            &json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}),
        ))
    };
    Upstream::start(answer).await
}

/// An id that is another one every time.
fn random() -> String {
    let random = crate::support::random::seed();
    format!("550e8400-e29b-41d4-a716-44{:010x}", random & 0xff_ffff_ffff)
}

/// Records what a legacy client and one on `/mcp` do with this server.
async fn record(upstream: &Upstream, place: &Place) {
    let ferry = recording(upstream, place).await;
    let mut client = Client::ready(ferry.address).await;
    let calls = [
        ("tools/list", json!({})),
        ("tools/call", json!({"name": "echo", "arguments": {"a": 1}})),
        ("resources/read", json!({"uri": "a:b"})),
        ("prompts/list", json!({})),
    ];
    ask(&mut client, &calls).await;
    client
        .send(&json!({"jsonrpc": "2.0", "id": 5, "method": "prompts/get",
            "params": {"name": "p", "arguments": {"password": CANARY}}}))
        .await;
    let body = call(9, "tools/list").to_string();
    let headers = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("Authorization", &format!("Bearer {CANARY}")),
    ];
    let answer = exchange(ferry.address, "POST", "/mcp", &headers, body).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    ferry.stop_after(client).await;
}

/// A ferry that records.
async fn recording(upstream: &Upstream, place: &Place) -> Ferry {
    let file = TapFile {
        path: place.file(),
        size: 1 << 30,
        keep: 1,
    };
    Ferry::with(upstream.url(), |config| config.tap.file = Some(file)).await
}

/// Asks one after the other.
async fn ask(client: &mut Client, calls: &[(&str, Value)]) {
    for (id, (method, params)) in (1..).zip(calls) {
        client
            .send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        assert_eq!(client.message().await["id"], id);
    }
}

async fn replay(files: &[&Path], upstream: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-ferry"));
    command
        .env_clear()
        .arg("replay")
        .args(files)
        .args(["--upstream", upstream])
        .args(flags);
    let output = command.kill_on_drop(true).output();
    within("the end of the replay", output).await.unwrap()
}

/// What a replay told, which had nothing to complain of and ended with this code.
fn said(output: &Output, code: i32) -> String {
    let told = text(&output.stdout);
    let ended = (output.status.code(), text(&output.stderr));
    assert_eq!(ended, (Some(code), String::new()), "{told}");
    told
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn url(upstream: &Upstream) -> String {
    upstream.url().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_server_agrees_and_a_changed_one_is_told_apart() {
    let place = Place::new("agree");
    let old = server("says it again", &["echo", "add"]).await;
    record(&old, &place).await;
    let file = place.file();
    let recorded = std::fs::read_to_string(&file).unwrap();
    assert!(!recorded.contains(CANARY), "{recorded}");

    let output = replay(&[&file], &url(&old), &[]).await;
    let told = said(&output, 0);
    assert!(
        told.contains("skipped: 1 x tools/call echo: may change something; --all plays it too\n"),
        "{told}"
    );
    assert!(
        told.contains("skipped: 1 x prompts/get p: has a redacted secret in its parameters\n"),
        "{told}"
    );
    assert!(told.contains("\nagrees: 5 played against "), "{told}");
    assert_eq!(old.times("tools/call"), 1);

    // The order does not matter, the missing tool and the other description do.
    let new = server("repeats it", &["echo"]).await;
    let output = replay(&[&file], &url(&new), &["--all"]).await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("differs: tools/list (c"), "{told}");
    assert!(
        told.contains(
            "\n  ~ /result/tools/echo/description: \"says it again\" -> \"repeats it\"\n"
        ),
        "{told}"
    );
    assert!(told.contains("\n  - /result/tools/add: {"), "{told}");
    assert!(told.contains("\ndiffers: 6 played against "), "{told}");
    assert_eq!(new.times("tools/call"), 1);

    let output = replay(
        &[&file],
        &url(&new),
        &["--ignore", "/result/tools", "--json"],
    )
    .await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(
        (&told["agrees"], &told["played"]),
        (&json!(true), &json!(5)),
        "{told}"
    );
    assert_eq!(told["skipped"].as_array().unwrap().len(), 2, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_reaches_the_server_and_a_server_that_refuses_cannot_be_replayed_against() {
    let place = Place::new("header");
    let old = server("a", &["echo"]).await;
    record(&old, &place).await;
    let output = replay(
        &[&place.file()],
        &url(&old),
        &["--header", "Authorization: Bearer abc"],
    )
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let log = old.log();
    let last = log
        .iter()
        .rfind(|request| request.rpc() == "tools/list")
        .unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer abc"));

    let strict =
        Upstream::start(|_| Some(Answer::new(401, &[("WWW-Authenticate", "Bearer")], ""))).await;
    let output = replay(&[&place.file()], &url(&strict), &[]).await;
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.starts_with("error: cannot replay: "),
        "{complaint}"
    );
    let told = text(&output.stdout);
    assert!(
        told.contains("\nnothing played: 0 played against "),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_refused_costs_its_own_connection_only() {
    let place = Place::new("handshake");
    let old = server("a", &["echo"]).await;
    record(&old, &place).await;
    let handshakes = AtomicUsize::new(0);
    let moody = Upstream::start(move |request| match request.rpc().as_str() {
        "initialize" if handshakes.fetch_add(1, Ordering::Relaxed) == 0 => {
            Some(Answer::new(401, &[("WWW-Authenticate", "Bearer")], ""))
        }
        "initialize" => Some(Answer::initialize(request, Some("session-1"))),
        "tools/list" => Some(Answer::json(&json!({"jsonrpc": "2.0", "id": request.json()["id"],
            "result": {"tools": [{"name": "echo", "description": "a", "inputSchema": {"type": "object"}}]}}))),
        _ => routine(request),
    })
    .await;
    let output = replay(&[&place.file()], &url(&moody), &[]).await;
    let told = said(&output, 1);
    assert!(
        told.starts_with("differs: initialize (c1, exchange "),
        "{told}"
    );
    for skipped in ["tools/list", "resources/read a:b", "prompts/list"] {
        let skipped =
            format!("skipped: 1 x {skipped}: the server refuses its connection's handshake\n");
        assert!(told.contains(&skipped), "{told}");
    }
    assert!(told.contains("\ndiffers: 1 played against "), "{told}");
}

/// A server with two pages of tools, or one. Its cursor of the second is its own.
async fn paged(cursor: &'static str, pages: usize) -> Upstream {
    let answer = move |request: &Received| {
        let asked = request.json();
        let page = |name, next| {
            let tools = json!([{"name": name, "inputSchema": {"type": "object"}}]);
            json!({"result": {"tools": tools, "nextCursor": next}})
        };
        let mut answer = match (request.rpc().as_str(), asked["params"]["cursor"].as_str()) {
            ("initialize", _) => return Some(Answer::initialize(request, Some("session-1"))),
            ("tools/list", None) if pages == 2 => page("first", json!(cursor)),
            ("tools/list", None) => page("first", Value::Null),
            ("tools/list", Some(given)) if given == cursor => page("second", Value::Null),
            ("tools/list", Some(_)) => {
                json!({"error": {"code": -32602, "message": "no such cursor"}})
            }
            _ => return routine(request),
        };
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = asked["id"].clone();
        Some(Answer::json(&answer))
    };
    Upstream::start(answer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_asked_for_with_the_new_servers_own_cursor() {
    let place = Place::new("pages");
    let old = paged("old-2", 2).await;
    let ferry = recording(&old, &place).await;
    let mut client = Client::ready(ferry.address).await;
    let pages = [
        ("tools/list", json!({})),
        ("tools/list", json!({"cursor": "old-2"})),
    ];
    ask(&mut client, &pages).await;
    ferry.stop_after(client).await;

    let new = paged("new-2", 2).await;
    let output = replay(&[&place.file()], &url(&new), &[]).await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("agrees: 3 played against "), "{told}");

    let short = paged("none", 1).await;
    let output = replay(&[&place.file()], &url(&short), &[]).await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(
            "\n  ! no answer: not asked for: the server gave no cursor with the page before\n"
        ),
        "{told}"
    );
    assert!(told.contains("differs: 2 played against "), "{told}");
}

/// A record of a request of 2026-07-28 and its outcome.
fn modern_records(first: u64, method: &str) -> String {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let headers = json!([
        ["mcp-method", method],
        ["mcp-protocol-version", "2026-07-28"],
        ["mcp-param-city", "Zürich"]
    ]);
    let record = |seq, from, to, kind: &str, body: Value| {
        json!({"v": 1, "seq": seq, "time": "", "connection": "p1", "exchange": first, "kind": "message", "from": from, "to": to,
            "message": {"type": kind, "method": body["method"]}, "body": body,
            "http": {"method": "POST", "target": "/mcp", "headers": headers}})
    };
    let request = json!({"method": method, "params": {"_meta": meta}});
    let result = json!({"result": {"tools": []}});
    format!(
        "{}\n{}\n",
        record(first, "client", "server", "request", request),
        record(first + 1, "server", "client", "result", result)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_gets_no_message_is_a_difference_and_the_others_are_played() {
    let place = Place::new("odd");
    let old = server("a", &["echo"]).await;
    record(&old, &place).await;
    let html = || Answer::new(500, &[("Content-Type", "text/html")], "<b>no</b>");
    let odd = Upstream::start(move |request| {
        let id = &request.json()["id"];
        match request.rpc().as_str() {
            "tools/list" => Some(Answer::json(
                &json!({"jsonrpc": "2.0", "id": id, "result": {"tools": []}}),
            )),
            "prompts/list" => Some(html()),
            "resources/read" => Some(Answer::new(401, &[("WWW-Authenticate", "Bearer")], "")),
            "initialize" => Some(Answer::initialize(request, Some("session-1"))),
            _ => routine(request),
        }
    })
    .await;
    let output = replay(&[&place.file()], &url(&odd), &[]).await;
    let told = said(&output, 1);
    for differs in ["tools/list", "resources/read a:b", "prompts/list"] {
        assert!(
            told.contains(&format!("differs: {differs} (c1, ")),
            "{told}"
        );
    }
    assert!(told.contains("\n  - /result/tools/echo: {"), "{told}");
    assert!(told.contains("\ndiffers: 5 played against "), "{told}");

    let records = [
        modern_records(1, "prompts/list"),
        modern_records(3, "resources/read"),
        modern_records(5, "tools/list"),
    ];
    std::fs::write(place.file(), records.concat()).unwrap();
    let output = replay(&[&place.file()], &url(&odd), &[]).await;
    let told = said(&output, 1);
    assert!(
        told.contains("differs: prompts/list (p1, exchange 1)\n  ! no answer: 500 Internal Server Error, text/html: <b>no</b>\n"),
        "{told}"
    );
    assert!(
        told.contains("differs: resources/read (p1, exchange 3)\n  ! no answer: 401 Unauthorized without a text\n"),
        "{told}"
    );
    assert!(told.contains("\ndiffers: 3 played against "), "{told}");
    let log = odd.log();
    let last = log
        .iter()
        .rfind(|request| request.rpc() == "tools/list")
        .unwrap();
    assert_eq!(last.header("mcp-param-city"), Some("Zürich"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_server_goes_what_was_compared_before_is_told() {
    let place = Place::new("gone");
    let old = server("a", &["echo"]).await;
    record(&old, &place).await;
    let mut leaving = Upstream::start(|request| match request.rpc().as_str() {
        "resources/read" => None,
        "initialize" => Some(Answer::initialize(request, Some("session-1"))),
        "tools/list" => Some(Answer::json(
            &json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": {"tools": []}}),
        )),
        _ => routine(request),
    })
    .await;
    let (file, upstream) = (place.file(), url(&leaving));
    let (files, flags) = ([file.as_path()], ["--json"]);
    let goes = async {
        let call = leaving.expect("POST").await;
        drop(call);
        leaving.die().await;
    };
    let (output, ()) = tokio::join!(replay(&files, &upstream, &flags), goes);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.starts_with("error: cannot replay: the server cannot be reached"),
        "{complaint}"
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["agrees"], json!(false), "{told}");
    assert_eq!(told["differ"][0]["method"], json!("tools/list"), "{told}");
    let undone = told["undone"].as_str().unwrap();
    assert!(complaint.contains(undone), "{told}");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_line_with_exit_code_2() {
    let place = Place::new("undone");
    let nobody = ClosedPort::new();
    let nobody = nobody.url().to_string();
    let good = r#"{"v":1,"seq":1,"time":"","connection":"c1","exchange":1,"kind":"message","from":"client","to":"ferry","message":{"type":"request","method":"ping"},"body":{"method":"ping"}}
{"v":1,"seq":2,"time":"","connection":"c1","exchange":1,"kind":"message","from":"ferry","to":"client","message":{"type":"result"},"body":{"result":{}}}
"#;
    let call = good.replace("\"ping\"", "\"tools/call\"");
    for (content, complaint) in [
        (good, "error: cannot replay: the server cannot be reached ("),
        (
            &good.replace(r#"{"method":"ping"}"#, r#"{"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#),
            "error: cannot replay: the server http://127.0.0.1:",
        ),
        ("", "error: cannot replay: the files are empty\n"),
        (
            "\u{0}\n{}\n{\"v\"",
            "error: cannot replay: no line is a record of the tap: 1 unreadable, 1 half-written, 1 JSON but no record of the tap\n",
        ),
        (
            call.as_str(),
            "error: cannot replay: every recorded request was skipped\n",
        ),
        (
            good.lines().next().unwrap(),
            "error: cannot replay: every recorded request was skipped\n",
        ),
    ] {
        std::fs::write(place.file(), content).unwrap();
        let output = replay(&[&place.file()], &nobody, &[]).await;
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.starts_with(complaint) && told.lines().count() == 1,
            "{told}"
        );
    }
    let output = replay(&[&place.0.join("missing")], &nobody, &[]).await;
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("missing: "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_in_a_file_do_not_reach_the_terminal() {
    let place = Place::new("hostile");
    let server = server("a", &["echo"]).await;
    let hostile = json!("\u{1b}[31m\u{202e}\nx");
    let record = |seq, from, to, kind: &str, method: Value, body: Value| {
        json!({"v": 1, "seq": seq, "time": "", "connection": hostile, "exchange": 1, "kind": "message", "from": from, "to": to,
            "message": {"type": kind, "method": method, "name": hostile}, "body": body})
    };
    let request = record(
        1,
        "client",
        "ferry",
        "request",
        json!("tools/list"),
        json!({"method": "tools/list"}),
    );
    let result = record(
        2,
        "ferry",
        "client",
        "result",
        Value::Null,
        json!({"result": {"\u{1b}[2J\u{202e}": hostile}}),
    );
    std::fs::write(place.file(), format!("{request}\n{result}\n")).unwrap();
    let output = replay(&[&place.file()], &url(&server), &[]).await;
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("\\u{1b}[2J\\u{202e}"), "{told}");
    let bad = |char: char| char.is_control() && char != '\n' || char == '\u{202e}';
    assert!(!told.contains(bad), "{told:?}");
}
