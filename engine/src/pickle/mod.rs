//! Pickles, read without being run: a stack machine that can only build data.
//!
//! A pickle is a program. This interpreter knows containers, numbers, texts, bytes and, by [`Kind`], the few functions that put a tensor of
//! PyTorch ([`torch`]) or an array of NumPy ([`numpy`]) together; it runs nothing, and refuses any other name.
//!
//! Containers live in one list and are named by their number in it, so no input, however nested, recurses when it is built or dropped. Texts
//! and bytes are places in the file: memory does not depend on their lengths. Opcodes are those that Python's protocols 2 to 5 write.
//! Reference: Lib/pickletools.py.

mod input;
pub(crate) mod numpy;
#[cfg(test)]
mod tests;
pub(crate) mod torch;

use std::collections::HashMap;

use crate::{Error, Result};
use input::Input;

/// Most arguments of a call, parts of a state: a stream must not grow by naming one large tuple again and again.
const MOST_PARTS: usize = 64;

/// Most objects on the stack: Python's pickle puts a thousand items at a time into a container.
const MOST_STACKED: usize = 1 << 20;

/// What is read, which says what names may be called on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A dictionary of tensors.
    State,
    /// Ids and an array.
    Array,
}

impl Kind {
    /// Most containers, and what else functions make.
    fn most_nodes(self) -> usize {
        match self {
            Self::State => 1 << 20,
            // Ids are none: the pair, its list and an array take a dozen.
            Self::Array => 1 << 10,
        }
    }

    /// Most items in all containers together, and in the memo.
    fn most_items(self) -> usize {
        match self {
            Self::State => 1 << 22,
            // All of Wikipedia in one file has 21 million ids.
            Self::Array => 1 << 26,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::State => "a state dictionary",
            Self::Array => "a pair of ids and array",
        }
    }
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
    /// (ndarray, …) → array that gets its state later.
    Reconstruct,
    /// (bytes, dtype, shape, order) → array.
    FromBuffer,
    NdArray,
    /// (code, …) → dtype.
    Dtype,
    /// (text, "latin1") → bytes.
    Encode,
}

impl Global {
    fn find(kind: Kind, module: &str, name: &str) -> Option<Self> {
        match kind {
            Kind::State => torch::global(module, name),
            Kind::Array => numpy::global(module, name),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Object {
    Mark,
    /// None, numbers that are not whole: nothing that anything depends on.
    Other,
    Bool(bool),
    Int(i64),
    Text(Text),
    Global(Global),
    /// A container, bytes, or what a function made.
    Node(u32),
}

/// UTF-8 (not yet checked) at a place of the pickle.
#[derive(Debug, Clone, Copy)]
struct Text {
    at: u64,
    len: u32,
}

/// Bytes of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    /// Place in the file.
    pub(crate) place: u64,
    /// Length there.
    pub(crate) len: u64,
    /// Written as the UTF-8 of the text whose characters have the bytes' numbers, as protocol 2 does.
    pub(crate) is_latin1: bool,
}

#[derive(Debug)]
enum Node {
    Tuple(Vec<Object>),
    List(Vec<Object>),
    Dict(Vec<(Object, Object)>),
    Storage(torch::Storage),
    Tensor {
        storage: torch::Storage,
        offset: u64,
        shape: Vec<usize>,
        stride: Vec<usize>,
    },
    Bytes(Bytes),
    Dtype(numpy::Dtype),
    /// None before it got its state.
    Array(Option<numpy::Array>),
}

struct Machine<'a> {
    kind: Kind,
    input: Input<'a>,
    stack: Vec<Object>,
    arena: Vec<Node>,
    /// In all containers together.
    items: usize,
    memo: HashMap<u32, Object>,
}

impl<'a> Machine<'a> {
    fn new(kind: Kind, input: Input<'a>) -> Self {
        Self { kind, input, stack: Vec::new(), arena: Vec::new(), items: 0, memo: HashMap::new() }
    }

    fn run(&mut self) -> Result<Object> {
        loop {
            if self.stack.len() > MOST_STACKED
                || self.arena.len() > self.kind.most_nodes()
                || self.items.max(self.memo.len()) > self.kind.most_items()
            {
                return Err(self.bad(&format!("more objects than {} has", self.kind.name())));
            }
            match self.input.take(1)?[0] {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // PROTO and FRAME only frame the stream.
            0x80 => self.input.skip(1)?,
            0x95 => self.input.skip(8)?,
            b'(' => self.stack.push(Object::Mark),
            b'0' => drop(self.pop()?),
            b'N' => self.stack.push(Object::Other),
            0x88 => self.stack.push(Object::Bool(true)),
            0x89 => self.stack.push(Object::Bool(false)),
            b'G' => {
                self.input.skip(8)?;
                self.stack.push(Object::Other);
            }
            b'K' | b'M' | b'J' | 0x8a => self.integer(opcode)?,
            b'X' | 0x8c | 0x8d => self.text(opcode)?,
            b'C' | b'B' | 0x8e | 0x96 => self.bytes(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'}' => self.push_node(Node::Dict(Vec::new())),
            b']' => self.push_node(Node::List(Vec::new())),
            b')' => self.push_node(Node::Tuple(Vec::new())),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.items += items.len();
                self.push_node(Node::Tuple(items));
            }
            b'a' | b'e' => self.append(opcode)?,
            b's' | b'u' => self.set_items(opcode)?,
            b'q' | b'r' | 0x94 => self.memoise(opcode)?,
            b'h' | b'j' => self.recall(opcode)?,
            b'Q' => self.persistent()?,
            b'R' => self.call()?,
            b'b' => self.build()?,
            _ => return Err(self.bad(&format!("opcode {opcode:#04x} does not occur in {}", self.kind.name()))),
        }
        Ok(())
    }

    fn integer(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'K' => self.input.unsigned(1)? as i64,
            b'M' => self.input.unsigned(2)? as i64,
            b'J' => i64::from(self.input.unsigned(4)? as u32 as i32),
            _ => {
                let len = self.input.unsigned(1)? as usize;
                if len > 8 {
                    return Err(self.bad("a whole number of more than 64 bits"));
                }
                let unused = 64 - 8 * len as u32;
                // Sign extension: to the top and back.
                if len == 0 { 0 } else { (self.input.unsigned(len)? << unused) as i64 >> unused }
            }
        };
        self.stack.push(Object::Int(value));
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let len = self.input.unsigned(match opcode {
            0x8c => 1,
            b'X' => 4,
            _ => 8,
        })?;
        let at = self.input.at;
        self.input.skip(len)?;
        let len = u32::try_from(len).map_err(|_| self.bad("a text of more than 4 GB"))?;
        self.stack.push(Object::Text(Text { at, len }));
        Ok(())
    }

    fn bytes(&mut self, opcode: u8) -> Result<()> {
        let len = self.input.unsigned(match opcode {
            b'C' => 1,
            b'B' => 4,
            _ => 8,
        })?;
        let place = self.input.place(self.input.at);
        self.input.skip(len)?;
        self.push_node(Node::Bytes(Bytes { place, len, is_latin1: false }));
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let (module, name) = if opcode == b'c' {
            (self.input.line()?, self.input.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Object::Text(name), Object::Text(module)) => (self.read(module)?, self.read(name)?),
                _ => return Err(self.bad("two texts expected for a global name")),
            }
        };
        let global = Global::find(self.kind, &module, &name);
        let shown = |text: &str| text.chars().take(60).collect::<String>();
        let only = match self.kind {
            Kind::State => "tensors are",
            Kind::Array => "a pair (ids, array of numbers) is",
        };
        let refuse = || self.bad(&format!("{}.{} is refused: only {only} read", shown(&module), shown(&name)));
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
        self.items += items.len();
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
        self.items += items.len();
        match self.top_node() {
            Some(Node::Dict(entries)) => {
                entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)))
            }
            _ => return Err(self.bad("a dictionary expected to put items into")),
        }
        Ok(())
    }

    fn memoise(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            b'q' => self.input.unsigned(1)? as u32,
            b'r' => self.input.unsigned(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let top = self.stack.last().copied().ok_or_else(|| self.bad("nothing to remember"))?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<()> {
        let index = self.input.unsigned(if opcode == b'h' { 1 } else { 4 })? as u32;
        let object =
            self.memo.get(&index).copied().ok_or_else(|| self.bad("nothing was remembered under this number"))?;
        self.stack.push(object);
        Ok(())
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Some(Node::Tuple(arguments)) = self.node(arguments) else {
            return Err(self.bad("a call without a tuple of arguments"));
        };
        let Object::Global(global) = callee else { return Err(self.bad("a call of something that is no function")) };
        if arguments.len() > MOST_PARTS {
            return Err(self.bad(&format!("a call with {} arguments", arguments.len())));
        }
        let arguments = arguments.clone();
        let made = match self.kind {
            Kind::State => self.call_torch(global, &arguments),
            Kind::Array => self.call_numpy(global, &arguments)?,
        };
        let made = made.ok_or_else(|| self.bad(&format!("a call of {global:?} with arguments that nobody writes")))?;
        self.stack.push(made);
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        match self.kind {
            Kind::State => self.build_torch(),
            Kind::Array => self.build_numpy(state),
        }
    }

    /// A tuple of at most so many whole numbers that are not negative.
    fn sizes(&self, object: Object, most: usize) -> Option<Vec<usize>> {
        let size = |item: &Object| match item {
            Object::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        match self.node(object) {
            Some(Node::Tuple(items)) if items.len() <= most => items.iter().map(size).collect(),
            _ => None,
        }
    }

    /// A text's characters.
    fn read(&mut self, text: Text) -> Result<String> {
        let bytes = self.input.piece(text.at, text.len as usize)?;
        String::from_utf8(bytes).map_err(|e| self.input.bad_at(text.at, &e.utf8_error().to_string()))
    }

    fn node(&self, object: Object) -> Option<&Node> {
        match object {
            Object::Node(index) => self.arena.get(index as usize),
            _ => None,
        }
    }

    fn top_node(&mut self) -> Option<&mut Node> {
        match self.stack.last() {
            Some(Object::Node(index)) => self.arena.get_mut(*index as usize),
            _ => None,
        }
    }

    fn push_node(&mut self, node: Node) {
        let object = self.add_node(node);
        self.stack.push(object);
    }

    fn add_node(&mut self, node: Node) -> Object {
        self.arena.push(node);
        Object::Node(self.arena.len() as u32 - 1)
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

    fn bad(&self, problem: &str) -> Error {
        self.input.bad(problem)
    }
}
