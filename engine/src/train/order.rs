//! Which rows go together, and when: batches of similar length in a random order that follows from the seed.

use super::{lora::ORDER, random::Key};

/// Micro-batches whose rows are sorted by length together: as transformers' `LengthGroupedSampler`.
const POOL: usize = 50;
/// One in so many rows is among the shortest, which are not told apart by length.
const SHORTEST: usize = 5;

/// How many rows a micro-batch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// So many.
    Rows(usize),
    /// As many as `budget` tokens hold once each is padded to a multiple of `multiple`, but at least one: every micro-batch takes a GPU about
    /// as long.
    Tokens {
        /// Tokens, padding included.
        budget: usize,
        /// Of lengths.
        multiple: usize,
        /// Longest row.
        longest: usize,
    },
}

/// An epoch's micro-batches, as places of rows. Every row comes once, and every epoch has as many micro-batches.
///
/// By rows: they are shuffled; pools of 50 micro-batches are sorted by length and cut. Padding is small, and which rows meet is still chance; one
/// micro-batch of each epoch may be smaller. By tokens: shuffled rows are sorted by padded length and cut wherever
/// one more would be too much; how many there are depends on lengths alone. The shortest fifth counts as equally long, so that a kind of row
/// that is short by nature (a plain instruction has only its decision to learn) meets others: alone it would make a few whole steps of its own, learned
/// there and forgotten in the hundred steps between. The micro-batches are shuffled.
pub fn epoch(lengths: &[usize], fill: Fill, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let key = Key::new(&[seed, ORDER, epoch]);
    let mut rows = key.with(0).permutation(lengths.len());
    let batches = match fill {
        Fill::Rows(n) => {
            for pool in rows.chunks_mut(n * POOL) {
                // Stable: rows of one length stay in their random order.
                pool.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
            }
            rows.chunks(n).map(<[usize]>::to_vec).collect()
        }
        Fill::Tokens { budget, multiple, longest } => by_tokens(lengths, &rows, budget, multiple, longest),
    };
    key.with(1).permutation(batches.len()).into_iter().map(|at| batches[at].clone()).collect()
}

fn by_tokens(lengths: &[usize], rows: &[usize], budget: usize, multiple: usize, longest: usize) -> Vec<Vec<usize>> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let least = sorted.get(sorted.len() / SHORTEST).copied().unwrap_or(0);
    let padded = |row: usize| lengths[row].max(least).next_multiple_of(multiple).min(longest);
    let mut rows = rows.to_vec();
    // Stable: rows of one length stay in their random order.
    rows.sort_by_key(|&row| padded(row));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for row in rows {
        // All are padded to this one, the longest so far.
        match batches.last_mut().filter(|batch| (batch.len() + 1) * padded(row) <= budget) {
            Some(batch) => batch.push(row),
            None => batches.push(vec![row]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths() -> Vec<usize> {
        (0..1003).map(|i| 10 + i * 7919 % 400).collect()
    }

    /// Padded tokens of each micro-batch.
    fn check(fill: Fill, most_padding: f64) -> Vec<usize> {
        let lengths = lengths();
        let batches = epoch(&lengths, fill, 5, 0);
        assert_eq!(batches, epoch(&lengths, fill, 5, 0));
        assert_ne!(batches, epoch(&lengths, fill, 5, 1));
        assert_eq!(batches.len(), epoch(&lengths, fill, 5, 1).len());
        let mut rows: Vec<usize> = batches.iter().flatten().copied().collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..1003).collect::<Vec<_>>());
        let longest = |batch: &Vec<usize>| batch.iter().map(|&row| lengths[row]).max().unwrap();
        let padded: Vec<usize> = batches.iter().map(|batch| batch.len() * longest(batch)).collect();
        let (tokens, all): (usize, usize) = (lengths.iter().sum(), padded.iter().sum());
        assert!((all as f64) < most_padding * tokens as f64, "{all} for {tokens}");
        padded
    }

    #[test]
    fn every_row_comes_once_an_epoch_with_others_of_its_length() {
        check(Fill::Rows(4), 1.05);
    }

    #[test]
    fn micro_batches_by_tokens_keep_to_their_budget() {
        let padded = check(Fill::Tokens { budget: 3000, multiple: 32, longest: 416 }, 1.15);
        assert!(padded.iter().all(|&tokens| tokens <= 3000), "{padded:?}");
        // They are well filled: a few more than there must be.
        let least = padded.iter().sum::<usize>().div_ceil(3000);
        assert!(padded.len() <= least + least / 8, "{least}: {padded:?}");
        // A row that alone is over the budget comes alone.
        let alone = epoch(&[900, 5, 900], Fill::Tokens { budget: 500, multiple: 1, longest: 1000 }, 1, 0);
        assert_eq!(alone.len(), 3);
    }

    #[test]
    fn rows_that_are_short_by_nature_do_not_come_among_themselves() {
        // Six in a hundred are of 30 tokens, as the demo's plain instructions.
        let lengths: Vec<usize> = (0..5000).map(|i| if i % 100 < 6 { 30 } else { 130 + i * 7919 % 300 }).collect();
        let batches = epoch(&lengths, Fill::Tokens { budget: 8192, multiple: 64, longest: 768 }, 3, 0);
        let short = |batch: &Vec<usize>| batch.iter().filter(|&&row| lengths[row] == 30).count();
        assert!(batches.iter().all(|batch| 2 * short(batch) <= batch.len()), "a micro-batch of short rows");
        let with = batches.iter().filter(|batch| short(batch) > 0).count();
        assert!(8 * with > batches.len(), "short rows in {with} of {} micro-batches only", batches.len());
    }
}
