//! A static host on the loopback, good or bad.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// How it answers requests for ranges; the manifest is served as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Ranges,
    /// From another address.
    Redirect,
    /// Every other request is refused for the moment.
    BusyAtFirst,
    /// Always the whole file.
    NoRanges,
    /// Another range than asked for, and says so.
    WrongStart,
    /// Says that the file is longer.
    LyingTotal,
    /// Says that the range is compressed.
    Gzip,
    /// More bytes than asked for.
    TooLong,
    /// Fewer bytes than asked for.
    Truncated,
    /// As many bytes as asked for, of another place, saying nothing.
    OtherBytes,
    /// There is nothing.
    NotFound,
    /// From another address, which is from another, …
    RedirectForEver,
}

/// A host that serves for as long as the test runs.
pub(crate) struct Host {
    pub(crate) url: String,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Host {
    pub(crate) fn serve(files: BTreeMap<String, Vec<u8>>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/store", listener.local_addr().unwrap());
        let counts: Arc<Counts> = Arc::default();
        let (files, shared) = (Arc::new(files), counts.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, counts) = (files.clone(), shared.clone());
                thread::spawn(move || answer_all(stream, &files, manner, &counts));
            }
        });
        Self { url, counts }
    }

    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.counts.most_at_once.load(Ordering::SeqCst)
    }
}

fn answer_all(mut stream: TcpStream, files: &BTreeMap<String, Vec<u8>>, manner: Manner, counts: &Counts) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut line, mut first, mut range) = (String::new(), String::new(), None);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
                let (from, to) = value.trim().split_once('-')?;
                range = Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()? + 1));
            }
        }
        let number = counts.requests.fetch_add(1, Ordering::SeqCst);
        let at_once = counts.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        // Long enough for a round's requests to meet, where that is looked at.
        thread::sleep(Duration::from_millis(if manner == Manner::Ranges { 60 } else { 3 }));
        let answer = answer(first.split(' ').nth(1)?, range, files, manner, number);
        counts.under_way.fetch_sub(1, Ordering::SeqCst);
        let (status, headers, length, body) = answer;
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n").ok()?;
        stream.write_all(&body).ok()?;
        if body.len() < length {
            return None;
        }
    }
}

/// Status, headers, promised length, body.
fn answer(
    path: &str,
    range: Option<(usize, usize)>,
    files: &BTreeMap<String, Vec<u8>>,
    manner: Manner,
    number: usize,
) -> (&'static str, String, usize, Vec<u8>) {
    let name = path.rsplit('/').next().unwrap_or(path);
    let whole = |status, headers: String, body: Vec<u8>| (status, headers, body.len(), body);
    let Some(file) = files.get(name) else { return whole("404 Not Found", String::new(), Vec::new()) };
    let Some((from, to)) = range else { return whole("200 OK", String::new(), file.clone()) };
    let part = file[from..to].to_vec();
    let content_range = |from: usize, to: usize, total| format!("content-range: bytes {from}-{}/{total}\r\n", to - 1);
    let good = content_range(from, to, file.len());
    match manner {
        Manner::Redirect if !path.contains("moved") => {
            whole("302 Found", format!("location: /moved/{name}\r\n"), Vec::new())
        }
        Manner::RedirectForEver => whole("302 Found", format!("location: /{number}/{name}\r\n"), Vec::new()),
        Manner::BusyAtFirst if number.is_multiple_of(4) => whole("503 Busy", String::new(), Vec::new()),
        Manner::NoRanges => whole("200 OK", String::new(), file.clone()),
        Manner::WrongStart if to < file.len() => {
            whole("206 Partial Content", content_range(from + 1, to + 1, file.len()), file[from + 1..to + 1].to_vec())
        }
        Manner::LyingTotal => whole("206 Partial Content", content_range(from, to, file.len() + 9), part),
        Manner::Gzip => whole("206 Partial Content", format!("{good}content-encoding: gzip\r\n"), part),
        Manner::TooLong => whole("206 Partial Content", good, [part, vec![7; 3]].concat()),
        Manner::Truncated => ("206 Partial Content", good, part.len(), part[..part.len() / 2].to_vec()),
        Manner::OtherBytes => whole("206 Partial Content", good, part.into_iter().rev().collect()),
        Manner::NotFound => whole("404 Not Found", String::new(), Vec::new()),
        _ => whole("206 Partial Content", good, part),
    }
}
