//! What the model client does.

use bytes::Bytes;
use mcp_ferry::proto::bridge::{Input, PostId, Posted};
use mcp_ferry::proto::jsonrpc::Message;

use super::{Check, Fate, Request, World};

impl World {
    /// The client does something.
    pub fn client(&mut self) -> Check {
        match self.random.below(100) {
            0..45 => {
                let (index, text) = self.request_text();
                self.post(&[text], false, vec![index])
            }
            45..55 => {
                let text = self.notification("notifications/roots/list_changed");
                self.post(&[text], false, vec![])
            }
            55..63 => {
                let text = self.notification("notifications/initialized");
                self.post(&[text], false, vec![])
            }
            63..75 => self.cancel(),
            75..93 => self.answer(),
            93..97 => self.batch(),
            97 => self.initialize(),
            98 => self.duplicate(),
            _ => self.discover(),
        }
    }

    /// The client shakes hands, as it should at first.
    pub fn initialize(&mut self) -> Check {
        let versions = ["2024-11-05", "2025-03-26", "2025-06-18"];
        let version = *self.random.pick(&versions).unwrap_or(&"");
        let (index, id) = self.request(true, true);
        let nonce = &self.requests[index].nonce;
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{version}","n":"{nonce}"}}}}"#
        );
        self.post(&[text], false, vec![index])
    }

    fn notification(&mut self, method: &str) -> String {
        let nonce = self.nonce();
        self.posted.push(nonce.clone());
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"n":"{nonce}"}}}}"#)
    }

    /// A new request in the books. Its id is one that is not in flight, from few, so that ids are used again.
    fn request(&mut self, initialize: bool, safe: bool) -> (usize, String) {
        let nonce = self.nonce();
        let mut id = self.random.below(9);
        while self.live.contains_key(&id.to_string()) || self.loose.contains_key(&id.to_string()) {
            id += 1;
        }
        let id = id.to_string();
        self.posted.push(nonce.clone());
        self.requests.push(Request {
            nonce,
            id: id.clone(),
            initialize,
            safe,
            fate: Fate::NotTaken,
            executed: 0,
            promised: false,
            sent_on: None,
        });
        (self.requests.len() - 1, id)
    }

    fn request_text(&mut self) -> (usize, String) {
        let methods = [
            "tools/call",
            "tools/list",
            "logging/setLevel",
            "resources/subscribe",
            "vendor/thing",
        ];
        let method = *self.random.pick(&methods).unwrap_or(&"");
        let (index, id) = self.request(false, !matches!(method, "tools/call" | "vendor/thing"));
        let (nonce, uri) = (&self.requests[index].nonce, index % 3);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"uri":"u:{uri}","n":"{nonce}"}}}}"#
        );
        (index, text)
    }

    fn batch(&mut self) -> Check {
        let (mut texts, mut indexes) = (Vec::new(), Vec::new());
        for _ in 0..self.random.below(4) {
            let (index, text) = self.request_text();
            let id = &self.requests[index].id;
            if indexes
                .iter()
                .all(|other: &usize| self.requests[*other].id != *id)
            {
                texts.push(text);
                indexes.push(index);
            }
            texts.push(self.notification("notifications/progress"));
        }
        self.post(&texts, true, indexes)
    }

    fn duplicate(&mut self) -> Check {
        let Some(id) = self.live.keys().next().cloned() else {
            return Ok(());
        };
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"ping","params":{{"n":"{}-dup"}}}}"#,
            self.tag
        );
        self.post(&[text], false, vec![])?;
        match self.posts.contains_key(&self.last_post) {
            true => Err("a duplicate id was not refused at once".to_owned()),
            false => Ok(()),
        }
    }

    fn discover(&mut self) -> Check {
        let (index, id) = self.request(false, true);
        self.post(
            &[format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover"}}"#
            )],
            false,
            vec![index],
        )
    }

    fn cancel(&mut self) -> Check {
        let ids: Vec<String> = self.live.keys().cloned().collect();
        let id = match self.random.pick(&ids).cloned() {
            Some(id) if self.random.percent(90) => id,
            _ => "77".to_owned(),
        };
        let nonce = self.nonce();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"n":"{nonce}"}}}}"#
        );
        // `initialize` may not be cancelled.
        if let Some(index) = self
            .live
            .get(&id)
            .copied()
            .filter(|index| !self.requests[*index].initialize)
        {
            self.live.remove(&id);
            self.requests[index].fate = Fate::Over;
        }
        self.post(&[text], false, vec![])
    }

    /// The client answers a question, or something that nobody asked.
    fn answer(&mut self) -> Check {
        let ids: Vec<String> = self.asked.keys().cloned().collect();
        let nonce = self.nonce();
        let id = match self.random.pick(&ids).cloned() {
            Some(id) if self.random.percent(90) => {
                if let Some(question) = self.asked.remove(&id) {
                    self.questions[question].answer = Some(nonce.clone());
                }
                id
            }
            _ => "\"ferry:9999\"".to_owned(),
        };
        let said = match self.random.percent(70) {
            true => format!(r#""result":{{"n":"{nonce}"}}"#),
            false => format!(r#""error":{{"code":-1,"message":"no","data":{{"n":"{nonce}"}}}}"#),
        };
        self.post(
            &[format!(r#"{{"jsonrpc":"2.0","id":{id},{said}}}"#)],
            false,
            vec![],
        )
    }

    fn post(&mut self, texts: &[String], batch: bool, indexes: Vec<usize>) -> Check {
        self.last_post += 1;
        let credential = if self.random.percent(90) { 1 } else { 2 };
        let post = self.last_post;
        self.note(|| format!("> [p{post}] [cred={credential}] {texts:?}"));
        for index in &indexes {
            self.requests[*index].fate = Fate::InFlight;
            self.live.insert(self.requests[*index].id.clone(), *index);
        }
        self.posts.insert(self.last_post, (indexes, texts.len()));
        let parse = |text: &String| Message::parse(Bytes::copy_from_slice(text.as_bytes()));
        let messages: Result<Vec<Message>, _> = texts.iter().map(parse).collect();
        self.handle(Input::Posted(Posted {
            post: PostId(self.last_post),
            messages: messages.map_err(|error| error.to_string())?,
            batch,
            credential,
            version: None,
            context: (),
        }))
    }
}
