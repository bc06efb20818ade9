//! Where replicas meet: `--store`, and the address of a Redis as it is written there. Its password never appears in a
//! complaint, a log line or a `Debug` text.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

/// Characters of `--store-prefix`.
const LONGEST_PREFIX: usize = 64;
/// Hosts that an address may name.
const MOST_HOSTS: usize = 32;
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// What `--store` may be, for complaints.
const FORMS: &str = "memory, redis://HOST, rediss://HOST, redis+sentinel://HOST,HOST/MASTER or redis+cluster://HOST,HOST";

/// Where replicas meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Meeting {
    /// Nowhere: the connections of this process are all there are.
    #[default]
    Memory,
    /// In a Redis, or what speaks like one.
    Redis(Box<RedisAddress>),
}

/// A secret text, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text, for the one it is meant for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How a Redis is reached. `Display` leaves out who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    /// What the hosts are.
    pub form: RedisForm,
    /// Whether the connections are encrypted, and certificates checked.
    pub tls: bool,
    /// Host names or addresses, without brackets, and ports; at least one.
    pub hosts: Vec<(String, u16)>,
    /// The user to log in as; the default user where there is only a password.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The number of the database; 0 with a cluster.
    pub database: u16,
}

/// What the hosts of a [`RedisAddress`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisForm {
    /// The one server.
    Server,
    /// Sentinels, which know where the server of this name is.
    Sentinel(String),
    /// Some of a cluster.
    Cluster,
}

impl RedisAddress {
    /// The first host that is reached without encryption over a network. What sentinels and nodes of a cluster name may be
    /// anywhere, and the password goes there too, so that those never count as local.
    #[must_use]
    pub fn exposed(&self) -> Option<&str> {
        let local = |host: &str| {
            let loopback = |address: IpAddr| address.to_canonical().is_loopback();
            host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(loopback)
        };
        let names_others = self.form != RedisForm::Server;
        let hosts = self.hosts.iter().map(|(host, _)| host.as_str());
        let mut hosts = hosts.filter(|_| !self.tls);
        hosts.find(|host| names_others || !local(host))
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, master) = match &self.form {
            RedisForm::Server => ("", None),
            RedisForm::Sentinel(master) => ("+sentinel", Some(master)),
            RedisForm::Cluster => ("+cluster", None),
        };
        let secure = if self.tls { "s" } else { "" };
        write!(f, "redis{secure}{form}://")?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        match master {
            Some(master) => write!(f, "/{master}"),
            None => Ok(()),
        }
    }
}

/// Reads `--store`. What it complains of it does not repeat, because a password stands in it.
pub(super) fn store(text: &str) -> Result<Meeting, String> {
    let text = text.trim();
    if text == "memory" {
        return Ok(Meeting::Memory);
    }
    let known = || format!("is none of {FORMS}");
    let (scheme, rest) = text.split_once("://").ok_or_else(known)?;
    let (secure, form) = match scheme.split_once('+') {
        Some((secure, form)) => (secure, Some(form)),
        None => (scheme, None),
    };
    let tls = match secure {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err(known()),
    };
    if rest.contains(['?', '#']) {
        return Err("takes no parameters after ? or #; in a password write %3F and %23".to_owned());
    }
    // A password may hold a slash or an @ that was not escaped: the last @ is the one that counts.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login), rest),
        None => (None, rest),
    };
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (form, database, port) = match form {
        None => (RedisForm::Server, path, REDIS_PORT),
        Some("cluster") => (RedisForm::Cluster, path, REDIS_PORT),
        Some("sentinel") => {
            let (master, database) = read_master(path)?;
            (RedisForm::Sentinel(master), database, SENTINEL_PORT)
        }
        Some(_) => return Err(known()),
    };
    let database = read_database(database, &form)?;
    let hosts = read_hosts(hosts, port)?;
    if form == RedisForm::Server && hosts.len() > 1 {
        let why = "names several hosts: redis+sentinel:// and redis+cluster:// do";
        return Err(why.to_owned());
    }
    let (user, password) = login.map_or(Ok((None, None)), read_login)?;
    Ok(Meeting::Redis(Box::new(RedisAddress {
        form,
        tls,
        hosts,
        user,
        password,
        database,
    })))
}

/// The name of a master, and what stands behind it.
fn read_master(path: &str) -> Result<(String, &str), String> {
    let (master, rest) = path.split_once('/').unwrap_or((path, ""));
    let master = unescape(master).filter(|master| !master.is_empty());
    let master = master.ok_or("has no master's name: redis+sentinel://HOST/MASTER")?;
    Ok((master, rest))
}

fn read_database(text: &str, form: &RedisForm) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let wrong = "has something after the host that is no number of a database";
    match text.parse().map_err(|_| wrong)? {
        number if number != 0 && *form == RedisForm::Cluster => {
            Err("names a database: a cluster has only one".to_owned())
        }
        number => Ok(number),
    }
}

fn read_hosts(text: &str, port: u16) -> Result<Vec<(String, u16)>, String> {
    let mut hosts = Vec::new();
    for host in text.split(',') {
        hosts.push(read_host(host, port)?);
    }
    match hosts.len() > MOST_HOSTS {
        true => Err(format!("names more than {MOST_HOSTS} hosts")),
        false => Ok(hosts),
    }
}

fn read_host(text: &str, default: u16) -> Result<(String, u16), String> {
    let bad = || "has no host, or one that is no name and no address".to_owned();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(bad)?;
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| bad())?;
            (address.to_string(), port.strip_prefix(':'))
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if host.is_empty() || host.len() > 253 || !host.bytes().all(usual) {
                return Err(bad());
            }
            (host.to_owned(), port)
        }
    };
    let port = port.map_or(Ok(default), str::parse);
    match port {
        Ok(port) if port != 0 => Ok((host, port)),
        _ => Err("has a port that is no number from 1 to 65535".to_owned()),
    }
}

type Login = (Option<String>, Option<Secret>);

fn read_login(text: &str) -> Result<Login, String> {
    let bad = "has a user or password with a % that escapes nothing: write %25";
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let user = unescape(user).ok_or(bad)?;
    let password = password.map(|password| unescape(password).ok_or(bad));
    let password = password.transpose()?.filter(|text| !text.is_empty());
    if password.is_none() {
        return Err("has a user without a password: redis://USER:PASSWORD@HOST".to_owned());
    }
    let user = Some(user).filter(|user| !user.is_empty());
    Ok((user, password.map(|text| Secret(text.into()))))
}

/// Percent-encoding (RFC 3986 §2.1). `None` for what is none, or no text.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? << 4 | digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Reads `--store-prefix`: it becomes part of keys and of the pattern in an access list, so it has to be plain.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let text = text.trim();
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let fits = (1..=LONGEST_PREFIX).contains(&text.len()) && text.bytes().all(usual);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "{} is no prefix: 1 to {LONGEST_PREFIX} letters, digits, dots, underscores, colons and dashes",
            super::values::quoted(text)
        )
    })
}
