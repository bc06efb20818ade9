//! The model upstream in the modern era: it keeps nothing between requests, says what it is, asks before it answers, and
//! tells of changes on streams of their own.

use std::collections::BTreeSet;

use mcp_ferry::proto::bridge::{CallId, End};

use crate::books::{Check, Exchange, Kind, Offers, Round, Said};
use crate::queue::Key;
use crate::world::World;

const META: &str = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"m","version":"1"}}"#;
/// Questions that a round may have, as they are put, without their parameters; the last one no revision has.
const QUESTIONS: [&str; 4] = [
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "oracle/ask",
];

impl World {
    pub(super) fn on_modern(&mut self, key: Key, exchange: &Exchange) -> Check {
        match exchange.kind {
            Kind::Discover | Kind::ListTools => self.start_job(key, exchange),
            Kind::Subscriptions => self.on_subscriptions(key, exchange),
            Kind::Notice => {
                self.connections[key.0].books.notify(&exchange.id)?;
                self.accept(key, 202);
            }
            Kind::Request(index) => {
                if self.lacks_something(key, exchange) {
                    return Ok(());
                }
                self.connections[key.0].books.execute(index)?;
                self.start_job(key, exchange);
            }
            _ => return Err(format!("not of the modern era: {exchange:?}")),
        }
        Ok(())
    }

    /// A request whose headers do not fit, or which needs what its client cannot do, is not run.
    fn lacks_something(&mut self, key: Key, exchange: &Exchange) -> bool {
        let wanted = format!("mcp-param-region{}", self.server.tools);
        let header = exchange.header.as_ref();
        let error = if exchange.wants_header && header != Some(&wanted) {
            self.saw("headers do not fit");
            r#"{"code":-32020,"message":"Mcp-Param-Region is missing"}"#
        } else if header.is_none() && self.faults && self.random.percent(3) {
            r#"{"code":-32021,"message":"no","data":{"requiredCapabilities":{"sampling":{}}}}"#
        } else {
            if header.is_some() {
                self.saw("argument in a header");
            }
            return false;
        };
        let id = &exchange.id;
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
        match self.random.percent(60) {
            true => self.refuse(key, 400, &text),
            false => self.answer_at_once(key, &text),
        }
        true
    }

    fn on_subscriptions(&mut self, key: Key, exchange: &Exchange) {
        match self.random.below(20) {
            0 if self.faults => self.refuse(
                key,
                404,
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#,
            ),
            1 | 2 if self.faults => self.refuse(key, 503, ""),
            3 if self.faults => self.refuse(key, 401, "who?"),
            _ => self.start_job(key, exchange),
        }
    }

    /// A stream for changes begins, or does not get as far as that.
    pub(super) fn acknowledge(&mut self, place: usize) {
        if self.faults && self.random.percent(8) {
            return self.saw("stream never acknowledged");
        }
        let filter = self.server.jobs[place].exchange.filter.clone();
        let mut uris = filter.unwrap_or_default().uris;
        if self.faults && self.random.percent(10) && uris.pop_first().is_some() {
            self.saw("subscription not accepted");
        }
        self.server.jobs[place].honoured = Some(uris.clone());
        let listed: Vec<String> = uris.iter().map(|uri| format!("{uri:?}")).collect();
        let id = &self.server.jobs[place].exchange.id;
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"notifications":{{"resourceSubscriptions":[{}]}},"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#,
            listed.join(",")
        );
        self.say(place, Said::Acknowledged(uris), &text);
        self.go_on_later(place);
    }

    /// A stream ends before its time; one for changes with a word, perhaps.
    pub(super) fn stop_listening(&mut self, place: usize) {
        let job = &self.server.jobs[place];
        if job.exchange.kind == Kind::Subscriptions {
            let id = &job.exchange.id;
            let text = match self.random.below(3) {
                0 => {
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete"}}}}"#)
                }
                1 => format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                ),
                _ => return self.close(place, End::Complete),
            };
            self.saw("stream ended by the upstream");
            self.say(place, Said::Noise, &text);
        }
        self.close(place, End::Complete);
    }

    /// Something changes.
    pub fn on_changes(&mut self) {
        match self.random.below(10) {
            0 if self.server.modern => {
                self.server.tools += 1;
                self.list_changes("tools");
            }
            1 => self.list_changes("resources"),
            2 if self.random.percent(10) => (0..300).for_each(|_| self.resource_changes(1)),
            _ => {
                let uri = self.random.below(3);
                self.resource_changes(uri);
            }
        }
    }

    /// The streams on which a change is told: of each connection, with their exchanges.
    fn told_on(
        &self,
        owner: usize,
        tells: impl Fn(&Exchange, &BTreeSet<String>) -> bool,
    ) -> Vec<(usize, CallId)> {
        let jobs = self.server.jobs.iter().enumerate();
        let of_it = jobs.filter(|(_, job)| {
            let honoured = job.honoured.as_ref();
            job.owner == owner && honoured.is_some_and(|uris| tells(&job.exchange, uris))
        });
        of_it
            .filter_map(|(place, job)| Some((place, job.outlet?.1)))
            .collect()
    }

    pub fn resource_changes(&mut self, uri: usize) {
        if !self.server.modern || !self.server.up {
            return;
        }
        let uri = format!("u:{uri}");
        for owner in 0..self.connections.len() {
            let streams = self.told_on(owner, |_, uris| uris.contains(&uri));
            let calls: Vec<CallId> = streams.iter().map(|(_, call)| *call).collect();
            let books = &mut self.connections[owner].books;
            let nonces = books.resource_changes(&uri, &calls);
            for ((place, _), nonce) in streams.into_iter().zip(nonces) {
                let params = format!(r#""uri":"{uri}","n":"{nonce}""#);
                self.tell(place, "notifications/resources/updated", &params);
            }
        }
    }

    fn list_changes(&mut self, list: &str) {
        let method = format!("notifications/{list}/list_changed");
        for owner in 0..self.connections.len() {
            let asked = |exchange: &Exchange| {
                let filter = exchange.filter.as_ref();
                filter.is_some_and(|filter| filter.lists.contains(list))
            };
            for (place, _) in self.told_on(owner, |exchange, _| asked(exchange)) {
                let nonce = self.connections[owner].books.nonce();
                self.tell(place, &method, &format!(r#""n":"{nonce}""#));
            }
        }
    }

    fn tell(&mut self, place: usize, method: &str, params: &str) {
        self.saw("change told");
        let id = &self.server.jobs[place].exchange.id;
        let text = |meta: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}{meta}}}}}"#)
        };
        let meta = format!(r#","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        let (plain, full) = (text(""), text(&meta));
        self.say(place, Said::Told(plain), &full);
    }

    pub(super) fn modern_answer_text(
        &mut self,
        place: usize,
        id: &str,
        good: bool,
    ) -> (Said, String) {
        let exchange = &self.server.jobs[place].exchange;
        let (kind, owner) = (exchange.kind, self.server.jobs[place].owner);
        let Kind::Request(index) = kind else {
            return self.own_answer_text(kind, id, good);
        };
        let request = &self.connections[owner].books.requests[index];
        let (nonce, method) = (request.nonce.clone(), request.method.clone());
        if !good {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":3,"message":"no","data":{{"n":"{nonce}"}}}}}}"#
            );
            return (Said::Answer(id.to_owned(), nonce, false), text);
        }
        let asks = matches!(&*method, "tools/call" | "resources/read" | "prompts/get")
            || self.random.percent(2);
        if asks && self.faults && id != "null" && self.random.percent(self.plan.rounds) {
            return self.wants_text(owner, index, id);
        }
        let more = match &*method {
            "tools/list" => format!(r#""ttlMs":1,"cacheScope":"public",{},"#, self.tools(true)),
            _ => String::new(),
        };
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{more}"n":"{nonce}",{META}}}}}"#
        );
        (Said::Answer(id.to_owned(), nonce, true), text)
    }

    /// The answer to what the ferry asks for itself.
    fn own_answer_text(&mut self, kind: Kind, id: &str, good: bool) -> (Said, String) {
        let error = |code: i64, more: &str| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"{more}}}}}"#
            );
            (Said::Other, text)
        };
        if !good {
            return match self.random.below(4) {
                0 => error(-32022, r#","data":{"supported":["2026-07-28"]}"#),
                1 => error(-32022, r#","data":{"supported":["2031-01-01"]}"#),
                2 => error(-32022, ""),
                _ => error(3, ""),
            };
        }
        if kind == Kind::ListTools {
            let last = !self.faults || self.random.percent(70);
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{}}}}}"#,
                self.tools(last)
            );
            return (Said::Noise, text);
        }
        let mut offers = Offers::default();
        for list in ["tools", "prompts", "resources"] {
            if self.random.percent(60) {
                offers.lists.insert(list.to_owned());
            }
        }
        offers.subscribe = self.random.percent(75);
        let promise = |list: &str| offers.lists.contains(list);
        let mut text = format!(
            r#""capabilities":{{"tools":{{"listChanged":{}}},"prompts":{{"listChanged":{}}},"resources":{{"listChanged":{},"subscribe":{}}}}}"#,
            promise("tools"),
            promise("prompts"),
            promise("resources"),
            offers.subscribe
        );
        if self.random.percent(10) {
            offers = Offers::default();
            text = r#""instructions":"none""#.to_owned();
        }
        if self.random.percent(70) {
            text.push_str(r#","supportedVersions":["2025-11-25","2026-07-28"]"#);
        }
        if self.random.percent(70) {
            text = format!("{text},{META}");
        }
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{text}}}}}"#);
        (Said::Discovered(offers), text)
    }

    /// A page of the list of tools: all of it, or the half without the tool that wants a header.
    fn tools(&self, last: bool) -> String {
        let tool = |name: &str, header: &str| {
            format!(
                r#"{{"name":"{name}","inputSchema":{{"type":"object","properties":{{"region":{{"type":"string","x-mcp-header":"{header}"}}}}}}}}"#
            )
        };
        let odd = tool("odd", "not a name");
        let number = self.server.tools;
        match last {
            true => format!(
                r#""tools":[{odd},{}]"#,
                tool("region", &format!("Region{number}"))
            ),
            false => format!(r#""tools":[{odd}],"nextCursor":"more""#),
        }
    }

    /// What the upstream wants to know before it answers.
    fn wants_text(&mut self, owner: usize, index: usize, id: &str) -> (Said, String) {
        self.saw("asked for input");
        let count = match self.random.below(100) {
            0 => 40,
            choice => choice % 4,
        };
        let mut round = Round::default();
        let mut asked = Vec::new();
        for number in 0..count {
            let most = if self.random.percent(5) { 4 } else { 3 };
            let method = QUESTIONS[self.random.below(most)];
            let books = &mut self.connections[owner].books;
            let (question, nonce) = books.round_question(index);
            let key = format!("k{number}");
            asked.push(format!(
                r#""{key}":{{"method":"{method}","params":{{"n":"{nonce}"}}}}"#
            ));
            round.questions.insert(key, question);
        }
        let nonce = self.connections[owner].books.nonce();
        let state = match self.random.below(10) {
            0..3 => None,
            3 => Some(format!(r#"{{"n":"{nonce}","x":1.50}}"#)),
            _ => Some(format!(r#""{nonce} \u00e9""#)),
        };
        let mut parts = vec![r#""resultType":"input_required""#.to_owned()];
        if !asked.is_empty() || self.random.percent(20) {
            parts.push(format!(r#""inputRequests":{{{}}}"#, asked.join(",")));
        }
        if let Some(state) = &state {
            round.state = Some(state.clone());
            parts.push(format!(r#""requestState":{state}"#));
        }
        let parts = parts.join(",");
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{parts},{META}}}}}"#);
        (Said::Wants(round), text)
    }
}
