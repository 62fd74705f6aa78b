//! tokenizer.model of SentencePiece: a protocol-buffers message, of which a few fields matter.
//!
//! Wire format: fields, each a varint (number · 8 + wire type) and a value: a varint (type 0), 8 bytes (1), a length and that many
//! bytes (2), or 4 bytes (5). Read here: `pieces` 1 {text 1, score 2, type 3}, `trainer_spec` 2 {model_type 3, unk_id 40, bos_id 41,
//! eos_id 42}, `normalizer_spec` 3 {add_dummy_prefix 3}.

use super::{
    merges, model,
    vocabulary::{Kind, MAX_TOKENS, SpacePrefix, TokenType, Vocabulary},
};
use crate::{Error, Result};

/// `TrainerSpec.ModelType.BPE`; a file that does not say is UNIGRAM = 1.
const BPE: u64 = 2;

pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Vocabulary> {
    let mut vocabulary = Vocabulary::new(Kind::SentencePiece);
    let mut scores = Vec::new();
    let mut model_type = 1;
    let mut prefix = true;
    // unk, bos, eos with SentencePiece's defaults; negative means none.
    let mut ids = [0_i32, 1, 2];
    let mut message = Message { file, bytes, at: 0 };
    while let Some((number, value)) = message.next()? {
        match (number, value) {
            (1, Value::Bytes(piece)) => scores.push(read_piece(file, piece, &mut vocabulary)?),
            (2, Value::Bytes(spec)) => {
                let mut spec = Message { file, bytes: spec, at: 0 };
                while let Some((number, value)) = spec.next()? {
                    match (number, value) {
                        (3, Value::Varint(n)) => model_type = n,
                        // Protocol buffers write a negative int32 as the low bits of a 64-bit number.
                        (40..=42, Value::Varint(n)) => ids[number as usize - 40] = n as i32,
                        _ => {}
                    }
                }
            }
            (3, Value::Bytes(spec)) => {
                let mut spec = Message { file, bytes: spec, at: 0 };
                while let Some((number, value)) = spec.next()? {
                    if let (3, Value::Varint(n)) = (number, value) {
                        prefix = n != 0;
                    }
                }
            }
            _ => {}
        }
    }
    if model_type != BPE {
        let problem = format!("model type {model_type} found, BPE ({BPE}) expected");
        return Err(Error::input(file, "trainer_spec.model_type", problem));
    }
    if vocabulary.tokens.is_empty() {
        return Err(Error::input(file, "pieces", "none found"));
    }
    let n_tokens = vocabulary.tokens.len();
    let [unknown, bos, eos] = ids.map(|id| u32::try_from(id).ok().filter(|&id| (id as usize) < n_tokens));
    (vocabulary.unknown, vocabulary.bos, vocabulary.eos) = (unknown, bos, eos);
    vocabulary.stop_at(eos);
    vocabulary.add_bos = bos.is_some();
    vocabulary.space_prefix = if prefix { SpacePrefix::Always } else { SpacePrefix::Never };
    vocabulary.normalizer = Some(model::sentencepiece_normalizer());
    vocabulary.merges = merges::from_scores(&vocabulary, &scores);
    Ok(vocabulary)
}

/// Appends a piece and returns its score.
fn read_piece(file: &str, bytes: &[u8], vocabulary: &mut Vocabulary) -> Result<f32> {
    let id = vocabulary.tokens.len();
    let bad = |problem: String| Error::input(file, format!("piece {id}"), problem);
    if id >= MAX_TOKENS {
        return Err(bad(format!("at most {MAX_TOKENS} pieces expected")));
    }
    let (mut text, mut score, mut token_type) = ("", 0.0, TokenType::Normal);
    let mut message = Message { file, bytes, at: 0 };
    while let Some((number, value)) = message.next()? {
        match (number, value) {
            (1, Value::Bytes(piece)) => text = std::str::from_utf8(piece).map_err(|e| bad(e.to_string()))?,
            (2, Value::Four(bits)) => score = f32::from_bits(bits),
            (3, Value::Varint(n)) => {
                let known = TokenType::from_number(n);
                token_type = known.ok_or_else(|| bad(format!("type {n} found, 1 to 6 expected")))?;
            }
            _ => {}
        }
    }
    vocabulary.tokens.push(text.to_owned());
    vocabulary.types.push(token_type);
    Ok(score)
}

/// A protocol-buffers message being read.
struct Message<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

enum Value<'a> {
    Varint(u64),
    Four(u32),
    Bytes(&'a [u8]),
    /// Eight bytes; no field of interest has them.
    Eight,
}

impl<'a> Message<'a> {
    /// The next field's number and value; none at the end.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Eight)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Four(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken"))),
            other => return Err(self.bad(format!("wire type {other} found, 0, 1, 2 or 5 expected"))),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.bad("a number longer than 64 bits".into()))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.bad(format!("{len} bytes expected, fewer left")))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn bad(&self, problem: String) -> Error {
        Error::input(self.file, format!("byte {} of a SentencePiece message", self.at), problem)
    }
}
