//! Native: files, the clock, threads.

use std::{
    fs::File,
    future::Future,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};

use super::{ByteSource, LocalFuture, short_read};
use crate::{Error, Result};
pub use http::{HttpSource, get_small, open_url};

mod http;

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// Waits.
pub async fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Milliseconds from some fixed point, for measuring.
pub fn now_ms() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64() * 1e3
}

/// Bytes that a load reads, repacks and uploads at a time.
pub const LOAD_PIECE: usize = 16 << 20;
/// Bytes that one thread reads at a time.
const READ_PIECE: usize = 1 << 20;
/// More threads than this find the memory busy.
const MOST_THREADS: usize = 8;

/// Does `work` for each job, on several threads where there are several jobs and cores.
pub fn in_parallel<J: Send>(jobs: impl ExactSizeIterator<Item = J> + Send, work: impl Fn(J) + Sync) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = jobs.len().min(cores).min(MOST_THREADS);
    if threads <= 1 {
        return jobs.for_each(work);
    }
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().expect("no holder panics").next();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| std::iter::from_fn(next).for_each(&work));
        }
    });
}

/// Opens a file by its path.
pub async fn open_source(place: &str) -> Result<Box<dyn ByteSource>> {
    Ok(Box::new(FileSource::open(place)?))
}

/// A file that is gone when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// Whether this platform has such files.
    pub const POSSIBLE: bool = true;

    /// An empty file in the system's folder for temporary ones, which `TMPDIR` names.
    pub fn create(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("selfrag-{}-{name}", std::process::id()));
        let file = File::create(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
        Ok(Self { path, file })
    }

    /// Writes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(self.path.display().to_string(), e))
    }

    /// Its path.
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// The most memory that this process held since [`forget_peak_memory`], where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The peak is what is held now. Where the system has no such thing, it stays.
pub fn forget_peak_memory() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

/// Bytes of memory that this process may still take, by the system's account and a container's; none where neither tells.
pub fn available_memory() -> Option<u64> {
    let system = std::fs::read_to_string("/proc/meminfo").ok();
    let system = system.and_then(|text| number_after(&text, "MemAvailable:")?.checked_mul(1024));
    // Version 2 of control groups, then version 1.
    let groups = [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")];
    let container = |(most, used): (&str, &str)| {
        let read = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
        let stat = read(&used.replace("current", "stat").replace("usage_in_bytes", "stat"))?;
        // Cached files count as used, and go when memory is wanted.
        let cached = ["\ninactive_file ", "\nactive_file "].iter().filter_map(|name| number_after(&stat, name)).sum();
        let used = number_after(&read(used)?, "")?.saturating_sub(cached);
        Some(number_after(&read(most)?, "")?.saturating_sub(used))
    };
    groups.into_iter().filter_map(container).chain(system).min()
}

/// The number behind a name.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A file on disk, read by position.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens a file for reading.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let file = File::open(path).map_err(|e| Error::io(&name, e))?;
        let size = file.metadata().map_err(|e| Error::io(&name, e))?.len();
        Ok(Self { name, file, size })
    }
}

impl FileSource {
    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let is_inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.size);
        if is_inside { Ok(()) } else { Err(short_read(&self.name, offset, len, self.size)) }
    }

    /// Large reads by several threads: out of the page cache they are bound by one core's copying.
    fn read_pieces(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let failure = Mutex::new(None);
        in_parallel(out.chunks_mut(READ_PIECE).enumerate(), |(i, piece)| {
            if let Err(error) = self.file.read_exact_at(piece, offset + (i * READ_PIECE) as u64) {
                *failure.lock().expect("no holder panics") = Some(error);
            }
        });
        let failure = failure.into_inner().expect("no holder panics");
        failure.map_or(Ok(()), |error| Err(Error::io(&self.name, error)))
    }
}

impl ByteSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        // The length is checked before the allocation: a lying header must not make us reserve gigabytes.
        let result = self.check(offset, len).and_then(|()| {
            let mut bytes = vec![0; len];
            self.read_pieces(offset, &mut bytes)?;
            Ok(bytes)
        });
        Box::pin(std::future::ready(result))
    }

    fn read_into<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        let result = self.check(offset, out.len()).and_then(|()| self.read_pieces(offset, out));
        Box::pin(std::future::ready(result))
    }
}
