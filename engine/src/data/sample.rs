//! A training row before it is text: what is asked, segments with their labels, and what of it is trained.

use serde::Serialize;

use super::{
    critic::Judgement,
    parts::{
        CLOSE, CONTINUE, FULLY, IRRELEVANT, NO_RETRIEVAL, NO_SUPPORT, OPEN, PARTIALLY, RELEVANT, RETRIEVAL, UTILITY,
    },
    rows::{Piece, TrainingRow},
    sets::Text,
};
use crate::tokenizer::reflection::NAMES;

/// Why a row was made; the end of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The passage that answers, and its sentence.
    Gold,
    /// A passage that the retriever finds and that has no answer.
    HardNegative,
    /// Some other passage.
    RandomNegative,
    /// A question that its passage does not answer.
    Unanswerable,
    /// A sentence from elsewhere.
    Wrong,
    /// The right sentence with another answer.
    Swapped,
    /// A sentence of the passage that does not answer.
    OffPoint,
    /// The right sentence and one from elsewhere.
    Partial,
    /// Two questions about one passage.
    TwoQuestions,
    /// Two questions about two passages.
    TwoPassages,
    /// Two sentences that follow each other.
    FollowOn,
    /// A plain instruction.
    Instruction,
}

impl Kind {
    /// All, in the order in which tables have them.
    pub const ALL: [Self; 12] = [
        Self::Gold,
        Self::HardNegative,
        Self::RandomNegative,
        Self::Unanswerable,
        Self::Wrong,
        Self::Swapped,
        Self::OffPoint,
        Self::Partial,
        Self::TwoQuestions,
        Self::TwoPassages,
        Self::FollowOn,
        Self::Instruction,
    ];

    /// The kind that a row's id names: `…_gold`, `…_gold_2`, `…_gold_2_0` (a critic's), `instruction_17`.
    pub fn of_id(id: &str) -> Option<Self> {
        let bare = id.trim_end_matches(|c: char| c == '_' || c.is_ascii_digit());
        Self::ALL.into_iter().find(|kind| {
            bare.strip_suffix(kind.name()).is_some_and(|before| before.is_empty() || before.ends_with('_'))
        })
    }

    /// As it stands in ids and counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gold => "gold",
            Self::HardNegative => "hard_negative",
            Self::RandomNegative => "random_negative",
            Self::Unanswerable => "unanswerable",
            Self::Wrong => "wrong",
            Self::Swapped => "swapped",
            Self::OffPoint => "off_point",
            Self::Partial => "partial",
            Self::TwoQuestions => "two_questions",
            Self::TwoPassages => "two_passages",
            Self::FollowOn => "follow_on",
            Self::Instruction => "instruction",
        }
    }
}

/// Where a segment's knowledge comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retrieve {
    /// `[No Retrieval]`
    No,
    /// `[Retrieval]` and this passage.
    Passage(usize),
    /// `[Continue to Use Evidence]`
    Continue,
}

/// Whether the passage supports a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// `[Fully supported]`
    Fully,
    /// `[Partially supported]`
    Partially,
    /// `[No support / Contradictory]`
    No,
}

impl Support {
    const fn token(self) -> usize {
        match self {
            Self::Fully => FULLY,
            Self::Partially => PARTIALLY,
            Self::No => NO_SUPPORT,
        }
    }
}

/// A segment with its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where its knowledge comes from.
    pub retrieve: Retrieve,
    /// Whether its passage is relevant; of no meaning without one.
    pub relevant: bool,
    /// What is written; may be empty where an instruction's answer is not known.
    pub text: String,
    /// Whether the text is trained, or its critique alone.
    pub train: bool,
    /// Whether the passage supports the text.
    pub support: Option<Support>,
}

/// A row before it is text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Why it was made.
    pub kind: Kind,
    /// Unique within the file.
    pub id: String,
    /// The set's name.
    pub set: String,
    /// What is asked.
    pub instruction: String,
    /// More of it, or nothing.
    pub input: String,
    /// One or two.
    pub segments: Vec<Segment>,
    /// 1 to 5.
    pub utility: u8,
}

impl Sample {
    /// Whether it has an answer: of an instruction without one, the decision alone is trained.
    fn has_answer(&self) -> bool {
        self.segments.iter().any(|segment| !segment.text.is_empty())
    }

    /// The generator's row. Rows that are trained whole have no `pieces`: they are the released schema's.
    pub fn row(&self, passages: &[Text]) -> TrainingRow {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut push = |text: &str, train: bool| match pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.train == train => last.text += text,
            _ => pieces.push(Piece { text: text.to_owned(), train }),
        };
        for segment in &self.segments {
            match segment.retrieve {
                Retrieve::No => push(NAMES[NO_RETRIEVAL], true),
                Retrieve::Continue => push(NAMES[CONTINUE], true),
                Retrieve::Passage(passage) => {
                    let passage = evidence(&passages[passage]);
                    let relevance = NAMES[if segment.relevant { RELEVANT } else { IRRELEVANT }];
                    let [retrieval, open, close] = [RETRIEVAL, OPEN, CLOSE].map(|token| NAMES[token]);
                    push(&format!("{retrieval}{open}{passage}{close}{relevance}"), true);
                }
            }
            push(&segment.text, segment.train);
            push(segment.support.map_or("", |support| NAMES[support.token()]), true);
        }
        push(NAMES[UTILITY + usize::from(self.utility) - 1], self.has_answer());
        TrainingRow {
            instruction: self.instruction.clone(),
            input: self.input.clone(),
            output: pieces.iter().map(|piece| piece.text.as_str()).collect(),
            id: Some(self.id.clone()),
            dataset_name: Some(self.set.clone()),
            task: None,
            pieces: Some(pieces).filter(|pieces| pieces.iter().any(|piece| !piece.train)),
        }
    }

    /// The critic's rows: one for each label that the annotations give.
    pub fn judgements(&self, passages: &[Text]) -> Vec<TrainingRow> {
        let mut rows = Vec::new();
        let mut push = |judgement: Judgement<'_>, label: usize| {
            rows.push(judgement.row(format!("{}_{}", self.id, rows.len()), label));
        };
        let instruction = match self.input.as_str() {
            "" => self.instruction.clone(),
            input => format!("{}\n{input}", self.instruction),
        };
        let instruction = instruction.as_str();
        let first = match self.segments.first().map(|segment| segment.retrieve) {
            Some(Retrieve::No) => NO_RETRIEVAL,
            _ => RETRIEVAL,
        };
        push(Judgement::Retrieval { instruction }, first);
        let (mut preceding, mut passage) = (String::new(), String::new());
        for segment in &self.segments {
            let output = segment.text.as_str();
            if !preceding.is_empty() {
                let label = if segment.retrieve == Retrieve::Continue { CONTINUE } else { RETRIEVAL };
                let (preceding, evidence) = (preceding.as_str(), passage.as_str());
                let three_way = true;
                push(Judgement::NextRetrieval { instruction, preceding, evidence, output, three_way }, label);
            }
            if let Retrieve::Passage(at) = segment.retrieve {
                passage = evidence(&passages[at]);
                let label = if segment.relevant { RELEVANT } else { IRRELEVANT };
                push(Judgement::Relevance { instruction, evidence: &passage }, label);
            }
            if let Some(support) = segment.support {
                let (preceding, evidence) = (preceding.as_str(), passage.as_str());
                push(Judgement::Support { instruction, preceding, evidence, output }, support.token());
            }
            if !preceding.is_empty() {
                preceding.push(' ');
            }
            preceding += output;
        }
        if self.has_answer() {
            push(Judgement::Utility { instruction, output: &preceding }, UTILITY + usize::from(self.utility) - 1);
        }
        rows
    }
}

/// A passage as it stands in prompts: title, new line, text.
pub fn evidence(passage: &Text) -> String {
    format!("{}\n{}", passage.title, passage.text)
}
