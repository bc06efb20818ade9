//! From flags that are each valid to a [`Config`] that is: the rules between them.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::Uri;

use super::flags::{self, Cli, Logging, Serve, Task};
use super::parse::Names;
use super::{
    Command, Config, EndpointForm, Guard, Limits, Log, LogFormat, Paths, Refused, Replay, Upstream,
    http, replicas, watching,
};

/// What the flags ask for.
pub(super) fn command(
    cli: Cli,
    names: &Names,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Command, Refused> {
    let color = env("NO_COLOR").is_none_or(|value| value.is_empty());
    match cli.task {
        None => serve(cli.serve, names, color).map(|config| Command::Serve(Box::new(config))),
        Some(Task::Demo {
            once,
            listen,
            admin,
            logging,
        }) => Ok(Command::Demo {
            once,
            listen,
            admin: watching::admin(admin, listen.as_slice(), names)?,
            log: log(logging, color),
        }),
        Some(Task::Replay(flags)) => {
            replay(flags, color).map(|replay| Command::Replay(Box::new(replay)))
        }
        Some(Task::Health { url: Some(url) }) => Ok(Command::Health { url }),
        Some(Task::Health { url: None }) => health(env).map(|url| Command::Health { url }),
    }
}

fn replay(flags: flags::Replay, color: bool) -> Result<Replay, Refused> {
    let missing = |what| {
        let example = "mcp-ferry replay traffic.jsonl --upstream http://127.0.0.1:3000/mcp";
        Refused::new(what).hint(example)
    };
    if flags.files.is_empty() {
        return Err(missing("no file is named: what --tap-file has written"));
    }
    let upstream = "--upstream is missing: the URL of the MCP server to compare with";
    let url = flags.upstream.ok_or_else(|| missing(upstream))?;
    let mut config = Config::for_upstream(url);
    config.upstream.headers = flags.header;
    config.log = Log {
        filter: flags.log,
        format: LogFormat::Text,
        color,
    };
    Ok(Replay {
        files: flags.files,
        config,
        all: flags.all,
        ignore: flags.ignore,
        json: flags.json,
    })
}

fn serve(flags: Serve, names: &Names, color: bool) -> Result<Config, Refused> {
    let Some(url) = flags.places.upstream.clone() else {
        return Err(
            Refused::new("--upstream is missing: the URL of the MCP server behind").hint(
                "mcp-ferry --upstream http://127.0.0.1:3000/mcp, or mcp-ferry demo to see it work",
            ),
        );
    };
    check_listen(&flags.places.listen, names)?;
    let paths = paths(&flags, names)?;
    let upstream = upstream(&flags, url, names)?;
    let admin = watching::admin(flags.admin, &flags.places.listen, names)?;
    let replicas = replicas::replicas(flags.replicas, names)?;
    let mut allowed_hosts = flags.paths.allowed_host;
    allowed_hosts.extend(
        paths
            .public_url
            .as_ref()
            .and_then(Uri::authority)
            .map(|host| host.as_str().to_ascii_lowercase()),
    );
    let clients = flags.clients;
    Ok(Config {
        listen: flags.places.listen,
        upstream,
        mcp: flags.paths.mcp,
        paths,
        guard: Guard {
            trusted_proxies: flags.paths.trusted_proxy,
            allowed_hosts,
            allowed_origins: flags.paths.allowed_origin,
            cors: flags.paths.cors,
            credential_binding: flags.paths.credential_binding,
        },
        limits: Limits {
            upstream_listen: flags.upstream.upstream_listen,
            downgrade_content: flags.upstream.downgrade_content,
            keep_alive: clients.keep_alive,
            request_timeout: flags.upstream.request_timeout,
            request_idle_timeout: flags.upstream.request_idle_timeout,
            client_stall_timeout: clients.client_stall_timeout,
            header_timeout: clients.header_timeout,
            socket_idle_timeout: clients.socket_idle_timeout,
            body_timeout: clients.body_timeout,
            max_stream_age: clients.max_stream_age,
            mcp_session_idle: clients.mcp_session_idle,
            drain_delay: clients.drain_delay,
            drain_timeout: clients.drain_timeout,
            max_connections: clients.max_connections,
            max_connections_per_peer: clients.max_connections_per_peer,
            max_sockets: clients.max_sockets,
            max_in_flight: clients.max_in_flight,
            max_request_body: clients.max_request_body,
            max_message: clients.max_message,
            client_buffer: clients.client_buffer,
            max_buffered: clients.max_buffered,
        },
        replicas,
        admin,
        tap: watching::tap(flags.tap),
        log: log(flags.logging, color),
    })
}

fn log(flags: Logging, color: bool) -> Log {
    Log {
        filter: flags.log,
        format: flags.log_format,
        color,
    }
}

fn check_listen(listen: &[SocketAddr], names: &Names) -> Result<(), Refused> {
    for (index, address) in listen.iter().enumerate() {
        if address.port() != 0 && listen.iter().take(index).any(|other| other == address) {
            return Err(Refused::new(format!(
                "{}: {address} is given twice",
                names.of("--listen")
            )));
        }
    }
    Ok(())
}

fn paths(flags: &Serve, names: &Names) -> Result<Paths, Refused> {
    let given = &flags.paths;
    let all = [
        ("--sse-path", &given.sse_path),
        ("--messages-path", &given.messages_path),
        ("--mcp-path", &given.mcp_path),
    ];
    for (index, (flag, path)) in all.iter().enumerate() {
        if let Some((other, _)) = all.iter().take(index).find(|(_, other)| other == path) {
            let (flag, other) = (names.of(flag), names.of(other));
            return Err(Refused::new(format!(
                "{flag}: '{path}' is already the value of {other}"
            )));
        }
    }
    if given.endpoint == EndpointForm::AbsoluteUrl && given.public_url.is_none() {
        let endpoint = names.of("--endpoint");
        return Err(Refused::new(format!(
            "{endpoint}: absolute-url needs --public-url"
        )));
    }
    let seen = given
        .public_url
        .as_ref()
        .map_or("", |url| url.path().trim_end_matches('/'));
    let mut public_prefix = given.public_prefix.clone();
    if public_prefix.is_empty() {
        seen.clone_into(&mut public_prefix);
    } else if given.public_url.is_some() && public_prefix != seen {
        return Err(Refused::new(format!(
            "{}: '{public_prefix}' is not the path of {}",
            names.of("--public-prefix"),
            names.of("--public-url"),
        ))
        .hint("give the prefix once, as the path of the public URL"));
    }
    Ok(Paths {
        sse: given.sse_path.clone(),
        messages: given.messages_path.clone(),
        mcp: given.mcp_path.clone(),
        public_prefix,
        endpoint: given.endpoint,
        public_url: given.public_url.clone(),
    })
}

fn upstream(flags: &Serve, url: Uri, names: &Names) -> Result<Upstream, Refused> {
    let given = &flags.upstream;
    if given.upstream_ca.is_some() && url.scheme_str() != Some("https") {
        let (ca, upstream) = (names.of("--upstream-ca"), names.of("--upstream"));
        return Err(Refused::new(format!(
            "{ca}: {upstream} is not https, nothing would be checked"
        )));
    }
    for (index, (name, _)) in given.upstream_header.iter().enumerate() {
        if given
            .upstream_header
            .iter()
            .take(index)
            .any(|(other, _)| other == name)
        {
            let flag = names.of("--upstream-header");
            return Err(Refused::new(format!("{flag}: '{name}' is given twice")));
        }
    }
    if let Some(name) = &given.connection_id_header {
        let used = [
            (
                "--upstream-header",
                given.upstream_header.iter().any(|(other, _)| other == name),
            ),
            ("--forward-header", given.forward_header.contains(name)),
        ];
        if let Some((other, _)) = used.iter().find(|(_, used)| *used) {
            let (flag, other) = (names.of("--connection-id-header"), names.of(other));
            return Err(Refused::new(format!(
                "{flag}: '{name}' is already used by {other}"
            )));
        }
    }
    Ok(Upstream {
        url,
        ca: given.upstream_ca.clone(),
        headers: given.upstream_header.clone(),
        forward_headers: given.forward_header.clone(),
        connection_id_header: given.connection_id_header.clone(),
        connect_timeout: given.connect_timeout,
        era: given.upstream_era,
    })
}

/// Where a ferry started with this environment can be asked.
fn health(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Uri, Refused> {
    const NAME: &str = "MCP_FERRY_LISTEN";
    let given = env(NAME).filter(|value| !value.is_empty());
    let text = given
        .as_ref()
        .map_or("127.0.0.1:8080", |value| value.to_str().unwrap_or_default());
    let first = text.split(',').next().unwrap_or_default();
    let mut address = http::listen(first).map_err(|why| Refused::new(format!("{NAME}: {why}")))?;
    if address.port() == 0 {
        return Err(Refused::new(format!(
            "{NAME}: port 0 does not say where the ferry listens"
        ))
        .hint("give the URL with --url"));
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    http::health_url(&format!("http://{address}/healthz"))
        .map_err(|why| Refused::new(format!("{NAME}: {why}")))
}
