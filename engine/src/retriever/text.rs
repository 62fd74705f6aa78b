//! What of a passage and a question is embedded: Contriever's options, off by default.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Passage;

/// How texts are prepared. A store remembers it, so that questions are prepared as its passages were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextOptions {
    /// Passages without their titles.
    pub no_title: bool,
    /// In lower case.
    pub lowercase: bool,
    /// With plain hyphens, quotes, apostrophes, slashes and spaces ([`normalize`]).
    pub normalize_text: bool,
}

impl TextOptions {
    /// Whether nothing is changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What of a passage is embedded: title, a space, text (`generate_passage_embeddings.py`).
    pub fn passage(&self, passage: &Passage) -> String {
        let text = match passage.title.as_str() {
            "" => passage.text.clone(),
            _ if self.no_title => passage.text.clone(),
            title => format!("{title} {}", passage.text),
        };
        self.prepare(Cow::Owned(text))
    }

    /// What of a question is embedded.
    pub fn question(&self, question: &str) -> String {
        self.prepare(Cow::Borrowed(question))
    }

    fn prepare(&self, text: Cow<'_, str>) -> String {
        let text = if self.lowercase { text.to_lowercase().into() } else { text };
        if self.normalize_text { normalize(&text) } else { text.into_owned() }
    }
}

/// Contriever's `normalize_text.py`, which is ChemDataExtractor's: control characters and soft hyphens go, unusual spaces, hyphens, quotes,
/// primes, dots and slashes become plain ones.
pub fn normalize(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        let replaced = match char {
            '\u{1}'..='\u{8}' | '\u{e}'..='\u{f}' | '\u{11}'..='\u{1b}' | '\u{ad}' => "",
            '\u{b}' | '\u{c}' | '\u{85}' => " ",
            '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{ff0d}' | '\u{207b}' => "-",
            '\u{201c}'..='\u{201f}' => "\"",
            '\u{2018}'..='\u{201b}' | '\u{55a}' | '\u{a78b}' | '\u{a78c}' | '\u{ff07}' | '`' | '\u{b4}' => "'",
            '\u{2032}' | '\u{2035}' => "'",
            '\u{2033}' | '\u{2036}' => "''",
            '\u{2034}' | '\u{2037}' => "'''",
            '\u{2057}' => "''''",
            '\u{2026}' => "...",
            '\u{2044}' | '\u{2215}' => "/",
            other => {
                plain.push(other);
                continue;
            }
        };
        plain.push_str(replaced);
    }
    plain.replace(" . . . ", " ... ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_prepared_as_contriever_does() {
        let passage =
            Passage {
                id: "1".into(), title: "Ünder — Score".into(), text: "It’s “so” … \u{b}5′\u{ad}".into()
            };
        let all = |no_title, lowercase, normalize_text| TextOptions { no_title, lowercase, normalize_text };
        assert_eq!(TextOptions::default().passage(&passage), "Ünder — Score It’s “so” … \u{b}5′\u{ad}");
        assert_eq!(all(true, false, true).passage(&passage), "It's \"so\" ...  5'");
        assert_eq!(all(false, true, true).passage(&passage), "ünder - score it's \"so\" ...  5'");
        assert_eq!(all(true, true, false).question("WHO’S"), "who’s");
        assert_eq!(TextOptions::default().passage(&Passage { title: String::new(), ..passage.clone() }), passage.text);
    }

    #[test]
    fn every_character_of_the_tables_and_no_other_changes() {
        assert_eq!(normalize("a . . . b . . . . c"), "a ... b ... . c");
        assert_eq!(normalize("\u{2057}\u{2034}\u{2037}\u{2033}\u{2036}\u{2032}\u{2035}"), "'".repeat(16));
        assert_eq!(
            normalize("\u{2010}\u{2011}\u{2043}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{ff0d}\u{207b}"),
            "-".repeat(10)
        );
        assert_eq!(normalize("`´\u{55a}\u{a78b}\u{a78c}\u{ff07}‘’‚‛“”„‟\u{2044}\u{2215}"), "''''''''''\"\"\"\"//");
        // As in the original, U+0000, U+0010 and tildes stay.
        let stays = "\u{0}\t\n\r\u{10}\u{1c}~\u{223c}é\u{a0}東-'\"/";
        assert_eq!(normalize(stays), stays);
    }
}
