//! What a clustered store finds and what that costs, against exact search over the flat store it was made from.

use std::{collections::HashSet, path::Path};

use super::{
    build::Options,
    format::{Manifest, Measured, Sample},
    search::{Clusters, Limits},
};
use crate::{
    Result,
    retriever::{
        files::Folder,
        flat::{Scored, TopK},
        manifest::MANIFEST,
        store::Store,
    },
};

/// Rows taken as questions where there are none.
const ROWS: usize = 200;
/// Recall is of the best so many.
const BEST: usize = 10;

/// Questions and their exact answers.
#[derive(Debug)]
pub struct Truth {
    sample: Sample,
    questions: Vec<Vec<f32>>,
    /// Rows that are left out: the question itself, where it is one.
    left_out: Vec<Option<u32>>,
    best: Vec<HashSet<u32>>,
}

impl Truth {
    /// Searches the flat store exactly for the questions, or for rows of its own; one shard is in memory at a time.
    pub async fn new(store: &Store, questions: Option<Vec<Vec<f32>>>) -> Result<Self> {
        let count = store.manifest().count;
        // The most exact there is: a store that holds int8 beside f16 must not be measured by its own rounding.
        let exact = store.manifest().precisions().first().copied().unwrap_or(store.precision());
        let (sample, questions, left_out) = match questions {
            Some(questions) => {
                let left_out = vec![None; questions.len()];
                (Sample::Questions, questions, left_out)
            }
            None => {
                let n = count.min(ROWS as u64);
                let rows: Vec<u64> = (0..n).map(|i| i * count / n).collect();
                let (mut questions, mut first) = (Vec::new(), 0);
                for shard in 0..store.shards() {
                    let vectors = store.vectors(shard, exact).await?;
                    let end = first + vectors.rows() as u64;
                    let here = rows.iter().filter(|row| (first..end).contains(row));
                    questions.extend(here.map(|row| vectors.row((row - first) as usize)));
                    first = end;
                }
                (Sample::Rows, questions, rows.iter().map(|row| Some(*row as u32)).collect())
            }
        };
        let mut best: Vec<TopK> = questions.iter().map(|_| TopK::new(BEST)).collect();
        let mut first = 0;
        for shard in 0..store.shards() {
            let vectors = store.vectors(shard, exact).await?;
            let jobs = questions.iter().zip(&left_out).zip(&mut best);
            crate::platform::in_parallel(jobs, |((question, left_out), best)| {
                for row in 0..vectors.rows() {
                    let number = first + row as u32;
                    if Some(number) != *left_out {
                        best.push(Scored { row: number, score: vectors.dot(row, question) });
                    }
                }
            });
            first += vectors.rows() as u32;
        }
        let best = best.into_iter().map(|best| best.finish().iter().map(|scored| scored.row).collect()).collect();
        Ok(Self { sample, questions, left_out, best })
    }

    /// Asks all questions; of records none should be cached, of codes none or all.
    pub async fn measure(&self, clusters: &Clusters) -> Result<Measured> {
        let mut measured = Measured {
            probes: clusters.probes(),
            preloaded: clusters.preloaded(),
            sample: self.sample,
            questions: self.questions.len(),
            recall_at_10: 0.0,
            bytes: 0.0,
            most_bytes: 0,
            requests: 0.0,
            most_requests: 0,
            clusters: 0.0,
        };
        let (mut hits, mut wanted) = (0, 0);
        let n = self.questions.len().max(1) as f32;
        for ((question, left_out), best) in self.questions.iter().zip(&self.left_out).zip(&self.best) {
            let found = clusters.find(question, BEST + usize::from(left_out.is_some())).await?;
            let others = found.records.iter().map(|(record, _)| record.row).filter(|row| Some(*row) != *left_out);
            hits += others.take(BEST).filter(|row| best.contains(row)).count();
            wanted += best.len();
            measured.bytes += found.cost.bytes as f32 / n;
            measured.most_bytes = measured.most_bytes.max(found.cost.bytes);
            measured.requests += found.cost.requests as f32 / n;
            measured.most_requests = measured.most_requests.max(found.cost.requests);
            measured.clusters += found.cost.clusters_searched as f32 / n;
        }
        measured.recall_at_10 = hits as f32 / wanted.max(1) as f32;
        Ok(measured)
    }

    /// The same for several numbers of probes, and with all codes in memory where readers hold them.
    pub async fn table(&self, folder: &Path, probes: &[usize]) -> Result<Vec<Measured>> {
        let mut table = Vec::new();
        let open = |limits| Clusters::open(Box::new(Folder::new(folder)), Limits { record_cache: 0, ..limits });
        for probes in probes {
            let limits = Limits { probes: Some(*probes), preload: 0, block_cache: 0, ..Limits::default() };
            table.push(self.measure(&open(limits).await?).await?);
        }
        let preloaded = open(Limits::default()).await?;
        if preloaded.preloaded() {
            table.push(self.measure(&preloaded).await?);
        }
        Ok(table)
    }
}

/// Powers of two up to the number of clusters.
pub fn usual_probes(clusters: u64) -> Vec<usize> {
    let powers = (2..).map(|power| 1 << power).take_while(|probes| (*probes as u64) < clusters).take(8);
    let all = usize::try_from(clusters).unwrap_or(usize::MAX);
    let mut probes: Vec<usize> = powers.collect();
    if probes.len() < 8 {
        probes.push(all);
    }
    probes
}

/// Measures the store in `folder` and writes into its manifest how many probes questions should take.
pub(super) async fn at_build(store: &Store, folder: &Path, manifest: &mut Manifest, options: &Options) -> Result<()> {
    let truth = Truth::new(store, options.questions.clone()).await?;
    let mut probes = usual_probes(manifest.clusters);
    probes.extend(options.probes.filter(|wanted| !probes.contains(wanted)));
    probes.sort_unstable();
    manifest.measured = truth.table(folder, &probes).await?;
    let mut probed = manifest.measured.iter().filter(|measured| !measured.preloaded);
    let best = || {
        manifest
            .measured
            .iter()
            .filter(|measured| !measured.preloaded)
            .max_by(|a, b| a.recall_at_10.total_cmp(&b.recall_at_10))
    };
    let enough = probed.find(|measured| measured.recall_at_10 >= options.recall);
    let chosen = enough.or_else(best).map_or(1, |measured| measured.probes);
    manifest.probes = options.probes.unwrap_or(chosen);
    super::super::build::write(&folder.join(MANIFEST), &manifest.to_json())
}
