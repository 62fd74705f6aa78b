//! Bytes that protocol 2 of pickle writes as the UTF-8 of a text: a byte from 0x80 on takes two. They are decoded where they are wanted, from
//! the last place that was noted before.

use crate::{
    Error, Result,
    platform::{ByteSource, block_on},
};

/// Decoded bytes from one noted place to the next.
const STEP: u64 = 64 << 10;
/// Bytes of the file read at a time.
const PIECE: u64 = 1 << 20;

/// Where such bytes are.
pub(super) struct Latin1 {
    end: u64,
    len: u64,
    /// The file's place of every [`STEP`]th decoded byte.
    places: Vec<u64>,
}

impl Latin1 {
    /// Reads all of it once: `len` bytes from `place` of the file.
    pub(super) fn scan(source: &dyn ByteSource, place: u64, len: u64) -> Result<Self> {
        let (mut at, end) = (place, place + len);
        let (mut places, mut decoded) = (Vec::new(), 0);
        while at < end {
            let bytes = block_on(source.read(at, PIECE.min(end - at) as usize))?;
            let mut used = 0;
            while used < bytes.len() {
                let Some((_, taken)) = decode(&bytes[used..]) else {
                    if used > 0 && bytes.len() - used == 1 && at + (bytes.len() as u64) < end {
                        break;
                    }
                    let problem = "bytes written as a text expected, characters up to U+00FF";
                    return Err(Error::input(source.name(), format!("byte {}", at + used as u64), problem));
                };
                if decoded % STEP == 0 {
                    places.push(at + used as u64);
                }
                decoded += 1;
                used += taken;
            }
            at += used as u64;
        }
        Ok(Self { end, len: decoded, places })
    }

    /// Decoded bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// `len` decoded bytes from `start` on, which must be there.
    pub(super) fn read(&self, source: &dyn ByteSource, start: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        if len == 0 {
            return Ok(out);
        }
        let mut at = self.places[(start / STEP) as usize];
        let mut before = (start % STEP) as usize;
        while out.len() < len {
            let wanted = 2 * (before + len - out.len()) as u64;
            let bytes = block_on(source.read(at, wanted.min(PIECE).min(self.end - at) as usize))?;
            let mut used = 0;
            while out.len() < len
                && let Some((byte, taken)) = decode(&bytes[used..])
            {
                used += taken;
                if before > 0 {
                    before -= 1;
                } else {
                    out.push(byte);
                }
            }
            if used == 0 {
                return Err(Error::input(source.name(), format!("byte {at}"), "the file changed while it was read"));
            }
            at += used as u64;
        }
        Ok(out)
    }
}

/// The first byte of what is not empty, and how many bytes it takes; none where the text is cut or has another character.
fn decode(bytes: &[u8]) -> Option<(u8, usize)> {
    match *bytes {
        [byte @ ..0x80, ..] => Some((byte, 1)),
        [first @ 0xc2..=0xc3, second @ 0x80..=0xbf, ..] => Some((first << 6 | second & 0x3f, 2)),
        _ => None,
    }
}
