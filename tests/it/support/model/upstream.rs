//! What the model upstream does.

use std::time::Duration;

use bytes::Bytes;
use mcp_ferry::proto::bridge::{Body, CallId, End, Input, Refusal, Reply};

use super::{Check, Kind, Question, Session, World};

impl World {
    /// The upstream goes on with some exchange.
    pub fn upstream(&mut self) -> Check {
        if self.random.percent(3) {
            return self.speak_into_the_void();
        }
        let open: Vec<CallId> = self.exchanges.keys().copied().collect();
        match self.random.pick(&open).copied() {
            Some(call) => self.go_on(call),
            None => Ok(()),
        }
    }

    /// The upstream goes on with the first exchange that has something to go on with. `false`: there is none.
    pub fn upstream_turn(&mut self) -> Result<bool, String> {
        let idle = |kind: Kind, begun: bool| kind == Kind::Listen && begun;
        let next = self
            .exchanges
            .iter()
            .find(|(_, exchange)| !idle(exchange.kind, exchange.begun));
        match next.map(|(call, _)| *call) {
            Some(call) => self.go_on(call).map(|()| true),
            None => Ok(false),
        }
    }

    /// A session is forgotten, as by a restart.
    pub fn session_dies(&mut self) -> Check {
        let alive = self.sessions.iter().filter(|(_, session)| session.alive);
        let names: Vec<String> = alive.map(|(name, _)| name.clone()).collect();
        if let Some(name) = self.random.pick(&names).cloned() {
            self.note(|| format!("   {name} dies"));
            self.sessions
                .entry(name)
                .and_modify(|session| session.alive = false);
        }
        Ok(())
    }

    /// Replies that were under way when their exchange was dropped or over: nothing may come of them.
    fn speak_into_the_void(&mut self) -> Check {
        let Some(call) = self.random.pick(&self.closed).copied() else {
            return Ok(());
        };
        let text = Bytes::from(format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/void","params":{{"n":"{}-0"}}}}"#,
            self.tag
        ));
        let reply = match self.random.below(4) {
            0 => Reply::Message {
                text,
                event_id: None,
            },
            1 => Reply::End(End::Complete),
            2 => Reply::Head {
                status: 200,
                session: Some("void".into()),
                body: Body::Events,
            },
            _ => Reply::Refused(Box::new(Refusal {
                status: 404,
                ..Refusal::default()
            })),
        };
        self.note(|| format!("<< {call:?} (over) {reply:?}"));
        self.bridge.handle(Input::Reply(call, reply), self.now);
        match self.bridge.poll_output() {
            Some(output) => Err(format!("an exchange that is over brought {output:?}")),
            None => Ok(()),
        }
    }

    fn go_on(&mut self, call: CallId) -> Check {
        let exchange = &self.exchanges[&call];
        match (exchange.begun, exchange.carries) {
            (false, _) => self.begin(call),
            (true, true) => self.stream(call),
            (true, false) => self.feed(call, Reply::End(End::Complete)),
        }
    }

    fn begin(&mut self, call: CallId) -> Check {
        let exchange = &self.exchanges[&call];
        let kind = exchange.kind;
        let unknown = exchange
            .session
            .as_ref()
            .filter(|name| !self.sessions[*name].alive)
            .cloned();
        if let Some(name) = unknown.filter(|_| !self.faults || self.random.percent(90)) {
            return self.refuse_session(call, &name);
        }
        if self.faults && self.random.percent(25) {
            return self.fail(call, kind);
        }
        let (json, events) = (self.random.percent(40), self.random.percent(80));
        let body = if json {
            Body::Json
        } else if events {
            Body::Events
        } else {
            Body::Lines
        };
        let body = match kind {
            Kind::Initialized | Kind::Notice | Kind::Answer | Kind::Cancel
                if self.random.percent(85) =>
            {
                Body::Other
            }
            Kind::Delete => Body::Other,
            Kind::Listen | Kind::Resume(_) => Body::Events,
            _ => body,
        };
        if kind == Kind::Listen && self.random.percent(15) {
            return self.refuse(call, 405, false, "");
        }
        if let Kind::Request(index) = kind {
            self.execute(index)?;
        }
        if let Some(name) = self.exchanges[&call]
            .session
            .clone()
            .filter(|_| kind == Kind::Delete)
        {
            self.sessions
                .entry(name)
                .and_modify(|session| session.alive = false);
        }
        let mut named = None;
        if kind == Kind::Initialize && self.stateful {
            let name = format!("{}-s{}", self.tag, self.sessions.len() + 1);
            let session = Session {
                generation: self.exchanges[&call].generation,
                alive: true,
                adopted: false,
                refused: false,
                deleted: 0,
            };
            self.sessions.insert(name.clone(), session);
            named = Some(name);
        }
        self.exchanges.entry(call).and_modify(|exchange| {
            exchange.begun = true;
            exchange.carries = body != Body::Other;
            exchange.events = body == Body::Events;
            exchange.named.clone_from(&named);
        });
        self.feed(
            call,
            Reply::Head {
                status: 200,
                session: named.map(Into::into),
                body,
            },
        )
    }

    /// What an upstream does wrong before it answers.
    fn fail(&mut self, call: CallId, kind: Kind) -> Check {
        let choice = self.random.below(9);
        // Whether it was executed nobody can tell from a lost connection or a 5xx.
        if let (Kind::Request(index), 1..=3) = (kind, choice)
            && self.random.percent(60)
        {
            self.execute(index)?;
        }
        match choice {
            0 => self.feed(call, Reply::End(End::Unreached("refused".to_owned()))),
            1 => self.feed(call, Reply::End(End::Lost("reset".to_owned()))),
            2 => self.refuse(call, 500, false, "oops"),
            3 => self.refuse(
                call,
                503,
                false,
                r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"busy"}}"#,
            ),
            4 => self.refuse(call, 401, true, "who?"),
            5 => self.refuse(call, 403, true, "you?"),
            6 => self.refuse(call, 429, false, "slow down"),
            7 => self.refuse(
                call,
                400,
                false,
                r#"{"jsonrpc":"2.0","error":{"code":2,"message":"bad"}}"#,
            ),
            _ => self.refuse(call, 302, false, ""),
        }
    }

    fn refuse_session(&mut self, call: CallId, name: &str) -> Check {
        self.sessions
            .entry(name.to_owned())
            .and_modify(|session| session.refused = true);
        match self.random.below(3) {
            0 => self.refuse(
                call,
                400,
                false,
                "Bad Request: No valid session ID provided",
            ),
            1 => self.refuse(call, 401, false, "Unauthorized: Session not found"),
            _ => self.refuse(call, 404, false, ""),
        }
    }

    fn refuse(&mut self, call: CallId, status: u16, challenge: bool, body: &'static str) -> Check {
        let refusal = Refusal {
            status,
            challenges: if challenge {
                vec![b"Bearer".to_vec()]
            } else {
                Vec::new()
            },
            body: Bytes::from_static(body.as_bytes()),
            ..Refusal::default()
        };
        self.feed(call, Reply::Refused(Box::new(refusal)))
    }

    /// Runs a request of the client.
    fn execute(&mut self, index: usize) -> Check {
        let request = &mut self.requests[index];
        request.executed += 1;
        if request.promised {
            return Err(format!(
                "{} was executed, and the client was told that it was not",
                request.nonce
            ));
        }
        if request.executed > 1 && !request.safe {
            return Err(format!("{} was executed twice", request.nonce));
        }
        Ok(())
    }

    /// Something on the body of an answer.
    fn stream(&mut self, call: CallId) -> Check {
        let exchange = &self.exchanges[&call];
        let owes = !exchange.answered
            && matches!(
                exchange.kind,
                Kind::Initialize | Kind::Request(_) | Kind::Resume(_) | Kind::Restore
            );
        if !self.faults {
            return match owes {
                true => self.answer_request(call),
                false => self.feed(call, Reply::End(End::Complete)),
            };
        }
        match self.random.below(100) {
            0..20 => {
                let nonce = self.nonce();
                let text = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"n":"{nonce}"}}}}"#
                );
                self.due.push_back(text.clone());
                self.say(call, text)
            }
            20..35 => self.ask(call),
            35..65 if owes => self.answer_request(call),
            65..70 => self.answer_another(call),
            70..76 => self.mark(call),
            76..79 => self.say(call, "no message".to_owned()),
            79 => self.feed(call, Reply::Oversized),
            80..83 => self.withdraw(call),
            83..88 => {
                let (first, second) = (self.nonce(), self.nonce());
                let text = |nonce| {
                    format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"n":"{nonce}"}}}}"#
                    )
                };
                self.due.extend([text(first.clone()), text(second.clone())]);
                self.say(call, format!("[{}, {}]", text(first), text(second)))
            }
            88..95 => self.feed(call, Reply::End(End::Complete)),
            95..99 => self.feed(call, Reply::End(End::Cut("reset".to_owned()))),
            _ => Ok(()),
        }
    }

    fn say(&mut self, call: CallId, text: String) -> Check {
        let exchange = &self.exchanges[&call];
        let event_id =
            (exchange.events && self.random.percent(30)).then(|| self.event_id(call).into());
        self.feed(
            call,
            Reply::Message {
                text: text.into(),
                event_id,
            },
        )
    }

    fn event_id(&mut self, call: CallId) -> String {
        self.marks += 1;
        let request = match self.exchanges[&call].kind {
            Kind::Request(index) | Kind::Resume(index) => index.to_string(),
            _ => "-".to_owned(),
        };
        format!("{}:{request}:{}", self.tag, self.marks)
    }

    fn mark(&mut self, call: CallId) -> Check {
        if !self.exchanges[&call].events {
            return Ok(());
        }
        let event_id = self.random.percent(80).then(|| self.event_id(call).into());
        let retry = self.random.percent(50).then(|| Duration::from_millis(700));
        self.feed(call, Reply::Mark { event_id, retry })
    }

    /// The answer that the exchange is for.
    fn answer_request(&mut self, call: CallId) -> Check {
        let exchange = &self.exchanges[&call];
        let (kind, id) = (exchange.kind, exchange.id.clone());
        let (named, generation) = (exchange.named.clone(), exchange.generation);
        let error = self.faults && self.random.percent(10);
        self.exchanges
            .entry(call)
            .and_modify(|exchange| exchange.answered = true);
        let nonce = match self.exchanges[&call].request {
            Some(index) => self.requests[index].nonce.clone(),
            None => self.nonce(),
        };
        if error {
            return self.say(call, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":3,"message":"no","data":{{"n":"{nonce}"}}}}}}"#));
        }
        let mut version = "";
        if kind == Kind::Initialize {
            version = r#""protocolVersion":"2025-11-25","#;
            self.current = generation;
            if let Some(name) = named {
                self.sessions
                    .entry(name)
                    .and_modify(|session| session.adopted = true);
            }
        }
        self.say(
            call,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{version}"n":"{nonce}"}}}}"#),
        )
    }

    /// An answer where it was not asked for: to a running request of the same session, or to nothing.
    fn answer_another(&mut self, call: CallId) -> Check {
        let exchange = &self.exchanges[&call];
        let same = |index: &usize| {
            let request = &self.requests[*index];
            request.executed > 0
                && !request.initialize
                && request.sent_on.as_ref() == Some(&exchange.session)
        };
        let running = self
            .live
            .values()
            .copied()
            .find(same)
            .filter(|_| exchange.session.is_some());
        let (id, nonce) = match running {
            Some(index) if exchange.kind != Kind::Initialize => (
                self.requests[index].id.clone(),
                self.requests[index].nonce.clone(),
            ),
            _ => ("\"nobody\"".to_owned(), format!("{}-0", self.tag)),
        };
        self.say(
            call,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"n":"{nonce}"}}}}"#),
        )
    }

    fn ask(&mut self, call: CallId) -> Check {
        let nonce = self.nonce();
        let exchange = &self.exchanges[&call];
        let session = exchange.session.clone().or_else(|| exchange.named.clone());
        let question = Question {
            nonce: nonce.clone(),
            session,
            generation: exchange.generation,
            answer: None,
            answered: 0,
            tried: false,
            withdrawn: false,
        };
        let id = self.questions.len();
        self.questions.push(question);
        self.say(call, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"sampling/createMessage","params":{{"n":"{nonce}"}}}}"#))
    }

    /// Takes back a question of the same session.
    fn withdraw(&mut self, call: CallId) -> Check {
        let exchange = &self.exchanges[&call];
        let (session, generation) = (exchange.session.clone(), exchange.generation);
        let found = self.asked.values().copied().find(|index| {
            let question = &self.questions[*index];
            question.session == session && question.generation == generation
        });
        let Some(id) = found else { return Ok(()) };
        let nonce = self.nonce();
        self.questions[id].withdrawn = true;
        self.say(call, format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"n":"{nonce}"}}}}"#))
    }

    fn feed(&mut self, call: CallId, reply: Reply) -> Check {
        self.note(|| format!("<< {call:?} {reply:?}"));
        if matches!(reply, Reply::End(_) | Reply::Refused(_)) {
            let over = self.exchanges.remove(&call);
            if let (Some(Kind::Answer), Reply::End(End::Unreached(_))) =
                (over.as_ref().map(|over| over.kind), &reply)
            {
                // It never left, so it may be sent again.
                let question = over.and_then(|over| over.id.parse::<usize>().ok());
                if let Some(question) = question.and_then(|index| self.questions.get_mut(index)) {
                    question.answered -= 1;
                }
            }
            self.closed.push(call);
            self.open_gate(call);
        }
        self.gate_after(call, &reply);
        if self.ended {
            self.due.clear();
        }
        self.handle(Input::Reply(call, reply))
    }
}
