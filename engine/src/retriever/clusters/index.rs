//! The retriever over a clustered store.

use super::search::{Clusters, Cost};
use crate::{
    Result,
    platform::LocalFuture,
    retriever::{Embedder, Hit, Retriever, index::check_encoder},
};

/// A clustered store and its encoder.
pub struct ClusterIndex {
    clusters: Clusters,
    embedder: Box<dyn Embedder>,
    costs: Vec<Cost>,
}

impl std::fmt::Debug for ClusterIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterIndex({:?})", self.clusters)
    }
}

impl ClusterIndex {
    /// Makes sure that `embedder` is the encoder that the store was made with.
    pub async fn open(clusters: Clusters, mut embedder: Box<dyn Embedder>) -> Result<Self> {
        let manifest = clusters.manifest();
        let any = clusters.any_record().await?.map(|record| (record.passage.clone(), record.vector.row(0)));
        check_encoder(clusters.name(), &manifest.encoder, manifest.dim, any, embedder.as_mut()).await?;
        Ok(Self { clusters, embedder, costs: Vec::new() })
    }

    /// The store.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// What each question of the last search took.
    pub fn costs(&self) -> &[Cost] {
        &self.costs
    }

    async fn search_all(&mut self, questions: &[&str], n_docs: usize) -> Result<Vec<Vec<Hit>>> {
        let made_with = &self.clusters.manifest().encoder;
        let text = |question: &&str| made_with.query_prefix.clone() + &made_with.text.question(question);
        let texts: Vec<String> = questions.iter().map(text).collect();
        self.costs.clear();
        let mut hits = Vec::new();
        for query in self.embedder.embed(&texts).await? {
            let found = self.clusters.find(&query, n_docs).await?;
            self.costs.push(found.cost);
            let hit = |(record, score): &(std::rc::Rc<super::format::Record>, f32)| Hit {
                passage: record.passage.clone(),
                score: Some(*score),
            };
            hits.push(found.records.iter().map(hit).collect());
        }
        Ok(hits)
    }
}

impl Retriever for ClusterIndex {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(self.search_all(questions, n_docs))
    }
}
