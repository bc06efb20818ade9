//! What becomes of the others when one task panics. Here and not among the integration tests because the bug has to be
//! built in.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Bound, Shutdown};
use crate::config::{Admin, Config};
use crate::metrics::{Counter, Metrics};

struct Running {
    address: SocketAddr,
    admin: SocketAddr,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// A ferry whose upstream is not there: that it says so is work enough.
async fn start() -> Running {
    let mut config = Config::for_upstream("http://127.0.0.1:1/mcp".parse().expect("a URL"));
    config.listen = vec![([127, 0, 0, 1], 0).into()];
    config.admin = Some(Admin {
        listen: ([127, 0, 0, 1], 0).into(),
        allow_remote: false,
        token: None,
    });
    let bound = Bound::bind(config).await.expect("bind");
    let admin = bound.admin_address().expect("an address");
    let address = *bound.addresses().first().expect("an address");
    let metrics = bound.metrics();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::task::spawn(bound.serve(async {
        // An error means that the test is over: the same.
        let _ = stopped.await;
        Shutdown::Person
    }));
    Running {
        address,
        admin,
        metrics,
        stop,
        served,
    }
}

/// Sends a request on a socket of its own and returns everything that is answered.
async fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("connect");
    let length = body.len();
    let text = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(text.as_bytes()).await.expect("write");
    let mut answer = String::new();
    // A socket that is closed with a request unread may be reset.
    let _ = socket.read_to_string(&mut answer).await;
    answer
}

/// Opens a stream; returns it and the address of its messages.
async fn open(address: SocketAddr) -> (BufReader<TcpStream>, String) {
    let mut socket = TcpStream::connect(address).await.expect("connect");
    let get = b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n";
    socket.write_all(get).await.expect("write");
    let mut stream = BufReader::new(socket);
    let endpoint = line(&mut stream, "data: ").await;
    (stream, endpoint)
}

/// The rest of the next line that begins so.
async fn line(stream: &mut BufReader<TcpStream>, start: &str) -> String {
    let mut line = String::new();
    while stream.read_line(&mut line).await.expect("read") > 0 {
        if let Some(rest) = line.strip_prefix(start) {
            return rest.trim().to_owned();
        }
        line.clear();
    }
    line
}

#[tokio::test]
async fn f27_a_panic_in_one_connection_ends_that_connection_alone() {
    let ferry = start().await;
    let (mut other, others) = open(ferry.address).await;
    let (mut broken, endpoint) = open(ferry.address).await;
    let bug = r#"{"jsonrpc":"2.0","id":1,"method":"test/panic"}"#;
    let answered = ask(ferry.address, &format!("POST {endpoint}"), bug).await;
    assert!(
        answered.starts_with("HTTP/1.1 404"),
        "it was not taken: {answered}"
    );
    assert_eq!(line(&mut broken, "data: ").await, "", "the stream ends");
    assert_eq!(ferry.metrics.get(Counter::Panics), 1);
    assert_eq!(ferry.metrics.get(Counter::ConnectionsClosed), 1);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let again = ask(ferry.address, &format!("POST {endpoint}"), ping).await;
    assert!(again.starts_with("HTTP/1.1 404"), "{again}");
    let answered = ask(ferry.address, &format!("POST {others}"), ping).await;
    assert!(answered.starts_with("HTTP/1.1 202"), "{answered}");
    let outcome = line(&mut other, "data: ").await;
    assert!(outcome.contains("upstream_unreachable"), "{outcome}");
    drop(ferry.stop);
    ferry.served.await.expect("no panic of its own");
}

#[tokio::test]
async fn f27_a_panic_over_one_request_closes_its_socket_alone() {
    let ferry = start().await;
    assert_eq!(ask(ferry.address, "GET /healthz?panic", "").await, "");
    let answered = ask(ferry.address, "GET /healthz", "").await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    assert_eq!(ferry.metrics.get(Counter::Panics), 1);
    drop(ferry.stop);
    ferry.served.await.expect("no panic of its own");
}

#[tokio::test]
async fn f27_a_panic_over_one_admin_request_closes_its_socket_alone() {
    let ferry = start().await;
    assert_eq!(ask(ferry.admin, "GET /metrics?panic", "").await, "");
    for address in [ferry.admin, ferry.address] {
        let answered = ask(address, "GET /healthz", "").await;
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    }
    assert_eq!(ferry.metrics.get(Counter::Panics), 1);
    drop(ferry.stop);
    ferry.served.await.expect("no panic of its own");
}
