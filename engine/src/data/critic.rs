//! The critic's rows: the released code's instructions and inputs (`run_reward_vllm.py`, `combine_chat_gpt_reward.py`) with labels that
//! the annotations give in GPT-4's place.
//!
//! | task | is asked | labels |
//! | --- | --- | --- |
//! | `retrieval` | does the instruction need a passage? | `[Retrieval]`, `[No Retrieval]` |
//! | `multi_retrieval` | does the next sentence? | `[Retrieval]`, `[No Retrieval]`, `[Continue to Use Evidence]` |
//! | `relevance` | does the passage help? | `[Relevant]`, `[Irrelevant]` |
//! | `groudness` (spelled so) | does it support the sentence? | `[Fully supported]`, `[Partially supported]`, `[No support / Contradictory]` |
//! | `utility` | is the answer useful? | `[Utility:1]` to `[Utility:5]` |
//!
//! Departures: sentences after the first are judged with those before them, as the released inference shows them and the released
//! training does not.

use std::collections::{HashMap, HashSet};

use super::{
    notes::Notes,
    parts::{CONTINUE, FULLY, IRRELEVANT, NO_RETRIEVAL, UTILITY},
    rows::TrainingRow,
};
use crate::tokenizer::reflection::NAMES;

/// `retrieval_instruction`
const RETRIEVAL: &str = "When provided with instruction, please evaluate whether seeking additional information from external sources such as the \
    web (e.g., Wikipedia) aids in producing a more comprehensive response. Respond with either [Retrieval] or [No \
    Retrieval].";
/// `multi_retrieval_three_way_instruction`
const THREE_WAY: &str = "You will be provided with an instruction, evidence, output sentence, and preceding sentences (optional). If the \
    preceding sentence is given, the output should be the sentence that follows those preceding sentences.  Your task is to \
    determine whether the information in the output sentence can be fully verified by the evidence or if it requires further \
    external verification. There are three cases:\n- If the output sentence can be verified solely with the evidence, then \
    respond with [Continue to Use Evidence]. \n- If the sentence doesn't require any factual verification (e.g., a \
    subjective sentence or a sentence about common sense), then respond with  [No Retrieval]. \nIf additional information is \
    needed to verify the output sentence, respond with [Retrieval]. Please provide explanations for your judgments. \n\n";
/// `retrieval_multi_instruction`; the apostrophe is the released one.
const TWO_WAY: &str = "You will be provided with an instruction, evidence, output sentence, and preceding sentences (optional). If the \
    preceding sentence is given, the output should be the sentence that follows those preceding sentences.  Your task is to \
    determine whether the information in the output sentence can be fully verified by the evidence or if it requires further \
    external verification. If the output sentence can be verified solely with the evidence or doesn’t require any \
    verification, respond with [No Retrieval]. If additional information is needed to verify the output sentence, respond \
    with [Retrieval]. Please provide explanations for your judgments.\n\n";
/// `relevance_instruction`
const RELEVANCE: &str = "When given instruction and evidence, evaluate whether the evidence is relevant to the instruction and provides valuable \
    information for generating meaningful responses.\nUse a rating of [Relevant] to indicate relevance and usefulness, and \
    [Irrelevant] to indicate irrelevance.";
/// `ground_multi_instruction`
const GROUND: &str = "You will receive an instruction, evidence, and output, and optional preceding sentences.  If the preceding sentence is \
    given, the output should be the sentence that follows those preceding sentences. Your task is to evaluate if the output \
    is fully supported by the information provided in the evidence, and provide explanations on your judgement\nUse the \
    following entailment scale to generate a score:\n[Fully supported] - All information in output is supported by the \
    evidence, or extractions from the evidence. This is only applicable when the output and part of the evidence are almost \
    identical.\n[Partially supported] - The output is supported by the evidence to some extent, but there is major \
    information in the output that is not discussed in the evidence. For example, if an instruction asks about two concepts \
    and the evidence only discusses either of them, it should be considered a [Partially supported].\n[No support / \
    Contradictory] - The output completely ignores evidence, is unrelated to the evidence, or contradicts the evidence. This \
    can also happen if the evidence is irrelevant to the instruction.\n\nMake sure to not use any external \
    information/knowledge to judge whether the output is true or not. Only check whether the output is supported by the \
    evidence, and not whether the output follows the instructions or not.\n\n";
/// `utility_instruction`
const UTILITY_INSTRUCTION: &str = "Given an instruction and an output, rate whether the response appears to be a helpful and informative answer to the \
    query, from 1 (lowest) - 5 (highest). We call this score perceived utility.\n[Utility:5]: The response provides a \
    complete, highly detailed, and informative response to the query, fully satisfying the information needs.\n[Utility:4]: \
    The response mostly fulfills the need in the query, while there can be some minor improvements such as discussing more \
    detailed information, having better structure of the response, or improving coherence. \n[Utility:3]: The response is \
    acceptable, but some major additions or improvements are needed to satisfy users' needs.\n[Utility:2]: The response \
    still addresses the main request, but it is not complete or not relevant to the query.\n[Utility:1]: The response is \
    barely on-topic or completely irrelevant.\n";

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement<'a> {
    /// Whether the instruction needs a passage.
    Retrieval {
        /// What is asked.
        instruction: &'a str,
    },
    /// Whether the next sentence needs another passage.
    NextRetrieval {
        /// What is asked.
        instruction: &'a str,
        /// What was written so far.
        preceding: &'a str,
        /// The passage so far.
        evidence: &'a str,
        /// The sentence.
        output: &'a str,
        /// Whether `[Continue to Use Evidence]` is among the labels; otherwise `[No Retrieval]` stands for it.
        three_way: bool,
    },
    /// Whether the passage helps.
    Relevance {
        /// What is asked.
        instruction: &'a str,
        /// The passage.
        evidence: &'a str,
    },
    /// Whether the passage supports the sentence.
    Support {
        /// What is asked.
        instruction: &'a str,
        /// What was written before; may be empty.
        preceding: &'a str,
        /// The passage.
        evidence: &'a str,
        /// The sentence.
        output: &'a str,
    },
    /// Whether the answer is useful.
    Utility {
        /// What is asked.
        instruction: &'a str,
        /// The whole answer.
        output: &'a str,
    },
}

impl Judgement<'_> {
    /// The labels that it may get, by their places in [`NAMES`].
    pub fn labels(self) -> std::ops::Range<usize> {
        match self {
            Self::NextRetrieval { three_way: false, .. } => NO_RETRIEVAL..CONTINUE,
            _ => labels(self.asked().0).expect("every judgement has a task"),
        }
    }

    /// The row: the released instruction, the filled input, and the label, one of [`NAMES`] by its place.
    pub fn row(self, id: String, label: usize) -> TrainingRow {
        let (task, critic, input) = self.asked();
        TrainingRow {
            instruction: critic.to_owned(),
            input,
            output: NAMES[label].to_owned(),
            id: Some(id),
            dataset_name: None,
            task: Some(task.to_owned()),
            pieces: None,
        }
    }

    /// Task, the released instruction, and the filled input.
    pub fn asked(self) -> (&'static str, &'static str, String) {
        match self {
            Self::Retrieval { instruction } => ("retrieval", RETRIEVAL, format!("Task instruction: {instruction}")),
            Self::NextRetrieval { instruction, preceding, evidence, output, three_way } => (
                "multi_retrieval",
                if three_way { THREE_WAY } else { TWO_WAY },
                format!(
                    "Task instruction: {instruction}\nPreceding sentences: {preceding}\nEvidence: {evidence}\nOutput: {output}"
                ),
            ),
            Self::Relevance { instruction, evidence } => {
                ("relevance", RELEVANCE, format!("Task instruction: {instruction}\nEvidence: {evidence}"))
            }
            Self::Support { instruction, preceding: "", evidence, output } => (
                "groudness",
                GROUND,
                format!("Task instruction: {instruction}\nOutput: {output}\nEvidence: {evidence}"),
            ),
            Self::Support { instruction, preceding, evidence, output } => (
                "groudness",
                GROUND,
                format!(
                    "Task instruction: {instruction}\nPreceding sentences: {preceding}\nOutput: {output}\nEvidence: {evidence}"
                ),
            ),
            Self::Utility { instruction, output } => {
                ("utility", UTILITY_INSTRUCTION, format!("Task instruction: {instruction}\nOutput: {output}"))
            }
        }
    }
}

/// Of rows that ask the same the first; none of those whose labels contradict each other, and none with the template's end in it, which
/// the released combine step drops too.
pub fn unique(all: Vec<TrainingRow>, notes: &mut Notes) -> Vec<TrainingRow> {
    let mut labels: HashMap<(String, String), HashSet<String>> = HashMap::new();
    let key = |row: &TrainingRow| (row.instruction.clone(), row.input.clone());
    for row in &all {
        labels.entry(key(row)).or_default().insert(row.output.clone());
    }
    let mut rows = Vec::new();
    for row in all {
        match labels.remove(&key(&row)) {
            None => {}
            Some(_) if row.input.contains("### Response:") => notes.left_out("judgements: ### Response: in them"),
            Some(labels) if labels.len() > 1 => notes.left_out("judgements: contradict each other"),
            Some(_) => rows.push(row),
        }
    }
    rows
}

/// The labels of a task, by their places in [`NAMES`]; none: no such task.
pub fn labels(task: &str) -> Option<std::ops::Range<usize>> {
    match task {
        "retrieval" => Some(NO_RETRIEVAL..CONTINUE),
        "multi_retrieval" => Some(NO_RETRIEVAL..IRRELEVANT),
        "relevance" => Some(IRRELEVANT..IRRELEVANT + 2),
        "groudness" => Some(FULLY..NAMES.len()),
        "utility" => Some(UTILITY..FULLY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// The hashes are of the released strings.
    #[test]
    fn instructions_word_for_word() {
        for (text, hash) in [
            (RETRIEVAL, "17f65e5900d1"),
            (THREE_WAY, "569bd928267c"),
            (TWO_WAY, "a0829e487cc1"),
            (RELEVANCE, "5c0cc5e14cd6"),
            (GROUND, "bfd22238a91c"),
            (UTILITY_INSTRUCTION, "b183e5c4b5ec"),
        ] {
            let found: String = Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, hash, "{text}");
        }
    }

    #[test]
    fn inputs_word_for_word() {
        let judgement = Judgement::Support { instruction: "I", preceding: "P", evidence: "T\nE", output: "O" };
        let row = judgement.row("x".into(), FULLY);
        assert_eq!(row.input, "Task instruction: I\nPreceding sentences: P\nOutput: O\nEvidence: T\nE");
        assert_eq!((row.output.as_str(), row.task.as_deref()), ("[Fully supported]", Some("groudness")));
        let row =
            Judgement::Support { instruction: "I", preceding: "", evidence: "E", output: "O" }.row("x".into(), FULLY);
        assert_eq!(row.input, "Task instruction: I\nOutput: O\nEvidence: E");
        let next =
            Judgement::NextRetrieval { instruction: "I", preceding: "P", evidence: "E", output: "O", three_way: true };
        assert_eq!(
            next.row("x".into(), CONTINUE).input,
            "Task instruction: I\nPreceding sentences: P\nEvidence: E\nOutput: O"
        );
        assert_eq!(labels("relevance").map(|range| &NAMES[range]), Some(&NAMES[3..5]));
        assert_eq!(labels("utility").map(|range| &NAMES[range]), Some(&NAMES[7..12]));
        assert_eq!(labels("groundness"), None);
    }
}
