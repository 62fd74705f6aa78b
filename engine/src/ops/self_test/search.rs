//! `score_rows` and `top_k` against their twins.

use super::{Random, compare};
use crate::{
    Result,
    error::GpuError,
    gpu::{Gpu, Recording, Uploads},
    ops::{self, Pairs, RowBlock, Rows, TOP_K_CHUNK},
    reference,
    weights::DType,
};

/// `score_rows` in its three formats, `top_k` over what it gives, and `top_k` over that.
pub async fn search(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, dim, questions) = (random.pick(1..=9000), random.pick(1..=50), random.pick(1..=8));
    // Mostly few; sometimes more than a chunk has.
    let k = if random.pick(0..=4) == 0 { random.pick(1..=6000) } else { random.pick(1..=150) };
    let case = format!("seed {seed}, {rows} rows of {dim}, {questions} questions, the best {k}");
    let halves: Vec<half::f16> = random.values(rows * dim).iter().map(|v| half::f16::from_f32(*v)).collect();
    let codes: Vec<i8> = (0..rows * dim).map(|_| random.bits() as i8).collect();
    // Few different scales and small dimensions make ties.
    let scales: Vec<f32> = (0..rows).map(|_| 0.01 * random.pick(0..=2) as f32).collect();
    let decoded_f16: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let decoded_int8: Vec<f32> = codes.iter().enumerate().map(|(i, code)| f32::from(*code) * scales[i / dim]).collect();
    let x = random.values(questions * dim);
    let room = ops::question_rows(questions);
    let floats = random.values(rows * dim);
    for (format, all, decoded) in [
        (DType::F32, Rows::F32(&floats), floats.clone()),
        (DType::F16, Rows::F16(&halves), decoded_f16),
        (DType::Q8_0, Rows::Int8(&codes, &scales), decoded_int8),
    ] {
        let block = RowBlock::new(gpu, rows, dim, format)?;
        let mut uploads = Uploads::new(gpu, RowBlock::piece_bytes(dim, format));
        let cut = random.pick(0..=rows) / ops::ROW_TILE * ops::ROW_TILE;
        block.write(&mut uploads, cut, all.slice(cut..rows, dim)).await?;
        block.write(&mut uploads, 0, all.slice(0..cut, dim)).await?;
        uploads.finish().await?;

        let x_gpu = gpu.tensor("questions", room, ops::question_values(dim, format))?;
        for (question, values) in x.chunks(dim).enumerate() {
            gpu.write(&x_gpu.buffer, (question * x_gpu.stride * 4) as u64, bytemuck::cast_slice(values));
        }
        let scores = gpu.tensor("scores", room, rows)?;
        // The first launch's pairs begin somewhere, and rows are counted from somewhere.
        let (gap, first_row) = (random.pick(0..=9), random.pick(0..=99) as u32);
        let pairs = ops::top_k_pairs(rows, k);
        let again = ops::top_k_pairs(pairs, k);
        let first = gpu.buffer("best", (questions * (gap + pairs) * 8) as u64)?;
        let first = Pairs { buffer: &first, stride: gap + pairs };
        // `top_k_of_pairs` begins at the first pair: it gets a copy without the gap.
        let straight = gpu.buffer("best", (questions * pairs * 8) as u64)?;
        let straight = Pairs { buffer: &straight, stride: pairs };
        let second = gpu.buffer("best", (questions * again * 8) as u64)?;
        let second = Pairs { buffer: &second, stride: again };
        let mut recording = Recording::new();
        ops::score_rows(gpu, &mut recording, &block, &x_gpu, &scores, questions);
        ops::top_k(gpu, &mut recording, &scores, (questions, rows, k), first_row, (first, gap));
        ops::top_k(gpu, &mut recording, &scores, (questions, rows, k), first_row, (straight, 0));
        ops::top_k_of_pairs(gpu, &mut recording, straight, (questions, pairs, k), second);
        recording.submit(gpu);
        let found = gpu.download(&scores, questions).await?;
        compare("score_rows", &case, &found, &reference::score_rows(&decoded, &x, dim), 1e-5)?;

        // The choice is exact, on the scores that the GPU itself computed.
        let (first, straight) = (read(gpu, first, questions).await?, read(gpu, straight, questions).await?);
        let second = read(gpu, second, questions).await?;
        for (question, scores) in found.chunks(rows).enumerate() {
            let case = format!("{case}, question {question}");
            let numbered: Vec<(f32, u32)> = scores.iter().copied().zip(first_row..).collect();
            check(&case, &first[question][gap..], &numbered, k)?;
            check(&case, &straight[question], &numbered, k)?;
            check(&case, &second[question], &straight[question], k)?;
        }
    }
    Ok(())
}

/// Each question's pairs.
async fn read(gpu: &Gpu, pairs: Pairs<'_>, questions: usize) -> Result<Vec<Vec<(f32, u32)>>> {
    let words = gpu.download_words(pairs.buffer, questions * pairs.stride * 2).await?;
    let pair = |pair: &[u32]| (f32::from_bits(pair[0]), pair[1]);
    Ok(words.chunks(pairs.stride * 2).map(|words| words.chunks(2).map(pair).collect()).collect())
}

/// Whether `found` are the `k` best of each chunk of `all`, bit for bit; their order within a chunk is open.
fn check(case: &str, found: &[(f32, u32)], all: &[(f32, u32)], k: usize) -> Result<()> {
    let expected = reference::top_k(all, TOP_K_CHUNK, k);
    let mut rest = found;
    for (chunk, expected) in expected.iter().enumerate() {
        let (these, later) = rest.split_at(expected.len().min(rest.len()));
        rest = later;
        let these = reference::top_k(these, TOP_K_CHUNK, k).concat();
        let bits = |pairs: &[(f32, u32)]| -> Vec<(u32, u32)> { pairs.iter().map(|p| (p.0.to_bits(), p.1)).collect() };
        if bits(&these) != bits(expected) {
            let at = these.iter().zip(expected).position(|(a, b)| a != b);
            let detail = format!("{case}, chunk {chunk}: {:?} differ from {:?} at {at:?}", these.len(), expected.len());
            return Err(GpuError::SelfTest { kernel: "top_k".into(), detail }.into());
        }
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(GpuError::SelfTest { kernel: "top_k".into(), detail: format!("{case}: {} pairs too many", rest.len()) }.into())
}
