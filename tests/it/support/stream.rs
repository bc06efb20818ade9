//! An event stream as the ferry writes it, read off a socket byte by byte: anything but the narrow form that all known
//! clients accept fails the test.

use bytes::BytesMut;
use serde_json::Value;

use super::clock::within;
use super::http::{Closed, Wire, find};

/// One piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An `endpoint` event.
    Endpoint(String),
    /// A `message` event: the text of its one data line.
    Message(String),
    /// A comment line.
    KeepAlive,
    /// The last chunk: the stream ended cleanly.
    End,
}

/// The stream, whose head was read.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) wire: Wire,
    text: BytesMut,
    /// How much of `text` holds no end of an event.
    searched: usize,
    /// Whether messages may have event ids, as they do only where the ferry has keys.
    pub(crate) takes_ids: bool,
    /// The event id of the message that was read last, where it had one; an empty one takes back the last.
    pub(crate) event_id: Option<String>,
}

impl Stream {
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire,
            text: BytesMut::new(),
            searched: 0,
            takes_ids: false,
            event_id: None,
        }
    }

    /// The next piece of the stream.
    pub(crate) async fn next(&mut self) -> Item {
        within("something on the stream", self.try_next())
            .await
            .expect("the stream ends with its last chunk")
    }

    /// The same without a bound, for whoever has one; an `Err` says that the stream broke off.
    pub(crate) async fn try_next(&mut self) -> Result<Item, Closed> {
        loop {
            if let Some(item) = self.take() {
                return Ok(item);
            }
            match self.wire.chunk().await? {
                Some(data) => self.text.extend_from_slice(&data),
                None => {
                    assert!(
                        self.text.is_empty(),
                        "ended within an event: {:?}",
                        self.text
                    );
                    return Ok(Item::End);
                }
            }
        }
    }

    fn take(&mut self) -> Option<Item> {
        if self.text.starts_with(b":") {
            if self.text.len() < 2 {
                return None;
            }
            assert_eq!(&self.text[..2], b":\n", "{:?}", self.text);
            let _ = self.text.split_to(2);
            // A comment followed by an empty line would stall Java clients for good.
            assert!(!self.text.starts_with(b"\n"), "{:?}", self.text);
            return Some(Item::KeepAlive);
        }
        let Some(end) = find(&self.text[self.searched..], b"\n\n") else {
            self.searched = self.text.len().saturating_sub(1);
            return None;
        };
        let end = end + std::mem::take(&mut self.searched);
        let block = self.text.split_to(end + 2);
        let text = std::str::from_utf8(&block[..end]).expect("UTF-8");
        let lines: Vec<&str> = text.split('\n').collect();
        assert!(!text.contains('\r'), "{text:?}");
        let (event, id, data) = match lines[..] {
            [event, data] => (event, None, data),
            [event @ "event: message", id, data] if self.takes_ids => {
                let id = id.strip_prefix("id: ").expect("an id line");
                (event, Some(id.to_owned()), data)
            }
            _ => panic!("an event of {} lines: {text:?}", lines.len()),
        };
        self.event_id = id;
        let data = data.strip_prefix("data: ").expect("a data line").to_owned();
        match event {
            "event: endpoint" => {
                // An id that is not 64 digits is a sealed one, and where there are keys there are event ids.
                let id = data.split_once("sessionId=").map(|(_, id)| id.len());
                self.takes_ids |= id.is_some_and(|length| length != 64);
                Some(Item::Endpoint(data))
            }
            "event: message" => Some(Item::Message(data)),
            _ => panic!("an event of another kind: {text:?}"),
        }
    }

    /// The text of the next message, keep-alives passed over. They are no reason to wait for longer.
    pub(crate) async fn text(&mut self) -> String {
        let text = async {
            loop {
                match self.try_next().await {
                    Ok(Item::Message(text)) => return text,
                    Ok(Item::KeepAlive) => {}
                    other => panic!("{other:?} instead of a message"),
                }
            }
        };
        within("a message on the stream", text).await
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).expect("JSON")
    }

    /// The stream must end cleanly, after keep-alives at most.
    pub(crate) async fn ended(&mut self) {
        loop {
            match self.next().await {
                Item::End => return,
                Item::KeepAlive => {}
                other => panic!("{other:?} instead of the end"),
            }
        }
    }
}
