//! Questions to a clustered store: two rounds of reads, the second for the answer itself.
//!
//! ```text
//! centroids (in memory) → probes → round 1: code blocks → estimates → round 2: records → exact inner products → passages
//! ```
//!
//! Each round is planned ([`plan`]): of what might help, what is worth most within the requests and bytes that are left. Clusters that
//! lie between wanted ones come with them and are searched too; so are rows. Reads of a round run at once; dropping the future ends
//! them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use super::{
    cache::{Cache, Key},
    centroids::{self, Centroids},
    codes::{DEVIATION, Estimator, Rotation, code_bytes},
    fetch::{Fetch, Taken},
    format::{Block, Cluster, Manifest, Measured, Part, Place, Record, Table},
    plan::{Item, Read, covers, plan},
};
#[cfg(feature = "cli")]
use crate::retriever::hnsw;
use crate::{
    Error, Result,
    gpu::Gpu,
    order::sort_by,
    platform::LocalFuture,
    retriever::{
        files::Files,
        flat::{Scored, dot_f32},
        manifest::{FileInfo, MANIFEST, MAX_MANIFEST_BYTES},
    },
};

/// Rows that round 2 chooses from, by their estimates; more where more are asked for.
const CANDIDATES: usize = 512;
/// A cluster of rank r holds about (r + 1)^−1.4 of the best rows that the first one holds (202,218 Wikipedia passages, MiniLM).
const WORTH_FALLS: f64 = 1.4;

/// What a question may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Clusters with the best centroids that are wanted; none: as many as the store advises.
    pub probes: Option<usize>,
    /// Requests of both rounds.
    pub requests: usize,
    /// Requests of round 1.
    pub block_requests: usize,
    /// Bytes of both rounds.
    pub bytes: u64,
    /// Bytes of round 1.
    pub block_bytes: u64,
    /// All code blocks are read when the store is opened, if they take no more bytes than this: questions then look at every row, and
    /// need one round.
    pub preload: u64,
    /// Bytes of code blocks kept in memory for later questions.
    pub block_cache: usize,
    /// Bytes of records kept likewise.
    pub record_cache: usize,
}

impl Limits {
    /// Whether a question may take what those of the build's measurement took.
    fn as_measured(&self) -> bool {
        let measured = Self::default();
        self.requests >= measured.requests
            && self.block_requests >= measured.block_requests
            && self.bytes >= measured.bytes
            && self.block_bytes >= measured.block_bytes
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probes: None,
            requests: 20,
            block_requests: 9,
            bytes: 2_000_000,
            block_bytes: 1_400_000,
            preload: 16_000_000,
            block_cache: 48 << 20,
            record_cache: 16 << 20,
        }
    }
}

/// What a question took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// Bytes read; what was in memory costs nothing.
    pub bytes: u64,
    /// Requests, repetitions after failures not counted.
    pub requests: usize,
    /// Bytes that were kept of earlier questions, in [`Files::storage`].
    pub kept: u64,
    /// Whether the store could not be reached, and only what is kept was searched.
    pub partial: bool,
    /// Rounds of requests that waited for each other.
    pub rounds: usize,
    /// Clusters whose rows were looked at.
    pub clusters_searched: usize,
    /// Clusters of the store.
    pub clusters: usize,
}

/// The answer to a question.
#[derive(Debug)]
pub struct Found {
    /// The best records and their exact inner products, best first; ties in the order of rows.
    pub records: Vec<(Rc<Record>, f32)>,
    /// What it took.
    pub cost: Cost,
    /// Share of the ten best of exact search that such a search found when the store was built.
    pub expected_recall: Option<f32>,
}

/// An open clustered store.
pub struct Clusters {
    fetch: Fetch,
    manifest: Manifest,
    table: Table,
    centroids: Centroids,
    rotation: Rotation,
    limits: Limits,
    blocks: RefCell<Cache<Block>>,
    records: RefCell<Cache<Record>>,
    preloaded: bool,
    opened: Taken,
}

impl std::fmt::Debug for Clusters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clusters({}, {} passages)", self.name(), self.manifest.count)
    }
}

/// A row that was looked at.
struct Candidate {
    cluster: usize,
    row: usize,
    estimate: f32,
    /// Standard deviation of the estimate.
    deviation: f32,
}

impl Clusters {
    /// Reads manifest and centroids.
    pub fn open(files: Box<dyn Files>, limits: Limits) -> LocalFuture<'static, Result<Self>> {
        // Made here, not in every crate that awaits it.
        Box::pin(Self::read(files, limits))
    }

    async fn read(files: Box<dyn Files>, limits: Limits) -> Result<Self> {
        let source = files.open(MANIFEST, None).await?;
        if source.size() > MAX_MANIFEST_BYTES {
            let problem = format!("{} bytes, at most {MAX_MANIFEST_BYTES} expected", source.size());
            return Err(Error::input(source.name(), "size", problem));
        }
        let json = source.read(0, source.size() as usize).await?;
        let manifest = Manifest::parse(source.name(), &json)?;
        drop(source);
        let fetch = Fetch::new(files).await;
        let mut opened = Taken { bytes: json.len() as u64, requests: 1, kept: 0 };
        let (mut table, info) = (None, &manifest.table);
        let mut parse = |_: &Read, bytes: &[u8]| {
            info.verify(&info.file, bytes)?;
            table = Some(Table::parse(&manifest, bytes)?);
            Ok(())
        };
        fetch.read(&[info], &[Read { file: 0, bytes: 0..info.bytes }], &mut opened, &mut parse).await?;
        let table = table.expect("the range was read");
        let rotation = Rotation::new(manifest.dim, manifest.rotation);
        let blocks = RefCell::new(Cache::new(limits.block_cache));
        let records = RefCell::new(Cache::new(limits.record_cache));
        let codes = manifest.codes_bytes();
        let preloaded = codes <= limits.preload && codes <= limits.block_cache as u64;
        let centroids = Centroids::Scan;
        let mut clusters =
            Self { fetch, manifest, table, centroids, rotation, limits, blocks, records, preloaded, opened };
        if preloaded {
            let whole = |(file, part): (usize, &Part)| Read { file, bytes: 0..part.codes.bytes };
            let reads: Vec<Read> = clusters.manifest.parts.iter().enumerate().map(whole).collect();
            let mut taken = Taken::default();
            clusters.read_blocks(&reads, &mut taken).await?;
            clusters.opened.add(taken);
        }
        clusters.fetch.save().await;
        Ok(clusters)
    }

    /// Searches centroids on the GPU from now on, where they are so many that it is worth it and not all clusters are searched anyway.
    pub async fn centroids_on(&mut self, gpu: &Gpu) -> Result<()> {
        if self.table.clusters.len() >= centroids::GPU_FROM && !self.preloaded {
            self.centroids = Centroids::on_gpu(gpu, &self.table).await?;
        }
        Ok(())
    }

    /// Searches centroids by the store's graph of them from now on; an error where it has none.
    #[cfg(feature = "cli")]
    pub async fn centroids_by_graph(&mut self) -> Result<()> {
        let Some(info) = &self.manifest.graph else {
            let problem = format!("{} has no graph: cluster it with --centroid-graph", self.name());
            return Err(Error::config("search", problem));
        };
        let name = format!("{}/{}", self.name(), info.file);
        let ef = self.probes().max(hnsw::EF_SEARCH);
        self.centroids = Centroids::graph(&name, self.fetch.file(info).await?, &self.table, ef)?;
        Ok(())
    }

    /// What the store holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Folder or URL.
    pub fn name(&self) -> &str {
        self.fetch.files.name()
    }

    /// Clusters, in the order of the files.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Clusters that a question wants.
    pub fn probes(&self) -> usize {
        self.limits.probes.unwrap_or(self.manifest.probes)
    }

    /// What was measured at the build with all codes in memory, if they are; else for as many probes, or the next fewer.
    pub fn measured(&self) -> Option<&Measured> {
        let alike = self.manifest.measured.iter().filter(|m| m.preloaded == self.preloaded);
        alike.filter(|m| m.preloaded || m.probes <= self.probes()).max_by_key(|m| m.probes)
    }

    /// Whether all codes are in memory.
    pub fn preloaded(&self) -> bool {
        self.preloaded
    }

    /// What opening the store took, in bytes and requests.
    pub fn opened(&self) -> (u64, usize) {
        (self.opened.bytes, self.opened.requests)
    }

    /// The `k` records with the largest inner products that the limits allow to find; fewer only where the store has fewer, or
    /// where it cannot be reached and no more are kept.
    pub async fn find(&self, query: &[f32], k: usize) -> Result<Found> {
        assert_eq!(query.len(), self.manifest.dim, "a query's length");
        let (mut taken, mut rounds) = (Taken::default(), 0);
        // Why the store could not be reached, once it could not: it is not tried again then.
        let mut lost = None;
        let k = k.min(self.manifest.count as usize);
        // Every cluster has a row. Where all codes are in memory, all clusters are searched.
        let n = if self.preloaded { self.table.clusters.len() } else { self.probes().max(k) };
        let nearest = self.centroids.nearest(&self.table, query, n).await?;

        // Round 1: code blocks.
        let (mut blocks, items) = self.wanted_blocks(&nearest, k);
        let mut reads = plan(&items, self.limits.block_requests, self.limits.block_bytes);
        blocks.extend(loop {
            match self.read_blocks(&reads, &mut taken).await {
                Err(error) => reads = self.kept(error, &self.code_files(), &reads, &mut lost)?,
                Ok(found) => break found,
            }
        });
        rounds += usize::from(taken.requests > 0);

        // Round 2: records.
        let candidates = self.candidates(query, &nearest, &blocks, CANDIDATES.max(2 * k));
        let (mut records, mut items) = self.wanted_records(&candidates, &blocks, k);
        let requests = self.limits.requests.saturating_sub(taken.requests);
        let bytes = self.limits.bytes.saturating_sub(taken.bytes);
        let mut reads = plan(&items, requests, bytes);
        if records.len() + items.iter().filter(|item| covers(&reads, item)).count() < k {
            items.iter_mut().take(k.saturating_sub(records.len())).for_each(|item| item.required = true);
            reads = plan(&items, requests, bytes);
        }
        if lost.is_some() {
            reads = self.fetch.kept_parts(&self.record_files(), &reads).unwrap_or_default();
        }
        let before = taken.requests;
        records.extend(loop {
            match self.read_records(&reads, &blocks, &mut taken).await {
                Err(error) => reads = self.kept(error, &self.record_files(), &reads, &mut lost)?,
                Ok(found) => break found,
            }
        });
        rounds += usize::from(taken.requests > before);
        self.fetch.save().await;
        let partial = lost.is_some();
        if let Some(error) = lost.filter(|_| records.is_empty()) {
            return Err(error);
        }

        let mut scored: Vec<(Scored, Rc<Record>)> = records
            .into_iter()
            .map(|record| (Scored { row: record.row, score: record.vector.dot(0, query) }, record))
            .collect();
        sort_by(&mut scored, |a, b| a.0.order(&b.0));
        scored.dedup_by_key(|(scored, _)| scored.row);
        scored.truncate(k);
        let cost = Cost {
            bytes: taken.bytes,
            requests: taken.requests,
            kept: taken.kept,
            partial,
            rounds,
            clusters_searched: blocks.len(),
            clusters: self.table.clusters.len(),
        };
        let records = scored.into_iter().map(|(scored, record)| (record, scored.score)).collect();
        // Nothing was measured of more results, or within tighter limits, than the build had, or without the network.
        let measured = self.measured().filter(|_| k <= 10 && self.limits.as_measured() && !partial);
        Ok(Found { records, cost, expected_recall: measured.map(|measured| measured.recall_at_10) })
    }

    /// The code blocks of the clusters to probe: those in memory, and what there is to read.
    fn wanted_blocks(&self, nearest: &[Scored], k: usize) -> (Vec<(usize, Rc<Block>)>, Vec<Item>) {
        let order = || nearest.iter().map(|cluster| cluster.row as usize);
        let (mut blocks, mut items, mut rows) = (Vec::new(), Vec::new(), 0);
        // Those that this question wants become the last used, the best of them last of all; the others keep their place.
        let mut cache = self.blocks.borrow_mut();
        let wanted: Vec<usize> = order().take(self.probes()).collect();
        wanted.into_iter().rev().for_each(|c| drop(cache.get(Key::Block(c))));
        for (rank, c) in order().enumerate() {
            let required = rows < k;
            rows += self.table.clusters[c].rows;
            match cache.peek(Key::Block(c)) {
                Some(block) => blocks.push((c, block)),
                None if rank >= self.probes() && !required => {}
                None => {
                    let worth = (rank as f64 + 1.0).powf(-WORTH_FALLS);
                    let Read { file, bytes } = self.block_read(c);
                    items.push(Item { file, bytes, worth, required });
                }
            }
        }
        // What is in memory is looked at whatever its rank.
        let near: HashSet<usize> = order().collect();
        blocks.extend(cache.blocks().filter(|(c, _)| !near.contains(c)));
        (blocks, items)
    }

    fn block_read(&self, cluster: usize) -> Read {
        let Cluster { part, codes, .. } = &self.table.clusters[cluster];
        Read { file: *part, bytes: codes.clone() }
    }

    fn code_files(&self) -> Vec<&FileInfo> {
        self.manifest.parts.iter().map(|part| &part.codes).collect()
    }

    fn record_files(&self) -> Vec<&FileInfo> {
        self.manifest.parts.iter().map(|part| &part.records).collect()
    }

    /// What to go on with where the store cannot be reached: what is kept of these ranges, the less the more often it is asked (what
    /// is damaged goes). Without a place to keep anything, and with other errors, there is nothing.
    fn kept(&self, error: Error, files: &[&FileInfo], reads: &[Read], lost: &mut Option<Error>) -> Result<Vec<Read>> {
        match (&error, self.fetch.kept_parts(files, reads)) {
            (Error::Network { .. }, Some(kept)) => {
                *lost = Some(error);
                Ok(kept)
            }
            _ => Err(error),
        }
    }

    /// All code blocks in these ranges.
    async fn read_blocks(&self, reads: &[Read], taken: &mut Taken) -> Result<Vec<(usize, Rc<Block>)>> {
        let files = self.code_files();
        let mut blocks = Vec::new();
        let mut parse = |read: &Read, bytes: &[u8]| {
            let mut parsed = Vec::new();
            let from = self.table.clusters.partition_point(|c| (c.part, c.codes.start) < (read.file, read.bytes.start));
            for (number, cluster) in self.table.clusters.iter().enumerate().skip(from) {
                if cluster.part != read.file || cluster.codes.end > read.bytes.end {
                    break;
                }
                let at = |position: u64| (position - read.bytes.start) as usize;
                let block = &bytes[at(cluster.codes.start)..at(cluster.codes.end)];
                let name = &files[read.file].file;
                parsed.push((
                    number,
                    Rc::new(Block::parse(name, cluster, self.manifest.dim, self.manifest.bits, block)?),
                    block.len(),
                ));
            }
            for (number, block, bytes) in parsed {
                self.blocks.borrow_mut().put(Key::Block(number), block.clone(), bytes);
                blocks.push((number, block));
            }
            Ok(())
        };
        self.fetch.read(&files, reads, taken, &mut parse).await?;
        Ok(blocks)
    }

    /// The `most` rows with the best estimates, best first.
    fn candidates(
        &self,
        query: &[f32],
        nearest: &[Scored],
        blocks: &[(usize, Rc<Block>)],
        most: usize,
    ) -> Vec<Candidate> {
        let mut rotated = query.to_vec();
        self.rotation.apply(&mut rotated);
        let estimator = Estimator::new(&rotated, self.manifest.bits);
        let code_bytes = code_bytes(self.manifest.dim, self.manifest.bits);
        let deviation = DEVIATION * dot_f32(query, query).sqrt();
        let scores: HashMap<usize, f32> = nearest.iter().map(|cluster| (cluster.row as usize, cluster.score)).collect();
        let mut candidates = Vec::new();
        for (cluster, block) in blocks {
            // Those that lay between wanted ones, and those of earlier questions, may be far.
            let score = scores.get(cluster).copied().unwrap_or_else(|| self.table.centroids.dot(*cluster, query));
            let centre = self.table.clusters[*cluster].share * score;
            for (row, (factor, code)) in block.factors.iter().zip(block.codes.chunks_exact(code_bytes)).enumerate() {
                let estimate = centre + factor * estimator.product(code);
                candidates.push(Candidate { cluster: *cluster, row, estimate, deviation: deviation * factor });
            }
        }
        let better = |a: &Candidate, b: &Candidate| {
            b.estimate.total_cmp(&a.estimate).then((a.cluster, a.row).cmp(&(b.cluster, b.row)))
        };
        if candidates.len() > most {
            candidates.select_nth_unstable_by(most, better);
            candidates.truncate(most);
        }
        sort_by(&mut candidates, better);
        candidates
    }

    /// The records of candidates: those in memory, and what there is to read, best first.
    fn wanted_records(
        &self,
        candidates: &[Candidate],
        blocks: &[(usize, Rc<Block>)],
        k: usize,
    ) -> (Vec<Rc<Record>>, Vec<Item>) {
        let bar = candidates.get(k.saturating_sub(1)).map_or(f32::NEG_INFINITY, |candidate| candidate.estimate);
        let by_number: BTreeMap<usize, &Block> = blocks.iter().map(|(number, block)| (*number, &**block)).collect();
        let (mut records, mut items) = (Vec::new(), Vec::new());
        for candidate in candidates {
            if let Some(record) = self.records.borrow_mut().get(Key::Record(candidate.cluster, candidate.row)) {
                records.push(record);
                continue;
            }
            let cluster = &self.table.clusters[candidate.cluster];
            let bytes = by_number[&candidate.cluster].record(cluster, candidate.row);
            // About the chance to be among the best k. The k-th estimate is there by luck as well: less than half are as good as it.
            let above = f64::from((candidate.estimate - bar) / candidate.deviation.max(f32::MIN_POSITIVE));
            let worth = 1.0 / (1.0 + (-2.5 * (above - 0.3)).exp());
            items.push(Item { file: cluster.part, bytes, worth, required: false });
        }
        (records, items)
    }

    /// All records in these ranges of which the blocks are known.
    async fn read_records(
        &self,
        reads: &[Read],
        blocks: &[(usize, Rc<Block>)],
        taken: &mut Taken,
    ) -> Result<Vec<Rc<Record>>> {
        let files = self.record_files();
        let mut records = Vec::new();
        let mut parse = |read: &Read, bytes: &[u8]| {
            let mut parsed = Vec::new();
            for (number, block) in blocks {
                let cluster = &self.table.clusters[*number];
                let is_apart = cluster.records.end <= read.bytes.start || read.bytes.end <= cluster.records.start;
                if cluster.part != read.file || is_apart {
                    continue;
                }
                for row in 0..cluster.rows {
                    let place = block.record(cluster, row);
                    if place.start < read.bytes.start || read.bytes.end < place.end {
                        continue;
                    }
                    let at = |position: u64| (position - read.bytes.start) as usize;
                    let bytes = &bytes[at(place.start)..at(place.end)];
                    let record = self.record(*number, row, &files[read.file].file, place.start, bytes)?;
                    parsed.push((Key::Record(*number, row), Rc::new(record), bytes.len()));
                }
            }
            for (key, record, bytes) in parsed {
                self.records.borrow_mut().put(key, record.clone(), bytes);
                records.push(record);
            }
            Ok(())
        };
        self.fetch.read(&files, reads, taken, &mut parse).await?;
        Ok(records)
    }

    fn record(&self, cluster: usize, row: usize, file: &str, start: u64, bytes: &[u8]) -> Result<Record> {
        let place = Place { build: &self.manifest.build, cluster, row };
        Record::parse(file, start, place, self.manifest.dim, self.manifest.count, bytes)
    }

    /// Any one record, to compare encoders with; none where there is none.
    pub async fn any_record(&self) -> Result<Option<Rc<Record>>> {
        let Some(cluster) = self.table.clusters.first() else { return Ok(None) };
        let mut taken = Taken::default();
        let blocks = self.read_blocks(&[self.block_read(0)], &mut taken).await?;
        let read = Read { file: cluster.part, bytes: blocks[0].1.record(cluster, 0) };
        Ok(self.read_records(&[read], &blocks, &mut taken).await?.pop())
    }

    /// Reads every file and checks everything that can be checked; `progress` hears the bytes of each file.
    pub async fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let (mut ids, mut rows) = (HashSet::new(), HashSet::new());
        let (dim, bits) = (self.manifest.dim, self.manifest.bits);
        progress(self.manifest.table.bytes);
        #[cfg(feature = "cli")]
        if let Some(info) = &self.manifest.graph {
            Centroids::graph(&info.file, self.fetch.file(info).await?, &self.table, hnsw::EF_SEARCH)?;
            progress(info.bytes);
        }
        for (i, part) in self.manifest.parts.iter().enumerate() {
            let (codes, records) = (self.fetch.file(&part.codes).await?, self.fetch.file(&part.records).await?);
            for (number, cluster) in self.table.clusters.iter().enumerate().filter(|(_, cluster)| cluster.part == i) {
                let block = &codes[cluster.codes.start as usize..cluster.codes.end as usize];
                let block = Block::parse(&part.codes.file, cluster, dim, bits, block)?;
                for row in 0..cluster.rows {
                    let place = block.record(cluster, row);
                    let bytes = &records[place.start as usize..place.end as usize];
                    let name = &part.records.file;
                    let record = self.record(number, row, name, place.start, bytes)?;
                    let fail = |problem| Err(Error::input(name, format!("byte {}", place.start), problem));
                    if !rows.insert(record.row) {
                        return fail(format!("row {} is there twice", record.row));
                    }
                    if let Some(twice) = ids.replace(record.passage.id.clone()) {
                        return fail(format!("id {twice:?} is there twice"));
                    }
                }
            }
            progress(part.codes.bytes + part.records.bytes);
        }
        Ok(())
    }
}
