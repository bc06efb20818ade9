//! A hostile page, a stranger with a wrong token, a browser that was led here: none of them sees what crosses.

use mcp_ferry::config::{Config, Token};
use mcp_ferry::server::Bound;

use super::{BEARER, OPEN, SECRET, get, start, with_admin};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::http::{Response, exchange};
use crate::support::upstream::Upstream;

/// The answer is an error in words, as JSON.
fn denied(answer: &Response, status: u16) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let why = answer.json()["error"].as_str().map(str::to_owned);
    assert!(why.is_some_and(|why| why.len() > 10), "{answer:?}");
}

#[tokio::test]
async fn nothing_that_crosses_is_shown_without_the_token() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let live = ["/api/live"];
    for path in SECRET.iter().chain(&live).chain(&["/api/clear", "/api/x"]) {
        for header in [
            None,
            Some("Bearer"),
            Some("Bearer "),
            Some("Basic MDEyMw=="),
            Some("Bearer 0123456789abcdef0123456789abcdee"),
            Some("0123456789abcdef0123456789abcdef"),
        ] {
            let headers: Vec<_> = header.map(|it| ("Authorization", it)).into_iter().collect();
            let answer = get(&ferry, path, &headers).await;
            if answer.status() != 429 {
                denied(&answer, 401);
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            }
        }
        let query = format!("{path}?token=0123456789abcdef0123456789abcdef");
        let answer = get(&ferry, &query, &[]).await;
        denied(&answer, 401);
    }
    for path in SECRET {
        assert_eq!(get(&ferry, path, &[BEARER]).await.status(), 200, "{path}");
    }
    for path in OPEN {
        assert_eq!(get(&ferry, path, &[]).await.status(), 200, "{path}");
    }
    ferry.stop().await;
}

#[tokio::test]
async fn guessing_the_token_is_slowed_and_the_right_one_still_opens() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let _clock = Clock::stop();
    let wrong = [("Authorization", "Bearer 0000000000000000000000000000000000")];
    for _ in 0..20 {
        denied(&get(&ferry, "/api/state", &wrong).await, 401);
    }
    let answer = get(&ferry, "/api/state", &wrong).await;
    denied(&answer, 429);
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(get(&ferry, "/api/state", &[BEARER]).await.status(), 200);
    ferry.stop().await;
}

#[tokio::test]
async fn a_name_that_was_rebound_to_loopback_gets_nothing() {
    let upstream = Upstream::echo().await;
    // What clients may call the ferry is no name of its admin listener.
    let ferry = Ferry::with(upstream.url(), |config| {
        with_admin(config);
        config.guard.allowed_hosts = vec!["mcp.example".to_owned()];
    })
    .await;
    for path in OPEN.iter().chain(&SECRET) {
        for host in [
            "evil.example",
            "mcp.example",
            "localhost.evil.example",
            "192.0.2.1",
        ] {
            let answer = get(&ferry, path, &[("Host", host), BEARER]).await;
            denied(&answer, 403);
        }
        denied(&get(&ferry, path, &[("Host", ""), BEARER]).await, 403);
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:9090"] {
        let answer = get(&ferry, "/api/state", &[("Host", host), BEARER]).await;
        assert_eq!(answer.status(), 200, "{host}");
    }
    ferry.stop().await;
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_read_or_clear_even_with_the_token() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let foreign = [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://localhost:3000"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ];
    for header in foreign {
        for path in OPEN.iter().chain(&SECRET) {
            let answer = get(&ferry, path, &[header, BEARER]).await;
            denied(&answer, 403);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
        let clear = exchange(ferry.admin(), "POST", "/api/clear", &[header, BEARER], "").await;
        denied(&clear, 403);
        let preflight = [header, ("Access-Control-Request-Method", "POST")];
        let asked = exchange(ferry.admin(), "OPTIONS", "/api/clear", &preflight, "").await;
        assert!(asked.status() >= 400, "{asked:?}");
    }
    // A form needs no preflight, and cannot set the header.
    let form = [("Content-Type", "text/plain")];
    denied(
        &exchange(ferry.admin(), "POST", "/api/clear", &form, "x").await,
        401,
    );
    let own = [
        ("Origin", "http://localhost"),
        ("Sec-Fetch-Site", "same-origin"),
        BEARER,
    ];
    let cleared = exchange(ferry.admin(), "POST", "/api/clear", &own, "").await;
    assert_eq!(cleared.status(), 204);
    ferry.stop().await;
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_being_clever() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut answers = Vec::new();
    for path in OPEN
        .iter()
        .chain(&SECRET)
        .chain(&["/nothing", "/api/nothing", "/api/clear"])
    {
        answers.push(get(&ferry, path, &[BEARER]).await);
        answers.push(get(&ferry, path, &[]).await);
        answers.push(get(&ferry, path, &[("Host", "evil.example")]).await);
        answers.push(exchange(ferry.admin(), "PUT", path, &[BEARER], "").await);
    }
    let mut statuses: Vec<_> = answers.iter().map(Response::status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 401, 403, 404, 405]);
    for answer in answers {
        let has =
            |name: &str, value: &str| assert_eq!(answer.header(name), Some(value), "{answer:?}");
        has("x-content-type-options", "nosniff");
        has("x-frame-options", "DENY");
        has("referrer-policy", "no-referrer");
        has("cache-control", "no-store");
        has("cross-origin-resource-policy", "same-origin");
        has("cross-origin-opener-policy", "same-origin");
        let policy = answer.header("content-security-policy").unwrap();
        let mut parts: Vec<_> = policy.split("; ").collect();
        parts.sort_unstable();
        let expected = [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src 'self'",
            "script-src 'self'",
            "style-src 'self'",
        ];
        assert_eq!(parts, expected);
        assert_eq!(answer.header("set-cookie"), None);
    }
    ferry.stop().await;
}

#[tokio::test]
async fn the_page_holds_nothing_of_elsewhere_and_no_script_of_its_own() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let page = get(&ferry, "/", &[]).await;
    let text = page.text().to_ascii_lowercase();
    assert!(
        !text.contains("http://") && !text.contains("https://"),
        "{text}"
    );
    for inline in ["<style", " style=", " onclick=", "javascript:"] {
        assert!(!text.contains(inline), "{inline} in {text}");
    }
    for script in text.split("<script").skip(1) {
        assert!(
            script.split('>').next().unwrap().contains("src="),
            "{script}"
        );
    }
    ferry.stop().await;
}

fn config(token: Option<&str>) -> Config {
    let mut config = Config::for_upstream("http://127.0.0.1:1/mcp".parse().unwrap());
    config.listen = vec![([127, 0, 0, 1], 0).into()];
    with_admin(&mut config);
    if let Some(admin) = &mut config.admin {
        admin.token = token.map(|token| Token(token.to_owned()));
    }
    config
}

#[tokio::test]
async fn the_address_of_the_page_holds_a_token_of_the_ferrys_and_never_the_operators() {
    let made = Bound::bind(config(None)).await.unwrap();
    let other = Bound::bind(config(None)).await.unwrap();
    let token = |bound: &Bound| {
        let url = bound.admin_url().unwrap();
        let (base, token) = url.split_once("/#token=").unwrap();
        assert_eq!(base, format!("http://{}", bound.admin_address().unwrap()));
        assert_eq!(token.len(), 43, "256 bits");
        token.to_owned()
    };
    assert_ne!(token(&made), token(&other));
    let given = Bound::bind(config(Some(super::TOKEN))).await.unwrap();
    let url = given.admin_url().unwrap();
    assert_eq!(url, format!("http://{}/", given.admin_address().unwrap()));
    assert!(
        !format!("{made:?}{given:?}").contains(super::TOKEN),
        "not in debug output"
    );
    assert!(!format!("{made:?}").contains(&token(&made)));
}

#[tokio::test]
async fn where_all_addresses_are_listened_on_the_page_has_one_that_a_browser_here_can_use() {
    for (listen, host) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
        let mut config = config(Some(super::TOKEN));
        let admin = config.admin.as_mut().unwrap();
        (admin.listen, admin.allow_remote) = (listen.parse().unwrap(), true);
        let bound = Bound::bind(config).await.unwrap();
        let port = bound.admin_address().unwrap().port();
        assert_eq!(bound.admin_url(), Some(format!("http://{host}:{port}/")));
    }
}

#[tokio::test]
async fn a_busy_admin_port_is_said_with_its_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(None);
    config.admin.as_mut().unwrap().listen = taken.local_addr().unwrap();
    let error = Bound::bind(config).await.unwrap_err();
    let report = error.report();
    assert!(
        report.contains("(--admin): address already in use"),
        "{report}"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("--admin")));
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn without_the_flag_there_is_no_listener_and_no_url() {
    let mut config = config(None);
    config.admin = None;
    let bound = Bound::bind(config).await.unwrap();
    assert_eq!((bound.admin_address(), bound.admin_url()), (None, None));
}
