//! The whole translation, simulated: many bridges at once against one model upstream and their model clients, with
//! every fault that can be thought of, under virtual time.
//!
//! A seed decides everything: how many clients there are and what they do, how slow the links are, what kind of
//! server answers and what goes wrong with it. Its answers are bytes, in any pieces and cut anywhere, and pass the
//! decoders of the library. After every single input the invariants of the crate's documentation hold by the model's
//! own books: one outcome per request (I1), never two (I2), executed at most once (I3), the upstream's order (I5), no
//! silence towards the upstream (I6), nothing of one connection reaches another (I7); and when all is over, nothing is
//! open (I4).
//!
//! | file | what it holds |
//! | --- | --- |
//! | `world` | what happens in which order |
//! | `queue` | virtual time |
//! | `plan` | what a seed decides beforehand |
//! | `client`, `server` | the two peers |
//! | `writing`, `reading` | the bytes between the upstream and the ferry |
//! | `ferry`, `intake` | the shell around one bridge |
//! | `books` | what is checked |
//!
//! `SIMULATION=100000` runs that many seeds, others each time, or those from `SIMULATION_FROM=…` on; `SIMULATION_SEED=…`
//! one of them, with everything that happened in it printed (`cargo test --test simulation -- --nocapture`). The crate
//! in `fast/` runs these same sources about ten times as fast, with the checks of a debug build (`tests/simulation.sh`).
//! A seed is good only for the sources it failed with, so a rule that it shows broken becomes a transcript
//! (`fixtures/transcripts/`).

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise, in its helpers too"
)]
#![allow(unreachable_pub, reason = "modules of one binary")]

mod books;
mod client;
mod ferry;
mod intake;
mod plan;
mod queue;
#[path = "../it/support/random.rs"]
mod random;
mod reading;
mod server;
mod world;
mod writing;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use world::World;

/// Seeds of a plain `cargo test`, in a debug build.
const SEEDS: u64 = 300;
/// So many seeds show everything that can happen.
const ENOUGH: u64 = 2000;

/// What must happen in that many, for else they show little: the bridge's counters, and the model's own.
const MUST_HAPPEN: [&str; 59] = [
    "Carry",
    "EraChanged",
    "FerryError",
    "ImplicitHandshake",
    "InvalidUpstreamMessage",
    "LateAnswer",
    "Learnt handshake",
    "Learnt modern",
    "ListenReopened",
    "POST behind the end",
    "POST invalid",
    "POST refused",
    "Reinitialize",
    "Resume",
    "Retry",
    "StrayClientMessage",
    "answer cut inside a message",
    "argument in a header",
    "asked for input",
    "change told",
    "client came back",
    "connection refused",
    "drain expired with requests in flight",
    "headers do not fit",
    "level or subscription restored",
    "modern upstream spoken to as an older one",
    "older upstream spoken to as a modern one",
    "outcome: client_capability",
    "outcome: handshake_failed",
    "outcome: input_refused",
    "outcome: message_too_large",
    "outcome: not_expressible",
    "outcome: session_lost",
    "outcome: shutting_down",
    "outcome: stream_age",
    "outcome: timeout",
    "outcome: too_many_in_flight",
    "outcome: unauthorized",
    "outcome: unknown_version",
    "outcome: upstream_cut",
    "outcome: upstream_invalid",
    "outcome: upstream_lost",
    "outcome: upstream_no_response",
    "outcome: upstream_redirect",
    "outcome: upstream_refused",
    "outcome: upstream_unreachable",
    "replaced by another era",
    "recalled",
    "reply behind the end of its exchange",
    "second listen stream refused",
    "session unknown",
    "stalled client closed",
    "stream ended by the upstream",
    "stream never acknowledged",
    "stream resumed with what was missed",
    "subscription not accepted",
    "told of changes",
    "upstream not read for its client",
    "warned",
];

/// What happened in some seeds.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    events: u64,
    seen: BTreeMap<String, u64>,
}

/// Runs one seed, adds it to the sum and gives back its log. An error says all there is to say.
fn run(seed: u64, log: bool, sum: &mut Sum) -> Result<String, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the first; time passes by hand"
    )]
    let now = Instant::now();
    let mut world = World::new(seed, now, log);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let log = world.log.take().unwrap_or_default();
    let why = match outcome {
        Ok(Ok(())) => {
            sum.seeds += 1;
            sum.events += world.events;
            for (what, count) in world.seen {
                *sum.seen.entry(what).or_default() += count;
            }
            return Ok(log);
        }
        Ok(Err(why)) => why,
        Err(_) => "a panic, see above".to_owned(),
    };
    Err(format!(
        "{log}{why}\nseed {seed}: run it alone, with all that happens, by SIMULATION_SEED={seed}"
    ))
}

/// Runs so many seeds on all cores, up to the first failure.
fn run_all(first: u64, seeds: u64) -> (Sum, Vec<String>) {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let stop = AtomicBool::new(false);
    let share = |thread: u64| {
        let mut sum = Sum::default();
        for seed in (thread..seeds).step_by(usize::try_from(threads).unwrap_or(1)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Err(why) = run(first.wrapping_add(seed), false, &mut sum) {
                stop.store(true, Ordering::Relaxed);
                return (sum, Some(why));
            }
        }
        (sum, None)
    };
    let (mut sum, mut failures) = (Sum::default(), Vec::new());
    std::thread::scope(|scope| {
        let share = &share;
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || share(thread)))
            .collect();
        for thread in running {
            let (part, failure) = thread.join().unwrap();
            sum.seeds += part.seeds;
            sum.events += part.events;
            for (what, count) in part.seen {
                *sum.seen.entry(what).or_default() += count;
            }
            failures.extend(failure);
        }
    });
    (sum, failures)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn the_invariants_hold_in_every_seed() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let outcome = run(seed, true, &mut Sum::default());
        return println!("{}", outcome.unwrap_or_else(|why| panic!("{why}")));
    }
    let first = number("SIMULATION_FROM").unwrap_or_else(random::seed);
    let seeds = number("SIMULATION").unwrap_or(SEEDS);
    println!("{seeds} seeds from {first}");
    let (sum, failures) = run_all(first, seeds);
    println!("{sum:#?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if seeds >= ENOUGH {
        let never = |what: &&&str| !sum.seen.contains_key(**what);
        let never: Vec<_> = MUST_HAPPEN.iter().filter(never).collect();
        assert!(never.is_empty(), "these never happened: {never:?}");
    }
}
