//! `mcp-ferry replay`: plays the requests that the tap has recorded against a server, and compares its answers with the
//! recorded ones. This is how an operator checks the new server against the old one's record.
//!
//! | module | what it is |
//! | --- | --- |
//! | this one | plays one connection after the other, each with its own handshake |
//! | `recording` | files of the tap become connections with requests, outcomes and answers; pure but for reading |
//! | `legacy` | a client of the old transport, which plays all but the requests of 2026-07-28 |
//! | `modern` | requests of 2026-07-28, which are sent as they were |
//! | `pages` | the new server's cursors in the place of the recorded ones; pure |
//! | `compare` | two outcomes become a list of differences, by rules that ignore what differs every time; pure |
//! | `report` | what is told about it, for people and as JSON; pure |
//!
//! Between the recording and the server stands a whole ferry on a loopback port, so that a server of any era can be played
//! against, and a client of the old transport in front of it, for recorded clients of the new one too. Only requests of
//! 2026-07-28 are played as what they were: they passed, and pass again. Requests go one after the other, in the order of the
//! recording. What the server asks during a request is answered as the recorded client answered during that one; where it
//! did not, with an error.
//!
//! A request that gets no JSON-RPC answer is a difference, and so is a handshake that is refused: then the other requests of
//! that connection are skipped. Only a server that is not there ends the replay, which then says what it has found so far.
//!
//! Notifications of the recorded client are not played, except the one that belongs to the handshake. A redacted secret
//! cannot be played: such requests are skipped and named.

mod compare;
mod legacy;
mod modern;
mod pages;
mod recording;
mod report;

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::config::{Config, Replay};
use crate::error::{Error, Kind, Side};
use crate::proto::era;
use crate::server::{Bound, Shutdown};
use compare::{Comparison, Rules};
use pages::{Ask, Pages};
use recording::{Call, Connection, Outcome, Recording};
use report::{Report, Skipped, Told};

/// How long the server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer the client waits, so that the ferry in between is the one who says that it took too long.
const GRACE: Duration = Duration::from_secs(15);
/// Why a request is not played whose outcome could not be compared with anything.
const CUT: &str = "its recorded outcome was cut, compressed or not kept";
/// Why requests are not played whose connection has no handshake with the server.
const NO_HANDSHAKE: &str = "the server refuses its connection's handshake";
/// Bytes of one message.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// What came of a request.
#[derive(Debug)]
enum Came {
    /// Its outcome: a result or an error.
    Message(Value),
    /// No outcome. Says in words what came instead.
    Nothing(String),
}

/// Replays and prints what came of it. Says whether the server agrees with the recording.
///
/// # Errors
/// When it could not be done: nothing usable in the files, nothing to play, or no server. What was compared before is
/// printed.
pub async fn run(replay: Replay, shutdown: impl Future<Output = Shutdown>) -> Result<bool, Error> {
    let recording = Recording::read(&replay.files).map_err(undone)?;
    let ferry = Ferry::start(ferry_config(&replay)).await.map_err(undone)?;
    let mut report = Report::new(recording.read, ferry.upstream.clone());
    let played = tokio::select! {
        played = play(&replay, recording.connections, ferry, &mut report) => played,
        _ = shutdown => Err("it was interrupted".to_owned()),
    };
    report.stopped = played.err();
    let text = match replay.json {
        true => report.json(),
        false => report.text(),
    };
    // The reader may have left, as `head` does; the exit code says it too.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    match report.undone() {
        Some(why) => Err(undone(why)),
        None => Ok(report.agrees()),
    }
}

fn undone(why: String) -> Error {
    Error::new(Side::Config, Kind::Replay).because(why)
}

fn ferry_config(replay: &Replay) -> Config {
    let mut config = replay.config.clone();
    config.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    config.limits.request_timeout = PATIENCE;
    config.limits.request_idle_timeout = PATIENCE;
    config.limits.max_request_body = LARGEST_MESSAGE;
    config.limits.max_message = LARGEST_MESSAGE;
    config
}

/// Plays everything. An error says why it had to stop.
async fn play(
    replay: &Replay,
    connections: Vec<Connection>,
    ferry: Ferry,
    report: &mut Report,
) -> Result<(), String> {
    let mut stage = Stage {
        address: ferry.address,
        all: replay.all,
        rules: Rules::new(&replay.ignore),
        pages: Pages::default(),
        report,
    };
    let mut played = Ok(());
    for connection in connections {
        played = stage.play(connection).await;
        if played.is_err() {
            break;
        }
    }
    ferry.stop().await;
    played
}

/// Where one connection after the other is played.
struct Stage<'r> {
    address: SocketAddr,
    all: bool,
    rules: Rules,
    pages: Pages,
    report: &'r mut Report,
}

impl Stage<'_> {
    async fn play(&mut self, mut connection: Connection) -> Result<(), String> {
        let mut playable = Vec::new();
        for call in std::mem::take(&mut connection.calls) {
            match reason_not_to(&call, self.all) {
                Some(why) => self.skip(&connection, &call, why),
                None => playable.push(call),
            }
        }
        let (modern, legacy): (Vec<_>, Vec<_>) = playable
            .into_iter()
            .partition(|call| call.headers.is_some());
        let mut direct = modern::Player::new(self.address, PATIENCE);
        for call in &modern {
            let Some(params) = self.parameters(&connection, call) else {
                continue;
            };
            let came = direct.request(call, params).await?;
            self.came(&connection, call, came)?;
        }
        match legacy.is_empty() {
            true => Ok(()),
            false => self.play_legacy(&connection, legacy).await,
        }
    }

    async fn play_legacy(
        &mut self,
        connection: &Connection,
        mut calls: Vec<Call>,
    ) -> Result<(), String> {
        let mut player = legacy::Player::new(self.address, connection);
        let at = calls.iter().position(|call| call.method == "initialize");
        let handshake = at.map(|at| calls.remove(at));
        let exchange = handshake.as_ref().map(|call| call.exchange);
        let came = player.begin(exchange).await?;
        if !player.is_ready() {
            return self.refused(connection, handshake, calls, came);
        }
        if let Some(call) = &handshake {
            self.came(connection, call, came)?;
        }
        for call in &calls {
            let Some(params) = self.parameters(connection, call) else {
                continue;
            };
            // The call before may have cost the connection.
            let lost = match player.is_ready() {
                true => None,
                false => Some(player.begin(None).await?).filter(|_| !player.is_ready()),
            };
            let came = match lost {
                None => {
                    player
                        .request(&call.method, params, Some(call.exchange))
                        .await
                }
                Some(Came::Nothing(why)) => Came::Nothing(format!("{NO_HANDSHAKE}: {why}")),
                Some(came) => came,
            };
            self.came(connection, call, came)?;
        }
        Ok(())
    }

    /// Without a handshake nothing can be played. That is said of the first request.
    fn refused(
        &mut self,
        connection: &Connection,
        handshake: Option<Call>,
        calls: Vec<Call>,
        came: Came,
    ) -> Result<(), String> {
        let why = refusal(&came)?;
        let mut calls = calls.into_iter();
        match (&handshake, calls.len()) {
            (Some(call), _) => self.compare(connection, call, &came),
            (None, _) => {
                if let Some(call) = calls.next() {
                    self.compare(connection, &call, &Came::Nothing(why.clone()));
                }
            }
        }
        for call in calls {
            self.skip(connection, &call, NO_HANDSHAKE);
        }
        self.report.refused.get_or_insert(why);
        Ok(())
    }

    /// The parameters of a request; none where it cannot be asked, which is noted.
    fn parameters(&mut self, connection: &Connection, call: &Call) -> Option<Option<Value>> {
        match self.pages.ask(call) {
            Ask::With(params) => return Some(params),
            Ask::Unknown => self.skip(
                connection,
                call,
                "its cursor is of a page that was not played",
            ),
            Ask::Over => {
                let why = "not asked for: the server gave no cursor with the page before";
                self.pages.learn(call, None);
                self.compare(connection, call, &Came::Nothing(why.to_owned()));
            }
        }
        None
    }

    /// Takes note of what came. An error says that nothing else will come.
    fn came(&mut self, connection: &Connection, call: &Call, came: Came) -> Result<(), String> {
        let answer = match &came {
            Came::Message(answer) => Some(answer),
            Came::Nothing(_) => None,
        };
        if let Some(why) = answer.and_then(away) {
            return Err(why);
        }
        self.report.played = self.report.played.saturating_add(1);
        self.pages.learn(call, answer);
        self.compare(connection, call, &came);
        Ok(())
    }

    fn compare(&mut self, connection: &Connection, call: &Call, came: &Came) {
        let Some(recorded) = &call.outcome else {
            return;
        };
        let Comparison {
            differences,
            notes,
            more,
        } = match came {
            Came::Message(answer) => {
                self.rules
                    .outcomes(&call.method, connection.front, recorded, answer)
            }
            Came::Nothing(why) => self.rules.nothing(why),
        };
        let report = &mut *self.report;
        if !differences.is_empty() {
            let told = Told::of(connection, call, differences, more);
            report.differ.push(told);
        }
        if !notes.is_empty() {
            report.notes.push(Told::of(connection, call, notes, 0));
        }
    }

    fn skip(&mut self, connection: &Connection, call: &Call, why: &'static str) {
        let skipped = Skipped::of(connection, call, why);
        self.report.skipped.push(skipped);
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

/// How a handshake was refused. An error says that the server is not there.
fn refusal(came: &Came) -> Result<String, String> {
    let why = match came {
        Came::Message(answer) => match away(answer) {
            Some(why) => return Err(why),
            None => answer.pointer("/error/message").and_then(Value::as_str),
        },
        Came::Nothing(why) => Some(why.as_str()),
    };
    let why = why.unwrap_or("it gives no reason");
    Ok(format!("the server refuses the handshake: {why}"))
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
