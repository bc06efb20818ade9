//! What users of other proxies and servers complained about, each as a test that puts the ferry into the same place.
//!
//! A test that fails here would send somebody to file the same complaint again. The general rules behind are held by
//! the other modules; these tests reproduce the situation, and quote the complaint.
//!
//! | complaint | test |
//! | --- | --- |
//! | supercorp-ai/supergateway#138 | `c01_a_thousand_reconnects_leave_a_running_call_alone` |
//! | scrypster/muninndb#897 | `c02_a_hundred_clients_with_equal_ids_see_only_their_own` |
//! | modelcontextprotocol/python-sdk#3137 | `c03_an_id_in_flight_is_not_taken_twice_and_keeps_its_type` |
//! | modelcontextprotocol/python-sdk#906 | `c04_every_failure_of_the_upstream_reaches_the_caller_that_waits` |
//! | mark3labs/mcp-go#162 | `c05_a_post_is_answered_long_before_the_tool_is_done` |
//! | agentgateway/agentgateway#248 | `c06_a_quiet_stream_outlives_what_cuts_idle_connections` |
//! | robhunter/agentdeals#1100 | `c07_an_edge_that_withholds_heads_has_a_byte_at_once` |
//! | IBM/mcp-context-forge#689 | `c08_no_event_that_clients_do_not_know_reaches_them` |
//! | bees-roadhouse/bookstack-mcp#155 | `c09_the_place_of_a_dead_client_is_free_again` |
//! | penpot/penpot#9432 | `c10_a_client_that_does_not_read_is_given_up` |
//! | penpot/penpot#9432 | `c10_a_client_that_is_only_quiet_is_never_given_up` |
//! | penpot/penpot#9432 | `c10_the_kernel_probes_a_silent_client` |
//! | punkpeye/mcp-proxy#79 | `c11_every_session_that_was_begun_is_ended_once` |
//! | modelcontextprotocol/typescript-sdk#510 | `c12_a_client_that_reconnects_without_a_handshake_goes_on` |
//! | punkpeye/mcp-remote#106 | `c13_a_restarted_upstream_costs_the_client_nothing` |
//! | markmhendrickson/neotoma#2312 | `c14_recovery_knows_a_lost_session_from_other_refusals` |
//! | markmhendrickson/neotoma#2312 | `c14_recovery_ends_and_runs_nothing_twice` |
//! | PrefectHQ/fastmcp#4124 | `c15_a_cancel_overtakes_its_call_and_names_it` |
//! | PrefectHQ/fastmcp#4124 | `c15_a_client_that_goes_takes_its_calls_with_it` |
//! | envoyproxy/ai-gateway#1925 | `c16_a_405_to_the_upstream_get_is_asked_for_once` |
//! | envoyproxy/ai-gateway#1925 | `c16_nothing_waits_for_the_upstream_get` |
//! | envoyproxy/ai-gateway#2219 | `c17_the_answer_to_initialize_may_come_after_other_events` |
//! | Vexa-ai/vexa#795 | `c18_an_upstream_stream_may_be_silent_for_hours` |
//! | stacklok/toolhive#4061 | `c19_a_tool_that_takes_ten_minutes_is_waited_for` |
//! | gravitational/teleport#67000 | `c20_a_line_of_almost_32_mib_passes_and_a_longer_one_is_an_error` |
//! | stacklok/toolhive#3071 | `c21_the_endpoint_leads_back_through_the_ingress` |
//! | agentgateway/agentgateway#1082 | `c22_the_paths_are_the_operators_to_choose` |
//! | langwatch/langwatch#6860 | `c23_a_post_to_another_replica_is_refused_in_plain_words` |
//! | microsoft/playwright-mcp#1646 | `c24_the_upstreams_pings_are_answered_for_as_long_as_the_client_is_there` |
//! | higress-group/higress#3685 | `c25_what_the_upstream_asks_is_answered_by_the_client_or_by_an_error` |
//! | wso2/api-platform#2968 | `c26_an_elicitation_in_the_middle_of_a_response_is_seen_before_its_end` |
//! | agentgateway/agentgateway#1390 | `c27_the_oauth_challenge_reaches_the_client_whole` |
//! | mcpjungle/MCPJungle#252 | `c28_listed_headers_and_each_posts_own_token_go_upstream_and_no_others` |
//! | PrefectHQ/fastmcp#4468 | `c29_the_upstream_sees_its_own_host_and_the_ferry_judges_the_clients` |
//! | PrefectHQ/fastmcp#4791 | `c30_being_stopped_waits_for_calls_and_then_ends_streams_cleanly` |
//!
//! What these complaints ask for besides, and why it has no test here:
//!
//! - c07, a first byte on a GET that is passed through: the ferry adds no bytes there; the upstream has to send it.
//! - c10, the time after which the kernel gives up a client whose packets are lost: nothing on a loopback loses them.
//! - c11, memory over a day: a measurement, which belongs to the benchmarks. What is passed through has no state.
//! - c15, a cancel towards a 2026-07-28 upstream: that translation does not exist yet.
//! - c22, several mounts in one process: there is one upstream, and one set of paths.
//! - c23, handing a POST over to the replica that has the stream, and `/sse/messages`: one process for now.
//! - c27, the challenge on `GET /sse`, and metadata documents rewritten: a GET asks nothing of the upstream for now.
//! - c30, CORS preflights (envoyproxy/ai-gateway#2307): the tests of `guards`.

mod answers;
mod between;
mod crowd;
mod edges;
mod listen;
mod sessions;
mod stream;

use std::collections::BTreeMap;

/// Every test in the sources, and the comment before it.
fn written() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/complaints");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(path).expect("a source file");
        for part in text.split("#[tokio::test]\nasync fn ").skip(1) {
            let name = part.split('(').next().expect("a name");
            let before = text.split(&format!("async fn {name}(")).next();
            let lines = before.expect("what comes before").lines().rev();
            let comment = lines
                .skip_while(|line| line.starts_with("#["))
                .take_while(|line| line.starts_with("///"));
            found.insert(name.to_owned(), comment.collect());
        }
    }
    found
}

#[test]
fn the_table_lists_every_test_and_every_test_quotes_its_complaint() {
    let source = include_str!("mod.rs");
    let mut listed = BTreeMap::new();
    for row in source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
    {
        let Some((issue, test)) = row.trim_end_matches(" |").split_once(" | `") else {
            continue;
        };
        let test = test.trim_end_matches('`').to_owned();
        assert!(listed.insert(test.clone(), issue).is_none(), "{test} twice");
    }
    let written = written();
    let names = |of: Vec<&String>| of.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(listed.keys().collect()),
        names(written.keys().collect())
    );
    for (test, issue) in &listed {
        assert!(
            written[test].contains(issue),
            "{test} does not quote {issue}"
        );
    }
    // All thirty are there.
    for number in 1..=30 {
        let prefix = format!("c{number:02}_");
        let found = listed.keys().any(|test| test.starts_with(&prefix));
        assert!(found, "{prefix}");
    }
}
