//! Downloads a model's files into browser storage: resumed where they broke off, verified by SHA-256, kept.
//!
//! ```text
//! kept and verified → open · partial → hash what is there, continue by range · wrong hash → fetch once more, then an error
//! storage refused or full → a warning, and ranges are read straight from the network
//! ```
//!
//! Bytes pass through in the network's own pieces (some 64 KiB): no file is ever whole in wasm memory. Dropping the future
//! stops the download; what has arrived stays for the next time.

mod local;
mod meter;
#[cfg(all(test, feature = "cli"))]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use local::LocalFiles;
use meter::Meter;

use super::{
    kept::{Kept, KeptFile, OpenFiles},
    manifest::{Manifest, ManifestFile, Role, harmless_name, hex, join_url},
};
use crate::{
    Error, Result,
    order::sort_by,
    platform::{Appender, ByteSource, Store, Transport, sleep},
};

/// Bytes read at a time when a partial file is hashed.
const PIECE: u64 = 1 << 20;

/// What a download tells while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FetchEvent {
    /// How far it is.
    Progress(Progress),
    /// Something that the user should know, though it goes on.
    Warning(String),
    /// Why a file is not kept: it is read from the network each time.
    NotKept(String),
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The file under way.
    pub file: String,
    /// What happens to it.
    pub phase: Phase,
    /// Bytes of the whole model that are there.
    pub bytes: u64,
    /// Bytes of the whole model.
    pub total: u64,
    /// Speed over the last seconds; 0 when nothing is downloaded.
    pub bytes_per_second: f64,
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A part that was there already is hashed.
    Checking,
    /// Bytes arrive.
    Downloading,
    /// The connection broke; the next attempt waits.
    Retrying,
}

/// One file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Name in browser storage.
    pub name: String,
    /// Absolute address.
    pub url: String,
    /// Exact size.
    pub bytes: u64,
    /// Expected hash; none when nobody told, for a URL typed in by hand.
    pub sha256: Option<String>,
    /// What it is for.
    pub role: Role,
}

/// A model to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteModel {
    /// Shown to the user.
    pub name: String,
    /// Where it comes from: the manifest's address, or the files' with spaces between.
    pub source: String,
    /// Licence of the weights, where known.
    pub licence: String,
    /// All files; splits in order.
    pub files: Vec<RemoteFile>,
}

impl RemoteModel {
    /// The files of a manifest at `url` that have this role.
    pub fn from_manifest(url: &str, manifest: &Manifest, role: Role) -> Self {
        let file = |file: &ManifestFile| RemoteFile {
            name: file.name().to_owned(),
            url: join_url(url, &file.url),
            bytes: file.bytes,
            sha256: Some(file.sha256.clone()),
            role: file.role,
        };
        Self {
            name: match role {
                Role::Generator => manifest.name.clone(),
                Role::Encoder => format!("{} (passage encoder)", manifest.name),
            },
            source: Self::manifest_source(url, role),
            licence: manifest.licence.clone(),
            files: manifest.files.iter().filter(|f| f.role == role).map(file).collect(),
        }
    }

    /// The `source` of such a model, known even when the manifest cannot be had.
    pub fn manifest_source(url: &str, role: Role) -> String {
        match role {
            Role::Generator => url.to_owned(),
            Role::Encoder => format!("{url}#encoder"),
        }
    }

    /// A generator at `urls` (splits in order); the sizes are asked from the server, and the hashes are not known.
    pub async fn from_urls(transport: &dyn Transport, urls: &[String]) -> Result<Self> {
        let mut files = Vec::new();
        for url in urls {
            let bytes = transport.source(url, None).await?.size();
            let name = harmless_name(url.split(['?', '#']).next().unwrap_or(url).rsplit('/').next().unwrap_or(url));
            files.push(RemoteFile { name, url: url.clone(), bytes, sha256: None, role: Role::Generator });
        }
        let first = files.first().ok_or_else(|| Error::config("url", "an address expected"))?;
        Ok(Self { name: first.name.clone(), source: urls.join(" "), licence: String::new(), files })
    }

    fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }
}

/// How patient a download is.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Attempts in a row that may bring nothing before it gives up.
    pub attempts: u32,
    /// Wait before the second attempt; it doubles.
    pub back_off: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 5, back_off: Duration::from_millis(300) }
    }
}

/// Fetches what is missing of `model` and opens all its files. `store` is the model's own folder; none when storage is refused.
pub async fn fetch_model(
    model: &RemoteModel,
    transport: &dyn Transport,
    store: Option<&dyn Store>,
    patience: &Patience,
    report: &mut dyn FnMut(FetchEvent),
) -> Result<OpenFiles> {
    let mut kept = match store {
        Some(store) => Kept::read(store).await.unwrap_or_default(),
        None => Kept::default(),
    };
    kept.files.retain(|file| model.files.iter().any(|f| f.name == file.name));
    (kept.name, kept.source, kept.licence) = (model.name.clone(), model.source.clone(), model.licence.clone());
    (kept.total_bytes, kept.n_files) = (model.total_bytes(), model.files.len());

    let mut fetch = Fetch { transport, store, patience, report, kept, model, meter: Meter::new(model.total_bytes()) };
    fetch.check_space().await?;
    let mut open = OpenFiles::new();
    for file in &model.files {
        open.push((file.role, fetch.open(file).await?));
    }
    Ok(open)
}

/// Why a file could not be stored.
enum Trouble {
    /// The browser's storage failed: the network can still be read.
    Storage(Error),
    /// Anything else.
    Fatal(Error),
}

/// One download under way.
struct Fetch<'a> {
    transport: &'a dyn Transport,
    store: Option<&'a dyn Store>,
    patience: &'a Patience,
    report: &'a mut dyn FnMut(FetchEvent),
    kept: Kept,
    model: &'a RemoteModel,
    meter: Meter,
}

impl Fetch<'_> {
    /// Gives up storing, before anything is fetched, when the browser tells that it would not fit.
    async fn check_space(&mut self) -> Result<()> {
        let Some(store) = self.store else {
            self.not_kept("This browser refuses to store files");
            return Ok(());
        };
        let mut missing = 0;
        for file in &self.model.files {
            missing += file.bytes.saturating_sub(store.size(&file.name).await?.unwrap_or(0));
        }
        if let Some(free) = store.free_bytes().await.filter(|free| *free < missing) {
            let (missing, free) = (missing / 1_000_000, free / 1_000_000);
            self.not_kept(&format!("{missing} MB are needed, but the browser grants only {free} MB"));
            self.store = None;
        } else if let Err(error) = self.kept.write(store).await {
            // The note is there from the start, so that a broken-off download can be told what it is.
            self.not_kept(&format!("Storing failed ({error})"));
            self.store = None;
        }
        Ok(())
    }

    /// One file, from storage when it is there, after fetching it when it is not.
    async fn open(&mut self, file: &RemoteFile) -> Result<Box<dyn ByteSource>> {
        if let Some(store) = self.store {
            match self.ensure_stored(store, file).await {
                Ok(()) => return store.open(&file.name).await,
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Storage(error)) => {
                    // The half-written file would only take up the space that is short.
                    let _ = store.remove(&file.name).await;
                    self.store = None;
                    self.not_kept(&format!("Storing {} failed ({error})", file.name));
                }
            }
        }
        self.meter.file_done(file.bytes);
        self.transport.source(&file.url, Some(file.bytes)).await
    }

    async fn ensure_stored(&mut self, store: &dyn Store, file: &RemoteFile) -> Result<(), Trouble> {
        let size = store.size(&file.name).await.map_err(Trouble::Storage)?;
        if size == Some(file.bytes) && self.kept.verified(&file.name, file.bytes, file.sha256.as_deref()) {
            self.meter.file_done(file.bytes);
            return Ok(());
        }
        if size.is_some_and(|size| size > file.bytes) {
            store.remove(&file.name).await.map_err(Trouble::Storage)?;
        }
        let mut found = String::new();
        for attempt in 0..2 {
            found = self.download(store, file).await?;
            if file.sha256.as_ref().is_none_or(|expected| *expected == found) {
                self.meter.file_done(file.bytes);
                return self.remember(store, file, found).await.map_err(Trouble::Storage);
            }
            store.remove(&file.name).await.map_err(Trouble::Storage)?;
            if attempt == 0 {
                self.warn(&format!("{} arrived damaged (wrong SHA-256); it is fetched again.", file.name));
            }
        }
        let expected = file.sha256.as_deref().unwrap_or_default();
        let problem = format!("{found}, {expected} expected: the file is damaged on the server or was replaced");
        Err(Trouble::Fatal(Error::input(&file.url, "sha256", problem)))
    }

    /// Brings a file to its full size in storage and returns its hash.
    async fn download(&mut self, store: &dyn Store, file: &RemoteFile) -> Result<String, Trouble> {
        let mut hasher = Sha256::new();
        let mut position = self.hash_existing(store, file, &mut hasher).await.map_err(Trouble::Storage)?;
        let mut out = store.append(&file.name).await.map_err(Trouble::Storage)?;
        let mut failures = 0;
        while position < file.bytes {
            let before = position;
            match self.stream(file, out.as_mut(), &mut hasher, &mut position).await {
                Ok(()) => {}
                Err(Broken::Trouble(trouble)) => return Err(trouble),
                Err(Broken::Connection(problem)) => {
                    failures = if position > before { 1 } else { failures + 1 };
                    if failures >= self.patience.attempts {
                        // What has arrived stays and is continued the next time.
                        out.flush().map_err(Trouble::Storage)?;
                        let problem =
                            format!("{problem}; {position} of {} bytes are kept, load again to continue", file.bytes);
                        return Err(Trouble::Fatal(Error::Network { url: file.url.clone(), problem }));
                    }
                    self.progress(file, Phase::Retrying, position);
                    sleep(self.patience.back_off * 2u32.saturating_pow(failures - 1)).await;
                }
            }
        }
        out.flush().map_err(Trouble::Storage)?;
        Ok(hex(&hasher.finalize()))
    }

    /// One request: bytes from `position` on, appended and hashed.
    async fn stream(
        &mut self,
        file: &RemoteFile,
        out: &mut dyn Appender,
        hasher: &mut Sha256,
        position: &mut u64,
    ) -> Result<(), Broken> {
        let mut body = self.transport.get(&file.url, *position).await?;
        if let Some(total) = body.total().filter(|total| *total != file.bytes) {
            let problem = format!("the server's file has {total} bytes, {} expected", file.bytes);
            return Err(Trouble::Fatal(Error::input(&file.url, "size", problem)).into());
        }
        if body.start() == 0 && *position > 0 {
            // The server ignores ranges. Starting over is better than failing: the whole file is wanted anyway.
            out.clear().map_err(Trouble::Storage)?;
            (*hasher, *position) = (Sha256::new(), 0);
        } else if body.start() != *position {
            let problem = format!("bytes from {} answered, from {position} asked for", body.start());
            return Err(Trouble::Fatal(Error::Network { url: file.url.clone(), problem }).into());
        }
        while let Some(bytes) = body.next().await? {
            if bytes.len() as u64 > file.bytes - *position {
                let problem = format!("more than the expected {} bytes", file.bytes);
                return Err(Trouble::Fatal(Error::input(&file.url, "size", problem)).into());
            }
            out.append(&bytes).map_err(Trouble::Storage)?;
            hasher.update(&bytes);
            *position += bytes.len() as u64;
            self.meter.arrived(bytes.len());
            self.progress(file, Phase::Downloading, *position);
        }
        if *position < file.bytes {
            return Err(Broken::Connection(format!("the connection ended after {position} of {} bytes", file.bytes)));
        }
        Ok(())
    }

    /// Hashes what is there of a file and returns its size.
    async fn hash_existing(&mut self, store: &dyn Store, file: &RemoteFile, hasher: &mut Sha256) -> Result<u64> {
        let Some(size) = store.size(&file.name).await?.filter(|size| *size > 0) else { return Ok(0) };
        let source = store.open(&file.name).await?;
        let mut position = 0;
        while position < size {
            let n = PIECE.min(size - position);
            hasher.update(source.read(position, n as usize).await?);
            position += n;
            self.progress(file, Phase::Checking, position);
        }
        Ok(size)
    }

    async fn remember(&mut self, store: &dyn Store, file: &RemoteFile, sha256: String) -> Result<()> {
        self.kept.files.retain(|f| f.name != file.name);
        self.kept.files.push(KeptFile { name: file.name.clone(), bytes: file.bytes, sha256, role: file.role });
        // Splits are opened in the order of the note.
        let place = |kept: &KeptFile| self.model.files.iter().position(|file| file.name == kept.name);
        sort_by(&mut self.kept.files, |a, b| place(a).cmp(&place(b)));
        self.kept.write(store).await
    }

    fn progress(&mut self, file: &RemoteFile, phase: Phase, position: u64) {
        let last = position == file.bytes || phase == Phase::Retrying;
        if let Some(progress) = self.meter.progress(&file.name, phase, position, last) {
            (self.report)(FetchEvent::Progress(progress));
        }
    }

    fn not_kept(&mut self, why: &str) {
        (self.report)(FetchEvent::NotKept(format!("{why}: the model is read from the network each time.")));
    }

    fn warn(&mut self, message: &str) {
        (self.report)(FetchEvent::Warning(message.to_owned()));
    }
}

/// How one request ended early.
enum Broken {
    /// Worth another attempt.
    Connection(String),
    /// Not.
    Trouble(Trouble),
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<crate::platform::Refusal> for Broken {
    fn from(refusal: crate::platform::Refusal) -> Self {
        match refusal.error {
            Error::Network { problem, .. } if refusal.transient => Self::Connection(problem),
            error => Self::Trouble(Trouble::Fatal(error)),
        }
    }
}
