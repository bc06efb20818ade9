//! Addresses that could lead to another path than they seem to: only the routes are served, and the upstream sees its
//! one configured path, whatever is asked for.
//!
//! The corpus is `fixtures/attacks/paths.txt`. The recorder fails a case when any other path reaches the upstream.

use std::fs;
use std::path::Path;

use crate::fuzz::raw::{self, Until, answers};
use crate::fuzz::recorder::Recorder;
use crate::support::ferry::Ferry;

/// The bytes of a target.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (escape, length) = match after.as_bytes() {
            [b'\\', ..] => (b'\\', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'x', ..] => (u8::from_str_radix(&after[1..3], 16).expect("two digits"), 3),
            _ => panic!("\\{after} is no escape"),
        };
        bytes.push(escape);
        rest = &after[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[tokio::test]
async fn only_the_configured_path_is_ever_asked_for() {
    let upstream = Recorder::start().await;
    let ferry = Ferry::start(upstream.url().parse().expect("a URL")).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/attacks/paths.txt");
    let text = fs::read_to_string(file).expect("the corpus");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        count += 1;
        let (wanted, request) = line.split_once(' ').expect("a status");
        let start = unescaped(request);
        let rest = b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        let sent = raw::exchange(
            ferry.address,
            &[&start[..], rest].concat(),
            1,
            Until::Answers(1),
        )
        .await;
        let statuses: Vec<u16> = match answers(&sent) {
            Ok(answers) => answers.iter().map(|answer| answer.status).collect(),
            Err(why) => {
                wrong.push(format!("{line}: {why}"));
                continue;
            }
        };
        let served = matches!(statuses[..], [200..300]);
        let refused = matches!(statuses[..], [400..500]);
        let holds = match wanted {
            "ok" => served,
            "no" => refused,
            "ok-or-no" => served || refused,
            status => statuses[..] == [status.parse::<u16>().expect("a status")],
        };
        // The recorder has judged each; a refused request is none at all.
        let seen = upstream.take();
        if !holds || !matches!(&seen, Ok(seen) if served || seen.is_empty()) {
            wrong.push(format!("{line}: {statuses:?}, upstream saw {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "only {count} cases");
    ferry.stop().await;
}
