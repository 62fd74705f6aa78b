//! Who judges: a critic, and one on a completions server. The engine's is [`super::engine_critic`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settings::{CriticTemplate, Settings};
use crate::{
    Error, Result,
    data::{
        critic::Judgement,
        parts::{CONTINUE, IRRELEVANT, NO_RETRIEVAL, RELEVANT, RETRIEVAL, UTILITY},
        rows::Template,
    },
    generator::server::{Server, ServerOptions},
    tokenizer::reflection::NAMES,
};

/// Longest prediction in tokens (`run_reward_vllm.py`).
pub const MAX_NEW_TOKENS: usize = 15;

/// What a critic says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it wrote, or the label of the task that it finds most likely. It need not be a label.
    pub pred: String,
    /// Log-probabilities of the task's labels, in their order, where they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<f32>>,
    /// Why there is no prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Judges what it is asked, several things of one task at once.
pub trait Critic {
    /// What tells its verdicts from another critic's: model and whatever else changes them.
    fn name(&self) -> String;
    /// A verdict for each; an error ends the run, which can be taken up again.
    fn judge(&mut self, asked: &[Judgement<'_>]) -> Result<Vec<Verdict>>;
}

/// The prompt of a judgement.
pub fn prompt(judgement: Judgement<'_>, template: CriticTemplate) -> String {
    match template {
        CriticTemplate::Training => {
            let row = judgement.row(String::new(), judgement.labels().start);
            row.prompt(Template::Critic)
        }
        CriticTemplate::Alpaca => {
            let (_, instruction, input) = judgement.asked();
            format!(
                "Below is an instruction that describes a task, paired with an input that provides further context. Write a response \
                 that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
            )
        }
    }
}

/// What of a continuation is the prediction: up to the first empty line, without the ends that a model may spell out.
pub fn prediction(text: &str) -> String {
    let text = text.split("\n\n").find(|part| !part.trim().is_empty()).unwrap_or_default();
    ["</s>", "<unk>", "[PAD]"].iter().fold(text.to_owned(), |text, end| text.replace(end, "")).trim().to_owned()
}

/// The label that a prediction is, of those that its judgement may get (by their places in [`NAMES`]); none: it is no label. `lenient`:
/// as the released code reads it (`postprocess_data.py`).
pub fn label(judgement: Judgement<'_>, pred: &str, lenient: bool) -> Option<usize> {
    let exact = |pred: &str| judgement.labels().find(|place| NAMES[*place] == pred);
    if !lenient {
        return exact(pred);
    }
    let pred = if pred.starts_with('[') || pred.is_empty() { pred.to_owned() } else { format!("[{pred}") };
    match judgement {
        Judgement::Retrieval { .. } | Judgement::NextRetrieval { .. } => match pred.as_str() {
            "" => None,
            "[Yes]" => Some(RETRIEVAL),
            "[No]" => Some(NO_RETRIEVAL),
            // All three are known there, whatever was asked.
            pred => Some((NO_RETRIEVAL..=CONTINUE).find(|place| NAMES[*place] == pred).unwrap_or(NO_RETRIEVAL)),
        },
        Judgement::Relevance { .. } if pred.contains("Relevant") => Some(RELEVANT),
        Judgement::Relevance { .. } => pred.contains("Irrelevant").then_some(IRRELEVANT),
        Judgement::Support { .. } => exact(&pred),
        Judgement::Utility { .. } => (1..=5).find(|digit| pred.contains(&digit.to_string())).map(|n| UTILITY + n - 1),
    }
}

/// Fields that restrict what a completions server writes to the task's labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Choices {
    /// None: any server knows them.
    #[default]
    None,
    /// `guided_choice`: older vLLM.
    GuidedChoice,
    /// `structured_outputs.choice`: newer vLLM.
    StructuredOutputs,
}

/// A critic on an OpenAI-compatible completions server: greedy, its text is the prediction.
#[derive(Debug)]
pub struct RemoteCritic {
    server: Server,
    model: String,
    template: CriticTemplate,
    choices: Choices,
    /// Whether it answered yet.
    answered: bool,
}

impl RemoteCritic {
    /// Nothing is asked yet.
    pub fn new(options: ServerOptions, model: String, choices: Choices, settings: &Settings) -> Result<Self> {
        let server = Server::new(options, "critic-server")?;
        Ok(Self { server, model, template: settings.critic_template, choices, answered: false })
    }

    fn body(&self, judgement: Judgement<'_>) -> Value {
        let mut body = json!({
            "model": self.model,
            "prompt": prompt(judgement, self.template),
            "max_tokens": MAX_NEW_TOKENS,
            "temperature": 0.0,
            "stop": ["\n\n"],
            "skip_special_tokens": false,
        });
        let labels = &NAMES[judgement.labels()];
        match self.choices {
            Choices::None => {}
            Choices::GuidedChoice => body["guided_choice"] = json!(labels),
            Choices::StructuredOutputs => body["structured_outputs"] = json!({"choice": labels}),
        }
        body
    }
}

impl Critic for RemoteCritic {
    fn name(&self) -> String {
        let choices = serde_json::to_value(self.choices).expect("a name is JSON");
        format!("{} on a completions server, choices: {}", self.model, choices.as_str().unwrap_or_default())
    }

    fn judge(&mut self, asked: &[Judgement<'_>]) -> Result<Vec<Verdict>> {
        const PATH: &str = "completions";
        let mut verdicts = vec![Verdict::default(); asked.len()];
        self.server.each(PATH, asked.len(), &|at| self.body(asked[at]), &mut |at, answer| {
            match answer {
                Ok(answer) => match answer["choices"][0]["text"].as_str() {
                    Some(text) => verdicts[at].pred = prediction(text),
                    None => return Err(self.server.error(PATH, "choices[0].text: a text expected")),
                },
                // What this one asks is refused, as a prompt that is too long is: no reason to end.
                Err(failed) if matches!(failed.status, Some(400 | 413 | 422)) => {
                    verdicts[at].problem = Some(failed.problem);
                }
                Err(failed) => return Err(self.server.error(PATH, failed.problem)),
            }
            Ok(())
        })?;
        self.answered |= verdicts.iter().any(|verdict| verdict.problem.is_none());
        // A server that refuses all that it is asked may not be asked the right way: then it refuses the shortest question too.
        if !self.answered && !verdicts.is_empty() {
            self.server.send(PATH, Some(&self.body(Judgement::Retrieval { instruction: "Hello" })))?;
            self.answered = true;
        }
        Ok(verdicts)
    }
}

/// What a critic is not able to judge, for those who report it.
pub(super) fn problem(verdict: &Verdict) -> Option<Error> {
    verdict.problem.as_ref().map(|problem| Error::input("critic", "prompt", problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::parts::{FULLY, NO_SUPPORT};

    const RET: Judgement<'static> = Judgement::Retrieval { instruction: "I" };
    const REL: Judgement<'static> = Judgement::Relevance { instruction: "I", evidence: "E" };
    const SUP: Judgement<'static> = Judgement::Support { instruction: "I", preceding: "", evidence: "E", output: "O" };
    const USE: Judgement<'static> = Judgement::Utility { instruction: "I", output: "O" };

    #[test]
    fn templates_word_for_word() {
        let training = prompt(REL, CriticTemplate::Training);
        assert!(training.starts_with("### Instruction:\nWhen given instruction and evidence, "));
        let end = "\n\n### Input:\nTask instruction: I\nEvidence: E\n\n### Response:";
        assert!(training.ends_with(end));
        let alpaca = prompt(REL, CriticTemplate::Alpaca);
        assert!(alpaca.starts_with("Below is an instruction that describes a task, paired with an input"));
        assert!(alpaca.ends_with(&training), "the preamble is the difference");
    }

    #[test]
    fn predictions_are_read_in_both_ways() {
        assert_eq!(prediction("[Relevant]</s>[PAD]\n\nmore"), "[Relevant]");
        assert_eq!(prediction("\n\n [Relevant]\n"), "[Relevant]");
        assert_eq!((prediction(""), prediction("\n\n\n")), (String::new(), String::new()));
        for (judgement, pred, paper, compat) in [
            (RET, "[Retrieval]", Some(RETRIEVAL), Some(RETRIEVAL)),
            (RET, "[Yes]", None, Some(RETRIEVAL)),
            (RET, "No Retrieval]", None, Some(NO_RETRIEVAL)),
            (RET, "Yes", None, Some(NO_RETRIEVAL)),
            (RET, "[Continue to Use Evidence]", None, Some(CONTINUE)),
            (RET, "", None, None),
            (REL, "[Irrelevant]", Some(IRRELEVANT), Some(IRRELEVANT)),
            (REL, "Relevant", None, Some(RELEVANT)),
            (REL, "[relevant]", None, None),
            (SUP, "[Fully supported]", Some(FULLY), Some(FULLY)),
            (SUP, "No support / Contradictory]", None, Some(NO_SUPPORT)),
            (SUP, "[Fully Supported]", None, None),
            (USE, "[Utility:4]", Some(UTILITY + 3), Some(UTILITY + 3)),
            (USE, "between 4 and 2", None, Some(UTILITY + 1)),
            (USE, "7", None, None),
        ] {
            assert_eq!((label(judgement, pred, false), label(judgement, pred, true)), (paper, compat), "{pred:?}");
        }
    }
}
