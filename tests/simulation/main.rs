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
//! | `ferry` | the shell around one bridge |
//! | `books` | what is checked |
//!
//! `SIMULATION=100000` runs that many seeds, `SIMULATION_SEED=…` one of them, with everything that happened in it
//! printed. `cargo test --profile simulation --test simulation` runs fast and keeps the checks of a debug build.

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
mod plan;
mod queue;
#[path = "../it/support/random.rs"]
mod random;
mod reading;
mod server;
mod world;
mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use world::World;

/// Seeds of a plain `cargo test`, in a debug build.
const SEEDS: u64 = 500;

fn run(seed: u64, log: bool) -> Result<u64, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the first; time passes by hand"
    )]
    let now = Instant::now();
    let mut world = World::new(seed, now, log);
    let why = match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(Ok(())) => {
            if let Some(log) = world.log {
                println!("{log}");
            }
            return Ok(world.events);
        }
        Ok(Err(why)) => why,
        Err(_) => "a panic, see above".to_owned(),
    };
    let log = world.log.unwrap_or_default();
    Err(format!(
        "{log}{why}\nseed {seed}: run it alone, with all that happens, by SIMULATION_SEED={seed}"
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
fn the_invariants_hold_in_every_seed() {
    if let Some(seed) = number("SIMULATION_SEED") {
        run(seed, true).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    let (first, seeds) = (random::seed(), number("SIMULATION").unwrap_or(SEEDS));
    println!("{seeds} seeds from {first}");
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let (stop, events, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let share = |thread: u64| {
            let (stop, events, done) = (&stop, &events, &done);
            move || {
                for seed in (thread..seeds).step_by(usize::try_from(threads).unwrap_or(1)) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match run(first.wrapping_add(seed), false) {
                        Ok(count) => events.fetch_add(count, Ordering::Relaxed),
                        Err(why) => {
                            stop.store(true, Ordering::Relaxed);
                            return Some(why);
                        }
                    };
                    done.fetch_add(1, Ordering::Relaxed);
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
    println!("{done:?} seeds passed, {events:?} events");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
