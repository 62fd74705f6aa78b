//! Random draws that follow from a seed, a row's id and what is drawn: the same everywhere, and independent of each other.

use sha2::{Digest, Sha256};

use crate::ops::self_test::Random;

/// Random draws of one row for one purpose.
#[derive(Debug)]
pub struct Draws(Random);

impl Draws {
    /// The draws of a row for a purpose: they depend on nothing else, so that one setting leaves what others draw as it is.
    pub fn new(seed: u64, id: &str, purpose: &str) -> Self {
        let hash = Sha256::digest(format!("{seed}\0{id}\0{purpose}"));
        Self(Random::new(hash.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))))
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.0.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True for this share of the draws.
    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A whole number whose mean is `rows`.
    pub fn count(&mut self, rows: f64) -> usize {
        rows as usize + usize::from(self.chance(rows.fract()))
    }

    /// Uniform in 0..n; `n` is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.pick(0..=n - 1)
    }

    /// One of a list, if it has any.
    pub fn of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        if list.is_empty() { None } else { list.get(self.below(list.len())) }
    }

    /// All orders are equally likely.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_mean() {
        let counts: usize = (0..2000).map(|at| Draws::new(1, &at.to_string(), "k").count(1.3)).sum();
        assert!((2500..2700).contains(&counts), "{counts}");
        assert_eq!((Draws::new(1, "a", "k").count(0.0), Draws::new(1, "a", "k").count(2.0)), (0, 2));
    }
}
