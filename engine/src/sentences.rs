//! A passage's sentences, by plain rules for English and its neighbours: good enough to quote one.

use std::ops::Range;

/// Words with a full stop that end no sentence.
const ABBREVIATIONS: [&str; 48] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "rev", "gen", "col", "lt", "sgt", "capt", "cmdr", "gov", "sen",
    "rep", "pres", "hon", "vs", "etc", "al", "cf", "ca", "c", "approx", "no", "nos", "vol", "pp", "p", "fig", "ed",
    "eds", "op", "dept", "inc", "ltd", "co", "corp", "mt", "ft", "jan", "feb", "aug", "sept", "dec",
];
/// Words that begin a sentence more often than they go on after an abbreviation such as `U.S.`
const STARTERS: [&str; 24] = [
    "The", "In", "It", "He", "She", "They", "This", "These", "Those", "A", "An", "However", "On", "At", "As", "By",
    "For", "From", "After", "During", "When", "While", "Its", "There",
];

/// Marks, and notes, that are looked at behind a full stop: each may be one itself, and a text of nothing else must not take for ever.
const MOST_MARKS: usize = 32;

/// Where the sentences are, without the white space between them. Every character that is not white space belongs to one.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut depth) = (0, 0_i32);
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let mut at = 0;
    while at < chars.len() {
        let (byte, char) = chars[at];
        at += 1;
        match char {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = (depth - 1).max(0),
            // Lines are paragraphs, but for some passages that are wrapped in the middle of sentences.
            '\n' => {
                // The whole stretch at once: a file of line ends alone must not be looked through again for each.
                at += chars[at..].iter().take_while(|(_, char)| char.is_whitespace()).count();
                if !chars.get(at).is_some_and(|(_, char)| char.is_lowercase()) {
                    push(text, start..byte, &mut ranges);
                    (start, depth) = (byte, 0);
                }
            }
            // Full-width marks end a sentence whatever follows.
            '。' | '！' | '？' => {
                let after = chars.get(at).map_or(text.len(), |(byte, _)| *byte);
                push(text, start..after, &mut ranges);
                (start, depth) = (after, 0);
            }
            '.' | '!' | '?' => {
                let marks =
                    |char: &(usize, char)| matches!(char.1, '.' | '!' | '?' | '"' | '\'' | '”' | '’' | ')' | ']');
                let mut end = at;
                while end - at < MOST_MARKS && chars.get(end).is_some_and(marks) {
                    end += 1;
                }
                // Notes right behind the mark belong to its sentence: `it is.[1][citation needed] Then`.
                for _ in 0..MOST_MARKS {
                    let Some(note) = note(&chars[end..]) else { break };
                    end += note;
                }
                let closed = chars[at..end].iter().filter(|(_, char)| matches!(char, ')' | ']')).count();
                let opened = chars[at..end].iter().filter(|(_, char)| matches!(char, '(' | '[')).count();
                let closed = closed.saturating_sub(opened) as i32;
                let after = chars.get(end).map_or(text.len(), |(byte, _)| *byte);
                if depth <= closed && ends(text, byte, char, after) {
                    push(text, start..after, &mut ranges);
                    (start, depth, at) = (after, 0, end);
                }
            }
            _ => {}
        }
    }
    push(text, start..text.len(), &mut ranges);
    ranges
}

/// How long a note in brackets is that begins here.
fn note(chars: &[(usize, char)]) -> Option<usize> {
    /// Longest note.
    const LONGEST: usize = 32;
    if chars.first()?.1 != '[' {
        return None;
    }
    chars.iter().take(LONGEST).position(|(_, char)| *char == ']').map(|close| close + 1)
}

fn push(text: &str, range: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    let piece = &text[range.clone()];
    let trimmed = piece.trim();
    if !trimmed.is_empty() {
        let start = range.start + (piece.len() - piece.trim_start().len());
        ranges.push(start..start + trimmed.len());
    }
}

/// Whether a mark at `byte` ends a sentence whose closing quotes and brackets end at `after`.
fn ends(text: &str, byte: usize, mark: char, after: usize) -> bool {
    let rest = &text[after..];
    let next = rest.trim_start();
    if next.is_empty() {
        return true;
    }
    if next.len() == rest.len()
        || next.starts_with(char::is_lowercase)
        || next.starts_with([',', ';', ':', '-', '–', '—'])
    {
        return false;
    }
    if mark != '.' {
        return true;
    }
    let word =
        text[..byte].rsplit(|char: char| char.is_whitespace() || "([\"“'".contains(char)).next().unwrap_or_default();
    let word = word.trim_start_matches(|char: char| !char.is_alphanumeric());
    let first_word = next.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default();
    // An initial, or letters with full stops within: only a word that rarely goes on begins a new sentence.
    let letters = word.chars().filter(|char| char.is_alphabetic()).count();
    let is_initials = !word.is_empty() && word.split('.').all(|part| part.chars().count() == 1) && letters > 0;
    if is_initials && word != "I" {
        return STARTERS.contains(&first_word);
    }
    let word = word.to_lowercase();
    if ["no", "nos"].contains(&word.as_str()) {
        return !next.starts_with(|char: char| char.is_ascii_digit());
    }
    !ABBREVIATIONS.contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn sentences_end_where_a_reader_says_so() {
        assert_eq!(split("One. Two! Three?  Four"), ["One.", "Two!", "Three?", "Four"]);
        assert_eq!(
            split("Dr. J. R. Smith of the U.S. Navy paid $3.5 million. He left."),
            ["Dr. J. R. Smith of the U.S. Navy paid $3.5 million.", "He left."]
        );
        assert_eq!(
            split("He lived in the U.S. The army came. It (e.g. No. 5. Here) won."),
            ["He lived in the U.S.", "The army came.", "It (e.g. No. 5. Here) won."]
        );
        assert_eq!(
            split("She said \"Go.\" He went. (All of it.) End"),
            ["She said \"Go.\"", "He went.", "(All of it.)", "End"]
        );
        assert_eq!(
            split("A heading\nText e.g. this, etc. and so on… Éa.\n"),
            ["A heading", "Text e.g. this, etc. and so on… Éa."]
        );
        assert_eq!(split("First published c. 1900. 12 followed"), ["First published c. 1900.", "12 followed"]);
        assert_eq!(
            split("It is.[1][citation needed] Then. [2] End"),
            ["It is.[1][citation needed]", "Then.", "[2] End"]
        );
        assert_eq!(split(" \n "), Vec::<&str>::new());
    }

    #[test]
    fn nothing_is_lost() {
        let mut random = crate::ops::self_test::Random::new(3);
        let words = ["a", "É", ".", "!", " ", "\n", "(", ")", "\"", "U.S.", "”", "1", "Dr."];
        for _ in 0..1000 {
            let text: String = (0..random.pick(0..=30)).map(|_| words[random.pick(0..=words.len() - 1)]).collect();
            let found: String = split(&text).concat();
            let black = |text: &str| text.chars().filter(|char| !char.is_whitespace()).collect::<String>();
            assert_eq!(black(&found), black(&text), "{text:?}");
        }
    }
}
