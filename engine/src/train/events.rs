//! TensorBoard's event files: scalars by step.
//!
//! A file is a sequence of TFRecords: length (u64), masked CRC-32C of the length, bytes, masked CRC-32C of the bytes, all little-endian
//! (tensorflow/core/lib/io/record_writer.h). Each holds an `Event` in protobuf's encoding (tensorboard/compat/proto/event.proto), of which we
//! write
//!
//! | message | fields |
//! | --- | --- |
//! | Event | 1 wall_time f64, 2 step i64, 3 file_version text, 5 summary, 7 session_log |
//! | Summary | 1 value (repeated): 1 tag text, 2 simple_value f32 |
//! | SessionLog | 1 status: 1 START |
//!
//! A run that goes on begins a file of its own, with a START at its first step: TensorBoard then forgets what earlier files say of that step and
//! later ones. Written here because the one crate for it (tensorboard-rs) has been given up since 2022, and the format is small.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Error, Result};

const PREFIX: &str = "events.out.tfevents.";

/// An event file under way.
pub(super) struct Events {
    file: File,
    name: String,
}

impl Events {
    /// Begins a file for the steps from `first`. TensorBoard reads a folder's files in the order of their names, which begin with the seconds
    /// since 1970: two runs within one second, or a clock that was set back, must not change their order.
    pub(super) fn create(folder: &Path, first: u64) -> Result<Self> {
        let io = |e: std::io::Error| Error::io(folder.display().to_string(), e);
        let names = folder.read_dir().map_err(io)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let second = |name: String| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok();
        let last = names.filter_map(second).max();
        let second = (seconds() as u64).max(last.map_or(0, |last| last.saturating_add(1)));
        let path = folder.join(format!("{PREFIX}{second:010}.selfrag.{}", std::process::id()));
        let name = path.display().to_string();
        let file = File::create_new(&path).map_err(|e| Error::io(&name, e))?;
        let mut events = Self { file, name };
        events.write(0, &field_bytes(3, b"brain.Event:2"))?;
        events.write(first, &field_bytes(7, &field_varint(1, 1)))?;
        Ok(events)
    }

    /// Writes a step's scalars.
    pub(super) fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f64)| {
            let simple = [&[2 << 3 | 5], &(value as f32).to_le_bytes()[..]].concat();
            field_bytes(1, &[field_bytes(1, tag.as_bytes()), simple].concat())
        };
        let summary: Vec<u8> = scalars.iter().flat_map(value).collect();
        self.write(step, &field_bytes(5, &summary))
    }

    fn write(&mut self, step: u64, what: &[u8]) -> Result<()> {
        let event = [&[1 << 3 | 1], &seconds().to_le_bytes()[..], &field_varint(2, step), what].concat();
        self.file.write_all(&record(&event)).map_err(|e| Error::io(&self.name, e))
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// TFRecord's frame.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), bytes, &masked(bytes).to_le_bytes()].concat()
}

/// The CRC of bytes that hold CRCs themselves is a poor one, so TFRecord turns and shifts it.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a few hundred bytes a step.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| bit(crc)))
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field_varint(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

fn field_bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len() as u64), bytes.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
