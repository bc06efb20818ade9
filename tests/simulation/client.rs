//! The model clients: what they post, when they stop reading, how they go and come back.

use std::time::Duration;

use bytes::Bytes;
use mcp_ferry::proto::bridge::{Input, PostId, Posted};
use mcp_ferry::proto::jsonrpc::Message;
use serde_json::Value;

use crate::books::{Check, Does, Post};
use crate::queue::Event;
use crate::random::Random;
use crate::world::World;

#[derive(Debug)]
pub struct Client {
    /// How many things it will still do of its own accord.
    acts: usize,
    shakes_hands: bool,
    last_post: u64,
}

impl Client {
    pub fn new(returns: bool, acts: usize, random: &mut Random) -> Self {
        Self {
            acts,
            shakes_hands: random.percent(if returns { 30 } else { 85 }),
            last_post: 0,
        }
    }
}

impl World {
    /// A client connects; it does the first thing at once.
    pub fn on_connects(&mut self, returns: bool) -> Check {
        if !self.storm || self.drained {
            return Ok(());
        }
        let number = self.open(returns);
        self.note(number, || "> connects".to_owned());
        if self.connections[number].client.shakes_hands {
            self.initialize(number)?;
        }
        self.acts_later(number);
        if self.random.percent(3) {
            let at = self.now + Duration::from_millis(self.random.next() % 20_000);
            self.queue.push(at, Event::Ages(number));
        }
        Ok(())
    }

    fn acts_later(&mut self, number: usize) {
        let millis = match self.random.below(20) {
            0..8 => 20,
            8..16 => 800,
            16..19 => 5_000,
            _ => 40_000,
        };
        let at = self.now + Duration::from_millis(self.random.next() % millis);
        self.queue.push(at, Event::Acts(number));
    }

    /// The client does something of its own accord.
    pub fn on_acts(&mut self, number: usize) -> Check {
        let connection = &mut self.connections[number];
        if !self.storm || connection.client.acts == 0 {
            return Ok(());
        }
        connection.client.acts -= 1;
        if connection.gone {
            // One that was on its way when the stream ended.
            connection.client.acts = 0;
            let text = self.notification(number, "notifications/late");
            return self.post(number, &[text], false, vec![]);
        }
        self.acts_later(number);
        match self.random.below(100) {
            0..50 => {
                let (index, text) = self.request_text(number);
                self.post(number, &[text], false, vec![index])
            }
            50..57 => {
                let text = self.notification(number, "notifications/roots/list_changed");
                self.post(number, &[text], false, vec![])
            }
            57..60 => self.on_confirms(number),
            60..72 => self.cancel(number),
            72 => self.post_stale_answer(number),
            73..78 => self.batch(number),
            78..80 => self.initialize(number),
            80..83 => self.duplicate(number),
            83 => self.discover(number),
            84 => self.on_answers(number, "\"ferry:9999\""),
            85 if self.random.percent(15) => self.flood(number),
            86..93 => {
                self.connections[number].reads = false;
                self.note(number, || "> does not read".to_owned());
                let time = *self.random.pick(&[200, 5_000, 60_000]).unwrap_or(&0);
                let at = self.now + Duration::from_millis(time);
                self.queue.push(at, Event::Reads(number));
                Ok(())
            }
            93..96 => {
                self.note(number, || "> gone".to_owned());
                if self.random.percent(70) {
                    let at = self.now + Duration::from_millis(self.random.next() % 3000);
                    self.queue.push(at, Event::Connects(true));
                }
                self.goes(number)
            }
            _ => Ok(()),
        }
    }

    /// Much of the same at once, to reach the bounds of every list.
    fn flood(&mut self, number: usize) -> Check {
        match self.random.below(3) {
            0 => (0..40).try_for_each(|_| {
                let (index, text) = self.request_text(number);
                self.post(number, &[text], false, vec![index])
            }),
            1 => (0..300).try_for_each(|_| {
                let text = self.notification(number, "notifications/progress");
                self.post(number, &[text], false, vec![])
            }),
            _ => (0..12).try_for_each(|_| self.initialize(number)),
        }
    }

    /// A message reaches the client: it may have to do something about it.
    pub fn on_arrives(&mut self, number: usize, text: &str) -> Check {
        if self.connections[number].gone {
            return Ok(());
        }
        let message: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let thinks = Duration::from_millis(self.random.next() % 500) + self.latency();
        let at = self.now + thinks;
        if message["method"].is_string() && message["id"].is_string() {
            if !self.faults || self.random.percent(80) {
                let id = message["id"].to_string();
                self.queue.push(at, Event::Answers(number, id));
            }
        } else if message["result"]["protocolVersion"].is_string() {
            self.queue.push(at, Event::Confirms(number));
        }
        Ok(())
    }

    /// The client shakes hands, as it should at first.
    pub fn initialize(&mut self, number: usize) -> Check {
        let versions = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
        let version = *self.random.pick(&versions).unwrap_or(&"");
        let capabilities = match self.random.below(8) {
            0 => "{}",
            1 => r#"{"sampling":{}}"#,
            _ => r#"{"sampling":{},"elicitation":{},"roots":{"listChanged":true}}"#,
        };
        let index = self.request(number, true, true);
        let books = &mut self.connections[number].books;
        books.initializes(index, version);
        let request = &self.connections[number].books.requests[index];
        let (id, nonce) = (&request.id, &request.nonce);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"n":"{nonce}"}}}}"#
        );
        self.post(number, &[text], false, vec![index])
    }

    pub fn on_confirms(&mut self, number: usize) -> Check {
        let text = self.notification(number, "notifications/initialized");
        self.post(number, &[text], false, vec![])
    }

    fn notification(&mut self, number: usize, method: &str) -> String {
        let nonce = self.connections[number].books.post_nonce();
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"n":"{nonce}"}}}}"#)
    }

    fn request(&mut self, number: usize, initialize: bool, safe: bool) -> usize {
        let first = self.random.below(9);
        let books = &mut self.connections[number].books;
        books.request(first, initialize, safe)
    }

    fn request_text(&mut self, number: usize) -> (usize, String) {
        let methods = [
            ("tools/call", false),
            ("tools/call", false),
            ("vendor/thing", false),
            ("tools/list", true),
            ("prompts/get", true),
            ("resources/read", true),
            ("logging/setLevel", true),
            ("resources/subscribe", true),
            ("resources/subscribe", true),
            ("resources/unsubscribe", true),
            ("ping", true),
            ("vendor/größe", false),
        ];
        let (method, safe) = *self.random.pick(&methods).unwrap_or(&("", false));
        let index = self.request(number, false, safe);
        let uri = format!("u:{}", index % 3);
        let name = *self.random.pick(&["region", "plain"]).unwrap_or(&"");
        let value = *self
            .random
            .pick(&["west", "größer", " =?base64?"])
            .unwrap_or(&"");
        let level = *self.random.pick(&["debug", "error"]).unwrap_or(&"");
        let more = match method {
            "tools/call" => format!(r#""name":"{name}","arguments":{{"region":"{value}"}},"#),
            "prompts/get" => format!(r#""name":"{value}","#),
            "logging/setLevel" => format!(r#""level":"{level}","#),
            _ => format!(r#""uri":"{uri}","#),
        };
        let more = match self.random.percent(3) {
            true => format!(r#"{more}"requestState":"mine","inputResponses":{{}},"#),
            false => more,
        };
        let books = &mut self.connections[number].books;
        if method == "resources/subscribe" {
            books.subscribed.insert(uri.clone());
        }
        let request = &mut books.requests[index];
        request.method = method.to_owned();
        request.detail = if method == "logging/setLevel" {
            level.to_owned()
        } else {
            uri
        };
        let (id, nonce) = (&request.id, &request.nonce);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{more}"n":"{nonce}"}}}}"#
        );
        (index, text)
    }

    fn batch(&mut self, number: usize) -> Check {
        let (mut texts, mut indexes) = (Vec::new(), Vec::<usize>::new());
        for _ in 0..self.random.below(4) {
            let (index, text) = self.request_text(number);
            let requests = &self.connections[number].books.requests;
            if indexes
                .iter()
                .all(|other| requests[*other].id != requests[index].id)
            {
                texts.push(text);
                indexes.push(index);
            }
            texts.push(self.notification(number, "notifications/progress"));
        }
        self.post(number, &texts, true, indexes)
    }

    fn duplicate(&mut self, number: usize) -> Check {
        let books = &self.connections[number].books;
        let Some(id) = books.live.keys().next().cloned() else {
            return Ok(());
        };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        self.post(number, &[text], false, vec![])?;
        let connection = &self.connections[number];
        let held = connection.books.posts.keys();
        match held.last() == Some(&connection.client.last_post) {
            true => Err("a duplicate id was not refused at once".to_owned()),
            false => Ok(()),
        }
    }

    fn discover(&mut self, number: usize) -> Check {
        let index = self.request(number, false, true);
        let id = &self.connections[number].books.requests[index].id;
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover"}}"#);
        self.post(number, &[text], false, vec![index])
    }

    fn cancel(&mut self, number: usize) -> Check {
        let books = &mut self.connections[number].books;
        let ids: Vec<String> = books.live.keys().cloned().collect();
        let id = match self.random.pick(&ids).cloned() {
            Some(id) if self.random.percent(90) => id,
            _ => "77".to_owned(),
        };
        let nonce = books.nonce();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"n":"{nonce}"}}}}"#
        );
        let does = books.cancelled(&id);
        self.post_with(number, &[text], false, vec![], does)
    }

    /// The client answers a question, or something that nobody asked.
    pub fn on_answers(&mut self, number: usize, id: &str) -> Check {
        let shape = self.random.below(10);
        let books = &mut self.connections[number].books;
        let nonce = books.nonce();
        let does = books.answers(id, &nonce, shape < 7);
        let said = match shape {
            0..7 => format!(r#""result":{{"n":"{nonce}"}}"#),
            7 => format!(r#""result":["{nonce}"]"#),
            _ => format!(r#""error":{{"code":-1,"message":"no","data":{{"n":"{nonce}"}}}}"#),
        };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{said}}}"#);
        if self.faults && self.random.percent(10) {
            // Twice, or late: nobody asks any more.
            let at = self.now + Duration::from_millis(self.random.next() % 4000);
            self.queue.push(at, Event::Answers(number, id.to_owned()));
        }
        self.post_with(number, &[text], false, vec![], does)
    }

    fn post_stale_answer(&mut self, number: usize) -> Check {
        let id = format!("\"ferry:{}\"", self.random.below(8) + 1);
        self.on_answers(number, &id)
    }

    /// With the storm over, every question is answered in the end.
    pub fn answer_all(&mut self) {
        for number in 0..self.connections.len() {
            for id in self.connections[number].books.asked.keys() {
                self.queue
                    .push(self.now, Event::Answers(number, id.clone()));
            }
        }
    }

    fn post(&mut self, number: usize, texts: &[String], batch: bool, indexes: Vec<usize>) -> Check {
        self.post_with(number, texts, batch, indexes, Does::Nothing)
    }

    fn post_with(
        &mut self,
        number: usize,
        texts: &[String],
        batch: bool,
        indexes: Vec<usize>,
        does: Does,
    ) -> Check {
        let credential = if self.random.percent(90) { 1 } else { 2 };
        let now = self.now;
        let connection = &mut self.connections[number];
        connection.client.last_post += 1;
        let post = connection.client.last_post;
        let held = Post {
            since: now,
            credential,
            requests: indexes,
            messages: texts.len(),
            does,
        };
        connection.books.posted(held, post);
        self.note(number, || format!("> p{post} cred={credential} {texts:?}"));
        let parse = |text: &String| Message::parse(Bytes::copy_from_slice(text.as_bytes()));
        let messages: Result<Vec<Message>, _> = texts.iter().map(parse).collect();
        let posted = Posted {
            post: PostId(post),
            messages: messages.map_err(|error| error.to_string())?,
            batch,
            credential,
            version: None,
            context: (number, credential),
        };
        self.input(number, Input::Posted(posted))
    }
}
