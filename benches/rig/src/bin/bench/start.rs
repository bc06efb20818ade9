//! From starting the ferry's process to the first byte that it serves to a client.

use crate::plan::Upstream;
use crate::processes::Tools;
use rig::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Milliseconds, one for each start.
pub fn run(tools: &Tools, starts: usize) -> Result<Vec<f64>> {
    let upstream = tools.upstream(Upstream::StatelessJson, None)?;
    (0..starts)
        .map(|_| {
            let begun = Instant::now();
            let (ferry, _log) = tools.bare_ferry(&upstream)?;
            let mut stream = TcpStream::connect(("127.0.0.1", ferry.port)).context("connect")?;
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .context("timeout")?;
            stream
                .write_all(
                    b"GET /sse HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n",
                )
                .context("send")?;
            stream.read_exact(&mut [0]).context("the first byte")?;
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            drop(stream);
            ferry.leave_well()?;
            Ok(ms)
        })
        .collect()
}
