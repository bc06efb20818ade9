//! Time in tests: waits that are bounded by real time, and a clock that moves only when it is told to.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

/// The longest that a test waits for one thing to happen. Much longer than anything takes, for machines that do much
/// else at the same time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future`, and fails the test when nothing came of it in [`PATIENCE`] of real time, whatever the runtime's
/// clock says. `what` completes the sentence "waited in vain for …".
#[track_caller]
pub(crate) fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let (expired, expiry) = oneshot::channel();
        let (_settled, settlement) = mpsc::channel::<()>();
        // A thread, because the runtime's own timers stand still when its clock does.
        std::thread::spawn(move || {
            if settlement.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = expired.send(());
            }
        });
        tokio::select! {
            biased;
            value = future => value,
            Ok(()) = expiry => panic!("waited in vain for {what}, at {place}"),
        }
    }
}

/// Lets everything happen that is ready to: what was written to a loopback socket is read, what was closed is noticed.
/// On a runtime of one thread each turn ends with a look at the sockets.
pub(crate) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// The runtime's clock, stopped. Left to itself, tokio's paused clock runs ahead whenever every task waits, also when
/// what they wait for is a socket; this one does not, so timers fire only through [`Self::advance`].
pub(crate) struct Clock {
    _running: mpsc::Sender<()>,
}

impl Clock {
    /// Stops the clock of the present runtime, which must be a single-threaded one.
    pub(crate) fn stop() -> Self {
        let (running, done) = mpsc::channel::<()>();
        tokio::time::pause();
        // tokio does not run its clock ahead while a blocking task is under way.
        tokio::task::spawn_blocking(move || done.recv());
        Self { _running: running }
    }

    /// Lets `time` pass at once, and a millisecond more.
    pub(crate) async fn advance(&self, time: Duration) {
        // What was ready before is done before.
        settle().await;
        // Timers round up to the next millisecond.
        tokio::time::advance(time + Duration::from_millis(1)).await;
    }

    /// Lets time pass in steps until `future` is done: a minute at most.
    pub(crate) async fn pass_until<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        const STEP: Duration = Duration::from_millis(100);
        let mut future = std::pin::pin!(future);
        for _ in 0..600 {
            tokio::select! {
                biased;
                value = &mut future => return value,
                () = self.advance(STEP) => {}
            }
        }
        panic!("a minute passed without {what}");
    }
}
