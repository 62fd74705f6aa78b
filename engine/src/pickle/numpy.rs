//! A pair of ids and a NumPy array, as `pickle.dump((ids, array), file)` writes it.
//!
//! | protocol | an array is | its bytes are |
//! | --- | --- | --- |
//! | 2 | `_reconstruct(ndarray, (0,), b"b")` with a state (1, shape, dtype, is Fortran's order, bytes) | `_codecs.encode(text, "latin1")` |
//! | 3, 4 | the same | raw |
//! | 5 | `_frombuffer(bytes, dtype, shape, "C" or "F")` | raw |
//!
//! The functions lie in `numpy.core` before NumPy 2 and in `numpy._core` since. Reference: numpy/_core/src/multiarray/methods.c.

use super::{Bytes, Global, Kind, MOST_PARTS, Machine, Node, Object, input::Input};
use crate::{Result, platform::ByteSource};

/// Type of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    F32,
}

/// An array as the pickle describes it.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Column after column instead of row after row.
    pub(crate) is_fortran: bool,
    pub(crate) bytes: Bytes,
}

/// Ids in their order; numbers as decimal digits.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    text: String,
    ends: Vec<usize>,
    /// How many are numbers in the file.
    pub(crate) numbers: usize,
}

impl Ids {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }
}

pub(super) fn global(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Some(Global::Reconstruct),
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Some(Global::FromBuffer),
        ("numpy", "ndarray") => Some(Global::NdArray),
        ("numpy", "dtype") => Some(Global::Dtype),
        ("_codecs", "encode") => Some(Global::Encode),
        _ => None,
    }
}

/// Reads the ids and where the array is.
pub(crate) fn read_pair(file: &dyn ByteSource) -> Result<(Ids, Array)> {
    let mut machine = Machine::new(Kind::Array, Input::new(file, 0, file.size(), ""));
    if file.size() == 0 || machine.input.peek(0, 1)?[0] != 0x80 {
        return Err(machine.bad("no pickle of protocol 2 to 5"));
    }
    let top = machine.run()?;
    if machine.input.left() > 0 {
        return Err(machine.bad("the file goes on after its pickle"));
    }
    let pair = match machine.node(top) {
        Some(Node::Tuple(items)) => match items[..] {
            [ids, array] => Some((ids, array)),
            _ => None,
        },
        _ => None,
    };
    let Some((ids, array)) = pair else { return Err(machine.bad("a pair (ids, array) expected at the top")) };
    let Some(Node::Array(Some(array))) = machine.node(array) else {
        return Err(machine.bad("a NumPy array expected as the pair's second part"));
    };
    let array = array.clone();
    let list = match ids {
        Object::Node(index) => std::mem::replace(&mut machine.arena[index as usize], Node::Tuple(Vec::new())),
        _ => Node::Tuple(Vec::new()),
    };
    let Node::List(list) = list else { return Err(machine.bad("a list of ids expected as the pair's first part")) };
    // What is not needed any more can be gigabytes.
    (machine.memo, machine.stack) = Default::default();
    let mut ids = Ids::default();
    if let Some(Object::Text(first)) = list.first() {
        machine.input.peek(first.at, 0)?;
    }
    for (index, id) in list.iter().enumerate() {
        match id {
            // One text may be remembered and used again and again.
            Object::Text(text) if ids.text.len() as u64 + u64::from(text.len) > file.size() => {
                return Err(machine.bad("ids that are longer than the file"));
            }
            Object::Text(text) => ids.text.push_str(&machine.read(*text)?),
            Object::Int(number) => {
                ids.numbers += 1;
                ids.text.push_str(&number.to_string());
            }
            _ => return Err(machine.bad(&format!("id {index} is neither a string nor a whole number"))),
        }
        ids.ends.push(ids.text.len());
    }
    Ok((ids, array))
}

impl Machine<'_> {
    pub(super) fn call_numpy(&mut self, global: Global, arguments: &[Object]) -> Result<Option<Object>> {
        let made = match (global, arguments) {
            (Global::Reconstruct, [Object::Global(Global::NdArray), ..]) => Node::Array(None),
            (Global::Dtype, [Object::Text(code), ..]) => Node::Dtype(match self.read(*code)?.as_str() {
                "f2" | "<f2" => Dtype::F16,
                "f4" | "<f4" => Dtype::F32,
                code => {
                    let code: String = code.chars().take(20).collect();
                    return Err(self.bad(&format!("numbers of type {code:?}, \"f2\" or \"f4\" expected")));
                }
            }),
            (Global::Encode, [Object::Text(text), Object::Text(encoding)]) => match self.read(*encoding)?.as_str() {
                "latin1" | "latin-1" => {
                    let place = self.input.place(text.at);
                    Node::Bytes(Bytes { place, len: text.len.into(), is_latin1: true })
                }
                _ => return Ok(None),
            },
            (Global::FromBuffer, [bytes, dtype, shape, Object::Text(order)]) => {
                let is_fortran = match self.read(*order)?.as_str() {
                    "C" => false,
                    "F" => true,
                    _ => return Ok(None),
                };
                match self.array(*shape, *dtype, is_fortran, *bytes) {
                    Some(array) => Node::Array(Some(array)),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(self.add_node(made)))
    }

    /// An array's state, or a dtype's: (version, byte order, …).
    pub(super) fn build_numpy(&mut self, state: Object) -> Result<()> {
        let Some(Node::Tuple(state)) = self.node(state) else { return Err(self.bad("a tuple expected as a state")) };
        if state.len() > MOST_PARTS {
            return Err(self.bad("a state that nobody writes"));
        }
        let state = state.clone();
        match (self.top_node(), &state[..]) {
            (Some(Node::Dtype(_)), [Object::Int(_), Object::Text(order), ..]) => {
                let order = self.read(*order)?;
                if order == "<" { Ok(()) } else { Err(self.bad("numbers that are not little-endian")) }
            }
            (Some(Node::Array(None)), [Object::Int(1), shape, dtype, Object::Bool(is_fortran), bytes]) => {
                let array = self.array(*shape, *dtype, *is_fortran, *bytes);
                let array = array.ok_or_else(|| self.bad("a state that no array of numbers has"))?;
                if let Some(Node::Array(made)) = self.top_node() {
                    *made = Some(array);
                }
                Ok(())
            }
            _ => Err(self.bad("a state that nobody writes")),
        }
    }

    fn array(&self, shape: Object, dtype: Object, is_fortran: bool, bytes: Object) -> Option<Array> {
        let (Some(Node::Dtype(dtype)), Some(Node::Bytes(bytes))) = (self.node(dtype), self.node(bytes)) else {
            return None;
        };
        Some(Array { dtype: *dtype, shape: self.sizes(shape, 2)?, is_fortran, bytes: *bytes })
    }
}
