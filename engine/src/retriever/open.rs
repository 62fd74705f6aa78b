//! Opens a store of either kind.

use super::{
    Embedder, Retriever,
    clusters::{
        format::is_clustered,
        index::ClusterIndex,
        search::{Clusters, Limits},
    },
    files::Files,
    index::{Index, Method},
    manifest::{MANIFEST, MAX_MANIFEST_BYTES},
    store::Store,
};
use crate::{Error, Result};

/// Whether the store in `files` is clustered.
pub async fn clustered(files: &dyn Files) -> Result<bool> {
    let source = files.open(MANIFEST, None).await?;
    if source.size() > MAX_MANIFEST_BYTES {
        let problem = format!("{} bytes, at most {MAX_MANIFEST_BYTES} expected", source.size());
        return Err(Error::input(source.name(), "size", problem));
    }
    Ok(is_clustered(&source.read(0, source.size() as usize).await?))
}

/// The retriever over the store in `files`: clusters where it is clustered, else the whole, searched by `method`.
pub async fn open(files: Box<dyn Files>, embedder: Box<dyn Embedder>, method: Method) -> Result<Box<dyn Retriever>> {
    if clustered(files.as_ref()).await? {
        return Ok(Box::new(open_clusters(files, embedder, &method).await?));
    }
    Ok(Box::new(Index::open(Store::open(files).await?, embedder, method, &mut |_| {}).await?))
}

/// The retriever over a clustered store; centroids are searched on the GPU where `method` has one and they are many, by their graph where it is
/// [`Method::Hnsw`], an error where there is none.
pub async fn open_clusters(
    files: Box<dyn Files>,
    embedder: Box<dyn Embedder>,
    method: &Method,
) -> Result<ClusterIndex> {
    let mut clusters = Clusters::open(files, Limits::default()).await?;
    match method {
        Method::ExactGpu(gpu) => clusters.centroids_on(gpu).await?,
        #[cfg(feature = "cli")]
        Method::ExactGpuWithin(gpu, _) => clusters.centroids_on(gpu).await?,
        #[cfg(feature = "cli")]
        Method::Hnsw => clusters.centroids_by_graph().await?,
        _ => {}
    }
    ClusterIndex::open(clusters, embedder).await
}
