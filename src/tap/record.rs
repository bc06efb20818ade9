//! What the tap keeps and shows: records of what crossed, and the rows of its lists. This is the format of the tap's file
//! and of the admin API, described for its readers in the README ("The tap"). Nothing here decides anything.
//!
//! A [`Record`] is one JSON object. Members that do not apply are absent, and a reader ignores those that it does not
//! know. Everything in it is redacted already, see `redact`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the format, in every record.
pub const FORMAT: u32 = 1;

/// One thing that crossed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub v: u32,
    /// Counts up from 1 within one process.
    pub seq: u64,
    /// When, as RFC 3339 in UTC with microseconds.
    pub time: String,
    /// The connection's label, `c3`. None for a request that the ferry refused, unless it knew whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The exchange that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<u64>,
    /// What it is.
    pub kind: Kind,
    /// How the client came, with [`Kind::Opened`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front: Option<Front>,
    /// The client's address, with [`Kind::Opened`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Party>,
    /// Who got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Party>,
    /// The number of the call (an HTTP request to the server) on its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
    /// What a call of the ferry's own is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The head of the HTTP request that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<RequestHead>,
    /// What the message is, with [`Kind::Message`] where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Summary>,
    /// Bytes of the whole text, before it was redacted or cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// The message as JSON, nested no deeper than `MAX_DEPTH` of `proto::jsonrpc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
    /// The message, or the beginning of it, where it is not JSON, or nested deeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Only the beginning was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The HTTP status, with [`Kind::Status`] and [`Kind::Refused`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The headers of an answer, with [`Kind::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// Why it ended badly, was refused, or was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many events were lost, with [`Kind::Missed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Names and values of headers, names in lower case, in their order.
pub type Headers = Vec<(String, String)>;

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A connection began.
    Opened,
    /// A message crossed, or a call without one began.
    #[default]
    Message,
    /// An HTTP answer began.
    Status,
    /// A call's answer is over.
    Ended,
    /// A connection is over.
    Closed,
    /// The ferry refused a request itself.
    Refused,
    /// Events were lost before this.
    Missed,
}

/// How a connection's client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Front {
    /// By the legacy transport.
    Sse,
    /// On the MCP endpoint, with a session of the ferry's.
    Session,
    /// On the MCP endpoint, passed through.
    Pass,
}

/// Whom a message goes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// The MCP client.
    Client,
    /// This program.
    Ferry,
    /// The MCP server.
    Server,
}

/// The head of an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: Headers,
}

/// What a message is, in a few members.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// What kind of message.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// Its id, as the JSON text that it is. An object or array is no id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<RawValue>>,
    /// Its method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The tool, prompt or resource that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The code of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// A result that says that the tool failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tool_error: bool,
}

/// What kind of message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageKind {
    /// A request.
    Request,
    /// A notification.
    Notification,
    /// A result.
    Result,
    /// An error.
    Error,
    /// An array of messages.
    Batch,
    /// Not JSON-RPC, or cut too early to be known.
    #[default]
    Unknown,
}

/// A row of the list of exchanges.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExchangeRow {
    /// Its number.
    pub exchange: u64,
    /// The connection's label. None for a request that the ferry refused, unless it knew whose it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Who asks whom.
    pub direction: Direction,
    /// A request or a notification; unknown for an HTTP request of which no message could be read.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// The method. Of an HTTP request without a message its own, and its path: `POST /mcp`.
    pub method: String,
    /// The tool, prompt or resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id as the asking side wrote it, a JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub started: f64,
    /// When it had its outcome, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<f64>,
    /// How it went.
    pub outcome: Outcome,
    /// The code of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Bytes of the request.
    pub request_bytes: usize,
    /// Bytes of the outcome.
    pub response_bytes: usize,
    /// Messages that crossed for it, on both legs.
    pub messages: u32,
    /// Calls to the server that were made for it.
    pub calls: u32,
    /// From its first call's beginning to the outcome's arrival from the server, or, where the server never answered, to
    /// the outcome, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
    /// The last HTTP status of the server, or the one that the ferry refused with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Who asks whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The client asks.
    ToServer,
    /// The server asks.
    ToClient,
}

/// How an exchange went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has none yet.
    Open,
    /// A result.
    Result,
    /// A JSON-RPC error.
    Error,
    /// A result that says that the tool failed.
    ToolError,
    /// The asking side cancelled it.
    Cancelled,
    /// Its connection ended first.
    Lost,
    /// Events were lost, its outcome perhaps among them.
    Missed,
    /// Its answer came and is compressed: whether it is a result or an error is not known.
    Unread,
    /// A notification, or what is no message: it has no outcome.
    Sent,
    /// The ferry refused the HTTP request itself.
    Refused,
}

/// A row of the list of connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectionRow {
    /// The connection's label.
    pub connection: String,
    /// How its client came.
    pub front: Front,
    /// The client's address.
    pub peer: String,
    /// What the client calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Implementation>,
    /// What the server calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Implementation>,
    /// The server's era.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub era: Option<String>,
    /// The protocol version towards the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The protocol version towards the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_protocol: Option<String>,
    /// A short hash of the server's session id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub opened: f64,
    /// When it ended, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<f64>,
    /// Requests without an outcome.
    pub in_flight: u32,
    /// Requests so far, in both directions.
    pub calls: u64,
    /// Those that ended in an error, or in none.
    pub errors: u64,
}

/// What a client or server calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Implementation {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}
