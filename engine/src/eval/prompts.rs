//! The baselines: prompts that know nothing of reflection (released code, `PROMPT_DICT`), with passages or without, and what is made
//! of their answers.

use serde::{Deserialize, Serialize};

use super::task::Task;
use crate::retriever::Passage;

/// A baseline's prompt by its name in the released code; those that end in `retrieval` put the passages into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Baseline {
    /// Self-RAG's own prompt.
    PromptNoInput,
    /// Alpaca's with a paragraph.
    PromptNoInputRetrieval,
    /// Open-Instruct's.
    PromptOpenInstruct,
    /// Open-Instruct's with a reference.
    PromptOpenInstructRetrieval,
    /// Llama-2 chat's.
    LlamaChatPrompt,
    /// Llama-2 chat's with passages.
    LlamaChatPromptRetrieval,
}

impl Baseline {
    /// Whether passages go into it.
    pub const fn retrieves(self) -> bool {
        matches!(
            self,
            Self::PromptNoInputRetrieval | Self::PromptOpenInstructRetrieval | Self::LlamaChatPromptRetrieval
        )
    }

    /// The prompt.
    pub fn fill(self, instruction: &str, passages: &[Passage]) -> String {
        let paragraph = if self.retrieves() { paragraph(passages) } else { String::new() };
        match self {
            Self::PromptNoInput => crate::generator::prompt::instruction(instruction),
            Self::PromptNoInputRetrieval => format!(
                "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Paragraph:\n{paragraph}\n\n### Instruction:\n{instruction}\n\n### Response:"
            ),
            Self::PromptOpenInstruct => format!("<user>\n{instruction}\n<assistant>\n"),
            Self::PromptOpenInstructRetrieval => {
                format!("<user>\nReference:{paragraph}\n{instruction}\n<assistant>\n")
            }
            Self::LlamaChatPrompt => format!("[INST]{instruction}[/INST]"),
            Self::LlamaChatPromptRetrieval => format!("[INST]{paragraph}\n{instruction}[/INST]"),
        }
    }
}

/// Numbered passages, one on a line.
fn paragraph(passages: &[Passage]) -> String {
    let line = |(index, passage): (usize, &Passage)| format!("[{}] {}\n{}", index + 1, passage.title, passage.text);
    passages.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// A baseline's answer: up to the first empty line, without one leading space; of closed tasks the last of their choices that is in
/// it, or the whole. `SUPPORTS` and `REFUTES` become true and false; the released code leaves a bare `REFUTES` as it is.
pub fn clean(task: Task, text: &str) -> String {
    let text = text.split("\n\n").next().unwrap_or_default().replace("</s>", "");
    let text = text.strip_prefix(' ').unwrap_or(&text).to_owned();
    if task == Task::Pubhealth {
        match text.trim() {
            "SUPPORTS" => return "true".into(),
            "REFUTES" => return "false".into(),
            _ => {}
        }
    }
    let in_text = |choice: &&&str| match task {
        Task::Pubhealth => text.to_lowercase().contains(**choice),
        _ => text.contains(**choice),
    };
    task.choices().iter().rev().find(in_text).map_or(text.clone(), |choice| (*choice).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_word_for_word() {
        let passage = |title: &str| Passage { id: title.into(), title: title.into(), text: "text".into() };
        let passages = [passage("one"), passage("two")];
        assert_eq!(Baseline::PromptNoInput.fill("Q?", &passages), "### Instruction:\nQ?\n\n### Response:\n");
        assert_eq!(
            Baseline::LlamaChatPromptRetrieval.fill("Q?", &passages),
            "[INST][1] one\ntext\n[2] two\ntext\nQ?[/INST]"
        );
        assert_eq!(
            Baseline::PromptOpenInstructRetrieval.fill("Q?", &passages[..1]),
            "<user>\nReference:[1] one\ntext\nQ?\n<assistant>\n"
        );
        let alpaca = Baseline::PromptNoInputRetrieval.fill("Q?", &passages[..1]);
        assert!(alpaca.ends_with("### Paragraph:\n[1] one\ntext\n\n### Instruction:\nQ?\n\n### Response:"));
    }

    #[test]
    fn answers_are_cut_and_closed_ones_chosen() {
        assert_eq!(clean(Task::Popqa, " Paris.\n\nMore"), "Paris.");
        assert_eq!(clean(Task::Pubhealth, "REFUTES"), "false");
        assert_eq!(clean(Task::Pubhealth, "This is True."), "true");
        assert_eq!(clean(Task::ArcC, "Not B but C"), "C");
        assert_eq!(clean(Task::ArcC, "none"), "none");
    }
}
