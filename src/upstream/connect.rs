//! Connections to the upstream: within one time limit, TLS with the system's roots or a given one, HTTP/2 where the
//! server offers it by ALPN.

use std::error::Error as StdError;
use std::fs::File;
use std::future::Future;
use std::io::BufReader;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;
use tower_service::Service;

use super::breaker::Breaker;
use crate::config;
use crate::error::{Error, Kind, Side};

type Https = HttpsConnector<HttpConnector>;
type Cause = Box<dyn StdError + Send + Sync>;

/// Makes connections: the name looked up, TCP and TLS, all within one time limit. hyper-util's own limit covers only
/// TCP: by it, a server that takes a connection and says nothing would be waited for for ever.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    https: Https,
    limit: Duration,
    /// Told of every connection, because the answer on it may take as long as its tool.
    breaker: Arc<Breaker>,
}

impl Service<Uri> for Connector {
    type Response = <Https as Service<Uri>>::Response;
    type Error = Cause;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Cause>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.https.call(uri), self.limit);
        let (begun, breaker) = (Instant::now(), Arc::clone(&self.breaker));
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(Ok(connection)) => {
                    breaker.succeeded();
                    Ok(connection)
                }
                Ok(Err(error)) if begun.elapsed() < limit => Err(error),
                // hyper-util's own limit may have been a moment faster, and does not say which it is.
                _ => Err(format!("no connection within {limit:?} (--connect-timeout)").into()),
            }
        })
    }
}

/// A peer that vanished without a word is noticed after this long.
const VANISHED: Duration = Duration::from_secs(30);

pub(super) fn connector(
    config: &config::Upstream,
    breaker: Arc<Breaker>,
) -> Result<Connector, Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    // Shared out among the addresses of a name, so that one that is dead leaves time for the next.
    http.set_connect_timeout(Some(config.connect_timeout));
    http.set_keepalive(Some(Duration::from_secs(15)));
    http.set_keepalive_interval(Some(Duration::from_secs(5)));
    http.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    http.set_tcp_user_timeout(Some(VANISHED));
    let tls = tls(config)?;
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    Ok(Connector {
        https,
        limit: config.connect_timeout,
        breaker,
    })
}

/// The roots are read only for an `https` upstream: they cost time at start, and an image may have none.
fn tls(config: &config::Upstream) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Side::Internal, Kind::Start).because(error))?;
    if config.url.scheme() != Some(&Scheme::HTTPS) {
        return Ok(builder
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth());
    }
    let Some(path) = &config.ca else {
        let builder = builder
            .with_native_roots()
            .map_err(|error| Error::new(Side::Config, Kind::SystemRoots).because(error))?;
        return Ok(builder.with_no_client_auth());
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let refused = || Error::new(Side::Config, Kind::UpstreamCa(path.clone()));
    let file = File::open(path).map_err(|error| refused().because(error))?;
    let mut any = false;
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| refused().because(error))?;
        roots
            .add(certificate)
            .map_err(|error| refused().because(error))?;
        any = true;
    }
    if any {
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    } else {
        Err(refused().because("it holds no certificate in PEM form"))
    }
}
