//! Reads the transcripts of `fixtures/transcripts/`: one rule of the protocol each, as the lines that cross.
//!
//! The grammar is described in `fixtures/transcripts/README.md`. A transcript is a list of [`Line`]s; some are fed to
//! whatever runs it (what the client and the upstream do, and time), the others are what must come of that. This module
//! knows nothing of who runs it: `transcripts.rs` runs it through the bridge alone, `transcripts_sockets.rs` through
//! the real proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One file, with what it includes put in.
#[derive(Debug)]
pub struct Transcript {
    pub path: PathBuf,
    pub lines: Vec<Line>,
    /// `% name value` lines.
    pub settings: Vec<(String, String)>,
    /// `% define name text`: the text stands wherever `$name` does from there on.
    pub definitions: Vec<(String, String)>,
    /// Why it cannot run through sockets, where it cannot.
    pub bridge_only: Option<String>,
}

/// One line that means something.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its number in the file, 0 when it comes from an included file.
    pub number: usize,
    /// As it is written, without the spaces around it.
    pub text: String,
    pub step: Step,
}

/// What a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `> …`: the client posts.
    Post(Post),
    /// `> gone`: the client closes its stream.
    Gone,
    /// `> drain`: the process is told to stop.
    Drain,
    /// `> drain-expired`: its time to finish is over.
    DrainExpired,
    /// `@ +30s`: time passes.
    Wait(Duration),
    /// `<< #1 …`: the upstream answers.
    Reply(u64, Reply),
    /// `< 202`: a POST has its status.
    Status(Status),
    /// `< {…}`: a message on the client's stream.
    Delivered(String),
    /// `< carries {…}`: the next message's event id is this, sealed.
    Carried(String),
    /// `< end`: the client's stream ends.
    StreamEnd,
    /// `>> #1 POST …`: a request goes upstream.
    Request(Request),
    /// `>> #1 abort`: it is dropped.
    Aborted(u64),
    /// `= …`: what the ferry itself notes: what it counts, and `finished`.
    Noted(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub label: String,
    pub credential: String,
    pub version: Option<String>,
    pub body: String,
}

/// What the upstream does in an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A 2xx head. `body` is the word after the status: `json`, `sse`, `lines`, another content type, or empty.
    Head {
        status: u16,
        body: String,
        session: Option<String>,
        /// What stands after it on the line: then the answer is over, too.
        whole: Option<String>,
    },
    /// An answer that is not 2xx.
    Refused {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// An event of an event stream.
    Event {
        id: Option<String>,
        retry: Option<u64>,
        data: Option<String>,
    },
    /// One JSON line.
    Line(String),
    /// A message over the limit.
    Oversized,
    End,
    Cut,
    Unreached,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which POST; `None` when only one is open.
    pub label: Option<String>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub call: u64,
    pub verb: String,
    pub credential: String,
    pub session: Option<String>,
    pub version: Option<String>,
    pub last_event_id: Option<String>,
    /// The headers that repeat the message, in order.
    pub mirrored: Vec<(String, String)>,
    pub body: String,
}

impl Step {
    /// Whether this is fed to whatever runs the transcript; the others are expected of it.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Self::Post(_)
                | Self::Gone
                | Self::Drain
                | Self::DrainExpired
                | Self::Wait(_)
                | Self::Reply(..)
        )
    }
}

/// Where the transcripts are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/transcripts")
}

/// Every transcript, by name.
pub fn all() -> Vec<Transcript> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory())
        .expect("fixtures/transcripts is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

impl Transcript {
    /// A line with its definitions put in.
    fn spelt_out(&self, line: &str) -> String {
        let definitions = self.definitions.iter();
        definitions.fold(line.to_owned(), |line, (name, text)| {
            line.replace(name, text)
        })
    }

    /// The name of its file.
    pub fn name(&self) -> std::borrow::Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }
}

/// Reads one file. Panics, with the place, on what it does not understand.
pub fn read(path: &Path) -> Transcript {
    let mut transcript = empty(path);
    read_into(&mut transcript, path, &text_of(path), false, &mut 0);
    transcript
}

/// Reads a text that stands in no file.
pub fn parse(text: &str) -> Transcript {
    let path = Path::new("(a test)");
    let mut transcript = empty(path);
    read_into(&mut transcript, path, text, false, &mut 0);
    transcript
}

fn empty(path: &Path) -> Transcript {
    Transcript {
        path: path.to_owned(),
        lines: Vec::new(),
        settings: Vec::new(),
        definitions: Vec::new(),
        bridge_only: None,
    }
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_into(
    transcript: &mut Transcript,
    path: &Path,
    text: &str,
    included: bool,
    posts: &mut usize,
) {
    for (index, text) in text.lines().enumerate() {
        let place = || format!("{}:{}", path.display(), index + 1);
        let text = transcript.spelt_out(text.trim());
        let text = text.as_str();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(setting) = text.strip_prefix("% ") {
            let (name, value) = setting.split_once(' ').unwrap_or((setting, ""));
            match name {
                "include" => {
                    let path = path.with_file_name(value);
                    read_into(transcript, &path, &text_of(&path), true, posts);
                }
                "define" => {
                    let (name, value) = value.split_once(' ').expect("a name and a text");
                    transcript
                        .definitions
                        .push((format!("${name}"), value.to_owned()));
                }
                "bridge-only" => transcript.bridge_only = Some(value.to_owned()),
                _ => transcript
                    .settings
                    .push((name.to_owned(), value.to_owned())),
            }
            continue;
        }
        let step = step(text, posts).unwrap_or_else(|why| panic!("{}: {why}\n    {text}", place()));
        transcript.lines.push(Line {
            number: if included { 0 } else { index + 1 },
            text: text.to_owned(),
            step,
        });
    }
}

fn step(text: &str, posts: &mut usize) -> Result<Step, String> {
    let (sign, rest) = text
        .split_once(' ')
        .ok_or("a sign and a space begin a line")?;
    let rest = rest.trim();
    match sign {
        ">" => Ok(match rest {
            "gone" => Step::Gone,
            "drain" => Step::Drain,
            "drain-expired" => Step::DrainExpired,
            _ => Step::Post(post(rest, posts)),
        }),
        "<" => client_side(rest),
        ">>" => upstream_bound(rest),
        "<<" => {
            let (call, rest) = call(rest)?;
            Ok(Step::Reply(call, reply(rest)?))
        }
        "@" => duration(rest.strip_prefix('+').ok_or("`@ +` and a time")?).map(Step::Wait),
        "=" => Ok(Step::Noted(rest.to_owned())),
        _ => Err(format!("unknown sign {sign:?}")),
    }
}

fn post(mut rest: &str, posts: &mut usize) -> Post {
    *posts += 1;
    let mut post = Post {
        label: format!("p{posts}"),
        credential: "a".to_owned(),
        version: None,
        body: String::new(),
    };
    while let Some((name, value, after)) = option(rest, '=') {
        match name {
            "as" => post.label = value.to_owned(),
            "cred" => post.credential = value.to_owned(),
            "version" => post.version = Some(value.to_owned()),
            _ => break,
        }
        rest = after;
    }
    post.body = rest.to_owned();
    post
}

/// `[name=value] rest`, or `[name: value] rest`.
fn option(text: &str, separator: char) -> Option<(&str, &str, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let (name, value) = inside.split_once(separator)?;
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        .then(|| (name, value.trim(), rest.trim_start()))
}

fn headers(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut headers = Vec::new();
    while let Some((name, value, after)) = option(rest, ':') {
        headers.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    (headers, rest)
}

fn client_side(rest: &str) -> Result<Step, String> {
    if rest == "end" {
        return Ok(Step::StreamEnd);
    }
    if let Some(text) = rest.strip_prefix("carries ") {
        return Ok(Step::Carried(text.to_owned()));
    }
    if rest.starts_with('{') {
        return Ok(Step::Delivered(rest.to_owned()));
    }
    let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let (label, word, after) = if word.starts_with(|c: char| c.is_ascii_digit()) {
        (None, word, after)
    } else {
        let (status, after) = after.split_once(' ').unwrap_or((after, ""));
        (Some(word.to_owned()), status, after)
    };
    let status = word.parse().map_err(|_| "a status, a message or `end`")?;
    let (headers, body) = headers(after);
    Ok(Step::Status(Status {
        label,
        status,
        headers,
        body: body.to_owned(),
    }))
}

fn upstream_bound(rest: &str) -> Result<Step, String> {
    let (call, mut rest) = call(rest)?;
    if rest == "abort" {
        return Ok(Step::Aborted(call));
    }
    let mut request = Request {
        call,
        verb: String::new(),
        credential: "a".to_owned(),
        session: None,
        version: None,
        last_event_id: None,
        mirrored: Vec::new(),
        body: String::new(),
    };
    while !rest.is_empty() && !rest.starts_with('{') {
        if rest.starts_with('[') {
            (request.mirrored, rest) = headers(rest);
            continue;
        }
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        let given = |value: &str| (value != "-").then(|| value.to_owned());
        match word.split_once('=') {
            None => request.verb = word.to_owned(),
            Some(("cred", value)) => request.credential = value.to_owned(),
            Some(("session", value)) => request.session = given(value),
            Some(("version", value)) => request.version = given(value),
            Some(("last-event-id", value)) => request.last_event_id = given(value),
            Some(_) => return Err(format!("unknown attribute {word:?}")),
        }
    }
    request.body = rest.to_owned();
    Ok(Step::Request(request))
}

fn call(rest: &str) -> Result<(u64, &str), String> {
    let rest = rest
        .strip_prefix('#')
        .ok_or("`#` and the number of an exchange")?;
    let (number, rest) = rest.split_once(' ').ok_or("something after the number")?;
    let number = number.parse().map_err(|_| "the number of an exchange")?;
    Ok((number, rest.trim()))
}

fn reply(rest: &str) -> Result<Reply, String> {
    let (word, mut after) = rest.split_once(' ').unwrap_or((rest, ""));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match word {
        "end" => return Ok(Reply::End),
        "cut" => return Ok(Reply::Cut),
        "unreached" => return Ok(Reply::Unreached),
        "lost" => return Ok(Reply::Lost),
        "oversized" => return Ok(Reply::Oversized),
        "line" => return Ok(Reply::Line(after.to_owned())),
        "event" => {
            let (mut id, mut retry) = (None, None);
            while let Some((name, value, rest)) = option(after, '=') {
                match name {
                    "id" => id = Some(value.to_owned()),
                    "retry" => retry = Some(value.parse().map_err(|_| "milliseconds")?),
                    _ => return Err(format!("unknown attribute {name:?}")),
                }
                after = rest;
            }
            let data = text(after);
            return Ok(Reply::Event { id, retry, data });
        }
        _ => {}
    }
    let status: u16 = word
        .parse()
        .map_err(|_| "a status, or what happens to the answer")?;
    if !(200..300).contains(&status) {
        let (headers, body) = headers(after);
        let body = body.to_owned();
        return Ok(Reply::Refused {
            status,
            headers,
            body,
        });
    }
    let mut head = (String::new(), None);
    while !after.is_empty() && !after.starts_with(['{', '[', '<']) {
        let (word, rest) = after.split_once(' ').unwrap_or((after, ""));
        match word.strip_prefix("session=") {
            Some(session) => head.1 = Some(session.to_owned()),
            None => head.0 = word.to_owned(),
        }
        after = rest;
    }
    // An answer without a body, and one whose body stands on the line, are over.
    let whole = if head.0.is_empty() {
        Some(String::new())
    } else {
        text(after)
    };
    let (body, session) = head;
    Ok(Reply::Head {
        status,
        body,
        session,
        whole,
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or("a number and a unit")?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "a number and a unit")?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(format!("unknown unit {unit:?}")),
    }
}

/// The value of a `% name value` line that is a time.
pub fn setting_duration(text: &str) -> Duration {
    duration(text).unwrap_or_else(|why| panic!("{text:?}: {why}"))
}

/// Whether `actual` is what `expected` asks for: equal byte for byte, `…` standing for any text.
pub fn matches(expected: &str, actual: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = actual.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn an_ellipsis_stands_for_any_text_and_nothing_else_does() {
    assert!(matches("a…c", "abbc") && matches("a…", "a") && matches("abc", "abc"));
    assert!(matches("a…b…c", "axxbyyc") && matches("…", ""));
    assert!(!matches("a…c", "abd") && !matches("abc", "abcd") && !matches("abc", "ab"));
    assert!(!matches("a…b…c", "acb") && !matches("a…", "ba"));
}

#[test]
fn what_is_no_transcript_is_refused() {
    for text in [
        "hello",
        "? x",
        "< maybe",
        ">> 1 POST",
        ">> #x POST",
        ">> #1 POST color=red {}",
        "<< #1 perhaps",
        "@ 5s",
        "@ +5",
        "@ +5y",
    ] {
        assert!(step(text, &mut 0).is_err(), "{text}");
    }
}
