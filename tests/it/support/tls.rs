//! A TLS upstream with certificates made on the spot, speaking HTTP/1.1 or HTTP/2, whichever ALPN agrees on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A certificate authority, and the file that holds its certificate.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("authority-{}-{number}", std::process::id());
        params.distinguished_name.push(DnType::CommonName, &name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).expect("write");
        Self { issuer, file }
    }

    /// A server certificate for these names, changed as the test wants.
    pub(crate) fn server(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .expect("a configuration")
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // What is left behind is only a file in the build directory.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// What came: the HTTP version, the authority that was asked for, and the message.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) version: Version,
    pub(crate) authority: String,
    pub(crate) message: Value,
}

/// The server. It answers `initialize` and, by an echo, everything else, but `tools/call`: that gets an event stream
/// which the test writes ([`Self::stream`]).
pub(crate) struct TlsUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<Asked>>>,
    streams: mpsc::Receiver<mpsc::Sender<Bytes>>,
    _tasks: JoinSet<()>,
}

impl TlsUpstream {
    /// Offers these protocols by ALPN.
    pub(crate) async fn start(mut config: ServerConfig, protocols: &[&str]) -> Self {
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let (sender, streams) = mpsc::channel(64);
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let sockets: Arc<AtomicUsize> = Arc::default();
        let mut tasks = JoinSet::new();
        let (record, count) = (Arc::clone(&log), Arc::clone(&sockets));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (acceptor, record) = (acceptor.clone(), Arc::clone(&record));
                let sender = sender.clone();
                open.spawn(async move {
                    // An error means that the client did not like the certificate.
                    let Ok(tls) = acceptor.accept(socket).await else {
                        return;
                    };
                    let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request| {
                        answer(request, Arc::clone(&record), sender.clone())
                    });
                    let io = TokioIo::new(tls);
                    // An error means that the client has gone.
                    let _ = if h2 {
                        http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    } else {
                        http1::Builder::new().serve_connection(io, service).await
                    };
                });
            }
        });
        Self {
            address,
            sockets,
            log,
            streams,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> Uri {
        let url = format!("https://{}/mcp", self.address);
        url.parse().expect("a URL")
    }

    pub(crate) fn log(&self) -> Vec<Asked> {
        self.log.lock().expect("no panic").clone()
    }

    /// The event stream of the next `tools/call`. Dropping it ends the stream.
    pub(crate) async fn stream(&mut self) -> mpsc::Sender<Bytes> {
        super::clock::within("a call", self.streams.recv())
            .await
            .expect("the server runs")
    }
}

async fn answer(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<Asked>>>,
    streams: mpsc::Sender<mpsc::Sender<Bytes>>,
) -> Result<Response<Events>, Infallible> {
    let (head, body) = request.into_parts();
    let authority = head.uri.authority().map(ToString::to_string);
    let host = head.headers.get("host").and_then(|host| host.to_str().ok());
    let authority = authority
        .or_else(|| host.map(str::to_owned))
        .unwrap_or_default();
    // An error means that the client has gone.
    let body = body.collect().await.map(|body| body.to_bytes());
    let message: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    log.lock().expect("no panic").push(Asked {
        version: head.version,
        authority,
        message: message.clone(),
    });
    let mut response = Response::new(Events::default());
    if message.get("id").is_none() {
        *response.status_mut() = hyper::StatusCode::ACCEPTED;
        return Ok(response);
    }
    let (sender, receiver) = mpsc::channel(16);
    let kind = if message["method"] == "tools/call" {
        // An error means that the test is over.
        let _ = streams.send(sender).await;
        response.body_mut().more = Some(receiver);
        "text/event-stream"
    } else {
        let result = match message["method"].as_str() {
            Some("initialize") => json!({"protocolVersion": "2025-11-25", "capabilities": {}}),
            _ => json!({"method": message["method"], "params": message["params"]}),
        };
        let text = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
        response.body_mut().first.push_back(text.into());
        "application/json"
    };
    let kind = kind.parse().expect("a value");
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}

/// A body: what is there already, then what the test sends.
#[derive(Default)]
struct Events {
    first: VecDeque<Bytes>,
    more: Option<mpsc::Receiver<Bytes>>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.more {
            Some(more) => more.poll_recv(cx).map(|data| data.map(Frame::data).map(Ok)),
            None => Poll::Ready(None),
        }
    }
}
