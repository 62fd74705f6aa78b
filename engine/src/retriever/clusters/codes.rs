//! Codes of one to four bits a value, from which inner products are estimated without bias (RaBitQ, arXiv 2405.12497, and its
//! extension to more bits, arXiv 2409.09913).
//!
//! A row x of a cluster is a centre c and a residual r = x − c. A rotation P that knows nothing of the data makes all values of Pr
//! alike; each is rounded to one of 2^bits levels, g ∈ {±½, ±1½, …}, the step being that of the least angle between Pr and g. With
//!
//! ```text
//! f = ‖r‖² / ⟨Pr, g⟩        ⟨q, x⟩ ≈ ⟨q, c⟩ + f · ⟨Pq, g⟩
//! ```
//!
//! the estimate is exact for q along r, and what is left of g points anywhere across r, so that its part is zero on average over
//! rotations. Its standard deviation is about [`DEVIATION`] · f · ‖q‖ for any number of bits: the levels' rounding error is a third
//! of a step. The question stays in f32.
//!
//! P is a product of random signs and Hadamard transforms over the first and the last 2^k values, three times over: orthogonal,
//! O(d log d), made again from its seed by every reader, and the same to the bit everywhere (sums and products alone).

/// Standard deviation of an estimate, as a part of f · ‖q‖.
pub const DEVIATION: f32 = 0.32;
/// Most bits a value.
pub const MAX_BITS: usize = 4;
const ROUNDS: usize = 3;

/// A sequence of pseudo-random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A random rotation.
#[derive(Debug, Clone)]
pub struct Rotation {
    dim: usize,
    /// (2 · rounds, dim)
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation of this seed.
    pub fn new(dim: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let sign = |_| if random.next() >> 63 == 0 { 1.0 } else { -1.0 };
        Self { dim, signs: (0..2 * ROUNDS * dim).map(sign).collect() }
    }

    /// Rotates a vector.
    pub fn apply(&self, vector: &mut [f32]) {
        assert_eq!(vector.len(), self.dim, "a vector's length");
        let width = match self.dim {
            0 => return,
            dim => 1 << dim.ilog2(),
        };
        for (i, signs) in self.signs.chunks_exact(self.dim).enumerate() {
            vector.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
            hadamard(if i % 2 == 0 { &mut vector[..width] } else { &mut vector[self.dim - width..] });
        }
    }
}

/// The orthogonal Hadamard transform of a power of two of values.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (a, b) = block.split_at_mut(half);
            a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    values.iter_mut().for_each(|x| *x *= scale);
}

/// Bytes of a row's code: a plane of one bit a value for each bit.
pub fn code_bytes(dim: usize, bits: usize) -> usize {
    bits * dim.div_ceil(8)
}

/// Appends a rotated residual's code and gives its factor f; only builds write.
#[cfg(feature = "cli")]
pub fn encode(rotated: &[f32], bits: usize, out: &mut Vec<u8>) -> f32 {
    // Steps that are best for normal values of deviation 1, and steps around them.
    const STEPS: [f32; MAX_BITS] = [1.0, 0.996, 0.586, 0.335];
    const AROUND: [f32; 7] = [0.75, 0.85, 0.92, 1.0, 1.08, 1.16, 1.25];
    let squared: f32 = rotated.iter().map(|x| x * x).sum();
    let deviation = (squared / rotated.len() as f32).sqrt();
    let half = (1 << (bits - 1)) as f32;
    let level = |x: f32, step: f32| (x / step).floor().clamp(-half, half - 1.0);
    // ⟨Pr, g⟩ and ‖g‖² at a step
    let against = |step: f32| {
        rotated.iter().fold((0.0f32, 0.0f32), |(product, square), x| {
            let g = level(*x, step) + 0.5;
            (product + x * g, square + g * g)
        })
    };
    let around = if bits == 1 { &AROUND[3..4] } else { &AROUND[..] };
    let steps = around.iter().map(|a| (a * STEPS[bits - 1] * deviation).max(f32::MIN_POSITIVE));
    let cosine = |step: &f32| {
        let (product, square) = against(*step);
        product / square.sqrt()
    };
    let step = steps.max_by(|a, b| cosine(a).total_cmp(&cosine(b))).expect("there is a step");
    let levels: Vec<u8> = rotated.iter().map(|x| (level(*x, step) + half) as u8).collect();
    for plane in 0..bits {
        let byte = |levels: &[u8]| levels.iter().enumerate().fold(0, |byte, (i, g)| byte | ((g >> plane) & 1) << i);
        out.extend(levels.chunks(8).map(byte));
    }
    let product = against(step).0;
    let factor = squared / product;
    if factor.is_finite() { factor } else { 0.0 }
}

/// A rotated question, prepared for many codes.
#[derive(Debug)]
pub struct Estimator {
    bits: usize,
    /// (bytes of a plane, 256): the sum of the question's values where a byte has ones
    sums: Vec<f32>,
    /// (2^bits − 1) / 2 · sum of all values
    middle: f32,
}

impl Estimator {
    /// For codes of `bits`.
    pub fn new(rotated: &[f32], bits: usize) -> Self {
        let mut sums = Vec::with_capacity(rotated.len().div_ceil(8) * 256);
        for values in rotated.chunks(8) {
            let at = sums.len();
            sums.push(0.0);
            for byte in 1..256usize {
                let lowest = byte.trailing_zeros() as usize;
                let value = values.get(lowest).copied().unwrap_or(0.0);
                sums.push(sums[at + (byte & (byte - 1))] + value);
            }
        }
        let middle = ((1 << bits) - 1) as f32 / 2.0 * rotated.iter().sum::<f32>();
        Self { bits, sums, middle }
    }

    /// ⟨Pq, g⟩ of a code.
    pub fn product(&self, code: &[u8]) -> f32 {
        let mut product = 0.0;
        for (plane, bytes) in code.chunks_exact(code.len() / self.bits).enumerate() {
            let sum: f32 = bytes.iter().zip(self.sums.chunks_exact(256)).map(|(b, sums)| sums[usize::from(*b)]).sum();
            product += (1 << plane) as f32 * sum;
        }
        product - self.middle
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use crate::retriever::{flat::dot_f32, vectors::tests::random_vectors};

    #[test]
    fn a_rotation_keeps_products_and_mixes_values() {
        for dim in [1, 2, 3, 7, 20, 384] {
            let rotation = Rotation::new(dim, 5);
            let rows = random_vectors(2, dim, dim as u64);
            let mut turned = rows.clone();
            turned.iter_mut().for_each(|row| rotation.apply(row));
            for (a, b) in [(0, 0), (0, 1), (1, 1)] {
                let (before, after) = (dot_f32(&rows[a], &rows[b]), dot_f32(&turned[a], &turned[b]));
                assert!((before - after).abs() < 1e-4 * dim as f32, "{dim}: {before} became {after}");
            }
        }
        // A single value spreads over all: none is larger than a few deviations.
        let mut unit = vec![0.0; 384];
        unit[17] = 1.0;
        Rotation::new(384, 1).apply(&mut unit);
        let largest = unit.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        assert!(largest < 5.0 / 384f32.sqrt(), "{largest}");
    }

    /// Products read from the planes equal those with the levels, tails that fill no byte included.
    #[test]
    fn planes_mean_what_the_formula_says() {
        for (dim, bits) in [(1, 1), (5, 2), (8, 3), (21, 4), (64, 1)] {
            let rows = random_vectors(2, dim, 3);
            let mut code = Vec::new();
            encode(&rows[0], bits, &mut code);
            assert_eq!(code.len(), code_bytes(dim, bits));
            let plane = dim.div_ceil(8);
            let level = |i: usize| {
                let bit = |p: usize| u32::from(code[p * plane + i / 8] >> (i % 8) & 1) << p;
                (0..bits).map(bit).sum::<u32>() as f32 - ((1 << bits) - 1) as f32 / 2.0
            };
            let expected: f32 = rows[1].iter().enumerate().map(|(i, q)| q * level(i)).sum();
            let found = Estimator::new(&rows[1], bits).product(&code);
            assert!((found - expected).abs() < 1e-4, "{dim} {bits}: {found}, {expected} expected");
        }
    }

    /// Unbiased, and as wide as promised; each further bit halves the error.
    #[test]
    fn estimates_err_as_the_formula_says() {
        let (dim, rows) = (128, 400);
        let residuals = random_vectors(rows, dim, 7);
        let mut question = random_vectors(1, dim, 8).remove(0);
        // A question that has something in common with every row: a bias of f would show.
        residuals[..40].iter().for_each(|row| question.iter_mut().zip(row).for_each(|(q, x)| *q += 0.3 * x));
        let length = dot_f32(&question, &question).sqrt();
        let mut last = f32::MAX;
        for bits in 1..=MAX_BITS {
            let (mut bias, mut error, mut promised) = (0.0, 0.0, 0.0);
            for seed in 0..5 {
                let rotation = Rotation::new(dim, seed);
                let mut rotated = question.clone();
                rotation.apply(&mut rotated);
                let estimator = Estimator::new(&rotated, bits);
                for row in &residuals {
                    let (mut turned, mut code) = (row.clone(), Vec::new());
                    rotation.apply(&mut turned);
                    let factor = encode(&turned, bits, &mut code);
                    let off = factor * estimator.product(&code) - dot_f32(row, &question);
                    (bias, error) = (bias + off, error + off * off);
                    promised += (DEVIATION * factor * length).powi(2);
                }
            }
            let n = (5 * rows) as f32;
            let (bias, error, promised) = (bias / n, (error / n).sqrt(), (promised / n).sqrt());
            assert!(bias.abs() < 4.0 * error / n.sqrt(), "{bits} bits: bias {bias} at error {error}");
            assert!((0.75..1.25).contains(&(error / promised)), "{bits} bits: error {error}, {promised} promised");
            assert!(error < 0.62 * last, "{bits} bits: error {error} after {last}");
            last = error;
        }
    }

    #[test]
    fn nothing_left_and_nothing_finite_do_no_harm() {
        for bits in 1..=MAX_BITS {
            for rows in [[0.0; 9], [f32::MIN_POSITIVE; 9], [1e30; 9]] {
                let mut code = Vec::new();
                let factor = encode(&rows, bits, &mut code);
                assert!(factor.is_finite() && code.len() == code_bytes(9, bits));
            }
        }
    }
}
