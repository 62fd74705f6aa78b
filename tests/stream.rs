//! Promise: vectors that the GPU has no room for are found as if it had, to the bit and in the same order, and what that costs is told.

mod common;

use selfrag::{
    gpu::Gpu,
    ops::self_test::Random,
    platform::block_on,
    retriever::{
        flat_gpu::FlatGpu,
        flat_stream::{FlatStream, MOST_AT_ONCE},
        vectors::{Precision, Vectors},
    },
};

/// Another one each run, printed; `SELFRAG_SEED` repeats one.
fn seed() -> u64 {
    let given = std::env::var("SELFRAG_SEED").ok().and_then(|seed| seed.parse().ok());
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |now| now.as_micros() as u64);
    let seed = given.unwrap_or_else(now);
    println!("SELFRAG_SEED={seed}");
    seed
}

/// Rows in pieces of odd sizes, as a store's shards are.
fn pieces(random: &mut Random, precision: Precision, dim: usize, rows: usize, ties: bool) -> Vec<Vectors> {
    let (mut pieces, mut left) = (Vec::new(), rows);
    while left > 0 {
        let count = random.pick(1..=2500).min(left);
        let mut piece = Vectors::new(precision, dim);
        for _ in 0..count {
            let values = random.values(dim);
            piece.push(&values.into_iter().map(|x| if ties { x.round() } else { x }).collect::<Vec<_>>());
        }
        left -= count;
        pieces.push(piece);
    }
    pieces
}

fn streamed(gpu: &Gpu, pieces: &[Vectors], limit: Option<u64>) -> FlatStream {
    let size = (pieces[0].precision(), pieces[0].dim(), pieces.iter().map(Vectors::rows).sum());
    let mut pieces = pieces.iter().cloned();
    block_on(FlatStream::of(gpu, size, limit, async || Ok(pieces.next()))).expect("there is room")
}

#[test]
fn what_is_streamed_is_found_as_if_it_were_resident() {
    let gpu = common::gpu();
    let mut random = Random::new(seed());
    for precision in Precision::ALL {
        for ties in [false, true] {
            let (dim, rows) = (random.pick(1..=70), random.pick(7000..=10_000));
            let pieces = pieces(&mut random, precision, dim, rows, ties);
            let mut resident = FlatGpu::new(&gpu, dim);
            pieces.iter().for_each(|piece| block_on(resident.push(piece)).expect("vectors fit"));
            let questions: Vec<Vec<f32>> = (0..MOST_AT_ONCE + 5).map(|_| random.values(dim)).collect();
            // Nothing stays; chunks of a tile; a random part stays, in larger chunks.
            let all = FlatGpu::with_rows(&gpu, precision, dim, rows).expect("vectors fit").bytes();
            let part = all * random.pick(60..=90) as u64 / 100;
            for limit in [0, all / 10, part] {
                let case = format!("{} {rows} × {dim}, ties {ties}, limit {limit}", precision.name());
                let mut flat = streamed(&gpu, &pieces, Some(limit));
                let told = flat.streaming().expect("something is streamed");
                assert_eq!(flat.rows(), rows, "{case}");
                assert!(told.resident_bytes <= limit.max(64) && told.streamed_bytes > 0, "{case}: {told:?}");
                assert!(told.resident_bytes > 0 || limit < part, "{case}: {told:?}");
                let few = [(1, 1), (8, 100), (11, 10), (2, 300), (1, rows + 1), (1, 0), (0, 3)];
                // More than a pass, where chunks are large: a submission takes this device longer than a chunk.
                let many = (limit == part).then_some((questions.len(), 7));
                for (count, k) in few.into_iter().chain(many) {
                    let expected = block_on(resident.search(&questions[..count], k)).expect("a search");
                    let found = block_on(flat.search(&questions[..count], k)).expect("a search");
                    assert!(found == expected, "{case}: {count} questions, the best {k}");
                    assert!(found.iter().all(|found| found.len() == k.min(rows)), "{case}: the best {k}");
                }
            }
        }
    }
}

#[test]
fn what_fits_is_not_streamed() {
    let gpu = common::gpu();
    let pieces = pieces(&mut Random::new(5), Precision::Int8, 20, 3000, false);
    let question = [vec![0.5; 20]];
    let mut results = Vec::new();
    for limit in [None, Some(1 << 30), Some(40_000)] {
        let mut flat = streamed(&gpu, &pieces, limit);
        assert_eq!(flat.streaming().is_none(), limit != Some(40_000));
        results.push(block_on(flat.search(&question, 20)).expect("a search"));
    }
    assert!(results[0] == results[1] && results[1] == results[2]);
}

#[test]
fn the_cost_is_told() {
    let gpu = common::gpu();
    let mut random = Random::new(6);
    let pieces = pieces(&mut random, Precision::F32, 64, 4000, false);
    let mut flat = streamed(&gpu, &pieces, Some(500_000));
    let at_first = flat.streaming().expect("something is streamed");
    assert_eq!(at_first.passes, 1, "one search was measured when it was opened");
    // 4,000 rows are 63 tiles of 16 kB, whole ones.
    assert_eq!(
        at_first.resident_bytes + at_first.streamed_bytes,
        63 * 64 * 256 + 16,
        "and 16 bytes that are no scales"
    );
    let questions: Vec<Vec<f32>> = (0..MOST_AT_ONCE + 1).map(|_| random.values(64)).collect();
    block_on(flat.search(&questions, 3)).expect("a search");
    let told = flat.streaming().expect("something is streamed");
    assert!(
        told.passes == 3 && told.secs > at_first.secs && told.gb_per_sec().is_some_and(|rate| rate > 0.0),
        "{told:?}"
    );
    let words = told.to_string();
    assert!(words.contains("stay on the GPU") && words.contains("streamed from host memory"), "{words}");
    let resident = format!("{:.1} MB of vectors", told.resident_bytes as f64 / 1e6);
    assert!(words.starts_with(&resident) && words.ends_with(" GB/s"), "{words}");
}
