//! Builds a passage store: embeds passages, or takes their embeddings from files, shard by shard into `OUTPUT.partial`, then renames it to `OUTPUT`.
//!
//! A build that was interrupted goes on where it stopped: a finished shard leaves a record of its files, and is taken over when
//! the same encoder is asked for the same passages. Until the last step an existing store at `OUTPUT` stays untouched.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Embedder, Passage,
    clusters::format::is_clustered,
    files::Folder,
    hnsw,
    manifest::{EncoderInfo, FileInfo, GraphInfo, MANIFEST, MAX_COUNT, MAX_SHARD_BYTES, Manifest, Shard},
    store::{Offset, Store},
    text::TextOptions,
    vectors::{Precision, Vectors},
};
use crate::{Error, Result, platform::LocalFuture};

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of a shard.
    pub shard_rows: usize,
    /// Passages embedded at a time.
    pub batch: usize,
    /// Vectors to write.
    pub precisions: Vec<Precision>,
    /// Whether to build the HNSW graph.
    pub graph: bool,
    /// How texts are prepared before they are embedded.
    pub text: TextOptions,
}

impl Default for Options {
    fn default() -> Self {
        let precisions = vec![Precision::F16, Precision::Int8];
        Self { shard_rows: 2048, batch: 128, precisions, graph: false, text: TextOptions::default() }
    }
}

/// What a build tells while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Passages embedded since the last event.
    Embedded(usize),
    /// Passages of a shard that an earlier, interrupted build had finished.
    Resumed(usize),
    /// Embedding is over, the graph is being built.
    Graph,
}

/// Where a build's vectors come from.
pub trait VectorSource {
    /// Values of a vector.
    fn dim(&self) -> usize;
    /// What made the vectors.
    fn info(&self) -> EncoderInfo;
    /// What else an interrupted build must have in common with this one to be taken up.
    fn origin(&self) -> &str;
    /// One vector a passage.
    fn vectors<'a>(&'a mut self, passages: &'a [Passage]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>>;
}

/// An encoder at work.
struct Embedding<'e> {
    embedder: &'e mut dyn Embedder,
    text: TextOptions,
}

impl VectorSource for Embedding<'_> {
    fn dim(&self) -> usize {
        self.embedder.dim()
    }

    fn info(&self) -> EncoderInfo {
        EncoderInfo { text: self.text, ..self.embedder.info() }
    }

    fn origin(&self) -> &str {
        ""
    }

    fn vectors<'a>(&'a mut self, passages: &'a [Passage]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        let (prefix, text) = (self.embedder.info().passage_prefix, self.text);
        let texts: Vec<String> = passages.iter().map(|passage| prefix.clone() + &text.passage(passage)).collect();
        Box::pin(async move { self.embedder.embed(&texts).await })
    }
}

/// Builds a store at `output` by embedding the passages, and gives its manifest.
pub async fn build(
    passages: impl Iterator<Item = Result<Passage>>,
    embedder: &mut dyn Embedder,
    output: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    let mut source = Embedding { embedder, text: options.text };
    build_from(passages, &mut source, output, options, progress).await
}

/// The same with vectors from anywhere.
pub async fn build_from(
    passages: impl Iterator<Item = Result<Passage>>,
    source: &mut dyn VectorSource,
    output: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    check_replaceable(output)?;
    if fs::read(output.join(MANIFEST)).is_ok_and(|json| is_clustered(&json)) {
        let problem = "a clustered store: choose an empty or new folder";
        return Err(Error::input(output.display().to_string(), MANIFEST, problem));
    }
    let partial = beside(output, "partial");
    create_dir(&partial)?;
    let mut manifest = Manifest::new(source.dim(), source.info());
    let mut passages = passages.peekable();
    while passages.peek().is_some() {
        let rows: Vec<Passage> = passages.by_ref().take(options.shard_rows.max(1)).collect::<Result<_>>()?;
        let shard = build_shard(&partial, manifest.shards.len(), &rows, source, options, progress).await?;
        manifest.count += shard.rows;
        manifest.shards.push(shard);
        if manifest.count > MAX_COUNT {
            return Err(Error::config("passages", format!("more than {MAX_COUNT}")));
        }
    }
    write(&partial.join(MANIFEST), &manifest.to_json())?;
    if options.graph {
        progress(Progress::Graph);
        let store = Store::open(Box::new(Folder::new(&partial))).await?;
        let vectors = Arc::new(store.all_vectors(store.precision()).await?);
        let (bytes, recall_at_10) = hnsw::build(&vectors, hnsw::EF_SEARCH)?;
        let info = FileInfo::of("graph.hnsw", &bytes);
        write(&partial.join(&info.file), &bytes)?;
        manifest.graph = Some(GraphInfo { file: info.file, bytes: info.bytes, sha256: info.sha256, recall_at_10 });
        write(&partial.join(MANIFEST), &manifest.to_json())?;
    }
    publish(&partial, output, &manifest)?;
    Ok(manifest)
}

/// What an interrupted build leaves of a shard: its files, and what they were made with.
#[derive(PartialEq, serde::Serialize, serde::Deserialize)]
struct Record {
    encoder: EncoderInfo,
    #[serde(default)]
    origin: String,
    dim: usize,
    shard: Shard,
}

async fn build_shard(
    folder: &Path,
    index: usize,
    rows: &[Passage],
    source: &mut dyn VectorSource,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Shard> {
    let (text, offsets) = encode_passages(rows)?;
    let passages = FileInfo::of(format!("passages-{index:05}.jsonl"), &text);
    let record_path = folder.join(format!("shard-{index:05}.json"));
    if let Some(shard) = finished(&record_path, folder, source, &passages, options) {
        progress(Progress::Resumed(rows.len()));
        return Ok(shard);
    }
    let mut vectors: Vec<Vectors> = options.precisions.iter().map(|p| Vectors::new(*p, source.dim())).collect();
    for batch in rows.chunks(options.batch.max(1)) {
        for vector in source.vectors(batch).await? {
            if vector.iter().any(|x| !x.is_finite()) {
                return Err(Error::input(source.info().name, "output", "an embedding is not a finite number"));
            }
            vectors.iter_mut().for_each(|vectors| vectors.push(&vector));
        }
        progress(Progress::Embedded(batch.len()));
    }
    write(&folder.join(&passages.file), &text)?;
    let info = FileInfo::of(format!("offsets-{index:05}.bin"), &offsets);
    write(&folder.join(&info.file), &offsets)?;
    let mut shard = Shard { rows: rows.len() as u64, vectors: BTreeMap::new(), passages, offsets: info };
    for vectors in vectors {
        let bytes = vectors.to_bytes();
        let info = FileInfo::of(format!("vectors-{index:05}.{}", vectors.precision().name()), &bytes);
        write(&folder.join(&info.file), &bytes)?;
        shard.vectors.insert(vectors.precision(), info);
    }
    let largest = shard.vectors.values().chain([&shard.passages]).map(|info| info.bytes).max().unwrap_or(0);
    if largest > MAX_SHARD_BYTES {
        let problem = format!("{} rows take {largest} bytes, at most {MAX_SHARD_BYTES} fit a file", shard.rows);
        return Err(Error::config("shard-rows", problem));
    }
    let record = Record { encoder: source.info(), origin: source.origin().to_owned(), dim: source.dim(), shard };
    write(&record_path, &serde_json::to_vec(&record).expect("a record has no map keys but strings"))?;
    Ok(record.shard)
}

/// The shard that an earlier build finished, if it is the same and its files are whole.
fn finished(
    record: &Path,
    folder: &Path,
    source: &dyn VectorSource,
    passages: &FileInfo,
    options: &Options,
) -> Option<Shard> {
    let Record { encoder, origin, dim, shard } = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    let made_alike = encoder == source.info() && origin == source.origin() && dim == source.dim();
    let same = made_alike && shard.passages == *passages;
    let wanted = options.precisions.iter().collect::<std::collections::BTreeSet<_>>();
    if !same || !shard.vectors.keys().eq(wanted) {
        return None;
    }
    let whole = |info: &FileInfo| fs::read(folder.join(&info.file)).is_ok_and(|b| info.verify("", &b).is_ok());
    let all_whole = shard.vectors.values().chain([&shard.passages, &shard.offsets]).all(whole);
    all_whole.then_some(shard)
}

fn encode_passages(rows: &[Passage]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut text, mut offsets) = (Vec::new(), Vec::new());
    for passage in rows {
        let line = serde_json::to_vec(passage).expect("a passage is three texts");
        text.extend_from_slice(&line);
        let too_long = |_| Error::config("shard-rows", "a shard's passages take more than 4 GB");
        let end = u32::try_from(text.len()).map_err(too_long)?;
        offsets.extend_from_slice(&Offset::of(end, &line).to_bytes());
        text.push(b'\n');
    }
    Ok((text, offsets))
}

/// Only a store or an empty folder may be replaced: a mistyped path must not cost somebody their files.
pub(super) fn check_replaceable(output: &Path) -> Result<()> {
    let name = output.display().to_string();
    match fs::read_dir(output) {
        Ok(mut entries) => {
            let json = fs::read(output.join(MANIFEST)).ok();
            // Another program's manifest.json is no store: web pages have one.
            let is_store = |json: Vec<u8>| is_clustered(&json) || Manifest::parse(MANIFEST, &json).is_ok();
            if entries.next().is_none() || json.is_some_and(is_store) {
                return Ok(());
            }
            Err(Error::input(name, MANIFEST, "the folder holds other files and no store: choose an empty or new one"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(name, error)),
    }
}

/// Puts the finished folder in its place; files of the old one that no store knows (a licence, say) move along.
fn publish(partial: &Path, output: &Path, manifest: &Manifest) -> Result<()> {
    for shard in 0..manifest.shards.len() {
        let record = partial.join(format!("shard-{shard:05}.json"));
        fs::remove_file(&record).map_err(|e| Error::io(record.display().to_string(), e))?;
    }
    remove_strays(partial, manifest)?;
    if output.exists() {
        let old = beside(output, "old");
        rename(output, &old)?;
        if let Err(error) = rename(partial, output) {
            rename(&old, output)?;
            return Err(error);
        }
        let known = fs::read(old.join(MANIFEST)).ok().and_then(|json| Manifest::parse(MANIFEST, &json).ok());
        for path in known.iter().flat_map(|manifest| strangers(&old, manifest)) {
            let to = output.join(path.file_name().expect("an entry of a folder has a name"));
            if !to.exists() {
                rename(&path, &to)?;
            }
        }
        fs::remove_dir_all(&old).map_err(|e| Error::io(old.display().to_string(), e))
    } else {
        rename(partial, output)
    }
}

/// Files of earlier builds with more shards or another precision.
fn remove_strays(partial: &Path, manifest: &Manifest) -> Result<()> {
    for path in strangers(partial, manifest) {
        fs::remove_file(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
    }
    Ok(())
}

/// Entries of a folder that its manifest does not name.
fn strangers(folder: &Path, manifest: &Manifest) -> Vec<PathBuf> {
    let of_shard = |shard: &Shard| -> Vec<String> {
        let infos = shard.vectors.values().chain([&shard.passages, &shard.offsets]);
        infos.map(|info| info.file.clone()).collect()
    };
    let mut known: std::collections::BTreeSet<String> = manifest.shards.iter().flat_map(of_shard).collect();
    known.insert(MANIFEST.into());
    known.extend(manifest.graph.iter().map(|graph| graph.file.clone()));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| !known.contains(&*e.file_name().to_string_lossy())).map(|e| e.path()).collect()
}

pub(super) fn beside(output: &Path, suffix: &str) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    output.with_file_name(name)
}

pub(super) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io(path.display().to_string(), e))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io(format!("{} to {}", from.display(), to.display()), e))
}

/// Writes a file whole: under another name first, so that a record never speaks of half a file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path, "tmp");
    let written = fs::File::create(&temporary).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written.map_err(|e| Error::io(temporary.display().to_string(), e))?;
    rename(&temporary, path)
}
