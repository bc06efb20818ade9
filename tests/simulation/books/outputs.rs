//! What a bridge asks for, held against the books.

use std::time::Instant;

use mcp_ferry::proto::bridge::{Answer, Bridge, CallId, Carried, Output};
use serde_json::Value;

use super::{Asks, Books, Check, Does, Fate};

impl Books {
    /// Judges one output.
    pub fn output(&mut self, output: Output<(usize, u64)>, now: Instant) -> Check {
        let late_post = matches!(output, Output::Answer(_, Answer::Gone));
        if self.finished && !late_post {
            return Err(format!("behind the end came {output:?}"));
        }
        match output {
            Output::Answer(post, answer) => return self.on_status(post.0, &answer, now),
            Output::Send(call, exchange) => {
                self.on_send(call, &exchange, now)?;
                self.asks.push(Asks::Start(call));
            }
            Output::Abort(call) => {
                let Some(exchange) = self.closed(call) else {
                    return Err(format!("{call:?} is dropped and was not open"));
                };
                self.stops_listening(call, &exchange);
                self.dropped.push(call);
                self.asks.push(Asks::Drop(call));
            }
            Output::Deliver(text, _) => {
                let text = std::str::from_utf8(&text).map_err(|error| error.to_string())?;
                self.on_delivery(text)?;
                self.asks.push(Asks::Deliver(text.to_owned()));
            }
            Output::Carry(text) => {
                if Carried::parse(&text).is_none() {
                    return Err(format!(
                        "the client is to carry what nobody reads: {text:?}"
                    ));
                }
            }
            Output::EndStream => {
                if std::mem::replace(&mut self.ended, true) {
                    return Err("the stream ends twice".to_owned());
                }
                self.due.clear();
                self.owed = None;
                self.loose.clear();
                for index in std::mem::take(&mut self.live).into_values() {
                    self.requests[index].fate = Fate::Over;
                }
                self.asks.push(Asks::End);
            }
            Output::Count(_) | Output::Learnt(_) | Output::Warn(_) => {}
            Output::Finished => self.finished = true,
        }
        Ok(())
    }

    /// What must hold after every step, when all outputs were taken.
    pub fn step(&mut self, bridge: &Bridge<(usize, u64)>, now: Instant) -> Check {
        if let Some(text) = self.due.pop_front() {
            return Err(format!("a notification was not delivered at once: {text}"));
        }
        if let Some(index) = self.owed.take() {
            let nonce = &self.requests[index].nonce;
            return Err(format!("{nonce} has its answer, and the client does not"));
        }
        let missing = |id: &&String| !self.cancelled.contains(id);
        if let Some(id) = self.cancels.iter().find(missing) {
            return Err(format!("the upstream was not told that {id} is cancelled"));
        }
        let missing = |call: &&CallId| !self.dropped.contains(call);
        if let Some(call) = self.drops.iter().find(missing) {
            return Err(format!("{call:?} was not dropped with its request"));
        }
        self.cancels.clear();
        self.cancelled.clear();
        self.drops.clear();
        self.dropped.clear();
        self.check_questions()?;
        let (sure, most) = (self.live.len(), self.live.len() + self.loose.len());
        if !(sure..=most).contains(&bridge.in_flight()) {
            return Err(format!(
                "{} are in flight, not {:?}",
                bridge.in_flight(),
                self.live
            ));
        }
        let most = self.request_timeout + Self::LATE;
        let late = |index: &&usize| {
            self.requests[**index]
                .since
                .is_some_and(|it| now > it + most)
        };
        if let Some(index) = self.live.values().find(late) {
            return Err(format!("should be over: {:?}", self.requests[*index]));
        }
        if bridge.in_flight() == 0 {
            self.loose.clear();
        } else if bridge.poll_timeout().is_none() {
            return Err("a request is in flight, and no timer is set".to_owned());
        }
        Ok(())
    }

    fn on_status(&mut self, post: u64, answer: &Answer, now: Instant) -> Check {
        let Some(posted) = self.posts.remove(&post) else {
            return Err(format!("POST {post} is answered twice"));
        };
        if now > posted.since + Self::HOLD + Self::LATE {
            return Err(format!("POST {post} was held for too long"));
        }
        if *answer == Answer::Accepted {
            return Ok(());
        }
        if *answer == Answer::Busy {
            self.undo(posted.does);
        }
        for index in posted.requests {
            let request = &mut self.requests[index];
            if request.fate != Fate::InFlight {
                continue;
            }
            self.live.remove(&request.id);
            match answer {
                // The upstream refused one message of several: the others may go on.
                Answer::Refused(_) if posted.messages > 1 => {
                    request.fate = Fate::Loose;
                    self.loose.insert(request.id.clone(), index);
                }
                _ => request.fate = Fate::NotTaken,
            }
        }
        Ok(())
    }

    /// What was not taken cancels nothing and answers nothing.
    fn undo(&mut self, does: Does) {
        match does {
            Does::Nothing => {}
            Does::Cancels(index) => {
                self.cancels.clear();
                self.drops.clear();
                self.requests[index].fate = Fate::InFlight;
                self.live.insert(self.requests[index].id.clone(), index);
            }
            Does::Answers(id, question) => {
                self.questions[question].answer = None;
                self.asked.insert(id, question);
            }
        }
    }

    fn on_delivery(&mut self, text: &str) -> Check {
        if self.ended {
            return Err("delivered behind the end of the stream".to_owned());
        }
        self.own(text)?;
        check_plain(text)?;
        let message: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        self.changes.delivered(&message);
        let id = message.get("id").map(Value::to_string);
        match (message.get("method").and_then(Value::as_str), id) {
            (Some("notifications/cancelled"), None) => {
                let id = message["params"]["requestId"].to_string();
                match self.asked.remove(&id) {
                    Some(question) if self.questions[question].withdrawn => Ok(()),
                    Some(question) if self.questions[question].round.is_some() => {
                        self.taken_back.extend(self.questions[question].round);
                        Ok(())
                    }
                    _ => Err(format!("taken back, and not asked: {text}")),
                }
            }
            (Some(method), None) if message["params"]["n"].is_null() => {
                self.on_told(method, &message)
            }
            (Some(_), None) => match self.due.pop_front() {
                Some(due) if due == text => Ok(()),
                due => Err(format!("delivered {text}, due was {due:?}")),
            },
            (Some(_), Some(id)) => {
                let asked = |question: &super::Question| message["params"]["n"] == question.nonce;
                let Some(question) = self.questions.iter().position(asked) else {
                    return Err(format!("nobody asked {text}"));
                };
                self.check_question(question)?;
                if !id.starts_with("\"ferry:") || !self.shown.insert(id.clone()) {
                    return Err(format!("the id {id} is not fit for a question"));
                }
                self.asked.insert(id, question);
                Ok(())
            }
            (None, id) => self.on_outcome(&message, &id.unwrap_or_default()),
        }
    }

    /// What the ferry itself tells a client that may have missed something: no more than the model's server promises,
    /// and not before there was a second session or a second listen stream.
    fn on_told(&mut self, method: &str, message: &Value) -> Check {
        let promised = match method {
            "notifications/tools/list_changed" => self.changes.promises("tools"),
            "notifications/prompts/list_changed" => self.changes.promises("prompts"),
            "notifications/resources/list_changed" => self.changes.promises("resources"),
            "notifications/resources/updated" => {
                let uri = message["params"]["uri"].as_str().unwrap_or_default();
                self.subscribed.contains(uri)
            }
            _ => false,
        };
        if !promised || (self.generations < 2 && self.listens < 2) {
            return Err(format!("nobody had to be told {message}"));
        }
        self.reasons.push("told of changes".to_owned());
        Ok(())
    }

    /// A response: the one outcome of a request that is in flight, and of no other.
    fn on_outcome(&mut self, message: &Value, id: &str) -> Check {
        let Some(index) = self.live.remove(id).or_else(|| self.loose.remove(id)) else {
            return Err(format!(
                "an outcome for {id}, which is not in flight: {message}"
            ));
        };
        if self.owed == Some(index) {
            self.owed = None;
        }
        let ferry = &message["error"]["data"]["ferry"];
        if let Some(reason) = ferry["reason"].as_str() {
            self.reasons.push(format!("outcome: {reason}"));
        }
        // Given up, not refused: the upstream may still be at it.
        let given_up = ["timeout", "shutting_down", "stream_age"];
        if given_up.iter().any(|reason| ferry["reason"] == *reason)
            && !self.requests[index].initialize
        {
            self.must_be_cancelled(index);
        }
        let request = &mut self.requests[index];
        request.fate = Fate::Over;
        let nonce = [&message["result"]["n"], &message["error"]["data"]["n"]];
        if nonce
            .iter()
            .any(|nonce| nonce.is_string() && **nonce != request.nonce)
        {
            return Err(format!(
                "{} got the answer to another request: {message}",
                request.nonce
            ));
        }
        if message.get("result").is_some() {
            match request.method.as_str() {
                "logging/setLevel" => self.level = Some(request.detail.clone()),
                "resources/subscribe" => self.changes.subscribed(&request.detail),
                "resources/unsubscribe" => self.changes.unsubscribed(&request.detail),
                "initialize" => {
                    self.level = None;
                    self.changes.starts_over();
                }
                _ => {}
            }
        }
        if ferry["executed"] == "no" {
            request.promised = true;
            if request.ever {
                return Err(format!(
                    "{} was executed, and the error says it was not: {message}",
                    request.nonce
                ));
            }
        }
        Ok(())
    }

    /// Nothing of another connection: every nonce in the text is one of this one. What its client carried here is repeated
    /// in a handshake, and nowhere else.
    pub(super) fn own(&self, text: &str) -> Check {
        let carried = self.recalled.as_deref().unwrap_or_default();
        let shakes = !carried.is_empty() && text.contains(r#""method":"initialize""#);
        let stripped = shakes.then(|| text.replace(carried, ""));
        let text = stripped.as_deref().unwrap_or(text);
        for (at, _) in text.match_indices("\"c") {
            let Some((number, _)) = text[at + 2..].split_once('-') else {
                break;
            };
            if number.parse::<usize>().is_ok_and(|it| it != self.number) {
                return Err(format!("of another connection: {text}"));
            }
        }
        Ok(())
    }
}

/// Nothing in it is of the modern era alone.
fn check_plain(text: &str) -> Check {
    let modern = [
        "resultType",
        "input_required",
        "requestState",
        "ttlMs",
        "io.modelcontextprotocol/",
        "\"odd\"",
    ];
    match modern.iter().find(|word| text.contains(**word)) {
        Some(word) => Err(format!("{word} is not for the client: {text}")),
        None => Ok(()),
    }
}
