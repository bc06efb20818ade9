//! The labels of the series: closed sets, each value a variant. What a peer chose (a tool's name, an id, a method that
//! nobody knows) is never a label, so the number of series is bounded by this file whatever is sent.

/// A set of label values, or a pair or triple of such sets: which series there are.
pub trait Key: Copy {
    /// The names of the labels.
    const NAMES: &'static [&'static str];
    /// How many series there are.
    const COUNT: usize;
    /// Which of them this is.
    fn place(self) -> usize;
    /// The labels' values of the series at this place.
    fn values(place: usize) -> Vec<&'static str>;
}

macro_rules! closed {
    ($(#[$about:meta])* $set:ident, $label:literal { $($(#[$what:meta])* $name:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $set { $($(#[$what])* $name,)+ }

        impl $set {
            const TEXTS: &'static [&'static str] = &[$($text),+];

            /// The value of the label.
            #[must_use]
            pub fn text(self) -> &'static str {
                Self::TEXTS.get(self as usize).copied().unwrap_or_default()
            }
        }

        impl Key for $set {
            const NAMES: &'static [&'static str] = &[$label];
            const COUNT: usize = Self::TEXTS.len();

            fn place(self) -> usize {
                self as usize
            }

            fn values(place: usize) -> Vec<&'static str> {
                Self::TEXTS.get(place).copied().into_iter().collect()
            }
        }
    };
}

/// A series without labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single;

impl Key for Single {
    const NAMES: &'static [&'static str] = &[];
    const COUNT: usize = 1;

    fn place(self) -> usize {
        0
    }

    fn values(_: usize) -> Vec<&'static str> {
        Vec::new()
    }
}

macro_rules! product {
    ($($set:ident),+ => $names:expr) => {
        impl Key for ($($set,)+) {
            const NAMES: &'static [&'static str] = $names;
            const COUNT: usize = $($set::COUNT *)+ 1;

            #[expect(non_snake_case, reason = "a variable for each set")]
            fn place(self) -> usize {
                let ($($set,)+) = self;
                let mut place = 0;
                $(place = place * $set::COUNT + $set.place();)+
                place
            }

            fn values(place: usize) -> Vec<&'static str> {
                let mut left = Self::COUNT;
                let mut rest = place;
                let mut values = Vec::new();
                $(
                    left /= $set::COUNT;
                    values.extend($set::values(rest / left));
                    rest %= left;
                )+
                let _ = rest;
                values
            }
        }
    };
}

product!(Method, Outcome => &["method", "outcome"]);
product!(Leg, Direction => &["leg", "direction"]);
product!(Front, Speaks, State => &["front", "era", "state"]);

closed! {
    /// What a request asks for, in classes.
    Method, "method" {
        /// `initialize`
        Initialize = "initialize",
        /// `tools/list`
        ToolsList = "tools_list",
        /// `tools/call`
        ToolsCall = "tools_call",
        /// `resources/list` and `resources/templates/list`
        ResourcesList = "resources_list",
        /// `resources/read`
        ResourcesRead = "resources_read",
        /// `resources/subscribe` and `resources/unsubscribe`
        Subscribe = "subscribe",
        /// `prompts/list`
        PromptsList = "prompts_list",
        /// `prompts/get`
        PromptsGet = "prompts_get",
        /// `completion/complete`
        Completion = "completion",
        /// `logging/setLevel`
        Logging = "logging",
        /// `ping`
        Ping = "ping",
        /// Anything else.
        Other = "other",
    }
}

impl Method {
    /// The class of a JSON-RPC method.
    #[must_use]
    pub fn of(method: &str) -> Self {
        match method {
            "initialize" => Self::Initialize,
            "tools/list" => Self::ToolsList,
            "tools/call" => Self::ToolsCall,
            "resources/list" | "resources/templates/list" => Self::ResourcesList,
            "resources/read" => Self::ResourcesRead,
            "resources/subscribe" | "resources/unsubscribe" => Self::Subscribe,
            "prompts/list" => Self::PromptsList,
            "prompts/get" => Self::PromptsGet,
            "completion/complete" => Self::Completion,
            "logging/setLevel" => Self::Logging,
            "ping" => Self::Ping,
            _ => Self::Other,
        }
    }
}

closed! {
    /// How a request ended.
    Outcome, "outcome" {
        /// With a result.
        Result = "result",
        /// With a result that says `isError`: the tool failed.
        ToolError = "tool_error",
        /// With the server's JSON-RPC error.
        Error = "error",
        /// With a JSON-RPC error of the ferry's own.
        FerryError = "ferry_error",
        /// The client cancelled it.
        Cancelled = "cancelled",
        /// The client's connection ended first.
        Lost = "lost",
    }
}

closed! {
    /// How a connection's client came.
    Front, "front" {
        /// By the legacy transport.
        Sse = "sse",
        /// On the MCP endpoint, with a session of the ferry's.
        Session = "session",
    }
}

closed! {
    /// What a connection takes the server to speak.
    Speaks, "era" {
        /// 2024-11-05 to 2025-11-25.
        Handshake = "handshake",
        /// From 2026-07-28 on.
        Modern = "modern",
    }
}

closed! {
    /// Where in its life a connection is.
    State, "state" {
        /// Its client is there.
        Open = "open",
        /// Its client has gone, and the server is told.
        Leaving = "leaving",
    }
}

closed! {
    /// Between whom.
    Leg, "leg" {
        /// The client and the ferry.
        Client = "client",
        /// The ferry and the server.
        Upstream = "upstream",
    }
}

closed! {
    /// Which way, as the ferry sees it.
    Direction, "direction" {
        /// Received.
        In = "in",
        /// Sent.
        Out = "out",
    }
}

closed! {
    /// The class of an HTTP status.
    Status, "status" {
        /// 100 to 199.
        Informational = "1xx",
        /// 200 to 299.
        Success = "2xx",
        /// 300 to 399.
        Redirect = "3xx",
        /// 400 to 499.
        ClientError = "4xx",
        /// 500 to 599, and whatever is no status.
        ServerError = "5xx",
    }
}

impl Status {
    /// The class of a status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

closed! {
    /// Why the ferry refused an HTTP request itself.
    Reason, "reason" {
        /// No route has its path.
        NoRoute = "no_route",
        /// The route has other methods.
        Method = "method",
        /// A POST that names no connection.
        NoConnectionId = "no_connection_id",
        /// A POST for a connection that is not open, or is another's.
        UnknownConnection = "unknown_connection",
        /// `Accept` excludes the answer.
        NotAcceptable = "not_acceptable",
        /// The body is not declared as JSON.
        ContentType = "content_type",
        /// The body is too large.
        TooLarge = "too_large",
        /// The body took too long.
        BodyTimeout = "body_timeout",
        /// The body broke off.
        BodyBroken = "body_broken",
        /// The body is not JSON-RPC.
        Parse = "parse",
        /// The bridge calls it the client's mistake.
        Invalid = "invalid",
        /// `Host` is missing, doubled or foreign.
        Host = "host",
        /// `Origin` is foreign.
        Origin = "origin",
        /// `Connection` names a header that must stay.
        Connection = "connection",
        /// As many connections are open as may be.
        Full = "full",
        /// As many connections of its address are open as may be.
        FullForPeer = "full_for_peer",
        /// Connections hold as much memory as they may.
        NoMemory = "no_memory",
        /// Its address has guessed too often.
        TooManyMisses = "too_many_misses",
        /// It names no session.
        NoSession = "no_session",
        /// It names a session that is not there, or is another's.
        UnknownSession = "unknown_session",
        /// It names a revision that sessions do not speak.
        Version = "version",
        /// The session's client listens already.
        Listening = "listening",
        /// The process is stopping.
        ShuttingDown = "shutting_down",
        /// Too many messages wait.
        Busy = "busy",
        /// It is for another replica, which could not be asked or did not answer.
        HandOver = "hand_over",
        /// The upstream gave no answer.
        Upstream = "upstream",
        /// The system failed the ferry.
        Internal = "internal",
    }
}

closed! {
    /// What became of a request for another replica's connection.
    HandedOver, "outcome" {
        /// The owner answered.
        Answered = "answered",
        /// The owner is not there any more.
        OwnerGone = "owner_gone",
        /// The store could not be reached.
        Unreachable = "unreachable",
        /// The owner did not answer in time.
        NoAnswer = "no_answer",
        /// It is larger than what is handed over.
        TooLarge = "too_large",
        /// Too many were on their way.
        Full = "full",
    }
}

closed! {
    /// What became of what was found in this replica's inbox.
    TakenOver, "outcome" {
        /// A request, given to the server.
        Request = "request",
        /// A request, answered 503 because too many were being served.
        Busy = "busy",
        /// An answer, given to the one who waited for it.
        Answer = "answer",
        /// An answer that nobody waits for, or not any more.
        Unasked = "unasked",
        /// A request that its sender has given up, and that was not served.
        Withdrawn = "withdrawn",
        /// It had lain there for too long.
        Late = "late",
        /// It was seen before, or is too old to know; also a request that was served and is given up too late.
        Repeated = "repeated",
        /// It was not sealed with our keys, or by another than it says, or for another inbox, or was changed.
        Unopened = "unopened",
        /// It is not what a replica of this version writes.
        Malformed = "malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each<K: Key>() -> Vec<Vec<&'static str>> {
        (0..K::COUNT).map(K::values).collect()
    }

    #[test]
    fn a_product_has_every_pair_once_and_finds_its_own_place() {
        let all = each::<(Method, Outcome)>();
        assert_eq!(all.len(), 12 * 6);
        assert!(all.iter().all(|values| values.len() == 2));
        let mut once = all.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), all.len());
        let place = (Method::ToolsCall, Outcome::Lost).place();
        assert_eq!(<(Method, Outcome)>::values(place), ["tools_call", "lost"]);
        let place = (Front::Session, Speaks::Handshake, State::Leaving).place();
        let values = <(Front, Speaks, State)>::values(place);
        assert_eq!(values, ["session", "handshake", "leaving"]);
        assert_eq!(each::<Single>(), [Vec::<&str>::new()]);
    }

    #[test]
    fn what_nobody_knows_is_other() {
        for method in [
            "",
            "tools/call2",
            "Tools/Call",
            "x".repeat(100_000).as_str(),
        ] {
            assert_eq!(Method::of(method), Method::Other);
        }
        assert_eq!(Status::of(0), Status::ServerError);
        assert_eq!(Status::of(204), Status::Success);
    }
}
