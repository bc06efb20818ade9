//! What must hold when a connection is over.

use mcp_ferry::proto::bridge::Bridge;

use super::{Books, Check, Fate};

impl Books {
    pub fn after(&self, bridge: &Bridge<(usize, u64)>) -> Check {
        if let Some((call, exchange)) = self.exchanges.iter().next() {
            return Err(format!("{call:?} is still open: {exchange:?}"));
        }
        if !self.posts.is_empty() {
            return Err(format!("POSTs without a status: {:?}", self.posts));
        }
        if bridge.poll_timeout().is_some() || bridge.in_flight() > 0 {
            return Err("something is left in the bridge".to_owned());
        }
        if let Some(request) = self.requests.iter().find(|it| it.fate == Fate::InFlight) {
            return Err(format!("{request:?} has had no outcome"));
        }
        for (name, session) in &self.sessions {
            if session.adopted && !session.refused && session.deleted == 0 {
                return Err(format!("{name} was never ended"));
            }
        }
        for question in &self.questions {
            let name = question.session.as_ref();
            let session = name.and_then(|name| self.sessions.get(name));
            let lost = session.is_some_and(|session| session.refused);
            let last = question.generation == self.current && self.current == self.generations;
            let heard = question.generation > 0;
            if heard && last && !lost && !question.withdrawn && !question.tried {
                return Err(format!("never answered: {question:?}"));
            }
        }
        Ok(())
    }
}
