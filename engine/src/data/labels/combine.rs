//! Files of labels → the critic's training file (`combine_chat_gpt_reward.py`).
//!
//! | | paper | compat |
//! | --- | --- | --- |
//! | preceding sentences in support | as they are | never shown: the released test looks where they never are |
//! | sentence retrieval without preceding sentences | nothing | the word `None` |
//! | sentence retrieval with two labels | its own instruction | the three-way instruction |
//! | a question with several labels | once, or not at all if they contradict | as often as it is there |
//!
//! All sentence retrieval is `multi_retrieval`, as it is in the released file.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    ask::Record,
    item::{Item, Job},
};
use crate::{
    Error, Result,
    data::{
        critic::{Judgement, unique},
        draws::Draws,
        notes::Notes,
        rows::TrainingRow,
    },
    json_rows::Rows,
    tokenizer::reflection::NAMES,
};

/// Every number that changes the critic's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Settings {
    /// Start of all draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Share of the `[Relevant]` labels that are kept: most passages found are relevant (released code: 0.7).
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    pub relevant_share: f64,
    /// Rows held out for measuring the critic, where a file for them is named (released code: 1500).
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub dev_rows: usize,
    /// As the released code does it.
    #[arg(long)]
    pub compat: bool,
}

impl Settings {
    /// Refuses numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        match (0.0..=1.0).contains(&self.relevant_share) {
            true => Ok(()),
            false => {
                Err(Error::config("relevant-share", format!("{}, a number from 0 to 1 expected", self.relevant_share)))
            }
        }
    }
}

/// The labels of some files by question; a later file wins.
pub fn read(files: &[impl AsRef<Path>], notes: &mut Notes) -> Result<BTreeMap<String, Record>> {
    let mut records = BTreeMap::new();
    for path in files {
        let rows = Rows::open(path.as_ref())?;
        for index in 0..rows.len() {
            let place = format!("line {}", rows.line(index));
            let row = match rows.object(index) {
                Ok(row) => row,
                // A run that was killed left its last line torn.
                Err(_) if index + 1 == rows.len() && !rows.bytes().ends_with(b"\n") => {
                    notes.left_out("labels: torn last line");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if index == 0 {
                if !row.get("header").is_some_and(|header| header == "selfrag data critic-labels") {
                    let problem = "the header of `selfrag data critic-labels ask` expected";
                    return Err(Error::input(rows.name(), place, problem));
                }
                continue;
            }
            let bytes = serde_json::to_vec(&row).expect("it was JSON");
            let record = Record::parse(&bytes).map_err(|problem| Error::input(rows.name(), place, problem))?;
            match record.label {
                Some(_) => drop(records.insert(record.key.clone(), record)),
                None => notes.left_out("labels: malformed answers"),
            }
        }
    }
    Ok(records)
}

/// The rows for training and, the first [`Settings::dev_rows`] if they are wanted, for measuring.
pub fn rows(
    records: &BTreeMap<String, Record>,
    settings: &Settings,
    with_dev: bool,
    notes: &mut Notes,
) -> (Vec<TrainingRow>, Vec<TrainingRow>) {
    let mut all = Vec::new();
    for (key, record) in records {
        let label = record.job.labels().find(|place| record.label.as_deref() == Some(NAMES[*place]));
        let Some(label) = label else { continue };
        if NAMES[label] == "[Relevant]" && !Draws::new(settings.seed, key, "relevant").chance(settings.relevant_share) {
            notes.left_out("labels: [Relevant], not drawn");
            continue;
        }
        let id = format!("{}_{key}", record.job.name());
        match judgement(record.job, &record.item, settings.compat) {
            Ok(judgement) => all.push(judgement.row(id, label)),
            Err(_) => notes.left_out("labels: without a field of their job"),
        }
    }
    let mut rows = match settings.compat {
        false => unique(all, notes),
        true => {
            let before = all.len();
            all.retain(|row| !row.input.contains("### Response:"));
            (all.len()..before).for_each(|_| notes.left_out("judgements: ### Response: in them"));
            all
        }
    };
    Draws::new(settings.seed, "", "shuffle critic").shuffle(&mut rows);
    let dev = if with_dev { settings.dev_rows.min(rows.len()) } else { 0 };
    let train = rows.split_off(dev);
    (train, rows)
}

fn judgement(job: Job, item: &Item, compat: bool) -> std::result::Result<Judgement<'_>, &'static str> {
    Ok(match item.judgement(job)? {
        Judgement::Support { instruction, evidence, output, .. } if compat => {
            Judgement::Support { instruction, preceding: "", evidence, output }
        }
        Judgement::NextRetrieval { instruction, preceding, evidence, output, .. } if compat => {
            let preceding = if preceding.is_empty() { "None" } else { preceding };
            Judgement::NextRetrieval { instruction, preceding, evidence, output, three_way: true }
        }
        judgement => judgement,
    })
}
