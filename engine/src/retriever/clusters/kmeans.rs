//! Balanced k-means: centroids of a sample, rows to centroids.
//!
//! Distance is Euclidean: for vectors of one length (MiniLM) it ranks as the inner product does, and for lengths that differ a little
//! (Contriever) it keeps rows together that have similar products with any question, which clusters by inner product do not: there the
//! longest centroid takes all.
//!
//! Balance comes in two steps. While centroids are trained, those of a few rows give way and those of many are split, which costs no
//! quality; a row whose cluster is full goes to the next best with room, which bounds what a question may have to read.
//!
//! The result depends on seed and rows alone, not on the number of threads: sums are made piece by piece, and pieces in their order.

use std::sync::Mutex;

use super::codes::Random;
use crate::{platform::in_parallel, retriever::flat::dot_f32};

/// Nearest centroids that a row may go to.
pub(super) const CHOICES: usize = 8;
/// Rows that one thread takes at a time.
const PIECE: usize = 256;
/// Times that every row of the sample chooses its centroid.
const STEPS: usize = 12;
/// Steps after which clusters are evened out.
const EVENED: std::ops::Range<usize> = 3..9;
/// A cluster of more than this many times the mean is split, one of less than its inverse dissolved.
const UNEVEN: f32 = 2.0;

/// Centroids, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Centroids {
    pub(super) dim: usize,
    pub(super) values: Vec<f32>,
}

impl Centroids {
    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// The nearest `n` centroids of each row (rows, dim), nearest first.
    pub(super) fn nearest(&self, rows: &[f32], n: usize) -> Vec<Vec<u32>> {
        let halves: Vec<f32> = (0..self.rows()).map(|i| dot_f32(self.row(i), self.row(i)) / 2.0).collect();
        let mut found = vec![Vec::new(); rows.len() / self.dim];
        let pieces = rows.chunks(PIECE * self.dim).zip(found.chunks_mut(PIECE));
        in_parallel(pieces, |(rows, found)| {
            // Four rows at a time: a centroid is loaded once for them.
            for (rows, found) in rows.chunks(4 * self.dim).zip(found.chunks_mut(4)) {
                let mut best: [Vec<(f32, u32)>; 4] = Default::default();
                for (c, half) in halves.iter().enumerate() {
                    let centroid = self.row(c);
                    for (row, best) in rows.chunks_exact(self.dim).zip(&mut best) {
                        let closeness = dot_f32(row, centroid) - half;
                        if best.len() == n && closeness <= best[n - 1].0 {
                            continue;
                        }
                        best.truncate(n - 1);
                        let at = best.partition_point(|other| other.0 >= closeness);
                        best.insert(at, (closeness, c as u32));
                    }
                }
                for (found, best) in found.iter_mut().zip(best) {
                    *found = best.into_iter().map(|(_, c)| c).collect();
                }
            }
        });
        found
    }
}

/// Trains `clusters` centroids on a sample (rows, dim); `progress` hears each step.
pub(super) fn train(
    sample: &[f32],
    dim: usize,
    clusters: usize,
    seed: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Centroids {
    let rows = sample.len() / dim;
    let row = |i: usize| &sample[i * dim..(i + 1) * dim];
    let mut random = Random(seed);
    let mut order: Vec<usize> = (0..rows).collect();
    for i in 0..clusters.min(rows) {
        let other = i + (random.next() % (rows - i) as u64) as usize;
        order.swap(i, other);
    }
    let mut centroids =
        Centroids { dim, values: order[..clusters.min(rows)].iter().flat_map(|i| row(*i).to_vec()).collect() };
    for step in 0..STEPS {
        let chosen: Vec<u32> = centroids.nearest(sample, 1).iter().map(|nearest| nearest[0]).collect();
        let sizes = means(sample, &chosen, &mut centroids);
        if EVENED.contains(&step) {
            even_out(sample, &chosen, &sizes, &mut centroids, &mut random);
        }
        progress(step + 1, STEPS);
    }
    centroids
}

/// Moves each centroid to its rows' mean and gives the numbers of rows; one without rows stays.
fn means(rows: &[f32], chosen: &[u32], centroids: &mut Centroids) -> Vec<usize> {
    let dim = centroids.dim;
    let mut members = vec![Vec::new(); centroids.rows()];
    chosen.iter().enumerate().for_each(|(row, c)| members[*c as usize].push(row));
    in_parallel(centroids.values.chunks_mut(dim).zip(&members), |(centroid, members)| {
        if members.is_empty() {
            return;
        }
        let mut sums = vec![0.0f64; dim];
        for row in members {
            sums.iter_mut().zip(&rows[row * dim..(row + 1) * dim]).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        centroid.iter_mut().zip(sums).for_each(|(c, sum)| *c = (sum / members.len() as f64) as f32);
    });
    members.iter().map(Vec::len).collect()
}

/// The smallest clusters' centroids go to random rows of the largest, which the next step parts.
fn even_out(sample: &[f32], chosen: &[u32], sizes: &[usize], centroids: &mut Centroids, random: &mut Random) {
    let (dim, mean) = (centroids.dim, chosen.len() as f32 / sizes.len() as f32);
    let mut by_size: Vec<usize> = (0..sizes.len()).collect();
    by_size.sort_by_key(|c| (sizes[*c], *c));
    let small = by_size.iter().filter(|c| (sizes[**c] as f32) < mean / UNEVEN);
    let large = by_size.iter().rev().filter(|c| sizes[**c] as f32 > mean * UNEVEN);
    for (small, large) in small.zip(large) {
        let members: Vec<usize> = (0..chosen.len()).filter(|row| chosen[*row] as usize == *large).collect();
        let row = members[(random.next() % members.len() as u64) as usize];
        // Half way, so that a row at the border does not end up alone.
        let other: Vec<f32> =
            centroids.row(*large).iter().zip(&sample[row * dim..]).map(|(c, x)| (c + x) / 2.0).collect();
        centroids.values[small * dim..(small + 1) * dim].copy_from_slice(&other);
    }
}

/// Rows to clusters of at most `cap` rows.
#[derive(Debug)]
pub(super) struct Balance {
    cap: usize,
    pub(super) sizes: Vec<usize>,
}

impl Balance {
    /// Clusters may have up to twice the mean.
    pub(super) fn new(rows: usize, clusters: usize) -> Self {
        Self { cap: (2 * rows).div_ceil(clusters), sizes: vec![0; clusters] }
    }

    /// The first choice that has room, or the emptiest cluster of all.
    pub(super) fn place(&mut self, choices: &[u32]) -> u32 {
        let with_room = choices.iter().copied().find(|c| self.sizes[*c as usize] < self.cap);
        let emptiest = || (0..self.sizes.len()).min_by_key(|c| self.sizes[*c]).expect("there is a cluster") as u32;
        let cluster = with_room.unwrap_or_else(emptiest);
        self.sizes[cluster as usize] += 1;
        cluster
    }
}

/// Clusters of a neighbourhood, which lie together whatever comes before and after.
const NEIGHBOURS: usize = 5;

/// An order in which near centroids lie near each other: neighbourhoods by k-means over the centroids, a chain of neighbourhoods, and a
/// chain in each. One chain over all ends in far jumps.
pub(super) fn near_each_other(centroids: &Centroids, seed: u64) -> Vec<u32> {
    let dim = centroids.dim;
    let groups = train(&centroids.values, dim, centroids.rows().div_ceil(NEIGHBOURS), seed, &mut |_, _| {});
    let mut members = vec![Vec::new(); groups.rows()];
    let nearest = groups.nearest(&centroids.values, 1);
    nearest.iter().enumerate().for_each(|(c, nearest)| members[nearest[0] as usize].push(c as u32));
    let mut order = Vec::with_capacity(centroids.rows());
    for group in chain(&groups) {
        let members = &members[group as usize];
        let values = members.iter().flat_map(|c| centroids.row(*c as usize)).copied().collect();
        order.extend(chain(&Centroids { dim, values }).into_iter().map(|i| members[i as usize]));
    }
    order
}

/// From the first, always to the nearest that is left.
fn chain(centroids: &Centroids) -> Vec<u32> {
    let n = centroids.rows();
    let distance =
        |a: usize, b: usize| centroids.row(a).iter().zip(centroids.row(b)).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    let mut left: Vec<usize> = (0..n).collect();
    let mut order = Vec::with_capacity(n);
    let mut at = 0;
    while !left.is_empty() {
        let distances = Mutex::new(vec![(f32::MAX, usize::MAX); left.len().div_ceil(PIECE)]);
        in_parallel(left.chunks(PIECE).enumerate(), |(piece, some)| {
            let nearest =
                some.iter().map(|c| (distance(at, *c), *c)).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            distances.lock().expect("no holder panics")[piece] = nearest.expect("no piece is empty");
        });
        let distances = distances.into_inner().expect("no holder panics");
        let next =
            distances.into_iter().min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).expect("some are left").1;
        order.push(next as u32);
        left.retain(|c| *c != next);
        at = next;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retriever::vectors::tests::random_vectors;

    /// Rows around a few centres, of very unequal numbers.
    fn lumps() -> (Vec<f32>, usize) {
        let centres = random_vectors(6, 5, 3);
        let noise = random_vectors(600, 5, 4);
        let row = |(i, noise): (usize, &Vec<f32>)| -> Vec<f32> {
            let centre = &centres[if i < 400 { 0 } else { 1 + i % 5 }];
            centre.iter().zip(noise).map(|(c, x)| c + 0.05 * x).collect()
        };
        (noise.iter().enumerate().flat_map(row).collect(), 5)
    }

    #[test]
    fn clusters_are_near_and_even() {
        let (rows, dim) = lumps();
        let centroids = train(&rows, dim, 12, 1, &mut |_, _| {});
        let nearest = centroids.nearest(&rows, CHOICES);
        let mut balance = Balance::new(600, 12);
        let placed: Vec<u32> = nearest.iter().map(|choices| balance.place(choices)).collect();
        assert!(balance.sizes.iter().all(|size| *size <= 100), "{:?}", balance.sizes);
        let distance = |i: usize| -> f32 {
            let row = &rows[i * dim..(i + 1) * dim];
            row.iter().zip(centroids.row(placed[i] as usize)).map(|(x, c)| (x - c) * (x - c)).sum()
        };
        let mean = (0..600).map(distance).sum::<f32>() / 600.0;
        assert!(mean < 0.02, "{mean}: rows are 0.004 from their centres");
        // The first choice is the nearest of all, by plain loops.
        for (i, choices) in nearest.iter().enumerate() {
            let row = &rows[i * dim..(i + 1) * dim];
            let far = |c: u32| row.iter().zip(centroids.row(c as usize)).map(|(x, c)| (x - c) * (x - c)).sum::<f32>();
            let least = (0..12).map(far).fold(f32::MAX, f32::min);
            assert!(far(choices[0]) <= least + 1e-5);
            assert!(choices.windows(2).all(|pair| far(pair[0]) <= far(pair[1]) + 1e-5));
        }
    }

    #[test]
    fn equal_rows_are_spread() {
        let rows = vec![0.5; 3 * 40];
        let centroids = train(&rows, 3, 10, 2, &mut |_, _| {});
        let mut balance = Balance::new(40, 10);
        centroids.nearest(&rows, 2).iter().for_each(|choices| {
            balance.place(choices);
        });
        assert!(balance.sizes.iter().all(|size| *size <= 8), "{:?}", balance.sizes);
    }

    #[test]
    fn a_chain_has_every_centroid_once_and_short_steps() {
        let values: Vec<f32> = [5, 1, 4, 0, 3, 2].iter().flat_map(|x| [*x as f32, 0.0]).collect();
        assert_eq!(chain(&Centroids { dim: 2, values }), [0, 2, 4, 5, 1, 3]);
    }
}
