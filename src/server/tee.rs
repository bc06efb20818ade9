//! Showing passed-through traffic on the tap: pieces of a body as they go by, copied, neither held nor changed.
//!
//! Nothing is parsed here and nothing waits; what the pieces mean is found out by the tap's recorder.

use std::sync::Arc;

use hyper::header::HeaderMap;
use hyper::http::request;

use super::Server;
use super::socket::Socket;
use crate::tap::{Bus, Head, Passing, What};
use crate::upstream::UploadWatch;

/// One passed-through request that is watched. Its end is told when it is dropped.
#[derive(Debug)]
pub(super) struct Tee {
    bus: Arc<Bus>,
    number: u64,
    why: Option<String>,
}

impl Tee {
    /// A request begins to pass; `None` when nobody watches.
    pub(super) fn begin(server: &Server, head: &request::Parts, socket: &Socket) -> Option<Self> {
        let bus = &server.shared.bus;
        let Some(head) = bus.head(head) else {
            bus.pass_unseen();
            return None;
        };
        let peer = server.forwarding.client(&head.headers, socket.peer);
        let tee = Self {
            number: bus.next_pass(),
            bus: Arc::clone(bus),
            why: Some("the client gave it up".to_owned()),
        };
        tee.say(Passing::Began { peer, head });
        Some(tee)
    }

    /// What the client's body is shown to.
    pub(super) fn upload(&self) -> UploadWatch {
        let (bus, number) = (Arc::clone(&self.bus), self.number);
        UploadWatch::new(move |piece| {
            bus.emit(|keep| {
                let piece = piece.map(|piece| Passing::Upload(keep.piece(piece)));
                What::Passing(number, piece.unwrap_or(Passing::Sent))
            });
        })
    }

    /// The upstream's answer begins.
    pub(super) fn status(&self, status: u16, headers: &HeaderMap) {
        let headers = Arc::new(headers.clone());
        self.say(Passing::Status { status, headers });
    }

    /// A piece of the upstream's body.
    pub(super) fn download(&self, piece: &[u8]) {
        if !piece.is_empty() {
            let piece = |keep: crate::tap::Keep| Passing::Download(keep.piece(piece));
            self.bus
                .emit(|keep| What::Passing(self.number, piece(keep)));
        }
    }

    /// How it ends, unless the client goes first.
    pub(super) fn ends(&mut self, why: Option<String>) {
        self.why = why;
    }

    fn say(&self, what: Passing) {
        self.bus.emit(|_| What::Passing(self.number, what));
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let why = self.why.take();
        self.say(Passing::Ended { why });
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
