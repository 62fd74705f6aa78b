//! `shaders/attention_coop.wgsl`: attention of many rows on cooperative matrices.

use super::{Heads, KvCache, Pages, RowInfo};
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// Neighbouring rows of a sequence, as the shader reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Run {
    /// The first row.
    pub row: u32,
    /// Rows, at most 16.
    pub count: u32,
    /// Row of the page table.
    pub sequence: u32,
    /// Position of the first.
    pub position: u32,
}

/// Cuts rows into runs: of one sequence, at positions that follow each other, 16 at most.
pub fn runs(rows: &[RowInfo]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.count < 16 && run.sequence == row.sequence && run.position + run.count == row.position => {
                run.count += 1;
            }
            _ => runs.push(Run { row: i as u32, count: 1, sequence: row.sequence, position: row.position }),
        }
    }
    runs
}

/// Whether this device can compute the heads' attention this way; the cache must be in f16, its pages 16 positions.
pub fn can_coop_attention(gpu: &Gpu, heads: Heads) -> bool {
    gpu.is_cooperative() && [64, 128].contains(&heads.head_dim)
}

/// y = softmax(q · Kᵀ / sqrt(head_dim)) · V for each row of the runs, over positions up to its own.
#[allow(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn attention_coop(
    gpu: &Gpu,
    recording: &mut Recording,
    heads: Heads,
    (runs, count): (&Buffer, usize),
    pages: Pages<'_>,
    q: &Tensor,
    cache: KvCache<'_>,
    y: &Tensor,
) {
    assert!(can_coop_attention(gpu, heads) && !cache.f32 && pages.page_size == 16, "attention_coop: {heads:?}");
    assert_eq!(heads.heads % heads.kv_heads, 0, "attention_coop: {} heads share {}", heads.heads, heads.kv_heads);
    let params = params::AttentionCoop {
        heads: heads.heads as u32,
        kv_heads: heads.kv_heads as u32,
        q_stride: q.stride as u32,
        y_stride: y.stride as u32,
        max_pages: pages.max_pages as u32,
        scale: 1.0 / (heads.head_dim as f32).sqrt(),
    };
    let buffers = [runs, pages.table, &q.buffer, cache.keys, cache.values, &y.buffer];
    let dims = if heads.head_dim == 128 { "DIMS=8" } else { "DIMS=4" };
    let groups = [count, heads.heads.div_ceil(4), 1];
    recording.dispatch(gpu, ("attention_coop", &[dims, "COOP"]), params, &buffers, groups);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_with_the_sequence_the_position_or_sixteen_rows() {
        let row = |sequence, position| RowInfo { token: 0, position, sequence, slot: 0 };
        let rows: Vec<RowInfo> = (3..21).map(|p| row(0, p)).chain([row(1, 21), row(1, 40)]).collect();
        let run = |row, count, sequence, position| Run { row, count, sequence, position };
        assert_eq!(runs(&rows), [run(0, 16, 0, 3), run(16, 2, 0, 19), run(18, 1, 1, 21), run(19, 1, 1, 40)]);
    }
}
