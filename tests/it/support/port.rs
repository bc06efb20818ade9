//! Ports on which nobody listens yet, or any more.

use std::net::SocketAddr;

use hyper::Uri;
use tokio::net::TcpListener;

use super::clock::within;

/// A port where connections are refused until somebody listens there. Nobody else can take it meanwhile.
pub(crate) struct ClosedPort {
    pub(crate) address: SocketAddr,
    socket: socket2::Socket,
}

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).expect("bind");
        let address = socket.local_addr().expect("an address");
        let address = address.as_socket().expect("an IP address");
        Self { address, socket }
    }

    pub(crate) fn url(&self) -> Uri {
        let url = format!("http://{}/mcp", self.address);
        url.parse().expect("a URL")
    }

    pub(crate) fn open(self) -> TcpListener {
        self.socket.listen(128).expect("listen");
        self.socket.set_nonblocking(true).expect("nonblocking");
        TcpListener::from_std(self.socket.into()).expect("a listener")
    }
}

/// Binds a port that was just left.
pub(crate) async fn rebind(address: SocketAddr) -> TcpListener {
    within("the port to be free", async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}
