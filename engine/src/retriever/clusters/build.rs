//! Builds a clustered store from a flat one, in `OUTPUT.partial`, which becomes `OUTPUT` when it is whole.
//!
//! ```text
//! sample → k-means → rows to clusters, shard by shard → codes and records to their places, shard by shard → hashes → recall
//! ```
//!
//! Memory holds the sample, a shard and a few bytes a row. What is finished is kept: a build that was killed goes on after the last
//! finished step and shard, and gives the same bytes, as all is decided by seed and input.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use half::f16;
use serde::{Deserialize, Serialize};

use super::{
    codes::{Random, Rotation, encode},
    format::{
        Block, Cluster, MAX_BLOCK, MAX_CLUSTERS, MAX_RECORD, Manifest, Part, Place, Table, block_bytes, is_clustered,
        record_bytes, record_length,
    },
    kmeans::{self, Balance, CHOICES, Centroids},
    measure,
};
use crate::{
    Error, Result,
    platform::in_parallel,
    retriever::{
        build::{beside, check_replaceable, create_dir, rename, write},
        flat::dot_f32,
        hnsw,
        manifest::{FileInfo, MANIFEST, MAX_SHARD_BYTES, sha256_hex},
        store::Store,
        vectors::{Precision, Vectors},
    },
};

/// Rows of the sample for each cluster.
const SAMPLE: usize = 64;
/// Most bytes of the sample.
const SAMPLE_BYTES: usize = 1 << 30;
/// Centroids from which on scanning them without a GPU takes tens of milliseconds a question.
pub const GRAPH_FROM: usize = 100_000;
/// Rows that one thread encodes at a time.
const PIECE: usize = 64;

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of clusters; none: 4 · √rows.
    pub clusters: Option<usize>,
    /// Bits of a value in codes.
    pub bits: usize,
    /// Decides the sample, where k-means begins, and the rotation.
    pub seed: u64,
    /// Bytes of a file of records after which the next begins.
    pub part_bytes: u64,
    /// Probes of a question; none: the fewest that reach `recall`.
    pub probes: Option<usize>,
    /// The recall@10 that is wanted.
    pub recall: f32,
    /// Embedded questions to measure recall with; none: rows of the store.
    pub questions: Option<Vec<Vec<f32>>>,
    /// Whether to build a graph of the centroids; none: where they are [`GRAPH_FROM`] or more and the graph finds enough.
    pub graph: Option<bool>,
}

impl Default for Options {
    fn default() -> Self {
        let (part_bytes, recall) = (64 << 20, 0.95);
        Self { clusters: None, bits: 1, seed: 1, part_bytes, probes: None, recall, questions: None, graph: None }
    }
}

impl Options {
    /// Refuses what no store can have, before hours of work.
    fn check(&self) -> Result<()> {
        let bad = |name, problem: String| Err(Error::config(name, problem));
        if !(1..=4).contains(&self.bits) {
            return bad("bits", format!("{}, 1 to 4 expected", self.bits));
        }
        if self.probes == Some(0) {
            return bad("probes", "0, at least 1 expected".into());
        }
        // A part holds at least one cluster beyond its limit.
        if !(1..=MAX_SHARD_BYTES / 2).contains(&self.part_bytes) {
            return bad("part-mb", format!("{} bytes, 1 to {} expected", self.part_bytes, MAX_SHARD_BYTES / 2));
        }
        match self.clusters {
            Some(n) if n == 0 || n as u64 > MAX_CLUSTERS => {
                bad("clusters", format!("{n}, 1 to {MAX_CLUSTERS} expected"))
            }
            _ => Ok(()),
        }
    }
}

/// What a build tells while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Steps of k-means done, of how many.
    Trained(usize, usize),
    /// Shards whose rows have their clusters, of how many.
    Assigned(usize, usize),
    /// Shards written, of how many.
    Written(usize, usize),
    /// Everything is written; recall is measured.
    Measuring,
}

/// What an unfinished build belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    /// Hash of the flat store's manifest.
    store: String,
    clusters: usize,
    bits: usize,
    seed: u64,
    part_bytes: u64,
    /// Of the bytes that are written ([`ALGORITHM`]).
    algorithm: u32,
    /// Shards written.
    written: usize,
}

/// Raised with every change of what a build writes: half of one and half of another would be no store.
const ALGORITHM: u32 = 1;

/// Where a row goes.
#[derive(Debug, Clone, Copy)]
struct Placed {
    cluster: u32,
    /// Bytes of its record.
    bytes: u32,
}

/// Builds a clustered store at `output` and gives its manifest.
pub async fn build(
    store: &Store,
    output: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    options.check()?;
    check_replaceable(output)?;
    if let Ok(json) = fs::read(output.join(MANIFEST)) {
        let name = output.join(MANIFEST).display().to_string();
        if !is_clustered(&json) {
            return Err(Error::input(name, "format", "a store that is not clustered: choose an empty or new folder"));
        }
        // What its files are must be known before others can be told from them; a damaged store is the user's to remove.
        Manifest::parse(&name, &json)?;
    }
    let count = store.manifest().count as usize;
    let clusters = options.clusters.unwrap_or_else(|| (4.0 * (count as f64).sqrt()) as usize).clamp(1, count.max(1));
    if count == 0 {
        return Err(Error::input(store.name(), "count", "a store without passages cannot be clustered"));
    }
    let partial = beside(output, "partial");
    let (bits, seed, part_bytes) = (options.bits, options.seed, options.part_bytes);
    let source = sha256_hex(&store.manifest().to_json());
    let mut work = Work {
        store,
        folder: partial.clone(),
        state: State { store: source, clusters, bits, seed, part_bytes, algorithm: ALGORITHM, written: 0 },
    };
    work.resume()?;
    let centroids = work.train(progress).await?;
    let (mut placed, sums) = work.assign(&centroids, progress).await?;
    let layout = Layout::new(store, &work.state, &mut placed, &sums)?;
    work.write(&layout, &placed, progress).await?;
    let mut manifest = work.seal(layout, options.graph)?;
    progress(Progress::Measuring);
    measure::at_build(store, &partial, &mut manifest, options).await?;
    write(&partial.join(MANIFEST), &manifest.to_json())?;
    work.publish(output)?;
    Ok(manifest)
}

struct Work<'a> {
    store: &'a Store,
    folder: PathBuf,
    state: State,
}

impl Work<'_> {
    /// Takes over what an interrupted build of the same store left, or begins with an empty folder.
    fn resume(&mut self) -> Result<()> {
        let path = self.folder.join(STATE);
        if let Some(state) = fs::read(&path).ok().and_then(|json| serde_json::from_slice::<State>(&json).ok()) {
            let written = state.written;
            if state == (State { written, store: self.state.store.clone(), ..self.state }) {
                self.state = state;
                return Ok(());
            }
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).map_err(|e| Error::io(self.folder.display().to_string(), e))?;
        }
        create_dir(&self.folder)?;
        self.save()
    }

    fn save(&self) -> Result<()> {
        write(&self.folder.join(STATE), &serde_json::to_vec(&self.state).expect("plain fields"))
    }

    /// A file of 32-bit values that an earlier run finished, if it is there and whole.
    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.folder.join(name)).ok()?;
        let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(64)?)?;
        (sha256_hex(content).as_bytes() == hash).then(|| content.to_vec())
    }

    fn keep(&self, name: &str, mut content: Vec<u8>) -> Result<()> {
        let hash = sha256_hex(&content);
        content.extend(hash.as_bytes());
        write(&self.folder.join(name), &content)
    }

    async fn train(&self, progress: &mut dyn FnMut(Progress)) -> Result<Centroids> {
        let dim = self.store.manifest().dim;
        let floats = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if let Some(bytes) = self.kept(CENTROIDS) {
            return Ok(Centroids { dim, values: floats(&bytes) });
        }
        let sample = self.sample().await?;
        let centroids = kmeans::train(&sample, dim, self.state.clusters, self.state.seed, &mut |step, steps| {
            progress(Progress::Trained(step, steps));
        });
        self.keep(CENTROIDS, centroids.values.iter().flat_map(|x| x.to_le_bytes()).collect())?;
        Ok(centroids)
    }

    /// Rows at random, each as likely as the other (rows, dim).
    async fn sample(&self) -> Result<Vec<f32>> {
        let manifest = self.store.manifest();
        let most = SAMPLE_BYTES / (4 * manifest.dim);
        let mut wanted = (self.state.clusters * SAMPLE).min(most.max(self.state.clusters)).min(manifest.count as usize);
        let (mut left, mut random) = (manifest.count, Random(self.state.seed ^ 0x5a));
        let mut sample = Vec::with_capacity(wanted * manifest.dim);
        for shard in 0..self.store.shards() {
            let vectors = self.store.vectors(shard, self.store.precision()).await?;
            for row in 0..vectors.rows() {
                if random.next() % left < wanted as u64 {
                    sample.extend(vectors.row(row));
                    wanted -= 1;
                }
                left -= 1;
            }
        }
        Ok(sample)
    }

    /// Every row's cluster, and the sums of each cluster's rows and of their lengths.
    async fn assign(&self, centroids: &Centroids, progress: &mut dyn FnMut(Progress)) -> Result<(Vec<Placed>, Sums)> {
        let (shards, dim) = (self.store.shards(), self.store.manifest().dim);
        let mut balance = Balance::new(self.store.manifest().count as usize, centroids.rows());
        let mut sums = Sums { values: vec![0.0; centroids.values.len()], lengths: vec![0.0; centroids.rows()] };
        let mut placed = Vec::new();
        for shard in 0..shards {
            let name = format!("rows-{shard:05}.bin");
            let vectors = self.store.vectors(shard, self.store.precision()).await?;
            let rows: Vec<f32> = (0..vectors.rows()).flat_map(|row| vectors.row(row)).collect();
            let first = placed.len();
            match self.kept(&name) {
                Some(bytes) => {
                    let u32s = bytes.as_chunks::<4>().0;
                    let pair = |pair: &[[u8; 4]]| Placed {
                        cluster: u32::from_le_bytes(pair[0]),
                        bytes: u32::from_le_bytes(pair[1]),
                    };
                    placed.extend(u32s.chunks_exact(2).map(pair));
                    placed[first..].iter().for_each(|row| balance.sizes[row.cluster as usize] += 1);
                }
                None => {
                    let choices = centroids.nearest(&rows, CHOICES.min(centroids.rows()));
                    let (_, lines) = self.store.lines(shard).await?;
                    if let Some(row) = lines.iter().position(|l| record_length(dim, l.len()) as u64 > MAX_RECORD) {
                        let (place, length) = (format!("row {}", first + row), lines[row].len());
                        let problem = format!("a passage of {length} bytes, {MAX_RECORD} at most with its vector");
                        return Err(Error::input(self.store.name(), place, problem));
                    }
                    placed.extend(choices.iter().zip(&lines).map(|(choices, line)| Placed {
                        cluster: balance.place(choices),
                        bytes: record_length(dim, line.len()) as u32,
                    }));
                    let pair = |row: &Placed| [row.cluster.to_le_bytes(), row.bytes.to_le_bytes()];
                    self.keep(&name, placed[first..].iter().flat_map(pair).flatten().collect())?;
                }
            }
            for (row, placed) in rows.chunks_exact(dim).zip(&placed[first..]) {
                sums.add(placed.cluster as usize, row);
            }
            progress(Progress::Assigned(shard + 1, shards));
        }
        Ok((placed, sums))
    }

    /// Codes and records, shard by shard, each to its place.
    async fn write(&mut self, layout: &Layout, placed: &[Placed], progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let (shards, dim, bits) = (self.store.shards(), self.store.manifest().dim, self.state.bits);
        let files = PartFiles::open(&self.folder, &layout.parts)?;
        let rotation = Rotation::new(dim, layout.manifest.rotation);
        let code_bytes = super::codes::code_bytes(dim, bits);
        // Rows of each cluster so far, and bytes of their records.
        let mut next = vec![(0usize, 0u64); layout.table.clusters.len()];
        let mut first = 0;
        for shard in 0..shards {
            let rows = self.store.manifest().shards[shard].rows as usize;
            let places: Vec<(usize, u64)> = placed[first..first + rows]
                .iter()
                .map(|row| {
                    let next = &mut next[row.cluster as usize];
                    let place = *next;
                    *next = (place.0 + 1, place.1 + u64::from(row.bytes));
                    place
                })
                .collect();
            if shard >= self.state.written {
                let vectors = self.int8(shard).await?;
                let (text, lines) = self.store.lines(shard).await?;
                let failure = std::sync::Mutex::new(None);
                in_parallel(places.chunks(PIECE).enumerate(), |(piece, places)| {
                    for (i, (slot, start)) in places.iter().enumerate() {
                        let row = piece * PIECE + i;
                        let cluster = &layout.table.clusters[placed[first + row].cluster as usize];
                        let mean = layout.mean(placed[first + row].cluster as usize);
                        let mut residual: Vec<f32> = vectors.row(row).iter().zip(mean).map(|(x, c)| x - c).collect();
                        rotation.apply(&mut residual);
                        let mut code = Vec::with_capacity(code_bytes);
                        let factor = encode(&residual, bits, &mut code).min(f16::MAX.to_f32());
                        let mut vector = Vectors::new(Precision::Int8, dim);
                        vector.extend_rows(&vectors, row..row + 1);
                        let number = placed[first + row].cluster as usize;
                        let place = Place { build: &layout.manifest.build, cluster: number, row: *slot };
                        let record = record_bytes(place, (first + row) as u32, &vector, &text[lines[row].clone()]);
                        let factor = f16::from_f32(factor).to_le_bytes();
                        let length = (record.len() as u16).to_le_bytes();
                        let columns = Block::columns(cluster.rows, *slot, code_bytes).into_iter();
                        let columns = columns.zip([&factor[..], &length, &code]);
                        let columns = columns.map(|(at, bytes)| (cluster.codes.start + at, bytes));
                        let (codes, records) = &files.0[cluster.part];
                        let written = columns
                            .map(|(at, bytes)| codes.write_all_at(bytes, at))
                            .chain([records.write_all_at(&record, cluster.records.start + start)])
                            .collect::<std::io::Result<()>>();
                        if let Err(error) = written {
                            *failure.lock().expect("no holder panics") = Some(error);
                        }
                    }
                });
                if let Some(error) = failure.into_inner().expect("no holder panics") {
                    return Err(Error::io(self.folder.display().to_string(), error));
                }
                files.sync(&self.folder)?;
                self.state.written = shard + 1;
                self.save()?;
            }
            first += rows;
            progress(Progress::Written(shard + 1, shards));
        }
        Ok(())
    }

    /// A shard's vectors as int8: the flat store's own, or rounded now.
    async fn int8(&self, shard: usize) -> Result<Vectors> {
        let precisions = self.store.manifest().precisions();
        if precisions.contains(&Precision::Int8) {
            return self.store.vectors(shard, Precision::Int8).await;
        }
        let vectors = self.store.vectors(shard, self.store.precision()).await?;
        let mut rounded = Vectors::new(Precision::Int8, vectors.dim());
        (0..vectors.rows()).for_each(|row| rounded.push(&vectors.row(row)));
        Ok(rounded)
    }

    /// Hashes of everything, from the block to the manifest.
    fn seal(&self, mut layout: Layout, graph: Option<bool>) -> Result<Manifest> {
        let mut clusters = layout.table.clusters.iter_mut();
        for part in &mut layout.parts {
            let codes = read(&self.folder, &part.codes.file)?;
            for cluster in clusters.by_ref().take(part.clusters as usize) {
                cluster.check = Block::check(&codes[cluster.codes.start as usize..cluster.codes.end as usize]);
            }
            part.codes = FileInfo::of(&part.codes.file, &codes);
            part.records = FileInfo::of(&part.records.file, &read(&self.folder, &part.records.file)?);
        }
        let mut manifest = layout.manifest;
        let table = layout.table.to_bytes();
        manifest.table = FileInfo::of("clusters.bin", &table);
        manifest.parts = layout.parts;
        write(&self.folder.join(&manifest.table.file), &table)?;
        let centroids = layout.table.centroids;
        if graph.unwrap_or(centroids.rows() >= GRAPH_FROM) {
            match hnsw::build(&Arc::new(centroids), hnsw::EF_SEARCH) {
                // Nobody asked for it: scanning finds all.
                Err(Error::Recall { .. }) if graph.is_none() => {}
                built => {
                    let (bytes, _) = built?;
                    let info = FileInfo::of("graph.bin", &bytes);
                    write(&self.folder.join(&info.file), &bytes)?;
                    manifest.graph = Some(info);
                }
            }
        }
        write(&self.folder.join(MANIFEST), &manifest.to_json())?;
        Ok(manifest)
    }

    /// Takes away what only the build needs, and puts the folder in its place.
    fn publish(&self, output: &Path) -> Result<()> {
        let rows = (0..self.store.shards()).map(|shard| format!("rows-{shard:05}.bin"));
        for name in rows.chain([CENTROIDS.into(), STATE.into()]) {
            let path = self.folder.join(name);
            fs::remove_file(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
        }
        if output.exists() {
            let old = beside(output, "old");
            rename(output, &old)?;
            if let Err(error) = rename(&self.folder, output) {
                rename(&old, output)?;
                return Err(error);
            }
            // Files that the old store did not know (a licence, say) move along.
            let known = fs::read(old.join(MANIFEST)).ok().and_then(|json| Manifest::parse(MANIFEST, &json).ok());
            for entry in known.iter().flat_map(|_| fs::read_dir(&old).into_iter().flatten().flatten()) {
                let (name, to) = (entry.file_name(), output.join(entry.file_name()));
                let is_its_own = known.iter().flat_map(Manifest::files).any(|file| file == name.to_string_lossy());
                if !is_its_own && !to.exists() {
                    rename(&entry.path(), &to)?;
                }
            }
            return fs::remove_dir_all(&old).map_err(|e| Error::io(old.display().to_string(), e));
        }
        rename(&self.folder, output)
    }
}

const STATE: &str = "build.json";
const CENTROIDS: &str = "centroids.bin";

/// Sums over the rows of each cluster.
struct Sums {
    /// (clusters, dim)
    values: Vec<f64>,
    /// Of the rows' lengths.
    lengths: Vec<f64>,
}

impl Sums {
    fn add(&mut self, cluster: usize, row: &[f32]) {
        let sums = &mut self.values[cluster * row.len()..(cluster + 1) * row.len()];
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        self.lengths[cluster] += f64::from(dot_f32(row, row).sqrt());
    }
}

/// Where everything goes, clusters numbered in the order of the files.
struct Layout {
    manifest: Manifest,
    table: Table,
    parts: Vec<Part>,
    /// What residuals are to (clusters, dim).
    means: Vec<f32>,
}

impl Layout {
    /// Gives clusters their places, and renumbers `placed` from k-means' numbers to those of the places.
    fn new(store: &Store, state: &State, placed: &mut [Placed], sums: &Sums) -> Result<Self> {
        let flat = store.manifest();
        let (dim, bits) = (flat.dim, state.bits);
        let mut sizes = vec![(0usize, 0u64); sums.lengths.len()];
        for row in placed.iter() {
            let size = &mut sizes[row.cluster as usize];
            *size = (size.0 + 1, size.1 + u64::from(row.bytes));
        }
        let used: Vec<usize> = (0..sizes.len()).filter(|c| sizes[*c].0 > 0).collect();
        let mean = |c: usize| -> Vec<f32> {
            sums.values[c * dim..(c + 1) * dim].iter().map(|x| (x / sizes[c].0 as f64) as f32).collect()
        };
        let order = kmeans::near_each_other(
            &Centroids { dim, values: used.iter().flat_map(|c| mean(*c)).collect() },
            state.seed,
        );

        let mut manifest = Manifest::new(dim, flat.encoder.clone(), bits, state.seed);
        manifest.build = sha256_hex(&serde_json::to_vec(&State { written: 0, ..state.clone() }).expect("plain fields"));
        (manifest.count, manifest.clusters) = (flat.count, used.len() as u64);
        let mut table = Table { clusters: Vec::new(), centroids: Vectors::new(Precision::Int8, dim) };
        let (mut parts, mut means, mut numbers) = (Vec::<Part>::new(), Vec::new(), vec![u32::MAX; sizes.len()]);
        let (mut codes, mut records) = (0, 0);
        for (number, old) in order.iter().map(|i| used[*i as usize]).enumerate() {
            let (rows, bytes) = sizes[old];
            let block = block_bytes(rows, dim, bits);
            if block > MAX_BLOCK || bytes > MAX_SHARD_BYTES {
                let problem =
                    format!("a cluster of {rows} rows and {bytes} bytes of records; more clusters are needed");
                return Err(Error::config("clusters", problem));
            }
            if parts.is_empty() || (records > 0 && records + bytes > state.part_bytes) {
                let (i, part) = (parts.len(), |name: &str| FileInfo::of(name, &[]));
                let (of_codes, of_records) = (format!("codes-{i:05}.bin"), format!("records-{i:05}.bin"));
                parts.push(Part { clusters: 0, codes: part(&of_codes), records: part(&of_records) });
                (codes, records) = (0, 0);
            }
            let (part, index) = (parts.len() - 1, parts.len() - 1);
            let (from, records_from) = (codes, records);
            (codes, records) = (codes + block, records + bytes);
            parts[index].clusters += 1;
            (parts[index].codes.bytes, parts[index].records.bytes) = (codes, records);
            // The mean's direction at the members' mean length.
            let mean = mean(old);
            let (length, wanted) = (dot_f32(&mean, &mean).sqrt(), (sums.lengths[old] / rows as f64) as f32);
            let scale = if length > 0.0 { wanted / length } else { 0.0 };
            table.centroids.push(&mean.iter().map(|x| x * scale).collect::<Vec<_>>());
            let centroid = table.centroids.row(number);
            let share = dot_f32(&mean, &centroid) / dot_f32(&centroid, &centroid);
            let share = if share.is_finite() { share } else { 0.0 };
            means.extend(centroid.iter().map(|x| x * share));
            let (codes, records) = (from..codes, records_from..records);
            table.clusters.push(Cluster { part, rows, codes, records, check: [0; 8], share });
            numbers[old] = number as u32;
        }
        placed.iter_mut().for_each(|row| row.cluster = numbers[row.cluster as usize]);
        Ok(Self { manifest, table, parts, means })
    }

    fn mean(&self, cluster: usize) -> &[f32] {
        let dim = self.manifest.dim;
        &self.means[cluster * dim..(cluster + 1) * dim]
    }
}

/// The parts' files while they are written: codes and records.
struct PartFiles(Vec<(fs::File, fs::File)>);

impl PartFiles {
    /// Opens all files at their full length.
    fn open(folder: &Path, parts: &[Part]) -> Result<Self> {
        let open = |info: &FileInfo| {
            let path = folder.join(&info.file);
            let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let sized = file.and_then(|file| file.set_len(info.bytes).map(|()| file));
            sized.map_err(|e| Error::io(path.display().to_string(), e))
        };
        parts.iter().map(|part| Ok((open(&part.codes)?, open(&part.records)?))).collect::<Result<_>>().map(Self)
    }

    fn sync(&self, folder: &Path) -> Result<()> {
        let mut files = self.0.iter().flat_map(|(codes, records)| [codes, records]);
        files.try_for_each(fs::File::sync_data).map_err(|e| Error::io(folder.display().to_string(), e))
    }
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    fs::read(&path).map_err(|e| Error::io(path.display().to_string(), e))
}
