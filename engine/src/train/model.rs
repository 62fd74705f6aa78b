//! The frozen Llama on burn's tensors, and its forward pass.
//!
//! Shapes: a batch of `rows` sequences of `length` tokens is a matrix (rows · length, hidden). Sequences are padded at their end. Attention is
//! causal, so no token that counts ever sees padding, and no padding mask is needed; a padded row's own values are never used.
//!
//! Matrices keep their file's order, (outputs, inputs). Rows of q and k are put back into Hugging Face's order (halves), in which adapters are
//! trained. Vocabulary tables hold the frozen rows only; trained rows stand beside them, so that a token's *column* — its place in the frozen
//! table, or that table's length plus its place among the trained rows — differs from its id in general.

use burn::{DType, Tensor, activation, kind::Int};

use super::{
    lora::{Layout, NewRows, Projection, ROWS},
    place::Place,
    random::Key,
    whole::{ATTENTION_NORM, FEED_FORWARD_NORM},
};
use crate::{
    Error, Result,
    generator::llama::{LlamaConfig, check_shapes},
    platform::block_on,
    weights::{RowOrder, Weights, read_values},
};

/// Scores of attention in one tensor: 1 GiB in f32, half of what Vulkan has for a buffer.
const MOST_SCORES: usize = if cfg!(test) { 1 << 6 } else { 1 << 28 };

/// One block's frozen tensors.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) attention_norm: Tensor<1>,
    pub(super) feed_forward_norm: Tensor<1>,
    /// By [`Projection`], (outputs, inputs).
    pub(super) projections: Vec<Tensor<2>>,
}

/// What a block needs beside its weights.
#[derive(Debug, Clone)]
pub(super) struct Angles {
    /// (1, 1, length, head_dim / 2)
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// (1, 1, length, length): 0 where a position may look, a large negative number where not.
    mask: Tensor<4>,
}

impl Angles {
    /// From (length, head_dim / 2) angles.
    pub(super) fn new(place: &Place, angles: &[f64], length: usize) -> Self {
        let half = angles.len() / length.max(1);
        let table =
            |f: fn(f64) -> f64| place.tensor(angles.iter().map(|&a| f(a) as f32).collect(), [1, 1, length, half]);
        // Finite, so that no row is all infinities; exp of it is zero in every type.
        let hidden = |at: usize| if at % length > at / length { -1e4 } else { 0.0 };
        let mask = place.tensor((0..length * length).map(hidden).collect(), [1, 1, length, length]);
        Self { cos: table(f64::cos), sin: table(f64::sin), mask }
    }
}

/// The frozen model.
#[derive(Debug)]
pub struct Base {
    /// Sizes and constants.
    pub config: LlamaConfig,
    /// Whether the head is the embedding.
    pub tied: bool,
    pub(super) place: Place,
    /// Frozen rows of the embedding.
    pub(super) embedding: Tensor<2>,
    /// Frozen rows of an own head.
    pub(super) head: Option<Tensor<2>>,
    pub(super) norm: Tensor<1>,
    pub(super) blocks: Vec<Block>,
    /// Column by id.
    pub(super) columns: Vec<u32>,
    /// Frozen rows of each table.
    pub(super) n_frozen: usize,
    rope_factors: Option<Vec<f32>>,
    /// How the trained rows begin: the base's own values, or as new: (embedding, head).
    pub(super) first_rows: [Vec<f32>; 2],
}

/// Sequences of one length, padded at their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Sequences.
    pub rows: usize,
    /// Tokens of each.
    pub length: usize,
    /// (rows · length) ids.
    pub ids: Vec<u32>,
    /// Whether the token counts in the loss; it is predicted from the one before.
    pub trained: Vec<bool>,
}

impl Batch {
    /// Pads sequences of (id, counts) with `pad` to the longest, or to `length`.
    pub fn new(sequences: &[(&[u32], &[bool])], pad: u32, length: usize) -> Self {
        let length = sequences.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0).max(length);
        let mut batch = Self { rows: sequences.len(), length, ids: Vec::new(), trained: Vec::new() };
        for (ids, trained) in sequences {
            let padding = length - ids.len();
            batch.ids.extend(ids.iter().copied().chain(std::iter::repeat_n(pad, padding)));
            batch.trained.extend(trained.iter().copied().chain(std::iter::repeat_n(false, padding)));
        }
        batch
    }

    /// Positions whose next token counts, with that token.
    pub(super) fn targets(&self) -> Vec<(usize, u32)> {
        let counts = |&at: &usize| (at + 1) % self.length != 0 && self.trained[at + 1];
        (0..self.ids.len()).filter(counts).map(|at| (at, self.ids[at + 1])).collect()
    }
}

/// What is trained of a block.
pub(super) struct Additions<'a> {
    /// All of it, in place of the base's: by [`Projection`], then the norms.
    pub(super) whole: Option<&'a [Tensor<2>]>,
    /// LoRA's A and B by [`Projection`].
    pub(super) pairs: Vec<Option<(Tensor<2>, Tensor<2>)>>,
    /// Factor of their product.
    pub(super) scale: f64,
    /// Factors of dropout for a projection's input of this shape.
    pub(super) dropout: &'a dyn Fn(Projection, [usize; 2]) -> Option<Tensor<2>>,
}

impl Base {
    /// Reads a model. `trained` are the ids, ascending, whose rows are trained; those beyond the base's table are new.
    pub fn load(place: &Place, weights: &dyn Weights, trained: &[u32], new_rows: NewRows, seed: u64) -> Result<Self> {
        let config = LlamaConfig::read(weights)?;
        check_shapes(weights, &config)?;
        if config.rope_dims != config.heads.head_dim {
            let problem =
                format!("{} of {} dimensions turned; training turns all", config.rope_dims, config.heads.head_dim);
            return Err(Error::input(weights.name(), "llama.rope.dimension_count", problem));
        }
        let columns = columns(weights.name(), config.vocabulary, trained)?;
        let n_frozen = columns.len() - trained.len();
        let tensor = |name: &str| -> Result<Vec<f32>> {
            let info = weights
                .tensor(name)
                .ok_or_else(|| Error::input(weights.name(), name, "the model has no such tensor"))?;
            block_on(read_values(weights, info, 0, info.matrix().0))
        };
        let table = |name: &str, number: u64| -> Result<(Tensor<2>, Vec<f32>)> {
            let all = tensor(name)?;
            let (frozen, first) =
                split_table(&all, config.hidden, &columns, trained, new_rows, Key::new(&[seed, ROWS, number]));
            Ok((place.matrix(frozen, [n_frozen, config.hidden]), first))
        };
        let (embedding, first_embedding) = table("token_embd.weight", 0)?;
        let tied = weights.tensor("output.weight").is_none();
        let (head, first_head) = match tied {
            true => (None, Vec::new()),
            false => table("output.weight", 1).map(|(head, first)| (Some(head), first))?,
        };
        let rope_factors = weights.tensor("rope_freqs.weight").map(|_| tensor("rope_freqs.weight")).transpose()?;
        let block = |index: usize| -> Result<Block> {
            let norm = |name: &str| {
                Ok::<_, Error>(place.tensor(tensor(&format!("blk.{index}.{name}.weight"))?, [config.hidden]))
            };
            let projection = |projection: Projection| -> Result<Tensor<2>> {
                let (rows, cols) = projection.shape(&config);
                let name = format!("blk.{index}.{}.weight", projection.gguf_name());
                let mut values = tensor(&name)?;
                let order = RowOrder::of_llama(&name, config.heads.head_dim);
                if order != RowOrder::Same && !config.half_order {
                    let mut halves = vec![0.0; values.len()];
                    for (row, from) in values.chunks_exact(cols).enumerate() {
                        halves[order.source_row(row) * cols..][..cols].copy_from_slice(from);
                    }
                    values = halves;
                }
                Ok(place.matrix(values, [rows, cols]))
            };
            Ok(Block {
                attention_norm: norm("attn_norm")?,
                feed_forward_norm: norm("ffn_norm")?,
                projections: Projection::ALL.into_iter().map(projection).collect::<Result<_>>()?,
            })
        };
        Ok(Self {
            tied,
            place: place.clone(),
            embedding,
            head,
            norm: place.tensor(tensor("output_norm.weight")?, [config.hidden]),
            blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
            columns,
            n_frozen,
            rope_factors,
            first_rows: [first_embedding, first_head],
            config,
        })
    }

    /// The parameters at the start of training.
    pub fn start(&self, layout: &Layout, seed: u64) -> Vec<Tensor<2>> {
        layout.start(&self.place, seed, [&self.first_rows[0], &self.first_rows[1]])
    }

    /// RoPE's angles and the causal mask for a length.
    pub(super) fn angles(&self, length: usize) -> Angles {
        let half = self.config.heads.head_dim / 2;
        let factor = |i: usize| {
            self.rope_factors.as_ref().map_or(1.0, |factors| f64::from(factors[i])) * self.config.rope_divisor
        };
        let frequency = |i: usize| self.config.rope_base.powf(-(i as f64) / half as f64) / factor(i);
        let angles: Vec<f64> = (0..length)
            .flat_map(|at| (0..half).map(move |i| (at, i)))
            .map(|(at, i)| at as f64 * frequency(i))
            .collect();
        Angles::new(&self.place, &angles, length)
    }

    /// The embedding of a batch: frozen rows, or the trained ones.
    pub(super) fn embed(&self, batch: &Batch, rows: Option<Tensor<2>>) -> Tensor<2> {
        let columns: Vec<u32> = batch.ids.iter().map(|&id| self.columns[id as usize]).collect();
        let is_frozen = |&column: &u32| (column as usize) < self.n_frozen;
        let indices = columns.iter().map(|column| if is_frozen(column) { *column as i32 } else { 0 }).collect();
        let frozen = like(&self.embedding, rows.as_ref()).select(0, self.place.indices(indices, [columns.len()]));
        let frozen = frozen.cast(self.place.dtype);
        let Some(rows) = rows else { return frozen };
        let keep = columns.iter().map(|column| f32::from(u8::from(is_frozen(column)))).collect();
        let keep = like(&self.place.tensor(keep, [columns.len(), 1]), Some(&rows));
        let pick = like(&self.one_hot(batch), Some(&rows));
        frozen * keep + pick.matmul(rows)
    }

    /// (tokens, trained rows): 1 where the token is that row's.
    pub(super) fn one_hot(&self, batch: &Batch) -> Tensor<2> {
        let n_rows = self.columns.len() - self.n_frozen;
        let mut picks = vec![0.0; batch.ids.len() * n_rows];
        for (at, &id) in batch.ids.iter().enumerate() {
            if let Some(row) = (self.columns[id as usize] as usize).checked_sub(self.n_frozen) {
                picks[at * n_rows + row] = 1.0;
            }
        }
        self.place.tensor(picks, [batch.ids.len(), n_rows])
    }

    /// Logits of normalised hidden states, by column.
    pub(super) fn logits(&self, hidden: Tensor<2>, rows: Option<Tensor<2>>) -> Tensor<2> {
        let head = like(self.head.as_ref().unwrap_or(&self.embedding), Some(&hidden));
        let logits = self.product(hidden.clone(), head);
        match rows {
            Some(rows) => Tensor::cat(vec![logits, self.product(hidden, rows)], 1),
            None => logits,
        }
    }

    /// x · wᵀ in the matrices' type; the result in everything else's.
    pub(super) fn product(&self, x: Tensor<2>, w: Tensor<2>) -> Tensor<2> {
        let matrices = self.place.matrices;
        x.cast(matrices).matmul(w.cast(matrices).transpose()).cast(self.place.dtype)
    }

    /// One block.
    pub(super) fn block(
        &self,
        index: usize,
        x: Tensor<2>,
        rows: usize,
        angles: &Angles,
        additions: &Additions<'_>,
    ) -> Tensor<2> {
        let heads = self.config.heads;
        let weight = |projection: Projection, x: &Tensor<2>| match additions.whole {
            Some(whole) => whole[projection as usize].clone(),
            None => like(&self.blocks[index].projections[projection as usize], Some(x)),
        };
        let norms = match additions.whole {
            Some(whole) => {
                [ATTENTION_NORM, FEED_FORWARD_NORM].map(|at| whole[at].clone().reshape([self.config.hidden]))
            }
            None => {
                let block = &self.blocks[index];
                [block.attention_norm.clone(), block.feed_forward_norm.clone()]
            }
        };
        let [tokens, _] = x.dims();
        let length = tokens / rows;
        // Inputs and outputs of the products stay in the matrices' type in between: each change of type is another pass over memory.
        let matrices = self.place.matrices;
        let project = |x: &Tensor<2>, projection: Projection| {
            let product = x.clone().matmul(weight(projection, x).cast(matrices).transpose());
            let Some((a, b)) = &additions.pairs[projection as usize] else { return product };
            let dropped = match (additions.dropout)(projection, x.dims()) {
                Some(factors) => x.clone() * like(&factors, Some(x)).cast(matrices),
                None => x.clone(),
            };
            let low = dropped.matmul(a.clone().cast(matrices).transpose()).mul_scalar(additions.scale);
            product + low.matmul(b.clone().cast(matrices).transpose())
        };
        let dtype = self.place.dtype;
        let residual = |x: Tensor<2>, projection: Projection| project(&x.cast(matrices), projection).cast(dtype);
        let eps = f64::from(self.config.norm_eps);
        let normed = rms_norm(x.clone(), &norms[0], eps).cast(matrices);
        let split = |x: Tensor<2>, n: usize| x.reshape([rows, length, n, heads.head_dim]).swap_dims(1, 2);
        let q = rotate(split(project(&normed, Projection::QProj).cast(dtype), heads.heads), angles);
        let k = rotate(split(project(&normed, Projection::KProj).cast(dtype), heads.kv_heads), angles);
        let v = split(project(&normed, Projection::VProj), heads.kv_heads);
        let attended = attention(q, k, v, angles, matrices);
        let attended = attended.swap_dims(1, 2).reshape([tokens, heads.heads * heads.head_dim]);
        let x = x + residual(attended, Projection::OProj);
        let normed = rms_norm(x.clone(), &norms[1], eps).cast(matrices);
        let gate = activation::silu(project(&normed, Projection::GateProj).cast(dtype));
        let up = project(&normed, Projection::UpProj).cast(dtype);
        x + residual(gate * up, Projection::DownProj)
    }
}

/// A frozen tensor where `other` is being recorded, so that the two can be combined.
pub(super) fn like<const D: usize, const E: usize>(frozen: &Tensor<D>, other: Option<&Tensor<E>>) -> Tensor<D> {
    match other {
        Some(other) if other.device().is_autodiff() => frozen.clone().autodiff(),
        _ => frozen.clone(),
    }
}

/// x / √(mean(x²) + eps) · weight.
pub(super) fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, eps: f64) -> Tensor<2> {
    let root = x.clone().square().mean_dim(1).add_scalar(eps).sqrt();
    let weight = like(weight, Some(&x)).unsqueeze::<2>();
    x.div(root) * weight
}

/// RoPE in Hugging Face's order: value i of a head turns with value i + head_dim/2. x: (rows, heads, length, head_dim).
pub(super) fn rotate(x: Tensor<4>, angles: &Angles) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let (cos, sin) = (like(&angles.cos, Some(&x)), like(&angles.sin, Some(&x)));
    let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let turned = first.clone() * cos.clone() - second.clone() * sin.clone();
    Tensor::cat(vec![turned, second * cos + first * sin], 3)
}

/// Causal attention: q (rows, heads, length, head_dim), k and v (rows, kv heads, length, head_dim); as q.
///
/// The queries that share a key head lie one after the other, so keys and values are not repeated. The two products are computed in type
/// `matrices` and v and the result are of it; everything else is as q. So many sequences are taken at a time as have scores of [`MOST_SCORES`].
pub(super) fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, angles: &Angles, matrices: DType) -> Tensor<4> {
    let [rows, heads, length, _] = q.dims();
    let at_a_time = (MOST_SCORES / (heads * length * length).max(1)).max(1);
    if rows <= at_a_time {
        return attention_at_once(q, k, v, angles, matrices);
    }
    let part = |x: &Tensor<4>, start: usize| x.clone().narrow(0, start, at_a_time.min(rows - start));
    let parts = (0..rows).step_by(at_a_time);
    let parts = parts.map(|at| attention_at_once(part(&q, at), part(&k, at), part(&v, at), angles, matrices)).collect();
    Tensor::cat(parts, 0)
}

fn attention_at_once(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, angles: &Angles, matrices: DType) -> Tensor<4> {
    let dtype = q.dtype();
    let [rows, heads, length, head_dim] = q.dims();
    let kv_heads = k.dims()[1];
    let together = heads / kv_heads * length;
    let mask = like(&angles.mask, Some(&q));
    let q = q.mul_scalar(1.0 / (head_dim as f64).sqrt()).reshape([rows, kv_heads, together, head_dim]);
    let scores = q.cast(matrices).matmul(k.cast(matrices).swap_dims(2, 3)).cast(dtype);
    let scores = scores.reshape([rows, heads, length, length]) + mask;
    let weights = activation::softmax(scores, 3).reshape([rows, kv_heads, together, length]);
    weights.cast(matrices).matmul(v).reshape([rows, heads, length, head_dim])
}

/// Negative log-probabilities of one column each, summed. logits: (tokens, columns); columns: (tokens, 1).
pub(super) fn cross_entropy(logits: Tensor<2>, columns: Tensor<2, Int>) -> Tensor<1> {
    activation::log_softmax(logits, 1).gather(1, columns).sum().neg()
}

/// Column by id.
fn columns(file: &str, vocabulary: usize, trained: &[u32]) -> Result<Vec<u32>> {
    let total = vocabulary.max(trained.last().map_or(0, |&last| last as usize + 1));
    let is_trained = |id: usize| trained.binary_search(&(id as u32)).is_ok();
    if let Some(gap) = (vocabulary..total).find(|&id| !is_trained(id)) {
        let problem = format!("row {gap} is new but not trained, while rows after it are; the base has {vocabulary}");
        return Err(Error::input(file, "token_embd.weight", problem));
    }
    let n_frozen = (total - trained.len()) as u32;
    let (mut frozen, mut new) = (0, n_frozen);
    let column = |id: usize| {
        let next = if is_trained(id) { &mut new } else { &mut frozen };
        *next += 1;
        *next - 1
    };
    Ok((0..total).map(column).collect())
}

/// A table's frozen rows, and how its trained rows begin.
fn split_table(
    all: &[f32],
    cols: usize,
    columns: &[u32],
    trained: &[u32],
    new_rows: NewRows,
    key: Key,
) -> (Vec<f32>, Vec<f32>) {
    let n_frozen = columns.len() - trained.len();
    let mut frozen = Vec::with_capacity(n_frozen * cols);
    let mut first = Vec::with_capacity(trained.len() * cols);
    let mean = || {
        let mut sums = vec![0f64; cols];
        all.chunks_exact(cols)
            .for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value)));
        let n = (all.len() / cols) as f64;
        sums.into_iter().map(|sum| (sum / n) as f32).collect::<Vec<_>>()
    };
    let mean = std::cell::LazyCell::new(mean);
    for (id, &column) in columns.iter().enumerate() {
        let row = all.get(id * cols..(id + 1) * cols);
        match (row, (column as usize) < n_frozen) {
            (Some(row), true) => frozen.extend_from_slice(row),
            (Some(row), false) => first.extend_from_slice(row),
            (None, _) => match new_rows {
                NewRows::Mean => first.extend_from_slice(&mean),
                NewRows::Normal => {
                    let start = (id * cols) as u64;
                    first.extend((0..cols as u64).map(|i| (0.02 * key.normal(start + i)) as f32));
                }
            },
        }
    }
    (frozen, first)
}

impl Layout {
    /// A block's additions among its parameters.
    pub(super) fn pairs(&self, parameters: &[Tensor<2>]) -> Vec<Option<(Tensor<2>, Tensor<2>)>> {
        let pair = |projection: Projection| {
            let at = 2 * self.target(projection)?;
            Some((parameters[at].clone(), parameters[at + 1].clone()))
        };
        Projection::ALL.into_iter().map(pair).collect()
    }
}
