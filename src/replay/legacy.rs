//! A client of the old transport in the place of a recorded one: a handshake, then one request after the other. What the
//! server asks during a request is answered as the recorded client answered during the same one. What it answered while
//! nothing was in flight, and which roots it has, belongs to the whole connection: it is given when it is asked for,
//! each answer once, in their order. Where there is no answer, an error is given.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::recording::{Answer, Connection};
use super::{Came, GRACE, LARGEST_MESSAGE, PATIENCE};
use crate::legacy_client::LegacyClient;
use crate::proto::era::METHOD_NOT_FOUND;

/// One client in the place of a recorded one.
pub(super) struct Player {
    address: SocketAddr,
    initialize: Value,
    /// None before the handshake, and when the connection is lost.
    client: Option<LegacyClient>,
    answers: Vec<Answer>,
    last_id: u64,
}

impl Player {
    pub(super) fn new(address: SocketAddr, connection: &Connection) -> Self {
        let initialize = connection.initialize.clone();
        Self {
            address,
            initialize: initialize.unwrap_or_else(own_parameters),
            client: None,
            answers: connection.answers.clone(),
            last_id: 0,
        }
    }

    /// Whether requests can be played.
    pub(super) fn is_ready(&self) -> bool {
        self.client.is_some()
    }

    /// Opens a connection and shakes hands: ready, if that ends in a result. Answers are taken from those of the exchange
    /// with this number.
    ///
    /// # Errors
    /// A sentence, when there is no ferry in between.
    pub(super) async fn begin(&mut self, exchange: Option<u64>) -> Result<Came, String> {
        let client = LegacyClient::open(self.address, PATIENCE + GRACE, LARGEST_MESSAGE).await?;
        self.client = Some(client);
        let params = Some(self.initialize.clone());
        let came = self.request("initialize", params, exchange).await;
        if !matches!(&came, Came::Message(answer) if answer.get("error").is_none()) {
            self.client = None;
            return Ok(came);
        }
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        match self.post(&initialized).await {
            Ok(()) => Ok(came),
            Err(why) => {
                self.client = None;
                Ok(Came::Nothing(format!("notifications/initialized: {why}")))
            }
        }
    }

    /// Asks, answers what is asked meanwhile, and returns the outcome.
    pub(super) async fn request(
        &mut self,
        method: &str,
        params: Option<Value>,
        exchange: Option<u64>,
    ) -> Came {
        self.last_id = self.last_id.saturating_add(1);
        let id = json!(self.last_id);
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if let (Some(params), Some(message)) = (params, message.as_object_mut()) {
            message.insert("params".to_owned(), params);
        }
        let outcome = match self.post(&message).await {
            Ok(()) => self.outcome(&id, exchange).await,
            Err(why) => Err(why),
        };
        outcome.map_or_else(Came::Nothing, Came::Message)
    }

    async fn outcome(&mut self, id: &Value, exchange: Option<u64>) -> Result<Value, String> {
        loop {
            let client = self.client.as_mut().ok_or("the connection is lost")?;
            let message = match client.message().await {
                Ok(message) => message,
                Err(why) => {
                    self.client = None;
                    return Err(why);
                }
            };
            match (
                message.get("method").and_then(Value::as_str),
                message.get("id"),
            ) {
                (Some(asked), Some(asked_id)) => {
                    let answer = self.answer(asked, asked_id, exchange);
                    self.post(&answer).await?;
                }
                (None, Some(of)) if of == id => return Ok(message),
                // A notification, or nothing that belongs here.
                _ => {}
            }
        }
    }

    async fn post(&mut self, message: &Value) -> Result<(), String> {
        let client = self.client.as_ref().ok_or("the connection is lost")?;
        let status = client.post_for_status(message).await;
        match status {
            Ok(202) => Ok(()),
            Ok(status) => {
                // The ferry knows the connection no more.
                if status == 404 {
                    self.client = None;
                }
                Err(format!("its POST was answered {status}"))
            }
            Err(why) => {
                self.client = None;
                Err(why)
            }
        }
    }

    /// The recorded client's answer to a question of the server.
    fn answer(&mut self, asked: &str, id: &Value, exchange: Option<u64>) -> Value {
        let mut answer = json!({"jsonrpc": "2.0", "id": id});
        let (member, value) = match asked {
            "ping" => ("result", json!({})),
            _ => recorded_answer(&mut self.answers, asked, exchange).unwrap_or_else(|| {
                let message = "the recording has no answer to this";
                (
                    "error",
                    json!({"code": METHOD_NOT_FOUND, "message": message}),
                )
            }),
        };
        answer
            .as_object_mut()
            .map(|answer: &mut Map<_, _>| answer.insert(member.to_owned(), value));
        answer
    }
}

/// Takes the next answer to this question: first one that was given during the same exchange, then one of the connection's.
fn recorded_answer(
    answers: &mut Vec<Answer>,
    asked: &str,
    exchange: Option<u64>,
) -> Option<(&'static str, Value)> {
    let same = |it: &Answer| exchange.is_some_and(|exchange| it.during.contains(&exchange));
    let of_all = |it: &Answer| it.during.is_empty() || asked == "roots/list";
    let find = |fits: &dyn Fn(&Answer) -> bool| {
        let mut answers = answers.iter();
        answers.position(|it| it.method == asked && fits(it))
    };
    let at = find(&same).or_else(|| find(&of_all))?;
    let recorded = answers.remove(at).message;
    let mut members = ["result", "error"].into_iter();
    members.find_map(|member| Some((member, recorded.get(member)?.clone())))
}

/// For recordings that begin after the handshake, or of clients that have none.
fn own_parameters() -> Value {
    json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {"sampling": {}, "elicitation": {}, "roots": {}},
        "clientInfo": {"name": "mcp-ferry-replay", "version": env!("CARGO_PKG_VERSION")},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(method: &str, during: &[u64], says: &str) -> Answer {
        Answer {
            method: method.to_owned(),
            message: json!({"id": 1, "result": says}),
            during: during.to_vec(),
        }
    }

    #[test]
    fn an_answer_belongs_to_the_exchange_during_which_it_was_given() {
        let mut answers = vec![
            answer("sampling/createMessage", &[1], "of one"),
            answer("sampling/createMessage", &[2, 3], "of two or three"),
            answer("sampling/createMessage", &[], "of all"),
            answer("roots/list", &[1], "roots"),
        ];
        let mut ask = |method, exchange| {
            let answer = recorded_answer(&mut answers, method, exchange);
            answer.map(|(member, value)| {
                assert_eq!(member, "result");
                value.as_str().unwrap_or_default().to_owned()
            })
        };
        let said = |text: &str| Some(text.to_owned());
        let sampling = "sampling/createMessage";
        // That of exchange 1, which is not played, goes to nobody else.
        assert_eq!(ask(sampling, Some(3)), said("of two or three"));
        assert_eq!(ask(sampling, Some(2)), said("of all"));
        assert_eq!(ask(sampling, Some(2)), None);
        assert_eq!(ask(sampling, None), None);
        // A client has its roots whatever it is doing.
        assert_eq!(ask("roots/list", Some(4)), said("roots"));
        assert_eq!(ask("roots/list", Some(4)), None);
        assert_eq!(ask(sampling, Some(1)), said("of one"));
    }
}
