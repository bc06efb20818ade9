//! Two replicas and a carrier that cannot be trusted.

use std::sync::Arc;

use super::codec::tests::{reply, request};
use super::desk::{Desk, MAX_DELAY, Sender, Ticket};
use super::{HandOverError, Handed, MAX_ENTRY, MAX_HANDED, Reply};
use crate::config::{Key, Keys};
use crate::metrics::labels::TakenOver;
use crate::store::ReplicaId;
use crate::store::seal::Sealer;

fn name(text: &str) -> ReplicaId {
    ReplicaId::parse(text).expect("a name")
}

fn desk_with(key: u8, own: &str) -> Arc<Desk> {
    let keys = Keys {
        first: Key::from([key; 32]),
        second: None,
    };
    let sealer = Arc::new(Sealer::new(&keys).expect("random"));
    Arc::new(Desk::new(sealer, name(own)).expect("random"))
}

fn desk(own: &str) -> Arc<Desk> {
    desk_with(1, own)
}

/// What time it is at every replica, in milliseconds.
const NOW: u64 = 1_000_000;

fn send(from: &Arc<Desk>, to: &Desk, request: &Handed) -> Result<Ticket, HandOverError> {
    from.send(to.own(), request, (*to.process(), NOW))
}

type Requests = Vec<(Sender, Handed)>;

/// What comes of entries that are in time, and what was counted.
fn take(desk: &Desk, entries: &[&[u8]]) -> (Requests, Vec<TakenOver>) {
    let entries: Vec<_> = entries.iter().map(|e| (e.to_vec(), false)).collect();
    let mut counted = Vec::new();
    let taken = desk.take(&entries, NOW, |what| counted.push(what));
    assert!(taken.astray.is_empty());
    (taken.requests, counted)
}

/// Nothing came of it but this.
fn refused(desk: &Desk, entry: &[u8], why: TakenOver) {
    let (requests, counted) = take(desk, &[entry]);
    assert!(requests.is_empty());
    assert_eq!(counted, [why]);
}

#[test]
fn a_request_arrives_whole_and_so_does_its_answer() {
    let (a, b) = (desk("a"), desk("b"));
    let mut ticket = send(&a, &b, &request("{}")).expect("it goes");
    let (requests, counted) = take(&b, &[&ticket.entry]);
    assert!(counted.is_empty());
    let [(sender, arrived)] = &requests[..] else {
        panic!("one request");
    };
    assert_eq!(*arrived, request("{}"));
    assert_eq!(sender.replica, *a.own());
    assert!(ticket.reply.try_recv().is_err(), "not yet");
    let answer = b.answer(sender, &reply(401));
    refused(&a, &answer, TakenOver::Answer);
    assert_eq!(ticket.reply.try_recv(), Ok(reply(401)));
    refused(&a, &answer, TakenOver::Unasked);
}

#[test]
fn nothing_of_a_request_or_an_answer_is_readable() {
    let (a, b) = (desk("a"), desk("b"));
    let secret = "a canary that nobody may see";
    let ticket = send(&a, &b, &request(secret)).expect("it goes");
    let (requests, _) = take(&b, &[&ticket.entry]);
    let answer = b.answer(&requests[0].0, &Reply::text(200, secret));
    for entry in [&ticket.entry, &answer, &ticket.withdrawal()] {
        for canary in [secret, "s3cret", "authorization", "Bearer"] {
            let there = entry.windows(canary.len()).any(|w| w == canary.as_bytes());
            assert!(!there, "{canary}");
        }
        assert!(!entry.windows(4).any(|window| window == [7; 4]), "the id");
    }
}

#[test]
fn a_copy_is_refused_however_much_later() {
    let (a, b) = (desk("a"), desk("b"));
    let first = send(&a, &b, &request("1")).expect("it goes");
    assert_eq!(take(&b, &[&first.entry, &first.entry]).0.len(), 1);
    for _ in 0..20_000 {
        let ticket = send(&a, &b, &request("n")).expect("it goes");
        assert_eq!(take(&b, &[&ticket.entry]).0.len(), 1);
    }
    refused(&b, &first.entry, TakenOver::Repeated);
}

#[test]
fn order_does_not_matter_and_every_request_is_taken_once() {
    let (a, b) = (desk("a"), desk("b"));
    let tickets: Vec<_> = (0..100)
        .map(|n| send(&a, &b, &request(&n.to_string())).expect("it goes"))
        .collect();
    let entries: Vec<&[u8]> = tickets.iter().rev().map(|t| t.entry.as_slice()).collect();
    let (requests, counted) = take(&b, &entries);
    assert!(counted.is_empty());
    let bodies: Vec<_> = requests.iter().map(|(_, r)| r.body.clone()).collect();
    let expected: Vec<_> = (0..100).rev().map(|n| n.to_string().into_bytes()).collect();
    assert_eq!(bodies, expected);
    let (requests, counted) = take(&b, &entries);
    assert!(requests.is_empty() && counted == [TakenOver::Repeated; 100]);
}

#[test]
fn every_altered_byte_and_every_cut_is_refused() {
    let (a, b) = (desk("a"), desk("b"));
    let ticket = send(&a, &b, &request("{}")).expect("it goes");
    let why = |entry: &[u8]| {
        let (requests, counted) = take(&b, &[entry]);
        assert!(requests.is_empty(), "{entry:?}");
        let known = [TakenOver::Malformed, TakenOver::Unopened];
        assert!(known.contains(&counted[0]), "{counted:?}");
    };
    for at in 0..ticket.entry.len() {
        for bit in 0..8 {
            let mut altered = ticket.entry.clone();
            altered[at] ^= 1 << bit;
            why(&altered);
        }
        why(&ticket.entry[..at]);
    }
    let mut longer = ticket.entry.clone();
    longer.push(0);
    why(&longer);
    assert_eq!(take(&b, &[&ticket.entry]).0.len(), 1, "the real one still");
}

#[test]
fn what_is_put_into_another_inbox_is_refused() {
    let (a, b, c) = (desk("a"), desk("b"), desk("c"));
    let mut ticket = send(&a, &b, &request("{}")).expect("it goes");
    let (requests, _) = take(&b, &[&ticket.entry]);
    let answer = b.answer(&requests[0].0, &reply(202));
    refused(&c, &ticket.entry, TakenOver::Unopened);
    refused(&a, &ticket.entry, TakenOver::Unopened);
    refused(&c, &ticket.withdrawal(), TakenOver::Unopened);
    refused(&c, &answer, TakenOver::Unopened);
    refused(&b, &answer, TakenOver::Unopened);
    // A replica of the same name that came after: it opens, and nobody there waits for it.
    refused(&desk("a"), &answer, TakenOver::Unasked);
    refused(&a, &answer, TakenOver::Answer);
    assert_eq!(ticket.reply.try_recv(), Ok(reply(202)));
}

#[test]
fn an_answer_is_taken_from_the_owner_and_for_its_own_request_only() {
    let (a, b, c) = (desk("a"), desk("b"), desk("c"));
    let mut one = send(&a, &b, &request("1")).expect("it goes");
    let mut two = send(&a, &c, &request("2")).expect("it goes");
    let (at_b, _) = take(&b, &[&one.entry]);
    let (at_c, _) = take(&c, &[&two.entry]);
    // A replica of ours that answers what another was asked.
    refused(&a, &c.answer(&at_b[0].0, &reply(200)), TakenOver::Unasked);
    refused(&a, &b.answer(&at_c[0].0, &reply(200)), TakenOver::Unasked);
    assert!(one.reply.try_recv().is_err() && two.reply.try_recv().is_err());
    refused(&a, &b.answer(&at_b[0].0, &reply(202)), TakenOver::Answer);
    assert!(one.reply.try_recv() == Ok(reply(202)) && two.reply.try_recv().is_err());
    drop(two);
    refused(&a, &c.answer(&at_c[0].0, &reply(202)), TakenOver::Unasked);
}

#[test]
fn one_kind_is_not_taken_for_another() {
    let (a, b) = (desk("a"), desk("b"));
    let ticket = send(&a, &b, &request("{}")).expect("it goes");
    for kind in [2, 3] {
        let mut entry = ticket.entry.clone();
        entry[0] = kind;
        refused(&b, &entry, TakenOver::Unopened);
    }
    let mut entry = ticket.withdrawal();
    entry[0] = 1;
    refused(&b, &entry, TakenOver::Unopened);
}

#[test]
fn a_withdrawn_request_is_left_alone() {
    let (a, b) = (desk("a"), desk("b"));
    // In one look, behind the request: it counts all the same.
    let ticket = send(&a, &b, &request("1")).expect("it goes");
    let (requests, counted) = take(&b, &[&ticket.entry, &ticket.withdrawal()]);
    assert!(requests.is_empty());
    assert_eq!(counted, [TakenOver::Withdrawn, TakenOver::Repeated]);
    // Before the request, which somebody held back.
    let ticket = send(&a, &b, &request("2")).expect("it goes");
    refused(&b, &ticket.withdrawal(), TakenOver::Withdrawn);
    refused(&b, &ticket.entry, TakenOver::Repeated);
    // Too late.
    let ticket = send(&a, &b, &request("3")).expect("it goes");
    assert_eq!(take(&b, &[&ticket.entry]).0.len(), 1);
    refused(&b, &ticket.withdrawal(), TakenOver::Repeated);
}

#[test]
fn what_lay_too_long_is_refused_for_good() {
    let (a, b) = (desk("a"), desk("b"));
    let ticket = send(&a, &b, &request("1")).expect("it goes");
    let mut counted = Vec::new();
    let entries = [(ticket.entry.clone(), true)];
    let taken = b.take(&entries, NOW, |what| counted.push(what));
    assert!(taken.requests.is_empty() && taken.astray.is_empty());
    assert_eq!(counted, [TakenOver::Late]);
    refused(&b, &ticket.entry, TakenOver::Repeated);
}

#[test]
fn other_keys_open_nothing() {
    let (a, b) = (desk("a"), desk_with(2, "b"));
    let ticket = send(&a, &b, &request("1")).expect("it goes");
    refused(&b, &ticket.entry, TakenOver::Unopened);
    refused(&b, &ticket.withdrawal(), TakenOver::Unopened);
    for nonsense in [
        &b""[..],
        b"\x01",
        b"\x01\x01a",
        &[0xff; 1000],
        &[1; 100_000],
    ] {
        let (requests, counted) = take(&b, &[nonsense]);
        assert!(requests.is_empty() && counted.len() == 1);
    }
}

#[test]
fn what_is_too_large_or_too_much_is_not_sent() {
    let (a, b) = (desk("a"), desk("b"));
    let body = "x".repeat(MAX_ENTRY);
    let refused = send(&a, &b, &request(&body)).map(|_| ());
    assert_eq!(refused, Err(HandOverError::TooLarge));
    let mut tickets: Vec<_> = (0..MAX_HANDED)
        .map(|_| send(&a, &b, &request("{}")).expect("it goes"))
        .collect();
    let full = send(&a, &b, &request("{}")).map(|_| ());
    assert_eq!(full, Err(HandOverError::Full));
    tickets.pop();
    let ticket = send(&a, &b, &request("{}")).expect("one has gone");
    let (requests, _) = take(&b, &[&ticket.entry]);
    let answer = b.answer(&requests[0].0, &Reply::text(200, &body));
    let mut ticket = ticket;
    assert_eq!(take(&a, &[&answer]).1, [TakenOver::Answer]);
    assert_eq!(ticket.reply.try_recv().map(|reply| reply.status), Ok(502));
}

#[test]
fn what_was_kept_back_is_refused_whatever_the_carrier_says() {
    let (a, b) = (desk("a"), desk("b"));
    for (now, taken) in [
        (NOW, true),
        (NOW + MAX_DELAY, true),
        (NOW + MAX_DELAY + 1, false),
        (NOW + 61_000, false),
        (NOW - 2_000, true),
        (NOW - 2_001, false),
        (0, false),
    ] {
        let ticket = send(&a, &b, &request("1")).expect("it goes");
        let mut counted = Vec::new();
        let entries = [(ticket.entry.clone(), false)];
        let come = b.take(&entries, now, |what| counted.push(what));
        assert_eq!(come.requests.len(), usize::from(taken), "{now}");
        assert_eq!(come.astray.len(), usize::from(!taken), "{now}");
        assert_eq!(counted.contains(&TakenOver::Late), !taken);
        refused(&b, &ticket.entry, TakenOver::Repeated);
    }
}

/// The owner ran for a while, and another process has its name for just as long now.
#[test]
fn what_was_sent_by_a_predecessor_s_heartbeat_is_refused_at_any_time() {
    let (a, before, after) = (desk("a"), desk("b"), desk("b"));
    let heard = a.read_heartbeat(before.own(), &before.heartbeat(NOW));
    let heard = heard.expect("it opens, however old it is");
    let request = request("1");
    let ticket = a.send(after.own(), &request, heard).expect("it goes");
    let mut counted = Vec::new();
    let come = after.take(&[(ticket.entry.clone(), false)], NOW, |what| {
        counted.push(what)
    });
    assert!(come.requests.is_empty() && come.astray.len() == 1);
    assert_eq!(counted, [TakenOver::Late]);
    // No heartbeat was there at all, and the owner is young.
    let nobody = a.send(after.own(), &request, ([0; 16], 0));
    let entry = nobody.expect("it goes").entry.clone();
    let come = after.take(&[(entry, false)], 0, |_| {});
    assert!(come.requests.is_empty() && come.astray.len() == 1);
    // Asked again, the successor's own heartbeat is there.
    let heard = a.read_heartbeat(after.own(), &after.heartbeat(NOW));
    let again = a.send(after.own(), &request, heard.expect("it opens"));
    assert_eq!(take(&after, &[&again.expect("it goes").entry]).0.len(), 1);
}

#[test]
fn a_heartbeat_tells_the_time_to_replicas_with_our_keys_and_is_bound_to_its_replica() {
    let (a, b) = (desk("a"), desk("b"));
    let heartbeat = b.heartbeat(NOW);
    assert_eq!(heartbeat[..16], *b.process());
    assert_eq!(
        a.read_heartbeat(b.own(), &heartbeat),
        Some((*b.process(), NOW))
    );
    assert_eq!(a.read_heartbeat(&name("c"), &heartbeat), None);
    assert_eq!(desk_with(2, "c").read_heartbeat(b.own(), &heartbeat), None);
    for at in 0..heartbeat.len() {
        let mut altered = heartbeat.clone();
        altered[at] ^= 1;
        assert_eq!(a.read_heartbeat(b.own(), &altered), None, "{at}");
        assert_eq!(a.read_heartbeat(b.own(), &heartbeat[..at]), None, "{at}");
    }
}

#[test]
fn no_answer_of_an_upstream_s_is_taken_for_one_that_the_request_is_astray() {
    let astray = Reply::astray();
    assert!(astray.is_astray() && !reply(503).is_astray());
    let name = &astray.headers.last().expect("a mark").0;
    assert!(hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err());
}
