//! The admin listener (`--admin`): the tap's page and its API, metrics and health checks, on a socket of their own.
//!
//! What crosses the ferry can be read here, so that everything but health, metrics and the page's own files needs the
//! access token, and every request is judged as if a hostile page had sent it (`access`). Nothing here changes traffic, and
//! nothing here reads a request's body.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `listener` | sockets: taken within a bound, served, ended last |
//! | `access` | hosts, origins, the token |
//! | `routes` | which path is what |
//! | `answer` | the answers: their headers, errors, bodies that are written as they are read |
//! | `page` | the page's files |
//! | `api` | what the page asks for |
//! | `live` | the stream of what crosses now |

mod access;
mod answer;
mod api;
mod listener;
mod live;
mod page;
mod routes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::{Server, accept};
use crate::config::Config;
use crate::error::Error;
use crate::tap::Tap;
use accept::Reserve;
use access::Access;

/// The listener, bound; serves nothing yet.
#[derive(Debug)]
pub(super) struct Admin {
    listener: TcpListener,
    reserve: Reserve,
    access: Access,
}

/// What every request needs.
#[derive(Debug)]
struct Shared {
    server: Arc<Server>,
    access: Access,
    tap: Option<Arc<Tap>>,
    /// Downloads of records that may begin.
    exports: Arc<Semaphore>,
    /// The same of lists.
    lists: Arc<Semaphore>,
    /// Turns true when the process has ended everything else.
    closing: watch::Receiver<bool>,
}

impl Shared {
    /// Waits until the process is at its end.
    async fn closed(&self) {
        // An error means that the process is gone: the same.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }
}

impl Admin {
    /// Binds the listener that the configuration asks for.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the system gives no randomness for a token.
    pub(super) fn bind(config: &Config) -> Result<Option<Self>, Error> {
        let Some(admin) = &config.admin else {
            return Ok(None);
        };
        let access = Access::new(admin, &config.guard.allowed_hosts)?;
        let listener =
            accept::listen(admin.listen).map_err(|error| Error::admin(admin.listen, error))?;
        Ok(Some(Self {
            listener,
            reserve: Reserve::new(),
            access,
        }))
    }

    /// Where it listens, with the port that the system chose.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// The page's address, with the token in its fragment, which browsers keep to themselves. A token that the operator
    /// gave is not repeated. Where all addresses are listened on, it is the one that a browser on this machine can use.
    pub(super) fn url(&self) -> Option<String> {
        let mut address = self.address()?;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Some(match self.access.own_token() {
            Some(token) => format!("http://{address}/#token={token}"),
            None => format!("http://{address}/"),
        })
    }

    /// Serves until `closing` turns true.
    pub(super) async fn serve(
        self,
        server: Arc<Server>,
        tap: Option<Arc<Tap>>,
        closing: watch::Receiver<bool>,
    ) {
        let Self {
            listener,
            reserve,
            access,
        } = self;
        let shared = Shared {
            server,
            access,
            tap,
            exports: Arc::new(Semaphore::new(api::MAX_EXPORTS)),
            lists: Arc::new(Semaphore::new(api::MAX_LISTS)),
            closing,
        };
        listener::serve(listener, reserve, Arc::new(shared)).await;
    }
}
