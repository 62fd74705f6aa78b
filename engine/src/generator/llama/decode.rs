//! The step that answers are made of: sequences that go on by one token each, in few launches.
//!
//! Six a layer: norm + qkv · rotary embedding, cache write and attention in pieces · their merge · output + residual ·
//! norm + gate, up and SwiGLU · down + residual. Products of block formats take activations as integers, which each kernel writes
//! for the next. What to launch depends on the number of rows and of pieces alone, so it is
//! recorded once and run again for every token. While a step is under way the next one is already queued, on the tokens
//! that it will find most likely: a caller that goes on with them finds it computed.

use std::rc::Rc;

use super::{Llama, TileScratch, forward::Chunk, model::Layer};
use crate::{
    Result,
    generator::{SeqId, StepOutput},
    gpu::{Buffer, Reading, Recording, Tensor},
    ops::{
        self, Epilogue, FewIn, FewOut, Int, Integers, KvCache, MAX_VEC_TOKENS, Matrix, Norm, One, Pages, RowInfo,
        Shape, Tokens,
    },
};

/// What a step launches depends on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StepKey {
    rows: usize,
    /// Pieces of attention.
    splits: usize,
    /// The tokens are those that the step before draws.
    drawn: bool,
}

/// A step under way.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) sequences: Vec<SeqId>,
    /// The tokens that it took, once they are known.
    pub(super) tokens: Vec<u32>,
    pub(super) reading: Reading,
}

impl Step {
    /// Whether it is what a batch asks for.
    pub(super) fn is_for(&self, batch: &[(SeqId, Vec<u32>)]) -> bool {
        // The tokens stay unknown where the call that began the step was dropped before its own step ended.
        batch.len() == self.sequences.len()
            && batch.len() == self.tokens.len()
            && batch
                .iter()
                .zip(self.sequences.iter().zip(&self.tokens))
                .all(|((seq, tokens), (own, token))| seq == own && tokens == std::slice::from_ref(token))
    }
}

impl Llama {
    /// Whether each sequence of the chunk goes on by one token, and the kernels of this file do for the model.
    pub(super) fn goes_on(&self, chunk: &Chunk) -> bool {
        let rows = chunk.rows.len();
        rows <= MAX_VEC_TOKENS
            && rows == chunk.sequences.len()
            && rows == chunk.ends.len()
            && self.config.heads.head_dim.is_multiple_of(8)
            && !self.config.half_order
    }

    /// Starts all layers, logits and token statistics of the rows of a chunk. `drawn`: their tokens are those that the step before draws.
    pub(super) fn start_step(&mut self, chunk: &Chunk, drawn: bool) -> Step {
        self.place(chunk);
        let rows = chunk.rows.len();
        let longest = chunk.rows.iter().map(|row| row.position as usize + 1).max().unwrap_or(1);
        let key = StepKey { rows, splits: ops::splits(longest), drawn };
        let recording = match self.decode.get(&key) {
            Some(recording) => Rc::clone(recording),
            None => {
                let recording = Rc::new(self.record(key));
                self.decode.insert(key, Rc::clone(&recording));
                recording
            }
        };
        let out = &self.scratch.out;
        let reading = recording.submit_and_read(&self.gpu, &out.buffer, (rows * out.stride * 4) as u64);
        Step { sequences: chunk.sequences.clone(), tokens: Vec::new(), reading }
    }

    /// Waits for a step; its outputs in the order of its rows.
    pub(super) async fn finish_step(&self, step: Reading) -> Result<Vec<StepOutput>> {
        let bytes = self.gpu.collect(step).await?;
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        values.chunks(self.scratch.out.stride).map(|row| self.step_output(&row[..self.scratch.out.cols])).collect()
    }

    /// Starts the step after one that is still under way, in the belief that the caller goes on with the most likely tokens: the GPU
    /// then need not wait for the CPU. The sequences must have gone on together before.
    pub(super) fn look_ahead(&mut self, sequences: &[SeqId]) {
        if self.sampler.is_some() || !self.looks_ahead || self.streak != sequences {
            self.streak = sequences.to_vec();
            return;
        }
        let counts: Vec<(SeqId, usize)> = sequences.iter().map(|seq| (*seq, 1)).collect();
        // No room is no error here: the caller may not want to go on.
        let Ok(copies) = self.table.extend(&counts) else { return };
        for copy in copies {
            self.copy_page(copy.from, copy.to);
        }
        let batch: Vec<(SeqId, Vec<u32>)> = sequences.iter().map(|seq| (*seq, vec![0])).collect();
        let chunk = self.chunks(&batch).pop().expect("no more rows than the step before had");
        self.ahead = Some(self.start_step(&chunk, true));
    }

    /// Forgets a step that was started in a wrong belief. The GPU computes it all the same, before whatever is submitted next.
    pub(super) fn forget_ahead(&mut self) {
        for seq in self.ahead.take().map(|step| step.sequences).unwrap_or_default() {
            self.table.retract(seq, 1);
        }
    }

    fn record(&self, StepKey { rows, splits, drawn }: StepKey) -> Recording {
        let Self { gpu, config, model, scratch: s, .. } = self;
        let mut recording = Recording::new();
        let r = &mut recording;
        let info = (&s.row_info, rows);
        let table = Pages { table: &s.pages, max_pages: s.max_pages, page_size: super::PAGE };
        let tokens = match drawn {
            true => Tokens { buffer: &s.out.buffer, stride: s.out.stride, count: rows, drawn },
            false => Tokens { buffer: &s.row_info, stride: size_of::<RowInfo>() / 4, count: rows, drawn },
        };
        ops::embed(gpu, r, &model.embedding, tokens, &s.x);
        if let Some(tiles) = s.tiles.as_ref().filter(|_| self.few_on_tiles(rows)) {
            self.record_tiles(r, (rows, splits), tiles);
            return recording;
        }
        // Whether `s.x_int` holds the residual stream times the gain of the norm that comes next.
        let mut ready = false;
        for (i, (layer, cache)) in model.layers.iter().zip(&self.cache).enumerate() {
            let cache = KvCache { keys: &cache.0, values: &cache.1, f32: self.kv_f32 };
            let pieces = (&s.pieces, splits);
            self.normed_product(r, &layer.attention_norm, &layer.qkv, &s.qkv, rows, ready);
            ops::attention_decode(
                gpu,
                r,
                config.heads,
                &model.rope,
                info,
                table,
                &s.qkv,
                cache,
                pieces,
                self.plan.wide_attention,
            );
            let integers = self.on_integers(&layer.output) && config.heads.head_dim.is_multiple_of(32);
            let attended = integers.then_some(&s.attended_int);
            ops::attention_merge(gpu, r, config.heads, info, pieces, &s.attended, attended, self.plan.wide_attention);
            let next = (&layer.ffn_norm, &layer.gate_up);
            ready = self.residual_product(r, &layer.output, (&s.attended, &s.attended_int, integers), next, rows);
            let gated = self.gated_product(r, layer, rows, ready);
            let next = match model.layers.get(i + 1) {
                Some(layer) => (&layer.attention_norm, &layer.qkv),
                None => (&model.norm, model.head()),
            };
            ready = self.residual_product(r, &layer.down, (&s.gated, &s.gated_int, gated), next, rows);
        }
        self.normed_product(r, &model.norm, model.head(), &s.logits, rows, ready);
        ops::token_statistics(gpu, r, &s.logits, &s.partials, (&s.watch, self.watch.len()), &s.out, rows);
        recording
    }

    /// Whether that many rows go to cooperative matrices: products of block formats with integers are as quick up to seven.
    fn few_on_tiles(&self, rows: usize) -> bool {
        let blocks = self.model.layers.iter().all(|layer| layer.gate_up.is_blocks());
        ops::can_coop(&self.gpu, self.model.head())
            && self.config.heads.head_dim.is_multiple_of(16)
            && rows >= if blocks { 8 } else { 3 }
    }

    /// The step with all products on cooperative matrices: six launches a layer too. A product leaves its rows times the gain of the
    /// norm that comes next, and their squares, by which the product after it divides.
    fn record_tiles(&self, r: &mut Recording, (rows, splits): (usize, usize), tiles: &TileScratch) {
        let Self { gpu, config, model, scratch: s, .. } = self;
        let info = (&s.row_info, rows);
        let table = Pages { table: &s.pages, max_pages: s.max_pages, page_size: super::PAGE };
        let normed = FewIn { x: &tiles.x, norm: Some((&tiles.squares, config.norm_eps)) };
        let plain = |x| FewIn { x, norm: None };
        let next = |gain| FewOut::Next { y: &s.x, gain, z: &tiles.x, squares: &tiles.squares };
        let first = Norm { gain: &model.layers[0].attention_norm, eps: config.norm_eps };
        ops::tiles(gpu, r, &s.x, Shape::Norm(first), &tiles.x, rows);
        for (i, (layer, cache)) in model.layers.iter().zip(&self.cache).enumerate() {
            let cache = KvCache { keys: &cache.0, values: &cache.1, f32: self.kv_f32 };
            let pieces = (&s.pieces, splits);
            let x = if i == 0 { plain(&tiles.x) } else { normed };
            ops::matmul_coop_few(gpu, r, &layer.qkv, x, FewOut::Plain { y: &s.qkv, add: false }, rows);
            ops::attention_decode(
                gpu,
                r,
                config.heads,
                &model.rope,
                info,
                table,
                &s.qkv,
                cache,
                pieces,
                self.plan.wide_attention,
            );
            ops::attention_merge_tiles(gpu, r, config.heads, info, pieces, &tiles.attended);
            ops::matmul_coop_few(gpu, r, &layer.output, plain(&tiles.attended), next(&layer.ffn_norm), rows);
            if layer.gate_up.is_whole() {
                ops::matmul_coop_few(gpu, r, &layer.gate_up, normed, FewOut::Swiglu(&tiles.gated), rows);
            } else {
                let y = FewOut::Plain { y: &s.gate_up, add: false };
                ops::matmul_coop_few(gpu, r, &layer.gate_up, normed, y, rows);
                ops::tiles(gpu, r, &s.gate_up, Shape::Swiglu, &tiles.gated, rows);
            }
            let gain = model.layers.get(i + 1).map_or(&model.norm, |layer| &layer.attention_norm);
            ops::matmul_coop_few(gpu, r, &layer.down, plain(&tiles.gated), next(gain), rows);
        }
        ops::matmul_coop_few(gpu, r, model.head(), normed, FewOut::Plain { y: &s.logits, add: false }, rows);
        ops::token_statistics(gpu, r, &s.logits, &s.partials, (&s.watch, self.watch.len()), &s.out, rows);
    }

    /// Whether products with the matrix take activations as integers.
    fn on_integers(&self, matrix: &Matrix) -> bool {
        self.plan.integers && matrix.is_blocks()
    }

    /// y = matrix · RMSNorm(x), in one launch or two. `ready`: x is there as integers.
    fn normed_product(&self, r: &mut Recording, gain: &Buffer, matrix: &Matrix, y: &Tensor, rows: usize, ready: bool) {
        let Self { gpu, config, scratch: s, .. } = self;
        let eps = config.norm_eps;
        let norm = Norm { gain, eps };
        if self.on_integers(matrix) {
            self.quantized(r, gain, rows, ready);
            ops::matmul_int(gpu, r, matrix, &s.x_int, y, rows, Int { norm: Some(eps), ..Int::default() });
        } else if self.plan.fuse_norm && matrix.is_floats() && rows == 1 {
            ops::matmul_one(gpu, r, matrix, &s.x, y, One { norm: Some(norm), ..One::default() });
        } else if self.plan.fuse_norm && matrix.is_floats() {
            ops::matmul_vec_norm(gpu, r, matrix, norm, false, &s.x, y, rows);
        } else {
            ops::rms_norm(gpu, r, &s.x, gain, eps, &s.normed, rows);
            self.product(r, matrix, &s.normed, y, rows, false);
        }
    }

    /// gated = silu(gate · RMSNorm(x)) · (up · RMSNorm(x)); whether it is there as integers too.
    fn gated_product(&self, r: &mut Recording, layer: &Layer, rows: usize, ready: bool) -> bool {
        let Self { gpu, config, scratch: s, .. } = self;
        let (gain, matrix) = (&layer.ffn_norm, &layer.gate_up);
        let norm = Norm { gain, eps: config.norm_eps };
        if self.on_integers(matrix) && matrix.is_whole() && config.feed_forward.is_multiple_of(32) {
            self.quantized(r, gain, rows, ready);
            let int = Int { norm: Some(norm.eps), swiglu: true, next: Some((None, &s.gated_int)), add: false };
            ops::matmul_int(gpu, r, matrix, &s.x_int, &s.gated, rows, int);
            return true;
        }
        if self.plan.fuse_norm && matrix.is_floats() && matrix.is_whole() && rows == 1 {
            ops::matmul_one(gpu, r, matrix, &s.x, &s.gated, One { norm: Some(norm), swiglu: true, add: false });
        } else if self.plan.fuse_norm && matrix.is_floats() && matrix.is_whole() {
            ops::matmul_vec_norm(gpu, r, matrix, norm, true, &s.x, &s.gated, rows);
        } else {
            // Gate and up differ in format, or are too large for one binding.
            self.normed_product(r, gain, matrix, &s.gate_up, rows, ready);
            ops::swiglu(gpu, r, &s.gate_up, &s.gated, rows);
        }
        false
    }

    /// x += matrix · y, where y may be there as integers; whether x · gain of what comes next is then there as integers.
    fn residual_product(
        &self,
        r: &mut Recording,
        matrix: &Matrix,
        (y, y_int, has_integers): (&Tensor, &Integers, bool),
        (gain, next): (&Buffer, &Matrix),
        rows: usize,
    ) -> bool {
        let Self { gpu, scratch: s, .. } = self;
        if !self.on_integers(matrix) {
            self.product(r, matrix, y, &s.x, rows, true);
            return false;
        }
        if !has_integers {
            ops::quantize(gpu, r, y, None, y_int, rows);
        }
        let next = self.on_integers(next).then_some((Some(gain), &s.x_int));
        ops::matmul_int(gpu, r, matrix, y_int, &s.x, rows, Int { add: true, next, ..Int::default() });
        next.is_some()
    }

    /// x · gain as integers, if it is not there yet.
    fn quantized(&self, r: &mut Recording, gain: &Buffer, rows: usize, ready: bool) {
        let Self { gpu, scratch: s, .. } = self;
        if !ready {
            ops::quantize(gpu, r, &s.x, Some(gain), &s.x_int, rows);
        }
    }

    /// A product of any formats.
    fn product(&self, r: &mut Recording, matrix: &Matrix, x: &Tensor, y: &Tensor, rows: usize, add: bool) {
        if self.plan.fuse_norm && rows == 1 && matrix.is_floats() {
            ops::matmul_one(&self.gpu, r, matrix, x, y, One { add, ..One::default() });
        } else {
            ops::matmul_vec(&self.gpu, r, matrix, x, y, rows, Epilogue { add, bias: None });
        }
    }
}
