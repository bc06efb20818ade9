//! The tap of a server: begun when something shows it, ended after everything that crossed was shown.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::{Config, Terminal};
use crate::error::{Error, Kind, Side};
use crate::metrics::Metrics;
use crate::tap::file::JsonLines;
use crate::tap::terminal::{self, Style};
use crate::tap::{Bus, Settings, Tap};

/// How long, at the very end, what shows the tap may take to write what is left.
const LAST_RECORDS: Duration = Duration::from_secs(2);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A tap, and the tasks that run it and show it.
pub(super) struct Watching {
    tap: Arc<Tap>,
    tasks: Vec<Task>,
    stop: oneshot::Sender<()>,
}

impl Watching {
    /// Whether anything that the operator asked for shows the tap.
    pub(super) fn is_asked_for(config: &Config) -> bool {
        let tap = &config.tap;
        config.admin.is_some() || tap.file.is_some() || tap.terminal != Terminal::Off
    }

    /// Begins to watch this bus, which nobody watches yet.
    pub(super) fn begin(bus: &Bus, settings: Settings) -> Option<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        // An error means that the server is gone, which ends the tap likewise.
        let stopped = async { drop(stopped.await) };
        let (tap, task) = Tap::start(bus, settings, stopped)?;
        Some(Self {
            tap,
            tasks: vec![Box::pin(task)],
            stop,
        })
    }

    /// Has what crosses printed and written to a file, as the operator asked for.
    ///
    /// # Errors
    /// When the file cannot be written, or the machine has no threads for it.
    pub(super) fn show(&mut self, config: &Config, metrics: &Arc<Metrics>) -> Result<(), Error> {
        let start = |error| Error::new(Side::Internal, Kind::Start).because(error);
        if let Some(file) = &config.tap.file
            && let Some(watcher) = self.tap.watch()
        {
            let file = JsonLines::open(file.clone(), Arc::clone(metrics))?;
            self.tasks.push(Box::pin(file.run(watcher).map_err(start)?));
        }
        if config.tap.terminal != Terminal::Off
            && let Some(watcher) = self.tap.watch()
        {
            let full = config.tap.terminal == Terminal::Full;
            let style = Style::of_stdout(full, config.log.color);
            let printing = terminal::print(style, watcher).map_err(start)?;
            self.tasks.push(Box::pin(printing));
        }
        Ok(())
    }

    pub(super) fn tap(&self) -> Arc<Tap> {
        Arc::clone(&self.tap)
    }

    /// Starts the tasks.
    pub(super) fn run(self) -> Running {
        let mut tasks = JoinSet::new();
        for task in self.tasks {
            tasks.spawn(task);
        }
        Running {
            tasks,
            stop: self.stop,
        }
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watching")
    }
}

/// A tap that runs.
pub(super) struct Running {
    tasks: JoinSet<()>,
    stop: oneshot::Sender<()>,
}

impl Running {
    /// Ends it when what has crossed was recorded and shown.
    pub(super) async fn end(mut self) {
        drop(self.stop);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_RECORDS, ended).await.is_err() {
            warn!("what shows the tap did not take its last records in time");
        }
    }
}
