//! What is asked of a Redis before it is used: whether it is new enough, allows all that is needed, knows the same keys, and
//! has nobody else of this replica's name.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::{Instant, sleep, timeout};

use super::scripts::Script;
use super::way::{Connection, Trouble, silent, words};
use super::{Core, HEARTBEAT, LONGEST_ANSWER};
use crate::store::seal::Purpose;

/// The oldest that will do: the first with access lists.
const OLDEST: u32 = 6;
/// How long one answer may take, where `--store-timeout` is not more.
const ANSWER: Duration = Duration::from_secs(2);
/// How long what is only tried out stays there, in milliseconds.
const PROBED: &str = "500";
/// How often it is looked whether a predecessor's heartbeat has run out.
const LOOK: Duration = Duration::from_millis(500);
const CANARY: &[u8] = b"mcp-ferry";
/// Looks at a canary that others replace meanwhile: each was in order.
const LOOKS: usize = 4;

impl Core {
    /// A connection on which this replica is announced, after all checks.
    pub(super) async fn join(&self) -> Result<Connection, Trouble> {
        self.way.resolves().await?;
        // All others use this connection too, with limits of their own.
        let patience = ANSWER.max(self.patience);
        let mut connection = self.way.open(patience).await?;
        self.check_version(&mut connection).await?;
        self.check_access(&mut connection).await?;
        self.check_keys(&mut connection, true).await?;
        self.claim(&mut connection).await?;
        Ok(connection)
    }

    /// How long one answer may take: as long as the operator says, within bounds.
    fn answer_limit(&self) -> Duration {
        ANSWER.max(self.patience.min(LONGEST_ANSWER))
    }

    async fn check_version(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let mut hello = redis::cmd("HELLO");
        let answer = match connection.ask(hello.arg(2)).await {
            Err(error) if error.to_string().contains("unknown command") => {
                let why = format!("it is too old: Redis {OLDEST} or newer is needed, or a Valkey");
                return Err(Trouble::Wrong(why));
            }
            // Redis 6 lets access lists forbid it, later ones do not: one that has access lists is new enough.
            Err(error) if error.code() == Some("NOPERM") => return Ok(()),
            answer => answer?,
        };
        let version = version(&answer);
        let major = version
            .as_ref()
            .and_then(|version| version.split('.').next());
        match major.and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if major < OLDEST => Err(Trouble::Wrong(format!(
                "it is too old: version {}, Redis {OLDEST} or newer is needed, or a Valkey",
                words(&version.unwrap_or_default())
            ))),
            // What does not say its version is taken at its word on everything else.
            _ => Ok(()),
        }
    }

    /// Tries each command on a key of this replica's own, so that those that are forbidden can be named all at once.
    async fn check_access(&self, connection: &mut Connection) -> Result<(), Trouble> {
        // By itself, so that nothing of this replica's, or of one with its name, is touched.
        let own = self.keys_of(self.desk.own()).inbox + ":probe";
        let mut missing = Vec::new();
        let mut keys = true;
        for command in probes(&own, &self.canary_key()) {
            let Err(error) = connection.ask(&command).await else {
                continue;
            };
            match error.code() {
                Some("NOPERM") if error.to_string().contains("command") => {
                    missing.extend(name(&command))
                }
                Some("NOPERM") => keys = false,
                Some("NOSCRIPT") => {}
                Some("READONLY") => {
                    return Err(Trouble::Away(
                        "it is a replica that takes no writes".to_owned(),
                    ));
                }
                _ => return Err(error.into()),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let mut lacks = missing.join(", ");
        if !keys {
            let and = if lacks.is_empty() { "" } else { ", and " };
            let prefix = &self.prefix;
            lacks += &format!("{and}the keys ~{{{prefix}:r:* and ~{{{prefix}}}:*");
        }
        match lacks.is_empty() {
            true => Ok(()),
            false => Err(Trouble::Wrong(format!("its access list lacks {lacks}"))),
        }
    }

    /// The key at which replicas see that they have the same keys.
    fn canary_key(&self) -> String {
        format!("{{{}}}:key", self.prefix)
    }

    /// Whether the other replicas seal with keys that open here. `first` puts ours into the place of theirs, so that it is
    /// the newest key that stays when keys are rotated.
    pub(super) async fn check_keys(
        &self,
        connection: &mut Connection,
        first: bool,
    ) -> Result<(), Trouble> {
        let key = self.canary_key();
        let own = self.sealer.seal(Purpose::Canary, key.as_bytes(), CANARY);
        let remembered = self.last_opened().clone();
        let mut known = remembered.unwrap_or_else(|| own.clone());
        let (keys, life) = ([key.as_str()], HEARTBEAT.as_millis().to_string());
        let replace: &[u8] = if first { b"1" } else { b"0" };
        // Most of the time one look is all; one more when it is another's or was replaced.
        for _ in 0..LOOKS {
            let arguments = [&own, life.as_bytes(), &known, replace];
            let asked = self.ask(&self.canary, connection, &keys, &arguments);
            let there = match asked.await? {
                Value::BulkString(there) => there,
                other => return Err(nonsense(&other)),
            };
            if there == own || there == known {
                *self.last_opened() = Some(there);
                return Ok(());
            }
            let opened = self.sealer.open(Purpose::Canary, key.as_bytes(), &there);
            if opened.as_deref() != Some(CANARY) {
                let why = "replicas with different keys: another one uses the same --store-prefix with a --key-file \
                    that has no key of ours";
                return Err(Trouble::Wrong(why.to_owned()));
            }
            known = there;
        }
        Ok(())
    }

    fn last_opened(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces this replica. Where one of its name was killed its heartbeat is still there: that is waited for. One that
    /// is renewed is somebody's.
    async fn claim(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let until = Instant::now() + HEARTBEAT + self.answer_limit();
        let mut last = i64::MAX;
        loop {
            let Some(left) = self.beat(connection, true).await? else {
                return Ok(());
            };
            if left > last || Instant::now() > until {
                let own = self.desk.own();
                let why =
                    format!("a replica with the name '{own}' is there already (--replica-id)");
                return Err(Trouble::Wrong(why));
            }
            if last == i64::MAX {
                tracing::info!(
                    "waiting for the heartbeat of a replica with the name '{}' to run out, or to be renewed",
                    self.desk.own()
                );
            }
            last = left;
            sleep(LOOK).await;
        }
    }

    /// Gives one heartbeat; `new` empties the inbox. Says for how many milliseconds that of another process of our name
    /// holds, if there is one.
    pub(super) async fn beat(
        &self,
        connection: &mut Connection,
        new: bool,
    ) -> Result<Option<i64>, Trouble> {
        let beating = self.beating.lock().await;
        self.beat_alone(&beating, connection, new).await
    }

    /// As [`Self::beat`], for who has made sure already that there is one heartbeat at a time.
    pub(super) async fn beat_alone(
        &self,
        _beating: &tokio::sync::MutexGuard<'_, ()>,
        connection: &mut Connection,
        new: bool,
    ) -> Result<Option<i64>, Trouble> {
        if self.leaving.load(std::sync::atomic::Ordering::Acquire) {
            return Ok(None);
        }
        let keys = self.keys_of(self.desk.own());
        let keys = [keys.heartbeat.as_str(), keys.inbox.as_str()];
        let life = HEARTBEAT.as_millis().to_string();
        let new: &[u8] = if new { b"1" } else { b"0" };
        let heartbeat = self.desk.heartbeat(self.time());
        let arguments = [heartbeat.as_slice(), life.as_bytes(), new];
        let asked = self.ask(&self.beat, connection, &keys, &arguments);
        let answer = asked.await?;
        let Value::Array(answer) = &answer else {
            return Err(nonsense(&answer));
        };
        let [Value::Int(now), Value::Int(there), Value::Int(left)] = answer[..] else {
            return Err(Trouble::Away("it says nothing that makes sense".to_owned()));
        };
        self.state
            .read_clock(u64::try_from(now).unwrap_or_default());
        if there < 0 {
            return Ok(Some(left));
        }
        self.state.beaten(there > 0);
        Ok(None)
    }

    /// Runs a script that has time.
    async fn ask(
        &self,
        script: &Script,
        connection: &mut Connection,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value, Trouble> {
        match timeout(self.answer_limit(), script.run(connection, keys, arguments)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(silent(self.answer_limit())),
        }
    }
}

fn nonsense(value: &Value) -> Trouble {
    let value = words(&format!("{value:?}"));
    Trouble::Away(format!("it says nothing that makes sense: {value}"))
}

/// Every command that is used, by itself or in a script.
fn probes(key: &str, canary: &str) -> Vec<Cmd> {
    let one = |name: &str, arguments: &[&str]| {
        let mut command = redis::cmd(name);
        command.arg(arguments);
        command
    };
    vec![
        one("EVAL", &["return 1", "1", key]),
        one(
            "EVALSHA",
            &["0000000000000000000000000000000000000000", "1", key],
        ),
        one("TIME", &[]),
        one("EXISTS", &[key]),
        one("XADD", &[key, "*", "e", ""]),
        one("PEXPIRE", &[key, PROBED]),
        one("XLEN", &[key]),
        one("XREAD", &["COUNT", "1", "STREAMS", key, "0-0"]),
        one("XDEL", &[key, "0-1"]),
        one("DEL", &[key]),
        one("SET", &[key, "", "PX", PROBED]),
        one("GET", &[key]),
        one("PTTL", &[key]),
        one("DEL", &[key]),
        one("GET", &[canary]),
    ]
}

fn name(command: &Cmd) -> Option<String> {
    match command.args_iter().next()? {
        redis::Arg::Simple(name) => Some(String::from_utf8_lossy(name).to_lowercase()),
        _ => None,
    }
}

/// The version in an answer to `HELLO`: pairs of names and values, as one list or as a map.
fn version(answer: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let is_version = |name: &Value| text(name).as_deref() == Some("version");
    match answer {
        Value::Array(list) => {
            let mut pairs = list.chunks_exact(2);
            pairs.find_map(|pair| match pair {
                [name, value] if is_version(name) => text(value),
                _ => None,
            })
        }
        Value::Map(pairs) => {
            let found = pairs.iter().find(|(name, _)| is_version(name));
            found.and_then(|(_, value)| text(value))
        }
        _ => None,
    }
}
