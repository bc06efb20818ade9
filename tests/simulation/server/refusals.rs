//! What the model upstream does wrong before it answers.

use bytes::Bytes;
use mcp_ferry::proto::bridge::{Body, End, Refusal};

use crate::books::{Check, Exchange, Kind, Said};
use crate::queue::{Key, Piece};
use crate::world::World;

/// Whether the request may have run, although its answer is no answer.
enum Runs {
    Never,
    Maybe,
}

impl World {
    pub(super) fn refuse(&mut self, key: Key, status: u16, body: &str) {
        self.refuse_with(key, status, body, false);
    }

    fn refuse_with(&mut self, key: Key, status: u16, body: &str, lost: bool) {
        let challenges = match status {
            401 | 403 if !lost => vec![b"Bearer".to_vec()],
            _ => vec![],
        };
        let refusal = Refusal {
            status,
            challenges,
            retry_after: matches!(status, 429 | 503)
                .then(|| *self.random.pick(&[None, Some(1), Some(4), Some(90)])?)
                .flatten(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..Refusal::default()
        };
        self.reply(key, Piece::Refused(refusal, lost));
    }

    /// The request is not taken, and its session, if any, is none.
    pub(super) fn refuse_as_lost(&mut self, key: Key, status: u16, body: &str) {
        self.refuse_with(key, status, body, true);
    }

    /// A session that the server does not know, in the words of several servers.
    pub(super) fn refuse_session(&mut self, key: Key) {
        let (status, body) = *self
            .random
            .pick(&[
                (404, ""),
                (404, r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}"#),
                (400, r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}"#),
                (400, r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}"#),
                (401, "Unauthorized: Session not found"),
            ])
            .unwrap_or(&(404, ""));
        self.refuse_with(key, status, body, true);
    }

    /// Something goes wrong with an exchange before there is an answer, or instead of one.
    pub(super) fn fail(&mut self, key: Key, exchange: &Exchange) -> Check {
        let choice = self.random.below(20);
        let runs = match choice {
            0 | 5..=12 => Runs::Never,
            _ => Runs::Maybe,
        };
        if let (Some(index), Runs::Maybe) = (exchange.request, runs)
            && !matches!(exchange.kind, Kind::Resume(_))
            && self.random.percent(60)
        {
            self.execute(key.0, index)?;
        }
        let error = r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"busy"}}"#;
        match choice {
            0 => {
                let end = End::Unreached("no route".to_owned());
                self.reply(key, Piece::End(end, vec![]));
            }
            1 => self.break_off(key),
            2 => self.refuse(key, 500, "oops"),
            3 => self.refuse(key, 503, error),
            4 => self.refuse(key, 503, ""),
            5 | 6 => self.refuse(key, 401, "who?"),
            7 => self.refuse(key, 403, "you?"),
            8 | 9 => self.refuse(key, 429, "slow down"),
            10 => self.refuse(key, 400, error),
            11 => self.refuse(key, 302, ""),
            12 => self.refuse(key, 405, "<html>"),
            13 => self.refuse(key, 409, "conflict"),
            14 => self.refuse(key, 502, "<html>bad gateway</html>"),
            15 => {
                self.begin(key, 200, None, Body::Other);
                let end = End::WrongType("text/html".to_owned());
                self.reply(key, Piece::End(end, vec![]));
            }
            16 => {
                self.begin(key, 202, None, Body::Other);
                self.reply(key, Piece::End(End::Complete, vec![]));
            }
            _ => self.bad_json(key),
        }
        Ok(())
    }

    /// A JSON text that is none, too large, empty, or cut.
    fn bad_json(&mut self, key: Key) {
        self.begin(key, 200, None, Body::Json);
        let bytes = |text: &str| Piece::Bytes(text.as_bytes().to_vec(), vec![]);
        let end = End::Complete;
        match self.random.below(4) {
            0 => {
                self.reply(key, bytes("<html>"));
                self.reply(key, Piece::End(end, vec![Said::Noise]));
            }
            1 => {
                let large = "x".repeat(self.plan.max_message + 1);
                self.reply(key, bytes(&large));
                self.reply(key, Piece::End(end, vec![]));
            }
            2 => self.reply(key, Piece::End(end, vec![])),
            _ => {
                self.reply(key, bytes(r#"{"jsonrpc":"2.0","id":1,"result":{"#));
                self.break_off(key);
            }
        }
    }
}
