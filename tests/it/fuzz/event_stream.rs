//! An event stream as the HTML standard reads it (§9.2.6), written for plainness and not for speed: the whole stream at
//! once, and no bound.

/// What stands between two empty lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub name: Vec<u8>,
    /// The `data` lines, joined by line feeds.
    pub data: Option<Vec<u8>>,
    pub id: Option<Vec<u8>>,
    /// Digits.
    pub retry: Option<Vec<u8>>,
    /// The most bytes that the data so far and one line came to.
    pub size: usize,
}

/// The lines of a stream, without their ends. What follows the last line end is no line.
fn lines(stream: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < stream.len() {
        let end = match stream[at..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        if end > 0 {
            lines.push(&stream[start..at]);
            start = at + end;
        }
        at += end.max(1);
    }
    lines
}

/// Every block of a stream that an empty line ends.
pub fn blocks(stream: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block = Block::default();
    for (number, whole) in lines(stream).into_iter().enumerate() {
        let mark = if number == 0 {
            &b"\xef\xbb\xbf"[..]
        } else {
            b""
        };
        let line = whole.strip_prefix(mark).unwrap_or(whole);
        let before = block.data.as_ref().map_or(0, Vec::len);
        block.size = block.size.max(before + whole.len());
        if line.is_empty() {
            blocks.push(std::mem::take(&mut block));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => block.name = value.to_vec(),
            b"data" => match &mut block.data {
                Some(data) => data.extend_from_slice(&[b"\n", value].concat()),
                None => block.data = Some(value.to_vec()),
            },
            b"id" if !value.contains(&0) => block.id = Some(value.to_vec()),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                block.retry = Some(value.to_vec());
            }
            _ => {}
        }
    }
    blocks
}

/// What a browser would dispatch: the type and the data of each event.
pub fn dispatched(stream: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let named = |name: Vec<u8>| {
        if name.is_empty() {
            b"message".to_vec()
        } else {
            name
        }
    };
    blocks(stream)
        .into_iter()
        .filter_map(|block| Some((named(block.name), block.data?)))
        .collect()
}
