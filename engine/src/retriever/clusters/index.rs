//! The retriever over a clustered store.

use super::search::{Clusters, Cost};
use crate::{
    Result,
    platform::LocalFuture,
    retriever::{Corpus, Embedder, Hit, Retriever, embed_questions, index::check_encoder, manifest::EncoderInfo},
};

/// A clustered store and its encoder.
pub struct ClusterIndex {
    clusters: Clusters,
    embedder: Box<dyn Embedder>,
    costs: Vec<Cost>,
    expected_recall: Option<f32>,
}

impl std::fmt::Debug for ClusterIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterIndex({:?})", self.clusters)
    }
}

impl ClusterIndex {
    /// Makes sure that `embedder` is the encoder that the store was made with.
    pub fn open(clusters: Clusters, mut embedder: Box<dyn Embedder>) -> LocalFuture<'static, Result<Self>> {
        Box::pin(async move {
            let manifest = clusters.manifest();
            let any = clusters.any_record().await?.map(|record| (record.passage.clone(), record.vector.row(0)));
            check_encoder(clusters.name(), &manifest.encoder, manifest.dim, any, embedder.as_mut()).await?;
            Ok(Self { clusters, embedder, costs: Vec::new(), expected_recall: None })
        })
    }

    /// The store.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// What each question of the last search took.
    pub fn costs(&self) -> &[Cost] {
        &self.costs
    }

    async fn search_all(&mut self, queries: &[Vec<f32>], n_docs: usize) -> Result<Vec<Vec<Hit>>> {
        self.costs.clear();
        let mut hits = Vec::new();
        for query in queries {
            let found = self.clusters.find(query, n_docs).await?;
            self.costs.push(found.cost);
            self.expected_recall = found.expected_recall;
            let hit = |(record, score): &(std::rc::Rc<super::format::Record>, f32)| Hit {
                passage: record.passage.clone(),
                score: Some(*score),
            };
            hits.push(found.records.iter().map(hit).collect());
        }
        Ok(hits)
    }
}

impl Corpus for ClusterIndex {
    fn encoder(&mut self) -> (&mut dyn Embedder, EncoderInfo) {
        (self.embedder.as_mut(), self.clusters.manifest().encoder.clone())
    }

    fn nearest<'a>(&'a mut self, queries: &'a [Vec<f32>], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(self.search_all(queries, n_docs))
    }

    fn told(&self) -> Option<String> {
        let Cost { clusters, .. } = *self.costs.first()?;
        let n = self.costs.len();
        let mean = |of: fn(&Cost) -> u64| self.costs.iter().map(of).sum::<u64>().div_ceil(n as u64);
        let (kb, requests) = (mean(|cost| cost.bytes).div_ceil(1000), mean(|cost| cost.requests as u64));
        let mut told = if n == 1 { String::new() } else { format!("each of {n} questions, on average: ") };
        told += &format!("{kb} kB in {requests} requests");
        let kept = mean(|cost| cost.kept);
        if kept > 0 {
            told += &format!(" and {} kB kept from before", kept.div_ceil(1000));
        }
        let searched = mean(|cost| cost.clusters_searched as u64);
        told += &format!("; {searched} of {clusters} clusters searched");
        if self.costs.iter().any(|cost| cost.partial) {
            told += "; the passages could not be reached: only what is kept was searched";
        }
        if let Some(recall) = self.expected_recall {
            told += &format!("; expected to find {:.1} % of the ten best", 100.0 * recall);
        }
        Some(told)
    }
}

impl Retriever for ClusterIndex {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(async move {
            let queries = embed_questions(self, questions).await?;
            self.search_all(&queries, n_docs).await
        })
    }

    fn told(&self) -> Option<String> {
        Corpus::told(self)
    }
}
