//! Cursors of lists in pages: each server has its own, so a recorded one is no good for another server. In its place goes
//! the one that the new server gave with the page before. Pure.
//!
//! Bounds: one cursor for each that the recording holds.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::recording::{Call, Outcome};

/// What the new server's cursors are, by the recorded ones.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By method and recorded cursor; none where the new server's page was the last, or no page.
    next: HashMap<(String, String), Option<String>>,
}

/// How a request can be asked.
#[derive(Debug, PartialEq)]
pub(super) enum Ask {
    /// With these parameters.
    With(Option<Value>),
    /// The recorded cursor came with a page that was not played.
    Unknown,
    /// The new server has given no cursor in the place of the recorded one.
    Over,
}

impl Pages {
    /// The parameters of a request, with the new server's cursor where there is one.
    pub(super) fn ask(&self, call: &Call) -> Ask {
        let Some(cursor) = cursor(call) else {
            return Ask::With(call.params.clone());
        };
        let key = (call.method.clone(), cursor.to_owned());
        match self.next.get(&key) {
            Some(Some(new)) => {
                let mut params = call.params.clone();
                if let Some(params) = params.as_mut().and_then(Value::as_object_mut) {
                    params.insert("cursor".to_owned(), json!(new));
                }
                Ask::With(params)
            }
            Some(None) => Ask::Over,
            // The old server refused it, so the new one should; and a first page needs no cursor.
            None if cursor.is_empty() || was_refused(call) => Ask::With(call.params.clone()),
            None => Ask::Unknown,
        }
    }

    /// Takes note of a page's answer, if there was one.
    pub(super) fn learn(&mut self, call: &Call, answer: Option<&Value>) {
        let Some(Outcome::Message(recorded)) = &call.outcome else {
            return;
        };
        if let Some(old) = next_cursor(recorded).filter(|_| is_list(&call.method)) {
            let new = answer.and_then(next_cursor);
            let key = (call.method.clone(), old.to_owned());
            self.next.insert(key, new.map(ToOwned::to_owned));
        }
    }
}

fn is_list(method: &str) -> bool {
    method.ends_with("/list")
}

fn cursor(call: &Call) -> Option<&str> {
    let params = call.params.as_ref().filter(|_| is_list(&call.method))?;
    params.get("cursor")?.as_str()
}

fn next_cursor(message: &Value) -> Option<&str> {
    message.pointer("/result/nextCursor")?.as_str()
}

fn was_refused(call: &Call) -> bool {
    matches!(&call.outcome, Some(Outcome::Message(message)) if message.get("error").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(cursor: Option<&str>, next: Option<&str>) -> Call {
        Call {
            exchange: 1,
            method: "tools/list".to_owned(),
            name: None,
            params: cursor.map(|cursor| json!({"cursor": cursor, "other": 1})),
            headers: None,
            unplayable: None,
            outcome: Some(Outcome::Message(answer(next))),
        }
    }

    fn answer(next: Option<&str>) -> Value {
        match next {
            Some(next) => json!({"result": {"tools": [], "nextCursor": next}}),
            None => json!({"result": {"tools": []}}),
        }
    }

    #[test]
    fn a_page_is_asked_for_with_the_cursor_that_the_new_server_gave() {
        let mut pages = Pages::default();
        assert_eq!(pages.ask(&page(None, Some("a"))), Ask::With(None));
        assert_eq!(pages.ask(&page(Some("a"), None)), Ask::Unknown);
        pages.learn(&page(None, Some("a")), Some(&answer(Some("1"))));
        let params = json!({"cursor": "1", "other": 1});
        assert_eq!(pages.ask(&page(Some("a"), None)), Ask::With(Some(params)));
        // Another method's cursors are its own, and what is called so elsewhere is none.
        let mut other = page(Some("a"), None);
        other.method = "prompts/list".to_owned();
        assert_eq!(pages.ask(&other), Ask::Unknown);
        other.method = "tools/call".to_owned();
        assert_eq!(pages.ask(&other), Ask::With(other.params.clone()));
    }

    #[test]
    fn where_the_new_server_has_no_more_pages_the_next_one_is_missing() {
        for last in [Some(answer(None)), Some(json!({"error": {}})), None] {
            let mut pages = Pages::default();
            pages.learn(&page(None, Some("a")), last.as_ref());
            assert_eq!(pages.ask(&page(Some("a"), None)), Ask::Over, "{last:?}");
        }
    }

    #[test]
    fn a_cursor_that_the_old_server_refused_is_asked_again() {
        let mut bad = page(Some("bad"), None);
        bad.outcome = Some(Outcome::Message(json!({"error": {"code": -32602}})));
        let pages = Pages::default();
        assert_eq!(pages.ask(&bad), Ask::With(bad.params.clone()));
        let first = page(Some(""), None);
        assert_eq!(pages.ask(&first), Ask::With(first.params.clone()));
    }
}
