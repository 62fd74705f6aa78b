//! An answer to be taken away: JSON with everything, Markdown to read. Pure.
//!
//! Question, passages and model output are hostile text. In JSON they are strings; in Markdown every character that could begin a
//! markup, HTML or a link is escaped ([`escape`]), so that what is read is what was written.

use serde::Serialize;

use super::{
    Answer, Candidate, LongAnswer, Settings,
    long::Fate,
    rerank::{LongRanking, ShortRanking},
    settings::{Form, Number},
};
use crate::{critique::Scores, retriever::Hit};

/// Counted up when a reader of an older export would go wrong.
const FORMAT: u32 = 1;

/// What was written, and its ranking as it is seen.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Written<'a> {
    /// A short answer.
    Short {
        /// As it was written.
        answer: &'a Answer,
        /// As it is weighed.
        ranking: &'a ShortRanking,
    },
    /// A long answer.
    Long {
        /// As it was written, with its tree.
        answer: &'a LongAnswer,
        /// As it is weighed.
        ranking: &'a LongRanking,
    },
}

/// An answer with what it came from.
#[derive(Debug, Serialize)]
pub struct Export<'a> {
    format: u32,
    /// The generator's name.
    pub model: &'a str,
    /// Under which settings it was written.
    pub asked: &'a Settings,
    /// What the user decided in the model's place, a segment each.
    pub forced: &'a [Option<bool>],
    /// The same with the δ and the weights of the ranking.
    pub weighed: &'a Settings,
    /// Answer and ranking.
    pub written: Written<'a>,
}

impl<'a> Export<'a> {
    /// Of these parts.
    pub fn new(
        model: &'a str,
        (asked, forced): (&'a Settings, &'a [Option<bool>]),
        weighed: &'a Settings,
        written: Written<'a>,
    ) -> Self {
        Self { format: FORMAT, model, asked, forced, weighed, written }
    }

    /// Everything: the settings, every candidate with its tokens and what its scores were computed from, and the ranking.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("an answer is plain data, and its numbers are finite")
    }

    /// The answer with its sources, and below what else was written, with scores and fates.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        match &self.written {
            Written::Short { answer, ranking } => self.short(answer, ranking, &mut text),
            Written::Long { answer, ranking } => self.long(answer, ranking, &mut text),
        }
        text
    }

    fn short(&self, answer: &Answer, ranking: &ShortRanking, out: &mut String) {
        let best = ranking.best.unwrap_or(answer.best);
        let hit = answer.candidates.get(best).and_then(|candidate| candidate.hit.as_ref());
        let mark = if hit.is_some() { " \\[1\\]" } else { "" };
        *out += &format!("# {}\n\n{}{mark}\n", escape(&answer.question), escape(&ranking.text));
        sources(hit, out);
        self.settings(ranking.changed, out);
        *out += "\n## Candidates\n\n";
        for (index, candidate) in answer.candidates.iter().enumerate() {
            let fate = if index == best { Fate::Answer } else { Fate::Dropped };
            let score = ranking.scores.get(index).copied().unwrap_or_default();
            line(0, fate, candidate, &candidate.text, &score, score.segment, out);
        }
    }

    fn long(&self, answer: &LongAnswer, ranking: &LongRanking, out: &mut String) {
        *out += &format!("# {}\n\n", escape(&answer.question));
        let cited = ranking.segments.iter().map(|segment| {
            let (body, marks) = segment.body_and_marks();
            let citation = segment.citation.map_or_else(String::new, |index| format!(" \\[{}\\]", index + 1));
            format!("{}{citation}{}", escape(body), escape(marks))
        });
        *out += &cited.collect::<Vec<_>>().join(" ");
        out.push('\n');
        sources(&ranking.passages, out);
        self.settings(ranking.changed, out);
        *out += "\n## Candidates\n\n";
        let fates = answer.tree.fates(&ranking.beams, &ranking.path);
        // Depth first; a stack, as the tree's depth is the answer's business.
        let mut stack: Vec<usize> = answer.tree.children(None).collect();
        stack.reverse();
        while let Some(at) = stack.pop() {
            let node = &answer.tree.nodes[at];
            line(
                node.depth.saturating_sub(1),
                fates[at],
                &node.candidate,
                &node.text,
                &ranking.scores[at],
                Some(ranking.path_scores[at]),
                out,
            );
            let first = stack.len();
            stack.extend(answer.tree.children(Some(at)).filter(|&child| child > at));
            stack[first..].reverse();
        }
    }

    /// The settings in one line, and whether the ranking is another than at first.
    fn settings(&self, changed: bool, out: &mut String) {
        let weighed = self.weighed;
        *out += "\n## Settings\n\n";
        if !self.model.is_empty() {
            *out += &format!("- Model: {}\n", escape(self.model));
        }
        let form = if weighed.form == Form::Long { "long" } else { "short" };
        *out += &format!("- Form: {form}; retrieve: {}", format!("{:?}", weighed.mode).to_lowercase());
        for number in Number::ALL {
            *out += &format!("; {} {}", escape(number.name), (number.get)(weighed));
        }
        out.push('\n');
        for (index, forced) in self.forced.iter().enumerate() {
            if let Some(retrieve) = forced {
                let what = if *retrieve { "retrieve" } else { "do not retrieve" };
                *out += &format!("- Decided by hand before segment {}: {what}\n", index + 1);
            }
        }
        if changed {
            *out += "- Weighed anew: at first another answer was chosen\n";
        }
    }
}

fn sources<'a>(hits: impl IntoIterator<Item = &'a Hit>, out: &mut String) {
    for (index, hit) in hits.into_iter().enumerate() {
        if index == 0 {
            *out += "\n## Sources\n\n";
        }
        *out += &format!("{}. **{}**: {}\n", index + 1, name(hit), escape(&hit.passage.text));
    }
}

fn name(hit: &Hit) -> String {
    match hit.passage.title.trim() {
        // Emphasis around nothing would be asterisks.
        "" => "Untitled".into(),
        title => escape(title),
    }
}

fn line(
    depth: usize,
    fate: Fate,
    candidate: &Candidate,
    text: &str,
    scores: &Scores,
    total: Option<f32>,
    out: &mut String,
) {
    let fate = match fate {
        Fate::Answer => "**answer**",
        Fate::Kept => "kept",
        Fate::Overtaken => "overtaken",
        Fate::Dropped => "dropped",
        Fate::Excluded => "excluded",
        Fate::Open => "open",
    };
    let number = |value: Option<f32>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
    let hit = candidate.hit.as_ref().map_or_else(String::new, |hit| format!(" · {}", name(hit)));
    let Scores { is_rel, is_sup, is_use, sequence, segment } = *scores;
    let [is_rel, is_sup, is_use] = [is_rel, is_sup, is_use].map(number);
    *out += &format!(
        "{}- {fate} {}{hit}: {} (ISREL {is_rel}, ISSUP {is_sup}, ISUSE {is_use}, sequence {}, segment {})\n",
        "  ".repeat(depth),
        number(total),
        escape(text),
        number(sequence),
        number(segment),
    );
}

/// Text as Markdown that shows just this text, on one line: nothing of it becomes markup, HTML, a link or a new line. What turns the
/// direction of reading is left out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    // Left out before anything is looked at: what stands around them comes together.
    let turns = |c: &char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let mut chars = text.trim().chars().filter(|c| !turns(c)).peekable();
    while let Some(c) = chars.next() {
        // Only at the beginning: `1.` and `1)` begin a list.
        let is_number = || !out.is_empty() && out.bytes().all(|byte| byte.is_ascii_digit());
        let is_markup = match c {
            c if c.is_whitespace() || c.is_control() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
                continue;
            }
            // Bare addresses become links too: https://, www.
            ':' => chars.peek() == Some(&'/'),
            '.' => is_number() || out.len() >= 3 && out.as_bytes()[out.len() - 3..].eq_ignore_ascii_case(b"www"),
            ')' => is_number(),
            '-' | '+' | '=' => out.is_empty(),
            _ => "\\`*_[]<>#|~&!@$".contains(c),
        };
        if is_markup {
            out.push('\\');
        }
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        retriever::Passage,
        self_rag::{Config, LongConfig, long::Tree, rerank},
    };

    #[test]
    fn hostile_text_stays_text() {
        let cases = [
            ("There are 16,000 species. Or 3.5?", "There are 16,000 species. Or 3.5?"),
            ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert(1)\\>"),
            ("[click](javascript:alert(1))", "\\[click\\](javascript:alert(1))"),
            ("![x](https://evil.example/?q)", "\\!\\[x\\](https\\://evil.example/?q)"),
            ("see https://evil.example or www.evil.example", "see https\\://evil.example or www\\.evil.example"),
            ("mail a@b.example", "mail a\\@b.example"),
            ("a\n\n# Heading\r\n- item", "a \\# Heading - item"),
            ("- item", "\\- item"),
            ("1. item", "1\\. item"),
            ("2) item", "2\\) item"),
            ("---", "\\---"),
            (
                "&lt;b&gt; **bold** _it_ `code` ~~no~~ | cell | $x$",
                "\\&lt;b\\&gt; \\*\\*bold\\*\\* \\_it\\_ \\`code\\` \\~\\~no\\~\\~ \\| cell \\| \\$x\\$",
            ),
            ("back\\slash \\<b>", "back\\\\slash \\\\\\<b\\>"),
            ("\u{202e}gnp.exe\u{0}\u{7f}", "gnp.exe"),
            ("https:\u{200e}//evil.example w\u{2066}ww.evil.example", "https\\://evil.example www\\.evil.example"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text), expected, "{text:?}");
        }
    }

    fn hit(title: &str, text: &str) -> Hit {
        Hit { passage: Passage { id: "1".into(), title: title.into(), text: text.into() }, score: Some(0.5) }
    }

    fn candidate(hit: Option<Hit>, text: &str, segment: f32) -> Candidate {
        Candidate {
            hit,
            text: text.into(),
            tokens: vec![1],
            scores: Scores { is_rel: Some(0.75), segment: Some(segment), ..Scores::default() },
            evidence: Default::default(),
            truncated: false,
        }
    }

    #[test]
    fn a_short_answer_with_a_hostile_passage() {
        let answer = Answer {
            question: "What is\n# <b>it</b>?".into(),
            text: "One.".into(),
            probability: Some(0.3),
            retrieved: true,
            candidates: vec![
                candidate(Some(hit("<script>", "```\n</pre><script>alert(1)</script>")), "One.", 2.0),
                candidate(Some(hit("", "B")), "![t](http://x.example)", 1.0),
            ],
            best: 0,
        };
        let settings = Settings { n_docs: 2, ..Settings::default() };
        let ranking = rerank::short(&answer, &settings.short());
        assert!(!ranking.changed, "what has no evidence keeps its scores");
        let export =
            Export::new("Demo *1*", (&settings, &[]), &settings, Written::Short { answer: &answer, ranking: &ranking });
        assert_eq!(
            export.markdown(),
            "# What is \\# \\<b\\>it\\</b\\>?\n\nOne. \\[1\\]\n\n## Sources\n\n\
             1. **\\<script\\>**: \\`\\`\\` \\</pre\\>\\<script\\>alert(1)\\</script\\>\n\n## Settings\n\n- Model: Demo \\*1\\*\n\
             - Form: short; retrieve: adaptive; delta 0.2; w\\_rel 1; w\\_sup 1; w\\_use 0.5; passages 2; tokens 100; segments 6; beam 2\n\n\
             ## Candidates\n\n\
             - **answer** 2.000 · \\<script\\>: One. (ISREL 0.750, ISSUP –, ISUSE –, sequence –, segment 2.000)\n\
             - dropped 1.000 · Untitled: \\!\\[t\\](http\\://x.example) (ISREL 0.750, ISSUP –, ISUSE –, sequence –, segment 1.000)\n"
        );
        let json: serde_json::Value = serde_json::from_str(&export.json()).unwrap();
        assert_eq!((&json["format"], &json["model"]), (&1.into(), &"Demo *1*".into()));
        let short = &json["written"]["short"];
        assert_eq!(serde_json::from_value::<Answer>(short["answer"].clone()).unwrap(), answer, "nothing is lost");
        assert_eq!(serde_json::from_value::<Settings>(json["asked"].clone()).unwrap(), settings);
    }

    /// A tree that no engine makes ends all the same.
    #[test]
    fn a_long_answer_without_anything() {
        let answer = LongAnswer {
            question: "Q?".into(),
            text: String::new(),
            segments: Vec::new(),
            passages: Vec::new(),
            probability: None,
            retrieved: false,
            path: Vec::new(),
            ranked: Vec::new(),
            truncated: false,
            tree: Tree::default(),
        };
        let settings = Settings { form: Form::Long, ..Settings::default() };
        let ranking = rerank::long(&answer, &LongConfig { base: Config::paper(), ..LongConfig::paper() });
        let forced = [None, Some(false)];
        let export =
            Export::new("", (&settings, &forced), &settings, Written::Long { answer: &answer, ranking: &ranking });
        assert!(export.markdown().contains("- Decided by hand before segment 2: do not retrieve\n"));
    }
}
