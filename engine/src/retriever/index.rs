//! The retriever over a passage store: embeds questions, searches, fetches the passages found.

use std::sync::Arc;

#[cfg(feature = "cli")]
use super::flat_stream::FlatStream;
use super::{
    Corpus, Embedder, Hit, Passage, Retriever, embed_questions, flat,
    flat::Scored,
    flat_gpu::FlatGpu,
    hnsw::{self, Graph},
    manifest::EncoderInfo,
    store::Store,
    vectors::Vectors,
};
use crate::{Error, Result, gpu::Gpu, platform::LocalFuture};

/// How to search.
#[derive(Debug, Clone)]
pub enum Method {
    /// All rows on the GPU.
    ExactGpu(Gpu),
    /// As many rows on the GPU as there is room for, or as so many bytes hold; the others come from host memory for each search.
    #[cfg(feature = "cli")]
    ExactGpuWithin(Gpu, Option<u64>),
    /// All rows on the CPU.
    Exact,
    /// The store's HNSW graph, an error where it has none.
    Hnsw,
}

enum Engine {
    Gpu(FlatGpu),
    #[cfg(feature = "cli")]
    Stream(FlatStream),
    Flat(Vectors),
    Graph(Graph, Arc<Vectors>),
}

/// Least cosine between a stored vector and the same passage embedded now: int8 rounding leaves 0.999, another model about 0.
const SAME_ENCODER: f32 = 0.98;

/// Whether a passage's stored vector and what an encoder makes of it now are of one encoder; if not, what tells.
pub(crate) fn same_encoder(stored: &[f32], now: &[f32]) -> Result<(), String> {
    let length = |v: &[f32]| flat::dot_f32(v, v).sqrt();
    let cosine = flat::dot_f32(stored, now) / (length(stored) * length(now)).max(1e-20);
    // Not `<`, which a NaN would pass.
    if cosine >= SAME_ENCODER { Ok(()) } else { Err(format!("the first passage's cosine is {cosine:.3}")) }
}

/// A store, its encoder and a way to search.
pub struct Index {
    store: Store,
    embedder: Box<dyn Embedder>,
    engine: Engine,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({:?})", self.store)
    }
}

impl Index {
    /// Loads the vectors and makes sure that `embedder` is the encoder they were made with; `progress` hears the number of rows
    /// of each shard.
    pub async fn open(
        store: Store,
        embedder: Box<dyn Embedder>,
        method: Method,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let precision = store.precision();
        let engine = match method {
            Method::ExactGpu(gpu) => Engine::Gpu(FlatGpu::load(&gpu, &store, precision, progress).await?),
            #[cfg(feature = "cli")]
            Method::ExactGpuWithin(gpu, limit) => {
                Engine::Stream(FlatStream::load(&gpu, &store, precision, limit, progress).await?)
            }
            Method::Exact => Engine::Flat(store.all_vectors(precision).await?),
            Method::Hnsw => {
                let Some(bytes) = store.graph().await? else {
                    let problem = format!("{} has no graph: build it with `selfrag index build --hnsw`", store.name());
                    return Err(Error::config("search", problem));
                };
                let vectors = Arc::new(store.all_vectors(precision).await?);
                let graph = Graph::load(&format!("{}/graph", store.name()), bytes, vectors.clone(), hnsw::EF_SEARCH)?;
                Engine::Graph(graph, vectors)
            }
        };
        let mut index = Self { store, embedder, engine };
        let (store, manifest) = (&index.store, index.store.manifest());
        let first = match manifest.count {
            0 => None,
            _ => Some((store.passages(&[0]).await?.remove(0), store.vectors(0, precision).await?.row(0))),
        };
        check_encoder(store.name(), &manifest.encoder, manifest.dim, first, index.embedder.as_mut()).await?;
        Ok(index)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    async fn search_all(&mut self, queries: &[Vec<f32>], n_docs: usize) -> Result<Vec<Vec<Hit>>> {
        let results: Vec<Vec<Scored>> = match &mut self.engine {
            Engine::Gpu(flat) => flat.search(queries, n_docs).await?,
            #[cfg(feature = "cli")]
            Engine::Stream(flat) => flat.search(queries, n_docs).await?,
            Engine::Flat(vectors) => queries.iter().map(|query| flat::search(vectors, query, n_docs)).collect(),
            Engine::Graph(graph, vectors) => queries
                .iter()
                .map(|query| match n_docs <= graph.ef() {
                    true => graph.search(query, n_docs),
                    false => flat::search(vectors, query, n_docs),
                })
                .collect(),
        };
        let mut hits = Vec::new();
        for result in results {
            let rows: Vec<u32> = result.iter().map(|scored| scored.row).collect();
            let passages = self.store.passages(&rows).await?;
            let hit = |(passage, scored): (_, &Scored)| Hit { passage, score: Some(scored.score) };
            hits.push(passages.into_iter().zip(&result).map(hit).collect());
        }
        Ok(hits)
    }
}

impl Corpus for Index {
    fn encoder(&mut self) -> (&mut dyn Embedder, EncoderInfo) {
        (self.embedder.as_mut(), self.store.manifest().encoder.clone())
    }

    fn nearest<'a>(&'a mut self, queries: &'a [Vec<f32>], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(self.search_all(queries, n_docs))
    }
}

impl Retriever for Index {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(async move {
            let queries = embed_questions(self, questions).await?;
            self.search_all(&queries, n_docs).await
        })
    }

    #[cfg(feature = "cli")]
    fn streaming(&self) -> Option<super::flat_stream::Streaming> {
        if let Engine::Stream(flat) = &self.engine { flat.streaming() } else { None }
    }
}

/// Embeds a passage of the store again, cut where the store's were, and compares: names and hashes of files would refuse harmless conversions.
pub(super) async fn check_encoder(
    store: &str,
    made_with: &EncoderInfo,
    dim: usize,
    sample: Option<(Passage, Vec<f32>)>,
    embedder: &mut dyn Embedder,
) -> Result<()> {
    let here = embedder.info();
    let other = |problem: String| {
        let problem = format!("made with encoder {:?}, not with {:?}: {problem}", made_with.name, here.name);
        Error::input(store, "encoder", problem)
    };
    if dim != embedder.dim() {
        return Err(other(format!("{dim} dimensions, not {}", embedder.dim())));
    }
    let Some((passage, stored)) = sample else { return Ok(()) };
    let text = made_with.passage_prefix.clone() + &made_with.text.passage(&passage);
    let cut = Cut { embedder, most: here.max_tokens };
    cut.embedder.limit_tokens(made_with.max_tokens);
    let now = cut.embedder.embed(&[text]).await;
    drop(cut);
    same_encoder(&stored, &now?.remove(0)).map_err(other)
}

/// An encoder whose limit is another one for a while: questions have their own again, even where the future is dropped.
struct Cut<'a> {
    embedder: &'a mut dyn Embedder,
    most: usize,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.embedder.limit_tokens(self.most);
    }
}
