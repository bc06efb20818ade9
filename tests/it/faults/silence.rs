//! F5, F6, F13 and F17: nothing comes and nothing is closed.
//!
//! Silence of the upstream ends at a limit that any byte moves, or at the end of all time that a request has; silence
//! of a tool that only takes long must not end anything, least of all in front of the ferry.

use std::time::Duration;

use serde_json::{Value, json};

use super::{SECOND, play, streaming};
use crate::support::chaos::{Chaos, Weather};
use crate::support::client::{Client, Item, call};
use crate::support::clock::{Clock, settle, within};
use crate::support::ferry::Ferry;
use crate::support::scene::{scene, works};
use crate::support::tls::{Authority, TlsUpstream};
use crate::support::upstream::{Received, Upstream};

/// The limit on silence in these tests.
const IDLE: Duration = Duration::from_secs(30);

fn progress() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}})
}

/// A ferry with this limit, an upstream with sessions and a client after its handshake.
async fn limited() -> (Upstream, Ferry, Clock, Client) {
    let upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.request_idle_timeout = IDLE;
        config.limits.request_timeout = 10 * IDLE;
    })
    .await;
    let clock = Clock::stop();
    let client = Client::ready(ferry.address).await;
    (upstream, ferry, clock, client)
}

/// The call with this id ends because of this flag's limit, and the upstream is told to stop.
async fn times_out(
    (upstream, clock, client): (&Upstream, &Clock, &mut Client),
    id: u64,
    flag: &str,
) {
    let error = client.ferry_error(id, "timeout", "unknown");
    let error = clock.pass_until("the error", error).await;
    let text = error["error"]["message"].as_str().expect("text");
    assert!(text.contains(flag), "{text}");
    let cancels = |request: &Received| {
        request.rpc() == "notifications/cancelled" && request.json()["params"]["requestId"] == id
    };
    upstream.seen("the cancel", cancels).await;
}

#[tokio::test]
async fn f06_an_upstream_that_sends_nothing_for_request_idle_timeout_is_told_to_stop() {
    let (mut upstream, ferry, clock, mut client) = limited().await;
    let half = "send HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 99\\r\\n\\r\\n{\nstall";
    for (id, script) in (1..).zip(["stall", half, "events\nevent : here\\n\\n\nstall"]) {
        client.send(&call(id, "tools/call")).await;
        let stalled = play(upstream.expect("POST").await, script);
        works(&mut client, &mut upstream).await;
        clock.advance(IDLE - SECOND).await;
        // Not yet, or this would not be next on the stream.
        works(&mut client, &mut upstream).await;
        let parties = (&upstream, &clock, &mut client);
        times_out(parties, id, "--request-idle-timeout").await;
        // The exchange was given up too.
        within("the script to end", stalled)
            .await
            .expect("no panic");
    }
    assert_eq!(upstream.times("tools/call"), 3);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f06_any_byte_of_the_upstream_moves_the_limit_on_silence() {
    let (mut upstream, ferry, clock, mut client) = limited().await;
    let mut events = streaming(&client, &mut upstream, 1).await;
    client.send(&call(2, "tools/call")).await;
    let mut body = upstream.expect("POST").await;
    let result = json!({"jsonrpc": "2.0", "id": 2, "result": {}}).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
    let length = result.len() + 4;
    body.write(format!("{head}: {length}\r\n\r\n")).await;
    let progress = format!("data: {}\n\n", progress());
    let (first, second) = progress.split_at(20);
    for piece in [": still there\n", first, second, "event: other\n\n"] {
        works(&mut client, &mut upstream).await;
        clock.advance(IDLE - SECOND).await;
        events.raw(piece).await;
        body.write(" ").await;
        if piece == second {
            assert_eq!(client.message().await["method"], "notifications/progress");
        }
    }
    works(&mut client, &mut upstream).await;
    clock.advance(IDLE - SECOND).await;
    body.write(result).await;
    assert_eq!(client.message().await["id"], 2);
    drop(body);
    events.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f06_request_timeout_ends_a_request_however_much_it_says() {
    let (mut upstream, ferry, clock, mut client) = limited().await;
    let mut events = streaming(&client, &mut upstream, 1).await;
    for _ in 0..14 {
        events.send(&progress()).await;
        assert_eq!(client.message().await, progress());
        clock.advance(20 * SECOND).await;
    }
    events.send(&progress()).await;
    assert_eq!(client.message().await, progress());
    times_out((&upstream, &clock, &mut client), 1, "--request-timeout").await;
    events.abandoned().await;
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f05_a_half_open_connection_to_the_upstream_costs_its_request_alone() {
    let mut upstream = Upstream::with_sessions().await;
    let chaos = Chaos::before(upstream.address).await;
    let ferry = Ferry::with(chaos.url(), |config| {
        config.limits.request_idle_timeout = IDLE;
    })
    .await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    chaos.set(|weather| weather.frozen = true);
    received.result(&json!({"n": 1})).await;
    let error = client.ferry_error(1, "timeout", "unknown");
    clock.pass_until("the error", error).await;
    // What comes late is nobody's answer, and the next request finds its way.
    chaos.set(|weather| weather.frozen = false);
    works(&mut client, &mut upstream).await;
    ferry.stop_after_a_while(client, &clock).await;
}

#[tokio::test]
async fn f05_a_way_to_the_upstream_that_freezes_and_thaws_costs_only_time() {
    let mut upstream = Upstream::with_sessions().await;
    let chaos = Chaos::before(upstream.address).await;
    let ferry = Ferry::start(chaos.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    chaos.set(|weather| weather.frozen = true);
    received.result(&json!({"n": 1})).await;
    clock.advance(10 * IDLE).await;
    chaos.set(|weather| weather.frozen = false);
    assert_eq!(client.message().await["result"]["n"], 1);
    // A slow way is no fault at all.
    for (id, weather) in (2..).zip([
        Weather {
            latency: 2 * SECOND,
            ..Weather::default()
        },
        Weather {
            bandwidth: Some(1024),
            ..Weather::default()
        },
    ]) {
        chaos.set(|now| *now = weather);
        client.send(&call(id, "tools/call")).await;
        let received = clock.pass_until("the call", upstream.expect("POST")).await;
        received.result(&json!({"pad": "x".repeat(10_000)})).await;
        let answer = clock.pass_until("the answer", client.message()).await;
        assert_eq!(answer["id"], id);
    }
    ferry.stop_after_a_while(client, &clock).await;
}

/// HTTP/2 has a ping of its own: 20 s of silence, 10 s for the answer.
#[tokio::test]
async fn f05_an_http_2_upstream_that_fell_silent_is_given_up_after_thirty_seconds() {
    let authority = Authority::new();
    let server = authority.server(&["127.0.0.1"], |_| {});
    let mut upstream = TlsUpstream::start(server, &["h2"]).await;
    let chaos = Chaos::before(upstream.address).await;
    let url = format!("https://{}/mcp", chaos.address);
    let file = authority.file.clone();
    let ferry = Ferry::with(url.parse().expect("a URL"), |config| {
        config.upstream.ca = Some(file);
    })
    .await;
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let events = upstream.stream().await;
    let progress = format!("data: {}\n\n", progress());
    events.send(progress.into()).await.expect("a reader");
    assert_eq!(client.message().await["method"], "notifications/progress");
    let clock = Clock::stop();
    // As long as the pings are answered, silence is fine.
    for _ in 0..20 {
        clock.advance(15 * SECOND).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    chaos.set(|weather| weather.frozen = true);
    let error = client.ferry_error(1, "upstream_cut", "unknown");
    clock.pass_until("the error", error).await;
    chaos.set(|weather| weather.frozen = false);
    client.request(2, "tools/list", json!({})).await;
    assert_eq!(client.message().await["result"]["method"], "tools/list");
    assert_eq!(chaos.accepted(), 2, "another connection");
    ferry.stop_after(client).await;
}

/// Nothing on a loopback loses packets, so only the kernel's promise can be seen here.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn f05_the_kernel_probes_a_silent_upstream() {
    let (mut upstream, ferry, client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let running = upstream.expect("POST").await;
    let port = format!(":{:04X}", upstream.address.port());
    // Hundredths of a second until the next probe, where that is what the kernel's timer is for.
    let probe = || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        let sockets = table.lines().map(str::split_whitespace);
        let mut sockets = sockets.map(Iterator::collect::<Vec<&str>>);
        // Established, and the upstream is the remote side.
        let socket = sockets.find(|of| of[2].ends_with(&port) && of[3] == "01");
        let timer = socket.expect("the ferry's socket")[5].split_once(':');
        let (kind, ticks) = timer.expect("a kind and a time");
        (kind == "02").then(|| u64::from_str_radix(ticks, 16).expect("a time"))
    };
    let ticks = within("the timer of keep-alive probes", async {
        loop {
            if let Some(ticks) = probe() {
                return ticks;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The kernel's own default would be two hours.
    assert!(ticks <= 1600, "{ticks}");
    client.leave();
    running.abandoned().await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn f13_a_tool_of_three_minutes_outlives_balancers_that_cut_the_idle_after_20_and_60_seconds()
{
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    for limit in [20, 60] {
        let balancer = Chaos::before(ferry.address).await;
        balancer.set(|weather| weather.idle = Some(limit * SECOND));
        let mut client = Client::ready(balancer.address).await;
        client.send(&call(1, "tools/call")).await;
        let running = upstream.expect("POST").await;
        for _ in 0..3 * 4 {
            clock.advance(15 * SECOND).await;
            assert_eq!(client.next().await, Item::KeepAlive);
        }
        running.result(&json!({"after": "3 minutes"})).await;
        assert_eq!(client.message().await["result"]["after"], "3 minutes");
        client.leave();
    }
    clock.pass_until("the farewell", ferry.quiet()).await;
    ferry.stop().await;
}

/// The other side of the balancer: the ferry's own idle connections to the upstream are cut, and nobody notices.
#[tokio::test]
async fn f13_a_balancer_that_cuts_idle_connections_before_the_upstream_costs_nothing() {
    let mut upstream = Upstream::with_sessions().await;
    let balancer = Chaos::before(upstream.address).await;
    balancer.set(|weather| weather.idle = Some(SECOND));
    let ferry = Ferry::start(balancer.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    for _ in 0..10 {
        clock.advance(SECOND).await;
        settle().await;
        client.send(&call(1, "tools/list")).await;
        // A request that was faster than the news of the cut is sent again, being safe, a moment later.
        let received = clock.pass_until("the call", upstream.expect("POST")).await;
        received.result(&json!({})).await;
        assert_eq!(client.message().await["id"], 1);
    }
    assert!(balancer.accepted() > 10, "{}", balancer.accepted());
    ferry.stop_after_a_while(client, &clock).await;
}
