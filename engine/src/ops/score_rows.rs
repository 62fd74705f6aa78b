//! `shaders/score_rows.wgsl`: inner products of stored vectors with questions.

use crate::{
    Result,
    gpu::{Buffer, Gpu, Recording, Tensor, params},
    weights::DType,
};

/// Stored vectors on the GPU.
#[derive(Debug)]
pub struct RowBlock {
    codes: Buffer,  // (words, rows)
    scales: Buffer, // (rows); one word where the format has no scales
    words: usize,
    rows: usize,
    int8: bool,
}

impl RowBlock {
    /// Half floats: `values` is (rows, dim).
    pub fn f16(gpu: &Gpu, values: &[half::f16], dim: usize) -> Result<Self> {
        let word = |pair: &[half::f16]| {
            pair.iter().enumerate().fold(0u32, |word, (i, x)| word | u32::from(x.to_bits()) << (16 * i))
        };
        let (codes, words) = columns(values, dim, 2, word);
        let codes = gpu.upload_words("vectors", &codes)?;
        let scales = gpu.upload_words("scales", &[0])?;
        Ok(Self { codes, scales, words, rows: values.len() / dim, int8: false })
    }

    /// Bytes with one scale a row: `values` is (rows, dim).
    pub fn int8(gpu: &Gpu, values: &[i8], scales: &[f32], dim: usize) -> Result<Self> {
        assert_eq!(values.len(), scales.len() * dim, "one scale a row");
        let word =
            |four: &[i8]| four.iter().enumerate().fold(0u32, |word, (i, x)| word | u32::from(*x as u8) << (8 * i));
        let (codes, words) = columns(values, dim, 4, word);
        let codes = gpu.upload_words("vectors", &codes)?;
        let scale_words: Vec<u32> = scales.iter().map(|x| x.to_bits()).collect();
        let scales = gpu.upload_words("scales", &scale_words)?;
        Ok(Self { codes, scales, words, rows: scale_words.len(), int8: true })
    }

    /// Most rows of `dim` values that one block holds: one binding, one dispatch, two gigabytes.
    pub fn max_rows(gpu: &Gpu, dim: usize, format: DType) -> usize {
        let per_word = if format == DType::F16 { 2 } else { 4 };
        let row_bytes = dim.div_ceil(per_word) * 4;
        let limit = gpu.facts().max_binding_bytes.min(1 << 31) as usize;
        (limit / row_bytes).clamp(1, 64 * 65_535)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes on the GPU.
    pub fn bytes(&self) -> u64 {
        self.codes.bytes() + self.scales.bytes()
    }
}

/// Packs rows into words, and the words column by column.
fn columns<T>(values: &[T], dim: usize, per_word: usize, word: impl Fn(&[T]) -> u32) -> (Vec<u32>, usize) {
    let (rows, words) = (values.len() / dim, dim.div_ceil(per_word));
    let mut codes = vec![0; rows * words];
    for (r, row) in values.chunks(dim).enumerate() {
        for (w, part) in row.chunks(per_word).enumerate() {
            codes[w * rows + r] = word(part);
        }
    }
    (codes, words)
}

/// `y[q, r] = ⟨row r, x[q]⟩` for the first `questions` rows of x.
pub fn score_rows(gpu: &Gpu, recording: &mut Recording, block: &RowBlock, x: &Tensor, y: &Tensor, questions: usize) {
    let per_word = if block.int8 { 4 } else { 2 };
    assert_eq!(block.words, x.cols.div_ceil(per_word), "score_rows: questions of {} values", x.cols);
    assert!(y.cols >= block.rows && questions <= x.rows.min(y.rows), "score_rows: y is {}×{}", y.rows, y.cols);
    let params = params::ScoreRows {
        words: block.words as u32,
        rows: block.rows as u32,
        x_stride: x.stride as u32,
        y_stride: y.stride as u32,
    };
    let defines: &[&str] = if block.int8 { &["INT8"] } else { &[] };
    let buffers = [&block.codes, &block.scales, &x.buffer, &y.buffer];
    recording.dispatch(gpu, ("score_rows", defines), params, &buffers, [block.rows.div_ceil(64), questions, 1]);
}
