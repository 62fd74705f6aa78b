//! What a user sets for a question, and how it stands in an address: `form=long&delta=0.3&w_sup=2`. Pure.
//!
//! Everything else stays the paper's ([`Config::paper`], [`LongConfig::paper`]). An address is hostile text: every number has a range,
//! and what is outside is refused by name.

use serde::{Deserialize, Serialize};

use super::{Config, LongConfig, Mode};
use crate::{Error, Result, retriever::documents::Scope};

/// Which algorithm answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One decision, one candidate for each passage, the best one answers.
    #[default]
    Short,
    /// Segment after segment, each with its own passage.
    Long,
}

/// What a user sets for a question. The defaults are the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Which algorithm answers.
    pub form: Form,
    /// When passages are retrieved.
    pub mode: Mode,
    /// Where they are looked for.
    #[serde(default)]
    pub scope: Scope,
    /// δ: retrieve when the ratio is above.
    pub threshold: f32,
    /// Weight of ISREL.
    pub w_rel: f32,
    /// Weight of ISSUP.
    pub w_sup: f32,
    /// Weight of ISUSE.
    pub w_use: f32,
    /// Passages that are retrieved.
    pub n_docs: usize,
    /// Tokens that a candidate may have; in long form, a segment.
    pub max_new_tokens: usize,
    /// Segments that a long answer may have.
    pub max_depth: usize,
    /// Paths that a long answer keeps after each segment.
    pub beam_width: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let (short, long) = (Config::paper(), LongConfig::paper());
        Self {
            form: Form::Short,
            mode: short.mode,
            scope: Scope::default(),
            threshold: short.threshold.unwrap_or_default(),
            w_rel: short.w_rel,
            w_sup: short.w_sup,
            w_use: short.w_use,
            n_docs: short.n_docs,
            max_new_tokens: short.max_new_tokens,
            max_depth: long.max_depth,
            beam_width: long.beam_width,
        }
    }
}

/// A setting that is a number: its name in an address, its range, and how it is reached. What steps by 1 or more is a whole number.
pub struct Number {
    /// In an address.
    pub name: &'static str,
    /// The lowest value.
    pub least: f32,
    /// The highest value.
    pub most: f32,
    /// What a slider moves by.
    pub step: f32,
    /// Reads it.
    pub get: fn(&Settings) -> f32,
    /// Writes it.
    pub set: fn(&mut Settings, f32),
}

impl Number {
    /// δ. A ratio, so from 0 to 1.
    pub const DELTA: Self = Self::new("delta", [0.0, 1.0, 0.01], |s| s.threshold, |s, v| s.threshold = v);
    /// w_rel. No term of the segment score is larger than 1, so 2 is already more than the others together.
    pub const W_REL: Self = Self::new("w_rel", [0.0, 2.0, 0.05], |s| s.w_rel, |s, v| s.w_rel = v);
    /// w_sup.
    pub const W_SUP: Self = Self::new("w_sup", [0.0, 2.0, 0.05], |s| s.w_sup, |s, v| s.w_sup = v);
    /// w_use.
    pub const W_USE: Self = Self::new("w_use", [0.0, 2.0, 0.05], |s| s.w_use, |s, v| s.w_use = v);
    /// Passages, up to the 10 of the paper's PopQA and TriviaQA.
    pub const PASSAGES: Self =
        Self::new("passages", [1.0, 10.0, 1.0], |s| s.n_docs as f32, |s, v| s.n_docs = v as usize);
    /// Tokens of a candidate or segment, up to the 300 of the published long-form commands.
    pub const TOKENS: Self =
        Self::new("tokens", [20.0, 300.0, 10.0], |s| s.max_new_tokens as f32, |s, v| s.max_new_tokens = v as usize);
    /// Segments of a long answer, up to the published commands' 7.
    pub const SEGMENTS: Self =
        Self::new("segments", [1.0, 7.0, 1.0], |s| s.max_depth as f32, |s, v| s.max_depth = v as usize);
    /// Paths kept, twice the paper's 2.
    pub const BEAM: Self =
        Self::new("beam", [1.0, 4.0, 1.0], |s| s.beam_width as f32, |s, v| s.beam_width = v as usize);

    /// All of them.
    pub const ALL: [&'static Self; 8] = [
        &Self::DELTA,
        &Self::W_REL,
        &Self::W_SUP,
        &Self::W_USE,
        &Self::PASSAGES,
        &Self::TOKENS,
        &Self::SEGMENTS,
        &Self::BEAM,
    ];
    /// Those that weigh anew what is already written.
    pub const WEIGHING: [&'static Self; 4] = [&Self::DELTA, &Self::W_REL, &Self::W_SUP, &Self::W_USE];

    const fn new(
        name: &'static str,
        [least, most, step]: [f32; 3],
        get: fn(&Settings) -> f32,
        set: fn(&mut Settings, f32),
    ) -> Self {
        Self { name, least, most, step, get, set }
    }

    /// The value that `text` says; none: not a number in the range.
    pub fn parse(&self, text: &str) -> Option<f32> {
        let value: f32 = text.parse().ok()?;
        let is_whole = self.step < 1.0 || value.fract() == 0.0;
        ((self.least..=self.most).contains(&value) && is_whole).then_some(value)
    }
}

const FORMS: [(&str, Form); 2] = [("short", Form::Short), ("long", Form::Long)];
const SCOPES: [(&str, Scope); 3] = [("none", Scope::Corpus), ("both", Scope::Both), ("only", Scope::Documents)];
const MODES: [(&str, Mode); 3] = [("adaptive", Mode::Adaptive), ("always", Mode::Always), ("never", Mode::Never)];

impl Settings {
    /// Reads an address's query as it is after percent-decoding. What it does not name stays, and names that mean nothing here are
    /// passed over: other views have theirs. An error names the setting and what was expected.
    pub fn with_query(mut self, query: &str) -> Result<Self> {
        for part in query.trim_start_matches('?').split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "form" => self.form = named(name, value, &FORMS)?,
                "mode" => self.mode = named(name, value, &MODES)?,
                "documents" => self.scope = named(name, value, &SCOPES)?,
                _ => {
                    let Some(number) = Number::ALL.into_iter().find(|number| number.name == name) else { continue };
                    let expected = || format!("{value:?} is not a number from {} to {}", number.least, number.most);
                    let value = number.parse(value).ok_or_else(|| Error::config(name, expected()))?;
                    (number.set)(&mut self, value);
                }
            }
        }
        Ok(self)
    }

    /// The query with these settings in place of those that it names: what differs from the defaults, after everything that is not
    /// this module's. `query` as it stands in the address; nothing written here needs encoding.
    pub fn in_query(&self, query: &str) -> String {
        let is_own = |part: &str| {
            let name = part.split('=').next().unwrap_or_default();
            matches!(name, "form" | "mode" | "documents") || Number::ALL.iter().any(|number| number.name == name)
        };
        let kept = query.trim_start_matches('?').split('&').filter(|part| !part.is_empty() && !is_own(part));
        let mut parts: Vec<String> = kept.map(str::to_owned).collect();
        let base = Self::default();
        if self.form != base.form {
            parts.push("form=long".into());
        }
        if self.mode != base.mode {
            parts.push(format!("mode={}", name_of(self.mode, &MODES)));
        }
        if self.scope != base.scope {
            parts.push(format!("documents={}", name_of(self.scope, &SCOPES)));
        }
        let changed = Number::ALL.into_iter().filter(|number| (number.get)(self) != (number.get)(&base));
        parts.extend(changed.map(|number| format!("{}={}", number.name, (number.get)(self))));
        parts.join("&")
    }

    /// The short form's settings.
    pub fn short(&self) -> Config {
        Config {
            mode: self.mode,
            threshold: Some(self.threshold),
            w_rel: self.w_rel,
            w_sup: self.w_sup,
            w_use: self.w_use,
            n_docs: self.n_docs,
            max_new_tokens: self.max_new_tokens,
            ..Config::paper()
        }
    }

    /// The long form's settings, with what is decided beforehand ([`LongConfig::forced`]).
    pub fn long(&self, forced: &[Option<bool>]) -> LongConfig {
        LongConfig {
            base: self.short(),
            max_depth: self.max_depth,
            beam_width: self.beam_width,
            forced: forced.to_vec(),
            ..LongConfig::paper()
        }
    }

    /// These settings, under which something was written, with the δ and the weights of `now`: what a ranking can change.
    pub fn weighed(mut self, now: &Self) -> Self {
        for number in Number::WEIGHING {
            (number.set)(&mut self, (number.get)(now));
        }
        self
    }
}

fn named<T: Copy>(name: &str, value: &str, known: &[(&'static str, T)]) -> Result<T> {
    let found = known.iter().find(|(word, _)| *word == value).map(|(_, found)| *found);
    found.ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        Error::config(name, format!("{value:?} is none of {}", words.join(", ")))
    })
}

fn name_of<T: PartialEq>(value: T, known: &[(&'static str, T)]) -> &'static str {
    known.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every setting other than its default.
    fn unusual() -> Settings {
        Settings {
            form: Form::Long,
            mode: Mode::Always,
            scope: Scope::Documents,
            threshold: 0.35,
            w_rel: 0.1,
            w_sup: 1.85,
            w_use: 0.0,
            n_docs: 3,
            max_new_tokens: 60,
            max_depth: 2,
            beam_width: 4,
        }
    }

    #[test]
    fn an_address_holds_what_differs_and_gives_it_back() {
        assert_eq!(Settings::default().in_query(""), "");
        let query = unusual().in_query("");
        assert_eq!(
            query,
            "form=long&mode=always&documents=only&delta=0.35&w_rel=0.1&w_sup=1.85&w_use=0&passages=3&tokens=60&segments=2&beam=4"
        );
        assert_eq!(Settings::default().with_query(&query).unwrap(), unusual());
        // Every value that a slider can have comes back to the bit.
        for number in Number::ALL {
            let steps = ((number.most - number.least) / number.step).round() as usize;
            for step in 0..=steps {
                let value = number.parse(&format!("{:.2}", number.least + step as f32 * number.step)).unwrap();
                let mut settings = unusual();
                (number.set)(&mut settings, value);
                assert_eq!(
                    Settings::default().with_query(&settings.in_query("")).unwrap(),
                    settings,
                    "{}",
                    number.name
                );
            }
        }
    }

    #[test]
    fn what_is_not_its_own_stays_as_it_is() {
        let settings = Settings { w_sup: 0.5, ..Settings::default() };
        assert_eq!(settings.in_query("?bench&delta=0.9&x=%26&&w_sup=2"), "bench&x=%26&w_sup=0.5");
        assert_eq!(Settings::default().with_query("?bench&steps=8&nonsense").unwrap(), Settings::default());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let cases = [
            ("delta=x", "delta"),
            ("delta=1.01", "delta"),
            ("w_rel=NaN", "w_rel"),
            ("w_sup=inf", "w_sup"),
            ("w_use=-1", "w_use"),
            ("passages=11", "passages"),
            ("passages=2.5", "passages"),
            ("tokens=1e9", "tokens"),
            ("segments=0", "segments"),
            ("beam=", "beam"),
            ("form=Long", "form"),
            ("mode=<script>", "mode"),
            ("documents=all", "documents"),
        ];
        for (query, name) in cases {
            let error = Settings::default().with_query(&format!("w_rel=0.5&{query}")).unwrap_err();
            assert!(matches!(&error, Error::Config { name: found, .. } if found == name), "{query}: {error}");
        }
    }

    #[test]
    fn both_forms_get_them_and_the_rest_is_the_papers() {
        let (short, long) = (Settings::default().short(), Settings::default().long(&[]));
        assert_eq!(short, Config::paper());
        assert_eq!(long, LongConfig { base: Config::paper(), ..LongConfig::paper() });
        let long = unusual().long(&[None, Some(true)]);
        long.check().unwrap();
        assert_eq!((long.max_depth, long.beam_width, long.base.n_docs, long.base.w_sup), (2, 4, 3, 1.85));
        assert_eq!(long.forced, [None, Some(true)]);
        let weighed = Settings::default().weighed(&unusual());
        assert_eq!((weighed.threshold, weighed.w_use, weighed.n_docs, weighed.mode), (0.35, 0.0, 5, Mode::Adaptive));
    }
}
