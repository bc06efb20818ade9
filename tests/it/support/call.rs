//! One request that the scripted upstream left to the test, and the ways to answer it: whole, event by event, in part,
//! or never.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::http::{Wire, chunk};
use super::script::{Left, Script};
use super::upstream::{Answer, Received};

/// A request that waits for the test's answer. Dropping it closes the connection.
pub(crate) struct Call {
    pub(crate) request: Arc<Received>,
    wire: Wire,
    free: oneshot::Sender<Wire>,
}

impl Call {
    pub(super) fn new(request: Arc<Received>, wire: Wire, free: oneshot::Sender<Wire>) -> Self {
        Self {
            request,
            wire,
            free,
        }
    }

    /// Answers whole; the connection is used again.
    pub(crate) async fn answer(mut self, answer: Answer) {
        self.wire.write(&answer.0).await;
        let _ = self.free.send(self.wire);
    }

    /// Answers whole and closes the connection without a word, as servers do with idle ones.
    pub(crate) async fn answer_and_close(mut self, answer: Answer) {
        self.wire.write(&answer.0).await;
    }

    /// The JSON text of the request's id.
    pub(crate) fn id(&self) -> String {
        self.request.json()["id"].to_string()
    }

    /// Answers with a JSON result.
    pub(crate) async fn result(self, result: &Value) {
        let id = self.request.json()["id"].clone();
        self.answer(Answer::json(
            &json!({"jsonrpc": "2.0", "id": id, "result": result}),
        ))
        .await;
    }

    /// Begins an event stream.
    pub(crate) async fn events(self) -> Events {
        self.events_with(&[("Content-Type", "text/event-stream")])
            .await
    }

    pub(crate) async fn events_with(mut self, headers: &[(&str, &str)]) -> Events {
        let mut text = "HTTP/1.1 200 Scripted\r\nTransfer-Encoding: chunked\r\n".to_owned();
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.wire.write(text.as_bytes()).await;
        Events(self)
    }

    /// Writes bytes as they are; the connection stays open until the call is dropped.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write(bytes.as_ref()).await;
    }

    /// Writes what the other side need not take to the end.
    pub(crate) async fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        // An error means that it has taken enough.
        let _ = self.wire.socket.write_all(bytes.as_ref()).await;
    }

    /// Plays a script on the connection, which is used again if the script leaves it open.
    pub(crate) async fn play(mut self, script: &str) {
        let id = self.id();
        if Script::parse(script).play(&mut self.wire, id).await == Left::Open {
            let _ = self.free.send(self.wire);
        }
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        // Closing with a lingering time of zero makes the kernel send RST instead of FIN.
        socket2::SockRef::from(&self.wire.socket)
            .set_linger(Some(Duration::ZERO))
            .expect("linger");
    }

    /// Waits until the other side has given this exchange up.
    pub(crate) async fn abandoned(mut self) {
        self.wire.closed().await;
    }
}

/// An event stream under way. Dropping it cuts it off: the last chunk is missing.
pub(crate) struct Events(Call);

impl Events {
    pub(crate) fn request(&self) -> &Received {
        &self.0.request
    }

    /// Sends one event with this data.
    pub(crate) async fn send(&mut self, message: &Value) {
        self.raw(format!("event: message\ndata: {message}\n\n"))
            .await;
    }

    /// Sends this text as one chunk.
    pub(crate) async fn raw(&mut self, text: impl AsRef<[u8]>) {
        self.0.wire.write(&chunk(text.as_ref())).await;
    }

    /// Lets the kernel hold little of what is sent.
    pub(crate) fn narrow(&self) {
        socket2::SockRef::from(&self.0.wire.socket)
            .set_send_buffer_size(64 << 10)
            .expect("a buffer size");
    }

    /// Sends an event, however long that takes. `false` when the other side has given up.
    pub(crate) async fn push(&mut self, message: &str) -> bool {
        let event = chunk(format!("data: {message}\n\n").as_bytes());
        self.0.wire.socket.write_all(&event).await.is_ok()
    }

    /// Sends the result of the request.
    pub(crate) async fn result(&mut self, result: &Value) {
        let id = self.request().json()["id"].clone();
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
            .await;
    }

    /// Ends the stream; the connection is used again.
    pub(crate) async fn end(mut self) {
        self.0.wire.write(b"0\r\n\r\n").await;
        let _ = self.0.free.send(self.0.wire);
    }

    pub(crate) fn reset(self) {
        self.0.reset();
    }

    pub(crate) async fn abandoned(self) {
        self.0.abandoned().await;
    }
}
