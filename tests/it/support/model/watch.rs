//! What the bridge makes of it, held against the invariants.

use std::time::Duration;

use mcp_ferry::proto::bridge::{self, Answer, CallId, Output, Reply, Verb};
use serde_json::Value;

use super::{Check, Exchange, Fate, Kind, World};

/// How long `notifications/initialized` may hold others up.
const GATE: Duration = Duration::from_secs(30);

impl World {
    /// Takes the bridge's outputs and judges them, and what the books say after them.
    pub fn watch(&mut self) -> Check {
        while let Some(output) = self.bridge.poll_output() {
            self.note(|| shown(&output));
            let late_post = matches!(output, Output::Answer(_, Answer::Gone));
            if self.finished && !late_post {
                return Err(format!("behind the end came {output:?}"));
            }
            match output {
                Output::Answer(post, answer) => self.on_status(post.0, &answer)?,
                Output::Send(call, exchange) => self.on_send(call, &exchange)?,
                Output::Abort(call) => {
                    self.closed.push(call);
                    self.open_gate(call);
                    if self.exchanges.remove(&call).is_none() {
                        return Err(format!("{call:?} is dropped and was not open"));
                    }
                }
                Output::Deliver(text) => self.on_delivery(&text)?,
                Output::EndStream => {
                    if std::mem::replace(&mut self.ended, true) {
                        return Err("the stream ends twice".to_owned());
                    }
                    self.due.clear();
                    self.loose.clear();
                    for index in std::mem::take(&mut self.live).into_values() {
                        self.requests[index].fate = Fate::Over;
                    }
                }
                Output::Count(_) => {}
                Output::Finished => self.finished = true,
            }
        }
        if let Some(text) = self.due.pop_front() {
            return Err(format!("a notification was not delivered at once: {text}"));
        }
        let (sure, most) = (self.live.len(), self.live.len() + self.loose.len());
        if !(sure..=most).contains(&self.bridge.in_flight()) {
            return Err(format!(
                "{} are in flight, not {:?}",
                self.bridge.in_flight(),
                self.live
            ));
        }
        if self.bridge.in_flight() > 0 && self.bridge.poll_timeout().is_none() {
            return Err("a request is in flight, and no timer is set".to_owned());
        }
        Ok(())
    }

    fn on_status(&mut self, post: u64, answer: &Answer) -> Check {
        let Some((indexes, messages)) = self.posts.remove(&post) else {
            return Err(format!("POST {post} is answered twice"));
        };
        if *answer == Answer::Accepted {
            return Ok(());
        }
        for index in indexes {
            let request = &mut self.requests[index];
            if request.fate != Fate::InFlight {
                continue;
            }
            self.live.remove(&request.id);
            match answer {
                // The upstream refused one message of several: the others may go on.
                Answer::Refused(_) if messages > 1 => {
                    request.fate = Fate::Loose;
                    self.loose.insert(request.id.clone(), index);
                }
                _ => request.fate = Fate::NotTaken,
            }
        }
        Ok(())
    }

    fn on_delivery(&mut self, text: &[u8]) -> Check {
        if self.ended {
            return Err("delivered behind the end of the stream".to_owned());
        }
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        self.own(text)?;
        let message: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let id = message.get("id").map(Value::to_string);
        match (message.get("method").and_then(Value::as_str), id) {
            (Some("notifications/cancelled"), None) => {
                let id = message["params"]["requestId"].to_string();
                match self.asked.remove(&id) {
                    Some(question) if self.questions[question].withdrawn => Ok(()),
                    _ => Err(format!("taken back, and not asked: {text}")),
                }
            }
            // What the ferry tells a client that may have missed something carries no nonce.
            (Some(method), None)
                if message["params"]["n"].is_null()
                    && (method.ends_with("/list_changed")
                        || method == "notifications/resources/updated") =>
            {
                Ok(())
            }
            (Some(_), None) => match self.due.pop_front() {
                Some(due) if due == text => Ok(()),
                due => Err(format!("delivered {text}, due was {due:?}")),
            },
            (Some(_), Some(id)) => {
                let question = self
                    .questions
                    .iter()
                    .position(|question| message["params"]["n"] == question.nonce);
                let Some(question) = question else {
                    return Err(format!("nobody asked {text}"));
                };
                if !id.starts_with("\"ferry:") || !self.shown.insert(id.clone()) {
                    return Err(format!("the id {id} is not fit for a question"));
                }
                self.asked.insert(id, question);
                Ok(())
            }
            (None, id) => self.on_outcome(&message, &id.unwrap_or_default()),
        }
    }

    /// A response: the one outcome of a request that is in flight, and of no other.
    fn on_outcome(&mut self, message: &Value, id: &str) -> Check {
        let Some(index) = self.live.remove(id).or_else(|| self.loose.remove(id)) else {
            return Err(format!(
                "an outcome for {id}, which is not in flight: {message}"
            ));
        };
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
        if message["error"]["data"]["ferry"]["executed"] == "no" {
            request.promised = true;
            if request.executed > 0 {
                return Err(format!(
                    "{} was executed, and the error says it was not: {message}",
                    request.nonce
                ));
            }
        }
        Ok(())
    }

    fn on_send(&mut self, call: CallId, sent: &bridge::Exchange<()>) -> Check {
        let session = sent.session.as_deref().map(str::to_owned);
        let known = session.as_ref().and_then(|name| self.sessions.get(name));
        let generation = known.map_or(self.generations, |session| session.generation);
        let mut exchange = Exchange {
            kind: Kind::Delete,
            session: session.clone(),
            id: String::new(),
            request: None,
            begun: false,
            carries: false,
            events: false,
            answered: false,
            named: None,
            generation,
        };
        match &sent.verb {
            Verb::Post(text) => {
                let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
                self.own(text)?;
                let message: Value =
                    serde_json::from_str(text).map_err(|error| error.to_string())?;
                self.on_post(call, &message, &mut exchange)?;
            }
            Verb::Get { last_event_id } => {
                exchange.kind = Kind::Listen;
                let id = last_event_id.as_deref().unwrap_or_default();
                self.own(id)?;
                if let Some(index) = id
                    .split(':')
                    .nth(1)
                    .and_then(|index| index.parse::<usize>().ok())
                {
                    let request = &self.requests[index];
                    if request.sent_on.as_ref() != Some(&session) {
                        return Err(format!("{} is resumed on another session", request.nonce));
                    }
                    exchange.kind = Kind::Resume(index);
                    exchange.id.clone_from(&request.id);
                    exchange.request = Some(index);
                }
                if self.ended || session.is_none() {
                    return Err("a GET without a session, or without a client".to_owned());
                }
            }
            Verb::Delete => {
                let Some(session) = session
                    .as_ref()
                    .and_then(|name| self.sessions.get_mut(name))
                else {
                    return Err("DELETE of nothing".to_owned());
                };
                session.deleted += 1;
                if session.deleted > 1 {
                    return Err("a session is deleted twice".to_owned());
                }
            }
        }
        self.check_session(&exchange, sent.version.is_some())?;
        if self.exchanges.insert(call, exchange).is_some() {
            return Err(format!("{call:?} is used twice"));
        }
        Ok(())
    }

    fn on_post(&mut self, call: CallId, message: &Value, exchange: &mut Exchange) -> Check {
        let id = message.get("id").map(Value::to_string);
        let nonce = message["params"]["n"].as_str().map(str::to_owned);
        exchange.id = id.clone().unwrap_or_default();
        exchange.kind = match (message["method"].as_str(), id) {
            (Some("initialize"), _) => {
                self.generations += 1;
                exchange.generation = self.generations;
                let own = exchange.id.starts_with("\"ferry:");
                let found = self
                    .requests
                    .iter()
                    .position(|request| Some(&request.nonce) == nonce.as_ref());
                exchange.request = found.filter(|_| !own);
                self.gate = Some((call, self.now));
                Kind::Initialize
            }
            (Some("notifications/initialized"), None) => {
                self.gate = Some((call, self.now));
                Kind::Initialized
            }
            (Some("notifications/cancelled"), None) => {
                self.check_cancel(message, exchange)?;
                Kind::Cancel
            }
            (Some(_), None) => Kind::Notice,
            (Some(_), Some(id)) if id.starts_with("\"ferry:restore") => Kind::Restore,
            (Some(_), Some(_)) => {
                let found = self
                    .requests
                    .iter()
                    .position(|request| Some(&request.nonce) == nonce.as_ref());
                let Some(index) = found else {
                    return Err(format!("sent, and never posted: {message}"));
                };
                let request = &mut self.requests[index];
                if matches!(request.fate, Fate::Over | Fate::NotTaken) || self.ended {
                    return Err(format!("{} is sent behind its outcome", request.nonce));
                }
                request.sent_on = Some(exchange.session.clone());
                exchange.request = found;
                Kind::Request(index)
            }
            (None, Some(id)) => {
                self.check_answer(message, &id, exchange)?;
                Kind::Answer
            }
            (None, None) => return Err(format!("sent nonsense: {message}")),
        };
        if matches!(
            exchange.kind,
            Kind::Request(_) | Kind::Notice | Kind::Restore
        ) && let Some((shut, since)) = self.gate.filter(|(_, since)| self.now < *since + GATE)
        {
            return Err(format!(
                "{message} was sent while {shut:?} ({since:?}) shuts the gate"
            ));
        }
        match nonce {
            Some(nonce) if matches!(exchange.kind, Kind::Request(_) | Kind::Notice) => {
                self.check_order(nonce)
            }
            _ => Ok(()),
        }
    }

    /// What is sent for the first time comes in the order in which it was posted.
    fn check_order(&mut self, nonce: String) -> Check {
        if self.sent.contains(&nonce) {
            return Ok(());
        }
        let place = self
            .posted
            .iter()
            .position(|posted| *posted == nonce)
            .unwrap_or_default();
        if place < self.sent_upto {
            return Err(format!("{nonce} was overtaken"));
        }
        self.sent_upto = place;
        self.sent.insert(nonce);
        Ok(())
    }

    /// A cancel goes where the request went.
    fn check_cancel(&self, message: &Value, exchange: &Exchange) -> Check {
        let id = message["params"]["requestId"].to_string();
        let sent = self
            .requests
            .iter()
            .rev()
            .filter(|request| request.id == id);
        match sent.filter_map(|request| request.sent_on.as_ref()).next() {
            Some(session) if *session == exchange.session => Ok(()),
            session => Err(format!(
                "{message} goes to {:?}, the request went to {session:?}",
                exchange.session
            )),
        }
    }

    /// An answer goes to the session that asked, once.
    fn check_answer(&mut self, message: &Value, id: &str, exchange: &Exchange) -> Check {
        let index = id
            .parse::<usize>()
            .map_err(|_| format!("nobody asked under {id}"))?;
        let Some(question) = self.questions.get_mut(index) else {
            return Err(format!("nobody asked under {id}"));
        };
        question.answered += 1;
        question.tried = true;
        if question.answered > 1 || question.session != exchange.session {
            return Err(format!(
                "{message} does not answer {question:?} on {:?}",
                exchange.session
            ));
        }
        let nonce = [&message["result"]["n"], &message["error"]["data"]["n"]];
        match nonce.iter().find_map(|nonce| nonce.as_str()) {
            Some(nonce) if question.answer.as_deref() != Some(nonce) => {
                Err(format!("the answer to another question: {message}"))
            }
            _ => Ok(()),
        }
    }

    /// Everything but `initialize` goes on a session that came with a good result, in its revision.
    fn check_session(&self, exchange: &Exchange, versioned: bool) -> Check {
        let session = exchange
            .session
            .as_ref()
            .map(|name| self.sessions.get(name));
        let good = match (exchange.kind, session) {
            (Kind::Initialize, session) => session.is_none() && !versioned,
            // A ping may be answered before the handshake is over.
            (Kind::Answer, session) => session.is_none_or(|session| session.is_some()),
            (_, None) => !self.stateful && versioned,
            (_, Some(session)) => session.is_some_and(|session| session.adopted) && versioned,
        };
        match good {
            true => Ok(()),
            false => Err(format!("not a session to send this on: {exchange:?}")),
        }
    }

    /// Nothing of another connection.
    fn own(&self, text: &str) -> Check {
        let other = if self.tag == "a" { "\"b-" } else { "\"a-" };
        match text.contains(other) {
            true => Err(format!("of another connection: {text}")),
            false => Ok(()),
        }
    }

    pub(super) fn open_gate(&mut self, call: CallId) {
        self.gate = self.gate.filter(|(shut, _)| *shut != call);
    }

    /// Notes what a reply says about the gate, before the bridge sees it.
    pub(super) fn gate_after(&mut self, call: CallId, reply: &Reply) {
        let opens = match (
            self.exchanges.get(&call).map(|exchange| exchange.kind),
            reply,
        ) {
            (Some(Kind::Initialized), Reply::Head { .. }) => true,
            (Some(Kind::Initialize), Reply::Message { .. }) => self.exchanges[&call].answered,
            _ => false,
        };
        if opens {
            self.open_gate(call);
        }
    }

    /// What must hold when all is over.
    pub(super) fn after(&self) -> Check {
        if let Some((call, exchange)) = self.exchanges.iter().next() {
            return Err(format!("{call:?} is still open: {exchange:?}"));
        }
        if !self.posts.is_empty() {
            return Err(format!("POSTs without a status: {:?}", self.posts));
        }
        if self.bridge.poll_timeout().is_some() || self.bridge.in_flight() > 0 {
            return Err("something is left in the bridge".to_owned());
        }
        for (name, session) in &self.sessions {
            if session.adopted && !session.refused && session.deleted == 0 {
                return Err(format!("{name} was never ended"));
            }
        }
        for question in &self.questions {
            let refused = |name: &String| {
                self.sessions
                    .get(name)
                    .is_some_and(|session| session.refused)
            };
            let lost = question.session.as_ref().is_some_and(refused);
            let last = question.generation == self.current && self.current == self.generations;
            if last && !lost && !question.withdrawn && !question.tried {
                return Err(format!("never answered: {question:?}"));
            }
        }
        Ok(())
    }
}

/// An output as a line.
fn shown(output: &Output<()>) -> String {
    match output {
        Output::Send(call, exchange) => {
            let session = exchange.session.as_deref().unwrap_or("-");
            format!(">> {call:?} session={session} {:?}", exchange.verb)
        }
        Output::Deliver(text) => format!("< {}", String::from_utf8_lossy(text)),
        Output::Answer(post, answer) => format!("< p{} {answer:?}", post.0),
        other => format!("{other:?}"),
    }
}
