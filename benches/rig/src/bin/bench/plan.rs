//! What is measured: the upstreams, the ways to them, the loads, and how long and how often each.

use std::time::Duration;

/// How the stub upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    StatelessJson,
    StatelessSse,
    StatefulSse,
    ModernJson,
}

impl Upstream {
    pub const ALL: [Self; 4] = [
        Self::StatelessJson,
        Self::StatelessSse,
        Self::StatefulSse,
        Self::ModernJson,
    ];

    /// What the load generator must know to speak to it without a ferry that translates.
    pub fn switches(self) -> &'static [&'static str] {
        match self {
            Self::ModernJson => &["--modern"],
            _ => &[],
        }
    }

    /// The word its command line knows.
    pub fn mode(self) -> &'static str {
        match self {
            Self::StatelessJson => "stateless-json",
            Self::StatelessSse => "stateless-sse",
            Self::StatefulSse => "stateful-sse",
            Self::ModernJson => "modern-json",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::StatelessJson => "stateless JSON",
            Self::StatelessSse => "stateless SSE",
            Self::StatefulSse => "stateful SSE",
            Self::ModernJson => "2026-07-28 JSON",
        }
    }
}

/// The way from the load generator to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    Direct,
    Nginx,
    PassThrough,
    Translated,
    /// The same two, with the tap recording and a page of it open.
    PassThroughWatched,
    TranslatedWatched,
    /// As the one before, but the page does not read what it is sent.
    TranslatedStalled,
}

impl Way {
    pub const ALL: [Self; 7] = [
        Self::Direct,
        Self::Nginx,
        Self::PassThrough,
        Self::Translated,
        Self::PassThroughWatched,
        Self::TranslatedWatched,
        Self::TranslatedStalled,
    ];

    pub fn is_watched(self) -> bool {
        matches!(
            self,
            Self::PassThroughWatched | Self::TranslatedWatched | Self::TranslatedStalled
        )
    }

    /// Those that are tried before this upstream: what watching costs does not hang on how it answers.
    pub fn before(upstream: Upstream) -> impl Iterator<Item = Self> {
        let all = Self::ALL.into_iter();
        all.filter(move |way| !way.is_watched() || upstream == WATCHED)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::PassThrough => "ferry, pass-through",
            Self::Translated => "ferry, translated",
            Self::PassThroughWatched => "ferry, pass-through, watched",
            Self::TranslatedWatched => "ferry, translated, watched",
            Self::TranslatedStalled => "ferry, translated, watched by one who stalls",
        }
    }
}

/// The upstream before which watching is measured.
pub const WATCHED: Upstream = Upstream::StatelessJson;

/// Connections, and calls in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    pub connections: usize,
    pub in_flight: usize,
}

impl std::fmt::Display for Load {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{}×{}", self.connections, self.in_flight)
    }
}

/// One call at a time: where latency is read.
pub const ONE: Load = Load {
    connections: 1,
    in_flight: 1,
};
/// Many calls at a time: where throughput is read.
pub const MANY: Load = Load {
    connections: 50,
    in_flight: 4,
};

/// So many idle clients in front of this upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    pub upstream: Upstream,
    pub connections: usize,
}

/// The sizes that budgets are about.
pub const IDLE_SESSIONLESS: Idle = Idle {
    upstream: Upstream::StatelessJson,
    connections: 10_000,
};
pub const IDLE_LISTENING: Idle = Idle {
    upstream: Upstream::StatefulSse,
    connections: 5_000,
};

/// How long and how often.
pub struct Plan {
    pub loads: Vec<Load>,
    pub warm_ms: u32,
    pub window_ms: u32,
    /// Every cell of the table is measured once per round, so that noise meets all alike.
    pub rounds: usize,
    pub idle: Vec<Idle>,
    pub idle_rounds: usize,
    /// How long memory must stand still to be read; allocators give back what is free after a
    /// second or so.
    pub still_ms: u32,
    pub starts: usize,
    /// How long, in all, the run may wait for the machine to be quiet.
    pub patience: Duration,
}

impl Plan {
    pub fn full() -> Self {
        let thousand = Idle {
            connections: 1_000,
            ..IDLE_SESSIONLESS
        };
        Self {
            loads: vec![ONE, MANY],
            warm_ms: 300,
            window_ms: 1_000,
            rounds: 9,
            idle: vec![thousand, IDLE_SESSIONLESS, IDLE_LISTENING],
            idle_rounds: 3,
            still_ms: 2_000,
            starts: 21,
            patience: Duration::from_secs(60),
        }
    }

    pub fn quick() -> Self {
        Self {
            warm_ms: 150,
            window_ms: 500,
            rounds: 2,
            idle_rounds: 1,
            starts: 7,
            patience: Duration::from_secs(10),
            ..Self::full()
        }
    }

    /// Not for reading times off: only whether everything works.
    pub fn smoke() -> Self {
        let few = |upstream| Idle {
            upstream,
            connections: 40,
        };
        Self {
            loads: vec![
                ONE,
                Load {
                    connections: 5,
                    in_flight: 3,
                },
            ],
            warm_ms: 20,
            window_ms: 500,
            rounds: 1,
            idle: vec![few(Upstream::StatelessJson), few(Upstream::StatefulSse)],
            idle_rounds: 1,
            still_ms: 100,
            starts: 1,
            patience: Duration::ZERO,
        }
    }
}
