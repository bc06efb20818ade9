//! What a passing request is, once its body has come: which exchange it begins, or which it settles.

use std::sync::Arc;

use hyper::Method;
use tokio::time::Instant;

use super::body::coding;
use super::{Passage, leg};
use crate::proto::era::METHOD_HEADER;
use crate::tap::record::{Direction, Kind, MessageKind, Outcome, Party};
use crate::tap::recorder::Recorder;
use crate::tap::recorder::translated::{outcome, read};
use crate::tap::summary::{Read, short};
use crate::tap::{Head, Text};

impl Recorder {
    /// The client's part is known: whose it is, and what.
    pub(super) fn request_passed(&mut self, number: u64, passage: &mut Passage) {
        let at = passage.began;
        let text = passage.upload.text();
        let coding = coding(&passage.head.headers).filter(|_| text.size > 0);
        let mut read = match coding {
            Some(_) => Read::default(),
            None => read(&text),
        };
        name_by_headers(&mut read, &passage.head);
        let label = self.client_of(passage, &read);
        passage.label = Some(Arc::clone(&label));
        passage.exchange = self.exchange_of(at, passage, &label, &read, &text);
        self.called(at, passage.exchange);
        let leg = leg(passage, number, Party::Client);
        let mut record = match coding {
            Some(coding) => {
                let mut record = self.unread(at, leg, text.size, &coding);
                record.message = Some(read.summary);
                self.redact_summary(&mut record);
                record
            }
            None if text.size > 0 => self.message(at, leg, &text, read),
            None => self.record_on(at, Kind::Message, leg),
        };
        record.purpose = match passage.head.method {
            Method::GET => Some("listen".to_owned()),
            Method::DELETE => Some("farewell".to_owned()),
            _ => None,
        };
        record.http = Some(self.head(&passage.head));
        self.push(record);
    }

    fn exchange_of(
        &mut self,
        at: Instant,
        passage: &Passage,
        label: &Arc<str>,
        read: &Read,
        text: &Text,
    ) -> Option<u64> {
        let begin = |recorder: &mut Self| {
            recorder.begin(at, label, Direction::ToServer, &read.summary, text.size)
        };
        match read.summary.kind {
            MessageKind::Request | MessageKind::Notification => Some(begin(self)),
            MessageKind::Batch => {
                let mut summary = read.summary.clone();
                summary.kind = MessageKind::Request;
                summary.method = Some("batch".to_owned());
                Some(self.begin(at, label, Direction::ToServer, &summary, text.size))
            }
            MessageKind::Result | MessageKind::Error => {
                self.client_answered(at, label, read, text.size)
            }
            // A GET or DELETE has no message and needs none.
            MessageKind::Unknown if text.size == 0 && passage.head.method != Method::POST => None,
            MessageKind::Unknown => {
                let (head, outcome) = (&passage.head, Outcome::Open);
                Some(self.begin_unread(at, Some(label), head, text.size, outcome))
            }
        }
    }

    /// The client answers what the server asked.
    fn client_answered(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        read: &Read,
        size: usize,
    ) -> Option<u64> {
        let connection = self.connections.get_mut(label);
        let asked = connection
            .zip(read.id.as_ref())
            .and_then(|(connection, id)| connection.answered_to_server(id));
        self.settle(at, asked, outcome(read), read.summary.code, size);
        asked
    }
}

/// A message that was cut or compressed has lost its method; a modern request repeats it in its headers.
fn name_by_headers(read: &mut Read, head: &Head) {
    let header = |name: &str| {
        let value = head.headers.get(name)?.to_str().ok()?;
        Some(short(value.to_owned()))
    };
    if read.summary.method.is_none()
        && read.summary.kind == MessageKind::Unknown
        && let Some(method) = header(METHOD_HEADER)
    {
        // The names of all notifications begin so.
        read.summary.kind = match method.starts_with("notifications/") {
            true => MessageKind::Notification,
            false => MessageKind::Request,
        };
        read.summary.method = Some(method);
        read.summary.name = header("mcp-name");
    }
}
