//! A user's own documents: text split into passages, embedded, kept as one file each, searched beside the corpus.
//!
//! A file is `selfrag-document-1\n`, the SHA-256 of all that follows (64 hexadecimal digits and a line's end), the length of the JSON part
//! (8 bytes, little-endian), that part (name, encoder, passages), and int8 vectors as in [`vectors`](super::vectors). Nothing of a file is believed
//! before its hash is right, and a file made with another encoder is refused: its vectors mean something else.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Embedder, Passage,
    flat::{self, TopK},
    manifest::EncoderInfo,
    vectors::{Precision, Vectors},
};
use crate::{Error, Result, sentences::sentences};

/// Words of a passage, at most: what Wikipedia's passages of DPR have (arXiv 2004.04906, section 4.1), and Contriever was measured on.
pub const PASSAGE_WORDS: usize = 100;
/// Passages of a document, at most: two million words.
pub const MAX_PASSAGES: usize = 20_000;
/// Longest file that is read: as many passages of 100 long words with vectors of 1,024 values.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// First line of a file.
const MAGIC: &[u8] = b"selfrag-document-1\n";
/// Hexadecimal digits of the hash, and a line's end.
const HASH_BYTES: usize = 65;
/// Passages embedded at a time: enough for a GPU, few enough for a progress bar.
const BATCH: usize = 16;

/// A document's text as passages: whole sentences, up to [`PASSAGE_WORDS`] words, paragraphs on lines of their own. A form feed ends a page, and
/// no passage crosses one; where there are several, a passage's title names its page.
pub fn split(name: &str, text: &str) -> Result<Vec<Passage>> {
    let pages: Vec<&str> = text.split('\u{c}').collect();
    let n_pages = pages.iter().filter(|page| !page.trim().is_empty()).count();
    let mut passages = Vec::new();
    for (page, text) in pages.into_iter().enumerate() {
        let title = if n_pages > 1 { format!("{name}, page {}", page + 1) } else { name.to_owned() };
        for text in pieces(text) {
            passages.push(Passage { id: format!("{name}#{}", passages.len() + 1), title: title.clone(), text });
        }
    }
    match passages.len() {
        0 => Err(Error::input(name, "text", "none was found (a scanned document has pictures of text)")),
        n if n > MAX_PASSAGES => Err(Error::input(name, "text", format!("{n} passages, at most {MAX_PASSAGES}"))),
        _ => Ok(passages),
    }
}

/// A page's passages.
fn pieces(text: &str) -> Vec<String> {
    let (mut pieces, mut piece, mut words) = (Vec::new(), String::new(), 0);
    let mut end_before = 0;
    for range in sentences(text) {
        // White space between sentences becomes one blank, or one line's end where it had one.
        let between = &text[end_before..range.start];
        let mut gap = match between.contains('\n') {
            true => "\n",
            false if between.is_empty() => "",
            false => " ",
        };
        end_before = range.end;
        let parts: Vec<Part> = text[range].split_whitespace().flat_map(parts).collect();
        let whole: usize = parts.iter().map(|part| part.words).sum();
        // A sentence that fits a passage stays whole; one that does not (a table, a list without marks) goes on in the next.
        let least = if whole <= PASSAGE_WORDS { whole } else { 1 };
        if words + least > PASSAGE_WORDS {
            pieces.push(std::mem::take(&mut piece));
            words = 0;
        }
        for part in parts {
            if words + part.words > PASSAGE_WORDS {
                pieces.push(std::mem::take(&mut piece));
                words = 0;
            }
            if words > 0 {
                piece.push_str(gap);
            }
            piece.push_str(part.text);
            words += part.words;
            gap = if part.ends_word { " " } else { "" };
        }
    }
    if words > 0 {
        pieces.push(piece);
    }
    pieces
}

/// What is not divided: a word, or some characters of writing without blanks.
struct Part<'a> {
    text: &'a str,
    /// What it counts for in a passage's length.
    words: usize,
    /// Whether white space follows.
    ends_word: bool,
}

/// What stands between white space. A Chinese or Japanese character counts as a word, for to an encoder it is a token or more; of other writing
/// sixteen characters do, so that a web address or a line of code is no "word" of any length.
fn parts(word: &str) -> Vec<Part<'_>> {
    /// Sixteenths of a word in one part, at most.
    const MOST: usize = 10 * 16;
    let (mut parts, mut start, mut sixteenths) = (Vec::new(), 0, 0);
    for (at, char) in word.char_indices() {
        let more = if ('\u{2e80}'..='\u{d7ff}').contains(&char) || char >= '\u{f900}' { 16 } else { 1 };
        if sixteenths + more > MOST {
            parts.push(Part { text: &word[start..at], words: sixteenths.div_ceil(16), ends_word: false });
            (start, sixteenths) = (at, 0);
        }
        sixteenths += more;
    }
    parts.push(Part { text: &word[start..], words: sixteenths.div_ceil(16), ends_word: true });
    parts
}

/// A document with its passages' vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    name: String,
    passages: Vec<Passage>,
    /// int8
    vectors: Vectors,
}

/// What a file says beside its vectors.
#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    encoder: EncoderInfo,
    dim: usize,
    passages: Vec<Passage>,
}

impl Document {
    /// Splits and embeds a text, prepared as `encoder` says, the one of the store that it will be searched with; `progress` hears passages done and
    /// passages in all. Dropping the future stops it.
    pub async fn embed(
        name: &str,
        text: &str,
        embedder: &mut dyn Embedder,
        encoder: &EncoderInfo,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let passages = split(name, text)?;
        let mut vectors = Vectors::new(Precision::Int8, embedder.dim());
        progress(0, passages.len());
        for batch in passages.chunks(BATCH) {
            let text = |passage: &Passage| encoder.passage_prefix.clone() + &encoder.text.passage(passage);
            let texts: Vec<String> = batch.iter().map(text).collect();
            for vector in embedder.embed(&texts).await? {
                if vector.iter().any(|x| !x.is_finite()) {
                    return Err(Error::input(embedder.info().name, "output", "an embedding is not a finite number"));
                }
                vectors.push(&vector);
            }
            progress(vectors.rows(), passages.len());
        }
        Ok(Self { name: name.to_owned(), passages, vectors })
    }

    /// As the user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its passages, in order.
    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// The file's bytes; `encoder` made the vectors.
    pub fn to_bytes(&self, encoder: &EncoderInfo) -> Vec<u8> {
        let header = Header {
            name: self.name.clone(),
            encoder: encoder.clone(),
            dim: self.vectors.dim(),
            passages: self.passages.clone(),
        };
        let header = serde_json::to_vec(&header).expect("texts and numbers");
        let body = [&(header.len() as u64).to_le_bytes()[..], &header, &self.vectors.to_bytes()].concat();
        [MAGIC, hash(&body).as_bytes(), b"\n", &body].concat()
    }

    /// A document from a file's bytes; `file` names it in errors, `encoder` is the one that will embed questions, as vectors of `dim` values.
    pub fn from_bytes(file: &str, bytes: &[u8], encoder: &EncoderInfo, dim: usize) -> Result<Self> {
        let bad = |place: &str, problem: &str| Error::input(file, place, problem);
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(bad("size", &format!("{} bytes, at most {MAX_FILE_BYTES}", bytes.len())));
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("first line", "not a document kept by this version"))?;
        if rest.len() < HASH_BYTES + 8 {
            return Err(bad("size", "shorter than a document's beginning"));
        }
        let (said, body) = rest.split_at(HASH_BYTES);
        if said != [hash(body).as_bytes(), b"\n"].concat() {
            return Err(bad("sha256", "not that of the contents: the file is damaged"));
        }
        let (length, rest) = body.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let length = usize::try_from(length).ok().filter(|&length| length <= rest.len());
        let (header, vectors) = rest.split_at(length.ok_or_else(|| bad("JSON length", "more than the file has"))?);
        let header: Header = serde_json::from_slice(header).map_err(|e| bad("JSON", &e.to_string()))?;
        if header.encoder != *encoder {
            let problem =
                format!("made with {:?}, questions are embedded with {:?}", header.encoder.name, encoder.name);
            return Err(bad("encoder", &problem));
        }
        if header.passages.is_empty() || header.passages.len() > MAX_PASSAGES || header.dim != dim {
            let problem = format!("{} passages of {} values, {dim} expected", header.passages.len(), header.dim);
            return Err(bad("passages", &problem));
        }
        let vectors = Vectors::from_bytes(file, Precision::Int8, header.passages.len(), header.dim, vectors)?;
        Ok(Self { name: header.name, passages: header.passages, vectors })
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a question is answered from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The corpus alone.
    Corpus,
    /// Whatever of corpus and own documents is nearest.
    #[default]
    Both,
    /// The own documents alone.
    Documents,
}

/// All own documents.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    documents: Vec<Document>,
}

impl Documents {
    /// Adds a document, in place of one of the same name.
    pub fn add(&mut self, document: Document) {
        self.remove(&document.name);
        self.documents.push(document);
    }

    /// Removes a document; tells whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.documents.len();
        self.documents.retain(|document| document.name != name);
        self.documents.len() < before
    }

    /// The documents, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Document> {
        self.documents.iter()
    }

    /// Passages of all.
    pub fn n_passages(&self) -> usize {
        self.documents.iter().map(|document| document.passages.len()).sum()
    }

    /// The `k` passages with the largest inner product with `query`, best first; ties to what was added first. Exact, on the CPU: 10,000 passages
    /// take a millisecond or two.
    pub fn search(&self, query: &[f32], k: usize) -> Vec<(&Passage, f32)> {
        let mut best = TopK::new(k.min(self.n_passages()));
        let mut passages = Vec::with_capacity(self.n_passages());
        for document in &self.documents {
            for row in 0..document.vectors.rows() {
                let score = document.vectors.dot(row, query);
                best.push(flat::Scored { row: passages.len() as u32, score });
                passages.push(&document.passages[row]);
            }
        }
        best.finish().into_iter().map(|scored| (passages[scored.row as usize], scored.score)).collect()
    }
}

#[cfg(all(test, feature = "cli"))]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::{LocalFuture, block_on};

    /// Counts letters.
    pub(in crate::retriever) struct Letters;

    impl Embedder for Letters {
        fn dim(&self) -> usize {
            26
        }

        fn info(&self) -> EncoderInfo {
            let text = String::new;
            EncoderInfo {
                name: "letters".into(),
                sha256: text(),
                query_prefix: text(),
                passage_prefix: text(),
                ..info()
            }
        }

        fn limit_tokens(&mut self, _most: usize) {}

        fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
            let count = |text: &String| {
                let mut counts = vec![0.0; 26];
                let letters = text.bytes().filter(u8::is_ascii_lowercase);
                letters.for_each(|letter| counts[usize::from(letter - b'a')] += 1.0);
                counts
            };
            Box::pin(std::future::ready(Ok(texts.iter().map(count).collect())))
        }
    }

    pub(in crate::retriever) fn info() -> EncoderInfo {
        serde_json::from_value(serde_json::json!({
            "name": "x", "sha256": "", "normalised": false, "max_tokens": 9, "query_prefix": "", "passage_prefix": ""
        }))
        .unwrap()
    }

    fn document(name: &str, text: &str) -> Document {
        block_on(Document::embed(name, text, &mut Letters, &Letters.info(), &mut |_, _| ())).unwrap()
    }

    #[test]
    fn sentences_stay_whole_and_paragraphs_on_lines() {
        let sentence = |n: usize| format!("One {}ends here. ", "word ".repeat(n - 3));
        let text = format!("A title\n\n{}{}\n{}", sentence(60), sentence(37), sentence(50));
        let passages = split("notes.txt", &text).unwrap();
        let words = |passage: &Passage| passage.text.split_whitespace().count();
        assert_eq!(passages.iter().map(words).collect::<Vec<_>>(), [99, 50]);
        assert!(passages[0].text.starts_with("A title\nOne word"), "{}", passages[0].text);
        assert!(passages.iter().all(|passage| passage.text.ends_with("ends here.")));
        assert_eq!((&*passages[1].id, &*passages[1].title), ("notes.txt#2", "notes.txt"));
    }

    #[test]
    fn writing_without_blanks_is_divided_too() {
        let sentence = format!("{}。", "字".repeat(39));
        let passages = split("zh", &sentence.repeat(7)).unwrap();
        let characters: Vec<usize> = passages.iter().map(|passage| passage.text.chars().count()).collect();
        assert_eq!(characters, [80, 80, 80, 40], "two sentences each, the last alone");
        assert_eq!(passages.iter().map(|passage| &*passage.text).collect::<String>(), sentence.repeat(7));
        let passages = split("code", &"x".repeat(5000)).unwrap();
        assert!(passages.len() == 4 && passages.iter().all(|passage| passage.text.len() <= 1600), "{}", passages.len());
        // A file of marks or line ends alone takes no time to speak of.
        for odd in [".", "\n", ".]", ".[.]", "!?", "a.b"] {
            let _ = split("odd", &format!("{}x", odd.repeat(200_000)));
        }
    }

    #[test]
    fn pages_are_named_and_never_crossed() {
        let passages = split("a.pdf", "One.\u{c}\u{c}Two. Three.").unwrap();
        let found: Vec<_> = passages.iter().map(|p| (&*p.title, &*p.text)).collect();
        assert_eq!(found, [("a.pdf, page 1", "One."), ("a.pdf, page 3", "Two. Three.")]);
        assert_eq!(split("b.txt", "One.\u{c}").unwrap()[0].title, "b.txt");
        let error = split("scan.pdf", " \n\u{c} ").unwrap_err().to_string();
        assert!(error.starts_with("scan.pdf: text: none was found"), "{error}");
        let error = split("long", &"a. ".repeat(101 * MAX_PASSAGES)).unwrap_err().to_string();
        assert!(error.contains("at most 20000"), "{error}");
    }

    #[test]
    fn the_nearest_passages_of_all_documents_are_found_until_they_are_removed() {
        let mut documents = Documents::default();
        documents.add(document("fruit", "aa bb.\u{c}zz zz."));
        documents.add(document("tools", "zzz qq."));
        let query = &block_on(Letters.embed(&["z".into()])).unwrap()[0];
        let found = |documents: &Documents, k| -> Vec<String> {
            documents.search(query, k).into_iter().map(|(passage, _)| passage.id.clone()).collect()
        };
        assert_eq!(found(&documents, 2), ["fruit#2", "tools#1"]);
        assert_eq!(found(&documents, 9).len(), 3);
        documents.add(document("tools", "none of them."));
        assert_eq!(documents.n_passages(), 3);
        assert!(documents.remove("fruit") && !documents.remove("fruit"));
        assert_eq!(found(&documents, 9), ["tools#1"]);
    }

    #[test]
    fn progress_and_files_cover_every_passage() {
        let text = "Some words of a sentence that is a little long. ".repeat(600);
        let mut heard = Vec::new();
        let mut progress = |done, all| heard.push((done, all));
        let document = block_on(Document::embed("d", &text, &mut Letters, &Letters.info(), &mut progress));
        let document = document.unwrap();
        let n = document.passages().len();
        let expected: Vec<_> = (0..n).step_by(BATCH).chain([n]).map(|done| (done, n)).collect();
        assert_eq!(heard, expected);
        let bytes = document.to_bytes(&Letters.info());
        assert_eq!(Document::from_bytes("f", &bytes, &Letters.info(), 26).unwrap(), document);
        let error = Document::from_bytes("f", &bytes, &info(), 26).unwrap_err().to_string();
        assert!(error.contains("f: encoder: made with \"letters\""), "{error}");
        let error = Document::from_bytes("f", &bytes, &Letters.info(), 8).unwrap_err().to_string();
        assert!(error.contains("of 26 values, 8 expected"), "{error}");
    }

    proptest! {
        #[test]
        fn every_word_is_in_one_passage(text in "([a-zA-Z]{1,9}[ .\n,\u{c}]{1,2}){0,400}") {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let found: Vec<String> = split("d", &text).into_iter().flatten().flat_map(|p| words(&p.text)).collect();
            prop_assert_eq!(found, words(&text.replace('\u{c}', " ")));
        }

        #[test]
        fn any_change_is_found(at in 0usize..2000, flip in 1u8..=255) {
            let mut bytes = document("d", "Some text. And more of it.").to_bytes(&Letters.info());
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(Document::from_bytes("f", &bytes, &Letters.info(), 26).is_err());
            prop_assert!(Document::from_bytes("f", &bytes[..at], &Letters.info(), 26).is_err());
        }
    }
}
