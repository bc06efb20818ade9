//! Canaries everywhere, random JSON, every cut, hostile texts.

use serde_json::Value;

use super::*;

/// Stands in every secret of these tests.
const CANARY: &str = "c4n4ry";

fn redactor() -> Redactor {
    Redactor::new(&["x-tenant".to_owned()])
}

fn text(text: &str) -> String {
    redactor().text(text)
}

/// Messages and other texts with a canary at one place each.
fn texts() -> Vec<String> {
    let long = "c4n4ryABCDEF0123456789";
    let json_web_token = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx{long}.{long}");
    let mut texts: Vec<String> = [
        // Members by name, with values of every type.
        r#"{"token":"X"}"#,
        r#"{"a":{"accessToken":"X"}}"#,
        r#"{"ACCESS-TOKEN" : "X" }"#,
        r#"{"\u0074oken":"X"}"#,
        r#"{"client_secret":["X"]}"#,
        r#"{"credentials":{"user":"a","pass":{"b":["X"]}},"c":1}"#,
        r#"{"password":"a\"X"}"#,
        r#"{"apiKey":"X","token":true}"#,
        r#"{"x_tenant":"X"}"#,
        r#"{"sessionId":"X"}"#,
        r#"{"access_token":"X","token_type":"Bearer","expires_in":1,"refresh_token":"X","id_token":"X"}"#,
        r#"{"properties":{"token":{"type":"string","default":"X","enum":["X"],"examples":{"description":"a","b":"X"}}}}"#,
        r#"{"properties":{"token":"X"}}"#,
        r#"{"properties":{"password":{"user":"X"}}}"#,
        r#"{"headers":[{"name":"Api-Key","value":"X"}]}"#,
        r#"{"properties":{"api_key":{"anyOf":[{"const":"X"},[{"type":"string","default":"X"}],{"enum":["X"]}],"items":{"oneOf":[{"const":"X"}]}}}}"#,
        // Arguments of commands.
        r#"["--token","X"]"#,
        r#"{"args":["-v","--api-key" , "X","--user","a"]}"#,
        r#"{"text":"run --token X1 --verbose --password 'X 1'"}"#,
        // Strings with JSON in them.
        r#"{"text":"{\"token\":\"X\"}"}"#,
        r#"{"text":"{\"a\":\"{\\\"password\\\":\\\"b\\\\\\\"X\\\"}\"}"}"#,
        r#"{"text":"{\"credentials\":[\"a\",\"X\"]}"}"#,
        r#"{"text":"5\" wide: {\"token\":\"X\"}"}"#,
        // Strings with other things in them.
        r#"{"uri":"https://example.com/?access_token=X&a=b"}"#,
        r#"{"uri":"https://example.com/cb?code=X&state=X#id_token=X"}"#,
        r#"{"uri":"https://user:X@example.com/"}"#,
        r#"{"uri":"postgres://user:X@host:5432/db"}"#,
        r#"{"uri":"https://example.com/?next=https%3A%2F%2Fexample.com%2F%3Ftoken%3DX"}"#,
        r#"{"text":"curl -H 'Authorization: Bearer X'"}"#,
        r#"{"text":"Cookie: a=X; b=\"X\"; c=X\nHost: a"}"#,
        r#"{"text":"API_KEY=X\nDEBUG=1"}"#,
        r#"{"text":"password: X"}"#,
        r#"{"text":"use Bearer X01 now"}"#,
        r#"{"text":"user[name]=a&user[password]=X&a=b"}"#,
        r#"{"text":"env[\"API_KEY\"] = \"X\""}"#,
        r#"{"text":"<user>a</user><password>X</password>"}"#,
        "<a:Password Type=\"b\">X</a:Password>",
        "<client_secret><![CDATA[X <b> X]]></client_secret>",
        r#"{"error":{"code":-32000,"message":"bad token \"X\", token=X","data":{"token":"X"}}}"#,
        // No JSON at all, or broken.
        "event: endpoint\ndata: /messages?sessionId=X\n\n",
        r#"{"a": hi "b", "token": "X"}"#,
        r#"{"token": "X"#,
        r#"{"secret": {"a": ["X", {"b": "X"#,
        r#"[1, 2, "password", {"password" :   "X"#,
        "token=X",
        "grant_type=authorization_code&code=X&code_verifier=X&client_secret=X",
        "{\\\\\\\"token\\\\\\\":\\\\\\\"X\\\\\\\"}",
    ]
    .iter()
    .map(|text| text.replace('X', CANARY))
    .collect();
    // Shapes.
    texts.extend(
        [
            json_web_token,
            format!("sk-ant-api03-{long}"),
            format!("sk-proj-{long}"),
            format!("ghp_{long}"),
            format!("github_pat_{long}"),
            format!("xoxb-1234-{long}"),
            format!("glpat-{long}"),
            format!("AKIA{}", long.to_uppercase()),
            format!("-----BEGIN RSA PRIVATE KEY-----\\nMII{long}\\n{long}\\n-----END RSA PRIVATE KEY-----\\n"),
        ]
        .iter()
        .map(|secret| format!("{{\"result\":{{\"content\":[{{\"text\":\"it is {secret}\"}}]}}}}")),
    );
    texts
}

#[test]
fn secret_canary_everywhere() {
    let redactor = redactor();
    let mut places = 0;
    let mut clean = |from: &str, shown: &str| {
        places += 1;
        let hit = shown.to_lowercase().contains(CANARY);
        assert!(!hit, "{from}\n-> {shown}");
    };
    // Of these it is told at their ends what was in them.
    let named_late = [
        r#"{"value":"X","name":"api_key"}"#,
        r#"{"env":[{"value":{"a":["X"]},"b":{"value":1,"c":[]},"key":"client_secret"}]}"#,
        r#"{"value" : "X", "a":"b", "header" : "DD-APPLICATION-KEY"}"#,
    ];
    let named_late = named_late.map(|text| text.replace('X', CANARY));
    for from in texts().into_iter().chain(named_late) {
        let shown = redactor.text(&from);
        clean(&from, &shown);
        if serde_json::from_str::<Value>(&from).is_ok() {
            assert!(serde_json::from_str::<Value>(&shown).is_ok(), "{shown}");
            // The same message in a string of another, as a tool returns it.
            let from = serde_json::json!({"content": [{"text": from}]}).to_string();
            let shown = redactor.text(&from);
            clean(&from, &shown);
            assert!(serde_json::from_str::<Value>(&shown).is_ok(), "{shown}");
        }
    }
    for (name, value) in [
        ("authorization", "Bearer X"),
        ("Authorization", "X"),
        ("proxy-authorization", "Basic X"),
        ("cookie", "a=X"),
        ("set-cookie", "a=X; Path=/"),
        ("x-api-key", "X"),
        ("ocp-apim-subscription-key", "X"),
        ("x-goog-api-key", "X"),
        ("X-Auth-Key", "X"),
        ("X-Functions-Key", "X"),
        ("DD-APPLICATION-KEY", "X"),
        ("x-amz-security-token", "X"),
        ("mcp-session-id", "X"),
        ("mcp-param-password", "X"),
        ("x-tenant", "X"),
        ("location", "https://a/?code=X"),
        ("referer", "https://a:X@b/"),
    ] {
        clean(
            name,
            &redactor.header(name, value.replace('X', CANARY).as_bytes()),
        );
    }
    for target in [
        "/messages?sessionId=X",
        "/messages?session_id=X&a=1",
        "/cb?code=X&state=X",
        "/cb?a=1#access_token=X",
        "/a?sig=X&key=X&apikey=X&api_key=X",
        "/a?access%5Ftoken=X",
        "/a?next=%2Fb%3Ftoken%3DX",
        "/hooks/X550e8400e29b41d4a716446655440000/b",
        "http://a:X@b/c",
        "/sk-X0123456789",
    ] {
        let target = target.replace('X', CANARY);
        clean(&target, &redactor.target(&target));
    }
    assert!(places >= 40, "only {places} places");
}

#[test]
fn a_text_that_is_cut_anywhere_tells_no_more_than_the_beginning_of_a_shape() {
    // What shapes alone give away may be seen until it is long enough to be one.
    const TOLD: usize = 12;
    for from in texts() {
        for (end, _) in from.char_indices() {
            let shown = text(&from[..end]).to_lowercase();
            let told = match from.contains("it is ") {
                true => "c4n4ryabcdef",
                false => CANARY,
            };
            assert!(!shown.contains(told), "{}\n-> {shown}", &from[..end]);
        }
    }
    let secret = "ghp_c4n4ryABCDEF0123456789";
    for end in 0..secret.len() {
        let shown = text(&format!("it is {}", &secret[..end]));
        assert!(shown.len() <= "it is ".len() + TOLD, "{shown}");
    }
}

#[test]
fn what_says_nothing_stays_byte_for_byte() {
    for same in [
        r#"{"jsonrpc":"2.0", "id": 7,"method":"tools/call","params":{"name":"get_token","_meta":{"progressToken":"abc123"}}}"#,
        r#"{"result":{"nextCursor":"eyJwYWdlIjoyfQ","tools":[]}}"#,
        r#"{"params":{"maxTokens":1000,"input_tokens":5,"messages":[]}}"#,
        r#"{"a":"\ud800 \u00fc \/ \ud83d\ude00"}"#,
        r#"{"token_endpoint":"https://a/token","authorization_servers":["https://a"],"token_type":"Bearer"}"#,
        r#"{"properties":{"token":{"type":"string","description":"the token"},"a":{"type":"object"}},"required":["token"]}"#,
        r#"{"text":"The session: use tokens sparingly. Bearer authentication is required."}"#,
        r#"{"text":"if a == b { std::token::x }, https://example.com:8080/a?b=c"}"#,
        r#"{"capabilities":{"tools":{"listChanged":true}},"hasToken":true,"token":null,"secret":""}"#,
        r#"{"properties":{"token":{"anyOf":[{"type":"string"},{"type":["integer","null"]}],"items":[{"$ref":"a"}]}}}"#,
        r#"[{"value":"a","name":"city"},{"value":"b","inner":{"name":"token"}},{"name":"token","value":true}]"#,
        r#"["--token","--verbose","--max-tokens","1000","--a","--token=[redacted]","b"]"#,
        r#"{"a":"--token","b":"c"}"#,
        r#"{"text":"mcp login <token> [options], or <session>; <secret/> is <a:token> too </b>"}"#,
        r#"{"text":"[token]: https://example.com/token, [session] started, [token] = use"}"#,
        r#"{"text":"The --password option, --token TOKEN, --session-token <token>, --max-tokens 1000, --token --verbose"}"#,
        "WWW-Authenticate: Bearer realm=\"a\", resource_metadata=\"https://a/.well-known\"",
        "{\"a\":1,}",
        "",
        "\"",
        "\\",
    ] {
        assert_eq!(text(same), same);
    }
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("mcp-protocol-version", "2025-06-18"),
        (
            "www-authenticate",
            "Bearer realm=\"mcp\", error=\"invalid_token\"",
        ),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("location", "https://example.com:8443/mcp?a=b"),
    ] {
        assert_eq!(redactor().header(name, value.as_bytes()), value);
    }
    for target in [
        "/mcp",
        "/a/b?c=d&e",
        "/2024-11-05-release-notes-final?q=%20x#y",
        "*",
        "",
    ] {
        assert_eq!(redactor().target(target), target);
    }
}

#[test]
fn what_is_put_in_is_said_exactly() {
    let hash = redactor().hash("abc");
    assert_eq!(hash.len(), 6);
    assert_eq!(hash, Redactor::default().hash("abc"), "one key a process");
    assert_eq!(
        text(r#"{"a":1, "token" : {"b":[1]} ,"sessionId":"abc"}"#),
        format!(r#"{{"a":1, "token" : "[redacted]" ,"sessionId":"[hash {hash}]"}}"#)
    );
    let target = redactor().target("/messages?sessionId=abc&x=1");
    assert_eq!(
        target,
        format!("/messages?sessionId=%5Bhash%20{hash}%5D&x=1")
    );
    let header = |name, value: &str| redactor().header(name, value.as_bytes());
    assert_eq!(header("Mcp-Session-Id", "abc"), format!("[hash {hash}]"));
    assert_eq!(header("authorization", "Bearer abc"), "Bearer [redacted]");
    assert_eq!(
        text(r#"{"text":"see https://u:p@a/?token=b, or {\"password\":1}"}"#),
        r#"{"text":"see https://[redacted]@a/?token=[redacted] or {\"password\":\"[redacted]\"}"}"#
    );
    assert_eq!(redactor().header("a", b"\xff\xfe"), "\u{fffd}\u{fffd}");
}

/// A small deterministic source of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn string(&mut self) -> String {
        const PIECES: [&str; 27] = [
            "a",
            "\"",
            "\\",
            "token",
            ":",
            "=",
            " ",
            "{",
            "}",
            "[",
            "sk-",
            "0123456789",
            "ü",
            "\u{202e}",
            "\n",
            "://",
            "@",
            "?",
            "&",
            "%3D",
            "Bearer ",
            "eyJhbGciOi.",
            "<token>",
            "</token>",
            "<![CDATA[",
            "--token",
            "]",
        ];
        (0..self.below(9))
            .map(|_| PIECES[self.below(PIECES.len())])
            .collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        const NAMES: [&str; 8] = [
            "token",
            "a",
            "properties",
            "type",
            "name",
            "value",
            "sessionId",
            "maxTokens",
        ];
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => self.below(1000).into(),
            2 => true.into(),
            3 => self.string().into(),
            // JSON in a string.
            4 => self.value(depth.saturating_sub(1)).to_string().into(),
            5 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let members = (0..self.below(4)).map(|_| {
                    let name = match self.below(3) {
                        0 => self.string(),
                        _ => NAMES[self.below(NAMES.len())].to_owned(),
                    };
                    (name, self.value(depth - 1))
                });
                Value::Object(members.collect())
            }
        }
    }
}

/// Whether a value under a secret's name stands in clear text anywhere.
fn leaks(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| {
            (name == "token" && !matches!(value.as_str(), Some(REDACTED | "")) && !value.is_null() && !value.is_boolean())
                && !matches!(value, Value::Object(own) if own.is_empty() || own.contains_key("type"))
                && !matches!(value, Value::Array(own) if own.is_empty())
                || leaks(value)
        }),
        Value::Array(values) => values.iter().any(leaks),
        _ => false,
    }
}

#[test]
fn valid_json_stays_valid_and_redacting_twice_changes_nothing() {
    let mut random = Random(5);
    for _ in 0..20_000 {
        let value = random.value(4);
        let from = match random.below(2) {
            0 => value.to_string(),
            _ => serde_json::to_string_pretty(&value).unwrap(),
        };
        let shown = text(&from);
        let read: Result<Value, _> = serde_json::from_str(&shown);
        let read = read.unwrap_or_else(|error| panic!("{error}: {from}\n-> {shown}"));
        assert!(!leaks(&read), "{from}\n-> {shown}");
        assert_eq!(text(&shown), shown, "{from}");
    }
}

#[test]
fn hostile_texts_neither_panic_nor_take_longer_than_their_length() {
    let redactor = redactor();
    for piece in [
        "{",
        "[",
        "\"",
        "\\",
        "{\"a\":",
        "\\\"",
        "://",
        "a=",
        "token=",
        "token:",
        "token",
        "eyJ",
        "-----BEGIN ",
        "?a=",
        "%3D",
        "%",
        "Bearer ",
        "sk-",
        " ",
        "\"a\" ",
        "{\"token\":{",
        "token \\\\\\",
        "@",
        "\u{fffd}",
        "-----BEGIN PRIVATE KEY-----",
        "sk_sk_",
        "{\"properties\":{\"token\":{\"type\":",
        "{\"value\":",
        "{\"value\":0,\"name\":\"token\",\"a\":",
        "{\"properties\":{\"token\":{\"anyOf\":[",
        "\"--token\",",
        "[\"--token\",",
        "--token ",
        "--cookie ",
        "<token>",
        "<token ",
        "<token><![CDATA[",
        "<token>a</",
        "a:",
        "token]",
    ] {
        let text = piece.repeat(100_000 / piece.len());
        // A pass that grew with the square of the length would take hours here.
        let _ = redactor.text(&text);
        let _ = redactor.target(&text);
        let _ = redactor.header("a", text.as_bytes());
    }
    let mut random = Random(9);
    for _ in 0..3_000 {
        let bytes: Vec<u8> = (0..random.below(60))
            .map(|_| b"{}[]\":,\\u0aeyJ.=&?%@/ -token\xf0\xff"[random.below(30)])
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        let _ = (
            redactor.text(&text),
            redactor.target(&text),
            redactor.header("location", &bytes),
        );
    }
}

#[test]
fn a_message_of_several_lines_becomes_one_line_and_stays_the_same_json() {
    let redactor = Redactor::default();
    let text = "{\r\n  \"a\": \"b\\n\",\n \"c\": [1,\n2]}";
    let line = redactor.json(text).expect("JSON");
    assert!(!line.get().contains(['\n', '\r']));
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(value(line.get()), value(text));
    assert_eq!(redactor.json("{\"a\":").err().as_deref(), Some("{\"a\":"));
    // Taking the secret out has made JSON of what was none: it is scanned as prose all the same.
    let broken = r#"{"token": x, "b": "password=hunter2"}"#;
    let shown = redactor.json(broken).expect_err("it was not JSON");
    assert!(!shown.contains("hunter2"), "{shown}");
}
