//! Exact search on the CPU: every row is scored; the default where there is no GPU and the measure of every other search.
//!
//! Cost: rows·dim multiply-adds a question; 9,097 rows of 384 take about 2 ms on one core. Ties go to the lower row number, here
//! as in every other search of this module, so that results can be compared.

use std::cmp::Ordering;

use super::vectors::Vectors;

/// A row and its inner product with the question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Row number in the store.
    pub row: u32,
    /// Inner product.
    pub score: f32,
}

impl Scored {
    /// Better first: the higher score, then the lower row.
    pub fn order(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

/// The best `k` of any number of scored rows, best first. Rows may be offered in any order.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    /// At most 2k rows; cut to the best k when full, so that a row costs O(1) on average.
    rows: Vec<Scored>,
    /// Rows behind this one cannot be among the best k any more.
    bar: Option<Scored>,
}

impl TopK {
    /// Keeps `k` rows.
    pub fn new(k: usize) -> Self {
        Self { k, rows: Vec::new(), bar: None }
    }

    /// Offers a row.
    pub fn push(&mut self, scored: Scored) {
        if self.k == 0 || self.bar.is_some_and(|bar| scored.order(&bar).is_gt()) {
            return;
        }
        self.rows.push(scored);
        if self.rows.len() >= self.k.saturating_mul(2) {
            self.rows.select_nth_unstable_by(self.k - 1, Scored::order);
            self.rows.truncate(self.k);
            self.bar = self.rows.last().copied();
        }
    }

    /// The best, best first.
    pub fn finish(mut self) -> Vec<Scored> {
        self.rows.sort_unstable_by(Scored::order);
        self.rows.truncate(self.k);
        self.rows
    }
}

/// Inner product of two vectors of one length.
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    super::vectors::dot(a, b, |x| *x)
}

/// The `k` rows with the largest inner product with `query`, best first; fewer where there are fewer rows.
pub fn search(vectors: &Vectors, query: &[f32], k: usize) -> Vec<Scored> {
    assert_eq!(query.len(), vectors.dim(), "a query's length");
    let mut best = TopK::new(k.min(vectors.rows()));
    for row in 0..vectors.rows() {
        best.push(Scored { row: row as u32, score: vectors.dot(row, query) });
    }
    best.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::retriever::vectors::{
        Precision,
        tests::{pack, random_vectors},
    };

    /// Sorts everything by score and row.
    fn naive(vectors: &Vectors, query: &[f32], k: usize) -> Vec<Scored> {
        let mut all: Vec<Scored> =
            (0..vectors.rows()).map(|row| Scored { row: row as u32, score: vectors.dot(row, query) }).collect();
        all.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap().then(a.row.cmp(&b.row)));
        all.truncate(k);
        all
    }

    #[test]
    fn equal_scores_come_in_row_order() {
        let rows = vec![vec![1.0, 0.0], vec![2.0, 0.0], vec![1.0, 0.0], vec![2.0, 0.0], vec![1.0, 0.0]];
        for precision in [Precision::F16, Precision::Int8] {
            let found = search(&pack(precision, &rows), &[1.0, 0.0], 4);
            assert_eq!(found.iter().map(|s| s.row).collect::<Vec<_>>(), [1, 3, 0, 2]);
        }
    }

    #[test]
    fn nothing_asked_or_nothing_there() {
        assert!(search(&pack(Precision::Int8, &[vec![1.0]]), &[1.0], 0).is_empty());
        assert!(search(&Vectors::new(Precision::F16, 1), &[1.0], 3).is_empty());
        assert_eq!(search(&pack(Precision::Int8, &[vec![1.0]]), &[1.0], usize::MAX).len(), 1);
    }

    proptest! {
        #[test]
        fn search_equals_sorting_everything(rows in 1usize..80, k in 0usize..90, seed: u64, coarse: bool) {
            // Coarse values make many ties.
            let mut values = random_vectors(rows, 3, seed);
            if coarse {
                values.iter_mut().flatten().for_each(|x| *x = x.round());
            }
            let vectors = pack(Precision::F16, &values);
            let query = &random_vectors(1, 3, !seed)[0];
            prop_assert_eq!(search(&vectors, query, k), naive(&vectors, query, k));
        }
    }
}
