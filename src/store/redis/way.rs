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

/// How long connecting may take, login included.
const CONNECT: Duration = Duration::from_secs(2);
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
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
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
}

impl Way {
    pub(super) fn new(address: RedisAddress) -> Self {
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
        Self { address, login }
    }

    /// Whether the keys of two replicas may lie on two servers.
    pub(super) fn is_cluster(&self) -> bool {
        self.address.form == RedisForm::Cluster
    }

    /// Whether at least one of the hosts has an address.
    pub(super) async fn resolves(&self) -> Result<(), Trouble> {
        let mut unknown = None;
        for (host, port) in &self.address.hosts {
            match tokio::net::lookup_host((host.as_str(), *port)).await {
                Ok(mut addresses) => match addresses.next() {
                    Some(_) => return Ok(()),
                    None => unknown = Some(format!("'{host}' has no address")),
                },
                Err(error) => {
                    let why = words(&error.to_string());
                    unknown = Some(format!("'{host}' cannot be resolved ({why})"));
                }
            }
        }
        unknown.map_or(Ok(()), |why| Err(Trouble::Wrong(why)))
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
        match tokio::time::timeout(CONNECT, opened).await {
            Ok(opened) => Ok(opened?),
            Err(_) => {
                let why = format!("no answer within {} s", CONNECT.as_secs());
                Err(Trouble::Away(why))
            }
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
        let client = Client::open(info)?;
        connect(&client, patience).await
    }

    /// Asks sentinels where the server is. They have a login of their own, or none: first none is tried, because one that
    /// has none takes a password for a mistake.
    async fn sentinel(&self, master: &str, patience: Duration) -> RedisResult<Connection> {
        let mut anonymous = self.sentinels(master, false)?;
        match anonymous.async_get_client().await {
            Ok(client) => connect(&client, patience).await,
            Err(_) if self.address.password.is_some() => {
                let mut known = self.sentinels(master, true)?;
                connect(&known.async_get_client().await?, patience).await
            }
            Err(error) => Err(error),
        }
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
            .connection_timeout(CONNECT)
            .response_timeout(patience)
            .retries(1)
            .tcp_settings(tcp())
            .build()?;
        let connection = client.get_async_connection().await?;
        Ok(Connection::Cluster(Box::new(connection)))
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

async fn connect(client: &Client, patience: Duration) -> RedisResult<Connection> {
    let timing = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(patience));
    let connection = client.get_multiplexed_async_connection_with_config(&timing);
    connection.await.map(Connection::Server)
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
