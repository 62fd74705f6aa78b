//! The header's parser: bytes in, metadata and tensor table out, or how many more bytes it takes.
//!
//! Every count and length is checked against the file's size before anything is allocated, and the total is bounded by
//! [`MAX_HEADER`] and [`MAX_ELEMENTS`], because the file may be anybody's.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    weights::{DType, Metadata, TensorInfo, Value},
};

/// A longer header is refused. The largest vocabularies (256,000 tokens with a tokenizer.json) stay under 50 MB.
const MAX_HEADER: u64 = 128 << 20;
/// Most array elements in all metadata together; each takes 32 bytes when parsed. Large vocabularies have about a million.
const MAX_ELEMENTS: u64 = 4 << 20;
/// Deepest nesting of arrays.
const MAX_DEPTH: usize = 4;

/// What the header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    /// Tensors with the offset of their bytes in the file.
    pub(super) tensors: Vec<(TensorInfo, u64)>,
}

/// The outcome of parsing the first bytes of a file.
#[derive(Debug)]
pub(super) enum Parsed {
    Complete(Header),
    /// The header is at least this long.
    NeedMore(u64),
}

/// Parses a header from the first `bytes` of a file that is `file_size` long.
pub(super) fn parse(file: &str, bytes: &[u8], file_size: u64) -> Result<Parsed> {
    let mut reader = Reader { file, bytes, at: 0, file_size, n_elements: 0 };
    match reader.header() {
        Ok(header) => Ok(Parsed::Complete(header)),
        Err(Stop::NeedMore(least)) => Ok(Parsed::NeedMore(least)),
        Err(Stop::Bad(error)) => Err(error),
    }
}

/// Why parsing stopped early.
enum Stop {
    NeedMore(u64),
    Bad(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Bad(error)
    }
}

struct Reader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
    file_size: u64,
    n_elements: u64,
}

impl<'a> Reader<'a> {
    fn header(&mut self) -> Result<Header, Stop> {
        let magic = self.take(4, "the magic GGUF")?;
        if magic != b"GGUF" {
            return Err(self.bad_at(0, format!("not a GGUF file: {magic:02x?} found, 'GGUF' expected")));
        }
        let version = self.u32("the version")?;
        if version.is_power_of_two() && version.trailing_zeros() >= 16 || version.swap_bytes() == 3 {
            return Err(self.bad_at(4, "a big-endian GGUF file; only little-endian ones are read".to_owned()));
        }
        if !(2..=3).contains(&version) {
            return Err(self.bad_at(4, format!("GGUF version {version} found, 2 or 3 expected")));
        }
        let n_tensors = self.u64("the number of tensors")?;
        let n_pairs = self.u64("the number of metadata pairs")?;
        // The smallest tensor entry is 8 + 4 + 8 + 4 + 8 bytes, the smallest pair 8 + 4 + 1.
        self.fits(n_tensors, 32, "tensors")?;
        self.fits(n_pairs, 13, "metadata pairs")?;
        let metadata = self.metadata(n_pairs)?;
        let alignment = match metadata.get("general.alignment") {
            None => super::DEFAULT_ALIGNMENT,
            Some(value) => match value.as_u64() {
                Some(n) if n.is_power_of_two() && n <= 1 << 20 => n,
                _ => return Err(self.bad("general.alignment", "a power of two up to 2^20 expected")),
            },
        };
        let table = self.tensor_table(n_tensors)?;
        let data_start = (self.at as u64).next_multiple_of(alignment);
        let tensors = table.into_iter().map(|(info, offset)| self.place(info, offset, data_start, alignment));
        Ok(Header { tensors: tensors.collect::<Result<_, Stop>>()?, metadata })
    }

    fn metadata(&mut self, n_pairs: u64) -> Result<Metadata, Stop> {
        let mut metadata = BTreeMap::new();
        for _ in 0..n_pairs {
            let start = self.at;
            let key = self.text("a metadata key")?;
            let type_id = self.u32(&key)?;
            let value = self.value(&key, type_id, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(self.bad_at(start, format!("the metadata key {key:?} occurs twice")));
            }
        }
        Ok(metadata)
    }

    fn value(&mut self, key: &str, type_id: u32, depth: usize) -> Result<Value, Stop> {
        Ok(match type_id {
            0 => Value::U64(self.array::<1>(key)?[0].into()),
            1 => Value::I64(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::U64(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::I64(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::U64(u32::from_le_bytes(self.array(key)?).into()),
            5 => Value::I64(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::F64(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::Text(self.text(key)?),
            9 => self.value_array(key, depth)?,
            10 => Value::U64(u64::from_le_bytes(self.array(key)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            _ => return Err(self.bad(key, &format!("value type {type_id} found, 0 to 12 expected"))),
        })
    }

    fn value_array(&mut self, key: &str, depth: usize) -> Result<Value, Stop> {
        let type_id = self.u32(key)?;
        let len = self.u64(key)?;
        let least_bytes = match type_id {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 if depth < MAX_DEPTH => 12,
            9 => return Err(self.bad(key, "arrays nested too deeply")),
            _ => return Err(self.bad(key, &format!("element type {type_id} found, 0 to 12 expected"))),
        };
        self.fits(len, least_bytes, key)?;
        self.n_elements += len;
        if self.n_elements > MAX_ELEMENTS {
            return Err(self.bad(key, &format!("more than {MAX_ELEMENTS} array elements in the metadata")));
        }
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(key, type_id, depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    fn tensor_table(&mut self, n_tensors: u64) -> Result<Vec<(TensorInfo, u64)>, Stop> {
        let mut table = Vec::new();
        for _ in 0..n_tensors {
            let name = self.text("a tensor name")?;
            let n_dims = self.u32(&name)?;
            if !(1..=4).contains(&n_dims) {
                return Err(self.bad(&name, &format!("{n_dims} dimensions found, 1 to 4 expected")));
            }
            let mut shape = Vec::new();
            for _ in 0..n_dims {
                let dim = self.u64(&name)?;
                match usize::try_from(dim) {
                    Ok(dim) if dim > 0 => shape.push(dim),
                    _ => return Err(self.bad(&name, &format!("a dimension of {dim} found"))),
                }
            }
            // ggml writes the innermost dimension first.
            shape.reverse();
            let type_id = self.u32(&name)?;
            let Some(dtype) = DType::from_ggml_id(type_id) else {
                let problem = format!(
                    "ggml type {type_id} is not supported (f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k are)"
                );
                return Err(self.bad(&name, &problem));
            };
            let offset = self.u64(&name)?;
            table.push((TensorInfo { name, dtype, shape }, offset));
        }
        Ok(table)
    }

    /// Checks that a tensor's bytes lie within the file.
    fn place(&self, info: TensorInfo, offset: u64, data_start: u64, alignment: u64) -> Result<(TensorInfo, u64), Stop> {
        let n_values = info.shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let cols = *info.shape.last().expect("at least one dimension was read");
        let Some((n_values, row_bytes)) = n_values.zip(info.dtype.checked_row_bytes(cols)) else {
            let problem = format!("shape {:?} is not whole blocks of {}, or too large", info.shape, info.dtype.name());
            return Err(self.bad(&info.name, &problem));
        };
        let end = (n_values / cols) as u64;
        let end = end.checked_mul(row_bytes as u64).and_then(|n| n.checked_add(offset)?.checked_add(data_start));
        if !offset.is_multiple_of(alignment) {
            return Err(
                self.bad(&info.name, &format!("offset {offset} is not a multiple of the alignment {alignment}"))
            );
        }
        if end.is_none_or(|end| end > self.file_size) {
            let problem = format!(
                "{:?} values of {} at byte {} reach past the end of the file at byte {} (download incomplete?)",
                info.shape,
                info.dtype.name(),
                data_start.saturating_add(offset),
                self.file_size
            );
            return Err(self.bad(&info.name, &problem));
        }
        Ok((info, data_start + offset))
    }

    /// Whether `count` items of at least `least_bytes` can be in the rest of the file.
    fn fits(&self, count: u64, least_bytes: u64, what: &str) -> Result<(), Stop> {
        let rest = self.file_size.min(MAX_HEADER).saturating_sub(self.at as u64);
        if count > rest / least_bytes {
            return Err(self.bad(what, &format!("{count} announced, but only {rest} bytes are left for them")));
        }
        Ok(())
    }

    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], Stop> {
        let end = (self.at as u64).saturating_add(len);
        if end > self.file_size {
            let problem = format!("{len} bytes expected for {what}, but the file ends at byte {}", self.file_size);
            return Err(self.bad_at(self.at, problem));
        }
        if end > MAX_HEADER {
            return Err(self.bad_at(self.at, format!("the header reaches past {MAX_HEADER} bytes with {what}")));
        }
        if end > self.bytes.len() as u64 {
            return Err(Stop::NeedMore(end));
        }
        let taken = &self.bytes[self.at..end as usize];
        self.at = end as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Stop> {
        Ok(self.take(N as u64, what)?.try_into().expect("N bytes were taken"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, Stop> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, Stop> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string. Bytes that are not UTF-8 become U+FFFD: some vocabularies hold such tokens, and no key or name does.
    fn text(&mut self, what: &str) -> Result<String, Stop> {
        let len = self.u64(what)?;
        Ok(String::from_utf8_lossy(self.take(len, what)?).into_owned())
    }

    fn bad(&self, place: &str, problem: &str) -> Stop {
        let place = format!("{} (byte {})", shorten(place), self.at);
        Stop::Bad(Error::input(self.file, place, problem))
    }

    fn bad_at(&self, at: usize, problem: String) -> Stop {
        Stop::Bad(Error::input(self.file, format!("byte {at}"), problem))
    }
}

/// A name from the file, short enough for a message.
fn shorten(name: &str) -> String {
    name.chars().take(80).collect()
}
