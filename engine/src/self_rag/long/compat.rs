//! What the released code does with the text of a segment (`run_long_form_static.py`): rewriting, cutting and cleaning. Pure.

use crate::tokenizer::{DecodeStream, ReflectionTokens, Tokenizer, reflection::NAMES};

/// The tokens as text, reflection tokens and end spelled out.
pub fn spelled(tokenizer: &Tokenizer, reflection: &ReflectionTokens, tokens: &[u32]) -> String {
    let markup = [reflection.paragraph_open, reflection.paragraph_close];
    let is_special = |token: u32| {
        reflection.watched().contains(&token) || markup.contains(&token) || tokenizer.stop_tokens().contains(&token)
    };
    let mut stream = DecodeStream::default();
    let mut text = String::new();
    for &token in tokens {
        if is_special(token) {
            text += &stream.finish();
            text += tokenizer.token(token).unwrap_or_default();
            // What follows a special token is no start of a text: its space, if it has one, stays.
            stream = DecodeStream::continuing();
        } else {
            text += &stream.push(tokenizer, token);
        }
    }
    text + &stream.finish()
}

/// `[No Retrieval]` becomes `[Retrieval]` where the model leans that way: (p(R) + p(Continue)) / (p(R) + p(NR)) > δ. The released code
/// holds the outcome against δ once more, as 0 or 1, and writes the token that separates pieces after the last one too.
///
/// `retrievals` has the retrieval group's log-probabilities at its tokens, by position.
pub fn rewrite_no_retrieval(
    reflection: &ReflectionTokens,
    tokens: &[u32],
    retrievals: &[(usize, [f32; 3])],
    threshold: f32,
) -> Vec<u32> {
    let mut rewritten = tokens.to_vec();
    if !tokens.contains(&reflection.no_retrieval) {
        return rewritten;
    }
    for &(position, [no, yes, more]) in retrievals {
        if tokens.get(position) != Some(&reflection.no_retrieval) {
            continue;
        }
        let [no, yes, more] = [no, yes, more].map(f32::exp);
        let leans = yes + no != 0.0 && (yes + more) / (yes + no) > threshold;
        if f32::from(u8::from(leans)) > threshold {
            rewritten[position] = reflection.retrieval;
        }
    }
    rewritten.push(reflection.no_retrieval);
    rewritten
}

/// Takes the control tokens and `</s>` out, and one leading space (`postprocess`). Its list lacks `[Continue to Use Evidence]`, which
/// goes only where `keep_continue` is off.
pub fn postprocess(text: &str, keep_continue: bool) -> String {
    let mut text = text.to_owned();
    for name in NAMES.iter().chain(&["</s>"]).filter(|name| !(keep_continue && **name == NAMES[2])) {
        text = text.replace(name, "");
    }
    match text.strip_prefix(' ') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// A space after every `.`, `!` and `?` between word characters (`fix_spacing`).
pub fn fix_spacing(text: &str) -> String {
    let is_word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let chars: Vec<char> = text.chars().collect();
    let mut spaced = String::with_capacity(text.len());
    for (at, &c) in chars.iter().enumerate() {
        spaced.push(c);
        let before = at.checked_sub(1).and_then(|before| chars.get(before));
        if matches!(c, '.' | '!' | '?') && is_word(before) && is_word(chars.get(at + 1)) {
            spaced.push(' ');
        }
    }
    spaced
}

/// ALCE's text and the passages it cites, by the place of each segment in its path (§4.5 of our notes on the released code).
///
/// `segments` are the processed texts of the path's nodes with whether they have a passage, the question's empty one left out; the
/// result's indices are segments whose passages are listed. `enumerate`: citations are places in the path, also where a repetition
/// was left out; otherwise places in the list.
pub fn cite(segments: &[(&str, bool)], keep_continue: bool, enumerate: bool) -> (String, Vec<usize>) {
    let (mut text, mut cited, mut seen) = (String::new(), Vec::new(), Vec::new());
    for (index, &(segment, has_passage)) in segments.iter().enumerate() {
        let sentence = postprocess(segment, keep_continue);
        if segment.is_empty() || seen.contains(&sentence) {
            continue;
        }
        // The last character is taken for a period.
        let body = sentence.char_indices().last().map_or("", |(last, _)| &sentence[..last]);
        cited.push(index);
        let number = if enumerate { index + 1 } else { cited.len() };
        if has_passage {
            text += &format!("{body} [{number}]. ");
        } else {
            text += &format!("{sentence} ");
            cited.pop();
        }
        seen.push(sentence);
    }
    (text.strip_suffix(' ').unwrap_or(&text).to_owned(), cited)
}

/// The last two replacements of the released code, which give a continued sentence the first citation.
pub fn cite_continued(text: &str) -> String {
    text.replace(&format!(".{}", NAMES[2]), " [1]. ").replace(". [1] ", " [1]. ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_breaks_numbers_and_abbreviations_as_the_released_code_does() {
        assert_eq!(fix_spacing("One.Two!Three?Four"), "One. Two! Three? Four");
        assert_eq!(fix_spacing("3.5 in the U.S. was."), "3. 5 in the U. S. was.");
        assert_eq!(fix_spacing(". a . b .c é.é _.1"), ". a . b .c é. é _. 1");
    }

    #[test]
    fn postprocess_strips_one_space_and_knows_continue_or_not() {
        let text = " [Relevant] It is.[Fully supported][Continue to Use Evidence]More.[Utility:5]</s>";
        assert_eq!(postprocess(text, true), " It is.[Continue to Use Evidence]More.", "one space of two goes");
        assert_eq!(postprocess(text, false), " It is.More.");
    }

    #[test]
    fn citations_of_repeated_segments() {
        let segments = [("One.", true), ("One.", true), ("", true), ("Two.", true)];
        assert_eq!(
            cite(&segments, true, true),
            ("One [1]. Two [4].".into(), vec![0, 3]),
            "past the two passages listed"
        );
        assert_eq!(cite(&segments, true, false), ("One [1]. Two [2].".into(), vec![0, 3]));
        assert_eq!(cite(&[("Plain.", false), ("Two.", true)], true, false), ("Plain. Two [1].".into(), vec![1]));
        assert_eq!(cite(&[], true, true), (String::new(), vec![]));
        assert_eq!(cite(&[("Ünö", true)], true, true).0, "Ün [1].", "the last character, not byte");
        assert_eq!(cite_continued("A.[Continue to Use Evidence]B. [1] C"), "A [1]. B [1]. C");
    }

    fn reflection() -> ReflectionTokens {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizer/tiny.model");
        let mut tokenizer = Tokenizer::from_sentencepiece("tiny.model", &std::fs::read(path).unwrap()).unwrap();
        ReflectionTokens::add(&mut tokenizer)
    }

    /// p(NR) 0.6, p(R) 0.1, p(C) 0.04: (0.1 + 0.04) / (0.1 + 0.6) = 0.2.
    #[test]
    fn no_retrieval_is_rewritten_where_the_ratio_is_above() {
        let r = reflection();
        let tokens = [5, r.no_retrieval, 6, r.retrieval, 7];
        let group = [0.6_f32, 0.1, 0.04].map(f32::ln);
        let at = [(1, group), (3, [0.0; 3])];
        let rewritten = rewrite_no_retrieval(&r, &tokens, &at, 0.19);
        assert_eq!(rewritten, [5, r.retrieval, 6, r.retrieval, 7, r.no_retrieval], "and one token too many");
        let kept = rewrite_no_retrieval(&r, &tokens, &at, 0.21);
        assert_eq!(kept, [5, r.no_retrieval, 6, r.retrieval, 7, r.no_retrieval]);
        // The second comparison: true, as 1, is not above 1; false, as 0, is above a negative δ.
        let sure = [(1, [0.1_f32, 0.6, 0.3].map(f32::ln))];
        assert_eq!(rewrite_no_retrieval(&r, &tokens, &sure, 1.0)[1], r.no_retrieval);
        let never = [(1, [0.6_f32, 1e-9, 1e-9].map(f32::ln))];
        assert_eq!(rewrite_no_retrieval(&r, &tokens, &never, -0.1)[1], r.retrieval);
        assert_eq!(rewrite_no_retrieval(&r, &[5, 6], &[], 0.2), [5, 6], "nothing to rewrite, nothing appended");
    }
}
