//! Promise: no bytes make a weight reader panic, hang or take memory without bound; they give errors.
//!
//! Random bytes, and valid files with bytes flipped or cut off. An allocator that refuses more than 512 MB at once stands guard.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use selfrag::{
    platform::{ByteSource, MemorySource, block_on},
    weights::{Gguf, Weights, gguf::encode_header, open},
};

/// The system's allocator, without the sizes that a lying length would ask for.
struct Bounded;

const MAX_ALLOCATION: usize = 512 << 20;

unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert!(layout.size() < MAX_ALLOCATION, "{} bytes asked for at once", layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer comes from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/weights")).join(name)
}

/// A change to a valid file.
#[derive(Debug, Clone)]
enum Damage {
    Cut(usize),
    Flip(usize, u8),
    /// Eight bytes set to a number such as a length or an offset may be.
    Number(usize, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let numbers =
        prop_oneof![Just(u64::MAX), Just(1 << 63), Just(1 << 40), Just(u64::from(u32::MAX)), Just(0), any::<u64>()];
    prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (any::<usize>(), numbers).prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

/// Places are taken modulo `span`, so that most damage falls on the part that has structure.
fn apply(mut bytes: Vec<u8>, damages: &[Damage], span: usize) -> Vec<u8> {
    for damage in damages {
        let span = span.min(bytes.len()).max(1);
        match *damage {
            Damage::Cut(at) => bytes.truncate(at % span),
            Damage::Flip(at, bits) => bytes.iter_mut().skip(at % span).take(1).for_each(|byte| *byte ^= bits),
            Damage::Number(at, number) => {
                bytes.iter_mut().skip(at % span).zip(number.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}

/// Reads everything a model claims to have; small files only.
fn read_all(weights: &dyn Weights) {
    for tensor in weights.tensors() {
        let rows = tensor.matrix().0;
        block_on(weights.read_rows(tensor, 0, rows)).ok();
        block_on(weights.read_rows(tensor, usize::MAX, 2)).unwrap_err();
    }
}

fn open_gguf(bytes: Vec<u8>) {
    let source: Box<dyn ByteSource> = Box::new(MemorySource::new("hostile.gguf", bytes));
    if let Ok(model) = block_on(Gguf::open(vec![source])) {
        read_all(&model);
    }
}

/// A small valid GGUF file and the length of its header.
fn small_gguf() -> (Vec<u8>, usize) {
    let model = open(&golden("tied"), None).unwrap();
    let mut metadata = model.metadata().clone();
    metadata.remove("tokenizer.huggingface.json");
    let (mut bytes, offsets) = encode_header(&metadata, model.tensors()).unwrap();
    let header = bytes.len();
    let last = model.tensors().last().unwrap();
    bytes.resize(header + *offsets.last().unwrap() as usize + last.matrix().0 * last.row_bytes(), 7);
    (bytes, header)
}

/// A folder with copies of `from`'s files but other bytes for one of them.
struct Folder(PathBuf);

impl Folder {
    fn new(from: &str, file: &str, bytes: &[u8]) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("selfrag-hostile-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for entry in std::fs::read_dir(golden(from)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        std::fs::write(path.join(file), bytes).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Opens the golden folder `from` as a model, or an adapter, with `file` damaged in its first `span` bytes.
fn open_damaged(from: &str, file: &str, damages: &[Damage], span: usize) {
    let bytes = apply(std::fs::read(golden(from).join(file)).unwrap(), damages, span);
    let folder = Folder::new(from, file, &bytes);
    let model = if from.ends_with("adapter") { open(&golden("tied"), Some(&folder.0)) } else { open(&folder.0, None) };
    if let Ok(model) = model {
        read_all(model.as_ref());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn gguf_random(mut bytes in prop::collection::vec(any::<u8>(), 0..512), with_magic in any::<bool>()) {
        if with_magic && bytes.len() > 8 {
            bytes[..8].copy_from_slice(b"GGUF\x03\0\0\0");
        }
        open_gguf(bytes);
    }

    #[test]
    fn gguf_damaged(damages in prop::collection::vec(damage(), 1..4)) {
        let (bytes, header) = small_gguf();
        open_gguf(apply(bytes, &damages, header));
    }

    #[test]
    fn safetensors_damaged(damages in prop::collection::vec(damage(), 1..4)) {
        open_damaged("tied", "model.safetensors", &damages, 2200);
    }

    #[test]
    fn torch_damaged(damages in prop::collection::vec(damage(), 1..4), at_end in any::<bool>()) {
        // The pickle is at the front, the zip directory at the end.
        open_damaged("llama-torch", "pytorch_model-00002-of-00002.bin", &damages, if at_end { usize::MAX } else { 1500 });
    }

    #[test]
    fn torch_random(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let folder = Folder::new("llama-torch", "pytorch_model-00002-of-00002.bin", &bytes);
        prop_assert!(open(&folder.0, None).is_err());
    }

    #[test]
    fn json_files_damaged(damages in prop::collection::vec(damage(), 1..3), which in 0_usize..4) {
        let (from, file) = [
            ("tied", "config.json"),
            ("tied", "tokenizer.json"),
            ("llama-torch", "pytorch_model.bin.index.json"),
            ("tied-adapter", "adapter_config.json"),
        ][which];
        open_damaged(from, file, &damages, usize::MAX);
    }

    #[test]
    fn adapter_damaged(damages in prop::collection::vec(damage(), 1..4)) {
        open_damaged("tied-adapter", "adapter_model.safetensors", &damages, 3500);
    }

    #[test]
    fn sentencepiece_random(bytes in prop::collection::vec(prop_oneof![0_u8..32, any::<u8>()], 0..200)) {
        let folder = Folder::new("tied", "tokenizer.model", &bytes);
        std::fs::remove_file(folder.0.join("tokenizer.json")).unwrap();
        open(&folder.0, None).ok();
    }
}

#[test]
fn lying_lengths_are_refused_before_allocation() {
    // One metadata pair: key "k", an array of 2^61 numbers.
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    for number in [0_u64, 1, 1] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"k\x09\0\0\0\x04\0\0\0");
    bytes.extend((1_u64 << 61).to_le_bytes());
    bytes.resize(200, 0);
    let source: Box<dyn ByteSource> = Box::new(MemorySource::new("lying.gguf", bytes));
    let error = block_on(Gguf::open(vec![source])).err().unwrap().to_string();
    assert!(error.contains("announced"), "{error}");
}

#[test]
fn pickles_that_call_anything_are_refused_by_name() {
    let pickle = b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.";
    let error = open(
        &Folder::new("llama-torch", "pytorch_model-00002-of-00002.bin", &zip_of("archive/data.pkl", pickle)).0,
        None,
    );
    let error = error.err().unwrap().to_string();
    assert!(error.contains("posix.system is refused"), "{error}");
}

/// A zip archive of one stored member (checksum left out: it is not read).
fn zip_of(name: &str, data: &[u8]) -> Vec<u8> {
    let (name_len, data_len) = ((name.len() as u16).to_le_bytes(), (data.len() as u32).to_le_bytes());
    let mut out = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend([data_len, data_len].concat());
    out.extend([&name_len[..], &[0; 2], name.as_bytes(), data].concat());
    let directory = out.len() as u32;
    out.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0");
    out.extend([data_len, data_len].concat());
    out.extend([&name_len[..], &[0; 16], name.as_bytes()].concat());
    let directory_len = out.len() as u32 - directory;
    out.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    out.extend([directory_len.to_le_bytes(), directory.to_le_bytes()].concat());
    out.extend([0; 2]);
    out
}
