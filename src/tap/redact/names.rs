//! Which names have secrets for values: members of JSON objects, headers, query parameters, words before `:` or `=`, elements
//! of XML, options of commands.
//! This is the one list. Names are compared without regard to case, `-` and `_`, so that `X-Api-Key`, `x_api_key` and
//! `xApiKey` are one.

/// What is done with a value because of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It is replaced.
    Secret,
    /// It is the id of a session or connection: its hash is shown, so that one is told from another.
    Id,
}

/// Names that hold one of these are secrets.
const PARTS: [&str; 16] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "session",
    "authorization",
    "cookie",
    "apikey",
    "privatekey",
    "accesskey",
    "accountkey",
    "applicationkey",
    "authkey",
    "subscriptionkey",
];

/// Names that end in one of these are ids.
const IDS: [&str; 2] = ["sessionid", "connectionid"];

/// Names that are these.
const WHOLE: [&str; 6] = [
    "codeverifier",
    "clientassertion",
    "xfunctionskey",
    "xamzsignature",
    "xamzcredential",
    "xgoogsignature",
];

/// Query parameters of OAuth and of signed URLs. Elsewhere these words are too common.
const IN_QUERIES: [&str; 5] = ["key", "code", "state", "sig", "signature"];

/// Names that only look like secrets. Without them the tap would hide what people open it for:
/// `progressToken` ties progress to its request; the others are words of OAuth's public metadata.
const HARMLESS: [&str; 1] = ["progresstoken"];

/// Endings of names that say something *about* secrets, and are public: `token_endpoint`, `token_type`,
/// `authorization_servers`, `token_endpoint_auth_methods_supported`.
const HARMLESS_ENDINGS: [&str; 5] = ["endpoint", "servers", "supported", "tokentype", "required"];

/// A shorter name is on no list but the operator's.
const SHORTEST: usize = 5;

/// The longest name that is looked at; of a longer one the end counts.
const LONGEST: usize = 128;

/// Names of the operator's, besides the list.
#[derive(Debug, Default)]
pub(super) struct Names {
    extra: Vec<Pattern>,
}

/// `name`, `*name`, `name*` or `*name*`.
#[derive(Debug)]
struct Pattern {
    name: String,
    begins_anywhere: bool,
    ends_anywhere: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let text = text.trim();
        Self {
            name: normal(text.trim_matches('*')),
            begins_anywhere: text.starts_with('*'),
            ends_anywhere: text.ends_with('*'),
        }
    }

    fn fits(&self, normal: &str) -> bool {
        match (self.begins_anywhere, self.ends_anywhere) {
            (false, false) => normal == self.name,
            (true, false) => normal.ends_with(&self.name),
            (false, true) => normal.starts_with(&self.name),
            (true, true) => normal.contains(&self.name),
        }
    }
}

impl Names {
    pub(super) fn new(extra: &[String]) -> Self {
        let patterns = extra.iter().map(|name| Pattern::new(name));
        Self {
            extra: patterns.filter(|own| !own.name.is_empty()).collect(),
        }
    }

    /// What the name says of its value. It is asked for every name that crosses: most of them say nothing.
    pub(super) fn class(&self, name: &str) -> Option<Class> {
        if name.len() < SHORTEST && self.extra.is_empty() {
            return None;
        }
        let name = normal(name);
        if self.extra.iter().any(|own| own.fits(&name)) {
            return Some(Class::Secret);
        }
        if HARMLESS.contains(&name.as_str())
            || HARMLESS_ENDINGS.iter().any(|end| name.ends_with(end))
        {
            return None;
        }
        if IDS.iter().any(|end| name.ends_with(end)) {
            return Some(Class::Id);
        }
        let secret = WHOLE.contains(&name.as_str()) || holds_part(&name);
        secret.then_some(Class::Secret)
    }

    /// What the name of a query parameter says of its value.
    pub(super) fn in_query(&self, name: &str) -> Option<Class> {
        let common = || IN_QUERIES.contains(&normal(name).as_str());
        self.class(name)
            .or_else(|| common().then_some(Class::Secret))
    }
}

/// Whether one of [`PARTS`] stands in the name. All of them are looked for in one go, and at most places none begins.
fn holds_part(name: &str) -> bool {
    name.bytes().enumerate().any(|(at, byte)| {
        matches!(byte, b't' | b's' | b'p' | b'c' | b'a')
            && name
                .get(at..)
                .is_some_and(|rest| PARTS.iter().any(|part| rest.starts_with(part)))
    })
}

/// Whether a value stays readable although its name is a secret's: there is nothing to hide in what is empty, a truth
/// value or a count of tokens (`maxTokens`, `input_tokens`).
pub(super) fn is_harmless(name: &str, value: &str) -> bool {
    match value {
        "" | "\"\"" | "{}" | "[]" | "true" | "false" | "null" => true,
        _ => is_number(value) && is_count(&normal(name)),
    }
}

fn is_number(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_digit())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'))
}

fn is_count(normal: &str) -> bool {
    [
        "tokens",
        "tokencount",
        "tokenlimit",
        "sessions",
        "sessioncount",
    ]
    .iter()
    .any(|end| normal.ends_with(end))
}

/// Whether everything up to the end of the line belongs to the value: those of headers hold spaces and semicolons.
pub(super) fn takes_the_line(name: &str) -> bool {
    let name = normal(name);
    name.ends_with("authorization") || name.ends_with("cookie")
}

/// Whether a value under this name is hidden even when it looks like an ordinary word.
pub(super) fn is_strict(name: &str) -> bool {
    let name = normal(name);
    ["password", "passwd", "passphrase", "secret", "apikey"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn normal(name: &str) -> String {
    let beyond = name.len().saturating_sub(LONGEST);
    let from = (beyond..=name.len()).find(|at| name.is_char_boundary(*at));
    let name = from.and_then(|from| name.get(from..)).unwrap_or_default();
    if name.is_ascii() {
        let mut normal = String::with_capacity(name.len());
        let kept = name.bytes().filter(|byte| !matches!(byte, b'-' | b'_'));
        normal.extend(kept.map(|byte| char::from(byte.to_ascii_lowercase())));
        return normal;
    }
    name.chars()
        .filter(|char| !matches!(char, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_s_list_is_known_however_it_is_written() {
        let names = Names::new(&[]);
        for name in [
            "Authorization",
            "proxy-authorization",
            "COOKIE",
            "set-cookie",
            "X-API-Key",
            "xApiKey",
            "api-key",
            "api_key",
            "apikey",
            "access_token",
            "refreshToken",
            "client_secret",
            "clientSecret",
            "Password",
            "aws-credentials",
            "session",
            "ocp-apim-subscription-key",
            "x-goog-api-key",
            "x-amz-security-token",
            "X-Auth-Key",
            "X-Functions-Key",
            "DD-APPLICATION-KEY",
            "AccountKey",
            "code_verifier",
            "Mcp-Param-Token",
        ] {
            assert_eq!(names.class(name), Some(Class::Secret), "{name}");
        }
        for name in ["sessionId", "session_id", "Mcp-Session-Id"] {
            assert_eq!(names.class(name), Some(Class::Id), "{name}");
        }
        for name in ["code", "state", "key", "sig"] {
            assert_eq!(names.class(name), None, "{name}");
            assert_eq!(names.in_query(name), Some(Class::Secret), "{name}");
        }
    }

    #[test]
    fn the_protocol_s_own_words_stay_readable() {
        let names = Names::new(&[]);
        for name in [
            "progressToken",
            "nextCursor",
            "cursor",
            "_meta",
            "id",
            "key",
            "token_endpoint",
            "token_type",
            "authorization_servers",
            "io.modelcontextprotocol/clientInfo",
        ] {
            assert_eq!(names.class(name), None, "{name}");
        }
        assert!(is_harmless("maxTokens", "1000"));
        assert!(is_harmless("hasToken", "true"));
        assert!(!is_harmless("maxTokens", "\"1000\""));
        assert!(!is_harmless("password", "1000"));
    }

    #[test]
    fn a_part_is_found_wherever_it_stands_and_none_is_too_short_to_be_looked_at() {
        for part in PARTS {
            for name in [
                part.to_owned(),
                format!("x{part}"),
                format!("{part}x"),
                format!("é{part}é"),
            ] {
                assert!(holds_part(&name), "{name}");
            }
            assert!(
                !holds_part(&part[1..]) && !holds_part(&part[..part.len() - 1]),
                "{part}"
            );
        }
        let listed = PARTS
            .iter()
            .chain(&IDS)
            .chain(&WHOLE)
            .map(|name| name.len());
        assert!(listed.min() >= Some(SHORTEST));
    }

    #[test]
    fn the_operator_adds_names_and_parts_of_names() {
        let extra = ["X-Tenant", "*pin", "cust*", "*ssn*", "progressToken", "*"];
        let names = Names::new(&extra.map(ToOwned::to_owned));
        for name in [
            "x_tenant",
            "bankPin",
            "customer",
            "theSSNofX",
            "progressToken",
        ] {
            assert_eq!(names.class(name), Some(Class::Secret), "{name}");
        }
        assert_eq!(names.class("pinned"), None);
        assert_eq!(names.class("tenant"), None);
    }
}
