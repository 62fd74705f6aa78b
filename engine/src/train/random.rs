//! Random numbers by their place instead of by their turn: the same key gives the same numbers, whenever and in whatever order they are
//! asked for. So a block that is computed again drops the same values, and a resumed run continues as if it had never stopped.
//!
//! SplitMix64's output function (Steele, Lea, Flood 2014) over a counter.

use burn::{DType, Device, Int, Tensor};

/// Of the 32-bit hash.
const MULTIPLIERS: [u32; 3] = [0x7feb_352d, 0x846c_a68b, 0x9e37_79b1];

fn threshold(p: f64) -> i32 {
    (p * 65536.0).round() as i32
}

/// A stream of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Key {
    /// The stream that belongs to these numbers, in this order.
    pub fn new(parts: &[u64]) -> Self {
        Self(parts.iter().fold(GOLDEN, |state, &part| mix(state.wrapping_add(GOLDEN) ^ mix(part.wrapping_add(GOLDEN)))))
    }

    /// The stream that belongs to this one and one number more.
    pub fn with(self, part: u64) -> Self {
        Self(mix(self.0.wrapping_add(GOLDEN) ^ mix(part.wrapping_add(GOLDEN))))
    }

    /// Number `index` of the stream.
    pub fn bits(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// Number `index`, uniform in [0, 1).
    pub fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Number `index`, standard normal (Box and Muller).
    pub fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }

    /// Factors of dropout: 0 with probability `p` (to 1/65536), else 1/(1 − p).
    ///
    /// By a 32-bit hash (Wellons' lowbias32 and a round with the rest of the key), so that a GPU can make the same ones: billions are needed, and
    /// the host and its bus would be slower than the model.
    pub fn dropout(self, p: f64, n: usize) -> Vec<f32> {
        let ([first, second], threshold, keep) = (self.words(), threshold(p), (1.0 / (1.0 - p)) as f32);
        let hash = |at: u32| {
            let mut h = at ^ first;
            h = (h ^ (h >> 16)).wrapping_mul(MULTIPLIERS[0]);
            h = (h ^ (h >> 15)).wrapping_mul(MULTIPLIERS[1]);
            h = (h ^ (h >> 16) ^ second).wrapping_mul(MULTIPLIERS[2]);
            (h >> 16) as i32
        };
        (0..n as u32).map(|at| if hash(at) < threshold { 0.0 } else { keep }).collect()
    }

    /// The same, made where the tensor is.
    pub(super) fn dropout_there(self, p: f64, shape: [usize; 2], device: &Device) -> Tensor<2> {
        let ([first, second], keep) = (self.words(), 1.0 / (1.0 - p));
        let multiply = |h: Tensor<1, Int>, by: u32| h.mul_scalar(by as i32);
        // Shifts of signed numbers bring their sign along; the mask takes it off.
        let high = |h: &Tensor<1, Int>, shift: u32| {
            h.clone().bitwise_right_shift_scalar(shift as i32).bitwise_and_scalar((u32::MAX >> shift) as i32)
        };
        let mut h = Tensor::<1, Int>::arange(0..(shape[0] * shape[1]) as i64, (device, DType::I32))
            .bitwise_xor_scalar(first as i32);
        h = multiply(h.clone().bitwise_xor(high(&h, 16)), MULTIPLIERS[0]);
        h = multiply(h.clone().bitwise_xor(high(&h, 15)), MULTIPLIERS[1]);
        h = multiply(h.clone().bitwise_xor(high(&h, 16)).bitwise_xor_scalar(second as i32), MULTIPLIERS[2]);
        high(&h, 16).greater_equal_scalar(threshold(p)).float().mul_scalar(keep).reshape(shape)
    }

    fn words(self) -> [u32; 2] {
        [self.bits(0) as u32, (self.bits(0) >> 32) as u32]
    }

    /// The numbers 0 to `n` in random order (Fisher and Yates).
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            // A multiplication instead of a remainder: no bias that matters under 2^32 rows.
            let j = ((u128::from(self.bits(i as u64)) * (i as u128 + 1)) >> 64) as usize;
            order.swap(i, j);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_the_whole_key_and_are_spread_evenly() {
        assert_eq!(Key::new(&[1, 2]).bits(3), Key::new(&[1]).with(2).bits(3));
        assert_ne!(Key::new(&[1, 2]).bits(3), Key::new(&[2, 1]).bits(3));
        let factors = Key::new(&[7]).dropout(0.25, 100_003);
        let kept = factors.iter().filter(|&&f| f > 0.0).count() as f64 / factors.len() as f64;
        assert!((kept - 0.75).abs() < 0.01, "{kept}");
        let there = Key::new(&[7]).dropout_there(0.25, [101, 7], &Device::flex());
        let there: Vec<f32> = there.try_into_vec_as().unwrap();
        assert_eq!(there, factors[..707], "the same on the host and where the tensor is");
        let normal: Vec<f64> = (0..20_000).map(|i| Key::new(&[9]).normal(i)).collect();
        let mean = normal.iter().sum::<f64>() / 20_000.0;
        let square = normal.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.05, "{mean} {square}");
        let mut order = Key::new(&[4]).permutation(101);
        assert_ne!(order, (0..101).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..101).collect::<Vec<_>>());
    }
}
