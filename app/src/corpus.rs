//! The passages that questions are answered from: fetched once beside the page, verified, kept in browser storage.

use std::{collections::BTreeMap, rc::Rc};

use selfrag::{
    Error, Result,
    platform::{ByteSource, HttpTransport, LocalFuture, MemorySource, Store, Transport, get_small, opfs::Directory},
    retriever::{
        clusters::format::is_clustered,
        files::Files,
        manifest::{FileInfo, MANIFEST, Manifest},
    },
    weights::{
        fetch::{Patience, RemoteFile, RemoteModel, fetch_model},
        manifest::{Role, harmless_name, join_url},
    },
};

use crate::{post, protocol::Reply};

/// Where the page's own passages are.
pub(crate) const CORPUS: &str = "corpus/manifest.json";
/// A manifest longer than this is refused.
const MAX_MANIFEST: usize = 32 << 20;
/// A larger corpus is read range by range as it is needed, instead of being kept.
const KEEP_AT_MOST: u64 = 512 << 20;
/// The manifest's copy in browser storage, from which the passages are opened offline.
const COPY: &str = "index.json";

/// The store's files, wherever they are.
pub(crate) struct CorpusFiles {
    url: String,
    manifest: Vec<u8>,
    /// By name; what is missing here is read from the network.
    open: BTreeMap<String, Rc<dyn ByteSource>>,
}

impl CorpusFiles {
    /// Reads the manifest at `url` and fetches what is not kept yet.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let folder = folder(url).await.ok();
        let (manifest, fresh) = match (get_small(url, MAX_MANIFEST).await, &folder) {
            (Ok(manifest), _) => (manifest, true),
            (Err(error), Some(folder)) => (kept_manifest(folder).await.ok_or(error)?, false),
            (Err(error), None) => return Err(error),
        };
        if is_clustered(&manifest) {
            // Read by ranges as questions come.
            return Ok(Self { url: url.to_owned(), manifest, open: BTreeMap::new() });
        }
        let model = corpus_model(url, &Manifest::parse(url, &manifest)?);
        let mut files = Self { url: url.to_owned(), manifest, open: BTreeMap::new() };
        let total: u64 = model.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
        let Some(folder) = folder.filter(|_| total <= KEEP_AT_MOST) else { return Ok(files) };
        let mut report = |event| post(&Reply::Fetch(event));
        let open = fetch_model(&model, &HttpTransport, Some(&folder), &Patience::default(), &mut report).await?;
        for (file, (_, source)) in model.files.iter().zip(open) {
            files.open.insert(file.name.clone(), Rc::from(source));
        }
        if fresh {
            // Only now: a copy without its files would promise too much. Without it there is just no offline use.
            let _ = write_copy(&folder, &files.manifest).await;
        }
        Ok(files)
    }
}

impl Files for CorpusFiles {
    fn name(&self) -> &str {
        &self.url
    }

    fn open<'a>(&'a self, file: &'a str, bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            if file == MANIFEST {
                return Ok(Box::new(MemorySource::new(&self.url, self.manifest.clone())) as Box<dyn ByteSource>);
            }
            match self.open.get(file) {
                Some(source) => Ok(Box::new(source.clone()) as Box<dyn ByteSource>),
                None => HttpTransport.source(&join_url(&self.url, file), bytes).await,
            }
        })
    }
}

/// The files that searching needs, as something to fetch. The graph is left out: the GPU searches exactly.
fn corpus_model(url: &str, manifest: &Manifest) -> RemoteModel {
    let precision = manifest.precisions().last().copied();
    let mut files = Vec::new();
    let mut add = |info: &FileInfo| {
        files.push(RemoteFile {
            name: info.file.clone(),
            url: join_url(url, &info.file),
            bytes: info.bytes,
            sha256: Some(info.sha256.clone()),
            role: Role::Encoder,
        });
    };
    for shard in &manifest.shards {
        precision.and_then(|precision| shard.vectors.get(&precision)).into_iter().for_each(&mut add);
        add(&shard.passages);
        add(&shard.offsets);
    }
    RemoteModel { name: "Passages".into(), source: url.to_owned(), licence: String::new(), files }
}

async fn folder(url: &str) -> Result<Directory> {
    Directory::root().await?.folder("corpora").await?.folder(&harmless_name(url)).await
}

async fn kept_manifest(folder: &Directory) -> Option<Vec<u8>> {
    let size = folder.size(COPY).await.ok()??;
    let source = folder.open(COPY).await.ok()?;
    source.read(0, usize::try_from(size).ok().filter(|size| *size <= MAX_MANIFEST)?).await.ok()
}

async fn write_copy(folder: &Directory, manifest: &[u8]) -> Result<(), Error> {
    folder.remove(COPY).await?;
    let mut file = folder.append(COPY).await?;
    file.append(manifest)?;
    file.flush()
}
