//! What arrives from the upstream, on its way into a bridge: read while the client reads, turned into replies, and held
//! against what was said.

use bytes::Bytes;
use mcp_ferry::proto::bridge::{CallId, End, Input, Reply};

use crate::books::{Books, Check, Exchange, Kind, Said};
use crate::queue::Piece;
use crate::reading::Reader;
use crate::world::World;

impl World {
    pub fn on_piece(&mut self, number: usize, call: CallId, piece: Piece) -> Check {
        self.connections[number].inbox.push_back((call, piece));
        self.read(number)
    }

    /// Reads what has arrived, while there is room for what may come of it.
    pub fn read(&mut self, number: usize) -> Check {
        loop {
            let connection = &mut self.connections[number];
            let waiting: usize = connection.wire.iter().map(String::len).sum();
            if waiting >= self.plan.client_buffer && !connection.gone {
                if !connection.inbox.is_empty() {
                    self.saw("upstream not read for its client");
                }
                return Ok(());
            }
            let Some((call, piece)) = connection.inbox.pop_front() else {
                return Ok(());
            };
            if connection.books.exchanges.contains_key(&call) {
                self.take_in(number, call, piece)?;
            } else if self.random.percent(30) {
                self.saw("reply behind the end of its exchange");
                self.take_in_late(number, call, piece)?;
            }
        }
    }

    fn take_in(&mut self, number: usize, call: CallId, piece: Piece) -> Check {
        self.note(number, || format!("<< #{} {}", call.0, piece.shown()));
        let limit = self.plan.max_message;
        let connection = &mut self.connections[number];
        match piece {
            Piece::Head {
                status,
                session,
                body,
            } => {
                connection.readers.insert(call, Reader::new(body, limit));
                if let Some(exchange) = connection.books.exchanges.get_mut(&call) {
                    exchange.named.clone_from(&session);
                    if exchange.kind == Kind::Initialized {
                        connection.books.open_gate(call);
                    }
                }
                let session = session.map(Into::into);
                let reply = Reply::Head {
                    status,
                    session,
                    body,
                };
                self.input(number, Input::Reply(call, reply))
            }
            Piece::Refused(refusal, lost) => {
                if let Some(exchange) = connection.books.closed(call) {
                    connection.books.turned_down(&exchange, refusal.status);
                    if lost {
                        connection.books.refused(&exchange);
                    }
                }
                let reply = Reply::Refused(Box::new(refusal));
                self.input(number, Input::Reply(call, reply))
            }
            Piece::Bytes(bytes, said) => {
                let reader = connection.readers.get_mut(&call);
                let replies = reader.map(|it| it.push(&bytes)).unwrap_or_default();
                self.replies(number, call, replies, said)
            }
            Piece::End(end, said) => {
                let reader = connection.readers.remove(&call);
                let replies = reader.unwrap_or(Reader::Silent).finish(end);
                self.replies(number, call, replies, said)
            }
        }
    }

    /// What was read must be what the upstream said, each thing when its last byte came.
    fn replies(
        &mut self,
        number: usize,
        call: CallId,
        replies: Vec<Reply>,
        said: Vec<Said>,
    ) -> Check {
        let mut said = said.into_iter();
        let mut over = false;
        for reply in replies {
            let books = &mut self.connections[number].books;
            if let Reply::Message { event_id, .. } | Reply::Mark { event_id, .. } = &reply
                && let Some(id) = event_id
            {
                books.marked(call, id);
            }
            match &reply {
                Reply::Message { text, .. } => {
                    let Some(said) = said.next() else {
                        return Err(format!("nobody said {text:?}"));
                    };
                    if matches!(&said, Said::Notice(wanted) if text != wanted.as_bytes()) {
                        return Err(format!("read {text:?}, and what was said is {said:?}"));
                    }
                    books.hear(call, &said);
                }
                Reply::Oversized => over = said.next().is_none(),
                Reply::End(end) => {
                    match (books.closed(call), end) {
                        (Some(exchange), End::Unreached(_)) => books.unreached(&exchange),
                        (Some(exchange), End::WrongType(_)) => books.turned_down(&exchange, 415),
                        _ => {}
                    }
                    over |= !matches!(end, End::Complete);
                }
                _ => {}
            }
            self.input(number, Input::Reply(call, reply))?;
        }
        match said.next().filter(|_| !over) {
            Some(said) => Err(format!("{said:?} was said, and not read")),
            None => Ok(()),
        }
    }

    /// Replies that were under way when their exchange was dropped: nothing may come of them.
    fn take_in_late(&mut self, number: usize, call: CallId, piece: Piece) -> Check {
        self.note(number, || {
            format!("<< #{} (over) {}", call.0, piece.shown())
        });
        let text = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/void"}"#);
        let reply = match piece {
            Piece::Head { status, body, .. } => Reply::Head {
                status,
                session: Some("void".into()),
                body,
            },
            Piece::Refused(refusal, _) => Reply::Refused(Box::new(refusal)),
            Piece::Bytes(..) => Reply::Message {
                text,
                event_id: None,
            },
            Piece::End(end, _) => Reply::End(end),
        };
        let now = self.now;
        let bridge = &mut self.connections[number].bridge;
        bridge.handle(Input::Reply(call, reply), now);
        match bridge.poll_output() {
            Some(output) => Err(format!("an exchange that is over brought {output:?}")),
            None => Ok(()),
        }
    }
}

impl Books {
    /// The ferry is told that the session of this exchange is unknown.
    fn refused(&mut self, exchange: &Exchange) {
        let name = exchange.session.as_ref();
        if let Some(session) = name.and_then(|name| self.sessions.get_mut(name)) {
            session.refused = true;
        }
        if let Kind::Request(index) = exchange.kind {
            self.requests[index].pending = false;
        }
    }
}

impl Piece {
    fn shown(&self) -> String {
        match self {
            Self::Bytes(bytes, said) => {
                let text = String::from_utf8_lossy(bytes);
                format!("{text:?}, complete: {said:?}")
            }
            other => format!("{other:?}"),
        }
    }
}
