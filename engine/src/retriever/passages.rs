//! Passages from files: JSON lines and DPR's TSV, plain or gzipped.
//!
//! | file | a row | source |
//! | --- | --- | --- |
//! | `.jsonl`, `.jsonl.gz` | `{"id": …, "title": …, "text": …}` | Contriever, `src/data.py` `load_passages` |
//! | anything else | `id<TAB>text<TAB>title`, csv quoting, header recognised by a first cell `id` | DPR `psgs_w100.tsv` |
//!
//! Ids may be strings or numbers and become strings: the original looks up strings in a table keyed by whatever the file held,
//! so its numeric ids are never found. Rows stream: memory holds one row and, to find duplicates, the ids.

use std::{
    cell::Cell,
    collections::{HashMap, hash_map::Entry},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::Deserialize;

use super::Passage;
use crate::{Error, Result};

/// Longest row that is read, so that a file without line ends cannot take all memory. Wikipedia passages have about 1 KB.
pub const MAX_ROW_BYTES: u64 = 4 << 20;

/// How a file of passages is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    JsonLines,
    /// DPR's id, text, title.
    Tsv,
}

impl Format {
    /// By file name, as the original does: `.jsonl` or else TSV; a final `.gz` is ignored.
    pub fn of(name: &str) -> Self {
        if name.strip_suffix(".gz").unwrap_or(name).ends_with(".jsonl") { Self::JsonLines } else { Self::Tsv }
    }
}

/// A passage and the line its row begins at, counted from 1.
type Row = Result<(u64, Passage)>;

/// The passages of several files in order. An id that occurred before is an error that names both places, if ids are checked.
pub struct PassageFiles {
    files: Vec<PathBuf>,
    current: Option<(usize, Box<dyn Iterator<Item = Row>>)>,
    next: usize,
    seen: Option<HashMap<String, (usize, u64)>>,
}

impl std::fmt::Debug for PassageFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PassageFiles({:?}, {} opened)", self.files, self.next)
    }
}

impl PassageFiles {
    /// Nothing is opened before the first `next`.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { seen: Some(HashMap::new()), ..Self::unchecked(files) }
    }

    /// The same without a look at ids, in memory for one row.
    pub fn unchecked(files: Vec<PathBuf>) -> Self {
        Self { files, current: None, next: 0, seen: None }
    }

    fn check_id(&mut self, file: usize, line: u64, passage: Passage) -> Result<Passage> {
        let Some(seen) = &mut self.seen else { return Ok(passage) };
        match seen.entry(passage.id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert((file, line));
                Ok(passage)
            }
            Entry::Occupied(entry) => {
                let (first, first_line) = *entry.get();
                let problem = format!("id {:?} was used at {}:{first_line}", passage.id, self.files[first].display());
                Err(Error::input(self.files[file].display().to_string(), format!("line {line}"), problem))
            }
        }
    }
}

impl Iterator for PassageFiles {
    type Item = Result<Passage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((file, rows)) = &mut self.current {
                let file = *file;
                match rows.next() {
                    Some(row) => return Some(row.and_then(|(line, passage)| self.check_id(file, line, passage))),
                    None => self.current = None,
                }
            }
            let path = self.files.get(self.next)?;
            let rows = open(path);
            self.next += 1;
            match rows {
                Ok(rows) => self.current = Some((self.next - 1, rows)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The rows of one file on disk.
fn open(path: &Path) -> Result<Box<dyn Iterator<Item = Row>>> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|e| Error::io(&name, e))?;
    let format = Format::of(&name);
    Ok(if name.ends_with(".gz") {
        read_passages(name, format, flate2::read::MultiGzDecoder::new(file))
    } else {
        read_passages(name, format, file)
    })
}

/// The rows of one file; `file` names it in errors. Reading ends at the first error.
pub fn read_passages(file: String, format: Format, source: impl Read + 'static) -> Box<dyn Iterator<Item = Row>> {
    let unread = Rc::new(Cell::new(0));
    let source = Guard { source, taken: unread.clone() };
    let rows: Box<dyn Iterator<Item = Row>> = match format {
        Format::JsonLines => Box::new(JsonRows { file, lines: BufReader::new(source), line: 0, taken: unread }),
        Format::Tsv => {
            let reader =
                csv::ReaderBuilder::new().delimiter(b'\t').has_headers(false).flexible(true).from_reader(source);
            Box::new(TsvRows { file, records: reader, first: true, taken: unread })
        }
    };
    let mut failed = false;
    Box::new(rows.take_while(move |row| !std::mem::replace(&mut failed, row.is_err())))
}

/// Stops a source from which more than [`MAX_ROW_BYTES`] were taken within one row.
struct Guard<R> {
    source: R,
    /// Bytes read since the row's reader last set it to zero; buffering makes it exact to a few KB.
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken.get() > MAX_ROW_BYTES {
            return Err(io::Error::other(format!("a row of more than {MAX_ROW_BYTES} bytes")));
        }
        let n = self.source.read(buffer)?;
        self.taken.set(self.taken.get() + n as u64);
        Ok(n)
    }
}

struct JsonRows<R> {
    file: String,
    lines: BufReader<R>,
    line: u64,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Iterator for JsonRows<R> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.taken.set(0);
            self.line += 1;
            match self.lines.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let place = format!("line {}", self.line);
                    return Some(parse_json(&self.file, &place, &bytes).map(|passage| (self.line, passage)));
                }
                Err(error) => {
                    return Some(Err(Error::input(&self.file, format!("line {}", self.line), error.to_string())));
                }
            }
        }
    }
}

struct TsvRows<R> {
    file: String,
    records: csv::Reader<R>,
    first: bool,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Iterator for TsvRows<R> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            self.taken.set(0);
            let mut record = csv::StringRecord::new();
            match self.records.read_record(&mut record) {
                Ok(false) => return None,
                Ok(true) => {}
                Err(error) => {
                    let line = error.position().unwrap_or(self.records.position()).line();
                    return Some(Err(Error::input(&self.file, format!("line {line}"), error.to_string())));
                }
            }
            if std::mem::take(&mut self.first) && record.get(0) == Some("id") {
                continue;
            }
            let line = record.position().map_or(0, csv::Position::line);
            let place = format!("line {line}");
            let (Some(id), Some(text)) = (record.get(0), record.get(1)) else {
                let problem = format!("{} columns, id<TAB>text<TAB>title expected", record.len());
                return Some(Err(Error::input(&self.file, place, problem)));
            };
            let title = record.get(2).unwrap_or_default().into();
            let passage = Passage { id: id.into(), title, text: text.into() };
            return Some(check(&self.file, &place, passage).map(|passage| (line, passage)));
        }
    }
}

/// One JSON line as a passage.
fn parse_json(file: &str, place: &str, line: &[u8]) -> Result<Passage> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Number(serde_json::Number),
    }
    #[derive(Deserialize)]
    struct Row {
        id: Id,
        #[serde(default)]
        title: Option<String>,
        text: String,
    }
    let row: Row = serde_json::from_slice(line).map_err(|e| Error::input(file, place, e.to_string()))?;
    let id = match row.id {
        Id::Text(id) => id,
        Id::Number(id) => id.to_string(),
    };
    check(file, place, Passage { id, title: row.title.unwrap_or_default(), text: row.text })
}

fn check(file: &str, place: &str, passage: Passage) -> Result<Passage> {
    if passage.id.is_empty() {
        return Err(Error::input(file, place, "the id is empty"));
    }
    Ok(passage)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(format: Format, text: &[u8]) -> Result<Vec<(u64, Passage)>> {
        read_passages("p".into(), format, io::Cursor::new(text.to_vec())).collect()
    }

    fn passage(id: &str, title: &str, text: &str) -> Passage {
        Passage { id: id.into(), title: title.into(), text: text.into() }
    }

    #[test]
    fn json_lines_take_string_and_number_ids_and_skip_blank_lines() {
        let text = b"{\"id\": 7, \"title\": \"A\", \"text\": \"x\"}\n\n{\"text\": \"y\", \"id\": \"b\", \"more\": [1]}";
        let rows = read(Format::JsonLines, text).unwrap();
        assert_eq!(rows, [(1, passage("7", "A", "x")), (3, passage("b", "", "y"))]);
    }

    #[test]
    fn tsv_follows_csv_quoting() {
        let text = b"id\ttext\ttitle\n1\t\"said \"\"no\"\"\tand\nleft\"\tTitle\n2\tplain\t\n3\tno title\n";
        let rows = read(Format::Tsv, text).unwrap();
        let expected = [
            (2, passage("1", "Title", "said \"no\"\tand\nleft")),
            (4, passage("2", "", "plain")),
            (5, passage("3", "", "no title")),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn errors_name_file_and_line() {
        let cases: [(Format, &[u8], &str); 6] = [
            (Format::JsonLines, b"{\"id\":1,\"text\":\"\"}\n{\"id\":2}\n", "p: line 2: missing field `text`"),
            (Format::JsonLines, b"{\"text\":\"\"}", "p: line 1: missing field `id`"),
            (Format::JsonLines, b"\n{\"id\":\"\",\"text\":\"\"}", "p: line 2: the id is empty"),
            (Format::JsonLines, b"{\"id\":\"\xff\",\"text\":\"\"}", "p: line 1: "),
            (Format::Tsv, b"1\tx\ty\nlonely\n", "p: line 2: 1 columns"),
            (Format::Tsv, b"1\tx\ty\n2\t\xff\tz\n", "p: line 2: "),
        ];
        for (format, text, expected) in cases {
            let error = read(format, text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error:?} should begin with {expected:?}");
        }
    }

    #[test]
    fn a_row_without_end_is_refused_early() {
        struct Endless(u64);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len() as u64;
                assert!(self.0 < 2 * MAX_ROW_BYTES, "reading went on after the limit");
                buffer.fill(b'"');
                Ok(buffer.len())
            }
        }
        for format in [Format::JsonLines, Format::Tsv] {
            let error = read_passages("p".into(), format, Endless(0)).find_map(Result::err).unwrap();
            assert!(error.to_string().contains("a row of more than"), "{error}");
        }
    }

    #[test]
    fn files_are_chained_unzipped_and_duplicates_found_across_them() {
        let dir = std::env::temp_dir().join(format!("selfrag-passages-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (zipped, plain) = (dir.join("a.jsonl.gz"), dir.join("b.tsv"));
        let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(&zipped).unwrap(), Default::default());
        io::Write::write_all(&mut encoder, b"{\"id\": 1, \"text\": \"x\"}\n").unwrap();
        encoder.finish().unwrap();
        std::fs::write(&plain, "2\ty\tt\n1\tz\tt\n").unwrap();
        let rows: Vec<_> = PassageFiles::new(vec![zipped.clone(), plain.clone()]).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].as_ref().unwrap(), &passage("1", "", "x"));
        assert_eq!(rows[1].as_ref().unwrap(), &passage("2", "t", "y"));
        let expected = format!("{}: line 2: id \"1\" was used at {}:1", plain.display(), zipped.display());
        assert_eq!(rows[2].as_ref().unwrap_err().to_string(), expected);
        let missing = PassageFiles::new(vec![dir.join("none.jsonl")]).next().unwrap().unwrap_err();
        assert!(missing.to_string().contains("none.jsonl"), "{missing}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_give_rows_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(Format::JsonLines, &bytes);
            let _ = read(Format::Tsv, &bytes);
        }

        #[test]
        fn what_is_written_is_read(id in "[a-z0-9]{1,5}", title in "\\PC*", text in "\\PC*") {
            let expected = passage(&id, &title, &text);
            let json = serde_json::to_vec(&expected).unwrap();
            prop_assert_eq!(&read(Format::JsonLines, &json).unwrap()[0].1, &expected);
            let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
            writer.write_record(["id", "text", "title"]).unwrap();
            writer.write_record([&id, &text, &title]).unwrap();
            prop_assert_eq!(&read(Format::Tsv, &writer.into_inner().unwrap()).unwrap()[0].1, &expected);
        }
    }
}
