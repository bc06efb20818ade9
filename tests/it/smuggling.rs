//! Requests whose end two readers could see in two places: whatever is written, the upstream sees at most one whole,
//! well-formed request, and never the one that was hidden in it.
//!
//! The corpus is `fixtures/attacks/smuggling.txt`; its README says what its words mean. Each case runs on `/mcp`, where
//! bodies are streamed through, and on `/messages`, where they are read and sent anew.

use std::fs;
use std::path::Path;

use crate::fuzz::raw::{self, Until, answers};
use crate::fuzz::recorder::{Recorded, Recorder};
use crate::support::client::Client;
use crate::support::clock::within;
use crate::support::ferry::Ferry;

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
const SMUGGLED: &str = "GET /mcp?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct Case {
    name: String,
    outcome: String,
    text: String,
}

fn corpus() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/attacks/smuggling.txt");
    let text = fs::read_to_string(path).expect("the corpus");
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix("== ") {
            let (name, outcome) = title.split_once(" | ").expect("a name and an outcome");
            cases.push(Case {
                name: name.to_owned(),
                outcome: outcome.to_owned(),
                text: String::new(),
            });
        } else if let Some(case) = cases.last_mut() {
            case.text.push_str(line);
        }
    }
    cases
}

/// The bytes of a case for this path.
fn bytes(text: &str, path: &str, tag: &str) -> Vec<u8> {
    let post = format!(
        "POST {path} HTTP/1.1\\r\\nHost: localhost\\r\\n{tag}\\r\\nContent-Type: application/json\\r\\n"
    );
    let text = text
        .replace("{post}", &post)
        .replace("{path}", path)
        .replace("{note}", NOTE)
        .replace("{length}", &NOTE.len().to_string())
        .replace("{chunks}", &format!("{:x}\\r\\n{NOTE}\\r\\n", NOTE.len()))
        .replace("{smuggled}", SMUGGLED);
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next().expect("an escape") {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).expect("two digits")
            }
            other => panic!("\\{other} is no escape"),
        });
    }
    bytes
}

/// Leaves out what an earlier case began: a request that breaks off may reach the upstream when its client has gone.
fn of_case(tag: &str, mut seen: Vec<Recorded>) -> Vec<Recorded> {
    seen.retain(|request| {
        let other = request.head.contains("x-case: ") && !request.head.contains(tag);
        !other || request.whole
    });
    seen
}

/// Says what is wrong with what happened.
fn judge(outcome: &str, statuses: &[u16], seen: &[Recorded]) -> Result<(), String> {
    if let Some(hidden) = seen
        .iter()
        .find(|request| request.head.contains("smuggled"))
    {
        return Err(format!("the hidden request was understood: {hidden:?}"));
    }
    let whole = seen
        .iter()
        .filter(|request| request.whole && request.body == NOTE.as_bytes());
    let whole = whole.count();
    let refused = matches!(statuses, [] | [400..500]) && seen.is_empty();
    let once = matches!(statuses, [200..300]) && whole == 1 && seen.len() == 1;
    let holds = match outcome {
        "refused" | "not-read" => refused,
        "once" => once,
        "once-or-refused" => once || refused,
        "twice" => matches!(statuses, [200..300, 200..300]) && whole == 2 && seen.len() == 2,
        "cut" => matches!(statuses, [] | [400..500]) && whole == 0 && seen.len() <= 1,
        other => panic!("{other} is no outcome"),
    };
    match holds {
        true => Ok(()),
        false => Err(format!(
            "not {outcome}: {statuses:?}, upstream saw {seen:?}"
        )),
    }
}

/// Waits until the upstream has seen so many whole requests.
async fn settled(upstream: &Recorder, count: usize) {
    within("what was accepted to go upstream", async {
        while upstream.whole() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Runs the corpus on a path; the upstream must be quiet before.
async fn run(ferry: &Ferry, upstream: &Recorder, path: &str) {
    let mut wrong = Vec::new();
    let cases = corpus();
    assert!(cases.len() > 70, "only {} cases", cases.len());
    for (number, case) in cases.iter().enumerate() {
        for parts in [1, 7] {
            let tag = format!("x-case: {number}-{parts};");
            let text = bytes(&case.text, path, &tag);
            let wanted = match case.outcome.as_str() {
                "twice" => 2,
                // The rest never comes.
                "cut" => 0,
                _ => 1,
            };
            let until = Until::Answers(wanted);
            let sent = raw::exchange(ferry.address, &text, parts, until).await;
            let statuses = answers(&sent).map(|answers| {
                let statuses = answers.iter().map(|answer| answer.status);
                statuses.collect::<Vec<u16>>()
            });
            let judged = match statuses {
                Ok(statuses) => {
                    // A POST to a connection is accepted before it goes upstream.
                    let accepted = statuses.iter().filter(|status| **status < 300).count();
                    settled(upstream, accepted).await;
                    let seen = upstream.take().map(|seen| of_case(&tag, seen));
                    seen.and_then(|seen| judge(&case.outcome, &statuses, &seen))
                }
                Err(why) => Err(why),
            };
            if let Err(why) = judged {
                wrong.push(format!("{} (in {parts} parts): {why}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "on {path:.9}:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn nothing_is_smuggled_past_the_pass_through() {
    let upstream = Recorder::start().await;
    let ferry = Ferry::start(upstream.url().parse().expect("a URL")).await;
    run(&ferry, &upstream, "/mcp").await;
    ferry.stop().await;
}

#[tokio::test]
async fn nothing_is_smuggled_past_the_messages() {
    let upstream = Recorder::start().await;
    let ferry = Ferry::start(upstream.url().parse().expect("a URL")).await;
    let client = Client::ready(ferry.address).await;
    settled(&upstream, 2).await;
    upstream.take().expect("the handshake");
    let path = format!("/messages?sessionId={}", client.id());
    run(&ferry, &upstream, &path).await;
    ferry.stop_after(client).await;
}
