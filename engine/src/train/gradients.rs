//! Loss and gradients of one micro-batch, with one segment of blocks on the tape at a time.
//!
//! ```text
//! embed → segment 0 → … → segment n−1 → chosen rows → norm → head → loss         forward; each segment's input is kept
//!    rows ← segment 0 ← … ← segment n−1 ←──────────── chunks of tokens, each with a tape of its own
//! ```
//!
//! A segment is computed again with a tape when the backward pass reaches it: memory holds one segment's activations instead of all, for a
//! second forward pass (the last segment is computed once). The result is the whole graph's, since dropout repeats itself by its key. The
//! head and the loss see only positions whose next token counts, at most `loss_chunk` at a time: logits are the largest tensor there is.

use burn::{IndexingUpdateOp, Tensor};

use super::{
    lora::{Layout, LoraConfig, Projection},
    model::{Additions, Angles, Base, Batch, cross_entropy, rms_norm},
    random::Key,
    whole::Ends,
};

/// How much is computed at a time: memory against time, with equal results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    /// Blocks on the tape at a time; as many as the model has, or more: nothing is computed twice.
    pub segment: usize,
    /// Tokens whose logits exist at a time.
    pub loss_chunk: usize,
}

/// A model with what is trained of it or on it.
#[derive(Debug)]
pub struct Trainee {
    /// The frozen part.
    pub base: Base,
    /// LoRA's settings.
    pub lora: LoraConfig,
    /// What is trained.
    pub layout: Layout,
}

/// Sums of gradients by slot.
#[derive(Debug, Clone, Default)]
pub struct Gradients(Vec<Option<Tensor<2>>>);

impl Gradients {
    /// All still zero.
    pub fn new(layout: &Layout) -> Self {
        Self(vec![None; layout.slots.len()])
    }

    fn add(&mut self, slot: usize, gradient: Option<Tensor<2>>) {
        let Some(gradient) = gradient else { return };
        let sum = self.0[slot].take();
        self.0[slot] = Some(match sum {
            Some(sum) => sum + gradient,
            None => gradient,
        });
    }

    /// By slot; where nothing was added, zeros of the parameter's shape.
    pub fn into_tensors(self, parameters: &[Tensor<2>]) -> Vec<Tensor<2>> {
        let or_zeros =
            |(sum, parameter): (Option<Tensor<2>>, &Tensor<2>)| sum.unwrap_or_else(|| parameter.zeros_like());
        self.0.into_iter().zip(parameters).map(or_zeros).collect()
    }
}

impl Trainee {
    /// Adds the gradients of `factor` times the summed loss of a micro-batch; returns that sum without the factor.
    ///
    /// `dropout` is the micro-batch's key; none: nothing is dropped.
    pub fn add_gradients(
        &self,
        parameters: &[Tensor<2>],
        batch: &Batch,
        factor: f64,
        dropout: Option<Key>,
        pieces: Pieces,
        gradients: &mut Gradients,
    ) -> Tensor<1> {
        let n_blocks = self.base.config.layers;
        let angles = self.base.angles(batch.length);
        let starts: Vec<usize> = (0..n_blocks).step_by(pieces.segment.max(1)).collect();
        let end = |start: usize| (start + pieces.segment.max(1)).min(n_blocks);
        let mut x = self.embed(parameters, batch);
        let mut inputs = Vec::new();
        for &start in &starts[..starts.len() - 1] {
            inputs.push(x.clone());
            x = self.blocks(start..end(start), x, parameters, batch.rows, &angles, dropout);
        }
        inputs.push(x);
        let mut loss = None;
        let mut above: Option<Tensor<2>> = None;
        for &start in starts.iter().rev() {
            let input = inputs.pop().expect("one was kept for each segment").autodiff().require_grad();
            let range = self.layout.block(start).start..self.layout.block(end(start) - 1).end;
            let mut tracked = parameters.to_vec();
            for slot in range.clone() {
                tracked[slot] = parameters[slot].clone().autodiff().require_grad();
            }
            let y = self.blocks(start..end(start), input.clone(), &tracked, batch.rows, &angles, dropout);
            let gradient = match above.take() {
                Some(gradient) => gradient,
                None => {
                    let (sum, gradient) =
                        self.loss(y.clone().inner(), parameters, batch, factor, pieces.loss_chunk, gradients);
                    loss = Some(sum);
                    gradient
                }
            };
            // The vector-Jacobian product: burn has no backward that starts from a gradient.
            let mut tape = (y * gradient.autodiff()).sum().backward();
            for slot in range {
                gradients.add(slot, tracked[slot].grad_remove(&mut tape));
            }
            above = input.grad_remove(&mut tape);
        }
        match (self.layout.ends(), self.layout.embedding_rows(), above) {
            (Some(Ends { embedding, .. }), _, Some(gradient)) => {
                let zeros = parameters[embedding].zeros_like();
                let sums = zeros.select_assign(0, self.base.ids(batch), gradient, IndexingUpdateOp::Add);
                gradients.add(embedding, Some(sums));
            }
            (None, Some(slot), Some(gradient)) => {
                gradients.add(slot, Some(self.base.one_hot(batch).transpose().matmul(gradient)));
            }
            _ => {}
        }
        loss.expect("a model has at least one block")
    }

    /// The same with everything on one tape: what [`Self::add_gradients`] must equal.
    pub fn add_gradients_whole(
        &self,
        parameters: &[Tensor<2>],
        batch: &Batch,
        factor: f64,
        dropout: Option<Key>,
        gradients: &mut Gradients,
    ) -> Tensor<1> {
        let tracked: Vec<Tensor<2>> = parameters.iter().map(|p| p.clone().autodiff().require_grad()).collect();
        let loss = self.whole_loss(&tracked, batch, dropout);
        let mut tape = loss.clone().mul_scalar(factor).backward();
        for (slot, parameter) in tracked.iter().enumerate() {
            gradients.add(slot, parameter.grad_remove(&mut tape));
        }
        loss.inner()
    }

    /// The summed loss, forward only when the parameters are not tracked.
    pub fn whole_loss(&self, parameters: &[Tensor<2>], batch: &Batch, dropout: Option<Key>) -> Tensor<1> {
        let y = self.hidden(parameters, batch, dropout);
        let (at, columns) = self.targets(&batch.targets());
        cross_entropy(self.head(y.select(0, at), parameters), columns)
    }

    /// Logits of every position, by column.
    pub(super) fn logits(&self, parameters: &[Tensor<2>], batch: &Batch) -> Tensor<2> {
        self.head(self.hidden(parameters, batch, None), parameters)
    }

    /// The last hidden states.
    fn hidden(&self, parameters: &[Tensor<2>], batch: &Batch, dropout: Option<Key>) -> Tensor<2> {
        let x = self.embed(parameters, batch);
        self.blocks(0..self.base.config.layers, x, parameters, batch.rows, &self.base.angles(batch.length), dropout)
    }

    fn embed(&self, parameters: &[Tensor<2>], batch: &Batch) -> Tensor<2> {
        match self.layout.ends() {
            Some(ends) => self.base.look_up(&parameters[ends.embedding], batch),
            None => self.base.embed(batch, self.layout.embedding_rows().map(|slot| parameters[slot].clone())),
        }
    }

    /// Logits of hidden states, by column.
    fn head(&self, hidden: Tensor<2>, parameters: &[Tensor<2>]) -> Tensor<2> {
        let eps = f64::from(self.base.config.norm_eps);
        match self.layout.ends() {
            Some(ends) => {
                let norm = parameters[ends.norm].clone().reshape([self.base.config.hidden]);
                self.base.product(rms_norm(hidden, &norm, eps), parameters[ends.head].clone())
            }
            None => {
                let rows = self.layout.head_rows().map(|slot| parameters[slot].clone());
                self.base.logits(rms_norm(hidden, &self.base.norm, eps), rows)
            }
        }
    }

    /// The slots that the head has.
    fn head_slots(&self) -> Vec<usize> {
        match self.layout.ends() {
            Some(ends) => vec![ends.norm, ends.head],
            None => self.layout.head_rows().into_iter().collect(),
        }
    }

    fn blocks(
        &self,
        range: std::ops::Range<usize>,
        x: Tensor<2>,
        parameters: &[Tensor<2>],
        rows: usize,
        angles: &Angles,
        dropout: Option<Key>,
    ) -> Tensor<2> {
        range.fold(x, |x, block| {
            let place = &self.base.place;
            let dropout = |projection: Projection, shape: [usize; 2]| {
                let key = dropout?.with(block as u64).with(projection as u64);
                Some(place.dropout(key, self.lora.dropout, shape))
            };
            let of_block = &parameters[self.layout.block(block)];
            let additions = Additions {
                whole: self.layout.ends().map(|_| of_block),
                pairs: self.layout.pairs(of_block),
                scale: self.lora.scale(),
                dropout: &dropout,
            };
            self.base.block(block, x, rows, angles, &additions)
        })
    }

    /// The summed loss, and its gradient by the last hidden states times `factor`.
    fn loss(
        &self,
        hidden: Tensor<2>,
        parameters: &[Tensor<2>],
        batch: &Batch,
        factor: f64,
        chunk: usize,
        gradients: &mut Gradients,
    ) -> (Tensor<1>, Tensor<2>) {
        let slots = self.head_slots();
        let mut sum: Tensor<1> = self.base.place.zeros([1]);
        let mut gradient = hidden.zeros_like();
        for targets in batch.targets().chunks(chunk.max(1)) {
            let (at, columns) = self.targets(targets);
            let chosen = hidden.clone().select(0, at.clone()).autodiff().require_grad();
            let mut tracked = parameters.to_vec();
            for &slot in &slots {
                tracked[slot] = parameters[slot].clone().autodiff().require_grad();
            }
            let loss = cross_entropy(self.head(chosen.clone(), &tracked), columns);
            sum = sum + loss.clone().inner();
            let mut tape = loss.mul_scalar(factor).backward();
            let chosen = chosen.grad_remove(&mut tape).expect("the loss depends on every chosen row");
            gradient = gradient.select_assign(0, at, chosen, IndexingUpdateOp::Add);
            for &slot in &slots {
                gradients.add(slot, tracked[slot].grad_remove(&mut tape));
            }
        }
        (sum, gradient)
    }

    /// Positions, and the columns of the tokens that follow them.
    fn targets(&self, targets: &[(usize, u32)]) -> (Tensor<1, burn::kind::Int>, Tensor<2, burn::kind::Int>) {
        let place = &self.base.place;
        let at = targets.iter().map(|&(at, _)| at as i32).collect();
        let columns = targets.iter().map(|&(_, id)| self.base.columns[id as usize] as i32).collect();
        (place.indices(at, [targets.len()]), place.indices(columns, [targets.len(), 1]))
    }
}
