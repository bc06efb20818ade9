//! What a bridge sends upstream, held against the books.

use std::time::Instant;

use mcp_ferry::proto::bridge::{self, CallId, Verb};
use serde_json::Value;

use super::{Books, Check, Exchange, Fate, Kind};

impl Books {
    pub(super) fn on_send(
        &mut self,
        call: CallId,
        sent: &bridge::Exchange<(usize, u64)>,
        now: Instant,
    ) -> Check {
        let session = sent.session.as_deref().map(str::to_owned);
        let known = session.as_ref().and_then(|name| self.sessions.get(name));
        let (owner, credential) = sent.context;
        if owner != self.number {
            return Err(format!("{call:?} is on behalf of connection {owner}"));
        }
        let mut exchange = Exchange {
            kind: Kind::Delete,
            session: session.clone(),
            id: String::new(),
            request: None,
            credential,
            last_event_id: None,
            named: None,
            generation: known.map_or(self.generations, |session| session.generation),
            modern: sent.version.as_deref() == Some("2026-07-28"),
            wants_header: false,
            header: None,
            filter: None,
            honoured: None,
        };
        match &sent.verb {
            Verb::Post(text) => {
                let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
                self.own(text)?;
                let message: Value =
                    serde_json::from_str(text).map_err(|error| error.to_string())?;
                let nonce = message["params"]["n"].as_str().unwrap_or_default();
                let shakes = ["initialize", "notifications/initialized"];
                let shakes = shakes.iter().any(|method| message["method"] == *method);
                let known = self.sent.contains(nonce) || shakes;
                if sent.repeated && !known && self.posted.contains_key(nonce) {
                    return Err(format!("{call:?} repeats nothing: {text}"));
                }
                if exchange.modern {
                    self.on_modern_post(call, text, &sent.mirrored, &mut exchange, now)?;
                } else {
                    self.on_post(call, &message, &mut exchange, now)?;
                }
            }
            Verb::Get { last_event_id } => {
                self.on_get(last_event_id.as_deref(), &mut exchange)?;
            }
            Verb::Delete => {
                let name = session.as_ref();
                let Some(session) = name.and_then(|name| self.sessions.get_mut(name)) else {
                    return Err("DELETE of nothing".to_owned());
                };
                session.deleted += 1;
                if session.deleted > 1 {
                    return Err("a session is deleted twice".to_owned());
                }
            }
        }
        if !exchange.modern {
            if !sent.mirrored.is_empty() {
                return Err(format!("headers of the modern era: {sent:?}"));
            }
            self.check_session(&exchange, sent.version.is_some())?;
        } else if session.is_some() || !matches!(sent.verb, Verb::Post(_)) {
            return Err(format!("nothing of the modern era: {sent:?}"));
        }
        if self.exchanges.insert(call, exchange).is_some() {
            return Err(format!("{call:?} is used twice"));
        }
        Ok(())
    }

    /// Event ids are `e:`, the connection, the request they belong to or `-`, and the rest.
    fn on_get(&mut self, last_event_id: Option<&str>, exchange: &mut Exchange) -> Check {
        exchange.kind = Kind::Listen;
        self.listens += 1;
        exchange.last_event_id = last_event_id.map(str::to_owned);
        if self.ended || exchange.session.is_none() {
            return Err("a GET without a session, or without a client".to_owned());
        }
        let Some(id) = last_event_id else {
            return Ok(());
        };
        let session = exchange.session.as_ref();
        let session = session.and_then(|name| self.sessions.get(name));
        let listened = session.and_then(|session| session.mark.as_deref());
        let parts: Vec<&str> = id.split(':').collect();
        if parts.get(1).and_then(|owner| owner.parse().ok()) != Some(self.number) {
            return Err(format!("resumes {id}, which is not of this connection"));
        }
        let Some(index) = parts.get(2).and_then(|index| index.parse::<usize>().ok()) else {
            return match listened == Some(id) {
                true => Ok(()),
                false => Err(format!("listens from {id}, it was at {listened:?}")),
            };
        };
        let request = &self.requests[index];
        let over = matches!(request.fate, Fate::Over | Fate::NotTaken);
        let elsewhere = request.sent_on.as_ref() != Some(&exchange.session)
            || request.mark.as_deref() != Some(id);
        if over || elsewhere {
            return Err(format!("resumed elsewhere, or too late: {request:?}"));
        }
        exchange.kind = Kind::Resume(index);
        exchange.id.clone_from(&request.id);
        exchange.request = Some(index);
        Ok(())
    }

    fn on_post(
        &mut self,
        call: CallId,
        message: &Value,
        exchange: &mut Exchange,
        now: Instant,
    ) -> Check {
        let id = message.get("id").map(Value::to_string);
        let nonce = message["params"]["n"].as_str().map(str::to_owned);
        exchange.id = id.clone().unwrap_or_default();
        let found = || self.by_nonce.get(nonce.as_deref()?).copied();
        exchange.kind = match (message["method"].as_str(), id) {
            (Some("initialize"), _) => {
                exchange.request = found().filter(|_| !exchange.id.starts_with("\"ferry:"));
                self.changes.begins_anew();
                self.generations += 1;
                exchange.generation = self.generations;
                self.gate = Some((call, now));
                Kind::Initialize
            }
            (Some("notifications/initialized"), None) => {
                self.gate = Some((call, now));
                Kind::Initialized
            }
            (Some("notifications/cancelled"), None) => {
                self.check_cancel(message, exchange)?;
                Kind::Cancel
            }
            (Some(_), None) => {
                exchange.id = nonce.clone().unwrap_or_default();
                Kind::Notice
            }
            (Some(_), Some(id)) if id.starts_with("\"ferry:restore") => Kind::Restore,
            (Some(_), Some(_)) => {
                let Some(index) = found() else {
                    return Err(format!("sent, and never posted: {message}"));
                };
                self.check_request(index, exchange)?;
                Kind::Request(index)
            }
            (None, Some(id)) => Kind::Answer(self.check_answer(message, &id, exchange)?),
            (None, None) => return Err(format!("sent nonsense: {message}")),
        };
        if message["params"]["_meta"].is_object()
            || (message["method"].is_null() && message.get("params").is_some())
        {
            return Err(format!("an envelope in the handshake era: {message}"));
        }
        self.check_turn(message, nonce, exchange, now)
    }

    /// Nothing is sent while a handshake is under way, and nothing overtakes anything.
    pub(super) fn check_turn(
        &mut self,
        message: &Value,
        nonce: Option<String>,
        exchange: &Exchange,
        now: Instant,
    ) -> Check {
        let waits = matches!(
            exchange.kind,
            Kind::Request(_) | Kind::Notice | Kind::Restore
        );
        let shut = self.gate.filter(|(_, since)| now < *since + Self::GATE);
        if let Some((shut, _)) = shut.filter(|_| waits) {
            return Err(format!("{message} is sent while {shut:?} shuts the gate"));
        }
        match nonce.filter(|_| matches!(exchange.kind, Kind::Request(_) | Kind::Notice)) {
            // A call waits for the list of tools, a subscription for its stream.
            Some(nonce)
                if self.modern
                    && (message["method"] == "tools/call"
                        || message["method"] == "resources/subscribe") =>
            {
                self.sent.insert(nonce);
                Ok(())
            }
            Some(nonce) => self.check_order(nonce),
            None => Ok(()),
        }
    }

    pub(super) fn check_request(&mut self, index: usize, exchange: &mut Exchange) -> Check {
        let request = &mut self.requests[index];
        if matches!(request.fate, Fate::Over | Fate::NotTaken) || self.ended {
            return Err(format!("{} is sent behind its outcome", request.nonce));
        }
        let renamed = exchange.modern && exchange.id.starts_with("\"ferry:call:");
        if request.id != exchange.id && !renamed {
            return Err(format!("{} is sent under {}", request.nonce, exchange.id));
        }
        if request.credential != exchange.credential {
            return Err(format!("{} has another's credential", request.nonce));
        }
        if request.pending && !request.safe {
            return Err(format!("{} is sent twice", request.nonce));
        }
        request.pending = true;
        request.sent_on = Some(exchange.session.clone());
        request.mark = None;
        exchange.request = Some(index);
        Ok(())
    }

    /// What is sent for the first time comes in the order in which it was posted.
    fn check_order(&mut self, nonce: String) -> Check {
        if self.sent.contains(&nonce) {
            return Ok(());
        }
        let Some(place) = self.posted.get(&nonce).copied() else {
            return Err(format!("{nonce} was never posted"));
        };
        if place < self.sent_upto {
            return Err(format!("{nonce} was overtaken"));
        }
        self.sent_upto = place;
        self.sent.insert(nonce);
        Ok(())
    }

    /// A cancel goes where the request went.
    fn check_cancel(&mut self, message: &Value, exchange: &Exchange) -> Check {
        let id = message["params"]["requestId"].to_string();
        let sent = self.requests.iter().rev().filter(|it| it.id == id);
        match sent.filter_map(|request| request.sent_on.as_ref()).next() {
            Some(session) if *session == exchange.session => {
                self.cancelled.push(id);
                Ok(())
            }
            session => Err(format!(
                "{message} goes to {:?}, the request went to {session:?}",
                exchange.session
            )),
        }
    }

    /// An answer goes to the session that asked, once. Says which question it answers.
    fn check_answer(
        &mut self,
        message: &Value,
        id: &str,
        exchange: &Exchange,
    ) -> Result<usize, String> {
        let asked = |it: &super::Question| it.id == *id && it.session == exchange.session;
        let Some(index) = self.questions.iter().position(asked) else {
            return Err(format!("nobody asked under {id} on {:?}", exchange.session));
        };
        let question = &mut self.questions[index];
        question.answered += 1;
        question.tried = true;
        if question.answered > 1 || question.generation == 0 {
            return Err(format!("{message} does not answer {question:?}"));
        }
        let nonce = [&message["result"]["n"], &message["error"]["data"]["n"]];
        match nonce.iter().find_map(|nonce| nonce.as_str()) {
            Some(nonce) if question.answer.as_deref() != Some(nonce) => {
                Err(format!("the answer to another question: {message}"))
            }
            _ => Ok(index),
        }
    }

    /// Everything but `initialize` goes on a session that came with a good result, in its revision.
    fn check_session(&self, exchange: &Exchange, versioned: bool) -> Check {
        let session = exchange.session.as_ref();
        let session = session.map(|name| self.sessions.get(name));
        let good = match (exchange.kind, session) {
            (Kind::Initialize, session) => session.is_none() && !versioned,
            // A ping may be answered before the handshake is over.
            (Kind::Answer(_), session) => session.is_none_or(|session| session.is_some()),
            (_, None) => !self.stateful && versioned,
            (_, Some(session)) => session.is_some_and(|session| session.adopted) && versioned,
        };
        match good {
            true => Ok(()),
            false => Err(format!("not a session to send this on: {exchange:?}")),
        }
    }
}
