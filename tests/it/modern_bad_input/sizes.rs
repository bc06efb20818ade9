//! Names, arguments, lists and streams that are too long.

use mcp_ferry::proto::bridge::{Body, Counted};

use super::{Talk, get};

/// Subscriptions that one connection may have; the crate's documentation says so.
const MAX_SUBSCRIPTIONS: usize = 256;
/// Pages of a list of tools that the ferry reads by itself.
const MAX_PAGES: usize = 64;

#[test]
fn what_an_upstream_makes_up_is_cut_in_errors() {
    let mut talk = Talk::with(r#"{"prompts":{}}"#);
    let long = "x".repeat(1 << 20);
    talk.post(&get(1));
    talk.answer(&format!(r#"{{"resultType":"{long}"}}"#));
    talk.fails("1", "of a kind that clients of older revisions cannot take");
    talk.post(&get(2));
    talk.answer(&format!(
        r#"{{"resultType":"input_required","inputRequests":{{"r":{{"method":"{long}"}}}}}}"#
    ));
    talk.fails("2", "it asks for what no revision has");
    talk.goes_on();
}

#[test]
fn what_no_header_can_carry_is_not_sent() {
    let mut talk = Talk::with(r#"{"prompts":{},"tools":{}}"#);
    talk.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    talk.answer(
        r#"{"resultType":"complete","tools":[{"name":"t","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}}}]}"#,
    );
    talk.next_delivered();
    let long = "x".repeat(1 << 20);
    for (id, method, params) in [
        (2, "prompts/get", format!(r#"{{"name":"{long}"}}"#)),
        (3, "resources/read", format!(r#"{{"uri":"mem://{long}"}}"#)),
        (
            4,
            "tools/call",
            format!(r#"{{"name":"t","arguments":{{"a":"{long}"}}}}"#),
        ),
        (5, long.as_str(), "{}".to_owned()),
        // Base64 makes it longer than it was.
        (
            6,
            "prompts/get",
            format!(r#"{{"name":"{}"}}"#, "é".repeat(3500)),
        ),
    ] {
        talk.post(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#
        ));
        talk.fails(
            &id.to_string(),
            r#""reason":"not_expressible","executed":"no""#,
        );
    }
    talk.goes_on();

    // An argument that no header repeats may be as long as it likes.
    talk.post(&format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"t","arguments":{{"b":"{long}"}}}}}}"#
    ));
    let call = talk.answer(r#"{"resultType":"complete","content":[]}"#);
    assert!(call.contains(&long));
    talk.next_delivered();
    talk.goes_on();
}

#[test]
fn a_list_of_tools_without_end_is_given_up_and_the_call_goes() {
    let mut talk = Talk::with(r#"{"prompts":{},"tools":{}}"#);
    talk.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#);
    for _ in 0..MAX_PAGES {
        let page = talk.answer(r#"{"resultType":"complete","tools":[],"nextCursor":"more"}"#);
        assert!(page.contains(r#""method":"tools/list""#), "{page}");
    }
    let call = talk.answer(r#"{"resultType":"complete","content":[]}"#);
    assert!(call.contains(r#""method":"tools/call""#), "{call}");
    talk.next_delivered();
    talk.goes_on();
}

#[test]
fn a_connection_has_so_many_subscriptions_and_no_more() {
    let mut talk = Talk::with(r#"{"prompts":{},"resources":{"subscribe":true}}"#);
    let mut uris: Vec<String> = Vec::new();
    let mut stream = None;
    for number in 0..MAX_SUBSCRIPTIONS {
        uris.push(format!(r#""mem://{number}""#));
        talk.post(&subscribe(number, number));
        let (call, text) = talk.next_sent();
        assert!(text.contains(&format!(r#""mem://{number}""#)));
        talk.begin(call, Body::Events);
        talk.say(
            call,
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"notifications":{{"resourceSubscriptions":[{}]}}}}}}"#,
                uris.join(",")
            ),
        );
        let answer = talk.next_delivered();
        assert_eq!(
            answer,
            format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#)
        );
        stream = Some(call);
    }
    // The former one is still read for a moment.
    assert_eq!(talk.aborted, MAX_SUBSCRIPTIONS - 2, "two streams at most");
    talk.post(&subscribe(900, 900));
    talk.fails("900", "this connection has 256 subscriptions already");
    talk.kept = talk.bridge.held_bytes();
    let uris: usize = uris.iter().map(String::len).sum();
    assert!(talk.kept > 2 * uris, "they are counted");
    talk.goes_on();

    // The stream that is there stays, and carries as much as the upstream likes.
    let stream = stream.expect("a stream");
    for _ in 0..10_000 {
        talk.say(
            stream,
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"mem://0"}}"#.to_owned(),
        );
    }
    assert_eq!(talk.delivered.len(), 10_000);
    talk.delivered.clear();
    talk.goes_on();
}

#[test]
fn an_upstream_that_asks_in_requests_is_not_heard_however_often_it_does() {
    let mut talk = Talk::with(r#"{"prompts":{}}"#);
    talk.post(&get(1));
    let (call, _) = talk.next_sent();
    talk.begin(call, Body::Events);
    talk.counted.clear();
    for number in 0..1000 {
        talk.say(
            call,
            format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"roots/list"}}"#),
        );
    }
    assert_eq!(talk.counted, [Counted::InvalidUpstreamMessage; 1000]);
    talk.say(
        call,
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","messages":[]}}"#.to_owned(),
    );
    talk.next_delivered();
    talk.goes_on();
}

fn subscribe(id: usize, number: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/subscribe","params":{{"uri":"mem://{number}"}}}}"#
    )
}
