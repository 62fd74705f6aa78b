use std::cell::Cell;

use super::{Kind, Machine, input::Input, numpy::read_pair};
use crate::{
    Result,
    platform::{ByteSource, LocalFuture, MemorySource},
};

const PROTO: &[u8] = b"\x80\x04";

fn problem(kind: Kind, bytes: Vec<u8>) -> String {
    let (size, source) = (bytes.len() as u64, MemorySource::new("p", bytes));
    Machine::new(kind, Input::new(&source, 0, size, "")).run().unwrap_err().to_string()
}

/// Few bytes must not become much memory.
#[test]
fn containers_their_items_and_the_stack_are_bounded() {
    let error = problem(Kind::Array, [PROTO, &[b')'; 2000]].concat());
    assert!(error.contains("byte 1027: more objects than a pair"), "{error}");
    let error = problem(Kind::Array, [PROTO, &vec![b'N'; (1 << 20) + 1]].concat());
    assert!(error.contains("more objects than a pair"), "{error}");
    // The stack stays short.
    let batch = [b"(".as_slice(), &[b'N'; 1000], b"e"].concat();
    let error = problem(Kind::State, [PROTO, b"]", &batch.repeat(4200)].concat());
    assert!(error.contains("more objects than a state dictionary"), "{error}");
    let array = [
        PROTO,
        b"cnumpy._core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\nX\x02\0\0\0f2\x85R(",
        &b"K\x01".repeat(64),
        b"tX\x01\0\0\0CtR.",
    ];
    let error = problem(Kind::Array, array.concat());
    assert!(error.contains("FromBuffer with arguments that nobody writes"), "{error}");
}

/// Counts the bytes that are read.
struct Counted(MemorySource, Cell<usize>);

impl ByteSource for Counted {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        self.1.set(self.1.get() + len);
        self.0.read(offset, len)
    }
}

#[test]
fn ids_far_apart_that_are_named_in_turns_are_not_read_by_the_window() {
    let far = [b"X".as_slice(), &60_000_u32.to_le_bytes(), &[b'x'; 60_000]].concat().repeat(5);
    let bytes = [
        PROTO,
        b"](X\x01\0\0\0aq\x00",
        &far,
        b"X\x01\0\0\0bq\x01",
        &b"h\x00h\x01".repeat(20_000),
        b"ecnumpy._core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\nX\x02\0\0\0f2\x85RK\x00K\x00\x86X\x01\0\0\0CtR\x86.",
    ];
    let source = Counted(MemorySource::new("p", bytes.concat()), Cell::new(0));
    let (ids, _) = read_pair(&source).unwrap();
    assert_eq!((ids.len(), ids.get(40_005), ids.get(40_006)), (40_007, "a", "b"));
    assert!(source.1.get() < 4 * source.size() as usize, "{} bytes of {} read", source.1.get(), source.size());
}
