//! The passages that questions are answered from: fetched once beside the page, verified, kept in browser storage; where they are read
//! by ranges, what was read is.

use std::{collections::BTreeMap, rc::Rc};

use selfrag::{
    Result,
    platform::{
        ByteSource, HttpTransport, LocalFuture, MemorySource, Store, Transport, get_small, opfs::Directory, read_small,
    },
    retriever::{
        clusters::format::is_clustered,
        files::Files,
        manifest::{FileInfo, MANIFEST, Manifest},
    },
    weights::{
        fetch::{Patience, RemoteFile, RemoteModel, fetch_model},
        kept::Kept,
        manifest::{Role, harmless_name, join_url},
    },
};

use crate::{post, protocol::Reply};

/// The folder of all that is kept of passages: a folder each.
pub(crate) const CORPORA: &str = "corpora";
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
    is_clustered: bool,
    /// Whether the manifest is the host's, not the copy.
    is_fresh: bool,
    /// None where the browser refuses storage.
    folder: Option<Directory>,
    /// By name; what is missing here is read from the network.
    open: BTreeMap<String, Rc<dyn ByteSource>>,
}

impl CorpusFiles {
    /// Reads the manifest at `url` and fetches what is to be kept whole and is not yet.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let folder = folder(url).await.ok();
        let (manifest, is_fresh) = match (get_small(url, MAX_MANIFEST).await, &folder) {
            (Ok(manifest), _) => (manifest, true),
            (Err(error), Some(folder)) => match read_small(folder, COPY, MAX_MANIFEST as u64).await {
                Ok(copy) if !copy.is_empty() => (copy, false),
                _ => return Err(error),
            },
            (Err(error), None) => return Err(error),
        };
        let is_clustered = is_clustered(&manifest);
        let mut files = Self { url: url.to_owned(), manifest, is_clustered, is_fresh, folder, open: BTreeMap::new() };
        if is_clustered {
            // Read by ranges as questions come.
            return Ok(files);
        }
        let model = corpus_model(url, &Manifest::parse(url, &files.manifest)?);
        let total: u64 = model.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
        files.folder = files.folder.filter(|_| total <= KEEP_AT_MOST);
        let Some(folder) = &files.folder else { return Ok(files) };
        let mut report = |event| post(&Reply::Fetch(event));
        let open = fetch_model(&model, &HttpTransport, Some(folder), &Patience::default(), &mut report).await?;
        for (file, (_, source)) in model.files.iter().zip(open) {
            files.open.insert(file.name.clone(), Rc::from(source));
        }
        Ok(files)
    }

    /// Whether it is read by ranges.
    pub(crate) fn is_clustered(&self) -> bool {
        self.is_clustered
    }

    /// What is to be written down once the passages are open: a copy without them would promise too much.
    pub(crate) fn remember(&self) -> Remember {
        Remember {
            folder: self.folder.clone().filter(|_| self.is_fresh),
            url: self.url.clone(),
            manifest: self.manifest.clone(),
            is_clustered: self.is_clustered,
        }
    }
}

/// What offline use and the page's list of passages need.
pub(crate) struct Remember {
    folder: Option<Directory>,
    url: String,
    manifest: Vec<u8>,
    is_clustered: bool,
}

impl Remember {
    /// Writes it. Without it there is just no offline use.
    pub(crate) async fn write(self, count: u64) {
        let Some(folder) = &self.folder else { return };
        let _ = folder.replace(COPY, &self.manifest).await;
        if self.is_clustered {
            // A fetched store has a note, of what was fetched.
            let _ = Kept { name: name(count), source: self.url, ..Kept::default() }.write(folder).await;
        }
    }
}

/// What the list says of passages; stores have no names of their own.
fn name(count: u64) -> String {
    format!("{count} passages")
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

    fn storage(&self) -> Option<Rc<dyn Store>> {
        self.folder.clone().map(|folder| Rc::new(folder) as Rc<dyn Store>)
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
    RemoteModel { name: name(manifest.count), source: url.to_owned(), licence: String::new(), files }
}

async fn folder(url: &str) -> Result<Directory> {
    Directory::root().await?.folder(CORPORA).await?.folder(&harmless_name(url)).await
}
