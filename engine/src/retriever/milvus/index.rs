//! The retriever over a collection: questions are embedded here, the server finds rows and passages.

use super::{Address, Settings, collection::Collection, record::Record};
use crate::{
    Error, Result,
    platform::LocalFuture,
    retriever::{Corpus, Embedder, Hit, Retriever, embed_questions, index::check_encoder, manifest::EncoderInfo},
};

/// A collection, its encoder and how to search.
struct MilvusIndex {
    collection: Collection,
    record: Record,
    embedder: Box<dyn Embedder>,
    settings: Settings,
}

/// Opens a collection that was pushed whole, and makes sure that `embedder` is the encoder of its vectors.
pub async fn open(address: &Address, embedder: Box<dyn Embedder>, settings: Settings) -> Result<Box<dyn Retriever>> {
    if settings.nprobe == Some(0) {
        return Err(Error::config("nprobe", "a positive number expected"));
    }
    let (collection, record) = whole(address, settings).await?;
    let sample = match record.count {
        0 => None,
        _ => Some(collection.row(&record, 0).await?),
    };
    let mut index = MilvusIndex { collection, record, embedder, settings };
    let (place, record) = (index.collection.place(), &index.record);
    check_encoder(place, &record.encoder, record.dim, sample, index.embedder.as_mut()).await?;
    Ok(Box::new(index))
}

/// What a collection holds, in lines for people.
pub async fn told(address: &Address, settings: Settings) -> Result<String> {
    let (_, record) = whole(address, settings).await?;
    let encoder = &record.encoder;
    let lines = [
        format!("passages    {}", record.count),
        format!("dimensions  {}", record.dim),
        format!("encoder     {} ({} tokens at most, sha256 {})", encoder.name, encoder.max_tokens, encoder.sha256),
        format!("normalised  {}", encoder.normalised),
        format!("vectors     f32, of the store's {}", record.vectors.name()),
        format!("index       {}, inner product", record.index),
        format!("store       {}", record.content),
    ];
    Ok(lines.join("\n"))
}

/// A collection with all its passages, ready to be searched.
async fn whole(address: &Address, settings: Settings) -> Result<(Collection, Record)> {
    let collection = Collection::connect(address, settings.timeout).await?;
    let Some(record) = collection.record().await? else {
        let problem = "no such collection; `selfrag index push STORE milvus://…` makes it";
        return Err(Error::input(address.to_string(), "collection", problem));
    };
    collection.load().await?;
    let count = collection.count(None).await?;
    if count != record.count {
        let problem =
            format!("{count} passages, {} expected: push the store again, it goes on where it was", record.count);
        return Err(Error::input(address.to_string(), "collection", problem));
    }
    Ok((collection, record))
}

impl MilvusIndex {
    async fn search_all(&self, queries: &[Vec<f32>], n_docs: usize) -> Result<Vec<Vec<Hit>>> {
        if n_docs == 0 || self.record.count == 0 {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let found = self.collection.search(&self.record, queries, n_docs, self.settings.nprobe).await?;
        let mut rows: Vec<u32> = found.iter().flatten().map(|scored| scored.row).collect();
        // Questions often find the same.
        rows.sort_unstable();
        rows.dedup();
        let passages = self.collection.passages(&self.record, &rows).await?;
        let hits = found.iter().map(|found| {
            let hit = |scored: &crate::retriever::flat::Scored| Hit {
                passage: passages[&scored.row].clone(),
                score: Some(scored.score),
            };
            found.iter().map(hit).collect()
        });
        Ok(hits.collect())
    }
}

impl Corpus for MilvusIndex {
    fn encoder(&mut self) -> (&mut dyn Embedder, EncoderInfo) {
        (self.embedder.as_mut(), self.record.encoder.clone())
    }

    fn nearest<'a>(&'a mut self, queries: &'a [Vec<f32>], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(self.search_all(queries, n_docs))
    }
}

impl Retriever for MilvusIndex {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(async move {
            let queries = embed_questions(self, questions).await?;
            self.search_all(&queries, n_docs).await
        })
    }

    fn identity(&self) -> Option<String> {
        Some(format!("{}, {}", self.record.content, self.record.index))
    }
}
