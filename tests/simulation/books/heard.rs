//! What the upstream says, as it reaches the ferry, and what must come of it.

use mcp_ferry::proto::bridge::CallId;

use super::{Books, Exchange, Fate, Kind, Said};

impl Books {
    /// A message of the upstream is complete at the ferry, on an exchange that is open: what must come of it.
    pub fn hear(&mut self, call: CallId, said: &Said) {
        let Some(exchange) = self.exchanges.get(&call).cloned() else {
            return;
        };
        match said {
            Said::Notice(text) | Said::Told(text) if !self.ended => {
                self.due.push_back(text.clone())
            }
            Said::Notice(_) | Said::Told(_) | Said::Noise => {}
            Said::Wants(round) => self.hear_wants(call, &exchange, round),
            Said::Discovered(offers) => {
                if exchange.kind != Kind::Discover {
                    return;
                }
                self.open_gate(call);
                self.serves_no_more(call);
                self.changes.discovered(offers);
            }
            Said::Acknowledged(uris) => {
                if let Some(exchange) = self.exchanges.get_mut(&call) {
                    exchange.honoured = Some(uris.clone());
                }
            }
            Said::Other => {
                self.open_gate(call);
                self.serves_no_more(call);
                if let Kind::Request(index) = exchange.kind {
                    self.requests[index].pending = false;
                }
            }
            Said::Answer(id, nonce, good) => self.hear_answer(call, &exchange, id, nonce, *good),
            Said::Question(index) => self.questions[*index].generation = exchange.generation,
            Said::Withdrawn(index) => self.questions[*index].withdrawn = true,
            Said::Several(all) => all.iter().for_each(|said| self.hear(call, said)),
        }
    }

    fn hear_answer(
        &mut self,
        call: CallId,
        exchange: &Exchange,
        id: &str,
        nonce: &str,
        good: bool,
    ) {
        if exchange.kind == Kind::Served {
            return;
        }
        // An error without an id, in the exchange of one request, can only mean that request.
        let nameless = id == "null" && !good;
        if exchange.kind == Kind::Initialize && (id == exchange.id || nameless) {
            let shuts = self.gate.is_some_and(|(shut, _)| shut == call);
            self.open_gate(call);
            if good && shuts {
                self.current = exchange.generation;
                self.changes.shakes_hands();
                if let Some(name) = &exchange.named {
                    let session = self.sessions.entry(name.clone());
                    session.and_modify(|session| session.adopted = true);
                }
            }
        }
        let Some(index) = exchange.request else {
            return;
        };
        let request = &self.requests[index];
        if request.fate == Fate::InFlight && request.nonce == nonce && !self.ended {
            self.owed = Some(index);
        }
    }

    /// An event id is read on an exchange that is open: from there its stream is resumed.
    pub fn marked(&mut self, call: CallId, id: &str) {
        let mark = Some(id.to_owned());
        let Some(exchange) = self.exchanges.get(&call) else {
            return;
        };
        match (exchange.kind, exchange.request, &exchange.session) {
            (Kind::Listen, _, Some(name)) => {
                let session = self.sessions.entry(name.clone());
                session.and_modify(|session| session.mark = mark);
            }
            (_, Some(index), _) => self.requests[index].mark = mark,
            _ => {}
        }
    }
}
