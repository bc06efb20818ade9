//! `mcp-ferry demo`: a small MCP server, the ferry in front of it, and an old client that talks through both, all in one
//! process; what crosses is printed line by line.
//!
//! It shows the product with nothing else installed, and `--once` makes it a smoke test: exit code 0 says that an old
//! client was carried through every kind of message. The server and the client speak real HTTP over loopback sockets
//! and share no code with the ferry's own translation.

mod client;
mod server;

use std::future::Future;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use crate::config::{Admin, Config};
use crate::error::{Error, Kind, Side};
use crate::server::{Bound, Shutdown};
use crate::tap::record::Kind as Crossed;
use crate::tap::terminal::{Printer, Style};
use crate::tap::{Change, Seen};

/// The port that is tried first.
const PORT: u16 = 8080;
/// The same for the tap's page.
const ADMIN_PORT: u16 = 9090;
/// How long the end of the scripted client's connection is waited for.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the demo: the script, then, unless `once`, on until `shutdown`. Says whether the script went well.
///
/// # Errors
/// When no address can be listened on.
pub async fn run(
    once: bool,
    listen: Option<SocketAddr>,
    admin: Option<Admin>,
    shutdown: impl Future<Output = Shutdown>,
) -> Result<bool, Error> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any)
        .await
        .map_err(|error| Error::listen(any, error))?;
    let upstream = listener
        .local_addr()
        .map_err(|error| Error::listen(any, error))?;
    let server = tokio::task::spawn(server::serve(listener));
    let mut bound = bind(upstream, listen, admin, once).await?;
    let mut address = bound.addresses().first().copied().unwrap_or(any);
    if address.ip().is_unspecified() {
        // Listening on all addresses, as a container does; the script and its reader are on this machine.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }

    say(&format!(
        "An old MCP client (HTTP+SSE, 2024-11-05) talks through mcp-ferry to a Streamable HTTP server.\n\
         client: GET http://{address}/sse     server: http://{upstream}/mcp\n"
    ));
    let page = bound.admin_url();
    if let Some(url) = &page {
        say(&format!("Watch it: {url}\n"));
    }
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut printer = Printer::new(Style::of_stdout(false, color));
    let watcher = bound.tap().and_then(|tap| tap.watch());
    let closed = Arc::new(Notify::new());
    let printing = tokio::task::spawn({
        let told = Arc::clone(&closed);
        async move {
            let Some(mut watcher) = watcher else { return };
            while let Some(seen) = watcher.next().await {
                let Seen::Change(change) = seen else { continue };
                let Change::Record(record) = &*change else {
                    continue;
                };
                print(&printer.text(record));
                if record.kind == Crossed::Closed {
                    told.notify_one();
                }
            }
        }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::task::spawn(bound.serve(async move {
        // An error means that the demo itself is gone; both end the serving.
        let _ = stopped.await;
        Shutdown::Person
    }));

    let went = client::run(address).await;
    // The farewell to the server belongs to the story.
    let _ = tokio::time::timeout(FAREWELL, closed.notified()).await;
    match &went {
        Ok(checks) => say(&format!("\nThe script went well: {checks} checks.")),
        Err(why) => say(&format!("\nThe script failed: {why}")),
    }
    if !once {
        say(&format!(
            "\nStill serving; what crosses is printed here. Try:\n\
             \x20 curl -N http://{address}/sse                  the old transport's stream\n\
             \x20 http://{address}/mcp                          the new transport, passed through\n\
             An old client's configuration:\n\
             \x20 {{\"mcpServers\":{{\"demo\":{{\"type\":\"sse\",\"url\":\"http://{address}/sse\"}}}}}}\n\
             Ctrl-C ends it."
        ));
        if let Some(url) = page {
            say(&format!("All of it, as a page: {url}"));
        }
        shutdown.await;
    }
    drop(stop);
    let _ = serving.await;
    server.abort();
    printing.abort();
    Ok(went.is_ok())
}

/// The tap's page at its usual address, or where there is room.
fn page() -> Admin {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
    let free = std::net::TcpListener::bind(usual).is_ok();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Admin {
        listen: if free { usual } else { any },
        allow_remote: false,
        token: None,
    }
}

/// The ferry, at the address asked for, or at the usual port, or where there is room.
async fn bind(
    upstream: SocketAddr,
    listen: Option<SocketAddr>,
    admin: Option<Admin>,
    once: bool,
) -> Result<Bound, Error> {
    let url = hyper::Uri::builder()
        .scheme("http")
        .authority(upstream.to_string())
        .path_and_query("/mcp")
        .build();
    let url = url.map_err(|error| Error::new(Side::Internal, Kind::Start).because(error))?;
    let mut config = Config::for_upstream(url);
    config.admin = admin.or_else(|| (!once).then(page));
    config.listen =
        vec![listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, if once { 0 } else { PORT }).into())];
    match Bound::bind(config.clone()).await {
        Err(_) if listen.is_none() => {
            config.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
            Bound::bind(config).await
        }
        bound => bound,
    }
}

fn say(text: &str) {
    print(&format!("{text}\n"));
}

fn print(text: &str) {
    // A closed pipe must not end the demo.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
