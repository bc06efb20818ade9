//! Log lines: one line for one event, on stderr, whatever a peer has put into it.
//!
//! Names and messages of clients and servers end up in fields, so nothing in a field may end the line, move a
//! terminal's cursor, reverse the reading order or look like another field. `fields.rs` sees to that, and bounds what
//! one value may take.

mod fields;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use self::fields::Values;
pub(crate) use self::fields::{is_hidden, shown};
use crate::config::{Log, LogFormat};

/// Starts logging for the whole process; a second call changes nothing.
pub fn init(log: &Log) {
    let color = log.color && io::stderr().is_terminal();
    let ready = tracing::subscriber::set_global_default(subscriber(log, color, io::stderr));
    // Fails only when logging is on already.
    if ready.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            let place = place.unwrap_or_default();
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let why = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let why = why.unwrap_or_default();
            tracing::error!(place, why, "a bug: a panic");
        }));
    }
}

/// What turns events into lines, for any writer.
pub fn subscriber<W>(log: &Log, color: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let format = log.format;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&log.filter))
        .with_ansi(color && format == LogFormat::Text)
        // It would print to stderr, and that panics when stderr is what failed.
        .log_internal_errors(false)
        .with_writer(writer)
        .fmt_fields(Fields)
        .event_format(Lines { format })
        .finish()
}

/// Tells the operator something that is not for the log's filter to hold back, nor for a log to keep elsewhere.
pub fn say(form: LogFormat, text: &str) {
    let line = match form {
        LogFormat::Text => text.to_owned(),
        LogFormat::Json => serde_json::json!({ "level": "INFO", "message": text }).to_string(),
    };
    // Nobody may be reading.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// One event, one line.
struct Lines {
    format: LogFormat,
}

impl<S> FormatEvent<S, Fields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut spans = Vec::new();
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<Fields>>();
            spans.push(match fields.map(|fields| fields.fields.as_str()) {
                None | Some("") => span.name().to_owned(),
                Some(fields) => format!("{}{{{fields}}}", span.name()),
            });
        }
        spans.reverse();
        let mut values = Values::default();
        event.record(&mut values);
        match self.format {
            LogFormat::Text => text(writer, event, &time, &spans, &values),
            LogFormat::Json => json(writer, event, time, spans, values),
        }
    }
}

fn text(
    mut writer: Writer<'_>,
    event: &Event<'_>,
    time: &str,
    spans: &[String],
    values: &Values,
) -> fmt::Result {
    let level = *event.metadata().level();
    let (dim, bright, plain) = match writer.has_ansi_escapes() {
        true => ("\x1b[2m", color(level), "\x1b[0m"),
        false => ("", "", ""),
    };
    let target = event.metadata().target();
    write!(writer, "{dim}{time}{plain} {bright}{level:>5}{plain} ")?;
    for span in spans {
        write!(writer, "{span}: ")?;
    }
    write!(writer, "{dim}{target}:{plain} ")?;
    values.write(&mut writer)?;
    writer.write_char('\n')
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

fn json(
    mut writer: Writer<'_>,
    event: &Event<'_>,
    time: String,
    spans: Vec<String>,
    values: Values,
) -> fmt::Result {
    let mut line = Map::new();
    line.insert("timestamp".into(), time.into());
    line.insert("level".into(), event.metadata().level().as_str().into());
    line.insert("target".into(), event.metadata().target().into());
    line.insert("message".into(), values.message.into());
    if !values.fields.is_empty() {
        let fields = values.fields.into_iter();
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        line.insert("fields".into(), Value::Object(fields.collect()));
    }
    if !spans.is_empty() {
        line.insert("spans".into(), spans.into());
    }
    // JSON escapes what would end the line; what would deceive a reader is left to us, and can only stand in strings.
    for char in Value::Object(line).to_string().chars() {
        if is_hidden(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        } else {
            writer.write_char(char)?;
        }
    }
    writer.write_char('\n')
}

/// How a span's fields are kept until an event needs them.
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut values = Values::default();
        fields.record(&mut values);
        values.write(&mut writer)
    }
}
