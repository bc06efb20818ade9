//! A real Redis as a child process, on a port and in a folder of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};

use super::clock::within;

/// How long a server may take to answer the tests. The library's own half a second is short where all cores are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that ends with this value.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one, without anything that it would save.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts one with more arguments. With `--requirepass` and the like, what asks it has to log in.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        let redis = Self::spawn(free_port(), arguments);
        redis.up().await;
        redis
    }

    /// Starts one that does not speak as others do at first, or at all.
    pub(crate) fn spawn(port: u16, arguments: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("redis-{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let child = run(port, &folder, &arguments);
        Self {
            child,
            port,
            folder,
            arguments,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Waits until it answers, be it with a refusal.
    pub(crate) async fn up(&self) {
        within("the Redis to answer", async {
            loop {
                if let Ok(mut connection) = self.try_connect().await {
                    let ponged: RedisResult<String> =
                        redis::cmd("PING").query_async(&mut connection).await;
                    match ponged {
                        Ok(_) => return,
                        Err(error) if error.code() == Some("NOAUTH") => return,
                        Err(_) => {}
                    }
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn try_connect(&self) -> RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        let timing = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = client.get_multiplexed_async_connection_with_config(&timing);
        connection.await
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Starts it again, empty, where it was.
    pub(crate) async fn restart(&mut self) {
        self.child = run(self.port, &self.folder, &self.arguments);
        self.up().await;
    }

    /// Carries out one command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).await.expect("an answer")
    }

    pub(crate) async fn try_ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let bytes: Vec<&[u8]> = command.iter().map(|part| part.as_bytes()).collect();
        self.ask_bytes(&bytes).await
    }

    pub(crate) async fn ask_bytes<T: FromRedisValue>(&self, command: &[&[u8]]) -> RedisResult<T> {
        let mut connection = self.try_connect().await?;
        let (name, arguments) = command.split_first().expect("a command");
        let mut command = redis::cmd(str::from_utf8(name).expect("a name"));
        command.arg(arguments).query_async(&mut connection).await
    }

    /// How often this command was called, those in scripts included.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let text: String = self.ask(&["INFO", "commandstats"]).await;
        let head = format!("cmdstat_{command}:calls=");
        let line = text.lines().find_map(|line| line.strip_prefix(&head));
        let count = line.and_then(|line| line.split(',').next());
        count.map_or(0, |count| count.parse().expect("a number"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn run(port: u16, folder: &PathBuf, arguments: &[String]) -> Child {
    // A sentinel is told its configuration by a file, which has to be the first argument.
    let (file, rest) = match arguments.split_first() {
        Some((file, rest)) if !file.starts_with("--") => (Some(file), rest),
        _ => (None, arguments),
    };
    Command::new("redis-server")
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--logfile", "redis.log", "--dir"])
        .arg(folder)
        .args(rest)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed for this test (Debian package redis-server)")
}

/// A port that nobody uses now, and that none of these tests was given before. Below those from which outgoing connections
/// get theirs, so that a server that is ended finds it free again; and so that the one 10,000 above, which a cluster's nodes
/// use besides, is below them too.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 5_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that are begun one after another begin far apart.
    let begin = std::process::id().wrapping_mul(997);
    loop {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + next % COUNT).expect("a port");
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
