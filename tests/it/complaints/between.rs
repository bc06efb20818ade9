//! What stands between a client and the ferry in the complaints: edges and ingresses, each with the one habit that
//! broke somebody's server. Bytes are relayed as they come, one client socket to one socket of the ferry.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::http::find;

/// The habit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Habit {
    /// Keeps the head of a response until the first byte of its body.
    WithholdsHeads,
    /// Forwards requests as an ingress does: without this path prefix where there is one, with this header, and to a
    /// host that only it knows.
    Forwards {
        strips: Option<&'static str>,
        adds: Option<&'static str>,
    },
}

/// A relay with a habit, on a port of its own. It is gone when this is dropped.
pub(super) struct Between {
    pub(super) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Between {
    pub(super) async fn with(habit: Habit, ferry: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let ferry = TcpStream::connect(ferry).await.expect("connect");
                relays.spawn(relay(habit, client, ferry));
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

/// Relays until either side closes.
async fn relay(habit: Habit, client: TcpStream, ferry: TcpStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_ferry, mut to_ferry) = ferry.into_split();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut up_begun, mut down_begun) = (false, false);
    loop {
        let written = tokio::select! {
            read = from_client.read_buf(&mut up) => {
                if !matches!(read, Ok(count) if count > 0) {
                    return;
                }
                if !up_begun && !request_begins(habit, &mut up) {
                    continue;
                }
                up_begun = true;
                let written = to_ferry.write_all(&up).await;
                up.clear();
                written
            }
            read = from_ferry.read_buf(&mut down) => {
                if !matches!(read, Ok(count) if count > 0) {
                    return;
                }
                if !down_begun && !response_begins(habit, &down) {
                    continue;
                }
                down_begun = true;
                let written = to_client.write_all(&down).await;
                down.clear();
                written
            }
        };
        if written.is_err() {
            return;
        }
    }
}

/// Whether what was read of the first request may go on; it is changed where the habit does that.
fn request_begins(habit: Habit, read: &mut Vec<u8>) -> bool {
    let Habit::Forwards { strips, adds } = habit else {
        return true;
    };
    let Some(end) = find(read, b"\r\n\r\n") else {
        return false;
    };
    let head = std::str::from_utf8(&read[..end]).expect("a head of text");
    let (method, rest) = head.split_once(' ').expect("a target");
    let rest = strips.map_or(rest, |prefix| {
        rest.strip_prefix(prefix).expect("the public prefix")
    });
    let head = format!("{method} {rest}").replace("Host: localhost", "Host: 127.0.0.1:3000");
    let added = adds.map_or_else(String::new, |header| format!("\r\n{header}"));
    *read = [head.as_bytes(), added.as_bytes(), &read[end..]].concat();
    true
}

/// Whether what was read of the first response may go on.
fn response_begins(habit: Habit, read: &[u8]) -> bool {
    !matches!(habit, Habit::WithholdsHeads)
        || find(read, b"\r\n\r\n").is_some_and(|end| read.len() > end + 4)
}
