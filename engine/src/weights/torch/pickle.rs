//! The interpreter of a state dictionary's pickle: a stack machine that can only build data.
//!
//! Containers live in one list and are named by their number in it, so no input, however nested, recurses when it is built or dropped. Opcodes
//! are those that Python's protocols 2 to 5 write for a state dictionary; a global name outside [`Global`] ends the reading. Reference: Lib/pickletools.py.

use std::{collections::HashMap, rc::Rc};

use crate::{Error, Result};

/// Most objects on the stack, in containers, in the memo.
const MAX_OBJECTS: usize = 1 << 20;

/// A tensor as the pickle describes it.
#[derive(Debug, Clone)]
pub(super) struct PickledTensor {
    pub(super) name: String,
    pub(super) storage: Storage,
    /// First element in the storage.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

/// A storage: the archive's member `data/KEY`.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    /// `FloatStorage`, `HalfStorage`, …
    pub(super) type_name: &'static str,
    pub(super) key: Rc<str>,
}

/// The only names that a pickle may call on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Global {
    OrderedDict,
    /// (storage, offset, shape, stride, …) → tensor.
    RebuildTensor,
    /// (tensor, …) → tensor.
    RebuildParameter,
    Storage(&'static str),
}

const STORAGES: [&str; 10] = [
    "FloatStorage",
    "HalfStorage",
    "BFloat16Storage",
    "DoubleStorage",
    "LongStorage",
    "IntStorage",
    "ShortStorage",
    "CharStorage",
    "ByteStorage",
    "BoolStorage",
];

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", name) => STORAGES.iter().find(|storage| **storage == name).map(|storage| Self::Storage(storage)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
enum Object {
    Mark,
    /// None, numbers that are not whole, bytes: nothing that a tensor depends on.
    Other,
    Int(i64),
    Text(Rc<str>),
    Global(Global),
    /// A container, storage or tensor in the arena.
    Node(usize),
}

#[derive(Debug)]
enum Node {
    Tuple(Vec<Object>),
    List(Vec<Object>),
    Dict(Vec<(Object, Object)>),
    Storage(Storage),
    Tensor { storage: Storage, offset: u64, shape: Vec<usize>, stride: Vec<usize> },
}

/// Reads the tensors of a state dictionary, in its order. Entries that are no tensors are left out.
pub(super) fn read_state(file: &str, bytes: &[u8]) -> Result<Vec<PickledTensor>> {
    let mut machine = Machine { file, bytes, at: 0, stack: Vec::new(), arena: Vec::new(), memo: HashMap::new() };
    let top = machine.run()?;
    let Some(Node::Dict(entries)) = machine.node(&top) else {
        return Err(machine.bad("a dictionary of tensors expected at the top"));
    };
    let tensor = |(key, value): &(Object, Object)| match (key, machine.node(value)) {
        (Object::Text(name), Some(Node::Tensor { storage, offset, shape, stride })) => Some(PickledTensor {
            name: name.to_string(),
            storage: storage.clone(),
            offset: *offset,
            shape: shape.clone(),
            stride: stride.clone(),
        }),
        _ => None,
    };
    Ok(entries.iter().filter_map(tensor).collect())
}

struct Machine<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Object>,
    arena: Vec<Node>,
    memo: HashMap<u32, Object>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Object> {
        loop {
            if self.stack.len().max(self.arena.len()).max(self.memo.len()) > MAX_OBJECTS {
                return Err(self.bad("more objects than any state dictionary has"));
            }
            match self.take(1)?[0] {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // PROTO and FRAME only frame the stream.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.stack.push(Object::Mark),
            b'0' => drop(self.pop()?),
            b'N' => self.stack.push(Object::Other),
            0x88 => self.stack.push(Object::Int(1)),
            0x89 => self.stack.push(Object::Int(0)),
            b'G' => {
                self.take(8)?;
                self.stack.push(Object::Other);
            }
            b'K' | b'M' | b'J' | 0x8a => self.integer(opcode)?,
            b'X' | 0x8c | 0x8d => self.text(opcode)?,
            b'C' | b'B' | 0x8e => self.skip_bytes(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'}' => self.push_node(Node::Dict(Vec::new())),
            b']' => self.push_node(Node::List(Vec::new())),
            b')' => self.push_node(Node::Tuple(Vec::new())),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_node(Node::Tuple(items));
            }
            b'a' | b'e' => self.append(opcode)?,
            b's' | b'u' => self.set_items(opcode)?,
            b'q' | b'r' | 0x94 => self.memoise(opcode)?,
            b'h' | b'j' => self.recall(opcode)?,
            b'Q' => self.persistent()?,
            b'R' => self.call()?,
            b'b' => self.build()?,
            _ => return Err(self.bad(&format!("opcode {opcode:#04x} does not occur in a state dictionary"))),
        }
        Ok(())
    }

    fn integer(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'K' => self.take(1)?[0].into(),
            b'M' => self.unsigned(2)? as i64,
            b'J' => i64::from(self.unsigned(4)? as u32 as i32),
            _ => {
                let len = self.take(1)?[0].into();
                if len > 8 {
                    return Err(self.bad("a whole number of more than 64 bits"));
                }
                let unused = 64 - 8 * len as u32;
                // Sign extension: to the top and back.
                if len == 0 { 0 } else { (self.unsigned(len)? << unused) as i64 >> unused }
            }
        };
        self.stack.push(Object::Int(value));
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let len = self.unsigned(match opcode {
            0x8c => 1,
            b'X' => 4,
            _ => 8,
        })?;
        let start = self.at;
        let text = std::str::from_utf8(self.take(usize::try_from(len).unwrap_or(usize::MAX))?);
        let text = text.map_err(|e| Error::input(self.file, format!("byte {start} of data.pkl"), e.to_string()))?;
        self.stack.push(Object::Text(text.into()));
        Ok(())
    }

    fn skip_bytes(&mut self, opcode: u8) -> Result<()> {
        let len = self.unsigned(match opcode {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        })?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        self.stack.push(Object::Other);
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Object::Text(name), Object::Text(module)) => (module.to_string(), name.to_string()),
                _ => return Err(self.bad("two texts expected for a global name")),
            }
        };
        let global = Global::find(&module, &name);
        let shown = |text: &str| text.chars().take(60).collect::<String>();
        let refuse = || self.bad(&format!("{}.{} is refused: only tensors are read", shown(&module), shown(&name)));
        let global = global.ok_or_else(refuse)?;
        self.stack.push(Object::Global(global));
        Ok(())
    }

    fn short_tuple(&mut self, len: usize) -> Result<()> {
        let start =
            self.stack.len().checked_sub(len).ok_or_else(|| self.bad("a tuple of more than the stack holds"))?;
        let items = self.stack.split_off(start);
        if items.iter().any(|item| matches!(item, Object::Mark)) {
            return Err(self.bad("a tuple across a mark"));
        }
        self.push_node(Node::Tuple(items));
        Ok(())
    }

    fn append(&mut self, opcode: u8) -> Result<()> {
        let items = if opcode == b'a' { vec![self.pop()?] } else { self.pop_to_mark()? };
        match self.top_node() {
            Some(Node::List(list)) => list.extend(items),
            _ => return Err(self.bad("a list expected to append to")),
        }
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Result<()> {
        let items = if opcode == b's' {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.pop_to_mark()?
        };
        if !items.len().is_multiple_of(2) {
            return Err(self.bad("a key without a value"));
        }
        match self.top_node() {
            Some(Node::Dict(entries)) => {
                entries.extend(items.as_chunks::<2>().0.iter().cloned().map(|[key, value]| (key, value)))
            }
            _ => return Err(self.bad("a dictionary expected to put items into")),
        }
        Ok(())
    }

    fn memoise(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            b'q' => self.unsigned(1)? as u32,
            b'r' => self.unsigned(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let top = self.stack.last().cloned().ok_or_else(|| self.bad("nothing to remember"))?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<()> {
        let index = self.unsigned(if opcode == b'h' { 1 } else { 4 })? as u32;
        let object =
            self.memo.get(&index).cloned().ok_or_else(|| self.bad("nothing was remembered under this number"))?;
        self.stack.push(object);
        Ok(())
    }

    /// ('storage', type, key, device, length) → storage.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.node(&id) {
            Some(Node::Tuple(items)) => match &items[..] {
                [Object::Text(kind), Object::Global(Global::Storage(type_name)), Object::Text(key), ..]
                    if &**kind == "storage" =>
                {
                    Some(Storage { type_name, key: key.clone() })
                }
                _ => None,
            },
            _ => None,
        };
        let storage = storage.ok_or_else(|| self.bad("a persistent id that is no storage"))?;
        self.push_node(Node::Storage(storage));
        Ok(())
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let (Some(Node::Tuple(arguments)), Object::Global(global)) = (self.node(&arguments), callee) else {
            return Err(self.bad("a call of something that is no function"));
        };
        let made = match (global, &arguments[..]) {
            (Global::OrderedDict, []) => Some(Node::Dict(Vec::new())),
            (Global::RebuildParameter, [tensor @ Object::Node(_), ..]) => {
                let tensor = tensor.clone();
                self.stack.push(tensor);
                return Ok(());
            }
            (Global::RebuildTensor, [storage, Object::Int(offset), shape, stride, ..]) => {
                self.tensor(storage, *offset, shape, stride)
            }
            _ => None,
        };
        let made = made
            .ok_or_else(|| self.bad(&format!("a call of {global:?} with arguments that torch.save does not write")))?;
        self.push_node(made);
        Ok(())
    }

    fn tensor(&self, storage: &Object, offset: i64, shape: &Object, stride: &Object) -> Option<Node> {
        let Some(Node::Storage(storage)) = self.node(storage) else { return None };
        let sizes = |object: &Object| match self.node(object) {
            Some(Node::Tuple(items)) => items
                .iter()
                .map(|item| match item {
                    Object::Int(n) => usize::try_from(*n).ok(),
                    _ => None,
                })
                .collect::<Option<Vec<usize>>>(),
            _ => None,
        };
        let offset = u64::try_from(offset).ok()?;
        Some(Node::Tensor { storage: storage.clone(), offset, shape: sizes(shape)?, stride: sizes(stride)? })
    }

    /// Attributes of a dictionary (`_metadata`) or tensor do not change its values; nothing else may have any.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        match self.top_node() {
            Some(Node::Dict(_) | Node::Tensor { .. }) => Ok(()),
            _ => Err(self.bad("attributes of something that has none")),
        }
    }

    fn node(&self, object: &Object) -> Option<&Node> {
        match object {
            Object::Node(index) => self.arena.get(*index),
            _ => None,
        }
    }

    fn top_node(&mut self) -> Option<&mut Node> {
        match self.stack.last() {
            Some(Object::Node(index)) => self.arena.get_mut(*index),
            _ => None,
        }
    }

    fn push_node(&mut self, node: Node) {
        self.stack.push(Object::Node(self.arena.len()));
        self.arena.push(node);
    }

    fn pop(&mut self) -> Result<Object> {
        match self.stack.pop() {
            Some(Object::Mark) | None => Err(self.bad("the stack is empty")),
            Some(object) => Ok(object),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Object>> {
        let mark = self.stack.iter().rposition(|object| matches!(object, Object::Mark));
        let mark = mark.ok_or_else(|| self.bad("no mark on the stack"))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.bad(&format!("{len} bytes expected, fewer left")))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A little-endian number of `len` ≤ 8 bytes.
    fn unsigned(&mut self, len: usize) -> Result<u64> {
        Ok(self.take(len)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<String> {
        let len = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
        let len = len.ok_or_else(|| self.bad("a line expected"))?;
        let line = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn bad(&self, problem: &str) -> Error {
        Error::input(self.file, format!("byte {} of data.pkl", self.at), problem)
    }
}
