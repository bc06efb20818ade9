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
