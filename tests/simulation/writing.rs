//! How the model upstream writes the body of an answer: the bytes, and where in them each thing that it says is complete.

use mcp_ferry::proto::bridge::Body;

use crate::books::Said;
use crate::queue::Piece;
use crate::random::Random;

/// How one stream writes: its kind and its line ends.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub body: Body,
    line_end: &'static str,
    /// Whether nothing was written yet.
    fresh: bool,
}

/// Some bytes of a body, and what is said in them: each thing with the number of bytes that make it complete.
#[derive(Debug, Default)]
pub struct Text {
    pub bytes: Vec<u8>,
    pub said: Vec<(usize, Said)>,
}

impl Style {
    pub fn new(body: Body, random: &mut Random) -> Self {
        let line_end = *random.pick(&["\n", "\n", "\r\n", "\r"]).unwrap_or(&"\n");
        Self {
            body,
            line_end,
            fresh: true,
        }
    }

    /// One message on a stream, with an event id and the time to wait before coming back, where there are such.
    pub fn message(
        &mut self,
        said: Said,
        text: &str,
        id: Option<&str>,
        retry: Option<u64>,
        random: &mut Random,
    ) -> Text {
        if self.body != Body::Events {
            let bytes = format!("{text}\n").into_bytes();
            let said = vec![(bytes.len(), said)];
            return Text { bytes, said };
        }
        let end = self.line_end;
        let mut block = self.preamble(random);
        let id = id.map(|id| format!("id: {id}{end}")).unwrap_or_default();
        let first = random.percent(50);
        if first {
            block.push_str(&id);
        }
        if random.percent(60) {
            block.push_str("event: message");
            block.push_str(end);
        }
        if let Some(retry) = retry {
            block.push_str(&format!("retry: {retry}{end}"));
        }
        block.push_str(if random.percent(80) {
            "data: "
        } else {
            "data:"
        });
        block.push_str(text);
        block.push_str(end);
        if !first {
            block.push_str(&id);
        }
        self.close(block, Some(said))
    }

    /// An event without a message, or one that is none of MCP's.
    pub fn mark(&mut self, id: Option<&str>, retry: Option<u64>, random: &mut Random) -> Text {
        if self.body != Body::Events {
            return Text::default();
        }
        let end = self.line_end;
        let mut block = self.preamble(random);
        if let Some(id) = id {
            block.push_str(&format!("id: {id}{end}"));
        }
        if let Some(retry) = retry {
            block.push_str(&format!("retry: {retry}{end}"));
        }
        match random.below(3) {
            0 => block.push_str(&format!("data: {end}")),
            1 if id.is_none() => block.push_str(&format!("event: ping{end}data: {{}}{end}")),
            _ => {}
        }
        self.close(block, None)
    }

    fn preamble(&mut self, random: &mut Random) -> String {
        let mut block = String::new();
        if std::mem::take(&mut self.fresh) && random.percent(10) {
            block.push('\u{feff}');
        }
        if random.percent(10) {
            block.push_str(&format!(": alive{}", self.line_end));
            if random.percent(50) {
                block.push_str(self.line_end);
            }
        }
        block
    }

    /// The empty line. Its first byte completes the event, whatever follows.
    fn close(&self, block: String, said: Option<Said>) -> Text {
        let complete = block.len() + 1;
        let mut bytes = block.into_bytes();
        bytes.extend_from_slice(self.line_end.as_bytes());
        let said = said.into_iter().map(|said| (complete, said)).collect();
        Text { bytes, said }
    }
}

impl Text {
    /// The same in pieces.
    pub fn cut(self, random: &mut Random) -> Vec<Piece> {
        let mut cuts = vec![0, self.bytes.len()];
        for _ in 0..*random.pick(&[0, 0, 1, 3]).unwrap_or(&0) {
            cuts.push(random.below(self.bytes.len() + 1));
        }
        cuts.sort_unstable();
        let mut said = self.said.into_iter().peekable();
        let mut pieces = Vec::new();
        for pair in cuts.windows(2) {
            let mut complete = Vec::new();
            while let Some((_, said)) = said.next_if(|(at, _)| *at <= pair[1]) {
                complete.push(said);
            }
            pieces.push(Piece::Bytes(
                self.bytes[pair[0]..pair[1]].to_vec(),
                complete,
            ));
        }
        pieces
    }

    /// Only the first bytes.
    pub fn head(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self.said.retain(|(at, _)| *at <= length);
        self
    }
}
