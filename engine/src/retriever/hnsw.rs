//! Approximate search by a hierarchical navigable small world graph (Malkov and Yashunin, arXiv 1603.09320), by the crate
//! instant-distance: for where there is no GPU, or where asked for.
//!
//! The graph is built natively and shipped without vectors: bincode of instant-distance's `Hnsw` with points that are row numbers,
//! 312 bytes a row. After loading, every point is linked to the store's vectors. Distance is −⟨a, b⟩. On vectors of very uneven
//! lengths such graphs can lose most of their recall (hnswlib #74: 49%), so [`build`] measures recall@10 against exact search and
//! refuses below [`MIN_RECALL`].
//!
//! The file, little-endian: ef u64 · count u64, rows u32 each · count u64, 64 links u32 each · layers u64, of each layer: count u64,
//! 32 links u32 each. Links name points by position; `u32::MAX` ends a list early.

use std::{
    cell::RefCell,
    sync::{Arc, OnceLock},
};

use bincode::Options;
use instant_distance::{Builder, Hnsw, Point, Search};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    flat::{self, Scored},
    vectors::Vectors,
};
use crate::{Error, Result};

/// Recall@10 under which a graph is refused.
pub const MIN_RECALL: f32 = 0.95;
/// Candidates kept while searching (`ef`): at most as many results come back.
pub const EF_SEARCH: usize = 128;
/// Candidates kept while inserting (`efConstruction`).
const EF_CONSTRUCTION: usize = 100;
/// Rows that serve as questions when recall is measured.
const SAMPLE: usize = 200;
/// Links a point has in the lowest layer and in the others.
const LINKS: [usize; 2] = [64, 32];
/// The same input gives the same graph on one thread.
const SEED: u64 = 0x5e1f;

/// A point while the graph is built: decoded values, because building compares rows with rows hundreds of millions of times.
#[derive(Clone)]
struct Inserted {
    row: u32,
    dim: usize,
    values: Arc<Vec<f32>>, // (rows, dim)
}

impl Inserted {
    fn vector(&self) -> &[f32] {
        &self.values[self.row as usize * self.dim..][..self.dim]
    }
}

impl Point for Inserted {
    fn distance(&self, other: &Self) -> f32 {
        -flat::dot_f32(self.vector(), other.vector())
    }
}

impl Serialize for Inserted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.row.serialize(serializer)
    }
}

/// A point of a loaded graph: a row of the store, or the question looked for.
#[derive(Clone)]
enum Linked {
    Row { row: u32, vectors: OnceLock<Arc<Vectors>> },
    Question(Arc<[f32]>),
}

impl Point for Linked {
    fn distance(&self, other: &Self) -> f32 {
        -match (self, other) {
            (Self::Question(question), Self::Row { row, vectors }) => stored(vectors).dot(*row as usize, question),
            (Self::Row { row, vectors }, other) => {
                let row = stored(vectors).row(*row as usize);
                return Self::Question(row.into()).distance(other);
            }
            (Self::Question(a), Self::Question(b)) => flat::dot_f32(a, b),
        }
    }
}

fn stored(vectors: &OnceLock<Arc<Vectors>>) -> &Vectors {
    vectors.get().expect("Graph::load links every point before the graph can be searched")
}

impl<'de> Deserialize<'de> for Linked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::Row { row: u32::deserialize(deserializer)?, vectors: OnceLock::new() })
    }
}

/// A loaded graph.
pub struct Graph {
    hnsw: Hnsw<Linked>,
    /// Scratch memory of a search.
    search: RefCell<Search>,
    ef: usize,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph(ef {})", self.ef)
    }
}

impl Graph {
    /// Reads a graph over `vectors`, which keeps `ef` candidates while searching. `file` names it in errors. Bytes from anywhere
    /// are safe: instant-distance trusts its links, so all of them are checked first.
    pub fn load(file: &str, mut bytes: Vec<u8>, vectors: Arc<Vectors>, ef: usize) -> Result<Self> {
        let rows = vectors.rows();
        let ef = ef.clamp(1, rows.max(1));
        check(&bytes, rows as u64).map_err(|(at, problem)| Error::input(file, format!("byte {at}"), problem))?;
        // instant-distance fixes ef when it builds and keeps it private; it is the first field of the file.
        bytes[..8].copy_from_slice(&(ef as u64).to_le_bytes());
        let hnsw: Hnsw<Linked> = bincode::DefaultOptions::new()
            .with_fixint_encoding()
            .with_limit(bytes.len() as u64)
            .deserialize(&bytes)
            .map_err(|e| Error::input(file, "content", e.to_string()))?;
        for (_, point) in hnsw.iter() {
            if let Linked::Row { vectors: link, .. } = point {
                link.set(vectors.clone()).expect("a point that was just read has no vectors");
            }
        }
        Ok(Self { hnsw, search: RefCell::new(Search::default()), ef })
    }

    /// Most results that a search gives.
    pub fn ef(&self) -> usize {
        self.ef
    }

    /// About the best `k` rows, at most [`Graph::ef`] of them, best first.
    pub fn search(&self, query: &[f32], k: usize) -> Vec<Scored> {
        let mut search = self.search.borrow_mut();
        let found = self.hnsw.search(&Linked::Question(query.into()), &mut search);
        let mut rows: Vec<Scored> = found
            .filter_map(|item| match item.point {
                Linked::Row { row, .. } => Some(Scored { row: *row, score: -item.distance }),
                Linked::Question(_) => None,
            })
            .collect();
        rows.sort_unstable_by(Scored::order);
        rows.truncate(k);
        rows
    }
}

/// Largest file of a graph over `rows` rows: each is a point, and in the lowest and at most three quarters of it in other layers.
pub fn max_bytes(rows: u64) -> u64 {
    rows.saturating_mul(4 + 4 * LINKS[0] as u64 + 3 * LINKS[1] as u64).saturating_add(1024)
}

/// Builds a graph over all rows; gives its file and its recall@10 when searched with `ef` candidates. An error when that is under
/// [`MIN_RECALL`]. 100,000 rows of 768 take 8 CPU minutes.
pub fn build(vectors: &Arc<Vectors>, ef: usize) -> Result<(Vec<u8>, f32)> {
    let (rows, dim) = (vectors.rows(), vectors.dim());
    let values: Arc<Vec<f32>> = Arc::new((0..rows).flat_map(|row| vectors.row(row)).collect());
    let points = (0..rows as u32).map(|row| Inserted { row, dim, values: values.clone() }).collect();
    let builder = Builder::default().seed(SEED).ef_construction(EF_CONSTRUCTION).ef_search(ef);
    let (hnsw, _) = builder.build_hnsw(points);
    let bytes = bincode::serialize(&hnsw).expect("a graph is plain numbers");
    let recall = recall(&Graph::load("the graph just built", bytes.clone(), vectors.clone(), ef)?, vectors);
    if recall < MIN_RECALL {
        return Err(Error::Recall { found: recall, needed: MIN_RECALL });
    }
    Ok((bytes, recall))
}

/// Recall@10 against exact search; of rows that score the same as the tenth any will do.
///
/// The questions are sums of two rows: a row by itself would be too easy, because the graph holds its neighbours as its links, and a
/// real question too lies between passages rather than on one.
pub fn recall(graph: &Graph, vectors: &Vectors) -> f32 {
    let rows = vectors.rows();
    let sample = SAMPLE.min(rows);
    let (mut found, mut wanted) = (0, 0);
    for i in 0..sample {
        let (one, other) = (i * rows / sample, (i * rows / sample + rows / 2) % rows);
        let question: Vec<f32> = vectors.row(one).iter().zip(vectors.row(other)).map(|(x, y)| x + y).collect();
        let exact = flat::search(vectors, &question, 10);
        let tenth = exact.last().map_or(0.0, |s| s.score);
        wanted += exact.len();
        found += graph.search(&question, 10).iter().filter(|s| s.score >= tenth).count();
    }
    if wanted == 0 { 1.0 } else { found as f32 / wanted as f32 }
}

/// Checks everything that instant-distance takes for granted; an error is a byte position and a problem.
fn check(bytes: &[u8], rows: u64) -> Result<(), (usize, String)> {
    let mut reader = Reader { bytes, at: 0 };
    reader.u64()?; // ef, which the caller replaces
    reader.count(rows, 4, "points")?;
    let mut seen = vec![false; rows as usize];
    for _ in 0..rows {
        let at = reader.at;
        let row = reader.u32()?;
        match seen.get_mut(row as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err((at, format!("row {row} twice or not under {rows}"))),
        }
    }
    let zero = reader.count(rows, 4 * LINKS[0], "points in the lowest layer")?;
    reader.links(zero, LINKS[0])?;
    let at = reader.at;
    let layers = reader.u64()?;
    let mut below = zero;
    for _ in 0..layers {
        let at = reader.at;
        let count = reader.u64()?;
        // A search goes down from position 0 of the highest layer, and positions must exist in all layers below.
        if count == 0 || count > below {
            return Err((at, format!("a layer of {count} points over one of {below}")));
        }
        reader.has(count, 4 * LINKS[1])?;
        reader.links(count, LINKS[1])?;
        below = count;
    }
    if reader.at != bytes.len() {
        return Err((at, format!("{layers} layers end at byte {}, the file at {}", reader.at, bytes.len())));
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], (usize, String)> {
        let end = (self.at, format!("{N} bytes expected, the file ends"));
        let value = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(end)?;
        self.at += N;
        Ok(*value)
    }

    fn u32(&mut self) -> Result<u32, (usize, String)> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, (usize, String)> {
        self.take().map(u64::from_le_bytes)
    }

    /// A count that must be `expected`, of items that must be there.
    fn count(&mut self, expected: u64, item_bytes: usize, what: &str) -> Result<u64, (usize, String)> {
        let at = self.at;
        let count = self.u64()?;
        if count != expected {
            return Err((at, format!("{count} {what}, {expected} expected")));
        }
        self.has(count, item_bytes)?;
        Ok(count)
    }

    fn has(&self, count: u64, item_bytes: usize) -> Result<(), (usize, String)> {
        let left = (self.bytes.len() - self.at) as u64;
        match count.checked_mul(item_bytes as u64) {
            Some(bytes) if bytes <= left => Ok(()),
            _ => Err((self.at, format!("{count} items of {item_bytes} bytes expected, {left} bytes left"))),
        }
    }

    /// Link lists of `count` points, whose links stay in their layer.
    fn links(&mut self, count: u64, links: usize) -> Result<(), (usize, String)> {
        for _ in 0..count * links as u64 {
            let at = self.at;
            let link = self.u32()?;
            if link != u32::MAX && u64::from(link) >= count {
                return Err((at, format!("a link to point {link} in a layer of {count}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::retriever::vectors::{
        Precision,
        tests::{pack, random_vectors},
    };

    const ROWS: usize = 300;

    fn vectors() -> Arc<Vectors> {
        Arc::new(pack(Precision::Int8, &random_vectors(ROWS, 8, 5)))
    }

    fn graph_bytes() -> &'static [u8] {
        static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
        BYTES.get_or_init(|| build(&vectors(), EF_SEARCH).unwrap().0)
    }

    #[test]
    fn a_graph_finds_nearly_what_exact_search_finds() {
        let vectors = vectors();
        let graph = Graph::load("g", graph_bytes().to_vec(), vectors.clone(), EF_SEARCH).unwrap();
        assert!(recall(&graph, &vectors) >= 0.99, "recall {}", recall(&graph, &vectors));
        assert!(graph_bytes().len() as u64 <= max_bytes(ROWS as u64));
        let query = &random_vectors(1, 8, 6)[0];
        let found = graph.search(query, 7);
        assert_eq!(found, flat::search(&vectors, query, 7));
        // ef bounds the results, and is what load was told, not what the file says.
        assert_eq!(Graph::load("g", graph_bytes().to_vec(), vectors, 3).unwrap().search(query, 7).len(), 3);
    }

    #[test]
    fn few_rows_make_a_graph_too() {
        for rows in [1, 2, 11] {
            let vectors = Arc::new(pack(Precision::F16, &random_vectors(rows, 5, 7)));
            let (bytes, recall) = build(&vectors, EF_SEARCH).unwrap();
            assert_eq!(recall, 1.0, "{rows} rows");
            let graph = Graph::load("g", bytes, vectors.clone(), EF_SEARCH).unwrap();
            assert_eq!(graph.search(&vectors.row(0), 20).len(), rows);
        }
    }

    #[test]
    fn a_graph_that_loses_recall_is_refused() {
        // Nine candidates cannot hold ten results.
        match build(&vectors(), 9) {
            Err(Error::Recall { found, needed }) => {
                assert!(found > 0.8 && found <= 0.9 && needed == MIN_RECALL, "{found}")
            }
            other => panic!("recall under {MIN_RECALL} expected, not {:?}", other.map(|(_, recall)| recall)),
        }
    }

    #[test]
    fn rows_that_are_equal_do_not_count_as_lost() {
        let vectors = Arc::new(pack(Precision::Int8, &vec![vec![1.0, 2.0]; 200]));
        assert_eq!(build(&vectors, EF_SEARCH).unwrap().1, 1.0);
    }

    #[test]
    fn damage_is_an_error_with_its_place() {
        let good = graph_bytes();
        let zero = 8 + 8 + ROWS * 4;
        let set = |at: usize, value: u64, len: usize| {
            let mut bytes = good.to_vec();
            bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            bytes
        };
        let cases = [
            (good[..7].to_vec(), "byte 0"),
            (good[..good.len() - 1].to_vec(), "byte "),
            ([good, &[0]].concat(), "byte "),
            (set(8, u64::MAX, 8), "byte 8"),
            (set(16, ROWS as u64, 4), "byte 16"),
            (set(20, 0, 4), "byte "),
            (set(zero, 1 << 60, 8), "byte "),
            (set(zero + 8, ROWS as u64, 4), &format!("byte {}", zero + 8)),
            (set(zero + 8 + ROWS * 256, u64::MAX, 8), "byte "),
        ];
        for (i, (bytes, place)) in cases.into_iter().enumerate() {
            let error = Graph::load("g", bytes, vectors(), 10).unwrap_err().to_string();
            assert!(error.starts_with(&format!("g: {place}")), "case {i}: {error:?} should be at {place}");
        }
    }

    proptest! {
        #[test]
        fn any_change_is_an_error_or_a_graph_that_can_be_searched(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = graph_bytes().to_vec();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let vectors = vectors();
            if let Ok(graph) = Graph::load("g", bytes, vectors.clone(), EF_SEARCH) {
                let found = graph.search(&vectors.row(1), 10);
                prop_assert!(found.iter().all(|s| (s.row as usize) < ROWS));
            }
        }
    }
}
