//! What a process is left with when its clients have gone: as many descriptors as before (invariant I4). The real
//! program, because only a process has descriptors of its own.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::client::Client;
use crate::support::clock::within;
use crate::support::upstream::Upstream;

/// A serving program; it ends with this value.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    async fn start(upstream: &Upstream) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-ferry"))
            .env_clear()
            .args(["--listen", "127.0.0.1:0", "--log", "info", "--upstream"])
            .arg(upstream.url().to_string())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.expect("text").expect("a line");
                if let Some((_, rest)) = line.split_once("listening on http://") {
                    let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
                    return rest[..end.unwrap_or(rest.len())]
                        .parse()
                        .expect("an address");
                }
            }
        };
        let address = within("the program to listen", listening).await;
        // What it says from now on is read and dropped, so that it never waits for a reader.
        tokio::task::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    fn descriptors(&self) -> usize {
        let id = self.child.id().expect("it runs");
        let folder = format!("/proc/{id}/fd");
        std::fs::read_dir(folder).expect("procfs").count()
    }
}

#[tokio::test]
async fn descriptors_are_back_where_they_were_when_all_clients_have_gone() {
    let upstream = Upstream::echo().await;
    let process = Process::start(&upstream).await;
    let before = process.descriptors();
    for _ in 0..3 {
        let mut clients = Vec::new();
        for id in 0..100 {
            let mut client = Client::ready(process.address).await;
            client.request(id, "tools/list", json!({})).await;
            client.message().await;
            clients.push(client);
        }
        assert!(process.descriptors() >= before + 100, "they are counted");
    }
    // Connections to the upstream are kept for a few seconds.
    within("descriptors to be closed", async {
        // Nothing tells when another process closes something: a look now and then.
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while process.descriptors() > before {
            looks.tick().await;
        }
    })
    .await;
}
