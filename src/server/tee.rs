//! Showing passed-through traffic on the tap: pieces of a body as they go by, copied, neither held nor changed.
//!
//! Nothing is parsed here and nothing waits; what the pieces mean is found out by the tap's recorder.

use std::sync::Arc;

use hyper::header::HeaderMap;
use hyper::http::request;

use super::Server;
use super::socket::Socket;
use crate::tap::{CLIENT_LEFT, Head, Pass, Passing, What};
use crate::upstream::UploadWatch;

/// One passed-through request that is watched. Its end is told when it is dropped.
#[derive(Debug)]
pub(super) struct Tee {
    pass: Pass,
    why: Option<String>,
}

impl Tee {
    /// A request begins to pass; `None` when nobody watches, or it is one too many.
    pub(super) fn begin(server: &Server, head: &request::Parts, socket: &Socket) -> Option<Self> {
        let tee = Self {
            pass: server.shared.bus.pass()?,
            why: Some(CLIENT_LEFT.to_owned()),
        };
        tee.pass.say(Passing::Began {
            peer: server.forwarding.client(&head.headers, socket.peer),
            head: Head::of_parts(head),
        });
        Some(tee)
    }

    /// What the client's body is shown to.
    pub(super) fn upload(&self) -> UploadWatch {
        let pass = self.pass.clone();
        UploadWatch::new(move |piece| match piece {
            Some(piece) => pass.piece(|keep| Passing::Upload(keep.piece(piece))),
            None => pass.say(Passing::Sent),
        })
    }

    /// The upstream's answer begins.
    pub(super) fn status(&self, status: u16, headers: &HeaderMap) {
        self.pass.say(Passing::Status {
            status,
            headers: Arc::new(headers.clone()),
        });
    }

    /// A piece of the upstream's body.
    pub(super) fn download(&self, piece: &[u8]) {
        if !piece.is_empty() {
            self.pass.piece(|keep| Passing::Download(keep.piece(piece)));
        }
    }

    /// How it ends, unless the client goes first.
    pub(super) fn ends(&mut self, why: Option<String>) {
        self.why = why;
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let why = self.why.take();
        self.pass.say(Passing::Ended { why });
    }
}

impl Server {
    /// Shows a request that was refused.
    pub(super) fn show_refusal(
        &self,
        head: Option<Arc<Head>>,
        socket: &Socket,
        status: u16,
        why: &dyn std::fmt::Display,
    ) {
        let Some(head) = head else { return };
        let peer = self.forwarding.client(&head.headers, socket.peer);
        self.shared.bus.emit(|_| What::Refused {
            peer,
            head,
            status,
            why: why.to_string(),
        });
    }
}
