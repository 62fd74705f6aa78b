//! AdamW as PyTorch computes it (Loshchilov and Hutter, arXiv 1711.05101), in f32, and clipping by the norm of all gradients together.

use burn::Tensor;
use serde::{Deserialize, Serialize};

use super::place::values;
use crate::{Error, Result};

/// AdamW's constants. The defaults are PyTorch's, but for the weight decay, which is Self-RAG's (PyTorch's own is 0.01).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
    /// Part of a parameter that is taken off, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamWConfig {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let below_one = [("optimizer.beta1", self.beta1), ("optimizer.beta2", self.beta2)];
        if let Some((name, value)) = below_one.into_iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            return Err(Error::config(name, format!("{value}, expected 0 up to, not including, 1")));
        }
        let not_negative = [("optimizer.eps", self.eps), ("optimizer.weight_decay", self.weight_decay)];
        match not_negative.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((name, value)) => Err(Error::config(name, format!("{value}, expected a number that is not negative"))),
            None => Ok(()),
        }
    }
}

/// Values of parameters that are updated at once.
const JOINED: usize = 1 << 24;

/// The optimizer's state.
///
/// LoRA has hundreds of small matrices, and a GPU takes longer to start a dozen operations on each than to do them: gradients and moments are joined
/// into a few long rows, and only the last step, from which each parameter takes its part, is done one by one.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: AdamWConfig,
    /// Steps done.
    pub(super) steps: u64,
    /// Shapes of the parameters.
    shapes: Vec<[usize; 2]>,
    /// Means of gradients, joined.
    means: Vec<Tensor<2>>,
    /// Means of their squares, joined.
    squares: Vec<Tensor<2>>,
}

impl AdamW {
    /// Before the first step.
    pub fn new(config: AdamWConfig, parameters: &[Tensor<2>]) -> Self {
        let shapes: Vec<[usize; 2]> = parameters.iter().map(Tensor::dims).collect();
        let zeros = joined(parameters.iter().map(Tensor::zeros_like).collect());
        Self { config, steps: 0, shapes, means: zeros.clone(), squares: zeros }
    }

    /// Means of gradients and of their squares, by slot.
    pub fn moments(&self) -> [Vec<Tensor<2>>; 2] {
        [&self.means, &self.squares].map(|rows| parts(rows, &self.shapes))
    }

    /// Goes on after `steps` steps with these moments, by slot.
    pub fn resume(&mut self, steps: u64, [means, squares]: [Vec<Tensor<2>>; 2]) {
        (self.steps, self.means, self.squares) = (steps, joined(means), joined(squares));
    }

    /// One step with gradients that are [`joined`]: parameters · (1 − rate · decay) − rate · mean' / (√square' + eps), where ' divides by
    /// 1 − betaᵗ.
    pub fn step(&mut self, parameters: &mut [Tensor<2>], gradients: Vec<Tensor<2>>, rate: f64) {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        self.steps += 1;
        let exponent = self.steps as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(exponent), 1.0 - beta2.powf(exponent));
        let mut changes = Vec::new();
        for (group, gradient) in gradients.into_iter().enumerate() {
            let mean = self.means[group].clone().mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
            let square = self.squares[group].clone().mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
            let root = square.clone().sqrt().div_scalar(correction2.sqrt()).add_scalar(eps);
            changes.push(mean.clone().div(root).mul_scalar(rate / correction1));
            self.means[group] = mean;
            self.squares[group] = square;
        }
        let decay = rate * weight_decay;
        for (parameter, change) in parameters.iter_mut().zip(parts(&changes, &self.shapes)) {
            let kept = parameter.clone();
            *parameter = if decay == 0.0 { kept - change } else { kept.mul_scalar(1.0 - decay) - change };
        }
    }
}

/// Tensors one after the other, as a few rows of up to 2²⁴ values; a larger tensor is a row of its own.
pub fn joined(tensors: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    joined_up_to(JOINED, tensors)
}

fn joined_up_to(most: usize, tensors: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    let (mut rows, mut row, mut width) = (Vec::new(), Vec::new(), 0);
    for tensor in tensors {
        let values = tensor.dims().iter().product::<usize>();
        if width + values > most && !row.is_empty() {
            rows.push(Tensor::cat(std::mem::take(&mut row), 1));
            width = 0;
        }
        width += values;
        row.push(tensor.reshape([1, values]));
    }
    if !row.is_empty() {
        rows.push(Tensor::cat(row, 1));
    }
    rows
}

/// The tensors that were [`joined`].
fn parts(rows: &[Tensor<2>], shapes: &[[usize; 2]]) -> Vec<Tensor<2>> {
    let (mut row, mut start) = (0, 0);
    let part = |shape: &[usize; 2]| {
        let values = shape.iter().product::<usize>();
        if start + values > rows[row].dims()[1] {
            (row, start) = (row + 1, 0);
        }
        start += values;
        rows[row].clone().narrow(1, start - values, values).reshape(*shape)
    };
    shapes.iter().map(part).collect()
}

/// The Euclidean norm of all gradients together.
pub fn norm(gradients: &[Tensor<2>]) -> Result<f64> {
    if gradients.is_empty() {
        return Ok(0.0);
    }
    let squares = gradients.iter().map(|gradient| gradient.clone().square().sum()).collect();
    let squares = values(&Tensor::cat(squares, 0))?;
    Ok(squares.into_iter().map(f64::from).sum::<f64>().sqrt())
}

/// By what gradients of norm `norm` are multiplied so that it is at most `most`: most / (norm + 1e-6), as `torch.nn.utils.clip_grad_norm_`.
pub fn clip_factor(norm: f64, most: f64) -> f64 {
    (most / (norm + 1e-6)).min(1.0)
}

/// Gradients times a factor.
pub fn scaled(gradients: Vec<Tensor<2>>, factor: f64) -> Vec<Tensor<2>> {
    if factor == 1.0 {
        return gradients;
    }
    gradients.into_iter().map(|gradient| gradient.mul_scalar(factor)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Place;

    #[test]
    fn what_is_joined_comes_apart_again() {
        let shapes = [[1, 3], [5, 1], [4, 5], [1, 1], [2, 3], [1, 6], [3, 4]];
        let tensors: Vec<Tensor<2>> = shapes
            .iter()
            .enumerate()
            .map(|(at, &shape)| Place::cpu().tensor(vec![at as f32; shape[0] * shape[1]], shape))
            .collect();
        for most in [1, 6, 8, 12, 20, 1000] {
            let rows = joined_up_to(most, tensors.clone());
            let widths: Vec<usize> = rows.iter().map(|row| row.dims()[1]).collect();
            assert!(
                widths.iter().all(|&width| width <= most || shapes.iter().any(|s| s[0] * s[1] == width)),
                "{widths:?}"
            );
            assert_eq!(most == 1000, rows.len() == 1);
            for (part, tensor) in parts(&rows, &shapes).iter().zip(&tensors) {
                assert_eq!(part.dims(), tensor.dims());
                assert_eq!(part.to_data(), tensor.to_data(), "{most}");
            }
        }
    }
}
