//! A state dictionary as `torch.save` pickles it.

use super::{Global, Kind, Machine, Node, Object, input::Input};
use crate::{Result, platform::ByteSource};

/// A tensor as the pickle describes it.
#[derive(Debug, Clone)]
pub(crate) struct PickledTensor {
    pub(crate) name: String,
    pub(crate) storage: Storage,
    /// First element in the storage.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<usize>,
    pub(crate) stride: Vec<usize>,
}

/// A storage: the archive's member `data/KEY`.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// `FloatStorage`, `HalfStorage`, …
    pub(crate) type_name: &'static str,
    pub(crate) key: String,
}

/// Most dimensions of a tensor; a model's weights have two.
const MOST_DIMENSIONS: usize = 8;
/// Longest key of a storage; torch counts.
const MOST_KEY: u32 = 64;

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

pub(super) fn global(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
        ("torch", name) => STORAGES.iter().find(|storage| **storage == name).map(|storage| Global::Storage(storage)),
        _ => None,
    }
}

/// Reads the tensors of a state dictionary, `size` bytes from `start` of a file, in its order. Entries that are no tensors are left out.
pub(crate) fn read_state(file: &dyn ByteSource, start: u64, size: u64) -> Result<Vec<PickledTensor>> {
    let mut machine = Machine::new(Kind::State, Input::new(file, start, size, " of data.pkl"));
    let top = machine.run()?;
    let Some(Node::Dict(entries)) = machine.node(top) else {
        return Err(machine.bad("a dictionary of tensors expected at the top"));
    };
    let (mut tensors, mut names) = (Vec::new(), 0);
    for (key, value) in entries.clone() {
        let Object::Text(key) = key else { continue };
        let Some(Node::Tensor { storage, offset, shape, stride }) = machine.node(value) else { continue };
        let (storage, offset, shape, stride) = (storage.clone(), *offset, shape.clone(), stride.clone());
        // One name may be remembered and used again and again.
        names += u64::from(key.len);
        if names > size {
            return Err(machine.bad("names that are longer than the pickle"));
        }
        tensors.push(PickledTensor { name: machine.read(key)?, storage, offset, shape, stride });
    }
    Ok(tensors)
}

impl Machine<'_> {
    /// ('storage', type, key, device, length) → storage.
    pub(super) fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let parts = match self.node(id) {
            Some(Node::Tuple(items)) => match items[..] {
                [Object::Text(kind), Object::Global(Global::Storage(type_name)), Object::Text(key), ..] => {
                    Some((kind, type_name, key))
                }
                _ => None,
            },
            _ => None,
        };
        let storage = match parts {
            Some((kind, type_name, key)) if key.len <= MOST_KEY && self.read(kind)? == "storage" => {
                Storage { type_name, key: self.read(key)? }
            }
            _ => return Err(self.bad("a persistent id that is no storage")),
        };
        self.push_node(Node::Storage(storage));
        Ok(())
    }

    pub(super) fn call_torch(&mut self, global: Global, arguments: &[Object]) -> Option<Object> {
        let made = match (global, arguments) {
            (Global::OrderedDict, []) => Node::Dict(Vec::new()),
            (Global::RebuildParameter, [tensor @ Object::Node(_), ..]) => return Some(*tensor),
            (Global::RebuildTensor, [storage, Object::Int(offset), shape, stride, ..]) => {
                let Some(Node::Storage(storage)) = self.node(*storage) else { return None };
                let offset = u64::try_from(*offset).ok()?;
                let (shape, stride) = (self.sizes(*shape, MOST_DIMENSIONS)?, self.sizes(*stride, MOST_DIMENSIONS)?);
                Node::Tensor { storage: storage.clone(), offset, shape, stride }
            }
            _ => return None,
        };
        Some(self.add_node(made))
    }

    /// Attributes of a dictionary (`_metadata`) or tensor do not change its values; nothing else may have any.
    pub(super) fn build_torch(&mut self) -> Result<()> {
        match self.top_node() {
            Some(Node::Dict(_) | Node::Tensor { .. }) => Ok(()),
            _ => Err(self.bad("attributes of something that has none")),
        }
    }
}
