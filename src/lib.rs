//! mcp-ferry
pub mod config;
pub mod error;
pub mod health;
pub mod logging;
pub mod proto;

/// Placeholder until the server is there: passes bytes to the upstream, so that signals, listening and draining of
/// the program can be tried.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn run(
    config: config::Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), error::Error> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let bound = tokio::net::TcpListener::bind(address).await;
        let bound = bound.map_err(|error| error::Error::listen(*address, error))?;
        let local = bound.local_addr().unwrap_or(*address);
        tracing::info!("listening on http://{local}");
        listeners.push(bound);
    }
    let upstream = config
        .upstream
        .url
        .authority()
        .map_or(String::new(), ToString::to_string);
    let (open, mut closed) = tokio::sync::mpsc::channel::<()>(1);
    let tasks: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let (open, upstream) = (open.clone(), upstream.clone());
            tokio::spawn(async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    let (open, upstream) = (open.clone(), upstream.clone());
                    tokio::spawn(async move {
                        let _open = open;
                        if let Ok(mut server) = tokio::net::TcpStream::connect(upstream).await {
                            tokio::io::copy_bidirectional(&mut client, &mut server)
                                .await
                                .ok();
                        }
                    });
                }
            })
        })
        .collect();
    drop(open);
    shutdown.await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::timeout(config.limits.drain_timeout, closed.recv())
        .await
        .ok();
    Ok(())
}

/// Placeholder until the demo is there.
pub mod demo {
    /// # Errors
    /// Never.
    pub async fn run(
        _once: bool,
        _listen: Option<std::net::SocketAddr>,
        _shutdown: impl Future<Output = ()>,
    ) -> Result<bool, crate::error::Error> {
        Ok(true)
    }
}
