//! The forward pass.

use super::{Llama, OUT_ROWS};
use crate::{
    Result,
    error::GpuError,
    generator::{SeqId, StepOutput, kv_cache::PAGE},
    gpu::Recording,
    ops::{self, Epilogue, KvCache, Matrix, Norm, Pages, RowInfo, Shape, Tokens},
};

/// Rows of one pass, and which of them end their sequence's part of the batch.
pub(super) struct Chunk {
    pub(super) rows: Vec<RowInfo>,
    pub(super) sequences: Vec<SeqId>,
    /// Row of this chunk, entry of the batch.
    pub(super) ends: Vec<(usize, usize)>,
}

impl Llama {
    pub(super) async fn run(&mut self, batch: &[(SeqId, Vec<u32>)]) -> Result<Vec<StepOutput>> {
        self.check(batch)?;
        if let Some(step) = self.ahead.take_if(|step| step.is_for(batch)) {
            self.look_ahead(&step.sequences);
            let outputs = self.finish_step(step.reading).await;
            return self.seen(outputs);
        }
        self.forget_ahead();
        let counts: Vec<(SeqId, usize)> = batch.iter().map(|(seq, tokens)| (*seq, tokens.len())).collect();
        for copy in self.table.extend(&counts)? {
            self.copy_page(copy.from, copy.to);
        }
        let mut outputs: Vec<Option<StepOutput>> = vec![None; batch.len()];
        let chunks = self.chunks(batch);
        let is_only = chunks.len() == 1;
        for chunk in chunks {
            if self.goes_on(&chunk) {
                let step = self.start_step(&chunk, false);
                if is_only {
                    self.look_ahead(&step.sequences);
                }
                let statistics = self.finish_step(step.reading).await;
                let mut statistics = self.seen(statistics)?;
                self.draw(chunk.ends.iter().map(|(_, entry)| batch[*entry].0), &mut statistics).await?;
                for ((_, entry), output) in chunk.ends.iter().zip(statistics) {
                    outputs[*entry] = Some(output);
                }
                continue;
            }
            self.pass(&chunk);
            for ends in chunk.ends.chunks(self.scratch.out.rows.min(OUT_ROWS)) {
                let mut statistics = self.statistics(ends).await?;
                self.draw(ends.iter().map(|(_, entry)| batch[*entry].0), &mut statistics).await?;
                for ((_, entry), output) in ends.iter().zip(statistics) {
                    outputs[*entry] = Some(output);
                }
            }
        }
        Ok(outputs.into_iter().map(|o| o.expect("every entry ends in some chunk")).collect())
    }

    /// Tells the step that was started ahead which tokens it takes: the most likely ones of the step that has ended.
    fn seen(&mut self, outputs: Result<Vec<StepOutput>>) -> Result<Vec<StepOutput>> {
        match (&outputs, &mut self.ahead) {
            (Ok(outputs), Some(ahead)) => ahead.tokens = outputs.iter().map(|output| output.token).collect(),
            (Err(_), _) => self.forget_ahead(),
            _ => {}
        }
        outputs
    }

    /// Logits of the next token after `tokens` in a new sequence, at every position: for tests and tools.
    pub async fn all_logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        // The next step would overwrite the logits.
        let looks_ahead = std::mem::take(&mut self.looks_ahead);
        let logits = self.logits_of_each(tokens).await;
        self.looks_ahead = looks_ahead;
        logits
    }

    async fn logits_of_each(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let seq = self.table.start();
        let mut logits = Vec::new();
        for token in tokens {
            let batch = [(seq, vec![*token])];
            self.run(&batch).await?;
            logits.extend(self.gpu.download(&self.scratch.logits, 1).await?);
        }
        self.table.free(seq);
        Ok(logits)
    }

    /// The logits of the last pass's first sequence; after a prompt, not while sequences go on.
    pub async fn last_logits(&self) -> Result<Vec<f32>> {
        self.gpu.download(&self.scratch.logits, 1).await
    }

    pub(super) fn copy_page(&self, from: u32, to: u32) {
        let width = if self.kv_f32 { 4 } else { 2 };
        let bytes = (PAGE * self.config.heads.kv_heads * self.config.heads.head_dim * width) as u64;
        let copies = self.cache.iter().flat_map(|(keys, values)| [keys, values]);
        self.gpu.copy_within(copies, u64::from(from) * bytes, u64::from(to) * bytes, bytes);
    }

    /// Cuts a batch, already counted in by the page table, into passes of at most `max_rows` rows.
    pub(super) fn chunks(&self, batch: &[(SeqId, Vec<u32>)]) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for (entry, (seq, tokens)) in batch.iter().enumerate() {
            let first = self.table.length(*seq) - tokens.len();
            for (i, token) in tokens.iter().enumerate() {
                if chunks.last().is_none_or(|c| c.rows.len() == self.scratch.rows) {
                    chunks.push(Chunk { rows: Vec::new(), sequences: Vec::new(), ends: Vec::new() });
                }
                let chunk = chunks.last_mut().expect("just made");
                if chunk.sequences.last() != Some(seq) {
                    chunk.sequences.push(*seq);
                }
                if i + 1 == tokens.len() {
                    chunk.ends.push((chunk.rows.len(), entry));
                }
                chunk.rows.push(RowInfo {
                    token: *token,
                    position: (first + i) as u32,
                    sequence: chunk.sequences.len() as u32 - 1,
                    slot: self.table.slot(*seq, first + i),
                });
            }
        }
        chunks
    }

    /// Tells the GPU where the rows of a chunk and their pasts are.
    pub(super) fn place(&self, chunk: &Chunk) {
        let Self { gpu, scratch: s, .. } = self;
        let mut pages = Vec::with_capacity(chunk.sequences.len() * s.max_pages);
        for seq in &chunk.sequences {
            pages.extend_from_slice(self.table.pages(*seq));
            pages.resize(pages.len().next_multiple_of(s.max_pages), 0);
        }
        gpu.write(&s.pages, 0, bytemuck::cast_slice(&pages));
        gpu.write(&s.row_info, 0, bytemuck::cast_slice(&chunk.rows));
    }

    /// All layers over the rows of a chunk; leaves the residual stream in `x`.
    fn pass(&self, chunk: &Chunk) {
        self.place(chunk);
        let Self { gpu, config, model, scratch: s, .. } = self;
        let rows = chunk.rows.len();
        let info = (&s.row_info, rows);
        let table = Pages { table: &s.pages, max_pages: s.max_pages, page_size: PAGE };
        let residual = Epilogue { add: true, bias: None };
        let r = &mut Recording::new();
        let tokens = Tokens { buffer: &s.row_info, stride: size_of::<RowInfo>() / 4, count: rows, drawn: false };
        ops::embed(gpu, r, &model.embedding, tokens, &s.x);
        let runs = ops::runs(&chunk.rows);
        if let Some(tiles) = &s.tiles {
            gpu.write(&tiles.runs, 0, bytemuck::cast_slice(&runs));
        }
        for (layer, cache) in model.layers.iter().zip(&self.cache) {
            let cache = KvCache { keys: &cache.0, values: &cache.1, f32: self.kv_f32 };
            if let Some(tiles) = &s.tiles {
                let norm = |gain| Shape::Norm(Norm { gain, eps: config.norm_eps });
                ops::tiles(gpu, r, &s.x, norm(&layer.attention_norm), &tiles.x, rows);
                ops::matmul_tiles(gpu, r, &layer.qkv, &tiles.x, &s.qkv, rows, false);
                ops::rope_kv(gpu, r, config.heads, &model.rope, info, &s.qkv, &s.q, cache);
                if self.kv_f32 || !ops::can_coop_attention(gpu, config.heads) {
                    ops::attention(gpu, r, config.heads, info, table, &s.q, cache, &s.attended);
                } else {
                    ops::attention_coop(
                        gpu,
                        r,
                        config.heads,
                        (&tiles.runs, runs.len()),
                        table,
                        &s.q,
                        cache,
                        &s.attended,
                    );
                }
                ops::tiles(gpu, r, &s.attended, Shape::Plain, &tiles.attended, rows);
                ops::matmul_tiles(gpu, r, &layer.output, &tiles.attended, &s.x, rows, true);
                ops::tiles(gpu, r, &s.x, norm(&layer.ffn_norm), &tiles.x, rows);
                if layer.gate_up.is_whole() {
                    ops::matmul_coop_swiglu(gpu, r, &layer.gate_up, &tiles.x, &tiles.gated, rows);
                } else {
                    // Gate and up differ in format, or are too large for one binding.
                    ops::matmul_tiles(gpu, r, &layer.gate_up, &tiles.x, &s.gate_up, rows, false);
                    ops::tiles(gpu, r, &s.gate_up, Shape::Swiglu, &tiles.gated, rows);
                }
                ops::matmul_tiles(gpu, r, &layer.down, &tiles.gated, &s.x, rows, true);
                continue;
            }
            ops::rms_norm(gpu, r, &s.x, &layer.attention_norm, config.norm_eps, &s.normed, rows);
            ops::matmul(gpu, r, &layer.qkv, &s.normed, &s.qkv, rows, Epilogue::default());
            ops::rope_kv(gpu, r, config.heads, &model.rope, info, &s.qkv, &s.q, cache);
            ops::attention(gpu, r, config.heads, info, table, &s.q, cache, &s.attended);
            ops::matmul(gpu, r, &layer.output, &s.attended, &s.x, rows, residual);
            ops::rms_norm(gpu, r, &s.x, &layer.ffn_norm, config.norm_eps, &s.normed, rows);
            ops::matmul(gpu, r, &layer.gate_up, &s.normed, &s.gate_up, rows, Epilogue::default());
            ops::swiglu(gpu, r, &s.gate_up, &s.gated, rows);
            ops::matmul(gpu, r, &layer.down, &s.gated, &s.x, rows, residual);
        }
        r.submit(gpu);
    }

    /// Final norm, logits and token statistics of some rows of `x`.
    async fn statistics(&self, ends: &[(usize, usize)]) -> Result<Vec<StepOutput>> {
        let Self { gpu, config, model, scratch: s, .. } = self;
        let picks: Vec<u32> = ends.iter().map(|(row, _)| *row as u32).collect();
        gpu.write(&s.picks, 0, bytemuck::cast_slice(&picks));
        let count = picks.len();
        let r = &mut Recording::new();
        let tokens = Tokens { buffer: &s.picks, stride: 1, count, drawn: false };
        // Picking rows is a lookup in a table of f32.
        ops::embed(gpu, r, &Matrix::of_tensor(&s.x), tokens, &s.last);
        ops::rms_norm(gpu, r, &s.last, &model.norm, config.norm_eps, &s.normed, count);
        ops::matmul(gpu, r, model.head(), &s.normed, &s.logits, count, Epilogue::default());
        ops::token_statistics(gpu, r, &s.logits, &s.partials, (&s.watch, self.watch.len()), &s.out, count);
        r.submit(gpu);
        let values = gpu.download(&s.out, count).await?;
        values.chunks(s.out.cols).map(|row| self.step_output(row)).collect()
    }

    pub(super) fn step_output(&self, row: &[f32]) -> Result<StepOutput> {
        let token = row[0] as u32;
        if token as usize >= self.config.vocabulary || !row.iter().all(|v| v.is_finite()) {
            let detail = format!("token {} with log-probability {}: the logits are not numbers", row[0], row[1]);
            return Err(GpuError::SelfTest { kernel: "llama".into(), detail }.into());
        }
        Ok(StepOutput { token, logprob: row[1], watched: row[2..].to_vec() })
    }
}
