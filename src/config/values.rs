//! Parsers of plain values: durations, sizes, counts, switches. Each refusal quotes the value and says where the
//! border is. The bounds are written in the same form as the values, so that a flag, its bounds and its help line up.

use std::time::Duration;

/// Which texts a flag takes; clap wants the parser to be shareable.
pub(super) trait Parser<T>:
    Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
{
}
impl<T, F: Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static> Parser<T> for F {}

/// `250ms`, `5s`, `2m` or `1h`, between two of the same form.
pub(super) fn duration(least: &'static str, most: &'static str) -> impl Parser<Duration> {
    move |text| within(text, read_duration, least, most)
}

/// Bytes, or `64KiB`, `4MiB`, `1GiB`, between two of the same form.
pub(super) fn size(least: &'static str, most: &'static str) -> impl Parser<usize> {
    move |text| within(text, read_size, least, most)
}

/// A whole number between two others.
pub(super) fn count(least: &'static str, most: &'static str) -> impl Parser<usize> {
    move |text| within(text, read_count, least, most)
}

/// The value of a variable whose flag takes none.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{} is neither true nor false", quoted(text))),
    }
}

fn within<T: PartialOrd>(
    text: &str,
    read: fn(&str) -> Result<T, String>,
    least: &str,
    most: &str,
) -> Result<T, String> {
    let bound = |text| read(text).expect("the bounds are written in the flag's own syntax");
    let value = read(text.trim()).map_err(|why| format!("{} {why}", quoted(text)))?;
    if value < bound(least) {
        return Err(format!("{} is below {least}", quoted(text)));
    }
    if value > bound(most) {
        return Err(format!("{} is above {most}", quoted(text)));
    }
    Ok(value)
}

fn read_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let Ok(number) = read_number(number) else {
        return Err("is not a duration: write 250ms, 5s, 2m or 1h".to_owned());
    };
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "" => return Err(format!("has no unit: write {number}s or {number}ms")),
        _ => return Err("has an unknown unit: write 250ms, 5s, 2m or 1h".to_owned()),
    };
    Ok(Duration::from_secs(seconds.unwrap_or(u64::MAX)))
}

fn read_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let Ok(number) = read_count(number) else {
        return Err("is not a size: write 65536, 64KiB, 4MiB or 1GiB".to_owned());
    };
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err("has an unknown unit: write KiB, MiB or GiB".to_owned()),
    };
    Ok(number.saturating_mul(scale))
}

fn read_count(text: &str) -> Result<usize, String> {
    read_number(text).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// Digits only (the standard parser also takes a plus sign); what is too large for the machine is only too large.
fn read_number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a whole number".to_owned());
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// A value as it stands in a complaint: in quotes, and not longer than a line.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("'{}…'", text.get(..end).unwrap_or_default()),
        None => format!("'{text}'"),
    }
}

/// The text with nothing in it that could break the line or play tricks on a terminal.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        // The standard escape knows which characters are visible; quotes and backslashes are, and stay.
        match char {
            '\'' | '"' | '\\' => plain.push(char),
            _ => plain.extend(char.escape_debug()),
        }
    }
    plain
}

/// A JSON pointer (RFC 6901), or `*` in a segment's place.
pub(super) fn pointer(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("has to begin with a slash, as in /result/content".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let read = duration("0s", "24h");
        assert_eq!(read("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(read(" 5 s "), Ok(Duration::from_secs(5)));
        assert_eq!(read("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(read("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(read("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "s",
            "5",
            "5sec",
            "-5s",
            "+5s",
            "1.5s",
            "5s5s",
            "１s",
            "86401s",
            "99999999999999999999h",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        let read = size("1KiB", "1GiB");
        assert_eq!(read("1024"), Ok(1024));
        assert_eq!(read("64KiB"), Ok(65_536));
        assert_eq!(read("4mib"), Ok(4 << 20));
        assert_eq!(read("1GiB"), Ok(1 << 30));
        for wrong in [
            "",
            "1023",
            "4MB",
            "4M",
            "KiB",
            "-1",
            "2GiB",
            "99999999999999999999GiB",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn complaints_stay_on_one_line() {
        assert_eq!(
            plain("a\nb\u{1b}[2J\u{202e}c'\"\\é"),
            "a\\nb\\u{1b}[2J\\u{202e}c'\"\\é"
        );
        assert_eq!(quoted(&"x".repeat(90)).chars().count(), 83);
    }
}
