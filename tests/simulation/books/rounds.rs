//! What a modern upstream asks for before it answers: every question reaches the client at most once, and ends in an
//! answer or is taken back; the answers and the state go with the repetition of that call, and with nothing else.

use std::collections::BTreeMap;

use mcp_ferry::proto::bridge::CallId;
use serde_json::Value;

use super::{Books, Check, Exchange, Fate, Kind};

/// What a call needs before it is answered.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// The state, as it was written.
    pub state: Option<String>,
    /// The questions by their keys, each with its place in the books.
    pub questions: BTreeMap<String, usize>,
}

impl Books {
    /// A new question of a round. It has not reached the ferry yet.
    pub fn round_question(&mut self, request: usize) -> (usize, String) {
        let (question, nonce) = self.question(String::new(), None);
        self.questions[question].round = Some(request);
        (question, nonce)
    }

    pub(super) fn hear_wants(&mut self, call: CallId, exchange: &Exchange, round: &Round) {
        let Kind::Request(index) = exchange.kind else {
            return;
        };
        self.serves_no_more(call);
        let request = &mut self.requests[index];
        if request.fate == Fate::InFlight {
            request.executed = 0;
            request.pending = false;
            request.round = Some(round.clone());
        }
    }

    /// What an exchange was for goes on without it.
    pub(super) fn serves_no_more(&mut self, call: CallId) {
        if let Some(exchange) = self.exchanges.get_mut(&call)
            && matches!(exchange.kind, Kind::Request(_) | Kind::Discover)
        {
            exchange.kind = Kind::Served;
        }
    }

    /// A question is put to the client.
    pub(super) fn check_question(&self, question: usize) -> Check {
        let Some(index) = self.questions[question].round else {
            return Ok(());
        };
        let request = &self.requests[index];
        let asks = |round: &Round| round.questions.values().any(|it| *it == question);
        if request.fate != Fate::InFlight || !request.round.as_ref().is_some_and(asks) {
            return Err(format!("nobody waits for the answer to it: {request:?}"));
        }
        Ok(())
    }

    /// A question ends with the call that asked, and is not taken back before.
    pub(super) fn check_questions(&mut self) -> Check {
        for index in std::mem::take(&mut self.taken_back) {
            if self.requests[index].fate == Fate::InFlight {
                return Err(format!(
                    "taken back, and still wanted: {:?}",
                    self.requests[index]
                ));
            }
        }
        let over = |question: &&usize| {
            let call = self.questions[**question].round;
            call.is_some_and(|call| self.requests[call].fate != Fate::InFlight)
        };
        match self.asked.values().find(over).filter(|_| !self.ended) {
            Some(question) => Err(format!(
                "the call is over, and its question is not: {:?}",
                self.questions[*question]
            )),
            None => Ok(()),
        }
    }

    /// A call carries the answers and the state of its own last round, all of them and nothing else.
    pub(super) fn check_round(&self, index: usize, text: &str, params: &Value) -> Check {
        let request = &self.requests[index];
        let nothing = Round::default();
        let round = request.round.as_ref().unwrap_or(&nothing);
        let state = round.state.as_ref();
        let same = state.is_none_or(|state| text.contains(&format!(r#""requestState":{state}"#)));
        if !same || state.is_some() != params.get("requestState").is_some() {
            return Err(format!("{params} is not in the state of {round:?}"));
        }
        let answers = params["inputResponses"].as_object();
        if answers.map_or(0, serde_json::Map::len) != round.questions.len()
            || answers.is_some_and(|answers| answers.is_empty())
        {
            return Err(format!("{params} does not answer {round:?}"));
        }
        for (key, question) in &round.questions {
            let question = &self.questions[*question];
            let given = answers.and_then(|answers| answers.get(key));
            let fits = given.is_some_and(|given| match (&question.answer, question.refused) {
                (Some(nonce), false) => given["n"] == **nonce,
                (Some(_), true) => *given == serde_json::json!({"action": "cancel"}),
                (None, _) => false,
            });
            if !fits {
                return Err(format!("{given:?} is no answer to {question:?}"));
            }
        }
        Ok(())
    }
}
