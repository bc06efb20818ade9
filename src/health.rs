//! The probe for containers without a shell: one GET, one line, yes or no.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest that a probe takes.
pub const LIMIT: Duration = Duration::from_secs(3);

/// Asks `url` once. Only a plain 200 is healthy: a ferry does not redirect its health check.
///
/// # Errors
///
/// Why the ferry does not count as healthy, for the operator.
pub async fn probe(url: &Uri) -> Result<(), String> {
    match tokio::time::timeout(LIMIT, ask(url)).await {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => Err(format!("answered {}", status.as_u16())),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

async fn ask(url: &Uri) -> Result<StatusCode, String> {
    let host = url.host().ok_or("the URL has no host")?;
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((plain, url.port_u16().unwrap_or(80)))
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, url.authority().map_or("", |name| name.as_str()))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request);
    // The connection moves only while it is polled. It may end before its answer is picked up, so the answer decides.
    let drive = async {
        connection.await.ok();
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = answer => answer
            .map(|response| response.status())
            .map_err(|error| format!("no answer: {error}")),
        never = drive => match never {},
    }
}
