//! The step that answers are made of: sequences that go on by one token each, in few launches.
//!
//! Six a layer: norm + qkv · rotary embedding, cache write and attention in pieces · their merge · output + residual ·
//! norm + gate, up and SwiGLU · down + residual. What to launch depends on the number of rows and of pieces alone, so it is
//! recorded once and run again for every token.

use std::rc::Rc;

use super::{Llama, forward::Chunk};
use crate::{
    Result,
    generator::StepOutput,
    gpu::{Buffer, Recording, Tensor},
    ops::{self, Epilogue, KvCache, MAX_VEC_TOKENS, Matrix, Norm, Pages, RowInfo, Tokens},
};

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

    /// All layers, logits and token statistics of the rows of a chunk.
    pub(super) async fn decode(&mut self, chunk: &Chunk) -> Result<Vec<StepOutput>> {
        self.place(chunk);
        let rows = chunk.rows.len();
        let longest = chunk.rows.iter().map(|row| row.position as usize + 1).max().unwrap_or(1);
        let key = (rows, ops::splits(longest));
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
        let bytes = self.gpu.collect(reading).await?;
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        values.chunks(self.scratch.out.stride).map(|row| self.step_output(&row[..self.scratch.out.cols])).collect()
    }

    fn record(&self, (rows, splits): (usize, usize)) -> Recording {
        let Self { gpu, config, model, scratch: s, .. } = self;
        let mut recording = Recording::new();
        let r = &mut recording;
        let info = (&s.row_info, rows);
        let table = Pages { table: &s.pages, max_pages: s.max_pages, page_size: super::PAGE };
        let residual = Epilogue { add: true, bias: None };
        let tokens = Tokens { buffer: &s.row_info, stride: size_of::<RowInfo>() / 4, count: rows };
        ops::embed(gpu, r, &model.embedding, tokens, &s.x);
        for (layer, cache) in model.layers.iter().zip(&self.cache) {
            let cache = KvCache { keys: &cache.0, values: &cache.1, f32: self.kv_f32 };
            let pieces = (&s.pieces, splits);
            self.normed_product(r, &layer.attention_norm, &layer.qkv, &s.qkv, rows);
            ops::attention_decode(gpu, r, config.heads, &model.rope, info, table, &s.qkv, cache, pieces);
            ops::attention_merge(gpu, r, config.heads, info, pieces, &s.attended);
            ops::matmul_vec(gpu, r, &layer.output, &s.attended, &s.x, rows, residual);
            if self.fuse_norm && layer.gate_up.is_whole() {
                let norm = Norm { gain: &layer.ffn_norm, eps: config.norm_eps };
                ops::matmul_vec_norm(gpu, r, &layer.gate_up, norm, true, &s.x, &s.gated, rows);
            } else {
                // Gate and up differ in format, or are too large for one binding.
                self.normed_product(r, &layer.ffn_norm, &layer.gate_up, &s.gate_up, rows);
                ops::swiglu(gpu, r, &s.gate_up, &s.gated, rows);
            }
            ops::matmul_vec(gpu, r, &layer.down, &s.gated, &s.x, rows, residual);
        }
        self.normed_product(r, &model.norm, model.head(), &s.logits, rows);
        ops::token_statistics(gpu, r, &s.logits, &s.partials, (&s.watch, self.watch.len()), &s.out, rows);
        recording
    }

    /// y = matrix · RMSNorm(x), in one launch or two.
    fn normed_product(&self, r: &mut Recording, gain: &Buffer, matrix: &Matrix, y: &Tensor, rows: usize) {
        let Self { gpu, config, scratch: s, .. } = self;
        if self.fuse_norm {
            ops::matmul_vec_norm(gpu, r, matrix, Norm { gain, eps: config.norm_eps }, false, &s.x, y, rows);
        } else {
            ops::rms_norm(gpu, r, &s.x, gain, config.norm_eps, &s.normed, rows);
            ops::matmul_vec(gpu, r, matrix, &s.normed, y, rows, Epilogue::default());
        }
    }
}
