//! Multi round-trip requests (2026-07-28, "Multi Round-Trip Requests"): what the upstream wants to know of the client before it
//! answers, asked as the requests that old clients know.
//!
//! The call stays in the ledger while the client is asked. When every question has its answer, the call goes upstream again
//! as a request of its own, with the answers and with the state that came with the questions, byte for byte. Neither is kept
//! for anything else. Bounds: [`MAX_ROUNDS`] rounds a call, [`MAX_QUESTIONS`] questions a round.

use std::time::Duration;

use super::super::ledger::{Origin, Place};
use super::super::trouble::{self, Executed, Reason, Trouble};
use super::super::vocabulary::{About, Counted};
use super::super::{Asked, Bridge, MAX_ASKED, Queued, client};
use super::request::Can;
use crate::proto::jsonrpc::{Id, Message, quote};
use crate::proto::object::Object;

/// How often an upstream may ask before it answers a call.
pub const MAX_ROUNDS: u32 = 32;
/// How much it may ask at once.
pub const MAX_QUESTIONS: usize = 32;
/// Waits between retries of an upstream that asks for nothing but a retry: none before the first, then doubling.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The rounds of one call so far, and the present one.
#[derive(Debug, Default)]
pub(in super::super) struct Rounds {
    count: u32,
    /// Rounds in a row without a question.
    empty: u32,
    questions: Vec<Question>,
    state: Option<Box<str>>,
}

#[derive(Debug)]
struct Question {
    key: Box<str>,
    kind: Kind,
    /// Names it towards the client.
    number: u64,
    answer: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Elicit,
    ElicitByUrl,
    Sample,
    ListRoots,
}

impl Rounds {
    /// The answers of the present round, as the JSON text of an object. `None` when nothing was asked.
    pub(super) fn answers(&self) -> Option<String> {
        let mut answers = Object::default();
        for question in &self.questions {
            let answer = question.answer.as_deref().unwrap_or("null");
            answers.set(&question.key, answer);
        }
        (!answers.is_empty()).then(|| answers.to_string())
    }

    /// The upstream's state, as the JSON text it came in.
    pub(super) fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Bytes that are kept for the next round.
    pub(in super::super) fn held_bytes(&self) -> usize {
        let answers = self.questions.iter().filter_map(|it| it.answer.as_deref());
        self.state().map_or(0, str::len) + answers.map(str::len).sum::<usize>()
    }
}

impl Kind {
    fn of(method: &str, params: &Object<'_>) -> Option<Self> {
        match method {
            "elicitation/create" if params.string("mode").as_deref() == Some("url") => {
                Some(Self::ElicitByUrl)
            }
            "elicitation/create" => Some(Self::Elicit),
            "sampling/createMessage" => Some(Self::Sample),
            "roots/list" => Some(Self::ListRoots),
            _ => None,
        }
    }

    /// The capability that the client lacks for it.
    fn lacking(self, can: Can) -> Option<&'static str> {
        let (able, name) = match self {
            Self::Elicit => (can.elicit, "elicitation"),
            Self::ElicitByUrl => (can.elicit_by_url, "elicitation by URL"),
            Self::Sample => (can.sample, "sampling"),
            Self::ListRoots => (can.list_roots, "roots"),
        };
        (!able).then_some(name)
    }
}

impl<C: Clone> Bridge<C> {
    /// The upstream answers a call with questions.
    pub(super) fn begin_round(&mut self, id: &Id, answer: &Message) {
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        let mut rounds = *request.rounds.take().unwrap_or_default();
        rounds.count += 1;
        rounds.questions.clear();
        let method = request.message.method().to_owned();
        let result = answer.result().and_then(Object::parse).unwrap_or_default();
        rounds.state = result.get("requestState").map(Into::into);
        let asked = result.get("inputRequests").map_or_else(
            || Ok(Vec::new()),
            |requests| self.questions(requests, &rounds, &method),
        );
        let asked = match asked.and_then(|asked| may_go_on(&rounds, &method, asked)) {
            Ok(asked) => asked,
            Err(trouble) => return self.fail(id, &trouble),
        };
        let texts = asked.into_iter().map(|(question, text)| {
            rounds.questions.push(question);
            text
        });
        let texts: Vec<String> = texts.collect();
        rounds.empty = if texts.is_empty() {
            rounds.empty + 1
        } else {
            0
        };
        let place = match rounds.empty {
            0 => Place::Asking,
            1 => Place::Queued,
            more => Place::RetryAt(self.now + self.wait_before(more)),
        };
        let numbers: Vec<u64> = rounds.questions.iter().map(|it| it.number).collect();
        if let Some(request) = self.ledger.get_mut(id) {
            request.rounds = Some(Box::new(rounds));
            request.place = place;
        }
        if place == Place::Queued {
            self.queue.push_back(Queued::Request(id.clone()));
        }
        self.release_post_of(id);
        for (number, text) in numbers.into_iter().zip(texts) {
            self.asked.insert(number, Asked::Round(id.clone()));
            self.deliver(text.into(), About::During(id.clone()));
        }
    }

    /// How long to wait before a call is sent again that had so many rounds without a question.
    fn wait_before(&mut self, empty: u32) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << empty.saturating_sub(2).min(8));
        self.jitter(doubled.min(LAST_WAIT))
    }

    fn release_post_of(&mut self, id: &Id) {
        let post = self.ledger.get_mut(id).and_then(|it| it.origin.post.take());
        self.release_post(post);
    }

    /// The questions of a round, each with the request that puts it to the client.
    fn questions(
        &mut self,
        requests: &str,
        rounds: &Rounds,
        method: &str,
    ) -> Result<Vec<(Question, String)>, Trouble> {
        let Some(requests) = Object::parse(requests) else {
            return Err(invalid("its questions are not an object"));
        };
        let count = requests.iter().count();
        if count > MAX_QUESTIONS || self.asked.len() + count > MAX_ASKED {
            let text = format!(
                "the upstream asks for {count} things at once before it answers; a client is asked {MAX_QUESTIONS} at most for \
                 one call, and {MAX_ASKED} for all of them"
            );
            let reason = Reason::TooManyQuestions;
            return Err(Trouble::new(reason, Executed::Unknown, text));
        }
        let mut questions = Vec::with_capacity(count);
        for (key, request) in requests.iter() {
            let request = Object::parse(request).unwrap_or_default();
            let params = request.get("params").and_then(Object::parse);
            let asks = request.string("method").unwrap_or_default();
            let kind = Kind::of(&asks, &params.clone().unwrap_or_default());
            let Some(kind) = kind else {
                return Err(invalid(&format!(
                    "it asks for what no revision has{}",
                    trouble::excerpt(asks.as_bytes())
                )));
            };
            if let Some(lacking) = kind.lacking(self.modern.client.can) {
                let times = if rounds.count > 1 { "again " } else { "" };
                let text = format!(
                    "to answer {method}, the upstream {times}asks the client for something that it did not say it can do \
                     ({lacking}). Use a client that can, or another tool"
                );
                let reason = Reason::ClientCapability;
                return Err(Trouble::new(reason, Executed::Unknown, text));
            }
            self.last_asked += 1;
            let number = self.last_asked;
            let params = params.map(|params| self.params_for_client(params, kind, number));
            let params = params.map_or_else(String::new, |it| format!(r#","params":{it}"#));
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{},"method":{}{params}}}"#,
                client::ferry_id(number),
                quote(&asks)
            );
            let question = Question {
                key: key.into(),
                kind,
                number,
                answer: None,
            };
            questions.push((question, text));
        }
        Ok(questions)
    }

    /// Members of a question that the client's revision has in another form.
    fn params_for_client(&self, mut params: Object<'_>, kind: Kind, number: u64) -> String {
        match kind {
            // 2025-06-18 knows forms only, and no `mode`.
            Kind::Elicit if self.client_version() < "2025-11-25" => {
                params.remove("mode");
            }
            // 2025-11-25 wants an id for a notification of completion, which this upstream will never send.
            Kind::ElicitByUrl if !params.has("elicitationId") => {
                params.set(
                    "elicitationId",
                    quote(&format!("ferry:elicitation:{number}")),
                );
            }
            _ => {}
        }
        params.to_string()
    }

    /// The client answers a question. Its newest credential goes with the call from now on.
    pub(in super::super) fn round_answered(
        &mut self,
        id: &Id,
        number: u64,
        answer: &Message,
        origin: Origin<C>,
    ) {
        let Some(request) = self.ledger.get_mut(id) else {
            return self.count(Counted::StrayClientMessage);
        };
        request.origin = Origin {
            post: None,
            ..origin
        };
        let Some(rounds) = request.rounds.as_deref_mut() else {
            return;
        };
        let Some(question) = rounds.questions.iter_mut().find(|it| it.number == number) else {
            return;
        };
        let given = answer.result().filter(|result| result.starts_with('{'));
        match given {
            Some(result) => question.answer = Some(result.into()),
            // There is no place for an error in the answers; of all, only elicitation has a result that means "no".
            None if matches!(question.kind, Kind::Elicit | Kind::ElicitByUrl) => {
                question.answer = Some(r#"{"action":"cancel"}"#.into());
            }
            None => {
                let what = if answer.is_error() {
                    "refused"
                } else {
                    "answered with something else"
                };
                let text = format!(
                    "the upstream asked the client for something before it answers, and the client {what}{}; the request \
                     may have been executed in part",
                    trouble::excerpt(answer.text())
                );
                let trouble = Trouble::new(Reason::InputRefused, Executed::Unknown, text);
                return self.fail(id, &trouble);
            }
        }
        if rounds.questions.iter().all(|it| it.answer.is_some()) {
            request.place = Place::Queued;
            self.queue.push_back(Queued::Request(id.clone()));
        }
    }

    /// The call of these questions is over: the client need not answer them any more.
    pub(in super::super) fn withdraw_questions(&mut self, id: &Id) {
        let of_call = |asked: &Asked| matches!(asked, Asked::Round(call) if call == id);
        let asked = self.asked.iter().filter(|(_, asked)| of_call(asked));
        let numbers: Vec<u64> = asked.map(|(number, _)| *number).collect();
        for number in numbers {
            self.asked.remove(&number);
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"the call that asked is over"}}}}"#,
                client::ferry_id(number)
            );
            self.deliver(text.into(), About::During(id.clone()));
        }
    }
}

/// Whether an upstream may ask before it answers such a request.
pub(super) fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Whether a round can be played at all.
fn may_go_on<T>(rounds: &Rounds, method: &str, asked: Vec<T>) -> Result<Vec<T>, Trouble> {
    if !may_ask(method) {
        return Err(invalid(&format!("it asks for input to answer {method}")));
    }
    if asked.is_empty() && rounds.state.is_none() {
        return Err(invalid("it asks for input, and for none"));
    }
    if rounds.count > MAX_ROUNDS {
        let text = format!(
            "the upstream asked for more input {MAX_ROUNDS} times and never answered; the request may have been executed in part"
        );
        return Err(Trouble::new(
            Reason::TooManyQuestions,
            Executed::Unknown,
            text,
        ));
    }
    Ok(asked)
}

fn invalid(why: &str) -> Trouble {
    let text = format!(
        "the upstream's answer breaks the protocol ({why}); the request may have been executed"
    );
    Trouble::new(Reason::UpstreamInvalid, Executed::Unknown, text)
}
