//! The tap's file: a [`Record`] a line, for `mcp-ferry replay`, for `jq`, for later.
//!
//! Only whole lines are appended. An existing file is gone on with; where its last line is cut, a line end comes first.
//! A file that has grown to its size becomes `FILE.1`, that one `FILE.2`, and so on. New files can be read by their owner
//! only. Who moves the file away, or deletes it, gets a new one at its place: before each write the file is compared with what the
//! path names.
//!
//! When nothing can be written, because the disk is full or the directory has gone, records are counted instead
//! ([`Counter::TapFileLost`]), the log says so once in a while, and every second it is tried again. When it goes on, a
//! `missed` record stands for those that are not there. Bounds: [`BUFFER`] bytes, and one record, wait to be written, for a second at most.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::{Duration, Instant};
use tracing::{info, warn};

use super::Watcher;
use super::record::{FORMAT, Kind, Record};
use super::writer::{self, Gaps, Sink};
use crate::config::TapFile;
use crate::error::{self, Error, Side};
use crate::metrics::{Counter, Metrics};

/// Bytes that are written at once.
pub const BUFFER: usize = 64 * 1024;
/// The log says at most this often that records are lost.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The file, ready to be written.
#[derive(Debug)]
pub struct JsonLines {
    settings: TapFile,
    /// `None` while it cannot be written.
    file: Option<File>,
    /// Bytes of whole lines in it.
    size: u64,
    /// Whole lines that are not in it yet.
    buffer: Vec<u8>,
    /// What those are.
    lines: Vec<Line>,
    gaps: Gaps,
    /// As it was when the last line in the file was made.
    written: Gaps,
    /// Records lost since writing failed.
    lost: u64,
    metrics: Arc<Metrics>,
    said: Option<Instant>,
}

/// A line in the buffer.
#[derive(Debug)]
struct Line {
    /// Where it ends.
    end: usize,
    /// Whether it is a record, and not what stands for missing ones.
    is_record: bool,
    /// What the file knows with it.
    gaps: Gaps,
}

impl JsonLines {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// When that is not possible, or it is no regular file; a fault of the configuration.
    pub fn open(settings: TapFile, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let kind = error::Kind::TapFile(settings.path.clone());
        let opened = open(&settings.path);
        let (file, size) = opened.map_err(|error| Error::new(Side::Config, kind).because(error))?;
        Ok(Self {
            settings,
            file: Some(file),
            size,
            buffer: Vec::new(),
            lines: Vec::new(),
            gaps: Gaps::default(),
            written: Gaps::default(),
            lost: 0,
            metrics,
            said: None,
        })
    }

    /// Writes what the watcher sees, on a thread of its own. The future ends when everything is written after the tap's
    /// end.
    ///
    /// # Errors
    /// When the machine has no thread for it.
    pub fn run(self, watcher: Watcher) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        writer::start("tap-file", self, watcher)
    }

    fn line(&mut self, record: &Record, is_record: bool) {
        let start = self.buffer.len();
        if serde_json::to_writer(&mut self.buffer, record).is_err() {
            // No record is unwritable; if one were, half of it would not stay.
            self.buffer.truncate(start);
            return;
        }
        self.buffer.push(b'\n');
        self.lines.push(Line {
            end: self.buffer.len(),
            is_record,
            gaps: Gaps::until(record.seq),
        });
    }

    /// Writes the buffer: as many of its lines as there is room for. The others are lost, but never half a line is left.
    fn write(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if self.is_gone() && self.reopen().is_break() {
            return;
        }
        let length = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        let full = self.size > 0 && self.size.saturating_add(length) > self.settings.size;
        if full && self.rotate().is_break() {
            return;
        }
        let (went, failed) = match &mut self.file {
            Some(file) => append(file, &self.buffer),
            None => return self.lose(None),
        };
        self.settle(went, failed);
    }

    /// So many bytes of the buffer went into the file, and that is why not all.
    fn settle(&mut self, went: usize, failed: Option<io::Error>) {
        let whole = self
            .lines
            .iter()
            .take_while(|line| line.end <= went)
            .count();
        if let Some(last) = self.lines.drain(..whole).next_back() {
            let bytes = u64::try_from(last.end).unwrap_or(u64::MAX);
            self.size = self.size.saturating_add(bytes);
            self.written = last.gaps;
        }
        match failed {
            None => {
                self.buffer.clear();
                if self.lost > 0 {
                    let (path, lost) = (self.settings.path.display(), self.lost);
                    info!(%path, lost, "the tap's file is written again");
                    (self.lost, self.said) = (0, None);
                }
            }
            Some(error) => {
                // What was written behind them is half a line. If that cannot be undone either, opening it again will see.
                if let Some(file) = self.file.take() {
                    let _ = file.set_len(self.size);
                }
                self.lose(Some(&error));
            }
        }
    }

    fn lose(&mut self, why: Option<&io::Error>) {
        for _ in self.lines.drain(..).filter(|line| line.is_record) {
            self.lost = self.lost.saturating_add(1);
            self.metrics.add(Counter::TapFileLost);
        }
        self.buffer.clear();
        self.gaps = self.written;
        let now = Instant::now();
        let due = |said: Instant| now.saturating_duration_since(said) >= SAID_EVERY;
        if self.said.is_none_or(due) {
            self.said = Some(now);
            let (path, lost) = (self.settings.path.display(), self.lost);
            match why {
                Some(error) => warn!(%path, lost, %error, "the tap's file cannot be written"),
                None => warn!(%path, lost, "the tap's file still cannot be written"),
            }
        }
    }

    /// Goes on with what is at the path, or a new file. `Break` says that there can be none, and what was to be written is lost.
    fn reopen(&mut self) -> ControlFlow<()> {
        let opened = open(&self.settings.path);
        self.go_on(opened)
    }

    fn go_on(&mut self, opened: io::Result<(File, u64)>) -> ControlFlow<()> {
        match opened {
            Ok((file, size)) => {
                (self.file, self.size) = (Some(file), size);
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.file = None;
                self.lose(Some(&error));
                ControlFlow::Break(())
            }
        }
    }

    /// Makes room: the file becomes the first of the old ones, and the oldest goes. Where that cannot be, it is not written any
    /// more, because it would grow for ever.
    fn rotate(&mut self) -> ControlFlow<()> {
        let numbered = |number: usize| {
            let mut name = self.settings.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let path = &self.settings.path;
        let went = match self.settings.keep {
            0 => fs::remove_file(path),
            keep => {
                for number in (1..keep).rev() {
                    // Not all of them are there yet.
                    let _ = fs::rename(numbered(number), numbered(number.saturating_add(1)));
                }
                fs::rename(path, numbered(1))
            }
        };
        let went = match went {
            // Somebody else has moved it away, and made room with that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            went => went,
        };
        let opened = went.and_then(|()| open(path));
        self.go_on(opened)
    }

    /// Whether somebody has moved or deleted the file under us.
    fn is_gone(&self) -> bool {
        let file = self.file.as_ref();
        file.is_some_and(|file| !is_at(file, &self.settings.path))
    }
}

/// Whether the path still names this file. Where that cannot be told, it is taken to.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        #[cfg(unix)]
        (Ok(ours), Ok(found)) => {
            use std::os::unix::fs::MetadataExt as _;
            (ours.dev(), ours.ino()) == (found.dev(), found.ino())
        }
        (_, Err(error)) => error.kind() != io::ErrorKind::NotFound,
        _ => true,
    }
}

impl Sink for JsonLines {
    fn put(&mut self, record: &Record) -> ControlFlow<()> {
        // Also where the first cannot be written it is missing then.
        self.gaps.begin_with(record);
        self.written.begin_with(record);
        if self.file.is_none() {
            self.lost = self.lost.saturating_add(1);
            self.metrics.add(Counter::TapFileLost);
            self.lose(None);
            return ControlFlow::Continue(());
        }
        let missing = self.gaps.before(record);
        if missing > 0 {
            let missed = Record {
                v: FORMAT,
                seq: record.seq.saturating_sub(1),
                time: record.time.clone(),
                kind: Kind::Missed,
                count: Some(missing),
                ..Record::default()
            };
            self.line(&missed, false);
        }
        self.line(record, true);
        if self.buffer.len() >= BUFFER {
            self.write();
        }
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> ControlFlow<()> {
        if self.file.is_some() || self.reopen().is_continue() {
            self.write();
        }
        ControlFlow::Continue(())
    }
}

/// Writes to the end of a file. Says how many bytes of it are there then, and why not all.
fn append(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut went = 0;
    while let Some(rest) = bytes.get(went..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (went, Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => went = went.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (went, Some(error)),
        }
    }
    (went, None)
}

/// Opens a file to append to it; says how long it is, whole lines only.
fn open(path: &PathBuf) -> io::Result<(File, u64)> {
    // Opening a pipe would wait for its reader.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    let mut size = file.seek(SeekFrom::End(0))?;
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size = size.saturating_add(1);
        }
    }
    Ok((file, size))
}

#[cfg(test)]
mod tests;
