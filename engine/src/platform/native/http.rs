//! Files over plain HTTP: ranges, checked and retried, each in a thread of its own so that several come at once.
//!
//! A range must be answered with status 206, a `Content-Range` that begins where we asked, no encoding and the length asked for. A
//! host that answers with the whole file is told apart ([`Error::NoRanges`]) unless the whole was wanted.

use std::{io::Read, thread, time::Duration};

use futures_channel::oneshot;

use crate::{
    Error, Result,
    platform::{Answered, ByteSource, LocalFuture, Refusal, short_read},
};

/// Waits before the second, third and fourth attempt.
const BACK_OFF_MS: [u64; 3] = [250, 1000, 3000];
/// An answer that is not there after so long counts as lost.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes taken from the network at a time.
const PIECE: u64 = 64 << 10;

/// A file behind a URL, read in ranges.
#[derive(Debug, Clone)]
pub struct HttpSource {
    url: String,
    size: u64,
}

impl HttpSource {
    /// A file whose size is known, from a manifest for example.
    pub fn with_size(url: impl Into<String>, size: u64) -> Self {
        Self { url: url.into(), size }
    }
}

impl ByteSource for HttpSource {
    fn name(&self) -> &str {
        &self.url
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        // Before anything is allocated: a lying header must not make us reserve gigabytes.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
            return Box::pin(std::future::ready(Err(short_read(&self.url, offset, len, self.size))));
        }
        if len == 0 {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        let wanted = Wanted { from: offset, length: len as u64, size: self.size };
        let url = self.url.clone();
        in_thread(&self.url, move |stopped| retry(stopped, || get(&url, Some(wanted), len as u64, stopped)))
    }
}

/// The whole of a small file, such as a manifest; more than `limit` bytes are an error.
pub fn get_small(url: &str, limit: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
    let owned = url.to_owned();
    in_thread(url, move |stopped| retry(stopped, || get(&owned, None, limit as u64, stopped)))
}

/// A file behind a URL, of a known size.
pub fn open_url(url: &str, size: u64) -> Box<dyn ByteSource> {
    Box::new(HttpSource::with_size(url, size))
}

/// Part of a file.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    from: u64,
    length: u64,
    size: u64,
}

/// Runs blocking work; the work is asked to stop when nobody waits for it any more.
fn in_thread<'a>(
    url: &'a str,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<Vec<u8>> + Send + 'static,
) -> LocalFuture<'a, Result<Vec<u8>>> {
    let (sender, receiver) = oneshot::channel();
    let started = thread::Builder::new().spawn(move || {
        let answer = work(&|| sender.is_canceled());
        // An error means that nobody waits.
        let _ = sender.send(answer);
    });
    Box::pin(async move {
        started
            .map_err(|e| Error::Network { url: url.to_owned(), problem: format!("no thread for the request: {e}") })?;
        let lost = |_| Error::Network { url: url.to_owned(), problem: "the request's thread ended".into() };
        receiver.await.map_err(lost)?
    })
}

/// Tries again after transient failures.
fn retry(stopped: &dyn Fn() -> bool, mut attempt: impl FnMut() -> Answered<Vec<u8>>) -> Result<Vec<u8>> {
    for ms in BACK_OFF_MS {
        match attempt() {
            Err(refusal) if refusal.transient && !stopped() => thread::sleep(Duration::from_millis(ms)),
            result => return result.map_err(Error::from),
        }
    }
    attempt().map_err(Error::from)
}

/// One request, for a part or for all; `most` bytes are taken.
fn get(url: &str, wanted: Option<Wanted>, most: u64, stopped: &dyn Fn() -> bool) -> Answered<Vec<u8>> {
    if !url.starts_with("http://") {
        return Err(Refusal::new(url, false, "http://… expected; a local proxy can speak https for it"));
    }
    let refuse = |transient: bool, problem: String| Refusal::new(url, transient, problem);
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
    let mut request = ureq::Agent::from(config).get(url).header("Accept-Encoding", "identity");
    if let Some(Wanted { from, length, .. }) = wanted {
        request = request.header("Range", format!("bytes={from}-{}", from + length - 1));
    }
    let mut response = request.call().map_err(|e| refuse(is_transient(&e), e.to_string()))?;
    let status = response.status().as_u16();
    if !matches!(status, 200 | 206) {
        return Err(refuse(matches!(status, 408 | 425 | 429 | 500..), format!("status {status}")));
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(encoding) = header("content-encoding").filter(|encoding| *encoding != "identity") {
        return Err(refuse(
            false,
            format!("Content-Encoding is {encoding:?}: a range of an encoded file is of no use"),
        ));
    }
    match wanted {
        Some(wanted) if status == 206 => {
            let range = header("content-range");
            let expected = format!("bytes {}-{}/{}", wanted.from, wanted.from + wanted.length - 1, wanted.size);
            if range.map(str::trim) != Some(&expected) {
                return Err(refuse(false, format!("Content-Range is {range:?}, {expected:?} expected")));
            }
        }
        Some(wanted) if wanted.length < wanted.size => {
            return Err(Refusal { error: Error::NoRanges { url: url.to_owned(), status }, transient: false });
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    let mut body = response.body_mut().with_config().limit(most + 1).reader();
    while bytes.len() as u64 <= most {
        if stopped() {
            return Err(refuse(false, "stopped".into()));
        }
        // At most one byte too many: enough to see that there are.
        let piece = PIECE.min(most + 1 - bytes.len() as u64);
        match body.by_ref().take(piece).read_to_end(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(refuse(true, format!("{error}, after {} bytes", bytes.len()))),
        }
    }
    let length = bytes.len() as u64;
    match wanted {
        _ if length > most => Err(refuse(false, format!("more than the expected {most} bytes"))),
        Some(_) if length < most => Err(refuse(true, format!("the connection ended after {length} of {most} bytes"))),
        _ => Ok(bytes),
    }
}

/// Whether asking again may help.
fn is_transient(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_)
    )
}
