//! What waits for other replicas, on a paused clock.

use super::*;

fn answers() -> Arc<Answers> {
    Arc::new(Answers::new(&Arc::new(Budget::new(1 << 20))))
}

impl Answers {
    fn is_empty(&self) -> bool {
        let table = self.table();
        table.entries.is_empty() && table.open == 0
    }
}

/// The one that all of these tests are about.
fn session() -> ConnectionId {
    ConnectionId::parse(&"5".repeat(64)).expect("an id")
}

/// A place for this one's.
fn admit(answers: &Arc<Answers>, name: u64) -> Admitted {
    answers.admit(&session(), name).expect("there is room")
}

fn has_rest(reply: &Reply) -> bool {
    reply.headers.iter().any(|(name, _)| **name == *REST)
}

#[tokio::test]
async fn a_short_answer_is_whole_at_once_and_nothing_is_kept() {
    let answers = answers();
    let (name, outlet, reader) = answers.open(Takes::Either);
    let text = Bytes::from(vec![b'x'; 3 * PART_BYTES]);
    outlet.whole(text.clone());
    let reply = answers
        .begin(admit(&answers, name), reader)
        .await
        .expect("an answer");
    assert_eq!((form(&reply), &reply.body), (Some(Form::Json), &text));
    assert!(!has_rest(&reply) && answers.is_empty());
    assert_eq!(answers.next(&session(), name, 1).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_comes_in_parts_and_each_can_be_asked_for_again() {
    let answers = answers();
    let (name, outlet, reader) = answers.open(Takes::Either);
    // Nothing is known of it yet.
    let reply = answers
        .begin(admit(&answers, name), reader)
        .await
        .expect("an answer");
    assert!(form(&reply).is_none() && reply.body.is_empty() && has_rest(&reply));
    outlet.begin(Form::Events);
    outlet.push(Bytes::from(vec![b'x'; PART_BYTES]));
    outlet.push(Bytes::from_static(b"y"));
    let first = answers.next(&session(), name, 1).await;
    assert_eq!(form(&first), Some(Form::Events));
    assert_eq!(first.body.len(), PART_BYTES);
    assert_eq!(outlet.waiting(), 1, "the rest waits in its queue");
    assert_eq!(answers.next(&session(), name, 1).await, first);
    let second = answers.next(&session(), name, 2).await;
    assert_eq!(&*second.body, b"y");
    // Gone, and not yet there.
    assert_eq!(answers.next(&session(), name, 1).await.status, 404);
    assert_eq!(answers.next(&session(), name, 4).await.status, 404);
    let quiet = answers.next(&session(), name, 3).await;
    assert!(quiet.body.is_empty() && has_rest(&quiet));
    outlet.push(Bytes::from_static(b"z"));
    drop(outlet);
    let last = answers.next(&session(), name, 4).await;
    assert!(&*last.body == b"z" && !has_rest(&last));
    assert_eq!(answers.next(&session(), name, 4).await, last);
    answers.empty().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_part_is_kept_for_a_while_without_anybody_coming_by_to_drop_it() {
    let answers = answers();
    for _ in 0..3 {
        let (name, outlet, reader) = answers.open(Takes::Json);
        let begun = answers.begin(admit(&answers, name), reader).await;
        assert!(has_rest(&begun.expect("an answer")));
        outlet.whole(Bytes::from(vec![b'x'; PART_BYTES]));
        let last = answers.next(&session(), name, 1).await;
        assert!(last.body.len() == PART_BYTES && !has_rest(&last));
        tokio::time::sleep(KEPT / 2 - FIRST - Duration::from_secs(1)).await;
        let again = answers.next(&session(), name, 1).await;
        assert_eq!(again, last, "it can be asked for again");
    }
    assert!(answers.budget.held() >= 2 * PART_BYTES);
    tokio::time::sleep(KEPT + FIRST).await;
    assert!(answers.is_empty());
    assert_eq!(answers.budget.held(), 0);
    assert!(!answers.table().sweeping, "and nobody waits for more");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_its_session_cuts_does_not_end_like_a_whole_one() {
    for _ in 0..20 {
        let answers = answers();
        let (name, outlet, reader) = answers.open(Takes::Events);
        outlet.begin(Form::Events);
        answers.begin_listening(admit(&answers, name), reader);
        let own = session();
        let (lost, ()) = tokio::join!(answers.next(&own, name, 1), async {
            tokio::task::yield_now().await;
            outlet.cut();
        });
        assert_eq!(lost.status, 404);
    }
}

/// A listen stream, and its session's end of it.
fn listening(answers: &Arc<Answers>) -> (u64, Outlet) {
    let (name, outlet, reader) = answers.open(Takes::Events);
    outlet.begin(Form::Events);
    answers.begin_listening(admit(answers, name), reader);
    (name, outlet)
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_asks_for_no_more_makes_room_for_another_and_a_live_one_does_not() {
    let answers = answers();
    let own = session();
    let closed = |outlet: &Outlet| {
        let cx = Context::from_waker(Waker::noop());
        outlet.poll_closed(&cx, false).is_ready()
    };
    assert!(!answers.release_silent(&own).await, "nobody listens");
    // It never asked.
    let (_, outlet) = listening(&answers);
    assert!(answers.release_silent(&own).await && closed(&outlet));
    // It asked once, and died while that was held.
    let (name, outlet) = listening(&answers);
    let (part, released) = tokio::join!(answers.next(&own, name, 1), answers.release_silent(&own));
    assert!(part.body.is_empty() && has_rest(&part));
    assert!(released && closed(&outlet));
    // Its last ask comes after it has died.
    let (name, outlet) = listening(&answers);
    let (released, _) = tokio::join!(answers.release_silent(&own), answers.next(&own, name, 1));
    assert!(released && closed(&outlet));
    // It asks for as long as it is given something.
    let (name, outlet) = listening(&answers);
    let since = Instant::now();
    let puller = tokio::task::spawn({
        let (answers, own) = (Arc::clone(&answers), own.clone());
        async move {
            for part in 1.. {
                assert_eq!(answers.next(&own, name, part).await.status, 200);
            }
        }
    });
    assert!(!answers.release_silent(&own).await);
    assert!(!closed(&outlet) && since.elapsed() < ASKS_AGAIN);
    let other = ConnectionId::random().expect("random");
    assert!(!answers.release_silent(&other).await && !closed(&outlet));
    assert!(!puller.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_closed_for_its_writer_even_while_it_is_waited_for() {
    let answers = answers();
    let closed = |outlet: &Outlet| {
        let cx = Context::from_waker(Waker::noop());
        outlet.poll_closed(&cx, false).is_ready()
    };
    let (name, outlet, reader) = answers.open(Takes::Events);
    outlet.begin(Form::Events);
    let reply = answers.begin_listening(admit(&answers, name), reader);
    assert!(form(&reply) == Some(Form::Events) && has_rest(&reply));
    assert!(!closed(&outlet));
    let (started, own) = (Instant::now(), session());
    let (lost, ()) = tokio::join!(answers.next(&own, name, 1), async {
        tokio::task::yield_now().await;
        let again = answers.next(&session(), name, 1).await;
        assert_eq!(again.status, 503, "two cannot wait for one part");
        answers.forget(name);
    });
    assert_eq!((lost.status, started.elapsed()), (404, Duration::ZERO));
    assert!(closed(&outlet));
    // Its session gives it up when nobody reads it.
    let (name, outlet, reader) = answers.open(Takes::Events);
    outlet.begin(Form::Events);
    answers.begin_listening(admit(&answers, name), reader);
    outlet.cut();
    assert!(closed(&outlet) && answers.is_empty());
}

#[tokio::test]
async fn a_session_that_ends_without_an_answer_is_unknown() {
    let answers = answers();
    let (name, outlet, reader) = answers.open(Takes::Either);
    drop(outlet);
    let refused = answers.begin(admit(&answers, name), reader).await;
    assert!(matches!(refused, Err(Refused::UnknownSession)));
    assert!(answers.is_empty());
}

#[tokio::test]
async fn it_is_given_to_those_who_know_its_session_only() {
    let answers = answers();
    let (name, outlet, reader) = answers.open(Takes::Events);
    outlet.push(Bytes::from_static(b"secret"));
    outlet.begin(Form::Events);
    answers.begin_listening(admit(&answers, name), reader);
    let other = ConnectionId::random().expect("random");
    assert_eq!(answers.next(&other, name, 1).await.status, 404);
    answers.give_up(&other, name);
    assert_eq!(&*answers.next(&session(), name, 1).await.body, b"secret");
    answers.give_up(&session(), name);
    assert_eq!(answers.next(&session(), name, 1).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_open_and_only_so_many_that_are_over_are_kept() {
    let answers = answers();
    let mut open = Vec::new();
    for _ in 0..MAX_ANSWERS {
        open.push(listening(&answers));
    }
    let (name, _, _) = answers.open(Takes::Events);
    let refused = answers.admit(&session(), name);
    assert!(matches!(refused, Err(Refused::Busy)), "{refused:?}");
    // What is over takes no place.
    for (name, outlet) in open {
        drop(outlet);
        answers.next(&session(), name, 1).await;
    }
    for (name, outlet) in (0..10).map(|_| listening(&answers)) {
        drop(outlet);
        answers.next(&session(), name, 1).await;
    }
    answers.empty().await;
    assert_eq!(answers.table().entries.len(), MAX_ANSWERS);
    // Nor does what was refused after it was admitted.
    drop(admit(&answers, 1 << 40));
    assert_eq!(answers.table().open, 0);
    tokio::time::sleep(KEPT + FIRST).await;
    assert!(answers.is_empty());
}
