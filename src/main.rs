//! The program: arguments become a configuration, logging and the runtime start, and the outcome becomes an exit code.
//!
//! Exit codes: 0 when all went well, 1 when not, 2 when the command line or the environment cannot be used. A replay: 0
//! when it agrees, 1 when it differs, 2 when it could not be done. The first
//! SIGTERM or SIGINT asks for a clean end; the second ends the process at once with 128 and the signal's number, as
//! shells report it.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use mcp_ferry::config::{self, Command};
use mcp_ferry::error::{Error, Kind, Side};
use mcp_ferry::server::Shutdown;
use mcp_ferry::{health, logging};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SIGTERM: u8 = 15;
const SIGINT: u8 = 2;

fn main() -> ExitCode {
    // Each connection takes up to two descriptors; failing to raise the limit only means fewer of them.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let args = std::env::args_os();
    match config::parse(args, &|name| std::env::var_os(name)) {
        Ok(Command::Print(text)) => {
            // The reader may have left, as `head` does.
            io::stdout().write_all(text.as_bytes()).ok();
            ExitCode::SUCCESS
        }
        Ok(Command::Serve(config)) => {
            logging::init(&config.log);
            drive(async |shutdown| mcp_ferry::run(*config, shutdown).await.map(|()| true))
        }
        Ok(Command::Demo {
            once,
            listen,
            admin,
            log,
        }) => {
            logging::init(&log);
            drive(async |shutdown| mcp_ferry::demo::run(once, listen, admin, shutdown).await)
        }
        Ok(Command::Replay(replay)) => {
            logging::init(&replay.config.log);
            drive(async |shutdown| mcp_ferry::replay::run(*replay, shutdown).await)
        }
        Ok(Command::Health { url }) => {
            let probed = runtime(&mut Builder::new_current_thread()).map(|runtime| {
                let probed = runtime.block_on(health::probe(&url));
                // A name that takes long to resolve must not hold the process.
                runtime.shutdown_background();
                probed
            });
            match probed {
                Ok(Ok(())) => {
                    writeln!(io::stdout(), "healthy: {url}").ok();
                    ExitCode::SUCCESS
                }
                Ok(Err(why)) => complain(format_args!("{url}: {why}"), 1),
                Err(error) => fail(&error),
            }
        }
        Err(refused) => complain(refused, 2),
    }
}

/// Runs the work until it ends or a second signal ends it. What it gets resolves with the first signal.
fn drive(work: impl AsyncFnOnce(Asked) -> Result<bool, Error>) -> ExitCode {
    let runtime = match runtime(&mut Builder::new_multi_thread()) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return fail(&error),
        };
        let (asked, ask) = oneshot::channel();
        let watch = async {
            let (name, number) = signals.next().await;
            tracing::info!("{name}: shutting down; a second signal ends at once");
            // Ctrl-C is a person's, who waits; SIGTERM a supervisor's.
            let by = if number == SIGINT {
                Shutdown::Person
            } else {
                Shutdown::Supervisor
            };
            // Nobody listens any more when the work is just ending.
            asked.send(by).ok();
            signals.next().await.1
        };
        let shutdown: Asked = Box::pin(async { ask.await.unwrap_or(Shutdown::Person) });
        tokio::select! {
            biased;
            number = watch => ExitCode::from(128 + number),
            outcome = Box::pin(work(shutdown)) => match outcome {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => fail(&error),
            },
        }
    });
    runtime.shutdown_background();
    code
}

type Asked = std::pin::Pin<Box<dyn Future<Output = Shutdown> + Send>>;

fn runtime(builder: &mut Builder) -> Result<Runtime, Error> {
    let built = builder.enable_all().build();
    built.map_err(|error| Error::new(Side::Internal, Kind::Start).because(error))
}

/// The two signals that ask for the end, taken over before anything listens, so that none is missed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let take = |kind| {
            signal(kind).map_err(|error| Error::new(Side::Internal, Kind::Start).because(error))
        };
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SIGTERM),
            _ = self.interrupt.recv() => ("SIGINT", SIGINT),
        }
    }
}

fn fail(error: &Error) -> ExitCode {
    match error.hint() {
        Some(hint) => complain(
            format_args!("{}\nhint: {hint}", error.report()),
            error.exit_code(),
        ),
        None => complain(error.report(), error.exit_code()),
    }
}

/// One line for the operator. A closed stderr is no reason to panic.
fn complain(what: impl Display, code: u8) -> ExitCode {
    writeln!(io::stderr(), "error: {what}").ok();
    ExitCode::from(code)
}
