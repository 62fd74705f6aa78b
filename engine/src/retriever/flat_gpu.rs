//! Exact search on the GPU: every row is scored, of each 4,096 the best stay, of those again, and the host sorts what is left.
//!
//! Cost: the bytes of the vectors once for up to eight questions, and 8 bytes a row and question for the scores; 100,000 rows of
//! 768 in int8 are 77 MB, 0.1 to 2 ms. All of it is one recording, made once for so many questions and results, with one read-back.

use super::{
    flat::{Scored, TopK},
    store::Store,
    vectors::{Precision, Vectors},
};
use crate::{
    Result,
    gpu::{Buffer, Gpu, Reading, Recording, Tensor, Uploads},
    ops::{self, MOST_QUESTIONS, Pairs, ROW_TILE, RowBlock, Rows},
    weights::DType,
};

/// Memory for the best of all chunks; where more would be needed, questions go one by one.
const PAIRS_BYTES: usize = 256 << 20;

/// A store's vectors on the GPU.
#[derive(Debug)]
pub struct FlatGpu {
    gpu: Gpu,
    /// First row and rows.
    blocks: Vec<(u32, RowBlock)>,
    rows: usize,
    dim: usize,
    plan: Option<Plan>,
}

/// A search for so many questions and results, ready to run again.
#[derive(Debug)]
pub(super) struct Plan {
    questions: usize,
    k: usize,
    recording: Recording,
    x: Tensor, // (questions, dim)
    /// The last launch's: (questions, pairs) of a score's bits and a row.
    best: Buffer,
    pairs: usize,
}

impl FlatGpu {
    /// No rows yet.
    pub fn new(gpu: &Gpu, dim: usize) -> Self {
        Self { gpu: gpu.clone(), blocks: Vec::new(), rows: 0, dim, plan: None }
    }

    /// Streams a store's vectors to the GPU; `progress` hears the number of rows of each shard. All memory is taken first, so that
    /// a GPU that is too small says so before anything is read.
    pub async fn load(gpu: &Gpu, store: &Store, precision: Precision, progress: &mut dyn FnMut(u64)) -> Result<Self> {
        let manifest = store.manifest();
        let mut flat = Self::new(gpu, manifest.dim);
        flat.reserve(precision, manifest.count as usize)?;
        let mut filling = Filling::new(&flat, 0, precision);
        for shard in 0..store.shards() {
            let vectors = store.vectors(shard, precision).await?;
            progress(vectors.rows() as u64);
            filling.append(&vectors).await?;
        }
        filling.finish().await?;
        Ok(flat)
    }

    /// Appends rows, in blocks of their own: who knows how many there will be uses [`FlatGpu::load`].
    pub async fn push(&mut self, vectors: &Vectors) -> Result<()> {
        assert_eq!(vectors.dim(), self.dim, "vectors of one dimension");
        let first = self.reserve(vectors.precision(), vectors.rows())?;
        let mut filling = Filling::new(self, first, vectors.precision());
        filling.append(vectors).await?;
        filling.finish().await
    }

    /// Room for `rows` rows, zeros until [`FlatGpu::fill`]: for measurements.
    pub fn with_rows(gpu: &Gpu, precision: Precision, dim: usize, rows: usize) -> Result<Self> {
        let mut flat = Self::new(gpu, dim);
        flat.reserve(precision, rows)?;
        Ok(flat)
    }

    /// Fills every block with these rows, over and over, on the GPU.
    pub async fn fill(&mut self, vectors: &Vectors) -> Result<()> {
        let mut piece = Self::new(&self.gpu, vectors.dim());
        piece.push(vectors).await?;
        let [(_, piece)] = &piece.blocks[..] else { panic!("a piece fits a block") };
        self.blocks.iter().for_each(|(_, block)| block.repeat(&self.gpu, piece));
        self.gpu.flush().await
    }

    /// Takes the memory of a search now.
    pub fn prepare(&mut self, questions: usize, k: usize) -> Result<()> {
        let k = k.min(self.rows);
        if k > 0 {
            self.plan = Some(Plan::new(&self.gpu, &self.blocks, ops::question_rows(questions), k)?);
        }
        Ok(())
    }

    /// Takes memory for rows, in as few blocks as the device allows; which is the first.
    pub(super) fn reserve(&mut self, precision: Precision, rows: usize) -> Result<usize> {
        let first = self.blocks.len();
        let most = RowBlock::max_rows(&self.gpu, self.dim, format(precision));
        let mut left = rows;
        while left > 0 {
            let block = RowBlock::new(&self.gpu, left.min(most), self.dim, format(precision))?;
            left -= block.rows();
            self.rows += block.rows();
            self.blocks.push(((self.rows - block.rows()) as u32, block));
        }
        self.plan = None;
        Ok(first)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes on the GPU, without what a search writes.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|(_, block)| block.bytes()).sum()
    }

    /// The `k` best rows for each question, best first, ties to the lower row.
    pub async fn search(&mut self, questions: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Scored>>> {
        let k = k.min(self.rows);
        if k == 0 {
            return Ok(vec![Vec::new(); questions.len()]);
        }
        let bytes = MOST_QUESTIONS * 8 * self.blocks.iter().map(|(_, b)| ops::top_k_pairs(b.rows(), k)).sum::<usize>();
        let limit = PAIRS_BYTES.min(self.gpu.facts().max_binding_bytes as usize);
        let at_once = if bytes > limit { 1 } else { MOST_QUESTIONS };
        let mut results = Vec::new();
        for questions in questions.chunks(at_once) {
            results.extend(self.search_few(questions, k).await?);
        }
        Ok(results)
    }

    async fn search_few(&mut self, questions: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Scored>>> {
        let room = ops::question_rows(questions.len());
        let plan = match self.plan.take() {
            Some(plan) if (plan.questions, plan.k) == (room, k) => plan,
            _ => Plan::new(&self.gpu, &self.blocks, room, k)?,
        };
        let mut best: Vec<TopK> = questions.iter().map(|_| TopK::new(k)).collect();
        plan.ask(&self.gpu, questions).offer(&self.gpu, 0, &mut best).await?;
        self.plan = Some(plan);
        Ok(best.into_iter().map(TopK::finish).collect())
    }
}

/// Pairs on their way to the host.
#[derive(Debug)]
pub(super) struct Asked {
    reading: Reading,
    /// Of a question.
    pairs: usize,
}

impl Asked {
    /// Offers the rows found to each question's best; rows are numbered from `first_row` on.
    pub(super) async fn offer(self, gpu: &Gpu, first_row: u32, best: &mut [TopK]) -> Result<()> {
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.collect(self.reading).await?);
        for (pairs, best) in words.chunks(self.pairs * 2).zip(best) {
            for pair in pairs.chunks_exact(2) {
                best.push(Scored { row: first_row + pair[1], score: f32::from_bits(pair[0]) });
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Runs it for at most as many questions as it is for.
    pub(super) fn ask(&self, gpu: &Gpu, questions: &[Vec<f32>]) -> Asked {
        // What lies behind a question's last value meets zeros, and stays finite.
        let mut values = vec![0.0f32; self.x.stride * questions.len()];
        for (row, question) in values.chunks_mut(self.x.stride).zip(questions) {
            row[..question.len()].copy_from_slice(question);
        }
        gpu.write(&self.x.buffer, 0, bytemuck::cast_slice(&values));
        let bytes = (self.questions * self.pairs * 8) as u64;
        Asked { reading: self.recording.submit_and_read(gpu, &self.best, bytes), pairs: self.pairs }
    }

    /// What a search of these blocks launches, and what it writes.
    pub(super) fn new(gpu: &Gpu, blocks: &[(u32, RowBlock)], questions: usize, k: usize) -> Result<Self> {
        let columns = blocks.iter().map(|(_, block)| block.question_values()).max().unwrap_or(0);
        let x = gpu.tensor("questions", questions, columns)?;
        let mut pairs: usize = blocks.iter().map(|(_, block)| ops::top_k_pairs(block.rows(), k)).sum();
        let mut best = gpu.buffer("best", (questions * pairs * 8) as u64)?;
        let mut recording = Recording::new();
        // Scores in buffers of their own, so that no block's launch waits for the last workgroups of the one before.
        let mut scores = Vec::new();
        for (_, block) in blocks {
            scores.push(gpu.tensor("scores", questions, block.rows())?);
            ops::score_rows(gpu, &mut recording, block, &x, &scores[scores.len() - 1], questions);
        }
        let mut at = 0;
        for ((first, block), scores) in blocks.iter().zip(&scores) {
            let all = Pairs { buffer: &best, stride: pairs };
            ops::top_k(gpu, &mut recording, scores, (questions, block.rows(), k), *first, (all, at));
            at += ops::top_k_pairs(block.rows(), k);
        }
        while ops::top_k_again(pairs, k) {
            let fewer = ops::top_k_pairs(pairs, k);
            let next = gpu.buffer("best of best", (questions * fewer * 8) as u64)?;
            let (from_all, to) = (Pairs { buffer: &best, stride: pairs }, Pairs { buffer: &next, stride: fewer });
            ops::top_k_of_pairs(gpu, &mut recording, from_all, (questions, pairs, k), to);
            (best, pairs) = (next, fewer);
        }
        Ok(Self { questions, k, recording, x, best, pairs })
    }
}

/// Rows on their way to blocks that have room for just as many.
pub(super) struct Filling<'a> {
    blocks: &'a [(u32, RowBlock)],
    uploads: Uploads,
    /// Rows written to the first of `blocks`.
    next: usize,
    /// Rows that follow, too few for a tile.
    tail: Vectors,
}

impl<'a> Filling<'a> {
    pub(super) fn new(flat: &'a FlatGpu, first_block: usize, precision: Precision) -> Self {
        let uploads = Uploads::new(&flat.gpu, RowBlock::piece_bytes(flat.dim, format(precision)));
        Self { blocks: &flat.blocks[first_block..], uploads, next: 0, tail: Vectors::new(precision, flat.dim) }
    }

    pub(super) async fn append(&mut self, vectors: &Vectors) -> Result<()> {
        let dim = vectors.dim();
        let mut at = 0;
        while at < vectors.rows() {
            let block = &self.blocks[0].1;
            let (left, room) = (vectors.rows() - at, block.rows() - self.next - self.tail.rows());
            let whole = if left >= room { room } else { left / ROW_TILE * ROW_TILE };
            if self.tail.rows() == 0 && whole > 0 {
                block.write(&mut self.uploads, self.next, rows_of(vectors).slice(at..at + whole, dim)).await?;
                (self.next, at) = (self.next + whole, at + whole);
            } else {
                let taken = left.min(room).min(ROW_TILE - self.tail.rows());
                self.tail.extend_rows(vectors, at..at + taken);
                at += taken;
                if taken == room || self.tail.rows() == ROW_TILE {
                    block.write(&mut self.uploads, self.next, rows_of(&self.tail)).await?;
                    self.next += self.tail.rows();
                    self.tail = Vectors::new(self.tail.precision(), dim);
                }
            }
            if self.next == block.rows() {
                (self.blocks, self.next) = (&self.blocks[1..], 0);
            }
        }
        Ok(())
    }

    /// Everything is on the GPU.
    pub(super) async fn finish(self) -> Result<()> {
        self.uploads.finish().await
    }
}

/// How a block stores a precision.
pub(super) fn format(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::Int8 => DType::Q8_0,
    }
}

pub(super) fn rows_of(vectors: &Vectors) -> Rows<'_> {
    match (vectors.as_f32(), vectors.as_f16(), vectors.as_int8()) {
        (Some(values), ..) => Rows::F32(values),
        (_, Some(values), _) => Rows::F16(values),
        (.., Some((codes, scales))) => Rows::Int8(codes, scales),
        _ => unreachable!("vectors have one of three precisions"),
    }
}
