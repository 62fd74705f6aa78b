//! Which byte ranges to read: the most worth in few requests and few bytes.
//!
//! Things that may be wanted lie somewhere in files and have a worth each. A range covers all that lies between its ends, wanted or
//! not: closing a gap costs bytes and saves a request. For a price λ of a byte the best set of at most `requests` ranges,
//!
//! ```text
//! max Σ worth(covered) − λ · (bytes + REQUEST · ranges)
//! ```
//!
//! is found exactly by one pass over the things in their order (for every number of ranges: the best so far, and the best that ends
//! with this thing covered). λ is the least at which the bytes fit, found by bisection.

use std::ops::Range;

use crate::order::sort_by;

/// What a request costs beside its bytes, in bytes: a smaller gap is rather read.
pub const REQUEST: u64 = 8 << 10;

/// Something that may be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Number of its file; ranges do not reach over files.
    pub file: usize,
    /// Where it lies. Items of a file must not overlap.
    pub bytes: Range<u64>,
    /// What it is worth to have it, not negative.
    pub worth: f64,
    /// Must be read whatever it costs.
    pub required: bool,
}

/// A range to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Number of the file.
    pub file: usize,
    /// Bytes of the file.
    pub bytes: Range<u64>,
}

/// Chooses at most `requests` ranges of at most `bytes` bytes together, in the order of files; more only where required items need
/// more.
pub fn plan(items: &[Item], requests: usize, bytes: u64) -> Vec<Read> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let place = |i: &usize| (items[*i].file, items[*i].bytes.start);
    sort_by(&mut order, |a, b| place(a).cmp(&place(b)));
    let items: Vec<&Item> = order.into_iter().map(|i| &items[i]).collect();
    let required = || items.iter().filter(|item| item.required);
    let requests = requests.max(required().count());
    let needed: u64 = required().map(|item| item.bytes.end - item.bytes.start + REQUEST).sum();
    let bytes = bytes.max(needed);
    // Prices of a byte, as exponents of two: at the lowest everything is taken, at the highest nothing but what is required.
    let (mut low, mut high) = (-60.0f64, 10.0f64);
    let mut best = choose(&items, requests, high.exp2());
    let everything = choose(&items, requests, low.exp2());
    if total(&everything) <= bytes {
        return everything;
    }
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        let reads = choose(&items, requests, middle.exp2());
        if total(&reads) <= bytes {
            (best, high) = (reads, middle);
        } else {
            low = middle;
        }
    }
    best
}

/// Bytes of all ranges.
pub fn total(reads: &[Read]) -> u64 {
    reads.iter().map(|read| read.bytes.end - read.bytes.start).sum()
}

/// Whether the item lies in one of the ranges.
pub fn covers(reads: &[Read], item: &Item) -> bool {
    let within = |read: &Read| {
        read.file == item.file && read.bytes.start <= item.bytes.start && item.bytes.end <= read.bytes.end
    };
    reads.iter().any(within)
}

/// The best ranges at this price of a byte; `items` in order.
fn choose(items: &[&Item], requests: usize, price: f64) -> Vec<Read> {
    // More than any price of any sensible item, and little enough that sums keep a byte's price apart.
    const REQUIRED: f64 = 1e12;
    let width = requests + 1;
    // best[n]: of what was seen, with n ranges; open[n]: the same where the last item is covered.
    let mut best = vec![f64::NEG_INFINITY; width];
    let mut open = vec![f64::NEG_INFINITY; width];
    best[0] = 0.0;
    // For each item and number of ranges: does the best end here, and does the range that ends here go on from the item before?
    let (mut ends_here, mut goes_on) = (vec![false; items.len() * width], vec![false; items.len() * width]);
    for (i, item) in items.iter().enumerate() {
        let worth = item.worth + if item.required { REQUIRED } else { 0.0 };
        let length = (item.bytes.end - item.bytes.start) as f64;
        let before = i.checked_sub(1).map(|j| items[j]).filter(|before| before.file == item.file);
        for n in (1..width).rev() {
            let apart = best[n - 1] + worth - price * (length + REQUEST as f64);
            let on = before.map_or(f64::NEG_INFINITY, |before| {
                open[n] + worth - price * item.bytes.end.saturating_sub(before.bytes.end) as f64
            });
            goes_on[i * width + n] = on > apart;
            open[n] = on.max(apart);
            if open[n] > best[n] {
                best[n] = open[n];
                ends_here[i * width + n] = true;
            }
        }
    }
    let mut n = (0..width).max_by(|a, b| best[*a].total_cmp(&best[*b]).then(b.cmp(a))).unwrap_or(0);
    let mut reads = Vec::new();
    let mut i = items.len();
    while n > 0 && i > 0 {
        i -= 1;
        if !ends_here[i * width + n] {
            continue;
        }
        let last = i;
        while goes_on[i * width + n] {
            i -= 1;
        }
        reads.push(Read { file: items[i].file, bytes: items[i].bytes.start..items[last].bytes.end });
        n -= 1;
    }
    reads.reverse();
    reads
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Items of two files from gaps and lengths.
    fn items(parts: &[(u64, u64, u8, bool)]) -> Vec<Item> {
        let mut position = 0;
        let half = parts.len() / 2;
        let item = |(i, (gap, length, worth, required)): (usize, &(u64, u64, u8, bool))| {
            position = if i == half { 0 } else { position } + gap;
            let bytes = position..position + length;
            position += length;
            Item { file: usize::from(i >= half), bytes, worth: f64::from(*worth), required: *required }
        };
        parts.iter().enumerate().map(item).collect()
    }

    fn worth(items: &[Item], reads: &[Read]) -> f64 {
        items.iter().filter(|item| covers(reads, item)).map(|item| item.worth).sum()
    }

    #[test]
    fn near_things_come_in_one_request_and_far_ones_in_two() {
        let item = |start| Item { file: 0, bytes: start..start + 100, worth: 1.0, required: false };
        let reads = plan(&[item(5000), item(0), item(1 << 20)], 9, 1 << 30);
        let found: Vec<_> = reads.iter().map(|read| read.bytes.clone()).collect();
        assert_eq!(found, [0..5100, (1 << 20)..(1 << 20) + 100]);
        // One request for all costs the gap, where the bytes allow it; else the better part is read.
        assert_eq!(plan(&[item(5000), item(0), item(1 << 20)], 1, 1 << 30)[0].bytes, 0..(1 << 20) + 100);
        assert_eq!(plan(&[item(5000), item(0), item(1 << 20)], 1, 1 << 19)[0].bytes, 0..5100);
        assert!(plan(&[], 3, 100).is_empty());
        assert!(plan(&[item(0)], 0, 100).is_empty());
    }

    proptest! {
        #[test]
        fn limits_are_kept_and_what_is_required_is_there(
            parts in prop::collection::vec((0u64..50_000, 1u64..9000, 0u8..9, prop::bool::weighted(0.1)), 0..24),
            requests in 0usize..6,
            bytes in 0u64..200_000,
        ) {
            let items = items(&parts);
            let reads = plan(&items, requests, bytes);
            let required: Vec<&Item> = items.iter().filter(|item| item.required).collect();
            prop_assert!(reads.len() <= requests.max(required.len()));
            let needed: u64 = required.iter().map(|item| item.bytes.end - item.bytes.start + REQUEST).sum();
            prop_assert!(total(&reads) <= bytes.max(needed), "{} bytes", total(&reads));
            prop_assert!(required.iter().all(|item| covers(&reads, item)));
            for pair in reads.windows(2) {
                let in_order = pair[0].file < pair[1].file || pair[0].bytes.end <= pair[1].bytes.start;
                prop_assert!(in_order, "{pair:?}");
            }
            // Ranges begin and end with items.
            for read in &reads {
                prop_assert!(items.iter().any(|item| item.bytes.start == read.bytes.start && item.file == read.file));
                prop_assert!(items.iter().any(|item| item.bytes.end == read.bytes.end && item.file == read.file));
            }
        }

        /// With bytes to spare everything of worth comes; with few, at least as much as the best single item that fits.
        #[test]
        fn worth_is_not_left_behind(
            parts in prop::collection::vec((0u64..50_000, 1u64..9000, 1u8..9, Just(false)), 1..16),
        ) {
            let items = items(&parts);
            let all: f64 = items.iter().map(|item| item.worth).sum();
            prop_assert_eq!(worth(&items, &plan(&items, 2, u64::MAX >> 1)), all);
            // The same choice by trying every set of ranges, at one price.
            let few = &items[..items.len().min(6)];
            let sorted: Vec<&Item> = few.iter().collect();
            for price in [1e-5, 1e-4, 1e-3] {
                let value = |reads: &[Read]| {
                    worth(few, reads) - price * (total(reads) + REQUEST * reads.len() as u64) as f64
                };
                let found = value(&choose(&sorted, 2, price));
                let mut ranges = Vec::new();
                for (i, a) in few.iter().enumerate() {
                    for b in few[i..].iter().filter(|b| b.file == a.file) {
                        ranges.push(Read { file: a.file, bytes: a.bytes.start..b.bytes.end });
                    }
                }
                let mut most = ranges.iter().map(|a| value(std::slice::from_ref(a))).fold(0.0, f64::max);
                for a in &ranges {
                    for b in ranges.iter().filter(|b| b.file != a.file || b.bytes.start >= a.bytes.end) {
                        most = most.max(value(&[a.clone(), b.clone()]));
                    }
                }
                prop_assert!((found - most).abs() < 1e-9, "{found}, {most} is possible");
            }
        }
    }
}
