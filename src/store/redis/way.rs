//! The way to a Redis: one server, the server that sentinels name, or a cluster. What goes wrong on it, in words that an
//! operator can use, without secrets.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo as _,
    Pipeline, RedisConnectionInfo, RedisError, RedisResult, TlsMode, Value,
};
use socket2::TcpKeepalive;

use crate::config::{RedisAddress, RedisForm};

/// How long connecting may take, login included, where the operator gives the Redis no more for everything else.
const CONNECT: Duration = Duration::from_secs(2);
/// Connecting through sentinels is connecting three times: to sentinels without a login, to sentinels with one, and to the
/// server that they name.
const SENTINEL_CONNECTS: u32 = 3;
/// When a connection on which nothing crosses is looked at, and how long data may stay unacknowledged.
const KEEPALIVE: Duration = Duration::from_secs(15);
const UNHEARD: Duration = Duration::from_secs(10);
/// Characters of a server's own words that are repeated.
const LONGEST_WORDS: usize = 200;

/// Why the Redis cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is not there now; it may come.
    Away(String),
    /// What was configured does not work.
    Wrong(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) | Self::Wrong(why) => f.write_str(why),
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        let said = words(error.detail().unwrap_or(&text));
        match (error.kind(), error.code()) {
            _ if is_refusal(&error) => {
                Self::Wrong(format!("it refused user and password ({said})"))
            }
            (_, Some("NOAUTH")) => Self::Wrong("it asks for a password".to_owned()),
            (_, Some("NOPERM")) => Self::Wrong(format!("its access list forbids this ({said})")),
            (ErrorKind::InvalidClientConfig, _) => Self::Wrong(words(&text)),
            (ErrorKind::Io, _) if text.contains("certificate") => {
                Self::Wrong(format!("its certificate is not good ({})", words(&text)))
            }
            _ => Self::Away(words(&text)),
        }
    }
}

/// A server's own words: within bounds, and with nothing in them that plays tricks.
pub(super) fn words(text: &str) -> String {
    let text: String = text.chars().take(LONGEST_WORDS).collect();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.trim_end_matches([':', ' ']).escape_debug().to_string()
}

/// A connection that many may use at once.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl Connection {
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection.as_mut()).await,
        }
    }

    /// Asks several things at once; their keys lie in one place.
    pub(super) async fn ask_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Server(connection) => commands.query_async(connection).await,
            Self::Cluster(connection) => commands.query_async(connection.as_mut()).await,
        }
    }
}

/// Where connections come from.
pub(super) struct Way {
    address: RedisAddress,
    login: RedisConnectionInfo,
    /// How long connecting to one server may take.
    limit: Duration,
}

impl Way {
    /// `patience` is how long the operator lets the Redis take for one answer.
    pub(super) fn new(address: RedisAddress, patience: Duration) -> Self {
        let mut login = RedisConnectionInfo::default()
            .set_db(address.database.into())
            // One command less that an access list would have to allow.
            .set_skip_set_lib_name();
        if let Some(user) = &address.user {
            login = login.set_username(user);
        }
        if let Some(password) = &address.password {
            login = login.set_password(password.reveal());
        }
        Self {
            address,
            login,
            limit: CONNECT.max(patience),
        }
    }

    /// Whether the keys of two replicas may lie on two servers.
    pub(super) fn is_cluster(&self) -> bool {
        self.address.form == RedisForm::Cluster
    }

    /// Whether at least one of the hosts has an address.
    pub(super) async fn resolves(&self) -> Result<(), Trouble> {
        match tokio::time::timeout(self.limit, self.resolve()).await {
            Ok(resolved) => resolved,
            Err(_) => Err(silent(self.limit)),
        }
    }

    /// Says of several that have none what may pass, if there is such: it may be the one that is right.
    async fn resolve(&self) -> Result<(), Trouble> {
        let mut unknown = None;
        for (host, port) in &self.address.hosts {
            let why = match tokio::net::lookup_host((host.as_str(), *port)).await {
                Ok(mut addresses) => match addresses.next() {
                    Some(_) => return Ok(()),
                    None => Trouble::Wrong(format!("'{host}' has no address")),
                },
                Err(error) => unresolved(host, &error.to_string()),
            };
            if !matches!(unknown, Some(Trouble::Away(_))) {
                unknown = Some(why);
            }
        }
        unknown.map_or(Ok(()), Err)
    }

    /// A new connection. `patience` is how long a command may take; whoever asks has a limit of his own besides.
    pub(super) async fn open(&self, patience: Duration) -> Result<Connection, Trouble> {
        let opened = async {
            match &self.address.form {
                RedisForm::Server => self.server(patience).await,
                RedisForm::Sentinel(master) => self.sentinel(master, patience).await,
                RedisForm::Cluster => self.cluster(patience).await,
            }
        };
        let limit = match &self.address.form {
            RedisForm::Sentinel(_) => self.limit * SENTINEL_CONNECTS,
            RedisForm::Server | RedisForm::Cluster => self.limit,
        };
        match tokio::time::timeout(limit, opened).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(silent(limit)),
        }
    }

    async fn server(&self, patience: Duration) -> RedisResult<Connection> {
        let Some((host, port)) = self.address.hosts.first() else {
            return Err((ErrorKind::InvalidClientConfig, "no host").into());
        };
        let info = self.host(host, *port).into_connection_info()?;
        let info = info
            .set_tcp_settings(tcp())
            .set_redis_settings(self.login.clone());
        self.connect(&Client::open(info)?, patience).await
    }

    /// Asks sentinels where the server is. They have a login of their own, or none: first none is tried, because one that
    /// has none takes a password for a mistake. An error of that attempt may just as well be the server's own (the crate
    /// asks it for its `ROLE`): a sentinel that then refuses a password it never asked for hides nothing.
    async fn sentinel(&self, master: &str, patience: Duration) -> RedisResult<Connection> {
        let first = match self.named(master, false).await {
            Ok(client) => return self.connect(&client, patience).await,
            Err(error) => error,
        };
        if self.address.password.is_none() {
            return Err(first);
        }
        match self.named(master, true).await {
            Ok(client) => self.connect(&client, patience).await,
            Err(second) if is_refusal(&second) && first.code() != Some("NOAUTH") => Err(first),
            Err(second) => Err(second),
        }
    }

    /// The server that sentinels name.
    async fn named(&self, master: &str, login: bool) -> RedisResult<Client> {
        self.sentinels(master, login)?.async_get_client().await
    }

    fn sentinels(&self, master: &str, login: bool) -> RedisResult<SentinelClient> {
        let hosts = self.address.hosts.iter();
        let hosts = hosts.map(|(host, port)| self.host(host, *port));
        let mut builder = SentinelClientBuilder::new(hosts, master, SentinelServerType::Master)?
            .set_client_to_redis_db(self.address.database.into())
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_sentinel_tcp_settings(tcp());
        if self.address.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(user) = &self.address.user {
            builder = builder.set_client_to_redis_username(user);
            if login {
                builder = builder.set_client_to_sentinel_username(user);
            }
        }
        if let Some(password) = &self.address.password {
            builder = builder.set_client_to_redis_password(password.reveal());
            if login {
                builder = builder.set_client_to_sentinel_password(password.reveal());
            }
        }
        builder.build()
    }

    async fn cluster(&self, patience: Duration) -> RedisResult<Connection> {
        let mut nodes = Vec::new();
        for (host, port) in &self.address.hosts {
            let info = self.host(host, *port).into_connection_info()?;
            nodes.push(info.set_redis_settings(self.login.clone()));
        }
        let client = ClusterClient::builder(nodes)
            .connection_timeout(self.limit)
            .response_timeout(patience)
            .retries(1)
            .tcp_settings(tcp())
            .build()?;
        let connection = client.get_async_connection().await?;
        Ok(Connection::Cluster(Box::new(connection)))
    }

    async fn connect(&self, client: &Client, patience: Duration) -> RedisResult<Connection> {
        let timing = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limit))
            .set_response_timeout(Some(patience));
        let connection = client.get_multiplexed_async_connection_with_config(&timing);
        connection.await.map(Connection::Server)
    }

    fn host(&self, host: &str, port: u16) -> ConnectionAddr {
        let host = host.to_owned();
        match self.address.tls {
            false => ConnectionAddr::Tcp(host, port),
            true => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        }
    }
}

/// For messages to people: without who logs in.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Way({self})")
    }
}

/// Who logs in was refused.
fn is_refusal(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS")
}

/// Nothing came in this time.
pub(super) fn silent(limit: Duration) -> Trouble {
    Trouble::Away(format!("no answer within {} s", limit.as_secs_f32()))
}

/// Why a host has no address, in the words of the system's resolver: `EAI_AGAIN` is all that may pass (glibc and the BSDs
/// say "temporary failure", musl says "try again").
fn unresolved(host: &str, why: &str) -> Trouble {
    let said = format!("'{host}' cannot be resolved ({})", words(why));
    match why.contains("emporary failure") || why.contains("ry again") {
        true => Trouble::Away(said),
        false => Trouble::Wrong(said),
    }
}

fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNHEARD);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_is_out_of_order_for_now_is_waited_for() {
        for (why, passes) in [
            ("Temporary failure in name resolution", true),
            ("Try again", true),
            ("Name or service not known", false),
            ("No address associated with hostname", false),
        ] {
            let error = format!("failed to lookup address information: {why}");
            let trouble = unresolved("redis", &error);
            assert_eq!(matches!(trouble, Trouble::Away(_)), passes, "{trouble}");
            assert!(trouble.to_string().contains(why), "{trouble}");
        }
    }
}
