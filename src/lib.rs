//! mcp-ferry carries yesterday's MCP clients to today's MCP servers. This page is its architecture.
//!
//! Old clients speak the deprecated HTTP+SSE transport (`GET /sse`, `POST /messages`, protocol 2024-11-05); servers have
//! moved to Streamable HTTP. The ferry stands in front of one such server, serves the old transport to old clients by
//! translating each of their connections, and passes everything else through untouched.
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | connection | one legacy client's `GET /sse`, keyed by a [`ConnectionId`](store::ConnectionId) that is never logged; or one bridged client's session on `/mcp`, keyed likewise |
//! | session | the upstream's `Mcp-Session-Id`, where it gives one; on `/mcp`, where a client is bridged, the ferry's |
//! | front | what a connection's client speaks to: a stream and POSTs beside it, or the MCP endpoint |
//! | exchange | one HTTP request to the upstream and its answer. In the tap, where that is a *call*: one JSON-RPC request and its one outcome, with all that crossed for it on both legs |
//! | leg | what crosses between client and ferry, or between ferry and server |
//! | bridge | the pure state machine that translates one connection |
//! | handshake era | 2024-11-05 to 2025-11-25: `initialize`, maybe a session |
//! | modern era | from 2026-07-28 on: each request says everything by itself |
//! | round | a modern upstream's questions before it answers a call, and the call sent again with the answers |
//! | owner | the process that holds a connection's stream |
//!
//! # Layers
//!
//! A module may name only layers below its own; `tests/it/layers.rs` fails otherwise.
//!
//! | layer | module | what it is |
//! | --- | --- | --- |
//! | 0 | [`proto`] | every rule of the protocol, without IO, clock or randomness |
//! | 1 | [`config`], [`error`], [`metrics`], [`logging`], [`health`], [`budget`], [`outlet`], [`legacy_client`] | what the operator says, what went wrong, what is counted; an answer on its way; a client to try it with |
//! | 2 | [`tap`] | watching what crosses, without touching it |
//! | 3 | [`upstream`], [`store`] | how bytes reach the server; who owns a connection |
//! | 4 | [`conn`] | one connection as a task: the core that all have, and the two kinds of clients |
//! | 5 | [`server`] | listeners, routes, guards, pass-through, shutdown; the admin listener with the tap's page, metrics and health |
//! | 6 | [`demo`], [`replay`] | all of it in one process, to be looked at, or to compare a server with what was recorded |
//!
//! # One legacy request, module by module
//!
//! 1. `GET /sse` → [`server`] judges `Host` and `Origin`, makes an id, and [`conn::open`] starts the connection's task;
//!    the first frame is the `endpoint` event. Nothing is asked of the upstream yet.
//! 2. `POST /messages?sessionId=…` → [`server`] parses the body with [`proto::jsonrpc`], and [`store`] delivers it to the
//!    connection's mailbox.
//! 3. The task gives it to its [`Bridge`](proto::bridge::Bridge): `handle(input, now)`, then `poll_output()` until there
//!    is nothing left to carry out. The bridge answers the POST (202 at once, once the client's credential is proven) and
//!    asks for an exchange.
//! 4. [`upstream`] sends it; JSON, an event stream or JSON lines come back as replies, which are the bridge's next inputs.
//! 5. The bridge asks to deliver; the connection's task writes the event to the client's socket, which hyper gave up
//!    when it had read the GET.
//! 6. The client goes: the bridge cancels what is in flight, answers what the upstream has asked, ends the session.
//!
//! # One request on `/mcp`
//!
//! [`server`] looks at its head and decides whose it is (`server::mcp`). Requests of the modern revisions pass, and so do
//! those of handshake clients whom the upstream understands: streamed, untouched, unread. A handshake client before a
//! modern-only upstream (or with `--mcp bridge`) gets a session instead: [`conn::begin`] starts its task with its
//! `initialize`, and each later request that names the session is delivered to it through the [`store`]. The bridge is the
//! same as behind `/sse`; what differs is the front. Each POST with a request has an answer of its own, written through an
//! [`outlet`], and the bridge says with each message which request it is about
//! ([`About`](proto::bridge::About)). As long as nobody knows what the upstream speaks, an `initialize` passes and its
//! answer is looked at (`server::probe`).
//!
//! A session's rules, where the transport leaves a choice: the outcome of one request alone is a JSON text, anything else
//! an event stream, which also begins after a quiet `--keep-alive`; no event ids, so nothing is resumed; an answer that its
//! client gives up is no cancel, and its outcome is dropped and counted, because the listen stream must not carry
//! responses; everything else without a stream of its own waits for the client to listen.
//!
//! # The two eras
//!
//! The client always speaks as the handshake era does; what stands behind the bridge's gate is the upstream's era
//! (`proto::bridge`, `modern`). It is learnt from the answer to the first `initialize`, told to the connections that begin
//! later ([`upstream::Upstream::learn_era`]), and learnt anew when an answer contradicts it. In the modern era `initialize`
//! is answered from `server/discover`, a request gets its envelope and headers, the upstream's questions become requests to
//! the client, and one subscriptions stream takes the place of the listen stream.
//!
//! # Several replicas
//!
//! With keys (`--key-file`) the id that a client gets is sealed and says whose the connection is (`store::names`), so that
//! [`store::Store::place`] tells here, elsewhere and unknown apart without asking anybody. What is elsewhere is handed over:
//! `server::remote` judges the request as far as that goes without the connection, [`store::Store::hand_over`] brings it to its
//! owner, where `server::remote::owner` serves it as if it had come to that process's own socket, and the owner's answer
//! becomes the response. Credentials cross as the headers they came in, because fingerprints are keyed in each process. An
//! answer of a session that is not whole at once stays with its owner and is pulled part by part. Nothing above the
//! store knows how a request crosses, and nothing of a single process changes.
//!
//! # The tap
//!
//! Whoever moves a message says so on the bus ([`tap::Bus`]): one branch when nobody watches, a copy and a place in a bounded
//! queue when somebody does, never a wait. One task takes it from there, numbers and pairs it, takes secrets out, keeps the
//! last of it, and hands it to those who watch: the admin page, the terminal, the file. The bridge says with each exchange
//! what it is for ([`Cause`](proto::bridge::Cause)), so that both legs of a request are found without guessing.
//!
//! # What holds, whatever happens
//!
//! 1. Every request id that was answered 202 ends in exactly one of: its response, a JSON-RPC error, the client's
//!    cancel, the end of the stream.
//! 2. Never two outcomes; late ones are dropped and counted.
//! 3. A request is executed upstream at most once, except methods that are safe to repeat
//!    ([`proto::era::is_safe`]); never when its error said `executed: "no"`.
//! 4. When all is quiet, calls, connections, sessions, descriptors and memory are back where they were.
//! 5. Order inside a connection is the upstream's stream order, and nothing overtakes the handshake.
//! 6. A request of the upstream to a client that has gone gets a JSON-RPC error, not silence.
//! 7. Nothing of one connection ever reaches another.
//!
//! # Every buffer and its bound
//!
//! | what | bound |
//! | --- | --- |
//! | connections at once | `--max-connections`, of one address `--max-connections-per-peer`; one more gets 503 |
//! | other sockets open at once | `--max-sockets`; one more gets 503 |
//! | what all connections together hold | `--max-buffered`: above 85 % no new streams, above 95 % no new messages, and clients that do not read for a second are closed ([`budget`]) |
//! | head of a request | 64 KiB and 100 headers; a larger one gets 431 |
//! | body of a POST | `--max-request-body`; a larger one gets 413 |
//! | nesting of a message | [`proto::jsonrpc::MAX_DEPTH`] levels |
//! | requests in flight on a connection | `--max-in-flight`; one more gets a JSON-RPC error |
//! | notifications that wait behind a handshake | [`proto::bridge::MAX_NOTICES`]; one more POST gets 503 |
//! | upstream requests that wait for the client | [`proto::bridge::MAX_ASKED`] |
//! | questions of a modern upstream | [`proto::bridge::MAX_QUESTIONS`] in a round, [`proto::bridge::MAX_ROUNDS`] rounds a call |
//! | a header that repeats a part of a message | [`proto::mirror::MAX_VALUE`]; a longer one is an error |
//! | tools whose arguments go into headers | 1,024 of a connection, read in 64 pages at most |
//! | one message of the upstream | `--max-message`; a larger one is skipped, its request gets a JSON-RPC error |
//! | events that wait for a client to read | `--client-buffer`, on all answers of a session together, then its upstream is not read; after `--client-stall-timeout` the stream or answer is closed |
//! | messages that wait for a session's client to listen | [`conn::MAX_BACKLOG`] of [`conn::MAX_BACKLOG_BYTES`]; the oldest notifications go first |
//! | sessions whose clients do nothing | `--mcp-session-idle` |
//! | an `initialize` on `/mcp`, and its answer, that are looked at before they pass | 64 KiB each |
//! | POSTs that wait for a connection's task | [`store::MAILBOX`] |
//! | requests handed over to other replicas, or taken from them, without an answer yet | [`store::MAX_HANDED`] each way; one more gets 503 |
//! | of those taken, the ones that wait to be looked at | [`store::ARRIVALS`]; one more gets 503 |
//! | one request, or answer, between replicas | [`store::MAX_ENTRY`]; a larger request gets 413, a larger answer becomes 502 |
//! | entries in a replica's inbox | 10,000, of whatever size; one more request gets 503. They are read 32 at a time (one, on a new connection), and 10 s old at most |
//! | what is remembered of other replicas, so that nothing is taken twice | the last 8,192 numbers of each of 1,024 processes |
//! | which process another replica is, and what time it is there | of 1,024; with one more all are asked again |
//! | withdrawals and refusals on their way to other replicas | 256; beyond these nothing is said |
//! | answers of sessions to requests that other replicas took | 4,096 that are open; one more POST or listener gets 503 before it is executed. Of each one part is kept until the next is asked for: 64 KiB of an event stream, a JSON text whole; what waits behind it is the client's buffer. The last part is kept for 45 s, of 4,096 answers; the oldest go first |
//! | such answers on the side of the replica that took the request | one of each socket; of each the part that the client has yet to read, and no other is asked for before; after `--client-stall-timeout` the answer is closed |
//! | a socket's read and write buffers | 64 KiB each; a stream's socket has none, see the client's buffer |
//! | a refusal of the upstream | 1 MiB of its body is kept |
//! | what a client carries in its event id | [`proto::bridge::MAX_CARRIED`] before it is sealed; subscriptions that do not fit are left out, and a client that said more of itself carries nothing. All of it is remembered here too, and counts in `--max-buffered` |
//! | cookies of a connection | 32 of 4 KiB ([`upstream::Jar`]) |
//! | subscriptions that are restored | 256 of a connection |
//! | sessions that a client's second handshake replaced | 8 of a connection |
//! | addresses whose misses are counted | 4,096 |
//! | sockets of the admin listener | 64, beside `--max-sockets`; one more gets 503. Bodies of requests are not read |
//! | pages that watch | [`tap::MAX_WATCHERS`], all who watch together; for each 4 pieces of 2,048 changes wait to be read, then it lags, is told, and ends |
//! | downloads of records at once | 4, each holding the records that it has yet to write; of lists 16; one more gets 503 |
//! | connections made only to learn whether the upstream is there | one in 5 s, closed again at once |
//! | series of metrics | the closed sets in [`metrics::labels`] |
//! | idle connections to the upstream | 1,024, for 4 s |
//! | repetitions | a fifth of all exchanges and 100 more; 5 failed attempts to connect within 10 s stop further ones for half a second |
//! | what waits for the terminal or the tap's file | 256 changes each, then they lag like any watcher; [`tap::file::BUFFER`] and one record |
//! | a recording that is replayed | 64 MiB a line; its requests and their outcomes are in memory |
//! | events that wait for the tap's recorder | [`tap::MAX_QUEUED`] with [`tap::MAX_QUEUED_BYTES`] of texts and headers; more are dropped and counted, but for 65,536 beginnings and ends of connections. Where only people look, [`tap::PACE`] a second are taken |
//! | one message in the tap | `--tap-max-body`; the rest of a longer one is not kept |
//! | what the tap keeps | 16 MiB of records, the rows of 20,000 exchanges, and of 2,000 connections that are over |
//! | what the tap takes for open | the connections that the server has, 20,000 exchanges and as many passing requests; 2,000 clients of passed-through traffic, with 8 sessions each; the heads of 32 requests that ended without an answer |
//! | compressed answers that the tap unpacks | 64 at once; one piece to 4 MiB |
//! | changes that a watcher of the tap may lag behind | 8,192, then it loses the oldest and is told how many |
//!
//! # Where to add things
//!
//! - A rule of the protocol, or a client's quirk: first a transcript in `fixtures/transcripts/`, then the file of
//!   [`proto::bridge`] that its module page names.
//! - A kind of upstream: a file beside [`upstream`]'s, turned into the same replies.
//! - A place to keep connections: a variant of [`store::Store`].
//! - Something to count: a family in `metrics/catalogue.rs`; the README's table is made from it.
//! - A way to watch: a task that holds a [`tap::Watcher`].

pub mod budget;
pub mod config;
pub mod conn;
pub mod demo;
pub mod error;
pub mod health;
pub mod legacy_client;
pub mod logging;
pub mod metrics;
pub mod outlet;
pub mod proto;
pub mod replay;
pub mod server;
pub mod store;
pub mod tap;
pub mod upstream;

use std::future::Future;

use tracing::{info, warn};

use config::Config;
use error::Error;
use server::{Bound, Shutdown};

/// Serves until `shutdown`, then finishes what is in flight and returns.
///
/// # Errors
/// When an address cannot be listened on, or TLS for the upstream cannot be set up; nothing was served then.
pub async fn run(config: Config, shutdown: impl Future<Output = Shutdown>) -> Result<(), Error> {
    let (sse, mcp) = (config.paths.sse.clone(), config.paths.mcp.clone());
    let form = config.log.format;
    let named = !config.guard.allowed_hosts.is_empty();
    let bound = Bound::bind(config).await?;
    for address in bound.addresses() {
        info!(
            "listening on http://{address}, legacy clients at {sse}, others at {mcp}; upstream {}",
            bound.upstream()
        );
    }
    if !named
        && bound
            .addresses()
            .iter()
            .any(|address| !address.ip().is_loopback())
    {
        warn!(
            "every Host is let in on an address that is not loopback; name yours with --allowed-host or --public-url"
        );
    }
    if let Some(url) = bound.admin_url() {
        logging::say(form, &format!("the tap's page: {url}"));
    }
    bound.serve(shutdown).await;
    Ok(())
}
