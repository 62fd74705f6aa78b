//! Embeds one shard of a corpus into a file of embeddings, and goes on where a run that was killed stopped.
//!
//! Beside the file lie, while it is made, `.NAME.values` (vectors as they come, bare) and `.NAME.journal` (a line for each finished piece,
//! with a hash of its values). Pieces are embedded each for itself, so a run that was taken up gives the bytes of one that was not.
//! `.NAME.json` stays: the settings that the file was made with. Memory holds the shard's ids and one piece.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use half::f16;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::write;
use crate::{
    Error, Result,
    json_journal::{JsonJournal, check_header},
    retriever::{
        Embedder, Passage,
        manifest::{EncoderInfo, sha256_hex},
        passages::PassageFiles,
        text::TextOptions,
    },
};

/// What to embed.
#[derive(Debug, Clone)]
pub struct Options {
    /// The corpus, all shards of it.
    pub passages: Vec<PathBuf>,
    /// Which shard, from 0.
    pub shard: usize,
    /// Of how many.
    pub shards: usize,
    /// Passages of a piece; the engine batches them by tokens.
    pub piece: usize,
    /// Whether to write f32 instead of f16.
    pub is_f32: bool,
    /// How texts are prepared.
    pub text: TextOptions,
    /// Begin anew, whatever there is.
    pub overwrite: bool,
}

/// What is told on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The shard's rows of the corpus, and the corpus's size.
    Rows(Range<u64>, u64),
    /// The file is there already, made with the same settings.
    Finished,
    /// Passages that an earlier, interrupted run had embedded.
    Resumed(u64),
    /// Passages embedded since the last event.
    Embedded(u64),
}

/// Rows of a shard: ⌊rows / shards⌋ each, the last takes what is left (`generate_passage_embeddings.py`).
pub fn shard_rows(rows: u64, shard: usize, shards: usize) -> Range<u64> {
    let (shard, shards) = (shard as u64, shards as u64);
    let size = rows / shards;
    shard * size..if shard + 1 == shards { rows } else { (shard + 1) * size }
}

/// What a journal belongs to.
#[derive(Serialize)]
struct Header {
    format: &'static str,
    corpus: String,
    rows: u64,
    shard: usize,
    shards: usize,
    piece: usize,
    values: &'static str,
    encoder: EncoderInfo,
}

/// A finished piece.
#[derive(Serialize, Deserialize)]
struct Piece {
    rows: u64,
    sha256: String,
}

/// Embeds the shard into `output`, which is there only when it is whole.
pub async fn embed(
    options: &Options,
    embedder: &mut dyn Embedder,
    output: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    for (name, value) in [("num-shards", options.shards), ("per-gpu-batch-size", options.piece)] {
        if value == 0 {
            return Err(Error::config(name, "a positive number expected"));
        }
    }
    if options.shard >= options.shards {
        return Err(Error::config("shard-id", format!("{}, less than {} expected", options.shard, options.shards)));
    }
    let (corpus, count) = identify(&options.passages)?;
    let range = shard_rows(count, options.shard, options.shards);
    progress(Progress::Rows(range.clone(), count));
    let header = Header {
        format: "selfrag-embeddings",
        corpus,
        rows: count,
        shard: options.shard,
        shards: options.shards,
        piece: options.piece,
        values: if options.is_f32 { "f32" } else { "f16" },
        encoder: EncoderInfo { text: options.text, ..embedder.info() },
    };
    let value_bytes = if options.is_f32 { 4 } else { 2 };
    if !options.overwrite && is_finished(output, &header)? {
        progress(Progress::Finished);
        return Ok(());
    }
    let mut unfinished = Unfinished::open(output, &header, embedder.dim() * value_bytes, options.overwrite)?;
    progress(Progress::Resumed(unfinished.rows));

    let mut passages = PassageFiles::unchecked(options.passages.clone()).skip(range.start as usize);
    let mut ids = Ids::default();
    while (ids.ends.len() as u64) < range.end - range.start {
        let left = range.end - range.start - ids.ends.len() as u64;
        let size = left.min(options.piece as u64) as usize;
        let piece: Vec<Passage> = passages.by_ref().take(size).collect::<Result<_>>()?;
        if piece.len() < size {
            let problem = format!("fewer than the {count} passages counted before: the files changed");
            return Err(Error::config("passages", problem));
        }
        piece.iter().for_each(|passage| ids.push(&passage.id));
        if ids.ends.len() as u64 > unfinished.rows {
            let values = embed_piece(&piece, embedder, options).await?;
            unfinished.append(piece.len() as u64, &values)?;
            progress(Progress::Embedded(piece.len() as u64));
        }
    }
    unfinished.finish(output, &header, &ids, embedder.dim(), options.is_f32)
}

/// What a finished file was made with.
#[derive(Serialize, Deserialize)]
struct Made<H> {
    settings: H,
    /// The file's size: another file of its name is not it.
    bytes: u64,
}

/// Whether the file is there and was made with these settings. One of other or unknown settings is an error, not something to replace.
fn is_finished(output: &Path, header: &Header) -> Result<bool> {
    let (journal, record) = (beside(output, "journal"), beside(output, "json"));
    let Ok(metadata) = fs::metadata(output) else { return Ok(false) };
    let made: Option<Made<Value>> = fs::read(&record).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let problem = match made.filter(|made| made.bytes == metadata.len()) {
        Some(made) => match check_header(&made.settings, header) {
            Ok(()) => return Ok(true),
            Err(problem) => problem,
        },
        // A run that was killed just before its end.
        None if journal.exists() => return Ok(false),
        None => "it is not known what made this file; name another output, or --overwrite".to_owned(),
    };
    Err(Error::input(output.display().to_string(), "settings", problem))
}

/// A hash of all passages and their number.
fn identify(files: &[PathBuf]) -> Result<(String, u64)> {
    let (mut hash, mut count) = (Sha256::new(), 0);
    for passage in PassageFiles::unchecked(files.to_vec()) {
        let passage = passage?;
        for part in [&passage.id, &passage.title, &passage.text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        count += 1;
    }
    if count == 0 {
        return Err(Error::config("passages", "the files hold none"));
    }
    Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), count))
}

/// The piece's vectors as stored. Texts of about one length go together, so that a launch has no short ones waiting for a long one.
async fn embed_piece(piece: &[Passage], embedder: &mut dyn Embedder, options: &Options) -> Result<Vec<u8>> {
    let prefix = embedder.info().passage_prefix;
    let texts: Vec<String> = piece.iter().map(|passage| prefix.clone() + &options.text.passage(passage)).collect();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|row| texts[*row].len());
    let sorted: Vec<String> = order.iter().map(|row| texts[*row].clone()).collect();
    let mut vectors = vec![Vec::new(); piece.len()];
    for (row, vector) in order.into_iter().zip(embedder.embed(&sorted).await?) {
        vectors[row] = vector;
    }
    let mut values = Vec::new();
    for (vector, passage) in vectors.iter().zip(piece) {
        for value in vector {
            let (is_finite, bytes) = match options.is_f32 {
                true => (value.is_finite(), value.to_le_bytes().to_vec()),
                false => (f16::from_f32(*value).is_finite(), f16::from_f32(*value).to_le_bytes().to_vec()),
            };
            if !is_finite {
                let problem = format!("{value} in the embedding, a finite number expected");
                return Err(Error::input(embedder.info().name, format!("passage {:?}", passage.id), problem));
            }
            values.extend(bytes);
        }
    }
    Ok(values)
}

/// A shard's ids, one after the other.
#[derive(Default)]
struct Ids {
    text: String,
    ends: Vec<usize>,
}

impl Ids {
    fn push(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// What there is of a file that is being made.
struct Unfinished {
    journal: JsonJournal,
    journal_path: PathBuf,
    values: File,
    values_path: PathBuf,
    rows: u64,
}

impl Unfinished {
    /// Begins, or takes up what an earlier run left: pieces up to the first whose values are not whole.
    fn open(output: &Path, header: &Header, row_bytes: usize, overwrite: bool) -> Result<Self> {
        let [journal_path, values_path] = ["journal", "values"].map(|kind| beside(output, kind));
        let mut pieces = Vec::new();
        let mut journal = JsonJournal::open(&journal_path, header, overwrite, &mut |line, bytes| {
            let bad = |e: serde_json::Error| {
                Error::input(journal_path.display().to_string(), format!("line {line}"), e.to_string())
            };
            pieces.push(serde_json::from_slice::<Piece>(bytes).map_err(bad)?);
            Ok(())
        })?;
        let failed = |e: io::Error| Error::io(values_path.display().to_string(), e);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&values_path);
        let mut values = open.map_err(failed)?;
        let (mut rows, mut whole, mut bytes) = (0, 0, Vec::new());
        for piece in &pieces {
            let size = piece.rows.saturating_mul(row_bytes as u64);
            bytes.clear();
            (&values).take(size).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 != size || sha256_hex(&bytes) != piece.sha256 {
                break;
            }
            (rows, whole) = (rows + piece.rows, whole + 1);
        }
        journal.truncate(whole)?;
        let end = rows * row_bytes as u64;
        values.set_len(end).and_then(|()| values.seek(SeekFrom::Start(end))).map_err(failed)?;
        Ok(Self { journal, journal_path, values, values_path, rows })
    }

    /// Values first: what the journal tells of is on the disk.
    fn append(&mut self, rows: u64, values: &[u8]) -> Result<()> {
        let written = self.values.write_all(values).and_then(|()| self.values.sync_data());
        written.map_err(|e| Error::io(self.values_path.display().to_string(), e))?;
        self.rows += rows;
        self.journal.append(&Piece { rows, sha256: sha256_hex(values) })?;
        self.journal.sync()
    }

    /// Puts the file together and removes the rest.
    fn finish(mut self, output: &Path, header: &Header, ids: &Ids, dim: usize, is_f32: bool) -> Result<()> {
        let (part, record) = (beside(output, "part"), beside(output, "json"));
        let written = self.values.seek(SeekFrom::Start(0)).and_then(|_| {
            let mut out = BufWriter::new(File::create(&part)?);
            write::head(&mut out, ids.iter(), ids.ends.len(), dim, is_f32)?;
            let copied = io::copy(&mut BufReader::with_capacity(1 << 20, &self.values), &mut out)?;
            if copied != write::value_bytes(ids.ends.len(), dim, is_f32) {
                return Err(io::Error::other("the values are not whole any more"));
            }
            write::tail(&mut out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            // No record speaks of a file that it does not belong to, whenever this is killed.
            match fs::remove_file(&record) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => fs::rename(&part, output)?,
            }
            let made = Made { settings: header, bytes: fs::metadata(output)?.len() };
            fs::write(&record, serde_json::to_vec(&made).expect("settings are JSON"))?;
            fs::remove_file(&self.values_path)?;
            fs::remove_file(&self.journal_path)
        });
        written.map_err(|e| Error::io(output.display().to_string(), e))
    }
}

/// A file beside the output that patterns like `*` do not name.
fn beside(output: &Path, kind: &str) -> PathBuf {
    output.with_file_name(format!(".{}.{kind}", output.file_name().unwrap_or_default().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_cover_every_row_once(rows in 0_u64..1000, shards in 1_usize..40) {
            let mut next = 0;
            for shard in 0..shards {
                let range = shard_rows(rows, shard, shards);
                prop_assert_eq!(range.start, next);
                prop_assert!(range.end - range.start == rows / shards as u64 || shard + 1 == shards);
                next = range.end;
            }
            prop_assert_eq!(next, rows);
        }
    }
}
