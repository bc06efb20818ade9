//! What crosses, for people: a line a record, aligned, coloured where that is wanted; with `full` the texts of messages
//! too. Formatting is pure; [`print()`] writes it to stdout on a thread of its own, so that a pipe that nobody reads costs
//! lines and nothing else, and one that is closed ends the printing.
//!
//! Nothing that a peer chose reaches the terminal as it is: controls, escape sequences, and what changes the direction or
//! the sight of text are shown as `\u{…}`. Bounds: [`MAX_OPEN`] exchanges and calls are remembered for their times.

mod pretty;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::Watcher;
use super::record::{Front, Kind, MessageKind, Party, Record};
use super::writer::{self, Gaps, Sink};
use crate::logging::shown;

/// Exchanges whose beginnings are remembered, and calls whose statuses are.
pub const MAX_OPEN: usize = 4096;
/// Columns where nobody says how many there are.
const WIDTH: usize = 120;
/// In fewer columns the two legs do not stand side by side: what is said on them goes first.
const WIDE: usize = 110;
/// The least width that a line is cut to.
const LEAST_WIDTH: usize = 60;
/// Characters of a name or reason that are shown.
const LONGEST: usize = 200;

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The texts of messages too, and what a line leaves out.
    pub full: bool,
    /// With ANSI colours.
    pub color: bool,
    /// Columns that a line may have.
    pub width: usize,
}

impl Style {
    /// As it fits this process's stdout: colours on a terminal unless `color` forbids it; the width that `COLUMNS` says, or
    /// else the terminal, as it is now. Into a pipe or file lines are not cut.
    #[must_use]
    pub fn of_stdout(full: bool, color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let columns = std::env::var("COLUMNS").ok();
        let columns = columns.and_then(|columns| columns.parse().ok());
        let size = || terminal_size::terminal_size_of(io::stdout());
        let columns = columns.or_else(|| size().map(|(columns, _)| columns.0.into()));
        Self {
            full,
            color: color && terminal,
            width: match terminal {
                true => columns.unwrap_or(WIDTH).max(LEAST_WIDTH),
                false => usize::MAX,
            },
        }
    }
}

/// Prints what the watcher sees. The future ends after the tap's end, or when stdout is closed.
///
/// # Errors
/// When the machine has no thread for it.
pub fn print(
    style: Style,
    watcher: Watcher,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    writer::start("tap-print", Stdout(Printer::new(style)), watcher)
}

struct Stdout(Printer);

impl Sink for Stdout {
    fn put(&mut self, record: &Record) -> ControlFlow<()> {
        let text = self.0.text(record);
        let mut out = io::stdout().lock();
        let went = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match went {
            Ok(()) => ControlFlow::Continue(()),
            // Nobody reads it any more.
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Turns records into lines.
#[derive(Debug)]
pub struct Printer {
    style: Style,
    gaps: Gaps,
    /// When, in microseconds of the day, an exchange's request was first seen, and its call to the server.
    begun: BTreeMap<u64, (u64, Option<u64>)>,
    /// The statuses of calls by connection and number.
    statuses: HashMap<(String, u64), u16>,
}

#[derive(Clone, Copy, Debug)]
enum Paint {
    None,
    Dim,
    Bold,
    Green,
    Red,
    Yellow,
    Cyan,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Green => "\x1b[32m",
            Self::Red => "\x1b[31m",
            Self::Yellow => "\x1b[33m",
            Self::Cyan => "\x1b[36m",
        }
    }
}

type Piece = (Paint, String);

impl Printer {
    /// With nothing seen yet.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self {
            style,
            gaps: Gaps::default(),
            begun: BTreeMap::new(),
            statuses: HashMap::new(),
        }
    }

    /// The lines of a record, each with its end; empty where there is nothing to say of it.
    pub fn text(&mut self, record: &Record) -> String {
        let mut text = String::new();
        let missing = self.gaps.before(record);
        if missing > 0 {
            let said = format!("… {missing} records were not shown");
            self.line(&mut text, &[(Paint::Yellow, said)]);
        }
        let what = self.what(record);
        if what.is_empty() {
            return text;
        }
        let label = |value: Option<String>| value.unwrap_or_default();
        let mut pieces = vec![
            (Paint::Dim, format!("{:<12} ", clock(&record.time))),
            (
                Paint::Cyan,
                format!(
                    "{:<5} ",
                    label(record.connection.clone().map(|it| shown(&it)))
                ),
            ),
            (
                Paint::Dim,
                format!("{:<6} ", label(record.exchange.map(|it| format!("#{it}")))),
            ),
            (
                Paint::Dim,
                match self.style.width < WIDE {
                    true => format!("{:<9} ", arrow(record)),
                    false => format!("{:<29} ", arrows(record)),
                },
            ),
        ];
        pieces.extend(what);
        self.line(&mut text, &pieces);
        if self.style.full {
            detail(record, &mut text);
        }
        text
    }

    fn line(&self, out: &mut String, pieces: &[Piece]) {
        let mut room = self.style.width;
        for (paint, text) in pieces {
            if room == 0 {
                break;
            }
            let cut = text.width() > room;
            // The sign of the cut needs a column.
            let kept = if cut {
                beginning(text, room.saturating_sub(1))
            } else {
                text
            };
            room = room.saturating_sub(kept.width());
            let end = if cut { "…" } else { "" };
            // Writing to a string does not fail.
            let _ = match (self.style.color, paint) {
                (true, paint) if !paint.code().is_empty() => {
                    write!(out, "{}{kept}{end}\x1b[0m", paint.code())
                }
                _ => write!(out, "{kept}{end}"),
            };
            if cut {
                break;
            }
        }
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    }

    fn what(&mut self, record: &Record) -> Vec<Piece> {
        let why = record.why.as_deref().map(short).unwrap_or_default();
        let status = record.status.map(|status| format!("HTTP {status}"));
        match record.kind {
            Kind::Message => self.message(record),
            Kind::Opened => vec![(Paint::Bold, opened(record))],
            Kind::Closed => vec![(Paint::Bold, "closed".to_owned())],
            Kind::Refused => {
                let status = status.unwrap_or_default();
                let target = record
                    .http
                    .as_ref()
                    .map(|http| short(&format!("{} {}", http.method, http.target)));
                let target = target.unwrap_or_default();
                // In few columns a long target would leave no room for why.
                let said = match self.style.width < WIDE {
                    true => format!("refused {status} {why}: {target}"),
                    false => format!("refused {target} {status} {why}"),
                };
                vec![(Paint::Red, said)]
            }
            Kind::Missed => {
                let count = record.count.unwrap_or_default();
                vec![(Paint::Yellow, format!("… {count} events were lost"))]
            }
            Kind::Status => self.status(record).into_iter().collect(),
            Kind::Ended if !why.is_empty() && record.from == Some(Party::Server) => {
                vec![(Paint::Red, format!("✗ {why}"))]
            }
            // Somebody has left or cancelled.
            Kind::Ended if !why.is_empty() => vec![(Paint::Dim, why)],
            Kind::Ended if self.style.full => vec![(Paint::Dim, "end of the answer".to_owned())],
            Kind::Ended => Vec::new(),
        }
    }

    /// A good status goes without saying until a message comes with it.
    fn status(&mut self, record: &Record) -> Option<Piece> {
        let status = record.status?;
        if let (Some(Party::Server), Some(connection), Some(call)) =
            (record.from, &record.connection, record.call)
        {
            if self.statuses.len() >= MAX_OPEN {
                self.statuses.clear();
            }
            self.statuses.insert((connection.clone(), call), status);
        }
        let paint = if status < 400 { Paint::Dim } else { Paint::Red };
        (status >= 300 || self.style.full).then(|| (paint, format!("HTTP {status}")))
    }

    fn message(&mut self, record: &Record) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let purpose = record
            .purpose
            .as_deref()
            .map(|it| format!(" ({})", short(it)));
        let purpose = purpose.unwrap_or_default();
        let Some(message) = &record.message else {
            let head = record
                .http
                .as_ref()
                .map(|http| short(&format!("{} {}", http.method, http.target)));
            return vec![
                (Paint::Bold, head.unwrap_or_default()),
                (Paint::Dim, purpose),
            ];
        };
        let (paint, kind) = match message.kind {
            MessageKind::Request => (Paint::Bold, "request"),
            MessageKind::Notification => (Paint::None, "notification"),
            MessageKind::Result if message.tool_error => (Paint::Yellow, "tool error"),
            MessageKind::Result => (Paint::Green, "result"),
            MessageKind::Error => (Paint::Red, "error"),
            MessageKind::Batch => (Paint::None, "batch"),
            MessageKind::Unknown if record.cut => (Paint::Yellow, "cut"),
            MessageKind::Unknown if record.why.is_some() => (Paint::Yellow, "not read"),
            MessageKind::Unknown => (Paint::Yellow, "not JSON-RPC"),
        };
        let column = if self.style.width < WIDE { 8 } else { 12 };
        pieces.push((paint, format!("{kind:<column$}")));
        let words = [message.method.as_deref(), message.name.as_deref()];
        let words: Vec<_> = words.into_iter().flatten().map(short).collect();
        if !words.is_empty() {
            pieces.push((Paint::Bold, format!(" {}", words.join(" "))));
        }
        let mut rest = purpose;
        if let Some(id) = &message.id {
            let _ = write!(rest, " id={}", short(id.get()));
        }
        if let Some(code) = message.code {
            let _ = write!(rest, " code={code}");
        }
        if matches!(message.kind, MessageKind::Result | MessageKind::Error)
            && let (Some(Party::Server), Some(connection), Some(call)) =
                (record.from, &record.connection, record.call)
            && let Some(status) = self.statuses.get(&(connection.clone(), call))
        {
            let _ = write!(rest, " HTTP {status}");
        }
        if let Some(size) = record.size {
            let _ = write!(rest, " {}", bytes(size));
        }
        if let Some(why) = &record.why {
            let _ = write!(rest, " {}", short(why));
        }
        pieces.push((Paint::Dim, rest));
        if let Some(micros) = self.latency(record, message.kind) {
            pieces.push((Paint::Cyan, format!(" {}", time(micros))));
        }
        pieces
    }

    /// How long after its request an outcome comes on the same leg, in microseconds.
    fn latency(&mut self, record: &Record, kind: MessageKind) -> Option<u64> {
        let exchange = record.exchange?;
        let now = micros(&record.time)?;
        match kind {
            MessageKind::Request => {
                while self.begun.len() >= MAX_OPEN && !self.begun.contains_key(&exchange) {
                    self.begun.pop_first();
                }
                self.begun
                    .entry(exchange)
                    .and_modify(|(_, second)| {
                        second.get_or_insert(now);
                    })
                    .or_insert((now, None));
                None
            }
            MessageKind::Result | MessageKind::Error => {
                let (first, second) = self.begun.get(&exchange).copied()?;
                // The outcome comes back on the legs in the opposite order.
                let begun = match second {
                    Some(second) => {
                        self.begun.insert(exchange, (first, None));
                        second
                    }
                    None => {
                        self.begun.remove(&exchange);
                        first
                    }
                };
                const DAY: u64 = 24 * 60 * 60 * 1_000_000;
                Some(now.saturating_add(DAY).saturating_sub(begun) % DAY)
            }
            _ => None,
        }
    }
}

fn opened(record: &Record) -> String {
    let front = match record.front {
        Some(Front::Sse) => "legacy stream",
        Some(Front::Session) => "bridged session",
        Some(Front::Pass) => "passed through",
        None => "",
    };
    let peer = record.peer.as_deref().map(short).unwrap_or_default();
    format!("opened: {front} of {peer}")
}

/// Three parties, and an arrow between two of them.
fn arrows(record: &Record) -> &'static str {
    use Party::{Client, Ferry, Server};
    match (record.from, record.to) {
        (Some(Client), Some(Ferry)) => "client ───▶ ferry",
        (Some(Ferry), Some(Client)) => "client ◀─── ferry",
        (Some(Ferry), Some(Server)) => "            ferry ───▶ server",
        (Some(Server), Some(Ferry)) => "            ferry ◀─── server",
        (Some(Client), Some(Server)) => "client ──────────────▶ server",
        (Some(Server), Some(Client)) => "client ◀────────────── server",
        _ => "",
    }
}

/// The same in few columns: the party that is not the ferry.
fn arrow(record: &Record) -> &'static str {
    use Party::{Client, Ferry, Server};
    match (record.from, record.to) {
        (Some(Client), Some(Ferry)) => "client ▶",
        (Some(Ferry), Some(Client)) => "client ◀",
        (Some(Ferry | Client), Some(Server)) => " ▶ server",
        (Some(Server), Some(Ferry | Client)) => " ◀ server",
        _ => "",
    }
}

/// The heads and the text of a record, indented.
fn detail(record: &Record, out: &mut String) {
    const INDENT: &str = "      ";
    if let Some(http) = &record.http {
        let _ = writeln!(
            out,
            "{INDENT}{} {}",
            shown(&http.method),
            shown(&http.target)
        );
    }
    let headers = record
        .http
        .iter()
        .map(|http| &http.headers)
        .chain(&record.headers);
    for (name, value) in headers.flatten() {
        let _ = writeln!(out, "{INDENT}{}: {}", shown(name), shown(value));
    }
    if let Some(body) = &record.body {
        pretty::write(body.get(), INDENT, out);
    } else if let Some(text) = &record.text {
        for line in text.lines() {
            let _ = writeln!(out, "{INDENT}{}", shown(line));
        }
    }
    if record.cut {
        let _ = writeln!(out, "{INDENT}… only the beginning was kept");
    }
}

/// As much of a text as fits into so many columns; some characters need two.
fn beginning(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, char)| {
        taken += char.width().unwrap_or(0);
        taken > columns
    });
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// A text of a peer's, safe and not too long.
fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", shown(text.get(..end).unwrap_or_default())),
        None => shown(text),
    }
}

/// `16:40:00.123` of an RFC 3339 time.
fn clock(time: &str) -> String {
    shown(time.get(11..23).unwrap_or(time))
}

/// Microseconds since midnight of an RFC 3339 time.
fn micros(time: &str) -> Option<u64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let digits = time
        .get(20..)?
        .trim_end_matches(|char: char| !char.is_ascii_digit());
    let digits = digits.get(..6).unwrap_or(digits);
    let fraction: u64 = format!("{digits:0<6}").parse().ok()?;
    Some(seconds * 1_000_000 + fraction)
}

/// A size, in the page's words.
fn bytes(size: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = KIB * KIB;
    // Rounded, with a digit behind the point.
    let tenths = |unit: usize| size.saturating_mul(10).saturating_add(unit / 2) / unit;
    let number = |tenths: usize| format!("{}.{}", tenths / 10, tenths % 10);
    match size {
        0..1000 => format!("{size} B"),
        1000..10_240 => format!("{} KiB", number(tenths(KIB))),
        10_240..1_024_000 => format!("{} KiB", size.saturating_add(KIB / 2) / KIB),
        _ => format!("{} MiB", number(tenths(MIB))),
    }
}

fn time(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
        10_000..10_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{} s", micros / 1_000_000),
    }
}
