//! Files of rows: a JSON list or JSON lines, split without being parsed, so that one bad row costs one row and is named by its line.

use std::{fs::File, io::Read, path::Path};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Longest row that is read. ASQA's rows, with 100 passages, have about 80 KB.
pub const MAX_ROW_BYTES: usize = 8 << 20;

/// A file of rows, split but not parsed.
pub struct Rows {
    name: String,
    bytes: Vec<u8>,
    /// Line, start, end.
    spans: Vec<(usize, usize, usize)>,
    /// What ended the splitting, if not the file's end.
    broken: Option<(usize, String)>,
    sha256: String,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({}, {} rows)", self.name, self.spans.len())
    }
}

impl Rows {
    /// Reads a file, `.gz` unpacked.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| Error::io(&name, e))?;
        let mut reader: Box<dyn Read> =
            if name.ends_with(".gz") { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|e| Error::io(&name, e))?;
        Ok(Self::new(name, bytes))
    }

    /// From bytes; `name` is for messages.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").map_or(0, |_| 3);
        let first = bytes[text..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|at| at + text);
        let (spans, broken) = match first {
            Some(at) if bytes[at] == b'[' => split_list(&bytes, at),
            _ => (split_lines(&bytes, text), None),
        };
        Self { name: name.into(), bytes, spans, broken, sha256 }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the bytes (unpacked).
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// How many rows there are, unusable ones included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What is wrong with the file as a whole.
    pub fn broken(&self) -> Option<Error> {
        let (line, problem) = self.broken.as_ref()?;
        Some(Error::input(&self.name, format!("line {line}"), problem))
    }

    /// A row's line.
    pub fn line(&self, index: usize) -> usize {
        self.spans[index].0
    }

    /// A row's object, or what is wrong with it: file, line and expectation.
    pub fn object(&self, index: usize) -> Result<Map<String, Value>> {
        let (line, start, end) = self.spans[index];
        let bytes = &self.bytes[start..end];
        let bad = |problem: String| Error::input(&self.name, format!("line {line}"), problem);
        if bytes.len() > MAX_ROW_BYTES {
            return Err(bad(format!("a row of {} bytes, at most {MAX_ROW_BYTES} expected", bytes.len())));
        }
        let no_json = |e: serde_json::Error| {
            // A row of a list may have several lines; its first begins at `start`.
            let (place, problem) = (format!("line {}", line + e.line().max(1) - 1), e.to_string());
            let problem = problem.split(" at line ").next().unwrap_or_default();
            Error::input(&self.name, format!("{place}, column {}", e.column()), format!("no JSON: {problem}"))
        };
        match serde_json::from_slice(bytes).map_err(no_json)? {
            Value::Object(item) => Ok(item),
            _ => Err(bad("an object expected".into())),
        }
    }
}

/// Lines that are not blank.
fn split_lines(bytes: &[u8], from: usize) -> Vec<(usize, usize, usize)> {
    let mut spans = Vec::new();
    let mut start = from;
    for (index, line) in bytes[from..].split(|byte| *byte == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            spans.push((index + 1, start, start + line.len()));
        }
        start += line.len() + 1;
    }
    spans
}

/// Lines with starts and ends, and what broke the splitting off.
type Split = (Vec<(usize, usize, usize)>, Option<(usize, String)>);

/// The elements of a list, found by brackets and strings alone: what is between commas may be no JSON at all.
fn split_list(bytes: &[u8], open: usize) -> Split {
    let mut line = 1 + bytes[..open].iter().filter(|byte| **byte == b'\n').count();
    let (mut spans, mut depth, mut in_string, mut escaped) = (Vec::new(), 0_usize, false, false);
    let mut element: Option<(usize, usize)> = None;
    for (at, &byte) in bytes.iter().enumerate().skip(open + 1) {
        if byte == b'\n' {
            line += 1;
        }
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        let ends = depth == 0 && matches!(byte, b',' | b']');
        if ends {
            if let Some((line, start)) = element.take() {
                spans.push((line, start, at));
            }
            if byte == b']' {
                let rest = bytes[at + 1..].iter().position(|byte| !byte.is_ascii_whitespace());
                return (spans, rest.map(|_| (line, "the file goes on after its list".into())));
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if element.is_none() && !byte.is_ascii_whitespace() {
            element = Some((line, at));
        }
    }
    let from = element.map_or(line, |(line, _)| line);
    (spans, Some((from, "the list does not end: the file was cut, or a string or bracket is not closed".into())))
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_lines_are_split() {
        let list = Rows::new("x", b"\xef\xbb\xbf \n[{\"a\": \"],\\\"\"},\n {\"b\": [1, {}]}\n]".to_vec());
        assert_eq!((list.len(), list.line(0), list.line(1)), (2, 2, 3));
        assert!(list.broken().is_none());
        assert!(Rows::new("x", b"[1] x".to_vec()).broken().unwrap().to_string().contains("goes on after its list"));
        let cut = Rows::new("x", b"[1,\n {\"a\": \"".to_vec());
        assert_eq!((cut.len(), cut.broken().unwrap().to_string().contains("line 2")), (1, true));
        let lines = Rows::new("x", b"{}\n\n  \n{}".to_vec());
        assert_eq!((lines.len(), lines.line(1)), (2, 4));
        assert!(Rows::new("x", Vec::new()).is_empty());
    }
}
