//! Files over HTTP: ranges by `fetch`, checked and retried.
//!
//! A range request must be answered with status 206, a `Content-Range` that starts where we asked, and a body of the length
//! asked for; anything else is an error that says so, because a wrong range read as weights would only show as gibberish.
//! Dropping a future or a [`Body`] aborts its request.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use futures_util::future::{Either, select};
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, ReadableStreamDefaultReader, Request, RequestCache, RequestInit, Response};

use super::{fetch, now_ms, sleep, thrown};
use crate::{
    Error, Result,
    platform::{Answered, Body, ByteSource, LocalFuture, Refusal, Transport, short_read},
};

/// Waits before the second, third and fourth attempt.
const BACK_OFF_MS: [u64; 3] = [250, 1000, 3000];
/// A connection that stays silent this long counts as broken.
const STALL: Duration = Duration::from_secs(30);

/// A large read that follows another opens a request to the file's end, and those that follow take from it: a request costs
/// milliseconds, and one long answer comes twice as fast as its ranges. Smaller reads are somebody's picking.
const LARGE: usize = 256 << 10;
/// Bytes between two reads that are thrown away rather than asked around: tensors begin at multiples of some alignment.
const GAP: u64 = 64 << 10;

/// A file behind a URL, read in ranges.
pub struct HttpSource {
    url: String,
    size: u64,
    /// The first byte after the last read.
    end: Cell<u64>,
    /// The request that reads in order share.
    stream: RefCell<Option<Stream>>,
}

/// An answer that is read piece by piece.
struct Stream {
    body: HttpBody,
    position: u64,
    /// What came with the last piece and is not taken yet.
    rest: Option<Uint8Array>,
}

impl HttpSource {
    /// Asks the server for the size, with a range request for the first byte: that also finds out whether ranges work.
    pub async fn open(url: impl Into<String>) -> Result<Self> {
        let url = url.into();
        let size = retry(|| async {
            let mut body = HttpBody::request(&url, Some((0, Some(1)))).await?;
            if body.status != 206 {
                return Err(ranges_ignored(&url, body.status));
            }
            let total = body.total.ok_or_else(|| {
                let problem = "the server does not tell the file's size (Content-Range hidden or without a total)";
                Refusal::new(&url, false, problem)
            })?;
            while body.chunk().await?.is_some() {}
            Ok(total)
        })
        .await?;
        Ok(Self::with_size(url, size))
    }

    /// A file whose size is known, from a manifest for example.
    pub fn with_size(url: impl Into<String>, size: u64) -> Self {
        Self { url: url.into(), size, end: Cell::new(u64::MAX), stream: RefCell::default() }
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let is_inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.size);
        if is_inside { Ok(()) } else { Err(short_read(&self.url, offset, len, self.size)) }
    }

    async fn fill(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        retry(async || self.try_range(offset, out).await).await
    }

    async fn try_range(&self, offset: u64, bytes: &mut [u8]) -> Answered<()> {
        let end = offset + bytes.len() as u64;
        let goes_on = |from: u64| (from..=from.saturating_add(GAP)).contains(&offset);
        // Out of its place while it is read: what fails is not gone on with.
        let ongoing = self.stream.take().filter(|stream| goes_on(stream.position));
        let follows = bytes.len() >= LARGE && goes_on(self.end.get());
        let is_bounded = ongoing.is_none() && !follows;
        let mut stream = match ongoing {
            Some(stream) => stream,
            None => self.request(offset, is_bounded.then_some(bytes.len() as u64)).await?,
        };
        stream.skip_to(offset).await?;
        let filled = stream.fill(bytes).await?;
        if filled < bytes.len() {
            let problem = format!("the connection ended after {filled} of {} bytes at {offset}", bytes.len());
            return Err(Refusal::new(&self.url, true, problem));
        }
        if is_bounded {
            if stream.rest.is_some() || stream.body.chunk().await?.is_some() {
                let problem = format!("more than the {} bytes asked for at {offset}", bytes.len());
                return Err(Refusal::new(&self.url, false, problem));
            }
        } else if end < self.size {
            *self.stream.borrow_mut() = Some(stream);
        }
        self.end.set(end);
        Ok(())
    }

    /// Asks for bytes from `offset`, `len` of them or all to the end.
    async fn request(&self, offset: u64, len: Option<u64>) -> Answered<Stream> {
        let whole = offset == 0 && len.is_none_or(|len| len == self.size);
        let body = HttpBody::request(&self.url, Some((offset, len))).await?;
        if body.status != 206 && !whole {
            return Err(ranges_ignored(&self.url, body.status));
        }
        if body.start != offset {
            let problem = format!("bytes from {offset} asked for, bytes from {} answered", body.start);
            return Err(Refusal::new(&self.url, false, problem));
        }
        Ok(Stream { body, position: offset, rest: None })
    }
}

impl Stream {
    /// At most `most` bytes of what comes next; none at the end.
    async fn next(&mut self, most: usize) -> Answered<Option<Uint8Array>> {
        let piece = match self.rest.take() {
            Some(piece) => piece,
            None => match self.body.chunk().await? {
                Some(piece) => piece,
                None => return Ok(None),
            },
        };
        let (n, most) = (piece.length(), u32::try_from(most).unwrap_or(u32::MAX));
        self.rest = (n > most).then(|| piece.subarray(most, n));
        self.position += u64::from(n.min(most));
        Ok(Some(if n > most { piece.subarray(0, most) } else { piece }))
    }

    async fn skip_to(&mut self, offset: u64) -> Answered<()> {
        while self.position < offset {
            let gap = (offset - self.position) as usize;
            if self.next(gap).await?.is_none() {
                return Err(Refusal::new(&self.body.url, true, format!("the connection ended at {}", self.position)));
            }
        }
        Ok(())
    }

    /// Fills as much as comes.
    async fn fill(&mut self, bytes: &mut [u8]) -> Answered<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            let Some(piece) = self.next(bytes.len() - filled).await? else { break };
            let n = piece.length() as usize;
            piece.copy_to(&mut bytes[filled..filled + n]);
            filled += n;
        }
        Ok(filled)
    }
}

impl std::fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpSource({}, {} bytes)", self.url, self.size)
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
        Box::pin(async move {
            // Before the allocation: a lying header must not make us reserve gigabytes.
            self.check(offset, len)?;
            let mut bytes = vec![0; len];
            self.fill(offset, &mut bytes).await?;
            Ok(bytes)
        })
    }

    fn read_into<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            self.check(offset, out.len())?;
            self.fill(offset, out).await
        })
    }
}

/// A file behind a URL, of a known size.
pub fn open_url(url: &str, size: u64) -> Box<dyn ByteSource> {
    Box::new(HttpSource::with_size(url, size))
}

/// The whole of a small file, such as a manifest; more than `limit` bytes are an error.
pub fn get_small(url: &str, limit: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
    Box::pin(retry(async move || {
        let mut body = HttpBody::request(url, None).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            if bytes.len() + chunk.length() as usize > limit {
                return Err(Refusal::new(url, false, format!("more than {limit} bytes")));
            }
            bytes.extend_from_slice(&chunk.to_vec());
        }
        Ok(bytes)
    }))
}

/// `fetch` for the download logic.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpTransport;

impl Transport for HttpTransport {
    fn get<'a>(&'a self, url: &'a str, from: u64) -> LocalFuture<'a, Answered<Box<dyn Body>>> {
        Box::pin(async move {
            let body = HttpBody::request(url, (from > 0).then_some((from, None))).await?;
            Ok(Box::new(body) as Box<dyn Body>)
        })
    }

    fn source<'a>(&'a self, url: &'a str, size: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            let source = match size {
                Some(size) => HttpSource::with_size(url, size),
                None => HttpSource::open(url).await?,
            };
            Ok(Box::new(source) as Box<dyn ByteSource>)
        })
    }
}

/// An answer under way.
struct HttpBody {
    url: String,
    status: u16,
    start: u64,
    total: Option<u64>,
    reader: Option<ReadableStreamDefaultReader>,
    request: AbortController,
    /// Ends some [`STALL`] after it was set: one timer serves many pieces, of which thousands come a second.
    stall: LocalFuture<'static, ()>,
}

impl HttpBody {
    /// Sends a request, for `range` = (first byte, length or to the end) when given, and reads the answer's head.
    async fn request(url: &str, range: Option<(u64, Option<u64>)>) -> Answered<Self> {
        // A URL that cannot be parsed or a browser without fetch: asking again does not help.
        let unusable = |e: JsValue| Refusal::new(url, false, thrown(&e));
        let controller = AbortController::new().map_err(unusable)?;
        let init = RequestInit::new();
        init.set_method("GET");
        init.set_signal(Some(&controller.signal()));
        // Models are kept in OPFS, not in the HTTP cache as well; a stale cached manifest would name wrong hashes.
        init.set_cache(RequestCache::NoStore);
        let request = Request::new_with_str_and_init(url, &init).map_err(unusable)?;
        if let Some((from, len)) = range {
            let last = len.map(|len| (from + len - 1).to_string()).unwrap_or_default();
            request.headers().set("Range", &format!("bytes={from}-{last}")).map_err(unusable)?;
        }
        // From here on dropping `body`, on any path, aborts the request.
        let mut body = Self {
            url: url.to_owned(),
            status: 0,
            start: 0,
            total: None,
            reader: None,
            request: controller,
            stall: Box::pin(sleep(STALL)),
        };
        let response = body.wait(JsFuture::from(fetch(&request))).await?;
        let response: Response = response.unchecked_into();
        body.status = response.status();
        if !response.ok() {
            let transient = matches!(body.status, 408 | 425 | 429 | 500..);
            let problem = format!("status {} {}", body.status, response.status_text());
            return Err(Refusal::new(url, transient, problem.trim_end()));
        }
        let header = |name: &str| response.headers().get(name).ok().flatten();
        if body.status == 206 {
            let range = header("content-range");
            let (start, total) = range.as_deref().and_then(parse_content_range).ok_or_else(|| {
                Refusal::new(url, false, format!("Content-Range is {range:?}, \"bytes FIRST-LAST/TOTAL\" expected"))
            })?;
            (body.start, body.total) = (start, total);
        } else if header("content-encoding").is_none() {
            body.total = header("content-length").and_then(|n| n.parse().ok());
        }
        body.reader = response.body().map(|stream| stream.get_reader().unchecked_into());
        Ok(body)
    }

    /// The next bytes, still on the JavaScript side.
    async fn chunk(&mut self) -> Answered<Option<Uint8Array>> {
        let Some(reader) = &self.reader else { return Ok(None) };
        let promise = JsFuture::from(reader.read());
        let result = self.wait(promise).await?;
        let field = |name: &str| Reflect::get(&result, &name.into()).unwrap_or(JsValue::UNDEFINED);
        if field("done").is_truthy() {
            self.reader = None;
            return Ok(None);
        }
        Ok(field("value").dyn_into().ok())
    }

    /// Waits for the network, but not for ever.
    async fn wait(&mut self, mut promise: JsFuture) -> Answered<JsValue> {
        let start = now_ms();
        loop {
            match select(promise, &mut self.stall).await {
                Either::Left((Ok(value), _)) => return Ok(value),
                Either::Left((Err(e), _)) => return Err(Refusal::new(&self.url, true, thrown(&e))),
                Either::Right(((), rest)) => {
                    let silent = Duration::from_secs_f64((now_ms() - start).max(0.0) / 1e3);
                    if silent >= STALL {
                        let problem = format!("no answer for {} s", STALL.as_secs());
                        return Err(Refusal::new(&self.url, true, problem));
                    }
                    // The timer was set for an earlier piece.
                    (promise, self.stall) = (rest, Box::pin(sleep(STALL - silent)));
                }
            }
        }
    }
}

impl Drop for HttpBody {
    fn drop(&mut self) {
        self.request.abort();
    }
}

impl Body for HttpBody {
    fn start(&self) -> u64 {
        self.start
    }

    fn total(&self) -> Option<u64> {
        self.total
    }

    fn next(&mut self) -> LocalFuture<'_, Answered<Option<Vec<u8>>>> {
        Box::pin(async { Ok(self.chunk().await?.map(|chunk| chunk.to_vec())) })
    }
}

/// Tries again after transient failures.
async fn retry<T>(mut attempt: impl AsyncFnMut() -> Answered<T>) -> Result<T> {
    for ms in BACK_OFF_MS {
        match attempt().await {
            Err(refusal) if refusal.transient => sleep(Duration::from_millis(ms)).await,
            result => return result.map_err(Error::from),
        }
    }
    attempt().await.map_err(Error::from)
}

fn ranges_ignored(url: &str, status: u16) -> Refusal {
    Refusal { error: Error::NoRanges { url: url.to_owned(), status }, transient: false }
}

/// `bytes 0-99/1234` → (0, Some(1234)); the total may be `*`.
fn parse_content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}
