//! Random interleavings of a model client and a model upstream against the bridge.
//!
//! Each case is two connections side by side with the same ids, a few dozen steps each, taken in turns: posts, batches,
//! cancels, answers, questions, refusals, cuts, lost sessions, resumptions, timers early and late. After every step the
//! ledger's invariants hold (I1 one outcome, I2 never two, I3 executed at most once, I5 order, I6 no silence towards
//! the upstream, I7 nothing crosses); then the upstream calms down and everything in flight must come to its end; then
//! the client leaves and nothing may stay open (I4).
//!
//! `INTERLEAVINGS=200000` runs more cases than the default, `INTERLEAVINGS_SEED=…` one seed, with what happened printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::support::model::{Check, World};
use crate::support::random::{self, Random};

const CASES: u64 = 10_000;

/// One case. An error names the connection.
fn case(worlds: &mut [World; 2], seed: u64) -> Result<(), (&'static str, String)> {
    let mut random = Random::new(seed);
    let mut world = |at: usize, act: &mut dyn FnMut(&mut World) -> Check| {
        let world = &mut worlds[at];
        act(world).map_err(|why| (world.tag, why))
    };
    for at in 0..2 {
        if random.percent(80) {
            world(at, &mut World::initialize)?;
        }
    }
    for _ in 0..random.below(100) {
        world(random.below(2), &mut World::step)?;
    }
    for at in 0..2 {
        if random.percent(60) {
            world(at, &mut World::calm)?;
        }
        world(at, &mut World::leave)?;
    }
    Ok(())
}

fn run(seed: u64, log: bool) -> Result<(), String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the first; time passes by hand"
    )]
    let now = Instant::now();
    let mut worlds = [
        World::new("a", seed, now, log),
        World::new("b", !seed, now, log),
    ];
    let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut worlds, seed)));
    let why = match outcome {
        Ok(Ok(())) => return Ok(()),
        Ok(Err((tag, why))) => format!("connection {tag}: {why}"),
        Err(_) => "a panic, see above".to_owned(),
    };
    let logs: String = worlds
        .iter_mut()
        .filter_map(|world| world.log.take())
        .collect();
    Err(format!(
        "{logs}{why}\nseed {seed}: run it again with INTERLEAVINGS_SEED={seed}"
    ))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

#[test]
fn the_ledger_holds_under_any_interleaving() {
    if let Some(seed) = number("INTERLEAVINGS_SEED") {
        return run(seed, true).unwrap_or_else(|why| panic!("{why}"));
    }
    let (first, cases) = (random::seed(), number("INTERLEAVINGS").unwrap_or(CASES));
    println!("{cases} cases from seed {first}");
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let stop = AtomicBool::new(false);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let share = |thread: u64| {
            let stop = &stop;
            move || {
                for case in (thread..cases).step_by(usize::try_from(threads).unwrap_or(1)) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = run(first.wrapping_add(case), false);
                    if outcome.is_err() {
                        stop.store(true, Ordering::Relaxed);
                        return outcome.err();
                    }
                }
                None
            }
        };
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(share(thread)))
            .collect();
        running
            .into_iter()
            .filter_map(|thread| thread.join().unwrap_or_default())
            .collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
