//! Every metric: its name by the conventions of Prometheus, its unit, its labels, what it means, and where its numbers
//! come from. The exposition and the README's table are both made from this list.

use super::families::{
    Family, Levels, Series, Unit, count, counted, counter_of, flag, float, labels_of, level, load,
    timed,
};
use super::labels::Single;
use super::{Counter, Metrics};
use crate::proto::era::Era;

/// All of them, with what they say now.
pub(super) fn families(metrics: &Metrics, levels: &Levels) -> Vec<Family> {
    let mut all = process(levels);
    all.extend(connections(metrics, levels));
    all.extend(requests(metrics));
    all.extend(COUNTERS.iter().map(|(counter, name, help)| {
        counter_of(
            name,
            Unit::None,
            help,
            vec![(Vec::new(), metrics.get(*counter))],
        )
    }));
    all.extend(passed(metrics, levels));
    all.extend(replicas(metrics, levels));
    all.extend(tap(levels));
    all
}

fn process(levels: &Levels) -> Vec<Family> {
    let era = |era| flag(levels.upstream_era == era);
    let eras = vec![
        (vec!["unknown"], era(None)),
        (vec!["handshake"], era(Some(Era::Handshake))),
        (vec!["modern"], era(Some(Era::Modern))),
    ];
    let version = Family {
        name: "mcp_ferry_build",
        unit: Unit::None,
        labels: &["version"],
        help: "The version of the program",
        series: Series::Info(vec![env!("CARGO_PKG_VERSION")]),
    };
    // By its own name, which is the same for every program.
    let started = level(
        "process_start_time",
        Unit::Seconds,
        "When the process began, since 1970",
        levels.started,
    );
    let up = levels.upstream_up.map(|up| (Vec::new(), flag(up)));
    vec![
        started,
        version,
        level(
            "mcp_ferry_draining",
            Unit::None,
            "1 when the process is going to stop",
            flag(levels.draining),
        ),
        Family {
            name: "mcp_ferry_upstream_up",
            unit: Unit::None,
            labels: &[],
            help: "1 when the upstream could be reached at the last attempt, 0 when not; absent before the first",
            series: Series::Gauge(up.into_iter().collect()),
        },
        Family {
            name: "mcp_ferry_upstream_era",
            unit: Unit::None,
            labels: &["era"],
            help: "1 for the era that the upstream speaks: unknown, handshake, modern",
            series: Series::Gauge(eras),
        },
    ]
}

fn connections(metrics: &Metrics, levels: &Levels) -> Vec<Family> {
    vec![
        Family {
            name: "mcp_ferry_connections",
            unit: Unit::None,
            labels: labels_of(&metrics.connections),
            help: "Open connections: legacy streams and the ferry's own sessions",
            series: Series::Gauge(
                metrics
                    .connections
                    .each()
                    .map(|(values, cell)| (values, float(load(cell))))
                    .collect(),
            ),
        },
        level(
            "mcp_ferry_sockets",
            Unit::None,
            "Open client sockets that carry no legacy stream",
            count(levels.sockets),
        ),
        level(
            "mcp_ferry_buffered",
            Unit::Bytes,
            "What all connections hold in memory",
            count(levels.buffered),
        ),
        level(
            "mcp_ferry_buffered_limit",
            Unit::Bytes,
            "The most that they may hold (--max-buffered)",
            count(levels.buffered_limit),
        ),
    ]
}

fn requests(metrics: &Metrics) -> Vec<Family> {
    vec![
        counted(
            "mcp_ferry_requests",
            Unit::None,
            "Requests of translated clients, by how they ended",
            &metrics.requests,
        ),
        level(
            "mcp_ferry_requests_in_flight",
            Unit::None,
            "Requests of translated clients that have had no outcome yet",
            float(metrics.in_flight.get(Single)),
        ),
        timed(
            "mcp_ferry_request_duration",
            "From the coming of a client's request to the going of its outcome",
            &metrics.client_time,
        ),
        timed(
            "mcp_ferry_upstream_request_duration",
            "Of that, from the first exchange with the server for it to the arrival of its outcome",
            &metrics.upstream_time,
        ),
        timed(
            "mcp_ferry_own_request_duration",
            "Of that, the rest: what the ferry itself took, waiting for a handshake included",
            &metrics.own_time,
        ),
        counted(
            "mcp_ferry_message",
            Unit::Bytes,
            "Messages of translated clients, as JSON text",
            &metrics.bytes,
        ),
        counted(
            "mcp_ferry_refusals",
            Unit::None,
            "HTTP requests that the ferry refused itself",
            &metrics.refusals,
        ),
    ]
}

fn passed(metrics: &Metrics, levels: &Levels) -> Vec<Family> {
    vec![
        counted(
            "mcp_ferry_passed_answers",
            Unit::None,
            "Answers to passed-through requests, by status",
            &metrics.passed,
        ),
        timed(
            "mcp_ferry_passed_head_duration",
            "From a passed-through request to the head of its answer",
            &metrics.passed_head,
        ),
        timed(
            "mcp_ferry_passed_duration",
            "From a passed-through request to the end of its answer, or to the client's leaving it",
            &metrics.passed_whole,
        ),
        counted(
            "mcp_ferry_passed",
            Unit::Bytes,
            "Bodies of passed-through requests and answers",
            &metrics.passed_bytes,
        ),
        level(
            "mcp_ferry_passing",
            Unit::None,
            "Passed-through requests whose answers have not ended, listen streams excepted",
            count(levels.passing),
        ),
    ]
}

fn replicas(metrics: &Metrics, levels: &Levels) -> Vec<Family> {
    let up = levels.store_up.map(|up| (Vec::new(), flag(up)));
    vec![
        Family {
            name: "mcp_ferry_store_up",
            unit: Unit::None,
            labels: &[],
            help: "1 when requests can be handed to other replicas, 0 when not; absent without --store",
            series: Series::Gauge(up.into_iter().collect()),
        },
        counted(
            "mcp_ferry_handed_over",
            Unit::None,
            "Requests for connections of other replicas, by what became of them",
            &metrics.handed_over,
        ),
        counted(
            "mcp_ferry_taken_over",
            Unit::None,
            "What was found in this replica's inbox, by what became of it",
            &metrics.taken_over,
        ),
    ]
}

fn tap(levels: &Levels) -> Vec<Family> {
    let tap = levels.tap;
    vec![
        level(
            "mcp_ferry_tap_watchers",
            Unit::None,
            "Those who watch the tap: open pages, the terminal, the file",
            count(tap.watchers),
        ),
        level(
            "mcp_ferry_tap_records",
            Unit::None,
            "Records that the tap keeps",
            count(tap.records),
        ),
        level(
            "mcp_ferry_tap_stored",
            Unit::Bytes,
            "Their size",
            count(tap.bytes),
        ),
        counter_of(
            "mcp_ferry_tap_missed",
            Unit::None,
            "Events that the tap lost because more crossed than it could record",
            vec![(Vec::new(), tap.missed)],
        ),
    ]
}

/// The plain counters.
const COUNTERS: [(Counter, &str, &str); 27] = [
    (
        Counter::ConnectionsOpened,
        "mcp_ferry_connections_opened",
        "Connections that began",
    ),
    (
        Counter::ConnectionsClosed,
        "mcp_ferry_connections_closed",
        "Connections whose farewell is over",
    ),
    (
        Counter::ConnectionsRefused,
        "mcp_ferry_connections_refused",
        "Connections refused because of a bound",
    ),
    (
        Counter::SocketsRefused,
        "mcp_ferry_sockets_refused",
        "Sockets refused because of --max-sockets, or because the system had no descriptor",
    ),
    (
        Counter::MissesRefused,
        "mcp_ferry_misses_refused",
        "Requests refused because their address asked for unknown connections too often",
    ),
    (
        Counter::Panics,
        "mcp_ferry_panics",
        "Tasks that ended in a panic: bugs",
    ),
    (
        Counter::Posts,
        "mcp_ferry_posts",
        "POSTs of translated clients",
    ),
    (
        Counter::Delivered,
        "mcp_ferry_messages_delivered",
        "Messages given to translated clients",
    ),
    (
        Counter::Undelivered,
        "mcp_ferry_messages_undelivered",
        "Messages for a session's client that had nowhere to go",
    ),
    (
        Counter::StalledClients,
        "mcp_ferry_stalled_clients",
        "Clients closed because they did not read",
    ),
    (
        Counter::UpstreamCalls,
        "mcp_ferry_upstream_exchanges",
        "Exchanges with the server for translated clients",
    ),
    (
        Counter::PassedThrough,
        "mcp_ferry_passed_requests",
        "Requests passed through unchanged",
    ),
    (
        Counter::LateAnswers,
        "mcp_ferry_late_answers",
        "Answers of the server to requests that had their outcome already",
    ),
    (
        Counter::InvalidUpstreamMessages,
        "mcp_ferry_invalid_upstream_messages",
        "What the server sent and is no message",
    ),
    (
        Counter::StrayClientMessages,
        "mcp_ferry_stray_client_messages",
        "Answers of clients that nobody had asked for",
    ),
    (
        Counter::ImplicitHandshakes,
        "mcp_ferry_implicit_handshakes",
        "Handshakes made for clients that left theirs out",
    ),
    (
        Counter::Recalls,
        "mcp_ferry_recalls",
        "Streams whose clients had carried what they once said of themselves from another stream",
    ),
    (
        Counter::StrayEventIds,
        "mcp_ferry_stray_event_ids",
        "Last-Event-IDs of legacy clients that do not open, or not with these keys",
    ),
    (
        Counter::NotCarried,
        "mcp_ferry_not_carried",
        "Times that a client said too much of itself for an event id",
    ),
    (
        Counter::Reinitializes,
        "mcp_ferry_reinitializes",
        "Handshakes made again because the server had lost the session",
    ),
    (
        Counter::Resumes,
        "mcp_ferry_resumes",
        "Answer streams that broke off and were resumed",
    ),
    (
        Counter::ListenReopened,
        "mcp_ferry_listen_reopened",
        "Listen streams that ended and were opened again",
    ),
    (
        Counter::EraChanges,
        "mcp_ferry_upstream_era_changes",
        "Times that a connection found the server to speak another era",
    ),
    (
        Counter::Retries,
        "mcp_ferry_retries",
        "Requests that were sent to the server again",
    ),
    (
        Counter::FerryErrors,
        "mcp_ferry_errors",
        "Requests that ended in a JSON-RPC error of the ferry's own",
    ),
    (
        Counter::StoreErrors,
        "mcp_ferry_store_errors",
        "Failures of the store that replicas meet in: connections that broke, answers that did not come",
    ),
    (
        Counter::TapFileLost,
        "mcp_ferry_tap_file_lost",
        "Records that could not be written to the tap's file, because the disk was full or its directory gone",
    ),
];
