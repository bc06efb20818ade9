//! What runs inside the Redis, each script in one step and on the keys of one replica only, so that a cluster has them in
//! one place.

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

use super::way::Connection;

/// Puts an entry into a replica's inbox, if the replica is there. Keys: its heartbeat, its inbox. Arguments: the entry; the
/// time by the clock of the Redis after which it is no use, in milliseconds, or 0; the most entries; how long an inbox
/// outlives its last entry. Says 1 when done, 0 when the replica is not there, -1 when its inbox is full, and what time it
/// is when it is too late: a Redis that stood still carries out what has long been given up.
pub(super) const PUT: &str = r"
if ARGV[2] ~= '0' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if now > tonumber(ARGV[2]) then return now end
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[3]) then return -1 end
redis.call('XADD', KEYS[2], '*', 'e', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
";

/// Says that a replica is there. Keys: its heartbeat, its inbox. Arguments: the heartbeat, which begins with the 16 bytes of
/// the process; for how long; whether it is new, so that what lies in the inbox is not for it. Says the time in
/// milliseconds; 1 when it was there before, 0 when not, -1 when another process has its name; and then for how many
/// milliseconds still.
pub(super) const BEAT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, 16) ~= string.sub(ARGV[1], 1, 16) then return {now, -1, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] == '1' then redis.call('DEL', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return {now, there and 1 or 0, 0}
";

/// Says that a replica is gone. Keys: its heartbeat, its inbox. Argument: the process.
pub(super) const LEAVE: &str = r"
local there = redis.call('GET', KEYS[1])
if not there or string.sub(there, 1, 16) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2])
";

/// A text that the replicas keep there, sealed with their keys. Arguments: how this one seals it; for how long; what of it
/// has been opened; whether to put ours in its place. Says what is there. What nobody has opened yet is left alone: it must
/// not live on because of those who cannot.
pub(super) const CANARY: &str = r"
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[3] then return there end
if there and ARGV[4] ~= '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return there
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
";

/// A script, and what the Redis calls it once it has seen it.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs it: one command, two when the Redis has not seen it yet.
    pub(super) async fn run(
        &self,
        connection: &mut Connection,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> RedisResult<Value> {
        let command = |name: &str, script: &str| -> Cmd {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys);
            for argument in arguments {
                command.arg(*argument);
            }
            command
        };
        let ran = connection.ask(&command("EVALSHA", &self.hash)).await;
        match ran {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                connection.ask(&command("EVAL", self.code)).await
            }
            ran => ran,
        }
    }
}
