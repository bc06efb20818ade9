//! Records put together, and lines that are none.

use serde_json::json;

use super::*;

fn line(seq: u64, from: &str, to: &str, exchange: u64, kind: &str, body: Value) -> Value {
    json!({
        "v": 1, "seq": seq, "time": format!("2026-11-21T16:40:{seq:02}.000000Z"), "connection": "c1",
        "exchange": exchange, "kind": "message", "from": from, "to": to,
        "message": {"type": kind, "method": body["method"]}, "body": body,
    })
}

fn read(files: &[String]) -> Result<Recording, String> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!(
        "mcp-ferry-{}-recording-{number}",
        std::process::id()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let paths: Vec<PathBuf> = (0..files.len())
        .map(|at| folder.join(at.to_string()))
        .collect();
    for (path, text) in paths.iter().zip(files) {
        std::fs::write(path, text).unwrap();
    }
    let recording = Recording::read(&paths);
    std::fs::remove_dir_all(&folder).unwrap();
    recording
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

#[test]
fn requests_meet_their_outcomes_and_questions_their_answers() {
    let call = json!({"method": "tools/call", "params": {"name": "ask"}});
    let text = lines(&[
        line(1, "client", "ferry", 1, "request", call.clone()),
        line(2, "ferry", "server", 1, "request", call),
        line(
            3,
            "server",
            "ferry",
            2,
            "request",
            json!({"method": "roots/list"}),
        ),
        line(
            4,
            "ferry",
            "client",
            2,
            "request",
            json!({"method": "roots/list"}),
        ),
        line(
            5,
            "client",
            "ferry",
            2,
            "result",
            json!({"result": {"roots": []}}),
        ),
        line(
            6,
            "ferry",
            "server",
            2,
            "result",
            json!({"result": {"roots": []}}),
        ),
        line(
            7,
            "server",
            "ferry",
            1,
            "result",
            json!({"result": {"of": "the other leg"}}),
        ),
        line(
            8,
            "ferry",
            "client",
            1,
            "result",
            json!({"result": {"a": 1}}),
        ),
    ]);
    let recording = read(&[text]).unwrap();
    assert_eq!(
        recording.read,
        Read {
            records: 8,
            ..Read::default()
        }
    );
    let [connection] = &recording.connections[..] else {
        panic!("{recording:?}")
    };
    assert_eq!(
        connection.answers,
        [("roots/list".to_owned(), json!({"result": {"roots": []}}))]
    );
    let [call] = &connection.calls[..] else {
        panic!("{connection:?}")
    };
    assert_eq!(call.params, Some(json!({"name": "ask"})));
    assert!(matches!(&call.outcome, Some(Outcome::Message(value)) if value["result"]["a"] == 1));
    assert_eq!(call.unplayable, None);
}

#[test]
fn runs_of_the_ferry_and_files_in_any_order_are_told_apart() {
    let run = |seq: u64, method: &str| {
        lines(&[line(
            seq,
            "client",
            "server",
            1,
            "request",
            json!({"method": method}),
        )])
    };
    let later = run(40, "later") + &run(1, "next run");
    let recording = read(&[later, run(3, "first")]).unwrap();
    let told: Vec<_> = recording
        .connections
        .iter()
        .map(|it| {
            it.calls
                .iter()
                .map(|call| call.method.as_str())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(told, [vec!["first"], vec!["next run"]]);
}

#[test]
fn what_cannot_be_read_is_counted_by_kind() {
    let mut text = lines(&[
        line(
            1,
            "client",
            "ferry",
            1,
            "request",
            json!({"method": "ping"}),
        ),
        json!({"v": 1, "seq": 5, "time": "", "kind": "missed", "count": 3}),
        json!({"v": 2, "seq": 6, "time": "", "kind": "something new"}),
        json!({"level": "INFO", "message": "a log line"}),
        json!([1, 2]),
    ]);
    text += "\n\u{0}\u{1}not JSON\n{\"v\":1,\"seq\":7,";
    let recording = read(&[text, String::new()]).unwrap();
    let expected = Read {
        records: 2,
        unreadable: 1,
        half_written: 1,
        foreign: 2,
        newer: 1,
        lost: 3,
    };
    assert_eq!(recording.read, expected);

    let error = read(&["{\"a\":1}\nx\n".to_owned()]).unwrap_err();
    assert_eq!(
        error,
        "no line is a record of the tap: 1 unreadable, 1 JSON but no record of the tap"
    );
    assert_eq!(read(&[String::new()]).unwrap_err(), "the files are empty");
    let error = Recording::read(&["no/such/file".into()]).unwrap_err();
    assert!(error.starts_with("no/such/file: "), "{error}");
    let error = Recording::read(&[std::env::temp_dir()]).unwrap_err();
    assert!(error.ends_with("it is a directory"), "{error}");
}

#[test]
fn requests_that_cannot_be_sent_again_say_why() {
    let secret = line(
        1,
        "client",
        "ferry",
        1,
        "request",
        json!({"method": "a", "params": {"x": ["[redacted]"]}}),
    );
    let mut cut = line(2, "client", "ferry", 2, "request", json!({"method": "b"}));
    cut["cut"] = true.into();
    cut.as_object_mut().unwrap().remove("body");
    let mut bare = line(3, "client", "ferry", 3, "request", json!({"method": "c"}));
    bare.as_object_mut().unwrap().remove("body");
    let batch = line(4, "client", "server", 4, "batch", json!([]));
    let mut packed = line(5, "client", "server", 5, "request", json!({"method": "d"}));
    packed.as_object_mut().unwrap().remove("body");
    packed["why"] = "the body is compressed (gzip): the tap does not read it".into();
    let recording = read(&[lines(&[secret, cut, bare, batch, packed])]).unwrap();
    let told: Vec<_> = recording.connections[0]
        .calls
        .iter()
        .map(|call| call.unplayable.unwrap())
        .collect();
    assert_eq!(
        told,
        [
            "has a redacted secret in its parameters",
            "was cut by --tap-max-body",
            "its text was not kept (--tap-bodies off)",
            "is a batch",
            "is compressed",
        ]
    );
}

#[test]
fn an_outcome_that_was_cut_or_compressed_is_there_though_nobody_can_read_it() {
    let request = |exchange| {
        let body = json!({"method": "tools/list"});
        line(exchange, "client", "ferry", exchange, "request", body)
    };
    let cut = |seq, exchange, kind| {
        let mut line = line(seq, "ferry", "client", exchange, kind, Value::Null);
        line["cut"] = json!(true);
        line
    };
    let mut packed = line(9, "server", "client", 8, "unknown", Value::Null);
    packed["why"] = json!("the body is compressed (gzip): the tap does not read it");
    packed.as_object_mut().unwrap().remove("body");
    let lines = lines(&[
        request(1),
        request(2),
        request(3),
        cut(4, 1, "result"),
        // So older files have it; and what comes during a call may be cut too.
        cut(5, 2, "unknown"),
        cut(6, 3, "unknown"),
        line(
            7,
            "ferry",
            "client",
            3,
            "result",
            json!({"result": {"a": 1}}),
        ),
        request(8),
        packed,
    ]);
    let recording = read(&[lines]).unwrap();
    let [connection] = &recording.connections[..] else {
        panic!("{recording:?}")
    };
    let outcomes: Vec<_> = connection.calls.iter().map(|it| &it.outcome).collect();
    assert!(
        matches!(
            outcomes[..],
            [
                Some(Outcome::Unreadable),
                Some(Outcome::Unreadable),
                Some(Outcome::Message(_)),
                Some(Outcome::Unreadable)
            ]
        ),
        "{outcomes:?}"
    );
}
