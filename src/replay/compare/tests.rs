//! What is a difference, and what is not.

use serde_json::json;

use super::*;

fn compared(method: &str, recorded: Value, now: Value, ignored: &[&str]) -> Comparison {
    let ignored: Vec<_> = ignored.iter().map(|path| (*path).to_owned()).collect();
    let outcome = Outcome::Message(recorded);
    Rules::new(&ignored).outcomes(method, Some(Front::Sse), &outcome, &now)
}

fn paths(recorded: Value, now: Value) -> Vec<String> {
    let found = compared("tools/call", recorded, now, &[]);
    let told = found.differences.iter().map(|it| {
        let sign = match it.change {
            Change::Changed(..) => '~',
            Change::Added(_) => '+',
            Change::Removed(_) => '-',
            Change::Nothing(_) => '!',
        };
        format!("{sign} {}", it.path)
    });
    told.collect()
}

#[test]
fn what_differs_every_time_is_no_difference() {
    for (recorded, now) in [
        (
            json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
            json!({"jsonrpc": "2.0", "id": "x", "result": {}}),
        ),
        (
            json!({"result": {"a": "2026-11-21T16:40:00Z"}}),
            json!({"result": {"a": "2027-01-02T03:04:05.678+01:00"}}),
        ),
        (
            json!({"result": {"a": "at 2026-11-21T16:40:00Z, done"}}),
            json!({"result": {"a": "at 2026-11-22T16:40:01Z, done"}}),
        ),
        (
            json!({"result": {"createdAt": 1_763_742_000}}),
            json!({"result": {"createdAt": 1_763_742_999}}),
        ),
        (
            json!({"result": {"timestamp": "1763742000.5"}}),
            json!({"result": {"timestamp": "1763742001.25"}}),
        ),
        (
            json!({"result": {"id": "550e8400-e29b-41d4-a716-446655440000"}}),
            json!({"result": {"id": "123e4567-e89b-12d3-a456-426614174000"}}),
        ),
        (
            json!({"result": {"nextCursor": "a", "_meta": {"x": 1}}}),
            json!({"result": {"nextCursor": "b", "_meta": {"x": 2}}}),
        ),
        (
            json!({"result": {"nextCursor": "a"}}),
            json!({"result": {"resultType": "complete", "ttlMs": 0}}),
        ),
        (
            json!({"result": {"a": 1, "b": 2}}),
            json!({"result": {"b": 2.0, "a": 1.0}}),
        ),
        (
            json!({"result": {"token": "[redacted]"}}),
            json!({"result": {"token": "abc"}}),
        ),
        (
            json!({"result": {"t": "use token=[redacted] or [hash abcdef]"}}),
            json!({"result": {"t": "use token=xyz1 or [hash 012345]"}}),
        ),
        (
            json!({"result": {"custom": "[redacted]"}}),
            json!({"result": {"custom": "abc"}}),
        ),
        (
            json!({"result": {"text": "{\"b\":1,\"a\":[1.0]}"}}),
            json!({"result": {"text": "{ \"a\": [1], \"b\": 1 }"}}),
        ),
        (
            json!({"result": {"tools": [{"name": "a"}, {"name": "b"}]}}),
            json!({"result": {"tools": [{"name": "b"}, {"name": "a"}]}}),
        ),
    ] {
        assert_eq!(
            paths(recorded.clone(), now.clone()),
            [""; 0],
            "{recorded} {now}"
        );
    }
}

#[test]
fn every_other_change_is_named_by_its_place() {
    for (recorded, now, told) in [
        (
            json!({"result": {"a": 1}}),
            json!({"result": {"a": 2}}),
            vec!["~ /result/a"],
        ),
        (
            json!({"result": {"id": 1}}),
            json!({"result": {"id": 2}}),
            vec!["~ /result/id"],
        ),
        (
            json!({"result": {"id": "item-1"}}),
            json!({"result": {"id": "item-2"}}),
            vec!["~ /result/id"],
        ),
        (
            json!({"result": {}}),
            json!({"error": {"code": 1}}),
            vec!["- /result", "+ /error"],
        ),
        (
            json!({"result": {"a/b~": null}}),
            json!({"result": {"a/b~": false}}),
            vec!["~ /result/a~1b~0"],
        ),
        (
            json!({"result": [1, 2]}),
            json!({"result": [1]}),
            vec!["- /result/1"],
        ),
        (
            json!({"result": {"a": "2026-11-21T16:40:00Z"}}),
            json!({"result": {"a": "never"}}),
            vec!["~ /result/a"],
        ),
        (
            json!({"result": {"text": "{\"a\":1}"}}),
            json!({"result": {"text": "{\"a\":2}"}}),
            vec!["~ /result/text/a"],
        ),
        (
            json!({"result": {"tools": [{"name": "a", "d": 1}, {"name": "b"}]}}),
            json!({"result": {"tools": [{"name": "c"}, {"name": "a", "d": 2}]}}),
            vec![
                "~ /result/tools/a/d",
                "- /result/tools/b",
                "+ /result/tools/c",
            ],
        ),
        (
            json!({"result": {"contents": [{"uri": "file:///a", "text": "x"}]}}),
            json!({"result": {"contents": [{"uri": "file:///a", "text": "y"}]}}),
            vec!["~ /result/contents/file:~1~1~1a/text"],
        ),
    ] {
        assert_eq!(paths(recorded.clone(), now), told, "{recorded}");
    }
}

/// What is told of two values under one name.
fn under(name: &str, recorded: &Value, now: &Value) -> Vec<String> {
    let of = |value: &Value| json!({"result": {name: value}});
    paths(of(recorded), of(now))
}

fn agrees(recorded: &str, now: &str) -> bool {
    under("value", &recorded.into(), &now.into()).is_empty()
}

#[test]
fn a_placeholder_stands_for_a_secret_and_hides_nothing_beside_it() {
    for (recorded, now) in [
        ("[redacted]", "anything at all, in\ntwo lines"),
        ("[hash 3fa2c1]", "anything"),
        // Both redacted, each hash that of its own process.
        ("token=[redacted] ok", "token=abc1 ok"),
        ("id [hash 3fa2c1]!", "id [hash 012345]!"),
        (
            "/a/%5Bhash%203fa2c1%5D/b?x=%5Bredacted%5D",
            "/a/%5Bhash%20000000%5D/b?x=%5Bredacted%5D",
        ),
        // Only the recording's tap knew the name.
        ("user alice pin=[redacted] ok", "user alice pin=1234 ok"),
        ("pin=[redacted], nick=[redacted]", "pin=1234, nick=al"),
        ("pin=\"[redacted]\" ok", "pin=\"12, 34\" ok"),
        ("pin=[redacted]", "pin=550e8400-e29b-41d4-a716-446655440000"),
        (
            "pin=[redacted] at 2026-11-21T16:40:00Z",
            "pin=1 at 2026-11-22T16:40:00Z",
        ),
    ] {
        assert!(agrees(recorded, now), "{recorded} {now}");
    }
    for (recorded, now) in [
        ("user alice token=[redacted] ok", "Internal failure"),
        ("user alice token=[redacted] ok", "user bob token=abc1 ok"),
        (
            "user alice token=[redacted] ok",
            "user alice token=abc1 failed",
        ),
        (
            "session [hash 3fa2c1] is open",
            "session [hash 3fa2c1] is closed",
        ),
        ("pin=[redacted]", "pin=1234 Internal failure"),
        ("pin=[redacted]", "pin="),
        ("pin=\"[redacted]\"", "pin=\"12\n34\""),
        ("a [redacted] b [redacted] c", "a x b y d"),
        ("[hash is no hash] a", "[hash is no hash] b"),
        // What is redacted now was no secret then.
        ("token=none", "token=abc1"),
        ("nothing here", "[redacted]"),
    ] {
        assert!(!agrees(recorded, now), "{recorded} {now}");
    }
}

#[test]
fn a_redacted_value_of_any_type_agrees() {
    for now in [json!(1), json!(null), json!({"a": 1}), json!(["x"])] {
        assert_eq!(under("pin", &json!("[redacted]"), &now), [""; 0]);
        assert_eq!(
            under("pin", &json!("x [redacted]"), &now),
            ["~ /result/pin"]
        );
    }
}

#[test]
fn numbers_are_times_by_the_last_word_of_their_name() {
    for name in [
        "age",
        "maxAge",
        "date",
        "lastSeenAt",
        "created_at",
        "created-at",
        "elapsedMs",
        "took_ms",
        "HTTPDate",
        "TIMESTAMP",
        "dateTime",
        "updated",
        "_now_",
    ] {
        assert_eq!(under(name, &json!(3), &json!(97)), [""; 0], "{name}");
        assert_eq!(under(name, &json!("3"), &json!("97.5")), [""; 0], "{name}");
    }
    for name in [
        "percentage",
        "average",
        "usage",
        "page",
        "coverage",
        "storage",
        "message",
        "update",
        "candidate",
        "ageGroup",
        "format",
        "params",
        "items",
        "unknown",
        "runtimes",
        "",
    ] {
        let place = format!("~ /result/{name}");
        assert_eq!(
            under(name, &json!(3), &json!(97)),
            [place.as_str()],
            "{name}"
        );
        assert_eq!(under(name, &json!("3"), &json!("97")), [place], "{name}");
    }
}

#[test]
fn integers_are_compared_to_their_last_digit() {
    for (recorded, now, same) in [
        (
            json!(1_234_567_890_123_456_789_u64),
            json!(1_234_567_890_123_456_790_u64),
            false,
        ),
        (json!(u64::MAX), json!(u64::MAX - 1), false),
        (json!(i64::MIN), json!(i64::MIN + 1), false),
        (json!(-1), json!(1), false),
        (json!(1), json!(1.0), true),
        (json!(-0.0), json!(0), true),
        (json!(0.5), json!(0.5), true),
    ] {
        assert_eq!(
            under("a", &recorded, &now).is_empty(),
            same,
            "{recorded} {now}"
        );
    }
}

#[test]
fn of_a_date_time_only_itself_makes_no_difference() {
    for (recorded, now) in [
        ("2026-11-21T16:40:00Z:ok", "2026-11-22T10:00:00.123Z:ok"),
        ("2026-11-21T16:40:00", "2026-11-22T10:00:00+01:00"),
        ("2026-11-21T16:40:00z.", "2026-11-22T10:00:00-0800."),
        (
            "log-2026-11-21T16:40:00Z.txt",
            "log-2026-11-22T16:40:00Z.txt",
        ),
        (
            "2026-11-21T16:40:00Z--2026-11-21T16:40:00Z",
            "2026-11-22T16:40:00Z--2026-11-23T16:40:00Z",
        ),
    ] {
        assert!(agrees(recorded, now), "{recorded} {now}");
    }
    for (recorded, now) in [
        ("2026-11-21T16:40:00Z:ok", "2026-11-21T16:40:00Z:failed"),
        ("2026-11-21T16:40:00.5Z_a", "2026-11-21T16:40:00.5Z_b"),
        ("2026-11-21T16:40:00.", "2026-11-21T16:40:00"),
        ("2026-11-21", "2026-11-22"),
    ] {
        assert!(!agrees(recorded, now), "{recorded} {now}");
    }
}

#[test]
fn ids_drawn_at_random_make_no_difference_and_names_with_numbers_do() {
    let ids = [
        "550e8400-e29b-41d4-a716-446655440000",
        "123E4567-E89B-12D3-A456-426614174000",
        "00f067aa0ba902b7",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "0ujsswThIGTUYm2K8FjOOfXtY1K",
        "V1StGXR8_Z5jdHi6B-myT",
        "k8f3x0q2w7z5v9j1b4n6",
    ];
    for pair in ids.windows(2) {
        let [recorded, now] = pair else { continue };
        assert!(agrees(recorded, now), "{recorded} {now}");
        let within = |id: &str| format!("task_{id} (job-{id}.txt)");
        assert!(agrees(&within(recorded), &within(now)), "{recorded} {now}");
    }
    for (recorded, now) in [
        ("E2E-test-2024-11-05-passed", "E2E-test-2024-11-05-failed"),
        ("build-2024.11.05-success", "build-2024.11.06-failure"),
        ("node-v18.17.0-linux-x64", "node-v20.11.1-linux-x64"),
        ("ip-10-0-12-34.ec2.internal", "ip-10-0-12-35.ec2.internal"),
        (
            "user_12_role_3_level_45_admin",
            "user_12_role_3_level_45_guest",
        ),
        ("sha256WithRSAEncryption", "sha512WithRSAEncryption"),
        ("E2E1test2passed345", "E2E1test2failed345"),
        ("1234567890123456", "1234567890123457"),
        ("aes128gcm-sha256-x25519", "aes256gcm-sha384-x25519"),
        // `user:alice:1234` and `user:bobby:1234`.
        ("dXNlcjphbGljZToxMjM0", "dXNlcjpib2JieToxMjM0"),
        // An id in the place of something else, and beside something else.
        ("550e8400-e29b-41d4-a716-446655440000", "none"),
        (
            "550e8400-e29b-41d4-a716-446655440000:ok",
            "550e8400-e29b-41d4-a716-446655440000:failed",
        ),
        (
            "550e8400-e29b-41d4-a716-4466554400001",
            "550e8400-e29b-41d4-a716-4466554400002",
        ),
    ] {
        assert!(!agrees(recorded, now), "{recorded} {now}");
    }
    // What is as long as this is content.
    let content = |end| "0f".repeat(64) + end;
    assert!(!agrees(&content("1a"), &content("1b")));
}

#[test]
fn what_is_ignored_is_ignored_with_all_below() {
    let recorded = json!({"result": {"content": [{"text": "a"}, {"text": "b"}], "x/y": 1}});
    let now = json!({"result": {"content": [{"text": "c"}, {"text": "d"}], "x/y": 2}});
    for (ignored, left) in [
        (vec![], 3),
        (vec!["/result/content/*/text"], 1),
        (vec!["/result/content"], 1),
        (vec!["/result/content/0", "/result/x~1y"], 1),
        (vec!["/result"], 0),
        (vec!["/content"], 3),
    ] {
        let found = compared("tools/call", recorded.clone(), now.clone(), &ignored);
        assert_eq!(found.differences.len(), left, "{ignored:?}");
    }
}

#[test]
fn a_new_version_of_the_server_is_a_note() {
    let info = |version, name| json!({"result": {"protocolVersion": "2024-11-05", "serverInfo": {"name": name, "version": version}}});
    let found = compared("initialize", info("1", "a"), info("2", "a"), &[]);
    assert_eq!((found.differences.len(), found.notes.len()), (0, 1));
    let found = compared("initialize", info("1", "a"), info("1", "b"), &[]);
    assert_eq!((found.differences.len(), found.notes.len()), (1, 0));
    let found = compared("tools/call", info("1", "a"), info("2", "a"), &[]);
    assert_eq!((found.differences.len(), found.notes.len()), (1, 0));
}

#[test]
fn differences_without_end_are_counted() {
    let list = |value: u32| json!({"result": vec![value; MOST + 5]});
    let found = compared("tools/call", list(1), list(2), &[]);
    assert_eq!((found.differences.len(), found.more), (MOST, 5));
}
