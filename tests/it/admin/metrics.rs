//! What the metrics say after a known little session, and what they never say.

use std::collections::BTreeSet;

use serde_json::json;

use super::{get, metrics_of, start};
use crate::support::client::{Client, call};
use crate::support::clock::within;
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::upstream::{Answer, Upstream};

/// The value of one series, by its name and labels as they are written.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.split_once(' ').is_some_and(|it| it.0 == series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Names and labels of all series, without values.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}

/// Waits until a series has this value.
async fn until(ferry: &Ferry, series: &str, expected: f64) -> String {
    within(series, async {
        loop {
            let text = metrics_of(ferry).await;
            if value(&text, series) == Some(expected) {
                return text;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_little_session_is_counted_exactly() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = start(&upstream).await;
    let mut client = Client::ready(ferry.address).await;
    let text = metrics_of(&ferry).await;
    let open = "mcp_ferry_connections{front=\"sse\",era=\"handshake\",state=\"open\"}";
    assert_eq!(value(&text, open), Some(1.0));

    for (id, answer) in [
        (1, json!({"result": {"content": []}})),
        (2, json!({"result": {"content": [], "isError": true}})),
        (3, json!({"error": {"code": -32602, "message": "no"}})),
    ] {
        client.send(&call(id, "tools/call")).await;
        let received = upstream.expect("POST").await;
        let mut message = json!({"jsonrpc": "2.0", "id": id});
        message
            .as_object_mut()
            .unwrap()
            .extend(answer.as_object().unwrap().clone());
        received.answer(Answer::json(&message)).await;
        client.message().await;
    }
    client.send(&call(4, "resources/read")).await;
    let received = upstream.expect("POST").await;
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}})).await;
    let text = until(
        &ferry,
        "mcp_ferry_requests_total{method=\"resources_read\",outcome=\"cancelled\"}",
        1.0,
    )
    .await;
    received.abandoned().await;

    let requests = |method: &str, outcome: &str| {
        value(
            &text,
            &format!("mcp_ferry_requests_total{{method=\"{method}\",outcome=\"{outcome}\"}}"),
        )
    };
    for (method, outcome, expected) in [
        ("initialize", "result", 1.0),
        ("tools_call", "result", 1.0),
        ("tools_call", "tool_error", 1.0),
        ("tools_call", "error", 1.0),
        ("tools_call", "ferry_error", 0.0),
        ("tools_list", "result", 0.0),
        ("other", "result", 0.0),
    ] {
        assert_eq!(
            requests(method, outcome),
            Some(expected),
            "{method} {outcome}"
        );
    }
    for (name, expected) in [
        ("mcp_ferry_connections_opened_total", 1.0),
        ("mcp_ferry_requests_in_flight", 0.0),
        ("mcp_ferry_posts_total", 7.0),
        ("mcp_ferry_messages_delivered_total", 4.0),
        ("mcp_ferry_panics_total", 0.0),
        ("mcp_ferry_draining", 0.0),
        ("mcp_ferry_upstream_up", 1.0),
        ("mcp_ferry_upstream_era{era=\"handshake\"}", 1.0),
        ("mcp_ferry_upstream_era{era=\"unknown\"}", 0.0),
        (
            "mcp_ferry_request_duration_seconds_count{method=\"tools_call\"}",
            3.0,
        ),
        (
            "mcp_ferry_upstream_request_duration_seconds_count{method=\"tools_call\"}",
            3.0,
        ),
        (
            "mcp_ferry_own_request_duration_seconds_count{method=\"tools_call\"}",
            3.0,
        ),
        (
            "mcp_ferry_request_duration_seconds_bucket{le=\"+Inf\",method=\"tools_call\"}",
            3.0,
        ),
        ("mcp_ferry_buffered_limit_bytes", 1_073_741_824.0),
    ] {
        assert_eq!(value(&text, name), Some(expected), "{name}");
    }
    let seconds = |leg: &str| {
        value(
            &text,
            &format!("mcp_ferry_{leg}_duration_seconds_sum{{method=\"tools_call\"}}"),
        )
        .unwrap()
    };
    let parts = seconds("upstream_request") + seconds("own_request");
    assert!(
        (seconds("request") - parts).abs() < 1e-6,
        "the parts are the whole"
    );
    let bytes = |leg: &str, direction: &str| {
        value(
            &text,
            &format!("mcp_ferry_message_bytes_total{{leg=\"{leg}\",direction=\"{direction}\"}}"),
        )
        .unwrap()
    };
    let sent: usize = upstream.log().iter().map(|it| it.body.len()).sum();
    assert!(bytes("upstream", "out") >= 100.0 && bytes("upstream", "out") <= sent as f64);
    assert!(
        bytes("client", "in") > 200.0
            && bytes("client", "out") > 100.0
            && bytes("upstream", "in") > 100.0
    );

    client.leave();
    let text = until(&ferry, "mcp_ferry_connections_closed_total", 1.0).await;
    assert_eq!(value(&text, open), Some(0.0));
    ferry.stop().await;
}

#[tokio::test]
async fn a_request_whose_client_leaves_is_lost() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = start(&upstream).await;
    let client = Client::ready(ferry.address).await;
    client.send(&call(1, "prompts/get")).await;
    let received = upstream.expect("POST").await;
    client.leave();
    until(
        &ferry,
        "mcp_ferry_requests_total{method=\"prompts_get\",outcome=\"lost\"}",
        1.0,
    )
    .await;
    drop(received);
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn passed_through_requests_and_refusals_are_counted() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let modern = [
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Content-Type", "application/json"),
    ];
    let body = call(1, "tools/list").to_string();
    let answer = exchange(ferry.address, "POST", "/mcp", &modern, &body).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        exchange(ferry.address, "GET", "/mcp", &modern, "")
            .await
            .status(),
        405
    );
    assert_eq!(
        exchange(ferry.address, "GET", "/nothing", &[], "")
            .await
            .status(),
        404
    );
    let evil = [("Host", "evil.example")];
    assert_eq!(
        exchange(ferry.address, "GET", "/sse", &evil, "")
            .await
            .status(),
        403
    );
    let text = until(
        &ferry,
        "mcp_ferry_passed_duration_seconds_count{status=\"4xx\"}",
        1.0,
    )
    .await;
    for (series, expected) in [
        ("mcp_ferry_passed_requests_total", 2.0),
        ("mcp_ferry_passed_answers_total{status=\"2xx\"}", 1.0),
        ("mcp_ferry_passed_answers_total{status=\"4xx\"}", 1.0),
        ("mcp_ferry_passed_answers_total{status=\"5xx\"}", 0.0),
        (
            "mcp_ferry_passed_head_duration_seconds_count{status=\"2xx\"}",
            1.0,
        ),
        (
            "mcp_ferry_passed_duration_seconds_count{status=\"2xx\"}",
            1.0,
        ),
        ("mcp_ferry_passing", 0.0),
        ("mcp_ferry_refusals_total{reason=\"no_route\"}", 1.0),
        ("mcp_ferry_refusals_total{reason=\"host\"}", 1.0),
        ("mcp_ferry_refusals_total{reason=\"origin\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    let sent = value(&text, "mcp_ferry_passed_bytes_total{direction=\"in\"}");
    assert_eq!(sent, Some(body.len() as f64));
    let received = value(&text, "mcp_ferry_passed_bytes_total{direction=\"out\"}");
    assert_eq!(received, Some(answer.body.len() as f64));
    ferry.stop().await;
}

#[tokio::test]
async fn names_that_clients_choose_make_no_series_and_secrets_do_not_show() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut client = Client::open_with(
        ferry.address,
        "/sse?api_key=canary-q",
        &[("Authorization", "Bearer canary-a")],
    )
    .await;
    let secret = [("Authorization", "Bearer canary-a")];
    let mut before = BTreeSet::new();
    for round in 0..300_u32 {
        let method = match round {
            0 => "tools/call".to_owned(),
            1 => "canary/method".to_owned(),
            _ => format!("canary/{round}\"}} 1\nevil_total"),
        };
        let params =
            json!({"name": format!("canary-tool-{round}"), "arguments": {"token": "canary-t"}});
        let request = json!({"jsonrpc": "2.0", "id": format!("canary-{round}"), "method": method, "params": params});
        client.send_with(&secret, &request).await;
        while client.message().await["id"] != request["id"] {}
        if round == 1 {
            before = series(&metrics_of(&ferry).await);
        }
    }
    let text = metrics_of(&ferry).await;
    assert_eq!(
        series(&text),
        before,
        "the same series after 300 names as after two"
    );
    assert_eq!(
        value(
            &text,
            "mcp_ferry_requests_total{method=\"other\",outcome=\"result\"}"
        ),
        Some(299.0)
    );
    assert!(!text.contains("canary") && !text.contains("evil"), "{text}");
    assert!(!text.contains(client.id()) && !text.contains("session-1"));
    client.leave();
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn the_exposition_is_openmetrics_and_says_so() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let answer = get(&ferry, "/metrics", &[]).await;
    let media = answer.header("content-type");
    assert_eq!(
        media,
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"));
    let version = format!(
        "mcp_ferry_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(value(text, &version), Some(1.0));
    let started = value(text, "process_start_time_seconds").unwrap();
    assert!(started > 1.7e9, "{started}");
    assert!(series(text).len() < 1000, "{}", series(text).len());
    ferry.stop().await;
}

/// `REGENERATE=1 cargo test --test it the_readme_lists_every_metric` writes the table anew.
#[tokio::test]
async fn the_readme_lists_every_metric_and_no_other() {
    const BEGIN: &str = "<!-- metrics:begin -->\n";
    const END: &str = "<!-- metrics:end -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let table = format!("\n{}\n", mcp_ferry::metrics::table());
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        written == table,
        "README.md differs; REGENERATE=1 cargo test --test it the_readme_lists_every_metric"
    );
    // And the table is what is served: the same names of the same types, read from the exposition itself.
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let text = metrics_of(&ferry).await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<String> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            format!("{name}{suffix} {kind}")
        })
        .collect();
    let rows = written.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows
        .map(|row| {
            let mut cells = row.split(" | ");
            let name = cells.next().unwrap().trim_end_matches('`');
            format!("{name} {}", cells.next().unwrap())
        })
        .collect();
    assert_eq!(served, listed);
    ferry.stop().await;
}
