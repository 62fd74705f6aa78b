//! Every kernel against its twin on random shapes. The same cases run as tests (natively, in a page, in a worker) and, a few of
//! them, when a device is opened: a GPU that computes wrongly is refused instead of writing gibberish.

pub mod coop;
mod copy;
pub mod encoder;
pub mod integers;
mod search;

pub use copy::copy;
pub use search::search;

use crate::{
    Result,
    error::GpuError,
    gpu::{Buffer, Gpu, Recording},
    ops::{self, Epilogue, Heads, Integers, KvCache, Matrix, Norm, One, Pages, Rope, RowInfo, Tiles, Tokens},
    reference,
    weights::DType,
};

/// All weight formats.
pub const FORMATS: [DType; 11] = [
    DType::F32,
    DType::F16,
    DType::Bf16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
];

/// A small, seeded random source (SplitMix64): cases must be the same on every platform, and print only their seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `range`.
    pub fn pick(&mut self, range: std::ops::RangeInclusive<usize>) -> usize {
        range.start() + (self.bits() % (range.end() - range.start() + 1) as u64) as usize
    }

    /// Uniform in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Values in -1..1.
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }

    /// Random GGUF rows whose values are about 1 in size.
    pub fn rows(&mut self, dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
        if dtype.block_len() == 1 {
            let values = self.values(rows * cols);
            return ops::pack::encode_floats(dtype, &values);
        }
        let mut bytes: Vec<u8> = (0..rows * dtype.row_bytes(cols)).map(|_| self.bits() as u8).collect();
        // Random bytes are valid quants; the f16 scales among them must be sane numbers.
        let (offsets, size): (&[usize], f32) = match dtype {
            DType::Q8_0 => (&[0], 0.01),
            DType::Q4_0 | DType::Q5_0 => (&[0], 0.1),
            DType::Q4_1 | DType::Q5_1 => (&[0, 2], 0.1),
            DType::Q4K | DType::Q5K => (&[0, 2], 0.002),
            _ => (&[208], 0.0005),
        };
        for block in bytes.chunks_mut(dtype.block_bytes()) {
            for offset in offsets {
                let scale = half::f16::from_f32(size * (0.5 + self.unit().abs()));
                block[*offset..offset + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        bytes
    }
}

/// Compares with tolerance relative to the largest expected value; the error says where and by how much.
pub fn compare(kernel: &str, case: &str, found: &[f32], expected: &[f32], tolerance: f32) -> Result<()> {
    let fail = |detail: String| {
        let error = GpuError::SelfTest { kernel: kernel.to_string(), detail: format!("{case}: {detail}") };
        Err(error.into())
    };
    if found.len() != expected.len() {
        return fail(format!("{} values found, {} expected", found.len(), expected.len()));
    }
    let size = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        // Not `> tolerance`, which a NaN would pass.
        let close = (f - e).abs() <= tolerance * size;
        if !close {
            return fail(format!("value {i} is {f}, expected {e}; difference over {}", tolerance * size));
        }
    }
    Ok(())
}

/// One random case of every kernel; `seed` decides shapes and values.
pub async fn all_kernels(gpu: &Gpu, seed: u64) -> Result<()> {
    for dtype in FORMATS {
        weights(gpu, dtype, seed).await?;
    }
    coop::tiles(gpu, seed).await?;
    coop::attention_coop(gpu, seed).await?;
    coop::encoder(gpu, seed).await?;
    for dtype in FORMATS {
        coop::matmul_coop(gpu, dtype, seed).await?;
        coop::matmul_coop_few(gpu, dtype, seed).await?;
        coop::matmul_coop_swiglu(gpu, dtype, seed).await?;
        coop::matmul_coop_tiles(gpu, dtype, seed).await?;
    }
    integers::quantize(gpu, seed).await?;
    // One of the eight formats a seed: these kernels are long, and a software device compiles them for seconds.
    let blocks = FORMATS.into_iter().filter(|dtype| dtype.block_len() > 1).zip(seed..);
    for (dtype, _) in blocks.filter(|(_, turn)| turn % 8 == 0) {
        integers::matmul_int(gpu, dtype, seed).await?;
    }
    rms_norm(gpu, seed).await?;
    swiglu(gpu, seed).await?;
    attention(gpu, seed).await?;
    attention_decode(gpu, seed, seed.is_multiple_of(2)).await?;
    token_statistics(gpu, seed).await?;
    copy(gpu, seed).await?;
    encoder::all(gpu, seed).await?;
    search(gpu, seed).await
}

/// A quick look at a device that was just opened.
pub async fn quick(gpu: &Gpu, formats: &[DType]) -> Result<()> {
    for dtype in formats {
        weights(gpu, *dtype, 1).await?;
        coop::matmul_coop(gpu, *dtype, 1).await?;
        coop::matmul_coop_few(gpu, *dtype, 1).await?;
        coop::matmul_coop_swiglu(gpu, *dtype, 1).await?;
        // A software device does not use it, unless asked, and compiles it for seconds.
        if dtype.block_len() > 1 && !gpu.facts().software {
            integers::matmul_int(gpu, *dtype, 1).await?;
        }
    }
    coop::attention_coop(gpu, 1).await?;
    rms_norm(gpu, 1).await?;
    swiglu(gpu, 1).await?;
    attention(gpu, 1).await?;
    attention_decode(gpu, 1, !gpu.facts().software).await?;
    token_statistics(gpu, 1).await
}

/// The same for what [`quick`] leaves out because the usual plan of a step does not use it.
pub(crate) async fn unusual(gpu: &Gpu, formats: &[DType]) -> Result<()> {
    attention_decode(gpu, 1, gpu.facts().software).await?;
    for dtype in formats.iter().filter(|dtype| dtype.block_len() > 1 && gpu.facts().software) {
        integers::matmul_int(gpu, *dtype, 1).await?;
    }
    Ok(())
}

/// The same for an encoder that will run on cooperative matrices.
pub(crate) async fn quick_encoder(gpu: &Gpu, formats: &[DType]) -> Result<()> {
    for dtype in formats {
        coop::matmul_coop_tiles(gpu, *dtype, 1).await?;
    }
    coop::encoder(gpu, 1).await
}

/// `embed`, `matmul_vec` and `matmul_tile` in one weight format.
pub async fn weights(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let cols = match dtype.block_len() {
        1 => random.pick(1..=150),
        block => block * random.pick(1..=3),
    };
    let rows = random.pick(1..=70);
    let case = format!("seed {seed}, {dtype:?} {rows}×{cols}");
    let bytes = random.rows(dtype, rows, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;

    let tokens: Vec<u32> = (0..random.pick(1..=9)).map(|_| random.pick(0..=rows - 1) as u32).collect();
    let y = gpu.tensor("y", tokens.len(), cols)?;
    // As integers, or as the f32 that a step leaves for the next.
    let drawn = random.pick(0..=1) == 1;
    let words: Vec<u32> = tokens.iter().map(|t| if drawn { (*t as f32).to_bits() } else { *t }).collect();
    let buffer = gpu.upload_words("tokens", &words)?;
    let mut recording = Recording::new();
    ops::embed(gpu, &mut recording, &matrix, Tokens { buffer: &buffer, stride: 1, count: tokens.len(), drawn }, &y);
    recording.submit(gpu);
    let found = gpu.download(&y, tokens.len()).await?;
    compare("embed", &case, &found, &reference::embed(&values, cols, &tokens), 1e-6)?;

    for (kernel, count) in [("matmul_vec", random.pick(1..=11)), ("matmul_tile", random.pick(1..=70))] {
        for (add, with_bias) in [(false, true), (true, false)] {
            let case = format!("{case}, {count} tokens, add {add}, bias {with_bias}");
            let x = random.values(count * cols);
            let before = random.values(count * rows);
            let bias = random.values(rows);
            let x_gpu = gpu.upload("x", &x, cols)?;
            let y_gpu = gpu.upload("y", &before, rows)?;
            let bias_gpu = gpu.upload("bias", &bias, rows)?;
            let epilogue = Epilogue { add, bias: with_bias.then_some(&bias_gpu.buffer) };
            let mut recording = Recording::new();
            let launch = if kernel == "matmul_vec" { ops::matmul_vec } else { ops::matmul_tile };
            launch(gpu, &mut recording, &matrix, &x_gpu, &y_gpu, count, epilogue);
            recording.submit(gpu);
            let mut expected = if add { before } else { vec![0.0; count * rows] };
            reference::matmul_vec(&values, &x, cols, with_bias.then_some(&bias), &mut expected);
            compare(kernel, &case, &gpu.download(&y_gpu, count).await?, &expected, 2e-5)?;
        }
    }
    if dtype.block_len() == 1 { fused(gpu, dtype, seed).await } else { Ok(()) }
}

/// `matmul_vec` and `matmul_one` with a norm before them, and with SwiGLU after them.
async fn fused(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    let mut random = Random::new(seed ^ 0x5eed);
    let cols = random.pick(1..=150);
    // `matmul_vec` has these forms for two tokens and more.
    let (rows, count) = (2 * random.pick(1..=35), random.pick(2..=11));
    let case = format!("seed {seed}, {dtype:?} {rows}×{cols}, {count} tokens");
    let bytes = random.rows(dtype, rows, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;
    let (x, gain) = (random.values(count * cols), random.values(cols));
    let (x_gpu, gain_gpu) = (gpu.upload("x", &x, cols)?, gpu.upload("gain", &gain, cols)?);
    let (y, halved) = (gpu.tensor("y", count, rows)?, gpu.tensor("y", count, rows / 2)?);
    let norm = Norm { gain: &gain_gpu.buffer, eps: 1e-5 };
    let mut recording = Recording::new();
    ops::matmul_vec_norm(gpu, &mut recording, &matrix, norm, false, &x_gpu, &y, count);
    ops::matmul_vec_norm(gpu, &mut recording, &matrix, norm, true, &x_gpu, &halved, count);
    recording.submit(gpu);
    let mut expected = vec![0.0; count * rows];
    reference::matmul_vec(&values, &reference::rms_norm(&x, &gain, 1e-5), cols, None, &mut expected);
    compare("matmul_vec", &format!("{case}, norm"), &gpu.download(&y, count).await?, &expected, 5e-5)?;
    let expected = reference::swiglu(&expected, rows / 2);
    compare("matmul_vec", &format!("{case}, norm and swiglu"), &gpu.download(&halved, count).await?, &expected, 1e-4)?;

    // One token, with an odd number of rows where no pairs are needed.
    let x = &x[..cols];
    let odd = rows - 1;
    let narrow = Matrix::from_bytes(gpu, dtype, &bytes[..odd * dtype.row_bytes(cols)], cols)?;
    let before = random.values(odd);
    let (y, halved) = (gpu.tensor("y", 1, odd)?, gpu.tensor("y", 1, rows / 2)?);
    let sum = gpu.upload("y", &before, odd)?;
    let mut recording = Recording::new();
    let normed = One { norm: Some(norm), ..One::default() };
    ops::matmul_one(gpu, &mut recording, &narrow, &x_gpu, &y, normed);
    ops::matmul_one(gpu, &mut recording, &matrix, &x_gpu, &halved, One { swiglu: true, ..normed });
    ops::matmul_one(gpu, &mut recording, &narrow, &x_gpu, &sum, One { add: true, ..One::default() });
    recording.submit(gpu);
    let expected = reference::matmul_one(&values[..odd * cols], x, Some((&gain, 1e-5)), false);
    compare("matmul_one", &format!("{case}, norm"), &gpu.download(&y, 1).await?, &expected, 5e-5)?;
    let expected = reference::matmul_one(&values, x, Some((&gain, 1e-5)), true);
    compare("matmul_one", &format!("{case}, norm and swiglu"), &gpu.download(&halved, 1).await?, &expected, 1e-4)?;
    let product = reference::matmul_one(&values[..odd * cols], x, None, false);
    let expected: Vec<f32> = before.iter().zip(product).map(|(b, p)| b + p).collect();
    compare("matmul_one", &format!("{case}, residual"), &gpu.download(&sum, 1).await?, &expected, 5e-5)
}

/// `rms_norm`.
pub async fn rms_norm(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, cols) = (random.pick(1..=9), random.pick(1..=300));
    let (x, weight) = (random.values(rows * cols), random.values(cols));
    let (x_gpu, y) = (gpu.upload("x", &x, cols)?, gpu.tensor("y", rows, cols)?);
    let weight_gpu = gpu.upload("weight", &weight, cols)?;
    let mut recording = Recording::new();
    ops::rms_norm(gpu, &mut recording, &x_gpu, &weight_gpu.buffer, 1e-5, &y, rows);
    recording.submit(gpu);
    let expected = reference::rms_norm(&x, &weight, 1e-5);
    compare("rms_norm", &format!("seed {seed}, {rows}×{cols}"), &gpu.download(&y, rows).await?, &expected, 1e-5)
}

/// `swiglu`.
pub async fn swiglu(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, cols) = (random.pick(1..=5), random.pick(1..=300));
    // Wide enough to meet both tails of the sigmoid.
    let x: Vec<f32> = random.values(rows * cols * 2).iter().map(|v| v * 120.0).collect();
    let (x_gpu, y) = (gpu.upload("x", &x, 2 * cols)?, gpu.tensor("y", rows, cols)?);
    let mut recording = Recording::new();
    ops::swiglu(gpu, &mut recording, &x_gpu, &y, rows);
    recording.submit(gpu);
    let expected = reference::swiglu(&x, cols);
    compare("swiglu", &format!("seed {seed}, {rows}×{cols}"), &gpu.download(&y, rows).await?, &expected, 1e-5)
}

/// Random keys or values, all of them f16 numbers, and the same on the GPU.
fn random_cache(gpu: &Gpu, random: &mut Random, count: usize, is_f32: bool) -> Result<(Vec<f32>, Buffer)> {
    let halves: Vec<half::f16> = random.values(count).into_iter().map(half::f16::from_f32).collect();
    let values: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
    let words: Vec<u32> = if is_f32 {
        values.iter().map(|v| v.to_bits()).collect()
    } else {
        halves.chunks(2).map(|p| u32::from(p[0].to_bits()) | u32::from(p[1].to_bits()) << 16).collect()
    };
    Ok((values, gpu.upload_words("cache", &words)?))
}

/// What a cache holds.
async fn read_cache(gpu: &Gpu, cache: &Buffer, count: usize, is_f32: bool) -> Result<Vec<f32>> {
    let words = gpu.download_words(cache, if is_f32 { count } else { count / 2 }).await?;
    if is_f32 {
        return Ok(words.iter().map(|v| f32::from_bits(*v)).collect());
    }
    Ok(bytemuck::cast_slice::<u32, half::f16>(&words).iter().map(|v| v.to_f32()).collect())
}

/// `rope_kv`, then `attention` over what it wrote and a random past, with shuffled pages and two sequences on one prefix.
pub async fn attention(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let kv_f32 = random.pick(0..=3) == 0;
    let kv_heads = random.pick(1..=3);
    let heads = Heads { heads: kv_heads * random.pick(1..=3), kv_heads, head_dim: 2 * random.pick(1..=80) };
    let half_order = random.pick(0..=1) == 1;
    let rope_dim = 2 * random.pick(1..=heads.head_dim / 2);
    let (page_size, max_pages) = (16, 12);
    let case = format!("seed {seed}, {heads:?}, rope {rope_dim}, half order {half_order}, cache in f32 {kv_f32}");

    // Sequence 1 shares sequence 0's first pages, as after a fork.
    let shared = random.pick(0..=max_pages - 1);
    let mut free: Vec<u32> = (0..2 * max_pages as u32).collect();
    for i in (1..free.len()).rev() {
        free.swap(i, random.pick(0..=i));
    }
    let pages: Vec<u32> = (0..2 * max_pages)
        .map(|i| free[if i >= max_pages && i - max_pages < shared { i - max_pages } else { i }])
        .collect();
    let rows: Vec<RowInfo> = (0..random.pick(1..=6))
        .map(|i| {
            let sequence = random.pick(0..=1);
            // Rows of one batch have places of their own: different positions past the shared pages or in sequence 0.
            let first = if sequence == 1 { shared * page_size } else { 0 };
            let position = first
                + (random.pick(0..=max_pages * page_size - 1 - first) / 8 * 8 + i)
                    .min(max_pages * page_size - 1 - first);
            let slot = pages[sequence * max_pages + position / page_size] as usize * page_size + position % page_size;
            RowInfo { token: 0, position: position as u32, sequence: sequence as u32, slot: slot as u32 }
        })
        .collect();
    let slots = 2 * max_pages * page_size;
    let kv = kv_heads * heads.head_dim;
    let (mut keys, keys_gpu) = random_cache(gpu, &mut random, slots * kv, kv_f32)?;
    let (mut values, values_gpu) = random_cache(gpu, &mut random, slots * kv, kv_f32)?;

    let qkv_cols = (heads.heads + 2 * kv_heads) * heads.head_dim;
    let qkv = random.values(rows.len() * qkv_cols);
    let angles = Rope::table(max_pages * page_size, rope_dim, 10_000.0, None);
    let rope = Rope { angles: gpu.upload("angles", &angles, angles.len())?.buffer, dims: rope_dim, half_order };
    let qkv_gpu = gpu.upload("qkv", &qkv, qkv_cols)?;
    let q_gpu = gpu.tensor("q", rows.len(), heads.heads * heads.head_dim)?;
    let y_gpu = gpu.tensor("y", rows.len(), heads.heads * heads.head_dim)?;
    let rows_gpu = gpu.upload_words("rows", bytemuck::cast_slice(&rows))?;
    let pages_gpu = gpu.upload_words("pages", &pages)?;
    let mut recording = Recording::new();
    let cache = KvCache { keys: &keys_gpu, values: &values_gpu, f32: kv_f32 };
    ops::rope_kv(gpu, &mut recording, heads, &rope, (&rows_gpu, rows.len()), &qkv_gpu, &q_gpu, cache);
    let table = Pages { table: &pages_gpu, max_pages, page_size };
    ops::attention(gpu, &mut recording, heads, (&rows_gpu, rows.len()), table, &q_gpu, cache, &y_gpu);
    recording.submit(gpu);

    let q = reference::rope_kv(heads, (&angles, rope_dim, half_order), &rows, &qkv, &mut keys, &mut values);
    compare("rope_kv", &case, &gpu.download(&q_gpu, rows.len()).await?, &q, 1e-5)?;
    let found = read_cache(gpu, &keys_gpu, slots * kv, kv_f32).await?;
    // A value on a rounding boundary may fall to either neighbour.
    compare("rope_kv", &format!("{case}, keys"), &found, &keys, 1e-3)?;
    let expected = reference::attention(heads, &rows, (&pages, max_pages, page_size), &q, &keys, &values);
    compare("attention", &case, &gpu.download(&y_gpu, rows.len()).await?, &expected, 1e-3)
}

/// `attention_decode` and `attention_merge`: sequences on shuffled pages, of which some share their first ones. `wide` as there.
pub async fn attention_decode(gpu: &Gpu, seed: u64, wide: bool) -> Result<()> {
    let mut random = Random::new(seed);
    let kv_f32 = random.pick(0..=3) == 0;
    let kv_heads = random.pick(1..=3);
    let heads = Heads { heads: kv_heads * random.pick(1..=3), kv_heads, head_dim: 8 * random.pick(1..=20) };
    let rope_dim = 2 * random.pick(1..=heads.head_dim / 2);
    let (page_size, max_pages) = (16, 12);
    let sequences = random.pick(1..=5);
    let shared = random.pick(0..=4);
    let case =
        format!("seed {seed}, {heads:?}, rope {rope_dim}, {sequences} sequences, cache in f32 {kv_f32}, wide {wide}");
    let mut free: Vec<u32> = (0..(sequences * max_pages) as u32).collect();
    for i in (1..free.len()).rev() {
        free.swap(i, random.pick(0..=i));
    }
    let pages: Vec<u32> =
        (0..sequences * max_pages).map(|i| free[if i % max_pages < shared { i % max_pages } else { i }]).collect();
    // A sequence writes past what it shares.
    let rows: Vec<RowInfo> = (0..sequences)
        .map(|sequence| {
            let position = random.pick(shared * page_size..=max_pages * page_size - 1);
            let slot = pages[sequence * max_pages + position / page_size] as usize * page_size + position % page_size;
            RowInfo { token: 0, position: position as u32, sequence: sequence as u32, slot: slot as u32 }
        })
        .collect();
    let slots = sequences * max_pages * page_size;
    let kv = kv_heads * heads.head_dim;
    let (mut keys, keys_gpu) = random_cache(gpu, &mut random, slots * kv, kv_f32)?;
    let (mut values, values_gpu) = random_cache(gpu, &mut random, slots * kv, kv_f32)?;
    let qkv_cols = (heads.heads + 2 * kv_heads) * heads.head_dim;
    let qkv = random.values(rows.len() * qkv_cols);
    let angles = Rope::table(max_pages * page_size, rope_dim, 10_000.0, None);
    let rope = Rope { angles: gpu.upload("angles", &angles, angles.len())?.buffer, dims: rope_dim, half_order: false };
    let qkv_gpu = gpu.upload("qkv", &qkv, qkv_cols)?;
    let y_gpu = gpu.tensor("y", rows.len(), heads.heads * heads.head_dim)?;
    let rows_gpu = gpu.upload_words("rows", bytemuck::cast_slice(&rows))?;
    let pages_gpu = gpu.upload_words("pages", &pages)?;
    let splits = ops::splits(max_pages * page_size);
    let pieces = gpu.buffer("pieces", ops::pieces_bytes(heads, rows.len(), splits))?;
    let cache = KvCache { keys: &keys_gpu, values: &values_gpu, f32: kv_f32 };
    let table = Pages { table: &pages_gpu, max_pages, page_size };
    let (count, pieces) = ((&rows_gpu, rows.len()), (&pieces, splits));
    let mut recording = Recording::new();
    ops::attention_decode(gpu, &mut recording, heads, &rope, count, table, &qkv_gpu, cache, pieces, wide);
    let integers = match heads.head_dim % 32 {
        0 => Some(Integers::new(gpu, "attended", rows.len(), heads.heads * heads.head_dim)?),
        _ => None,
    };
    ops::attention_merge(gpu, &mut recording, heads, count, pieces, &y_gpu, integers.as_ref(), wide);
    let tiles = match heads.head_dim % 16 {
        0 => Some(Tiles::new(gpu, "attended", rows.len(), heads.heads * heads.head_dim)?),
        _ => None,
    };
    if let Some(tiles) = &tiles {
        ops::attention_merge_tiles(gpu, &mut recording, heads, count, pieces, tiles);
    }
    recording.submit(gpu);

    let table = (pages.as_slice(), max_pages, page_size);
    let expected = reference::attention_decode(heads, (&angles, rope_dim), &rows, table, &qkv, &mut keys, &mut values);
    let expected: Vec<f32> = expected.iter().flat_map(|pieces| reference::attention_merge(pieces)).collect();
    let found = gpu.download(&y_gpu, rows.len()).await?;
    compare("attention_decode", &case, &found, &expected, 1e-3)?;
    if let Some(integers) = integers {
        let zeros = vec![0.0; found.len()];
        integers::check_integers(gpu, "attention_merge", &case, &integers, (&found, &zeros), 4e-5).await?;
    }
    if let Some(tiles) = tiles {
        let rounded = coop::values_of(gpu, &tiles, rows.len()).await?;
        compare("attention_merge", &format!("{case}, in tiles"), &rounded, &found, 1e-3)?;
    }
    for (name, buffer, expected) in [("keys", &keys_gpu, keys), ("values", &values_gpu, values)] {
        let found = read_cache(gpu, buffer, slots * kv, kv_f32).await?;
        // A value on a rounding boundary may fall to either neighbour.
        compare("attention_decode", &format!("{case}, {name}"), &found, &expected, 1e-3)?;
    }
    Ok(())
}

/// `logits_chunk` and `logits_merge`.
pub async fn token_statistics(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, vocabulary) = (random.pick(1..=4), random.pick(1..=7000));
    let logits: Vec<f32> = random.values(rows * vocabulary).iter().map(|v| v * 12.0).collect();
    let watch: Vec<u32> = (0..random.pick(1..=20)).map(|_| random.pick(0..=vocabulary - 1) as u32).collect();
    let logits_gpu = gpu.upload("logits", &logits, vocabulary)?;
    let partials = gpu.buffer("partials", ops::partials_bytes(vocabulary, rows))?;
    let watch_gpu = gpu.upload_words("watch", &watch)?;
    let out = gpu.tensor("out", rows, 2 + watch.len())?;
    let mut recording = Recording::new();
    ops::token_statistics(gpu, &mut recording, &logits_gpu, &partials, (&watch_gpu, watch.len()), &out, rows);
    recording.submit(gpu);
    let found = gpu.download(&out, rows).await?;
    let expected: Vec<f32> = logits
        .chunks(vocabulary)
        .flat_map(|row| {
            let (token, logprob, watched) = reference::logits_merge(row, &watch);
            [token as f32, logprob].into_iter().chain(watched)
        })
        .collect();
    let case = format!("seed {seed}, {rows}×{vocabulary}");
    // Tokens are integers: compared exactly, apart from the log-probabilities.
    for (row, (f, e)) in found.chunks(2 + watch.len()).zip(expected.chunks(2 + watch.len())).enumerate() {
        compare("logits_merge", &format!("{case}, token of row {row}"), &f[..1], &e[..1], 0.0)?;
        compare("logits_merge", &format!("{case}, logprobs of row {row}"), &f[1..], &e[1..], 1e-5)?;
    }
    Ok(())
}
