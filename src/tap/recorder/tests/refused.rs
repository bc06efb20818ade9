//! HTTP requests of which no message could be read: those that the ferry refused, and broken ones that passed.

use super::*;

#[test]
fn a_refused_request_has_a_row_of_its_own_and_its_record_belongs_to_it() {
    let mut story = Story::new();
    for (target, status) in [
        ("/messages?sessionId=abc", 400),
        ("/messages?sessionId=def", 413),
    ] {
        story.happens(What::Refused {
            peer: PEER,
            head: head(Method::POST, target, &[]),
            status,
            why: "the body is too large".to_owned(),
        });
        let row = story.rows.last().expect("a row");
        assert_eq!(
            (row.outcome, row.kind),
            (Outcome::Refused, MessageKind::Unknown)
        );
        assert_eq!(
            (row.method.as_str(), row.status),
            ("POST /messages", Some(status))
        );
        assert_eq!(
            (row.connection.as_ref(), row.direction),
            (None, Direction::ToServer)
        );
        assert_eq!(
            (row.ended, row.calls, row.request_bytes),
            (Some(row.started), 0, 0)
        );
        assert_eq!(story.legs(row.exchange), [(Kind::Refused, None, None)]);
        let json = serde_json::to_value(row).expect("JSON");
        assert_eq!(
            (&json["outcome"], json.get("connection")),
            (&"refused".into(), None)
        );
    }
    assert!(story.recorder.open.is_empty(), "nothing stays open");
    assert_eq!(story.rows.len(), 2);
}

#[test]
fn a_request_that_had_begun_to_pass_has_one_row_when_the_ferry_refuses_it() {
    let mut story = Story::new();
    let head = head(Method::POST, "/mcp", &[]);
    let began = Arc::clone(&head);
    story.passing(
        1,
        Passing::Began {
            peer: PEER,
            head: began,
        },
    );
    story.passing(1, Passing::Upload(piece(CALL)));
    story.passing(1, Passing::Sent);
    let why = "nobody is there".to_owned();
    story.passing(
        1,
        Passing::Ended {
            why: Some(why.clone()),
        },
    );
    let exchange = story.row("tools/call").exchange;
    story.happens(What::Refused {
        peer: PEER,
        head,
        status: 502,
        why,
    });
    let record = story.records.last().expect("a record");
    assert_eq!(
        (record.exchange, record.connection.as_deref()),
        (Some(exchange), Some("p1"))
    );
    assert_eq!(story.rows.len(), 1);
}

#[test]
fn a_refused_request_of_a_known_connection_is_an_error_of_that_connection() {
    let mut story = Story::new();
    story.opened();
    let (mut parts, ()) = hyper::Request::new(()).into_parts();
    let head = head(Method::POST, "/messages?sessionId=abc", &[]);
    parts.extensions.insert(Arc::clone(&head));
    Head::belongs_to(&parts, Label(1));
    let why = "not JSON".to_owned();
    story.happens(What::Refused {
        peer: PEER,
        head,
        status: 400,
        why,
    });
    assert_eq!(
        story.row("POST /messages").connection.as_deref(),
        Some("c1")
    );
    let record = story.records.last().expect("a record");
    assert_eq!(record.connection.as_deref(), Some("c1"));
    let (connections, _) = story.recorder.open_rows();
    assert_eq!((connections[0].errors, connections[0].in_flight), (1, 0));
}

#[test]
fn a_passed_body_that_is_no_message_has_a_row_by_its_http_request() {
    let mut story = Story::new();
    for (number, body, answer, outcome) in [
        (1, "\u{0}\u{1}", (400, "no JSON"), Outcome::Error),
        (2, "{\"id\":5,", (202, ""), Outcome::Sent),
        (3, "", (500, ""), Outcome::Error),
    ] {
        story.passes(number, None, body, answer);
        let row = story.rows.last().expect("a row");
        assert_eq!(row.method, "POST /mcp");
        assert_eq!((row.kind, row.outcome), (MessageKind::Unknown, outcome));
        assert_eq!((row.status, row.calls), (Some(answer.0), 1));
        assert_eq!(
            (row.request_bytes, row.response_bytes),
            (body.len(), answer.1.len())
        );
        assert_eq!(row.connection.as_deref(), Some("p1"));
    }
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}"#;
    story.passes(4, None, "{", (400, error));
    let row = story.rows.last().expect("a row");
    assert_eq!((row.outcome, row.code), (Outcome::Error, Some(-32700)));
    let (connections, open) = story.recorder.open_rows();
    assert!(open.is_empty());
    let row = &connections[0];
    assert_eq!((row.calls, row.errors, row.in_flight), (4, 3, 0));
}

#[test]
fn a_listener_has_no_row() {
    let mut story = Story::new();
    let head = head(Method::GET, "/mcp", &[]);
    story.passing(1, Passing::Began { peer: PEER, head });
    story.passing(1, Passing::Sent);
    let headers = Arc::default();
    story.passing(
        1,
        Passing::Status {
            status: 405,
            headers,
        },
    );
    story.passing(1, Passing::Ended { why: None });
    assert!(story.rows.is_empty());
    // It is the client's: the ferry has none of its own there.
    let purposes = story.records.iter().map(|record| &record.purpose);
    assert!(purposes.clone().count() > 1 && purposes.clone().all(Option::is_none));
}

#[test]
fn a_call_that_passed_and_got_an_http_error_is_an_error_with_its_size_and_the_server_s_time() {
    let mut story = Story::new();
    let page = format!("<html>{}", "x".repeat(DEFAULT_MAX_BODY));
    for (number, page) in [(1, "<html>no"), (2, page.as_str())] {
        story.passes(number, Some("s"), CALL, (500, page));
        let row = story.rows.last().expect("a row");
        assert_eq!((row.outcome, row.status), (Outcome::Error, Some(500)));
        assert_eq!(row.response_bytes, page.len());
        assert_eq!(row.upstream_ms, row.ended.map(|ended| ended - row.started));
        assert!(row.upstream_ms.is_some_and(|waited| waited > 0.0));
    }
}

#[test]
fn a_call_that_the_ferry_gave_up_was_with_the_server_until_then() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    story.sends(1, Cause::Request(Id::Number(5)), CALL);
    story.hears(1, "the session is unknown");
    story.sends(2, Cause::Request(Id::Number(5)), CALL);
    story.at += Duration::from_millis(100);
    let error = r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32603,"message":"no answer in time"}}"#;
    story.delivers(About::Outcome(Id::Number(5)), error);
    let row = story.row("tools/call");
    assert_eq!(row.upstream_ms, Some(103.0), "from the first call on");
    story.posts(2, &CALL.replace('5', "6"));
    story.delivers(About::Outcome(Id::Number(6)), &error.replace(":5", ":6"));
    let row = story.rows.last().expect("a row");
    assert_eq!(
        (row.calls, row.upstream_ms),
        (0, None),
        "never with the server"
    );
}

#[test]
fn a_request_that_was_read_before_it_is_refused_has_its_one_row_and_does_not_hang() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    story.sends(1, Cause::Request(Id::Number(5)), CALL);
    let head = head(Method::POST, "/messages", &[]);
    let message = Message::parse(Bytes::from_static(CALL.as_bytes())).expect("a message");
    let posted = Keep::new(DEFAULT_MAX_BODY).posted(2, Some(&head), &message);
    story.on(posted);
    story.on(Crossing::Answered {
        post: 2,
        status: 400,
    });
    let why = "a request with id 5 is in flight".to_owned();
    story.happens(What::Refused {
        peer: PEER,
        head,
        status: 400,
        why,
    });
    let row = story.rows.last().expect("a row").clone();
    assert_eq!((row.outcome, row.status), (Outcome::Refused, Some(400)));
    let record = story.records.last().expect("a record");
    assert_eq!(
        (record.kind, record.exchange),
        (Kind::Refused, Some(row.exchange))
    );
    // The one that was there first has its outcome.
    let result = r#"{"jsonrpc":"2.0","id":5,"result":{}}"#;
    story.delivers(About::Outcome(Id::Number(5)), result);
    let row = story.rows.last().expect("a row");
    assert_eq!(row.outcome, Outcome::Result);
    // One that the server refuses by a status is over as well.
    let other = CALL.replace('5', "6");
    story.posts(3, &other);
    story.sends(2, Cause::Request(Id::Number(6)), &other);
    story.on(Crossing::Status {
        call: 2,
        status: 401,
        headers: Arc::default(),
    });
    story.on(Crossing::Answered {
        post: 3,
        status: 401,
    });
    let row = story.rows.last().expect("a row");
    assert_eq!((row.outcome, row.status), (Outcome::Error, Some(401)));
    let (connections, open) = story.recorder.open_rows();
    assert!(open.is_empty(), "{open:?}");
    assert_eq!((connections[0].errors, connections[0].in_flight), (2, 0));
    assert_eq!(story.rows.len(), 3);
}

#[test]
fn a_batch_is_refused_as_a_whole_and_nothing_of_it_hangs() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    let told = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    for message in [&CALL.replace('5', "6"), told, &CALL.replace('5', "7"), CALL] {
        story.posts(2, message);
    }
    story.on(Crossing::Answered {
        post: 2,
        status: 400,
    });
    let ended: Vec<_> = story.rows.iter().map(|row| row.outcome).collect();
    let whole = [Outcome::Refused; 4];
    assert_eq!(ended, [&[Outcome::Open], &whole[..]].concat());
    let (connections, _) = story.recorder.open_rows();
    let [connection] = &connections[..] else {
        panic!("{connections:?}");
    };
    assert_eq!((connection.in_flight, connection.errors), (1, 4));
    // Their ids are free again, and the request that was there before keeps its own.
    story.posts(3, &CALL.replace('5', "6"));
    story.delivers(
        About::Outcome(Id::Number(6)),
        r#"{"jsonrpc":"2.0","id":6,"result":{}}"#,
    );
    story.delivers(
        About::Outcome(Id::Number(5)),
        r#"{"jsonrpc":"2.0","id":5,"result":{}}"#,
    );
    let open = story.rows.iter().filter(|row| row.outcome == Outcome::Open);
    assert_eq!(open.count(), 0, "{:?}", story.rows);
}
