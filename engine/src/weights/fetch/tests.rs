//! Downloads against a scripted network and a storage in memory.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use super::*;
use crate::platform::{Answered, Body, LocalFuture, MemorySource, MemoryStore as Memory, Refusal, block_on};

/// What the server does to the next requests, in order; after that it behaves.
#[derive(Clone, Copy)]
enum Fault {
    CutAfter(usize),
    FlipByte(usize),
    IgnoreRange,
    NotFound,
    Refuse,
}

#[derive(Default)]
struct Network {
    files: BTreeMap<String, Vec<u8>>,
    faults: RefCell<Vec<Fault>>,
    /// (url, from) of every request.
    requests: RefCell<Vec<(String, u64)>>,
}

struct Answer {
    bytes: Vec<u8>,
    start: u64,
    total: u64,
    cut: bool,
}

impl Transport for Network {
    fn get<'a>(&'a self, url: &'a str, from: u64) -> LocalFuture<'a, Answered<Box<dyn Body>>> {
        self.requests.borrow_mut().push((url.to_owned(), from));
        let mut faults = self.faults.borrow_mut();
        let fault = (!faults.is_empty()).then(|| faults.remove(0));
        let file = self.files[url].clone();
        let total = file.len() as u64;
        let mut start = from;
        let mut bytes = file[from as usize..].to_vec();
        let mut cut = false;
        match fault {
            Some(Fault::CutAfter(n)) => (bytes, cut) = (bytes[..n].to_vec(), true),
            Some(Fault::FlipByte(i)) => bytes[i] ^= 1,
            Some(Fault::IgnoreRange) => (bytes, start) = (file, 0),
            Some(Fault::NotFound) => return Box::pin(std::future::ready(Err(Refusal::new(url, false, "status 404")))),
            Some(Fault::Refuse) => return Box::pin(std::future::ready(Err(Refusal::new(url, true, "status 503")))),
            None => {}
        }
        Box::pin(std::future::ready(Ok(Box::new(Answer { bytes, start, total, cut }) as Box<dyn Body>)))
    }

    fn source<'a>(&'a self, url: &'a str, _: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        let source = MemorySource::new(url, self.files[url].clone());
        Box::pin(std::future::ready(Ok(Box::new(source) as Box<dyn ByteSource>)))
    }
}

impl Body for Answer {
    fn start(&self) -> u64 {
        self.start
    }

    fn total(&self) -> Option<u64> {
        Some(self.total)
    }

    fn next(&mut self) -> LocalFuture<'_, Answered<Option<Vec<u8>>>> {
        let n = self.bytes.len().min(7);
        let piece: Vec<u8> = self.bytes.drain(..n).collect();
        let result = match (piece.is_empty(), self.cut) {
            (false, _) => Ok(Some(piece)),
            (true, true) => Err(Refusal::new("", true, "connection reset")),
            (true, false) => Ok(None),
        };
        Box::pin(std::future::ready(result))
    }
}

const URL: &str = "m/a.gguf";

fn content() -> Vec<u8> {
    (0..100u8).collect()
}

fn network(faults: &[Fault]) -> Network {
    Network { files: [(URL.to_owned(), content())].into(), faults: RefCell::new(faults.to_vec()), ..Network::default() }
}

fn model() -> RemoteModel {
    let sha256 = Some(hex(&Sha256::digest(content())));
    let file = RemoteFile { name: "a.gguf".into(), url: URL.into(), bytes: 100, sha256, role: Role::Generator };
    RemoteModel { name: "Demo".into(), source: "m/manifest.json".into(), licence: String::new(), files: vec![file] }
}

/// Fetches and returns the opened file's content with the warnings told.
fn fetch(network: &Network, store: Option<&Memory>, model: &RemoteModel) -> (Result<Vec<u8>>, Vec<String>) {
    let patience = Patience { attempts: 3, back_off: Duration::ZERO };
    let mut warnings = Vec::new();
    let mut report = |event| match event {
        FetchEvent::Warning(message) | FetchEvent::NotKept(message) => warnings.push(message),
        FetchEvent::Progress(p) => assert!(p.bytes <= p.total, "{p:?}"),
    };
    let result = block_on(async {
        let open = fetch_model(model, network, store.map(|s| s as &dyn Store), &patience, &mut report).await?;
        open[0].1.read(0, open[0].1.size() as usize).await
    });
    (result, warnings)
}

#[test]
fn a_download_is_kept_and_the_second_time_needs_no_network() {
    let (network, store) = (network(&[]), Memory::default());
    assert_eq!(fetch(&network, Some(&store), &model()).0.unwrap(), content());
    assert_eq!(fetch(&network, Some(&store), &model()).0.unwrap(), content());
    assert_eq!(network.requests.borrow().len(), 1);
    let kept = block_on(Kept::read(&store)).unwrap();
    assert!(kept.is_complete());
    assert_eq!(block_on(kept.open(&store)).unwrap().unwrap().len(), 1);
}

#[test]
fn a_cut_connection_is_continued_where_it_broke() {
    let (network, store) = (network(&[Fault::CutAfter(30), Fault::Refuse, Fault::CutAfter(20)]), Memory::default());
    assert_eq!(fetch(&network, Some(&store), &model()).0.unwrap(), content());
    let from: Vec<u64> = network.requests.borrow().iter().map(|(_, from)| *from).collect();
    assert_eq!(from, [0, 30, 30, 50]);
}

#[test]
fn a_download_given_up_is_continued_the_next_time() {
    let (network, store) =
        (network(&[Fault::CutAfter(40), Fault::Refuse, Fault::Refuse, Fault::Refuse]), Memory::default());
    let message = fetch(&network, Some(&store), &model()).0.unwrap_err().to_string();
    assert!(message.contains("40 of 100 bytes are kept"), "{message}");
    assert_eq!(store.files.borrow()["a.gguf"].len(), 40);
    assert_eq!(fetch(&network, Some(&store), &model()).0.unwrap(), content());
    assert_eq!(network.requests.borrow().last().unwrap().1, 40);
}

#[test]
fn a_damaged_file_is_fetched_once_more() {
    let (network, store) = (network(&[Fault::FlipByte(5)]), Memory::default());
    let (result, warnings) = fetch(&network, Some(&store), &model());
    assert_eq!(result.unwrap(), content());
    assert!(warnings[0].contains("a.gguf arrived damaged"), "{warnings:?}");
}

#[test]
fn a_file_damaged_twice_is_an_error_that_names_it_and_nothing_is_kept() {
    let (network, store) = (network(&[Fault::FlipByte(5), Fault::FlipByte(9)]), Memory::default());
    let message = fetch(&network, Some(&store), &model()).0.unwrap_err().to_string();
    assert!(message.contains(URL) && message.contains("sha256"), "{message}");
    assert!(!store.files.borrow().contains_key("a.gguf"));
}

#[test]
fn a_damaged_partial_file_is_noticed() {
    let (network, store) = (network(&[]), Memory::default());
    store.files.borrow_mut().insert("a.gguf".into(), vec![7; 50]);
    let (result, warnings) = fetch(&network, Some(&store), &model());
    assert_eq!(result.unwrap(), content());
    assert_eq!(warnings.len(), 1);
}

#[test]
fn a_complete_file_without_a_note_is_hashed_rather_than_fetched() {
    let (network, store) = (network(&[]), Memory::default());
    store.files.borrow_mut().insert("a.gguf".into(), content());
    store.files.borrow_mut().insert(super::super::kept::NOTE.into(), b"{ broken".to_vec());
    assert_eq!(fetch(&network, Some(&store), &model()).0.unwrap(), content());
    assert!(network.requests.borrow().is_empty());
}

#[test]
fn a_server_that_ignores_ranges_makes_it_start_over() {
    let (network, store) = (network(&[Fault::CutAfter(30), Fault::IgnoreRange]), Memory::default());
    assert_eq!(fetch(&network, Some(&store), &model()).0.unwrap(), content());
}

#[test]
fn a_missing_file_is_not_asked_for_again() {
    let (network, store) = (network(&[Fault::NotFound]), Memory::default());
    let message = fetch(&network, Some(&store), &model()).0.unwrap_err().to_string();
    assert!(message.contains("404"), "{message}");
    assert_eq!(network.requests.borrow().len(), 1);
}

#[test]
fn another_size_on_the_server_is_an_error() {
    let mut model = model();
    model.files[0].bytes = 101;
    let message = fetch(&network(&[]), Some(&Memory::default()), &model).0.unwrap_err().to_string();
    assert!(message.contains("100 bytes, 101 expected"), "{message}");
}

#[test]
fn without_storage_or_space_the_network_is_read_with_a_warning() {
    let small = Memory { free: Some(99), ..Memory::default() };
    let full = Memory { full_at: Some(50), ..Memory::default() };
    for store in [None, Some(&small), Some(&full)] {
        let (result, warnings) = fetch(&network(&[]), store, &model());
        assert_eq!(result.unwrap(), content());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(store.is_none_or(|s| !s.files.borrow().contains_key("a.gguf")), "the half-written file is still there");
    }
}

#[test]
fn a_new_version_replaces_the_kept_one() {
    let store = Memory::default();
    fetch(&network(&[]), Some(&store), &model()).0.unwrap();
    let new: Vec<u8> = content().into_iter().rev().collect();
    let mut model = model();
    model.files[0].sha256 = Some(hex(&Sha256::digest(&new)));
    let network = Network { files: [(URL.to_owned(), new.clone())].into(), ..Network::default() };
    assert_eq!(fetch(&network, Some(&store), &model).0.unwrap(), new);
}

#[test]
fn picked_files_are_copied_like_downloads() {
    let store = Memory::default();
    let files = LocalFiles::new("my model.gguf 100 0", vec![Rc::new(MemorySource::new("my model.gguf", content()))]);
    let model = files.model().unwrap();
    let open = block_on(fetch_model(&model, &files, Some(&store), &Patience::default(), &mut |_| {})).unwrap();
    assert_eq!(block_on(open[0].1.read(0, 100)).unwrap(), content());
    assert_eq!(store.files.borrow()[&model.files[0].name], content());
}
