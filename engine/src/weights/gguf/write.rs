//! The header's writer: metadata and tensor table to bytes.
//!
//! [`Value`] knows no widths, llama.cpp insists on them: whole numbers are written as 32 bits when they fit and 64 otherwise, fractions
//! as 32-bit floats (all of GGUF's standard keys are), except for the few keys in [`narrow_type`].

use crate::{
    Error, Result,
    weights::{Metadata, TensorInfo, Value},
};

/// Where `general.alignment` is absent.
pub const DEFAULT_ALIGNMENT: u64 = 32;

const U8: u32 = 0;
const U16: u32 = 2;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;
const I64: u32 = 11;

/// The whole header of version 3, padded to the alignment, and the offset of each tensor from its end. The alignment is
/// `general.alignment` of `metadata`, or [`DEFAULT_ALIGNMENT`].
pub fn encode_header(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<(Vec<u8>, Vec<u64>)> {
    let alignment = metadata.get("general.alignment").and_then(Value::as_u64).unwrap_or(DEFAULT_ALIGNMENT);
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut out, key);
        put_value(&mut out, key, value)?;
    }
    let mut offsets = Vec::new();
    let mut offset = 0_u64;
    for tensor in tensors {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for &dim in tensor.shape.iter().rev() {
            out.extend((dim as u64).to_le_bytes());
        }
        out.extend(tensor.dtype.ggml_id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offsets.push(offset);
        offset = (offset + tensor.matrix().0 as u64 * tensor.row_bytes() as u64).next_multiple_of(alignment);
    }
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
    Ok((out, offsets))
}

/// Keys for which the file must have a narrower type than the value needs.
fn narrow_type(key: &str) -> Option<u32> {
    match key {
        "split.no" | "split.count" => Some(U16),
        "tokenizer.ggml.precompiled_charsmap" => Some(U8),
        "split.tensors.count" => Some(I32),
        _ => None,
    }
}

fn type_of(key: &str, value: &Value) -> u32 {
    match value {
        Value::U64(n) => narrow_type(key).unwrap_or(if *n <= u32::MAX.into() { U32 } else { U64 }),
        Value::I64(n) => narrow_type(key).unwrap_or(if i32::try_from(*n).is_ok() { I32 } else { I64 }),
        Value::F64(_) => F32,
        Value::Bool(_) => BOOL,
        Value::Text(_) => TEXT,
        Value::Array(_) => ARRAY,
    }
}

fn put_value(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<()> {
    let type_id = type_of(key, value);
    out.extend(type_id.to_le_bytes());
    put_payload(out, key, value, type_id)
}

fn put_payload(out: &mut Vec<u8>, key: &str, value: &Value, type_id: u32) -> Result<()> {
    match value {
        Value::U64(n) => put_integer(out, key, i128::from(*n), type_id)?,
        Value::I64(n) => put_integer(out, key, i128::from(*n), type_id)?,
        Value::F64(x) => out.extend((*x as f32).to_le_bytes()),
        Value::Bool(b) => out.push((*b).into()),
        Value::Text(text) => put_text(out, text),
        Value::Array(values) => put_array(out, key, values)?,
    }
    Ok(())
}

fn put_integer(out: &mut Vec<u8>, key: &str, n: i128, type_id: u32) -> Result<()> {
    let problem = || Error::config(key, format!("{n} does not fit its GGUF type"));
    match type_id {
        U8 => out.push(u8::try_from(n).map_err(|_| problem())?),
        U16 => out.extend(u16::try_from(n).map_err(|_| problem())?.to_le_bytes()),
        U32 => out.extend(u32::try_from(n).map_err(|_| problem())?.to_le_bytes()),
        I32 => out.extend(i32::try_from(n).map_err(|_| problem())?.to_le_bytes()),
        U64 => out.extend(u64::try_from(n).map_err(|_| problem())?.to_le_bytes()),
        _ => out.extend(i64::try_from(n).map_err(|_| problem())?.to_le_bytes()),
    }
    Ok(())
}

/// All elements get the type of the widest. An empty array has lost its type; 32-bit integers are as good as any.
fn put_array(out: &mut Vec<u8>, key: &str, values: &[Value]) -> Result<()> {
    let type_id = values.iter().map(|value| type_of(key, value)).max().unwrap_or(I32);
    let mixed = |value: &Value| std::mem::discriminant(value) != std::mem::discriminant(&values[0]);
    if values.iter().any(mixed) {
        return Err(Error::config(key, "an array of mixed types cannot be written"));
    }
    out.extend(type_id.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    values.iter().try_for_each(|value| put_payload(out, key, value, type_id))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
