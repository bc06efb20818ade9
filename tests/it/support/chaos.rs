//! A TCP relay that treats connections as networks do: slowly, in pieces, half open, or not at all.
//!
//! It stands before a server, the ferry or the upstream. What it does to bytes can be changed while they cross. Every
//! wait is of tokio's clock, so that a test that has stopped the clock decides when it is over.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Uri;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever connected to the server.
    Up,
    /// From the server to whoever connected.
    Down,
}

/// How a connection ends, at both sides of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is closed.
    Fin,
    /// It is reset.
    Rst,
}

/// What the relay does to all that crosses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    /// How long each piece takes.
    pub(crate) latency: Duration,
    /// Bytes a second, each way.
    pub(crate) bandwidth: Option<usize>,
    /// A connection on which nothing crosses for this long is closed.
    pub(crate) idle: Option<Duration>,
    /// Nothing crosses, and nothing is closed: the connections are half open.
    pub(crate) frozen: bool,
}

/// A break that waits for its byte.
#[derive(Debug)]
struct Cut {
    way: Way,
    left: usize,
    ending: Ending,
}

/// What the relays of one [`Chaos`] share.
#[derive(Debug)]
struct Shared {
    weather: watch::Sender<Weather>,
    cut: Mutex<Option<Cut>>,
    /// How often all connections were ended, and how the last time.
    ended: watch::Sender<(usize, Ending)>,
    accepted: watch::Sender<usize>,
}

/// The relay, on a port of its own. It is gone when this is dropped.
pub(crate) struct Chaos {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Chaos {
    /// A relay to `server` that does nothing yet.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            weather: watch::Sender::default(),
            cut: Mutex::default(),
            ended: watch::Sender::new((0, Ending::Fin)),
            accepted: watch::Sender::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&shared)));
        Self {
            address,
            shared,
            _tasks: tasks,
        }
    }

    /// The MCP endpoint of the server, by way of here.
    pub(crate) fn url(&self) -> Uri {
        format!("http://{}/mcp", self.address)
            .parse()
            .expect("a URL")
    }

    /// Changes what is done from now on, to connections that are open too.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }

    /// Ends the connection on which the `bytes`th byte from now crosses this way, after that byte. Connections are
    /// counted together.
    pub(crate) fn cut_after(&self, way: Way, bytes: usize, ending: Ending) {
        let cut = Cut {
            way,
            left: bytes,
            ending,
        };
        *self.shared.cut.lock().expect("no panic") = Some(cut);
    }

    /// Whether no cut waits for its byte any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.shared.cut.lock().expect("no panic").is_none()
    }

    /// Ends every connection now.
    pub(crate) fn end_all(&self, ending: Ending) {
        self.shared.ended.send_modify(|(times, last)| {
            *times += 1;
            *last = ending;
        });
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        *self.shared.accepted.borrow()
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.send_modify(|count| *count += 1);
        let shared = Arc::clone(&shared);
        let ended = shared.ended.subscribe();
        relays.spawn(async move {
            match TcpStream::connect(server).await {
                Ok(server) => relay(client, server, &shared, ended).await,
                // The server is not there: so neither is this connection.
                Err(_) => reset(&client),
            }
        });
    }
}

/// Relays until both directions are over, or something ends the connection.
async fn relay(
    client: TcpStream,
    server: TcpStream,
    shared: &Shared,
    mut ended: watch::Receiver<(usize, Ending)>,
) {
    // A failure costs only time.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let moved = Mutex::new(Instant::now());
    let both = async {
        tokio::try_join!(
            carry(Way::Up, &client, &server, shared, &moved),
            carry(Way::Down, &server, &client, shared, &moved),
        )
    };
    let ending = tokio::select! {
        biased;
        _ = ended.changed() => ended.borrow().1,
        () = idle(shared, &moved) => Ending::Fin,
        over = both => over.err().unwrap_or(Ending::Fin),
    };
    if ending == Ending::Rst {
        reset(&client);
        reset(&server);
    }
}

/// Makes the closing of this socket a reset.
fn reset(socket: &TcpStream) {
    // An error means that the peer was faster.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Carries bytes one way until their end, which is passed on; an `Err` says how the connection is to end instead.
async fn carry(
    way: Way,
    from: &TcpStream,
    to: &TcpStream,
    shared: &Shared,
    moved: &Mutex<Instant>,
) -> Result<(), Ending> {
    let mut weather = shared.weather.subscribe();
    let mut buffer = vec![0; 64 << 10];
    loop {
        thawed(&mut weather).await;
        from.readable().await.map_err(|_| Ending::Rst)?;
        // It may have frozen meanwhile.
        thawed(&mut weather).await;
        let now = weather.borrow().clone();
        // A tenth of a second's worth at a time.
        let room = now.bandwidth.map_or(buffer.len(), |rate| rate.div_ceil(10));
        let room = room.min(buffer.len());
        let read = match from.try_read(&mut buffer[..room]) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return Err(Ending::Rst),
        };
        let cost = now.bandwidth.map_or(0.0, |rate| read as f64 / rate as f64);
        let wait = now.latency + Duration::from_secs_f64(cost);
        if !wait.is_zero() {
            sleep(wait).await;
            thawed(&mut weather).await;
        }
        if read == 0 {
            // An error means that the other side has gone already.
            let _ = SockRef::from(to).shutdown(Shutdown::Write);
            return Ok(());
        }
        *moved.lock().expect("no panic") = Instant::now();
        let (passes, ending) = shared.passes(way, read);
        write(to, &buffer[..passes]).await?;
        ending.map_or(Ok(()), Err)?;
    }
}

async fn thawed(weather: &mut watch::Receiver<Weather>) {
    // An error means that the test is over.
    let _ = weather.wait_for(|weather| !weather.frozen).await;
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> Result<(), Ending> {
    while !bytes.is_empty() {
        to.writable().await.map_err(|_| Ending::Rst)?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Err(Ending::Rst),
        }
    }
    Ok(())
}

/// Waits until nothing has crossed for as long as the weather allows.
async fn idle(shared: &Shared, moved: &Mutex<Instant>) {
    let mut weather = shared.weather.subscribe();
    loop {
        let limit = weather.borrow_and_update().idle;
        let last = *moved.lock().expect("no panic");
        let due = async {
            match limit {
                Some(limit) => sleep_until(last + limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                let last = *moved.lock().expect("no panic");
                if limit.is_some_and(|limit| last + limit <= Instant::now()) {
                    return;
                }
            }
            Ok(()) = weather.changed() => {}
        }
    }
}

impl Shared {
    /// How many of the bytes that arrived may pass, and how the connection ends after them, if it does.
    fn passes(&self, way: Way, arrived: usize) -> (usize, Option<Ending>) {
        let mut waiting = self.cut.lock().expect("no panic");
        match &mut *waiting {
            Some(cut) if cut.way == way && cut.left <= arrived => {
                let now = (cut.left, Some(cut.ending));
                *waiting = None;
                now
            }
            Some(cut) if cut.way == way => {
                cut.left -= arrived;
                (arrived, None)
            }
            _ => (arrived, None),
        }
    }
}
