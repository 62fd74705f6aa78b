//! PyTorch's `pytorch_model.bin`: a zip archive of one pickle that describes the tensors, and one stored member for each storage.
//!
//! The pickle is read by [`crate::pickle`], which runs nothing. The values themselves are not touched: each tensor becomes a place in the file.
//! The format before PyTorch 1.6 (no zip) is refused.

mod zip;

use std::collections::HashMap;

use super::{
    DType,
    stored::{StoredTensor, checked_bytes},
};
use crate::{
    Error, Result,
    pickle::torch::{PickledTensor, Storage, read_state},
    platform::{ByteSource, block_on},
};
use zip::Member;

/// The largest pickle read. 10,000 tensors take about 2 MB.
const MAX_PICKLE: u64 = 16 << 20;

/// The tensors of a torch file.
pub(crate) fn read_table(file: &dyn ByteSource) -> Result<Vec<StoredTensor>> {
    let start = block_on(file.read(0, file.size().min(4) as usize))?;
    if start.first() == Some(&0x80) {
        let problem = "the format before PyTorch 1.6 is not read; load and save it once with a newer PyTorch";
        return Err(Error::input(file.name(), "byte 0", problem));
    }
    let members = zip::members(file)?;
    let pickle = members.iter().find(|member| member.name.ends_with("/data.pkl"));
    let pickle = pickle.ok_or_else(|| Error::input(file.name(), "data.pkl", "missing: not a file of torch.save"))?;
    let root = pickle.name.strip_suffix("data.pkl").expect("the name was found by its end");
    let by_name: HashMap<&str, &Member> = members.iter().map(|member| (member.name.as_str(), member)).collect();
    check_byte_order(file, &by_name, root)?;
    if pickle.size > MAX_PICKLE {
        let problem = format!("{} bytes found, at most {MAX_PICKLE} expected", pickle.size);
        return Err(Error::input(file.name(), &pickle.name, problem));
    }
    let tensors = read_state(file, pickle.data_offset(file)?, pickle.size)?;
    tensors.into_iter().map(|tensor| locate(file, tensor, &by_name, root)).collect()
}

fn check_byte_order(file: &dyn ByteSource, members: &HashMap<&str, &Member>, root: &str) -> Result<()> {
    let Some(member) = members.get(format!("{root}byteorder").as_str()) else { return Ok(()) };
    let order = block_on(file.read(member.data_offset(file)?, member.size.min(16) as usize))?;
    if order.trim_ascii() != b"little" {
        return Err(Error::input(
            file.name(),
            "byteorder",
            format!("{:?} found, little expected", String::from_utf8_lossy(&order)),
        ));
    }
    Ok(())
}

/// Finds a tensor's bytes in the archive.
fn locate(
    file: &dyn ByteSource,
    tensor: PickledTensor,
    members: &HashMap<&str, &Member>,
    root: &str,
) -> Result<StoredTensor> {
    let PickledTensor { name, storage, offset, shape, stride } = tensor;
    let bad = |problem: String| Error::input(file.name(), &name, problem);
    let member = members.get(format!("{root}data/{}", storage.key).as_str());
    let member = member.ok_or_else(|| bad(format!("its storage data/{} is missing", storage.key)))?;
    let width = element_bytes(&storage).ok_or_else(|| bad(format!("unknown storage {}", storage.type_name)))?;
    let (dtype, needed) = match is_row_major(&shape, &stride) {
        true => (dtype(&storage), checked_bytes(&shape, width)),
        // Nothing is read of it, so nothing needs to be there.
        false => (Err(format!("{} with strides {stride:?} (not row-major)", storage.type_name)), Some(0)),
    };
    let begin = offset.checked_mul(width as u64);
    let end = begin.zip(needed).and_then(|(begin, needed)| begin.checked_add(needed));
    match (begin, end) {
        (Some(begin), Some(end)) if end <= member.size => {
            Ok(StoredTensor { dtype, shape, offset: member.data_offset(file)? + begin, name })
        }
        _ => {
            Err(bad(format!("shape {shape:?} from element {offset} reaches past its storage of {} bytes", member.size)))
        }
    }
}

fn element_bytes(storage: &Storage) -> Option<usize> {
    Some(match storage.type_name {
        "DoubleStorage" | "LongStorage" => 8,
        "FloatStorage" | "IntStorage" => 4,
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
        "CharStorage" | "ByteStorage" | "BoolStorage" => 1,
        _ => return None,
    })
}

fn dtype(storage: &Storage) -> Result<DType, String> {
    match storage.type_name {
        "FloatStorage" => Ok(DType::F32),
        "HalfStorage" => Ok(DType::F16),
        "BFloat16Storage" => Ok(DType::Bf16),
        other => Err(other.to_owned()),
    }
}

/// Whether the strides are those of a contiguous row-major tensor; a dimension of 1 may have any.
fn is_row_major(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1_usize;
    shape.len() == stride.len()
        && shape.iter().zip(stride).rev().all(|(&dim, &stride)| {
            let fits = dim == 1 || stride == expected;
            expected = expected.saturating_mul(dim);
            fits
        })
}
