//! The zip directory: names, sizes and places of an archive's members. Only stored (uncompressed) members are used, as torch writes them.
//!
//! From the end: end record (22 bytes and a comment) → with zip64 its locator and longer record before it → central directory, one entry a
//! member → local header (30 bytes, name, extra field) → bytes. Format: PKWARE APPNOTE 6.3.

use crate::{
    Error, Result,
    platform::{ByteSource, block_on},
};

/// The largest central directory read: about half a million members.
const MAX_DIRECTORY: u64 = 64 << 20;
/// End record with the longest comment.
const MAX_END: u64 = 22 + 65_535;

/// A member of an archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    header_offset: u64,
    is_stored: bool,
}

/// All members of an archive.
pub(super) fn members(file: &dyn ByteSource) -> Result<Vec<Member>> {
    let (offset, size) = directory(file)?;
    if size > MAX_DIRECTORY {
        return Err(bad(file, offset, format!("a zip directory of {size} bytes, at most {MAX_DIRECTORY} expected")));
    }
    let bytes = block_on(file.read(offset, size as usize))?;
    let mut members = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let here = offset + at as u64;
        let (member, len) =
            member(&bytes[at..]).ok_or_else(|| bad(file, here, "an entry of the zip directory expected".into()))?;
        members.push(member);
        at += len;
    }
    Ok(members)
}

/// Offset and size of the central directory.
fn directory(file: &dyn ByteSource) -> Result<(u64, u64)> {
    let tail_start = file.size().saturating_sub(MAX_END + 20);
    let tail = block_on(file.read(tail_start, (file.size() - tail_start) as usize))?;
    let end = (0..tail.len().saturating_sub(21)).rev().find(|&at| tail[at..].starts_with(b"PK\x05\x06"));
    let end = end.ok_or_else(|| {
        bad(file, tail_start, "no zip directory at the end (file incomplete, or not a torch file)".into())
    })?;
    let (size, offset) = (u64::from(u32_at(&tail, end + 12)), u64::from(u32_at(&tail, end + 16)));
    if size != u64::from(u32::MAX) && offset != u64::from(u32::MAX) {
        return Ok((offset, size));
    }
    let locator = end.checked_sub(20).filter(|&at| tail[at..].starts_with(b"PK\x06\x07"));
    let locator = locator.ok_or_else(|| bad(file, tail_start + end as u64, "the zip64 locator is missing".into()))?;
    let record_offset = u64_at(&tail, locator + 8);
    let record = block_on(file.read(record_offset, 56))?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(bad(file, record_offset, "the zip64 end record expected".into()));
    }
    Ok((u64_at(&record, 48), u64_at(&record, 40)))
}

/// The first entry of a central directory, and its length; none when it is cut short.
fn member(entry: &[u8]) -> Option<(Member, usize)> {
    const FIXED: usize = 46;
    if entry.len() < FIXED || !entry.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (name_len, extra_len, comment_len) = (u16_at(entry, 28), u16_at(entry, 30), u16_at(entry, 32));
    let name = entry.get(FIXED..FIXED + name_len)?;
    let extra = entry.get(FIXED + name_len..FIXED + name_len + extra_len)?;
    let (packed, size, offset) = (u32_at(entry, 20), u32_at(entry, 24), u32_at(entry, 42));
    let mut long = zip64_numbers(extra);
    // The zip64 field holds only those numbers that do not fit, in this order.
    let mut widen = |short: u32| if short == u32::MAX { long.next() } else { Some(short.into()) };
    let (size, packed, header_offset) = (widen(size)?, widen(packed)?, widen(offset)?);
    let is_encrypted = u16_at(entry, 8) & 1 != 0;
    let is_stored = u16_at(entry, 10) == 0 && packed == size && !is_encrypted;
    let name = String::from_utf8_lossy(name).into_owned();
    Some((Member { name, size, header_offset, is_stored }, FIXED + name_len + extra_len + comment_len))
}

/// The 64-bit numbers of the zip64 extra field (id 1).
fn zip64_numbers(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut field = &[] as &[u8];
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0), u16_at(extra, 2));
        let Some(body) = extra.get(4..4 + len) else { break };
        if id == 1 {
            field = body;
        }
        extra = &extra[4 + len..];
    }
    field.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Member {
    /// Where the bytes begin. They are checked to be stored as they are, inside the file.
    pub(super) fn data_offset(&self, file: &dyn ByteSource) -> Result<u64> {
        if !self.is_stored {
            return Err(Error::input(
                file.name(),
                &self.name,
                "compressed or encrypted; torch stores its members as they are",
            ));
        }
        let header = block_on(file.read(self.header_offset, 30))?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(bad(file, self.header_offset, format!("the zip header of {:?} expected", self.name)));
        }
        let start = self.header_offset + 30 + u16_at(&header, 26) as u64 + u16_at(&header, 28) as u64;
        if start.checked_add(self.size).is_none_or(|end| end > file.size()) {
            return Err(bad(file, start, format!("{:?} reaches past the end of the file", self.name)));
        }
        Ok(start)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn bad(file: &dyn ByteSource, at: u64, problem: String) -> Error {
    Error::input(file.name(), format!("byte {at}"), problem)
}
