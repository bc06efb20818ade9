//! Appending, rotation, and disks that fail.

use super::*;

/// A directory of its own, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("mcp-ferry-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What an earlier run with this process id has left.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("traffic.jsonl")
    }

    fn settings(&self, size: u64, keep: usize) -> TapFile {
        TapFile {
            path: self.file(),
            size,
            keep,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open_file(place: &Place, size: u64, keep: usize) -> JsonLines {
    JsonLines::open(place.settings(size, keep), Arc::default()).unwrap()
}

fn record(seq: u64) -> Record {
    Record {
        v: FORMAT,
        seq,
        text: Some("x".repeat(40)),
        ..Record::default()
    }
}

/// The numbers of the records in a file, of a `missed` one how many it stands for.
fn numbers(path: &PathBuf) -> Vec<(u64, Option<u64>)> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str::<Record>(line).unwrap())
        .map(|record| (record.seq, record.count))
        .collect()
}

#[test]
fn records_are_appended_and_half_a_line_is_ended() {
    let place = Place::new("append");
    fs::write(place.file(), "{\"v\":1,\"se").unwrap();
    let mut file = open_file(&place, 1 << 20, 1);
    for seq in 7..10 {
        assert!(file.put(&record(seq)).is_continue());
    }
    assert!(file.flush().is_continue());
    let text = fs::read_to_string(place.file()).unwrap();
    assert!(
        text.starts_with("{\"v\":1,\"se\n{\"v\":1,\"seq\":7,"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 4);
}

#[cfg(unix)]
#[test]
fn a_new_file_is_its_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new("owner");
    open_file(&place, 1 << 20, 1);
    let mode = fs::metadata(place.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_full_grown_file_is_renamed_and_the_oldest_goes() {
    for (keep, kept) in [(2, vec![5, 4, 3]), (0, vec![5])] {
        let place = Place::new(&format!("rotate-{keep}"));
        let mut file = open_file(&place, 150, keep);
        for seq in 1..=5 {
            assert!(file.put(&record(seq)).is_continue());
            assert!(file.flush().is_continue());
        }
        for (number, seq) in kept.iter().enumerate() {
            let name = match number {
                0 => place.file(),
                number => place.0.join(format!("traffic.jsonl.{number}")),
            };
            assert_eq!(numbers(&name), [(*seq, None)]);
        }
        assert_eq!(fs::read_dir(&place.0).unwrap().count(), kept.len());
    }
}

#[test]
fn while_nothing_can_be_written_records_are_counted_and_then_it_goes_on() {
    let place = Place::new("lost");
    let mut file = open_file(&place, 1 << 20, 1);
    assert!(file.put(&record(1)).is_continue());
    assert!(file.flush().is_continue());
    // A handle that refuses to be written is what a full disk looks like.
    file.file = Some(File::open(place.file()).unwrap());
    for seq in 2..=4 {
        assert!(file.put(&record(seq)).is_continue());
    }
    file.write();
    assert_eq!((file.lost, file.buffer.len()), (3, 0));
    assert!(file.put(&record(5)).is_continue());
    assert_eq!(file.lost, 4);
    assert_eq!(file.metrics.get(Counter::TapFileLost), 4);
    assert!(file.flush().is_continue());
    assert!(file.put(&record(6)).is_continue());
    assert!(file.flush().is_continue());
    assert_eq!(numbers(&place.file()), [(1, None), (5, Some(4)), (6, None)]);
}

#[test]
fn when_the_first_records_cannot_be_written_a_missed_one_stands_for_them() {
    let place = Place::new("first");
    let mut file = open_file(&place, 1 << 20, 1);
    file.file = Some(File::open(place.file()).unwrap());
    for seq in 4..=5 {
        assert!(file.put(&record(seq)).is_continue());
    }
    assert!(file.flush().is_continue());
    assert!(file.put(&record(6)).is_continue());
    assert_eq!(file.lost, 3);
    assert!(file.flush().is_continue());
    assert!(file.put(&record(7)).is_continue());
    assert!(file.flush().is_continue());
    assert_eq!(numbers(&place.file()), [(6, Some(3)), (7, None)]);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_moved_away_is_left_and_nothing_is_lost() {
    let place = Place::new("moved");
    let mut file = open_file(&place, 1 << 20, 1);
    let [first, second] = ["first", "second"].map(|name| place.0.join(name));
    assert!(file.put(&record(1)).is_continue());
    assert!(file.flush().is_continue());
    fs::rename(place.file(), &first).unwrap();
    assert!(file.put(&record(2)).is_continue());
    assert!(file.flush().is_continue());
    // Another file may stand in its place already.
    fs::rename(place.file(), &second).unwrap();
    fs::write(place.file(), "").unwrap();
    assert!(file.put(&record(3)).is_continue());
    assert!(file.flush().is_continue());
    for (path, seq) in [(first, 1), (second, 2), (place.file(), 3)] {
        assert_eq!(numbers(&path), [(seq, None)]);
    }
    assert_eq!(file.metrics.get(Counter::TapFileLost), 0);
}

#[test]
fn a_file_that_is_moved_away_just_before_its_rotation_costs_nothing() {
    for keep in [0, 2] {
        let place = Place::new(&format!("raced-{keep}"));
        let mut file = open_file(&place, 150, keep);
        let moved = place.0.join("moved");
        assert!(file.put(&record(1)).is_continue());
        assert!(file.flush().is_continue());
        assert!(file.put(&record(2)).is_continue());
        fs::rename(place.file(), &moved).unwrap();
        assert!(file.rotate().is_continue());
        assert!(file.flush().is_continue());
        assert_eq!(numbers(&moved), [(1, None)]);
        assert_eq!(numbers(&place.file()), [(2, None)]);
        assert_eq!(file.metrics.get(Counter::TapFileLost), 0);
    }
}

/// What a full disk does is played; tests/admin.sh has a real one.
#[test]
fn of_what_does_not_fit_whole_lines_are_kept() {
    let place = Place::new("fit");
    let mut file = open_file(&place, 1 << 20, 1);
    for seq in 1..=3 {
        assert!(file.put(&record(seq)).is_continue());
    }
    let fits = file.lines[1].end + 1;
    let (head, rest) = file.buffer.split_at(fits);
    assert!(!rest.is_empty() && !head.ends_with(b"\n"));
    let mut handle = file.file.take().unwrap();
    let (went, failed) = append(&mut handle, head);
    assert!(went == fits && failed.is_none());
    file.file = Some(handle);
    file.settle(went, Some(io::Error::from(io::ErrorKind::StorageFull)));
    assert_eq!((file.lost, file.lines.len(), file.buffer.len()), (1, 0, 0));
    assert_eq!(numbers(&place.file()), [(1, None), (2, None)]);
    assert!(file.flush().is_continue());
    assert!(file.put(&record(4)).is_continue());
    assert!(file.flush().is_continue());
    assert_eq!(file.lost, 0);
    assert_eq!(
        numbers(&place.file()),
        [(1, None), (2, None), (3, Some(1)), (4, None)]
    );
}

#[test]
fn a_directory_that_is_lost_and_comes_back_costs_what_crossed_meanwhile() {
    let place = Place::new("gone");
    let mut file = open_file(&place, 1 << 20, 1);
    assert!(file.put(&record(1)).is_continue());
    assert!(file.flush().is_continue());
    fs::remove_dir_all(&place.0).unwrap();
    assert!(file.put(&record(2)).is_continue());
    // A busy process fills its buffer between two looks of the clock's.
    file.write();
    assert!(file.put(&record(3)).is_continue());
    assert_eq!(file.lost, 2);
    fs::create_dir_all(&place.0).unwrap();
    assert!(file.flush().is_continue());
    assert!(file.put(&record(4)).is_continue());
    assert!(file.flush().is_continue());
    assert_eq!(numbers(&place.file()), [(3, Some(2)), (4, None)]);
}

#[test]
fn a_file_that_cannot_be_is_a_fault_of_the_configuration() {
    let place = Place::new("fault");
    for path in [place.0.clone(), place.0.join("no/such/file")] {
        let settings = TapFile {
            path: path.clone(),
            size: 1,
            keep: 1,
        };
        let error = JsonLines::open(settings, Arc::default()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.report().starts_with("cannot write --tap-file "),
            "{}",
            error.report()
        );
    }
}
