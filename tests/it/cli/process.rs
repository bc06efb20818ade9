//! The program as a process: exit codes, signals, taken ports, the health probe, and what stands on stderr.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};

use super::{BINARY, run_with};

/// The longest that any single step may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A serving ferry; it ends with this value.
struct Ferry {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
}

impl Ferry {
    async fn start(upstream: SocketAddr, flags: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .env_clear()
            .args(["--listen", "127.0.0.1:0", "--upstream"])
            .arg(format!("http://{upstream}/mcp"))
            .args(flags)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = until(&mut lines, "listening on http://").await;
        let rest = line.split("http://").nth(1).unwrap();
        let end = rest.find(|char: char| !char.is_ascii_digit() && !".:".contains(char));
        let address = rest[..end.unwrap_or(rest.len())].parse().unwrap();
        Self {
            child,
            lines,
            address,
        }
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    async fn end(&mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }
}

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id().unwrap());
    let status = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(status.unwrap().success(), "{kill}");
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what)
        .await
        .expect("it takes too long")
}

/// The first line that contains `what`.
async fn until(lines: &mut Lines<BufReader<ChildStderr>>, what: &str) -> String {
    let mut seen = String::new();
    while let Some(line) = within(lines.next_line()).await.unwrap() {
        if line.contains(what) {
            return line;
        }
        seen += &format!("{line}\n");
    }
    panic!("{what} never came, only:\n{seen}");
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_taken_port_is_said_plainly() {
    let (_held, address) = listener().await;
    let address = address.to_string();
    let output = run_with(&["--upstream", "http://127.0.0.1:1/mcp", "--listen", &address]);
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "error: cannot listen on {address}: address already in use\n\
         hint: choose another address with --listen; port 0 picks a free one\n"
    );
    assert!(
        said.ends_with(&expected) && !said.contains("listening on"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn wrong_values_are_refused_before_anything_binds() {
    let (_held, address) = listener().await;
    let address = address.to_string();
    let output = run_with(&[
        "--upstream",
        "http://127.0.0.1:1/mcp",
        "--listen",
        &address,
        "--keep-alive",
        "0s",
    ]);
    assert_eq!(output.stderr, b"error: --keep-alive: '0s' is below 1s\n");
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn a_signal_ends_an_idle_ferry_with_0() {
    let (_upstream, address) = listener().await;
    for name in ["TERM", "INT"] {
        let mut ferry = Ferry::start(address, &[]).await;
        ferry.signal(name);
        assert_eq!(ferry.end().await.code(), Some(0), "SIG{name}");
    }
}

/// A person who presses Ctrl-C has no balancer that must notice first.
#[tokio::test]
async fn ctrl_c_does_not_wait_for_drain_delay() {
    let (_upstream, address) = listener().await;
    let mut ferry = Ferry::start(address, &["--drain-delay", "5m"]).await;
    ferry.signal("INT");
    assert_eq!(ferry.end().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (upstream, address) = listener().await;
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut ferry = Ferry::start(address, &["--drain-timeout", "1h"]).await;
        // An exchange that the upstream never answers holds the first signal's clean end.
        let mut client = within(TcpStream::connect(ferry.address)).await.unwrap();
        let request = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";
        within(client.write_all(request)).await.unwrap();
        let (mut server, _) = within(upstream.accept()).await.unwrap();
        within(server.read_u8()).await.unwrap();
        ferry.signal("TERM");
        until(&mut ferry.lines, "a second signal ends at once").await;
        assert!(ferry.child.try_wait().unwrap().is_none());
        ferry.signal(name);
        assert_eq!(ferry.end().await.code(), Some(code), "SIG{name}");
    }
}

#[tokio::test]
async fn a_closed_stderr_stops_nothing() {
    let (_upstream, address) = listener().await;
    let ferry = Ferry::start(address, &["--log", "trace"]).await;
    let Ferry {
        mut child, lines, ..
    } = ferry;
    drop(lines);
    // The signal is logged before it is acted on.
    signal(&child, "TERM");
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn logs_are_plain_in_a_pipe_and_json_when_asked() {
    let (_upstream, address) = listener().await;
    for json in [false, true] {
        let flags: &[&str] = if json { &["--log-format", "json"] } else { &[] };
        let mut ferry = Ferry::start(address, flags).await;
        ferry.signal("TERM");
        let line = until(&mut ferry.lines, "shutting down").await;
        assert!(!line.contains('\u{1b}'), "{line}");
        match serde_json::from_str::<serde_json::Value>(&line) {
            Ok(event) => assert!(json && event["level"] == "INFO", "{line}"),
            Err(_) => assert!(!json && line.contains(" INFO "), "{line}"),
        }
        assert_eq!(ferry.end().await.code(), Some(0));
    }
}

/// Runs the probe against a server that gives this answer, or none and holds the connection.
async fn health(answer: Option<&'static str>) -> (std::process::Output, String) {
    let (server, address) = listener().await;
    let serve = async {
        let (mut peer, _) = server.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(peer.read_u8().await.unwrap());
        }
        match answer {
            Some(answer) => peer.write_all(answer.as_bytes()).await.unwrap(),
            None => std::future::pending().await,
        }
        peer.shutdown().await.unwrap();
        String::from_utf8(request).unwrap()
    };
    let serve = async {
        let request = serve.await;
        assert!(
            request.starts_with("GET /healthz HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains(&format!("\r\nhost: {address}\r\n")),
            "{request}"
        );
        std::future::pending::<()>().await;
    };
    let url = format!("http://{address}/healthz");
    let probe = Command::new(BINARY)
        .env_clear()
        .args(["health", "--url", &url])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::select! {
        output = within(probe) => (output.unwrap(), url),
        () = serve => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn health_is_0_for_a_200_and_1_for_anything_else() {
    let (output, url) = health(Some("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")).await;
    assert_eq!(output.stdout, format!("healthy: {url}\n").into_bytes());
    assert_eq!(output.status.code(), Some(0));

    for (answer, why) in [
        (
            Some("HTTP/1.1 503 Gone\r\ncontent-length: 0\r\n\r\n"),
            "answered 503",
        ),
        (
            Some("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"),
            "answered 302",
        ),
        (Some("SSH-2.0-OpenSSH\r\n"), "no answer: "),
        (Some(""), "no answer: "),
        (None, "no answer within 3 s"),
    ] {
        let (output, url) = health(answer).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("error: {url}: {why}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(output.status.code(), Some(1), "{why}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn health_says_when_nobody_listens() {
    let (held, address) = listener().await;
    drop(held);
    let url = format!("http://{address}/healthz");
    let output = run_with(&["health", "--url", &url]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!("error: {url}: no connection: ")),
        "{said}"
    );
    assert_eq!((said.lines().count(), output.status.code()), (1, Some(1)));
}

/// The 503 that would tell balancers to look elsewhere comes first; a client that reconnects meanwhile is served, since
/// a TypeScript client gives up for good where it is refused.
#[tokio::test]
async fn f23_sigterm_leaves_everything_as_it_is_but_readiness_for_drain_delay() {
    let (_upstream, address) = listener().await;
    let ferry = Ferry::start(address, &["--drain-delay", "5m"]).await;
    let Ferry {
        mut child,
        mut lines,
        address,
    } = ferry;
    let status = async |path: &str| {
        let mut socket = within(TcpStream::connect(address)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        within(socket.write_all(request.as_bytes())).await.unwrap();
        let mut head = [0; 12];
        within(socket.read_exact(&mut head)).await.unwrap();
        String::from_utf8_lossy(&head).into_owned()
    };
    assert_eq!(status("/readyz").await, "HTTP/1.1 200");
    signal(&child, "TERM");
    within(async { while status("/readyz").await != "HTTP/1.1 503" {} }).await;
    assert_eq!(status("/healthz").await, "HTTP/1.1 200");
    assert_eq!(status("/sse").await, "HTTP/1.1 200");
    // The second one does not wait.
    until(&mut lines, "a second signal ends at once").await;
    signal(&child, "TERM");
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(143));
}

#[tokio::test]
async fn the_address_of_the_taps_page_is_told_once_whatever_the_log_holds_back() {
    for flags in [&["--log", "off"][..], &["--log-format", "json"][..]] {
        let mut child = Command::new(BINARY)
            .env_clear()
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--upstream", "http://127.0.0.1:1/mcp"])
            .args(flags)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = until(&mut lines, "/#token=").await;
        let told = match flags {
            [_, "json"] => {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                line["message"].as_str().unwrap().to_owned()
            }
            _ => line,
        };
        let token = told.rsplit("/#token=").next().unwrap().to_owned();
        assert_eq!(token.len(), 43, "{told}");
        assert!(
            told.starts_with("the tap's page: http://127.0.0.1:"),
            "{told}"
        );
        signal(&child, "INT");
        while let Some(line) = within(lines.next_line()).await.unwrap() {
            assert!(!line.contains(&token), "{line}");
        }
        assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn a_token_of_the_operators_is_never_printed() {
    const TOKEN: &str = "canary-canary-canary-canary-canary";
    let mut child = Command::new(BINARY)
        .env_clear()
        .env("MCP_FERRY_ADMIN_TOKEN", TOKEN)
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log",
            "trace",
        ])
        .args(["--upstream", "http://127.0.0.1:1/mcp"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = until(&mut lines, "the tap's page: http://").await;
    assert!(!line.contains('#') && !line.contains(TOKEN), "{line}");
    signal(&child, "INT");
    while let Some(line) = within(lines.next_line()).await.unwrap() {
        assert!(!line.contains(TOKEN), "{line}");
    }
}
