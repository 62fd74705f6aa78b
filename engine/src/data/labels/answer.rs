//! A server's answer as a label. What a model writes is hostile: only a first line that is a label and nothing else counts.

use serde_json::Value;

use super::item::Job;
use crate::{
    data::parts::{CONTINUE, FULLY, IRRELEVANT, NO_RETRIEVAL, RETRIEVAL, UTILITY},
    tokenizer::reflection::NAMES,
};

/// Longest answer of which a part is shown in a message.
const SHOWN: usize = 60;

impl Job {
    /// The labels, by their places in [`NAMES`].
    pub const fn labels(self) -> std::ops::Range<usize> {
        match self {
            Self::Retrieval | Self::MultiRetrieval => NO_RETRIEVAL..CONTINUE,
            Self::MultiRetrievalThreeWay => NO_RETRIEVAL..IRRELEVANT,
            Self::Relevance => IRRELEVANT..IRRELEVANT + 2,
            Self::Support => FULLY..NAMES.len(),
            Self::Utility => UTILITY..FULLY,
        }
    }
}

/// The message in a server's answer (`choices[0].message.content`), or what is there instead.
pub fn content(response: &Value) -> Result<&str, String> {
    let choice = &response["choices"][0];
    match &choice["message"]["content"] {
        Value::String(text) => Ok(text),
        _ if !choice["message"]["refusal"].is_null() => Err("the model refused".into()),
        other => Err(format!("choices[0].message.content: {}, a text expected", crate::json_rows::kind(other))),
    }
}

/// The label that an answer's first line is, or why it is none. Brackets, case, quotes, emphasis and a word such as `Label:` in front
/// do not matter; anything else does.
pub fn label(job: Job, answer: &str) -> Result<usize, String> {
    let first = answer.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if first.is_empty() {
        return Err("empty".into());
    }
    // Both on one line is as clear.
    let line = first.split("Explanation:").next().unwrap_or_default();
    let line = bare(line).to_lowercase();
    let line = ["label:", "rating:", "score:", "answer:", "decision:", "judgement:", "judgment:"]
        .iter()
        .find_map(|word| line.strip_prefix(word))
        .unwrap_or(&line);
    let line = bare(line);
    let is = |label: &usize| {
        let name = bare(NAMES[*label]).to_lowercase();
        line == name
            || match *label {
                RETRIEVAL => job == Job::Retrieval && line == "yes",
                NO_RETRIEVAL => job == Job::Retrieval && line == "no",
                UTILITY..FULLY => line.strip_prefix("utility").unwrap_or(line).trim() == &name[name.len() - 1..],
                _ => false,
            }
    };
    job.labels().find(is).ok_or_else(|| {
        let shown: String = first.chars().take(SHOWN).collect();
        format!("{shown:?} for a label of {}", job.name())
    })
}

/// Without what may stand around a label.
fn bare(text: &str) -> &str {
    text.trim_matches(|char: char| char.is_whitespace() || "*_`\"'“”[](){}.#".contains(char))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::parts::{NO_SUPPORT, PARTIALLY, RELEVANT};

    #[test]
    fn labels_are_read_and_nothing_else_is() {
        for (job, answer, expected) in [
            (Job::Retrieval, "[Yes]\nExplanation: facts.", Some(RETRIEVAL)),
            (Job::Retrieval, "no", Some(NO_RETRIEVAL)),
            (Job::Retrieval, "[No Retrieval]", Some(NO_RETRIEVAL)),
            (Job::Retrieval, "[Continue to Use Evidence]", None),
            (Job::Retrieval, "Yes, I think", None),
            (Job::MultiRetrieval, "[Yes]", None),
            (Job::MultiRetrieval, "[Continue to Use Evidence]", None),
            (Job::MultiRetrievalThreeWay, "\n **[Continue to use evidence]** \nExplanation: x", Some(CONTINUE)),
            (Job::Relevance, "Label: [Relevant] Explanation: [Irrelevant] it is not", Some(RELEVANT)),
            (Job::Relevance, "Irrelevant.", Some(IRRELEVANT)),
            (Job::Relevance, "[Relevant] or [Irrelevant]", None),
            (Job::Relevance, "Not relevant", None),
            (Job::Support, "[Partially supported]", Some(PARTIALLY)),
            (Job::Support, "[No support / Contradictory]", Some(NO_SUPPORT)),
            (Job::Support, "3", None),
            (Job::Utility, "Rating: 4", Some(UTILITY + 3)),
            (Job::Utility, "[Utility:1]", Some(UTILITY)),
            (Job::Utility, "utility 5", Some(UTILITY + 4)),
            (Job::Utility, "6", None),
            (Job::Utility, "45", None),
            (Job::Utility, "4/5", None),
            (Job::Utility, "", None),
            (Job::Utility, " \n\u{202e}é[[[", None),
        ] {
            assert_eq!(label(job, answer).ok(), expected, "{answer:?}");
        }
        assert_eq!(label(Job::Utility, " \n").unwrap_err(), "empty");
        assert!(label(Job::Utility, &"é".repeat(500)).unwrap_err().chars().count() < 100);
    }

    #[test]
    fn an_answer_without_text_is_told() {
        assert_eq!(content(&json!({"choices": [{"message": {"content": "x"}}]})), Ok("x"));
        for (response, problem) in [
            (json!({}), "null"),
            (json!([1]), "null"),
            (json!({"choices": [{"message": {"content": 7}}]}), "a number"),
            (json!({"choices": [{"message": {"content": null, "refusal": "no"}}]}), "refused"),
        ] {
            assert!(content(&response).unwrap_err().contains(problem), "{response}");
        }
    }
}
