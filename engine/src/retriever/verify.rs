//! What [`Store::verify`] cannot see: whether a store holds the passages that it should, and how much of what exact search finds its other
//! vectors and its graph find.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{
    Passage,
    embeddings::matched::Count,
    flat::{Scored, TopK},
    hnsw::{EF_SEARCH, Graph},
    store::Store,
    vectors::Precision,
};
use crate::Result;

/// Results that are compared.
const BEST: usize = 10;
/// Rows looked at for ties with the last of them.
const WITH_TIES: usize = 3 * BEST;

/// Passages read at a time.
const ROWS: u64 = 1024;

/// How a store's passages and those of files fit together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Passages that are alike.
    pub same: u64,
    /// Passages of the same id with another title or text.
    pub changed: Count,
    /// Passages of the files that the store lacks.
    pub missing: Count,
    /// Passages of the store that the files lack.
    pub unknown: Count,
}

impl Comparison {
    /// Whether store and files hold the same.
    pub fn is_same(&self) -> bool {
        self.changed.count + self.missing.count + self.unknown.count == 0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passages as in the files", self.same)?;
        let kinds = [("other there", &self.changed), ("missing here", &self.missing), ("missing there", &self.unknown)];
        kinds.iter().filter(|(_, count)| count.count > 0).try_for_each(|(what, count)| write!(f, "; {what}: {count}"))
    }
}

/// Holds a store against the passages that it should have, in any order. Memory holds the store's ids.
pub async fn compare(store: &Store, passages: impl Iterator<Item = Result<Passage>>) -> Result<Comparison> {
    let hash = |passage: &Passage| {
        let mut hasher = DefaultHasher::new();
        (&passage.title, &passage.text).hash(&mut hasher);
        hasher.finish()
    };
    let (count, mut stored, mut first) = (store.manifest().count, HashMap::new(), 0);
    while first < count {
        let rows: Vec<u32> = (first..count.min(first + ROWS)).map(|row| row as u32).collect();
        for (row, passage) in rows.iter().zip(store.passages(&rows).await?) {
            let hash = hash(&passage);
            stored.insert(passage.id, (*row, hash));
        }
        first += ROWS;
    }
    let mut found = Comparison::default();
    for passage in passages {
        let passage = passage?;
        match stored.remove(&passage.id) {
            None => found.missing.add(&passage.id),
            Some((_, stored)) if stored == hash(&passage) => found.same += 1,
            Some(_) => found.changed.add(&passage.id),
        }
    }
    let mut left: Vec<(u32, String)> = stored.into_iter().map(|(id, (row, _))| (row, id)).collect();
    left.sort_unstable();
    left.iter().for_each(|(_, id)| found.unknown.add(id));
    Ok(found)
}

/// Recall@10 of what a store can search in.
#[derive(Debug, Clone, PartialEq)]
pub struct Recall {
    /// The measure: the most exact vectors that the store has.
    pub exact: Precision,
    /// Questions asked.
    pub questions: usize,
    /// Of each other precision.
    pub precisions: Vec<(Precision, f32)>,
    /// Of the graph, where there is one.
    pub graph: Option<f32>,
}

/// Asks `sample` questions, each between two rows far from one another, of every precision and the graph. A result that is as good as
/// the tenth counts. Vectors are read a shard at a time, for the graph all at once; the time is that of `sample` exact searches for each.
pub async fn recall(store: &Store, sample: usize) -> Result<Option<Recall>> {
    let precisions: Vec<Precision> = store.manifest().precisions().into_iter().collect();
    let Some(&exact) = precisions.first() else { return Ok(None) };
    let questions = questions(store, exact, sample).await?;
    let wanted: Vec<HashSet<u32>> = search(store, exact, &questions, WITH_TIES)
        .await?
        .into_iter()
        .map(|found| {
            let tenth = found.get(BEST - 1).or(found.last()).map_or(0.0, |scored| scored.score);
            found.iter().take_while(|scored| scored.score >= tenth).map(|scored| scored.row).collect()
        })
        .collect();
    let rows = store.manifest().count.min(BEST as u64) as usize;
    let share = |found: &[Vec<Scored>]| {
        let hits = found
            .iter()
            .zip(&wanted)
            .map(|(found, wanted)| found.iter().take(BEST).filter(|scored| wanted.contains(&scored.row)).count());
        hits.sum::<usize>() as f32 / (rows * questions.len()).max(1) as f32
    };
    let mut others = Vec::new();
    for &precision in &precisions[1..] {
        others.push((precision, share(&search(store, precision, &questions, BEST).await?)));
    }
    let graph = match store.graph().await? {
        None => None,
        Some(bytes) => {
            let vectors = Arc::new(store.all_vectors(store.precision()).await?);
            let graph = Graph::load("graph", bytes, vectors, EF_SEARCH)?;
            let found: Vec<Vec<Scored>> = questions.iter().map(|question| graph.search(question, BEST)).collect();
            Some(share(&found))
        }
    };
    Ok(Some(Recall { exact, questions: questions.len(), precisions: others, graph }))
}

/// Between two rows rather than on one, which would find itself.
async fn questions(store: &Store, precision: Precision, sample: usize) -> Result<Vec<Vec<f32>>> {
    let count = store.manifest().count as usize;
    let sample = sample.min(count);
    let pairs: Vec<[usize; 2]> =
        (0..sample).map(|i| i * count / sample).map(|row| [row, (row + count / 2) % count]).collect();
    let mut questions = vec![vec![0.0; store.manifest().dim]; sample];
    let mut first = 0;
    for shard in 0..store.shards() {
        let vectors = store.vectors(shard, precision).await?;
        for (question, pair) in questions.iter_mut().zip(&pairs) {
            for row in pair.iter().filter(|row| (first..first + vectors.rows()).contains(row)) {
                question.iter_mut().zip(vectors.row(row - first)).for_each(|(sum, value)| *sum += value);
            }
        }
        first += vectors.rows();
    }
    Ok(questions)
}

/// Exact search in one precision, a shard at a time.
async fn search(store: &Store, precision: Precision, questions: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Scored>>> {
    let mut best: Vec<TopK> = questions.iter().map(|_| TopK::new(k)).collect();
    let mut first = 0;
    for shard in 0..store.shards() {
        let vectors = store.vectors(shard, precision).await?;
        for (question, best) in questions.iter().zip(&mut best) {
            for row in 0..vectors.rows() {
                best.push(Scored { row: (first + row) as u32, score: vectors.dot(row, question) });
            }
        }
        first += vectors.rows();
    }
    Ok(best.into_iter().map(TopK::finish).collect())
}
