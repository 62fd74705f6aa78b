//! tokenizer.model of SentencePiece: a protocol-buffers message, of which a few fields matter.
//!
//! Wire format: a stream of (field number · 8 + wire type) varints, each followed by a varint (type 0), 8 bytes (1), a length and that many
//! bytes (2) or 4 bytes (5). Fields: `ModelProto.pieces` 1 {piece 1, score 2, type 3}, `trainer_spec` 2 {model_type 3, unk_id 40,
//! bos_id 41, eos_id 42, pad_id 43}, `normalizer_spec` 3 {add_dummy_prefix 3}.

use super::{TokenType, Vocabulary};
use crate::{Error, Result, weights::Value};

/// `TrainerSpec.ModelType.BPE`; the default is UNIGRAM = 1.
const MODEL_TYPE_BPE: u64 = 2;

pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Vocabulary> {
    let mut vocabulary = Vocabulary { model: "llama", ..Vocabulary::default() };
    let mut model_type = 1;
    let mut add_prefix = true;
    // SentencePiece's defaults; a negative id means that there is none.
    let mut ids = [(40, "unknown", 0_i64), (41, "bos", 1), (42, "eos", 2), (43, "padding", -1)];
    let mut message = Message { file, bytes, at: 0 };
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(piece)) => add_piece(file, piece, &mut vocabulary)?,
            (2, Field::Bytes(spec)) => {
                let mut spec = Message { file, bytes: spec, at: 0 };
                while let Some((number, field)) = spec.next()? {
                    let Field::Varint(n) = field else { continue };
                    match number {
                        3 => model_type = n,
                        _ => ids.iter_mut().filter(|row| row.0 == number).for_each(|row| row.2 = i64::from(n as i32)),
                    }
                }
            }
            (3, Field::Bytes(spec)) => {
                let mut spec = Message { file, bytes: spec, at: 0 };
                while let Some((number, field)) = spec.next()? {
                    if let (3, Field::Varint(n)) = (number, field) {
                        add_prefix = n != 0;
                    }
                }
            }
            _ => {}
        }
    }
    if model_type != MODEL_TYPE_BPE {
        let problem = format!("model type {model_type} found, BPE ({MODEL_TYPE_BPE}) expected");
        return Err(Error::input(file, "trainer_spec.model_type", problem));
    }
    for (_, name, id) in ids {
        if let Some(id) = u64::try_from(id).ok().filter(|&id| id < vocabulary.tokens.len() as u64) {
            vocabulary.extra.insert(format!("tokenizer.ggml.{name}_token_id"), Value::U64(id));
        }
    }
    vocabulary.extra.insert("tokenizer.ggml.add_space_prefix".into(), Value::Bool(add_prefix));
    Ok(vocabulary)
}

fn add_piece(file: &str, bytes: &[u8], vocabulary: &mut Vocabulary) -> Result<()> {
    let (mut text, mut score, mut token_type) = ("", 0.0, TokenType::Normal);
    let id = vocabulary.tokens.len() as u64;
    let bad = |problem: String| Error::input(file, format!("piece {id}"), problem);
    let mut message = Message { file, bytes, at: 0 };
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(piece)) => text = std::str::from_utf8(piece).map_err(|e| bad(e.to_string()))?,
            (2, Field::Four(bits)) => score = f32::from_bits(bits),
            (3, Field::Varint(n)) => {
                token_type = match n {
                    1 => TokenType::Normal,
                    2 => TokenType::Unknown,
                    3 => TokenType::Control,
                    4 => TokenType::UserDefined,
                    5 => TokenType::Unused,
                    6 => TokenType::Byte,
                    _ => return Err(bad(format!("piece type {n} found, 1 to 6 expected"))),
                }
            }
            _ => {}
        }
    }
    vocabulary.set(file, id, text, token_type)?;
    vocabulary.scores.push(score);
    Ok(())
}

/// A protocol-buffers message being read.
struct Message<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

enum Field<'a> {
    Varint(u64),
    Four(u32),
    Bytes(&'a [u8]),
    /// Eight bytes; no field of interest has them.
    Eight,
}

impl<'a> Message<'a> {
    /// The next field with its number; none at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Eight)?,
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => Field::Four(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken"))),
            other => return Err(self.bad(&format!("wire type {other} found, 0, 1, 2 or 5 expected"))),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(self.bad("a number longer than 64 bits"))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.bad(&format!("{len} bytes expected, fewer left")))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn bad(&self, problem: &str) -> Error {
        Error::input(self.file, format!("byte {} of a SentencePiece message", self.at), problem)
    }
}
