//! Which rows go together, and when: batches of similar length in a random order that follows from the seed.

use super::{lora::ORDER, random::Key};

/// Micro-batches whose rows are sorted by length together: as transformers' `LengthGroupedSampler`.
const POOL: usize = 50;

/// An epoch's micro-batches, as places of rows.
///
/// Rows are shuffled; pools of 50 micro-batches are sorted by length and cut; the micro-batches are shuffled. Padding is small, and which rows
/// meet is still chance. Every row comes once; one micro-batch of each epoch may be smaller.
pub fn epoch(lengths: &[usize], micro_batch: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let key = Key::new(&[seed, ORDER, epoch]);
    let mut rows = key.with(0).permutation(lengths.len());
    for pool in rows.chunks_mut(micro_batch * POOL) {
        // Stable: rows of one length stay in their random order.
        pool.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    }
    let batches: Vec<&[usize]> = rows.chunks(micro_batch).collect();
    key.with(1).permutation(batches.len()).into_iter().map(|at| batches[at].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_an_epoch_with_others_of_its_length() {
        let lengths: Vec<usize> = (0..1003).map(|i| 10 + i * 7919 % 400).collect();
        let batches = epoch(&lengths, 4, 5, 0);
        assert_eq!(batches, epoch(&lengths, 4, 5, 0));
        assert_ne!(batches, epoch(&lengths, 4, 5, 1));
        let mut rows: Vec<usize> = batches.iter().flatten().copied().collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..1003).collect::<Vec<_>>());
        let longest = |batch: &Vec<usize>| batch.iter().map(|&row| lengths[row]).max().unwrap();
        let padded: usize = batches.iter().map(|batch| batch.len() * longest(batch)).sum();
        let tokens: usize = lengths.iter().sum();
        assert!((padded as f64) < 1.05 * tokens as f64, "{padded} for {tokens}");
    }
}
