//! What the tap prints and writes, as a process: lines on stdout, a reader who has gone or does not read, a file that
//! cannot be. Traffic goes on whatever becomes of them.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::client::Client;
use crate::support::clock::within;
use crate::support::upstream::Upstream;

/// A ferry that prints what crosses; it ends with this value.
async fn start(upstream: &Upstream, flags: &[&str]) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-ferry"))
        .env_clear()
        .args(["--listen", "127.0.0.1:0", "--upstream"])
        .arg(upstream.url().to_string())
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = within("the line that says where it listens", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it runs");
            if let Some((_, rest)) = line.split_once("listening on http://") {
                let (address, _) = rest.split_once(',').unwrap();
                return address.parse().unwrap();
            }
        }
    });
    let address = address.await;
    // Whoever logs needs a reader.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

async fn echo(client: &mut Client, id: u64, text: &str) {
    client
        .request(
            id,
            "tools/call",
            json!({"name": "echo", "arguments": {"text": text}}),
        )
        .await;
    assert_eq!(client.message().await["id"], id);
}

#[tokio::test]
async fn a_pipe_gets_a_plain_line_for_each_message() {
    let upstream = Upstream::echo().await;
    let (mut child, address) = start(&upstream, &["--tap"]).await;
    let mut out = child.stdout.take().unwrap();
    let mut client = Client::ready(address).await;
    echo(&mut client, 7, "\u{1b}[31mred\u{202e}").await;
    client.leave();
    let signal = format!("kill -TERM {}", child.id().unwrap());
    let told = std::process::Command::new("sh")
        .args(["-c", &signal])
        .status();
    assert!(told.unwrap().success());
    let mut text = String::new();
    within("the end of the output", out.read_to_string(&mut text))
        .await
        .unwrap();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    let calls: Vec<_> = text
        .lines()
        .filter(|line| line.contains("tools/call echo"))
        .collect();
    assert_eq!(calls.len(), 2, "{text}");
    assert!(
        calls[0].contains("client ───▶ ferry             request      tools/call echo id=7"),
        "{text}"
    );
    assert!(
        calls[1].contains("            ferry ───▶ server request      tools/call echo id=7"),
        "{text}"
    );
    assert!(
        text.lines().any(
            |line| line.contains("client ◀─── ferry             result       id=7")
                && line.ends_with("ms")
        ),
        "{text}"
    );
    assert!(text.lines().any(|line| line.ends_with(" closed")), "{text}");
}

#[tokio::test]
async fn a_reader_who_has_gone_ends_the_printing_and_nothing_else() {
    let upstream = Upstream::echo().await;
    let (mut child, address) = start(&upstream, &["--tap=full"]).await;
    drop(child.stdout.take());
    let mut client = Client::ready(address).await;
    for id in 1..=50 {
        echo(&mut client, id, "x").await;
    }
    assert!(child.try_wait().unwrap().is_none(), "it runs on");
}

#[tokio::test]
async fn a_reader_who_does_not_read_holds_up_nothing() {
    let upstream = Upstream::echo().await;
    let (mut child, address) = start(&upstream, &["--tap=full"]).await;
    let text = "x".repeat(20_000);
    let mut client = Client::ready(address).await;
    // Much more than a pipe takes.
    for id in 1..=50 {
        echo(&mut client, id, &text).await;
    }
    let signal = format!("kill -INT {}", child.id().unwrap());
    let told = std::process::Command::new("sh")
        .args(["-c", &signal])
        .status();
    assert!(told.unwrap().success());
    let ended = within("its end", child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_refused_at_the_start() {
    let upstream = Upstream::echo().await;
    let folder = std::env::temp_dir();
    for path in [folder.join("no/such/folder/file"), folder.clone()] {
        let output = Command::new(env!("CARGO_BIN_EXE_mcp-ferry"))
            .env_clear()
            .args(["--listen", "127.0.0.1:0", "--upstream"])
            .arg(upstream.url().to_string())
            .arg("--tap-file")
            .arg(&path)
            .kill_on_drop(true)
            .output();
        let output = within("its end", output).await.unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        let expected = format!("error: cannot write --tap-file {}: ", path.display());
        assert!(
            complaint.lines().last().unwrap().starts_with(&expected),
            "{complaint}"
        );
    }
}
