//! Tokens → text, one at a time: what can not yet be shown (the first bytes of a character) waits.

use std::collections::HashMap;

use super::{
    Tokenizer,
    vocabulary::{Kind, TokenType},
};

/// How a kind of vocabulary writes bytes.
pub(super) struct TokenBytes {
    kind: Kind,
    /// Byte-level vocabularies: the byte that each printable character stands for.
    bytes: HashMap<char, u8>,
}

impl TokenBytes {
    pub(super) fn new(kind: Kind) -> Self {
        let bytes = if kind == Kind::ByteLevel { byte_alphabet().collect() } else { HashMap::new() };
        Self { kind, bytes }
    }

    pub(super) fn is_word_piece(&self) -> bool {
        self.kind == Kind::WordPiece
    }

    /// What a token's text stands for.
    pub(super) fn of(&self, token: &str, token_type: TokenType) -> Vec<u8> {
        match self.kind {
            Kind::SentencePiece => match byte_token(token).filter(|_| token_type == TokenType::Byte) {
                Some(byte) => vec![byte],
                None => token.replace('\u{2581}', " ").into_bytes(),
            },
            // Added tokens are written as plain text, not in the byte alphabet.
            Kind::ByteLevel if token_type == TokenType::UserDefined => token.as_bytes().to_vec(),
            Kind::ByteLevel => token.chars().flat_map(|c| self.byte_of(c)).collect(),
            Kind::WordPiece => match token.strip_prefix("##") {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {token}").into_bytes(),
            },
        }
    }

    fn byte_of(&self, c: char) -> Vec<u8> {
        self.bytes.get(&c).map_or_else(|| c.to_string().into_bytes(), |&byte| vec![byte])
    }
}

/// `<0x0A>` → 10.
fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// GPT-2's bytes as printable characters: those that print stand for themselves, the others for U+0100 onwards in order.
fn byte_alphabet() -> impl Iterator<Item = (char, u8)> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255_u8).filter(move |byte| !prints(byte));
    let shifted = others.zip(0x100_u32..).filter_map(|(byte, code)| Some((char::from_u32(code)?, byte)));
    (0..=255_u8).filter(prints).map(|byte| (char::from(byte), byte)).chain(shifted)
}

/// Turns tokens into text as they come. Give every call the same tokenizer.
#[derive(Debug, Clone, Default)]
pub struct DecodeStream {
    /// The beginning of a character whose other bytes have not come yet.
    pending: Vec<u8>,
    /// Whether any text has been given out.
    started: bool,
}

impl DecodeStream {
    /// For text that goes on after a special token: a leading space is the text's own.
    pub fn continuing() -> Self {
        Self { started: true, ..Self::default() }
    }

    /// The text that `id` completes; may be empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let Some(bytes) = tokenizer.token_bytes(id) else { return String::new() };
        let skip = usize::from(!self.started && tokenizer.strips_first_space() && bytes.first() == Some(&b' '));
        self.started |= !bytes.is_empty();
        self.pending.extend_from_slice(&bytes[skip..]);
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            // An incomplete character can only be at the end, and is then at most three bytes.
            let tail = chunk.invalid();
            if !tail.is_empty() && (done + tail.len() < self.pending.len() || !may_continue(tail)) {
                text.push(char::REPLACEMENT_CHARACTER);
                done += tail.len();
            }
        }
        self.pending.drain(..done);
        text
    }

    /// What is left at the end: U+FFFD for a character that was never completed.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Whether more bytes could make these one character.
fn may_continue(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}
