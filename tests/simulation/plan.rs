//! What a seed decides beforehand: how many clients, what kind of upstream, how slow the links are, what goes wrong.

use std::time::Duration;

use mcp_ferry::proto::era::Era;

use crate::random::Random;

/// What the ferry takes the upstream for when a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// For nothing in particular, or for what an earlier connection learnt.
    AsLearnt,
    /// For this, rightly or wrongly, until it shows something else.
    For(Era),
    /// The same, whatever it shows.
    Fixed(Era),
}

/// Drawn once per seed. Shares are of a hundred.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: usize,
    /// How many things each client does, at most.
    pub acts: usize,
    /// How long the faults last.
    pub storm: Duration,
    /// Whether the upstream gives sessions.
    pub stateful: bool,
    /// Whether it is of the modern era at first, how often it is replaced by one of the other era, and whether it takes
    /// what is said in either.
    pub modern: bool,
    pub flips: usize,
    pub dual: bool,
    pub taken: Taken,
    /// Whether the ferry listens for changes, and how often there are some.
    pub listen: bool,
    pub changes: usize,
    /// Modern answers that ask for input first.
    pub rounds: usize,
    /// Whether it numbers the events of its streams, and hands out again what came behind a number.
    pub numbers: bool,
    pub replays: bool,
    /// Exchanges that go wrong before they are answered.
    pub failures: usize,
    /// Steps on a stream that go wrong.
    pub mischief: usize,
    /// Answers that come as one JSON text; event streams among the others.
    pub json: usize,
    pub events: usize,
    pub restarts: usize,
    pub forgets: usize,
    /// When the ferry is told to stop, if it is during the storm, and how much time it gives.
    pub drain: Option<(Duration, Duration)>,
    /// The usual and the rare delay of a link.
    usual: u64,
    rare: u64,
    /// Share of timers that are late.
    pub late: usize,
    /// The most bytes of one message of the upstream, and of what waits for a client.
    pub max_message: usize,
    pub client_buffer: usize,
    pub max_in_flight: usize,
    pub request_timeout: Duration,
    pub request_idle_timeout: Duration,
    /// Whether everything comes to its end with a calm upstream before the clients leave.
    pub calm: bool,
    /// Whether the upstream still answers when the clients leave.
    pub silent: bool,
}

impl Plan {
    pub fn draw(random: &mut Random) -> Self {
        let pick = |random: &mut Random, from: &[usize]| *random.pick(from).unwrap_or(&0);
        let seconds = |random: &mut Random, from: &[u64]| {
            Duration::from_secs(*random.pick(from).unwrap_or(&0))
        };
        let drain = random.percent(12).then(|| {
            let from = Duration::from_millis(random.next() % 20_000);
            (from, seconds(random, &[0, 1, 5, 20]))
        });
        Self {
            clients: pick(random, &[2, 2, 2, 2, 3, 3, 3, 4, 6, 12]),
            acts: pick(random, &[4, 8, 12, 20]),
            storm: seconds(random, &[5, 20, 60, 180]),
            stateful: random.percent(78),
            modern: random.percent(45),
            flips: pick(random, &[0, 0, 0, 0, 1, 2, 3]),
            dual: random.percent(5),
            taken: *random
                .pick(&[
                    Taken::AsLearnt,
                    Taken::AsLearnt,
                    Taken::AsLearnt,
                    Taken::AsLearnt,
                    Taken::AsLearnt,
                    Taken::For(Era::Modern),
                    Taken::For(Era::Handshake),
                    Taken::Fixed(Era::Modern),
                    Taken::Fixed(Era::Handshake),
                ])
                .unwrap_or(&Taken::AsLearnt),
            listen: random.percent(90),
            changes: pick(random, &[0, 5, 20, 40]),
            rounds: pick(random, &[0, 30, 60, 97]),
            numbers: random.percent(65),
            replays: random.percent(65),
            failures: pick(random, &[0, 3, 10, 25]),
            mischief: pick(random, &[0, 10, 30, 50]),
            json: pick(random, &[0, 30, 60, 100]),
            events: pick(random, &[100, 100, 70, 0]),
            restarts: pick(random, &[0, 0, 0, 1, 2]),
            forgets: pick(random, &[0, 0, 1, 2, 5]),
            drain,
            usual: *random.pick(&[1, 5, 40]).unwrap_or(&1),
            rare: *random.pick(&[10, 200, 4000]).unwrap_or(&10),
            late: pick(random, &[0, 0, 10, 50]),
            max_message: pick(random, &[800, 2000]),
            client_buffer: pick(random, &[200, 2000, 1 << 20]),
            max_in_flight: pick(random, &[2, 8, 128]),
            request_timeout: seconds(random, &[7, 60, 3600]),
            request_idle_timeout: seconds(random, &[3, 30, 900]),
            calm: random.percent(65),
            silent: random.percent(20),
        }
    }

    /// How long something is on its way.
    pub fn latency(&self, random: &mut Random) -> Duration {
        let most = if random.percent(8) {
            self.rare
        } else {
            self.usual
        };
        Duration::from_micros(random.next() % (most * 1000))
    }
}
