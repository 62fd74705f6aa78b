//! Random numbers by their place instead of by their turn: the same key gives the same numbers, whenever and in whatever order they are
//! asked for. So a block that is computed again drops the same values, and a resumed run continues as if it had never stopped.
//!
//! SplitMix64's output function (Steele, Lea, Flood 2014) over a counter.

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

    /// `n` factors of dropout: 0 with probability `p` (to 1/65536), else 1/(1 − p).
    pub fn dropout(self, p: f64, n: usize) -> Vec<f32> {
        let threshold = (p * 65536.0).round() as u64;
        let keep = (1.0 / (1.0 - p)) as f32;
        let mut factors = vec![keep; n];
        for (counter, four) in factors.chunks_mut(4).enumerate() {
            let bits = self.bits(counter as u64);
            for (lane, factor) in four.iter_mut().enumerate() {
                if (bits >> (16 * lane)) & 0xffff < threshold {
                    *factor = 0.0;
                }
            }
        }
        factors
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
