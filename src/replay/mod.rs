//! `mcp-ferry replay`: plays the requests that the tap has recorded against a server, and compares its answers with the
//! recorded ones. This is how an operator checks the new server against the old one's record.
//!
//! | module | what it is |
//! | --- | --- |
//! | this one | plays one connection after the other, each with its own handshake |
//! | `recording` | files of the tap become connections with requests, outcomes and answers; pure but for reading |
//! | `modern` | requests of 2026-07-28, which are sent as they were |
//! | `compare` | two outcomes become a list of differences, by rules that ignore what differs every time; pure |
//! | `report` | what is told about it, for people and as JSON; pure |
//!
//! Between the recording and the server stands a whole ferry on a loopback port, so that a server of any era can be played
//! against, and a client of the old transport in front of it, for recorded clients of the new one too. Only requests of
//! 2026-07-28 are played as what they were: they passed, and pass again. Requests go one after the other, in the order of the
//! recording. What the server asks meanwhile is answered as the recorded client answered, the same method's answers in
//! their order; where there is none left, with an error.
//!
//! Notifications of the recorded client are not played, except the one that belongs to the handshake. A redacted secret
//! cannot be played: such requests are skipped and named.

mod compare;
mod modern;
mod recording;
mod report;

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::config::{Config, Replay};
use crate::error::{Error, Kind, Side};
use crate::legacy_client::LegacyClient;
use crate::proto::era::{self, METHOD_NOT_FOUND};
use crate::server::{Bound, Shutdown};
use compare::{Comparison, Rules};
use recording::{Call, Connection, Outcome, Recording};
use report::{Report, Skipped, Told};

/// How long the server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer the client waits, so that the ferry in between is the one who says that it took too long.
const GRACE: Duration = Duration::from_secs(15);
/// Why a request is not played whose outcome could not be compared with anything.
const CUT: &str = "its recorded outcome was cut, compressed or not kept";
/// Bytes of one message.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// Replays and prints what came of it. Says whether the server agrees with the recording.
///
/// # Errors
/// When it could not be done: nothing usable in the files, nothing to play, or no server.
pub async fn run(replay: Replay, shutdown: impl Future<Output = Shutdown>) -> Result<bool, Error> {
    let recording = Recording::read(&replay.files).map_err(undone)?;
    let report = tokio::select! {
        report = play(&replay, recording) => report.map_err(undone)?,
        _ = shutdown => return Err(undone("it was interrupted".to_owned())),
    };
    let text = match replay.json {
        true => report.json(),
        false => report.text(),
    };
    // The reader may have left, as `head` does; the exit code says it too.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    if report.played == 0 {
        return Err(undone(report.nothing_played()));
    }
    Ok(report.agrees())
}

fn undone(why: String) -> Error {
    Error::new(Side::Config, Kind::Replay).because(why)
}

async fn play(replay: &Replay, recording: Recording) -> Result<Report, String> {
    let mut config = replay.config.clone();
    config.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    config.limits.request_timeout = PATIENCE;
    config.limits.request_idle_timeout = PATIENCE;
    config.limits.max_request_body = LARGEST_MESSAGE;
    config.limits.max_message = LARGEST_MESSAGE;
    let ferry = Ferry::start(config).await?;
    let mut report = Report::new(recording.read, ferry.upstream.clone());
    let rules = Rules::new(&replay.ignore);
    for connection in recording.connections {
        play_connection(connection, replay.all, ferry.address, &rules, &mut report).await?;
    }
    ferry.stop().await;
    Ok(report)
}

async fn play_connection(
    mut connection: Connection,
    all: bool,
    address: SocketAddr,
    rules: &Rules,
    report: &mut Report,
) -> Result<(), String> {
    let mut playable = Vec::new();
    for call in std::mem::take(&mut connection.calls) {
        match reason_not_to(&call, all) {
            Some(why) => report.skipped.push(Skipped::of(&connection, &call, why)),
            None => playable.push(call),
        }
    }
    let (modern, mut playable): (Vec<_>, Vec<_>) = playable
        .into_iter()
        .partition(|call| call.headers.is_some());
    let mut direct = modern::Player::new(address);
    for call in &modern {
        let answer = direct.request(call).await?;
        if let Some(why) = away(&answer) {
            return Err(why);
        }
        report.compare(&connection, call, &answer, rules);
    }
    if playable.is_empty() {
        return Ok(());
    }
    let mut player = Player::open(address, connection.answers.clone()).await?;
    let begin = playable.iter().position(|call| call.method == "initialize");
    let handshake = begin.map(|at| playable.remove(at));
    let params = connection.initialize.clone().unwrap_or_else(own_parameters);
    let answer = player.request("initialize", Some(params)).await?;
    if let Some(why) = unusable(&answer) {
        return Err(why);
    }
    player.notify("notifications/initialized").await?;
    if let Some(call) = &handshake {
        report.compare(&connection, call, &answer, rules);
    }
    for call in &playable {
        let answer = player.request(&call.method, call.params.clone()).await?;
        if let Some(why) = unreachable_server(&answer) {
            return Err(why);
        }
        report.compare(&connection, call, &answer, rules);
    }
    Ok(())
}

impl Report {
    fn compare(&mut self, connection: &Connection, call: &Call, answer: &Value, rules: &Rules) {
        self.played = self.played.saturating_add(1);
        let Some(recorded) = &call.outcome else {
            return;
        };
        let Comparison {
            differences,
            notes,
            more,
        } = rules.outcomes(&call.method, connection.front, recorded, answer);
        if !differences.is_empty() {
            self.differ
                .push(Told::of(connection, call, differences, more));
        }
        if !notes.is_empty() {
            self.notes.push(Told::of(connection, call, notes, 0));
        }
    }
}

/// Why a request is not played.
fn reason_not_to(call: &Call, all: bool) -> Option<&'static str> {
    if let Some(why) = call.unplayable {
        return Some(why);
    }
    if call.method == "subscriptions/listen" {
        return Some("belongs to the transport");
    }
    if !all && !is_read_only(&call.method) {
        return Some("may change something; --all plays it too");
    }
    match call.outcome {
        None => Some("has no recorded outcome"),
        Some(Outcome::Unreadable) => Some(CUT),
        Some(_) => None,
    }
}

/// Methods that change nothing at the server, not even for their session.
fn is_read_only(method: &str) -> bool {
    let of_the_session = [
        "resources/subscribe",
        "resources/unsubscribe",
        "logging/setLevel",
    ];
    era::is_safe(method) && !of_the_session.contains(&method)
}

/// For recordings that begin after the handshake, or of clients that have none.
fn own_parameters() -> Value {
    json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {"sampling": {}, "elicitation": {}, "roots": {}},
        "clientInfo": {"name": "mcp-ferry-replay", "version": env!("CARGO_PKG_VERSION")},
    })
}

/// What the handshake's failure is, if it failed: nothing can be played after it.
fn unusable(answer: &Value) -> Option<String> {
    let message = answer
        .pointer("/error/message")?
        .as_str()
        .unwrap_or_default();
    let refused = || format!("the server refuses the handshake: {message}");
    Some(away(answer).unwrap_or_else(refused))
}

/// The error of the ferry in between when it cannot reach the server, or may not.
fn unreachable_server(answer: &Value) -> Option<String> {
    let reason = answer.pointer("/error/data/ferry/reason");
    let message = answer.pointer("/error/message").and_then(Value::as_str);
    let unauthorized = || {
        let reason = reason.and_then(Value::as_str);
        let reason = reason.filter(|reason| *reason == "unauthorized")?;
        Some(message.unwrap_or(reason).to_owned())
    };
    away(answer).or_else(unauthorized)
}

/// The error of the ferry in between when nobody listens where the server should be. To what passes through it says so
/// in words only. Its upstream is the server here.
fn away(answer: &Value) -> Option<String> {
    let message = answer.pointer("/error/message")?.as_str()?;
    let rest = message.strip_prefix("mcp-ferry: the upstream ")?;
    let reason = answer.pointer("/error/data/ferry/reason");
    let is_away = match reason.and_then(Value::as_str) {
        Some(reason) => reason == "upstream_unreachable",
        None => rest.contains("cannot be reached") && answer.get("id") == Some(&Value::Null),
    };
    is_away.then(|| format!("the server {rest}"))
}

/// One client in the place of a recorded one.
struct Player {
    client: LegacyClient,
    answers: VecDeque<(String, Value)>,
    last_id: u64,
}

impl Player {
    async fn open(address: SocketAddr, answers: VecDeque<(String, Value)>) -> Result<Self, String> {
        let client = LegacyClient::open(address, PATIENCE + GRACE, LARGEST_MESSAGE).await?;
        Ok(Self {
            client,
            answers,
            last_id: 0,
        })
    }

    async fn notify(&self, method: &str) -> Result<(), String> {
        let message = json!({"jsonrpc": "2.0", "method": method});
        self.client.post(&message).await
    }

    /// Asks, answers what is asked meanwhile, and returns the outcome.
    async fn request(&mut self, method: &str, params: Option<Value>) -> Result<Value, String> {
        self.last_id = self.last_id.saturating_add(1);
        let id = json!(self.last_id);
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if let (Some(params), Some(message)) = (params, message.as_object_mut()) {
            message.insert("params".to_owned(), params);
        }
        self.client.post(&message).await?;
        loop {
            let told = |why| format!("no answer to {method}: {why}");
            let message = self.client.message().await.map_err(told)?;
            match (
                message.get("method").and_then(Value::as_str),
                message.get("id"),
            ) {
                (Some(asked), Some(asked_id)) => {
                    let answer = self.answer(asked, asked_id);
                    self.client.post(&answer).await?;
                }
                (None, Some(of)) if *of == id => return Ok(message),
                // A notification, or nothing that belongs here.
                _ => {}
            }
        }
    }

    /// The recorded client's answer to a question of the server.
    fn answer(&mut self, asked: &str, id: &Value) -> Value {
        let at = self.answers.iter().position(|(method, _)| method == asked);
        let recorded = at.and_then(|at| self.answers.remove(at));
        let mut answer = Map::from_iter([("jsonrpc".to_owned(), json!("2.0"))]);
        answer.insert("id".to_owned(), id.clone());
        let recorded = recorded.and_then(|(_, recorded)| {
            let member = ["result", "error"]
                .iter()
                .find(|it| recorded.get(it).is_some())?;
            Some(((*member).to_owned(), recorded.get(member)?.clone()))
        });
        let (member, value) = recorded.unwrap_or_else(|| {
            let error =
                json!({"code": METHOD_NOT_FOUND, "message": "the recording has no answer to this"});
            (
                "error".to_owned(),
                if asked == "ping" { json!({}) } else { error },
            )
        });
        let member = if asked == "ping" {
            "result".to_owned()
        } else {
            member
        };
        answer.insert(member, value);
        Value::Object(answer)
    }
}

/// A ferry in this process, in front of the server.
struct Ferry {
    address: SocketAddr,
    upstream: String,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

impl Ferry {
    async fn start(config: Config) -> Result<Self, String> {
        let bound = Bound::bind(config).await.map_err(|error| error.report())?;
        let address = bound.addresses().first().copied();
        let address = address.ok_or("there is no loopback address")?;
        let upstream = bound.upstream().to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::task::spawn(bound.serve(async move {
            // An error means that the replay is gone; both end the serving.
            let _ = stopped.await;
            Shutdown::Person
        }));
        Ok(Self {
            address,
            upstream,
            stop,
            serving,
        })
    }

    /// Waits until its sessions at the server are ended.
    async fn stop(self) {
        drop(self.stop);
        let _ = self.serving.await;
    }
}

#[cfg(test)]
mod tests;
