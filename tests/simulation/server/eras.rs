//! How the model upstream meets what is said in the other era, in the ways of real servers, and how it is replaced by one
//! of the other era.

use std::time::Duration;

use mcp_ferry::proto::bridge::{Body, End};
use mcp_ferry::proto::era::Era;

use crate::books::{Exchange, Kind, Said};
use crate::plan::Taken;
use crate::queue::{Event, Key, Piece};
use crate::world::World;

/// That the revision is not spoken here.
const MODERN_ONLY: &str = r#""error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"?"}}"#;
const HANDSHAKE_ONLY: &str = r#""error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2025-06-18","2025-11-25"]}}"#;

impl World {
    /// The upstream is replaced by one of the other era: nothing of the old one is known to it.
    pub fn on_flips(&mut self) {
        if !self.storm {
            return;
        }
        self.server.modern = !self.server.modern;
        let modern = self.server.modern;
        self.note(usize::MAX, || format!("is replaced, modern: {modern}"));
        self.saw("replaced by another era");
        self.all_is_lost();
        if self.random.percent(50) {
            self.server.up = false;
            let at = self.now + Duration::from_millis(self.random.next() % 4000);
            self.queue.push(at, Event::Started);
        }
    }

    pub(super) fn refuse_other_era(&mut self, key: Key, exchange: &Exchange) {
        self.saw(match self.server.modern {
            true => "modern upstream spoken to as an older one",
            false => "older upstream spoken to as a modern one",
        });
        match self.server.modern {
            true => self.refuse_handshake(key, exchange),
            false => self.refuse_modern(key, exchange),
        }
    }

    fn refuse_handshake(&mut self, key: Key, exchange: &Exchange) {
        let id = &exchange.id;
        let error = |error: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},{error}}}"#);
        match exchange.kind {
            Kind::Initialize => self.refuse_initialize(key, id),
            Kind::Delete | Kind::Listen | Kind::Resume(_) => self.refuse(key, 405, ""),
            Kind::Initialized | Kind::Notice | Kind::Cancel | Kind::Answer(_) => {
                match self.random.percent(50) {
                    true => self.accept(key, 202),
                    false => self.refuse(key, 400, "no"),
                }
            }
            _ => match self.random.below(4) {
                0 | 1 => self.refuse_as_lost(key, 400, &error(MODERN_ONLY)),
                2 => self.refuse_as_lost(
                    key,
                    400,
                    &error(r#""error":{"code":-32020,"message":"header"}"#),
                ),
                _ => self.refuse_as_lost(key, 404, ""),
            },
        }
    }

    fn refuse_initialize(&mut self, key: Key, id: &str) {
        let fixed = self.plan.taken == Taken::Fixed(Era::Handshake);
        let ways = if fixed { 4 } else { 5 };
        let said = match self.random.below(ways) {
            0 => {
                let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{MODERN_ONLY}}}"#);
                return self.refuse(key, 400, &text);
            }
            1 => return self.refuse(key, 400, "Bad Request"),
            2 => MODERN_ONLY,
            3 => r#""error":{"code":-32601,"message":"Method not found"}"#,
            _ => r#""result":{"protocolVersion":"2026-07-28","capabilities":{}}"#,
        };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{said}}}"#);
        self.answer_at_once(key, &text);
    }

    /// A whole answer that tells of the other era, as an event or as JSON.
    pub(super) fn answer_at_once(&mut self, key: Key, text: &str) {
        let (body, bytes) = match self.random.percent(50) {
            true => (Body::Events, format!("data: {text}\n\n")),
            false => (Body::Json, text.to_owned()),
        };
        self.begin(key, 200, None, body);
        let (now, then) = match body {
            Body::Events => (vec![Said::Other], vec![]),
            _ => (vec![], vec![Said::Other]),
        };
        self.reply(key, Piece::Bytes(bytes.into_bytes(), now));
        self.reply(key, Piece::End(End::Complete, then));
    }

    fn refuse_modern(&mut self, key: Key, exchange: &Exchange) {
        let id = &exchange.id;
        let error = |error: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
        match self.random.below(7) {
            _ if exchange.kind == Kind::Notice => self.refuse(key, 400, "no session"),
            0 => self.refuse(
                key,
                400,
                &error(r#"{"code":-32000,"message":"Bad Request: Server not initialized"}"#),
            ),
            1 => self.refuse(
                key,
                400,
                &error(r#"{"code":-32600,"message":"Missing session ID"}"#),
            ),
            2 => self.refuse(
                key,
                400,
                &format!(r#"{{"jsonrpc":"2.0","id":{id},{HANDSHAKE_ONLY}}}"#),
            ),
            3 => self.refuse(key, 404, "Not Found"),
            4 => self.refuse(key, 405, ""),
            5 if exchange.kind == Kind::Discover => self.answer_at_once(
                key,
                &error(r#"{"code":-32601,"message":"Method not found"}"#),
            ),
            _ => self.refuse(key, 400, "Bad Request: no valid session ID provided"),
        }
    }
}
