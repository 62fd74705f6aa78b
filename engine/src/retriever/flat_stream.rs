//! Exact search over more vectors than the GPU has memory for: as many rows as fit stay there, the rest waits in host memory and is
//! sent for each pass, in chunks, each scored for all questions before the next takes its place.
//!
//! Cost: a pass of up to [`MOST_AT_ONCE`] questions is bound by the bus, streamed bytes by its 10 to 50 GB/s; scores and order are
//! those of a search with all rows on the GPU, since both run the same kernels and no row's score depends on its neighbours. The
//! host fills one staging buffer while the GPU takes the other's chunk and scores it. The GPU itself does one after the other (wgpu
//! has one queue): scoring a chunk takes 2 % of the time that sending it does.

use std::{collections::VecDeque, fmt, ops::Range};

use super::{
    flat::{Scored, TopK},
    flat_gpu::{Asked, Filling, FlatGpu, Plan, format, rows_of},
    store::Store,
    vectors::{Precision, Vectors},
};
use crate::{
    Error, Result,
    error::GpuError,
    gpu::{Gpu, Uploads},
    ops::{self, HostRows, MOST_QUESTIONS, ROW_TILE, RowBlock},
    platform::{available_memory, in_parallel, now_ms},
};

/// Most questions of a pass over the streamed rows.
pub const MOST_AT_ONCE: usize = 64;
/// Staging buffers: one is filled while the other is copied from.
const STAGES: usize = 2;
/// Chunks that take GPU memory: those under way, and the one that is scored.
const SLOTS: u64 = STAGES as u64 + 1;
/// Largest chunk: a submission's cost is nothing beside 5 ms of the bus.
const CHUNK_BYTES: u64 = 256 << 20;
/// What a chunk's scores take stays small beside narrow rows too.
const CHUNK_ROWS: usize = 1 << 20;
/// A chunk is at most this part of the memory allowed.
const CHUNK_SHARE: u64 = 32;
/// Parts of all rows by which less and less is tried where memory is refused.
const STEPS: u64 = 16;
/// Results of a search that is made ready before it is known how many are wanted.
const USUAL_BEST: usize = 100;

/// What a search in part from host memory costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Streaming {
    /// Bytes of the rows that stay on the GPU.
    pub resident_bytes: u64,
    /// Bytes of the rows that are sent to it in each pass.
    pub streamed_bytes: u64,
    /// Passes so far, each for up to [`MOST_AT_ONCE`] questions.
    pub passes: u64,
    /// Seconds that they took, resident rows included.
    pub secs: f64,
}

impl Streaming {
    /// Gigabytes sent a second of all passes; none before the first.
    pub fn gb_per_sec(&self) -> Option<f64> {
        (self.passes > 0).then(|| self.streamed_bytes as f64 * self.passes as f64 / self.secs / 1e9)
    }
}

impl fmt::Display for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb =
            |bytes: u64| if bytes < 10_000_000_000 { (bytes as f64 / 1e6, "MB") } else { (bytes as f64 / 1e9, "GB") };
        let ((resident, unit), (streamed, streamed_unit)) = (mb(self.resident_bytes), mb(self.streamed_bytes));
        write!(
            f,
            "{resident:.1} {unit} of vectors stay on the GPU, {streamed:.1} {streamed_unit} are streamed from host memory "
        )?;
        write!(f, "in each search of up to {MOST_AT_ONCE} questions")?;
        if let Some(rate) = self.gb_per_sec() {
            write!(f, ": {:.3} s, {rate:.2} GB/s", self.secs / self.passes as f64)?;
        }
        Ok(())
    }
}

/// A store's vectors, on the GPU as far as there is room.
#[derive(Debug)]
pub struct FlatStream {
    gpu: Gpu,
    resident: FlatGpu,
    /// None where everything is resident.
    rest: Option<Rest>,
}

/// Rows that are streamed.
#[derive(Debug)]
struct Rest {
    chunks: Vec<HostRows>,
    /// Where they are scored, one after the other.
    slot: RowBlock,
    uploads: Uploads,
    /// For `k` results: rows of the chunk, room for questions, and the search.
    plans: Vec<(usize, usize, Plan)>,
    k: usize,
    passes: u64,
    secs: f64,
}

/// Which rows stay, and how many a chunk has, 0 where all stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    resident: usize,
    chunk: usize,
}

impl Split {
    /// For `rows` rows whose tiles take `tile` bytes, on a GPU with `limit` bytes for vectors, staging and the chunk that is scored. A
    /// chunk is a tile at least, whatever the limit.
    fn new(rows: usize, tile: u64, limit: u64, most_rows: usize) -> Self {
        if rows.div_ceil(ROW_TILE) as u64 * tile <= limit {
            return Self { resident: rows, chunk: 0 };
        }
        let most = (most_rows.min(CHUNK_ROWS) / ROW_TILE) as u64;
        let tiles = ((limit / CHUNK_SHARE).min(CHUNK_BYTES) / tile).clamp(1, most.max(1));
        let resident = limit.saturating_sub(SLOTS * tiles * tile) / tile;
        Self { resident: (resident as usize).saturating_mul(ROW_TILE).min(rows), chunk: tiles as usize * ROW_TILE }
    }
}

impl FlatStream {
    /// Loads a store's vectors. `limit`: bytes of GPU memory that they, staging and the chunk that is scored may take; without it, as
    /// much as the GPU gives, less a part for others. What a search writes comes on top. `progress` hears the rows of each shard.
    pub async fn load(
        gpu: &Gpu,
        store: &Store,
        precision: Precision,
        limit: Option<u64>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let manifest = store.manifest();
        let (size, mut shards) = ((precision, manifest.dim, manifest.count as usize), 0..store.shards());
        let next = async || {
            let Some(shard) = shards.next() else { return Ok(None) };
            let vectors = store.vectors(shard, precision).await?;
            progress(vectors.rows() as u64);
            Ok(Some(vectors))
        };
        Self::of(gpu, size, limit, next).await
    }

    /// The same of `rows` rows that come in pieces.
    pub async fn of(
        gpu: &Gpu,
        (precision, dim, rows): (Precision, usize, usize),
        limit: Option<u64>,
        mut next: impl AsyncFnMut() -> Result<Option<Vectors>>,
    ) -> Result<Self> {
        // More would be promised and, when it is written, end the process. A tenth is left to others, and to a shard, as a file and read.
        let most_host = available_memory().map_or(u64::MAX, |bytes| bytes / 10 * 9);
        let mut flat = Self::with_rows(gpu, (precision, dim, rows), limit, most_host).await?;
        let left = flat.rest.iter().flat_map(|rest| &rest.chunks).map(HostRows::left).sum::<usize>();
        if flat.resident.rows() + left < rows {
            let streamed = rows - flat.resident.rows();
            let bytes = streamed.div_ceil(ROW_TILE) as u64 * RowBlock::tile_bytes(dim, format(precision));
            let problem =
                format!("{bytes} bytes for {streamed} rows that the GPU has no room for, {most_host} are free");
            return Err(Error::io("host memory", problem));
        }
        let mut filling = Filling::new(&flat.resident, 0, precision);
        let (mut room, mut chunks) = (flat.resident.rows(), flat.rest.iter_mut().flat_map(|rest| &mut rest.chunks));
        let mut chunk = chunks.next();
        while let Some(vectors) = next().await? {
            let stay = vectors.rows().min(room);
            if stay == vectors.rows() {
                filling.append(&vectors).await?;
            } else if stay > 0 {
                let mut part = Vectors::new(precision, dim);
                part.extend_rows(&vectors, 0..stay);
                filling.append(&part).await?;
            }
            room -= stay;
            let mut at = stay;
            while at < vectors.rows() {
                let to = chunk.as_mut().expect("as many rows as there is room for");
                let end = (at + to.left()).min(vectors.rows());
                to.append(rows_of(&vectors).slice(at..end, dim));
                at = end;
                if to.left() == 0 {
                    chunk = chunks.next();
                }
            }
        }
        filling.finish().await?;
        flat.measure().await?;
        Ok(flat)
    }

    /// Room for rows of a precision and dimension, those on the GPU zeros until [`FlatStream::fill`]. Where those for the host take more than
    /// `most_host` bytes there are fewer rows.
    pub async fn with_rows(
        gpu: &Gpu,
        (precision, dim, rows): (Precision, usize, usize),
        limit: Option<u64>,
        most_host: u64,
    ) -> Result<Self> {
        let tile = RowBlock::tile_bytes(dim, format(precision));
        let all = rows.div_ceil(ROW_TILE) as u64 * tile;
        let most_rows = RowBlock::max_rows(gpu, dim, format(precision));
        let room = async |limit| {
            // What was taken before a refusal is free when the device has heard of it.
            gpu.flush().await?;
            let split = Split::new(rows, tile, limit, most_rows);
            gpu.if_room(|| {
                let mut resident = FlatGpu::with_rows(gpu, precision, dim, split.resident)?;
                resident.prepare(MOST_QUESTIONS, USUAL_BEST)?;
                // Not more than there will be.
                let chunk = split.chunk.min(rows - split.resident);
                Ok((resident, (chunk > 0).then(|| RowBlock::new(gpu, chunk, dim, format(precision))).transpose()?))
            })
            .await
        };
        let (resident, slot) = match limit {
            Some(limit) => room(limit).await?,
            None => widest(all, room).await?,
        }
        .ok_or_else(|| GpuError::OutOfMemory(format!("no room for a search of {rows} rows in {limit:?} bytes")))?;
        let mut rest = None;
        if let Some(slot) = slot {
            let streamed = (rows - resident.rows()).min((most_host / tile).saturating_mul(ROW_TILE as u64) as usize);
            let mut chunks = Vec::new();
            for first in (0..streamed).step_by(slot.rows()) {
                chunks.push(HostRows::new(slot.rows().min(streamed - first), dim, format(precision))?);
            }
            let uploads = Uploads::with_stages(gpu, slot.bytes() + 256, STAGES);
            rest = Some(Rest { chunks, slot, uploads, plans: Vec::new(), k: 0, passes: 0, secs: 0.0 });
        }
        Ok(Self { gpu: gpu.clone(), resident, rest })
    }

    /// Fills all rows with these, over and over: every byte that is streamed has its own place in host memory.
    pub async fn fill(&mut self, vectors: &Vectors) -> Result<()> {
        if self.resident.rows() > 0 {
            self.resident.fill(vectors).await?;
        }
        if let Some(rest) = &mut self.rest {
            let rows = vectors.rows();
            let mut piece = HostRows::new(rows, vectors.dim(), format(vectors.precision()))?;
            piece.append(rows_of(vectors));
            in_parallel(rest.chunks.iter_mut(), |chunk| chunk.repeat(&piece));
        }
        Ok(())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.resident.rows() + self.rest.iter().flat_map(|rest| &rest.chunks).map(HostRows::rows).sum::<usize>()
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> u64 {
        self.resident.bytes() + self.streaming().map_or(0, |streaming| streaming.streamed_bytes)
    }

    /// What is streamed and what that cost so far; none where all rows are on the GPU.
    pub fn streaming(&self) -> Option<Streaming> {
        let Rest { chunks, passes, secs, .. } = self.rest.as_ref()?;
        let streamed_bytes = chunks.iter().map(HostRows::bytes).sum();
        Some(Streaming { resident_bytes: self.resident.bytes(), streamed_bytes, passes: *passes, secs: *secs })
    }

    /// The `k` best rows for each question, best first, ties to the lower row.
    pub async fn search(&mut self, questions: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Scored>>> {
        let k = k.min(self.rows());
        let Some(rest) = &mut self.rest else { return self.resident.search(questions, k).await };
        let mut results = Vec::new();
        for questions in questions.chunks(MOST_AT_ONCE).filter(|_| k > 0) {
            let start = now_ms();
            let mut best: Vec<TopK> = questions.iter().map(|_| TopK::new(k)).collect();
            for (found, best) in self.resident.search(questions, k).await?.into_iter().zip(&mut best) {
                found.into_iter().for_each(|scored| best.push(scored));
            }
            let all = 0..rest.chunks.len();
            rest.pass(&self.gpu, self.resident.rows(), all, questions, k, &mut best).await?;
            results.extend(best.into_iter().map(TopK::finish));
            rest.passes += 1;
            rest.secs += (now_ms() - start) / 1e3;
        }
        results.resize(questions.len(), Vec::new());
        Ok(results)
    }

    /// Finds out what a search costs, and that there is memory for it.
    async fn measure(&mut self) -> Result<()> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let question = vec![vec![1.0; rest.slot.dim()]];
        // Compiling and the first touch of staging memory are no part of it.
        let some = 0..rest.chunks.len().min(STAGES);
        rest.pass(&self.gpu, 0, some, &question, USUAL_BEST, &mut [TopK::new(0)]).await?;
        self.search(&question, USUAL_BEST).await.map(drop)
    }
}

impl Rest {
    /// Offers the rows of some chunks to the questions' best; the first row that is streamed has number `first`.
    async fn pass(
        &mut self,
        gpu: &Gpu,
        first: usize,
        chunks: Range<usize>,
        questions: &[Vec<f32>],
        k: usize,
        best: &mut [TopK],
    ) -> Result<()> {
        if self.k != k {
            (self.k, self.plans) = (k, Vec::new());
        }
        let groups = questions.len().div_ceil(MOST_QUESTIONS);
        let mut first = first + chunks.start * self.slot.rows();
        let mut under_way: VecDeque<(usize, u32, Asked)> = VecDeque::new();
        for chunk in chunks {
            self.slot.take(&mut self.uploads, &self.chunks[chunk]).await?;
            let rows = self.chunks[chunk].rows();
            for (group, questions) in questions.chunks(MOST_QUESTIONS).enumerate() {
                let plan = self.plan(gpu, rows, ops::question_rows(questions.len()), k.min(rows))?;
                under_way.push_back((group, first as u32, plan.ask(gpu, questions)));
            }
            first += rows;
            // The chunk before is at its end when this one's copy begins.
            while under_way.len() > groups {
                let (group, first, asked) = under_way.pop_front().expect("there are some");
                asked.offer(gpu, first, &mut best[group * MOST_QUESTIONS..]).await?;
            }
        }
        for (group, first, asked) in under_way {
            asked.offer(gpu, first, &mut best[group * MOST_QUESTIONS..]).await?;
        }
        Ok(())
    }

    /// The search of a chunk of so many rows, made once: only the last chunk is shorter, only the last questions are fewer.
    fn plan(&mut self, gpu: &Gpu, rows: usize, questions: usize, k: usize) -> Result<&Plan> {
        let found = self.plans.iter().position(|(r, q, _)| (*r, *q) == (rows, questions));
        let at = match found {
            Some(at) => at,
            None => {
                let plan = Plan::new(gpu, &[(0, self.slot.head(rows))], questions, k)?;
                self.plans.push((rows, questions, plan));
                self.plans.len() - 1
            }
        };
        Ok(&self.plans[at].2)
    }
}

/// What `room` gives for the most bytes of up to `all`; where not all were to be had, with a step less than that, which others may
/// need.
async fn widest<T>(all: u64, mut room: impl AsyncFnMut(u64) -> Result<Option<T>>) -> Result<Option<T>> {
    if let Some(made) = room(all).await? {
        return Ok(Some(made));
    }
    for step in (0..STEPS).rev() {
        if room(all / STEPS * step).await?.is_some() {
            return room(all / STEPS * step.saturating_sub(1)).await;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::block_on;

    #[test]
    fn a_limit_is_kept_and_all_rows_have_a_place() {
        let tile = 64 * 768 * 4;
        for (rows, limit) in
            [(21_000_000, 40_000_000_000), (100_000, 300_000_000), (5000, 4_000_000), (65, tile), (7, 0)]
        {
            let Split { resident, chunk } = Split::new(rows, tile, limit, 1 << 30);
            assert!(resident < rows && chunk >= ROW_TILE && resident % ROW_TILE == 0, "{rows}: {resident}, {chunk}");
            let taken = (resident as u64 + SLOTS * chunk as u64) * tile / ROW_TILE as u64;
            assert!(taken <= limit || chunk == ROW_TILE && resident == 0, "{rows}: {taken} of {limit}");
            // Not much is left of what is allowed.
            assert!(limit < 40 * tile || taken + 2 * tile > limit, "{rows}: {taken} of {limit}");
        }
        let all = Split { resident: 65, chunk: 0 };
        assert_eq!((Split::new(65, tile, 2 * tile, 64), Split::new(65, tile, u64::MAX, 64)), (all, all));
        assert_eq!(Split::new(1 << 30, 64 * 32, 1 << 34, 1 << 30).chunk, CHUNK_ROWS, "narrow rows");
        assert_eq!(Split::new(1 << 20, tile, 1 << 30, 100).chunk, 64, "a device's limit");
    }

    #[test]
    fn what_is_refused_is_tried_with_less_and_something_is_left_for_others() {
        for (all, free, expected) in [(1600, 1600, 1600), (1600, 1599, 1400), (1600, 950, 800), (1600, 60, 0)] {
            let made = block_on(widest(all, async |bytes| Ok((bytes <= free).then_some(bytes)))).unwrap();
            assert_eq!(made, Some(expected), "{free} of {all}");
        }
        assert_eq!(block_on(widest(1600, async |_| Ok(None::<u64>))).unwrap(), None);
    }
}
