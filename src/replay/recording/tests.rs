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
        [Answer {
            method: "roots/list".to_owned(),
            message: json!({"result": {"roots": []}}),
            during: vec![1],
        }]
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

/// A question of the server about this exchange, on both legs, and the client's answer. It comes in a call, or not.
fn asked(seq: u64, exchange: u64, call: Option<u64>) -> [Value; 3] {
    let question = || json!({"method": "sampling/createMessage"});
    let mut upstream = line(seq, "server", "ferry", exchange, "request", question());
    if let Some(call) = call {
        upstream["call"] = call.into();
    }
    [
        upstream,
        line(seq + 1, "ferry", "client", exchange, "request", question()),
        line(
            seq + 2,
            "client",
            "ferry",
            exchange,
            "result",
            json!({"result": exchange}),
        ),
    ]
}

#[test]
fn an_answer_is_tied_to_what_was_in_flight_or_to_the_call_that_carried_the_question() {
    let request = |seq, exchange| {
        let body = json!({"method": "tools/call"});
        let client = line(seq, "client", "ferry", exchange, "request", body.clone());
        let mut server = line(seq + 1, "ferry", "server", exchange, "request", body);
        server["call"] = (exchange * 10).into();
        [client, server]
    };
    let result = |seq, exchange| {
        line(
            seq,
            "ferry",
            "client",
            exchange,
            "result",
            json!({"result": 1}),
        )
    };
    let mut cancelled = line(
        24,
        "client",
        "ferry",
        3,
        "notification",
        json!({"method": "notifications/cancelled"}),
    );
    cancelled["call"] = 5.into();
    let mut refused = line(41, "ferry", "client", 4, "", Value::Null);
    refused["kind"] = "status".into();
    refused["status"] = 401.into();
    refused.as_object_mut().unwrap().remove("message");
    let text = [
        &asked(1, 100, None)[..],
        &request(4, 1),
        &asked(6, 101, None),
        &request(9, 2),
        // Call 90 is none that carries a request: the server's stream beside the calls.
        &asked(11, 102, Some(90)),
        &asked(14, 103, Some(20)),
        &[result(17, 1)],
        &asked(18, 104, None),
        &[result(21, 2)],
        &request(22, 3),
        &[cancelled],
        &asked(25, 105, None),
        &request(39, 4),
        &[refused],
        &asked(42, 106, None),
    ];
    let recording = read(&[lines(&text.concat())]).unwrap();
    let answers = recording.connections[0].answers.iter();
    let told: Vec<_> = answers
        .map(|it| (it.message["result"].as_u64().unwrap(), it.during.clone()))
        .collect();
    let expected: [(u64, &[u64]); 7] = [
        (100, &[]),
        (101, &[1]),
        (102, &[1, 2]),
        (103, &[2]),
        (104, &[2]),
        (105, &[]),
        (106, &[]),
    ];
    assert_eq!(
        told,
        expected.map(|(answer, during)| (answer, during.to_vec()))
    );
}

#[test]
fn a_header_that_was_not_kept_as_it_was_cannot_be_sent_again() {
    let request = |seq, value: &str| {
        let params = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
        let mut line = line(
            seq,
            "client",
            "server",
            seq,
            "request",
            json!({"method": "a", "params": params}),
        );
        line["http"] =
            json!({"method": "POST", "target": "/mcp", "headers": [["mcp-param-city", value]]});
        line
    };
    let values = ["Ulm", "Zürich", "Z\u{fffd}rich", "Ulm\nx: y"];
    let requests: Vec<_> = (1..)
        .zip(values)
        .map(|(seq, value)| request(seq, value))
        .collect();
    let recording = read(&[lines(&requests)]).unwrap();
    let told: Vec<_> = recording.connections[0]
        .calls
        .iter()
        .map(|call| call.unplayable)
        .collect();
    let bad = Some("has a header that cannot be sent again");
    assert_eq!(told, [None, None, bad, bad]);
}
