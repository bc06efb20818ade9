//! What the rig's programs share: HTTP/1.1 by hand, a client connection, an SSE reader, the messages that are sent
//! and expected, `/proc`, and a little arithmetic.
//!
//! HTTP is by hand because load generator and upstream share the machine's few cores with what they measure: what
//! they save is what the measured program can use. Both stay strict, so that they also notice wrong answers.

pub mod args;
pub mod client;
pub mod http1;
pub mod message;
pub mod procfs;
pub mod sse;
pub mod summary;

/// Errors in the rig are for people: a sentence, no type.
pub type Result<T> = std::result::Result<T, String>;

/// Puts what was being done in front of an error.
pub trait Context<T> {
    /// `what` is what was being done.
    fn context(self, what: &str) -> Result<T>;
}

impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &str) -> Result<T> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

/// How a program of the rig ends: with 0, or with 1 and a sentence.
pub fn exit(program: &str, outcome: Result<()>) -> std::process::ExitCode {
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
