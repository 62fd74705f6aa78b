//! The fifteen tokens that Self-RAG adds to a vocabulary: they are ids, never substrings.
//!
//! Order and spelling are those of the released checkpoints (Llama-2: ids 32000 to 32014), table 1 of the paper gives the meaning:
//!
//! | group | tokens | asks |
//! | --- | --- | --- |
//! | retrieval | No, Yes, Continue | does the next segment need a passage? |
//! | relevance (ISREL) | Irrelevant, Relevant | does the passage help? |
//! | markup | `<paragraph>`, `</paragraph>` | where is the passage? |
//! | utility (ISUSE) | 1 to 5 | is the answer useful? |
//! | support (ISSUP) | Fully, Partially, No | does the passage support the segment? |

use serde::{Deserialize, Serialize};

use super::Tokenizer;
use crate::{Error, Result};

/// The tokens' texts in the order in which they are added.
pub const NAMES: [&str; 15] = [
    "[No Retrieval]",
    "[Retrieval]",
    "[Continue to Use Evidence]",
    "[Irrelevant]",
    "[Relevant]",
    "<paragraph>",
    "</paragraph>",
    "[Utility:1]",
    "[Utility:2]",
    "[Utility:3]",
    "[Utility:4]",
    "[Utility:5]",
    "[Fully supported]",
    "[Partially supported]",
    "[No support / Contradictory]",
];

/// How many tokens the generator watches: all but the markup.
pub const N_WATCHED: usize = 13;

/// The ids of the reflection tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReflectionTokens {
    /// `[No Retrieval]`
    pub no_retrieval: u32,
    /// `[Retrieval]`
    pub retrieval: u32,
    /// `[Continue to Use Evidence]`
    pub continue_: u32,
    /// `[Irrelevant]`
    pub irrelevant: u32,
    /// `[Relevant]`
    pub relevant: u32,
    /// `<paragraph>`
    pub paragraph_open: u32,
    /// `</paragraph>`
    pub paragraph_close: u32,
    /// `[Utility:1]` to `[Utility:5]`
    pub utility: [u32; 5],
    /// `[Fully supported]`
    pub fully: u32,
    /// `[Partially supported]`
    pub partially: u32,
    /// `[No support / Contradictory]`
    pub no_support: u32,
}

impl ReflectionTokens {
    /// Finds them in a vocabulary that has them all.
    pub fn find(tokenizer: &Tokenizer) -> Result<Self> {
        let mut ids = [0; NAMES.len()];
        for (id, name) in ids.iter_mut().zip(NAMES) {
            *id = tokenizer.id(name).ok_or_else(|| {
                let problem = "missing: this is no Self-RAG model; convert one, or merge a Self-RAG adapter into it";
                Error::input("vocabulary", name, problem)
            })?;
        }
        Ok(Self::from_ids(ids))
    }

    /// Adds those that the vocabulary lacks, in Self-RAG's order: the start of training.
    pub fn add(tokenizer: &mut Tokenizer) -> Self {
        let ids = tokenizer.add_special(&NAMES);
        Self::from_ids(ids.try_into().expect("one id for each name"))
    }

    fn from_ids(ids: [u32; 15]) -> Self {
        let [
            no_retrieval,
            retrieval,
            continue_,
            irrelevant,
            relevant,
            paragraph_open,
            paragraph_close,
            u1,
            u2,
            u3,
            u4,
            u5,
            fully,
            partially,
            no_support,
        ] = ids;
        let utility = [u1, u2, u3, u4, u5];
        Self {
            no_retrieval,
            retrieval,
            continue_,
            irrelevant,
            relevant,
            paragraph_open,
            paragraph_close,
            utility,
            fully,
            partially,
            no_support,
        }
    }

    /// The tokens to watch; [`crate::critique::GroupLogprobs::read`] takes their log-probabilities in this order.
    pub fn watched(&self) -> [u32; N_WATCHED] {
        let [u1, u2, u3, u4, u5] = self.utility;
        [
            self.no_retrieval,
            self.retrieval,
            self.continue_,
            self.irrelevant,
            self.relevant,
            u1,
            u2,
            u3,
            u4,
            u5,
            self.fully,
            self.partially,
            self.no_support,
        ]
    }

    /// Whether the token says if the next segment needs a passage.
    pub fn is_retrieval(&self, token: u32) -> bool {
        [self.no_retrieval, self.retrieval, self.continue_].contains(&token)
    }

    /// Whether the token says how well the passage supports the text.
    pub fn is_support(&self, token: u32) -> bool {
        [self.fully, self.partially, self.no_support].contains(&token)
    }

    /// Whether the token grades the answer.
    pub fn is_utility(&self, token: u32) -> bool {
        self.utility.contains(&token)
    }
}
