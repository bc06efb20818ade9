//! JSON with line ends and indents. The text is not parsed: numbers, order and repeated members stay as they were written.

use crate::logging::shown;

/// Levels that are indented; what lies deeper stays at this one, so that nesting cannot blow the text up.
const DEEPEST: usize = 24;

/// Writes a text that is JSON, each line after `margin`, nothing in it hidden.
pub(super) fn write(json: &str, margin: &str, out: &mut String) {
    let mut depth = 0usize;
    let mut line = String::new();
    let mut in_string = false;
    let mut escaped = false;
    let mut chars = json.chars().peekable();
    let mut end = |line: &mut String, depth: usize| {
        out.push_str(margin);
        out.push_str(&shown(line));
        out.push('\n');
        *line = "  ".repeat(depth.min(DEEPEST));
    };
    while let Some(char) = chars.next() {
        if in_string {
            line.push(char);
            in_string = escaped || char != '"';
            escaped = char == '\\' && !escaped;
            continue;
        }
        match char {
            '"' => {
                line.push(char);
                in_string = true;
            }
            '{' | '[' => {
                line.push(char);
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    line.push(close);
                    continue;
                }
                depth = depth.saturating_add(1);
                end(&mut line, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                end(&mut line, depth);
                line.push(char);
            }
            ',' => {
                line.push(char);
                end(&mut line, depth);
            }
            ':' => line.push_str(": "),
            _ if char.is_ascii_whitespace() => {}
            _ => line.push(char),
        }
    }
    end(&mut line, 0);
}
