//! A long answer and the tree that it was chosen from: every candidate that was written, with what its scores were computed from.
//!
//! Nodes are in the order of their creation, parents before children, so an index is a name for good. A path is a list of nodes from
//! the question downwards.

use serde::{Deserialize, Serialize};

use crate::{
    retriever::Hit,
    self_rag::{Candidate, Config, Mode, decide::ratio},
};

/// The paper's Retrieve: whether the next segment needs a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retrieve {
    /// A new one.
    Yes,
    /// None.
    No,
    /// The one it has.
    Continue,
}

/// What the model said about retrieving before a segment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Log-probabilities of `[No Retrieval]`, `[Retrieval]`, `[Continue to Use Evidence]`.
    pub logprobs: [f32; 3],
    /// What its token says; none where that is a word.
    pub said: Option<Retrieve>,
    /// Whether the path has a passage that could be kept.
    pub has_passage: bool,
}

impl Wish {
    /// The outcome, and the ratio that was held against δ; none where the mode decides alone.
    ///
    /// `continue_evidence`: a model that says Continue keeps its passage. Otherwise appendix A.3's ratio of Yes and No decides, and
    /// without a threshold the token.
    pub fn decide(&self, config: &Config, continue_evidence: bool) -> (Retrieve, Option<f32>) {
        match config.mode {
            Mode::Always => (Retrieve::Yes, None),
            Mode::Never => (Retrieve::No, None),
            Mode::Adaptive => {
                let [no, yes, _] = self.logprobs;
                let ratio = ratio(config.decision, yes, no);
                if continue_evidence && self.has_passage && self.said == Some(Retrieve::Continue) {
                    return (Retrieve::Continue, Some(ratio));
                }
                let asks = self.said == Some(Retrieve::Yes);
                let yes = config.threshold.map_or(asks, |threshold| ratio > threshold);
                (if yes { Retrieve::Yes } else { Retrieve::No }, Some(ratio))
            }
        }
    }
}

/// Why a segment ends where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentEnd {
    /// The model began the next one.
    Next,
    /// The model ended its answer.
    Answer,
    /// The token limit or the context ended it.
    Limit,
}

/// A candidate for a segment of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The segment before; none: this is a first one.
    pub parent: Option<usize>,
    /// Which segment of its path, counted from 1.
    pub depth: usize,
    /// What was decided before it.
    pub retrieve: Retrieve,
    /// What the decision was made from; none where nothing was asked (released code: inside the tree).
    pub wish: Option<Wish>,
    /// The path's passage: its own, or with [`Retrieve::Continue`] its parent's.
    pub cited: Option<Hit>,
    /// Text, tokens, scores and evidence; its hit is the passage that it was written for.
    pub candidate: Candidate,
    /// The text that the released code would have had, reflection tokens included where they are in its text.
    pub raw: String,
    /// The segment's part of the answer: trimmed, or as the released code goes on with it.
    pub text: String,
    /// The path's score down to here.
    pub path_score: f32,
    /// Sum of the log-probabilities of the path's tokens down to here.
    pub path_logprob: f32,
    /// Whether hard control excluded it.
    pub excluded: bool,
    /// Why it ends.
    pub end: SegmentEnd,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its level is not ranked yet.
    Open,
    /// It is part of the answer.
    Answer,
    /// It is part of another path that was in the beam to the end.
    Kept,
    /// It was in the beam after its segment, and every path with it fell out later.
    Overtaken,
    /// It was not in the beam after its segment.
    Dropped,
    /// Hard control excluded it.
    Excluded,
}

/// The nodes from the first segment to `node`, of a tree that is given by each node's parent.
pub fn path_of(parent: impl Fn(usize) -> Option<usize>, node: usize) -> Vec<usize> {
    // Parents come before children: what says otherwise is no tree, and must not be followed in a circle.
    let mut path: Vec<usize> =
        std::iter::successors(Some(node), |&at| parent(at).filter(|&above| above < at)).collect();
    path.reverse();
    path
}

/// What became of each node of a tree that is given by each node's parent, from the paths kept after each segment (`beams`, by their
/// last nodes) and the chosen `path`.
pub fn fates(parents: &[Option<usize>], beams: &[Vec<usize>], path: &[usize]) -> Vec<Fate> {
    let parent = |at: usize| parents.get(at).copied().flatten();
    let kept: Vec<usize> = beams.last().into_iter().flatten().flat_map(|&node| path_of(parent, node)).collect();
    let fate = |node: usize| match beams.get(path_of(parent, node).len() - 1) {
        _ if path.contains(&node) => Fate::Answer,
        _ if kept.contains(&node) => Fate::Kept,
        None => Fate::Open,
        Some(beam) if beam.contains(&node) => Fate::Overtaken,
        Some(_) => Fate::Dropped,
    };
    (0..parents.len()).map(fate).collect()
}

/// Everything that was written for a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// All candidates.
    pub nodes: Vec<Node>,
    /// The paths kept after each segment by their last nodes, best first.
    pub beams: Vec<Vec<usize>>,
}

impl Tree {
    /// The nodes from the first segment to `node`.
    pub fn path(&self, node: usize) -> Vec<usize> {
        path_of(|at| self.nodes.get(at).and_then(|node| node.parent), node)
    }

    /// What became of each node, under these `beams` with this chosen `path`: the tree's own, or those of a new ranking.
    pub fn fates(&self, beams: &[Vec<usize>], path: &[usize]) -> Vec<Fate> {
        let parents: Vec<Option<usize>> = self.nodes.iter().map(|node| node.parent).collect();
        let mut fates = fates(&parents, beams, path);
        for (fate, node) in fates.iter_mut().zip(&self.nodes) {
            if node.excluded && *fate == Fate::Dropped {
                *fate = Fate::Excluded;
            }
        }
        fates
    }

    /// The candidates that continue `node` (none: that begin an answer), in order.
    pub fn children(&self, node: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(move |&at| self.nodes[at].parent == node)
    }
}

/// A segment of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its node.
    pub node: usize,
    /// Its text, cleaned.
    pub text: String,
    /// Its passage: an index into [`LongAnswer::passages`].
    pub citation: Option<usize>,
}

/// The result of one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LongAnswer {
    /// The question.
    pub question: String,
    /// The segments' texts together, without citations.
    pub text: String,
    /// The same in pieces, with their citations.
    pub segments: Vec<Segment>,
    /// The passages that are cited, in the order of their first citation.
    pub passages: Vec<Hit>,
    /// p(Retrieve) before the first segment, where the mode asked for it.
    pub probability: Option<f32>,
    /// Whether passages were retrieved for any segment of the answer.
    pub retrieved: bool,
    /// The chosen path.
    pub path: Vec<usize>,
    /// The paths in the end by their last nodes, best first.
    pub ranked: Vec<usize>,
    /// Whether a limit ended the answer rather than the model.
    pub truncated: bool,
    /// Everything that was written.
    pub tree: Tree,
}

impl Segment {
    /// The text and its last marks, between which a citation goes.
    pub fn body_and_marks(&self) -> (&str, &str) {
        self.text.split_at(self.text.trim_end_matches(['.', '!', '?']).len())
    }
}

impl LongAnswer {
    /// The text with its citations as `[1]`, before a segment's last mark.
    pub fn cited_text(&self) -> String {
        let cite = |segment: &Segment| match segment.citation {
            None => segment.text.clone(),
            Some(index) => {
                let (body, marks) = segment.body_and_marks();
                format!("{body} [{}]{marks}", index + 1)
            }
        };
        self.segments.iter().map(cite).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p(NR) 0.6, p(R) 0.3: appendix B's ratio is 0.3333.
    fn wish(said: Option<Retrieve>, has_passage: bool) -> Wish {
        Wish { logprobs: [0.6_f32.ln(), 0.3_f32.ln(), 0.05_f32.ln()], said, has_passage }
    }

    #[test]
    fn a_wish_is_decided_by_ratio_token_and_mode() {
        let paper = Config::paper();
        let (retrieve, ratio) = wish(None, false).decide(&paper, true);
        assert_eq!(retrieve, Retrieve::Yes);
        assert!((ratio.unwrap() - 1.0 / 3.0).abs() < 1e-5);
        let shy = Config { threshold: Some(0.34), ..paper.clone() };
        assert_eq!(wish(Some(Retrieve::Yes), false).decide(&shy, true).0, Retrieve::No, "the ratio, not the token");
        let token = Config { threshold: None, ..paper.clone() };
        assert_eq!(wish(Some(Retrieve::Yes), false).decide(&token, true).0, Retrieve::Yes);
        assert_eq!(wish(None, false).decide(&token, true).0, Retrieve::No);
        let more = wish(Some(Retrieve::Continue), true);
        assert_eq!(more.decide(&paper, true).0, Retrieve::Continue);
        assert_eq!(more.decide(&paper, false).0, Retrieve::Yes, "without Continue the ratio decides");
        let nothing_held = wish(Some(Retrieve::Continue), false);
        assert_eq!(nothing_held.decide(&paper, true).0, Retrieve::Yes, "there is nothing to continue with");
        assert_eq!(more.decide(&Config { mode: Mode::Always, ..paper.clone() }, true), (Retrieve::Yes, None));
        assert_eq!(more.decide(&Config { mode: Mode::Never, ..paper }, true), (Retrieve::No, None));
    }

    /// ```text
    /// 0 ── 2      beams: 0 1 · 3 1 · 5 6      1 is kept twice, and overtaken in the end
    ///   └─ 3 ── 5                             4 was not kept after its segment
    /// 1    └─── 6                             6 is being written where the third beam is left out
    ///   └─ 4
    /// ```
    #[test]
    fn fates_by_hand() {
        use Fate::{Answer, Dropped, Kept, Open, Overtaken};
        let parents = [None, None, Some(0), Some(0), Some(1), Some(3), Some(3)];
        let beams = [vec![0, 1], vec![3, 1], vec![5, 6]];
        assert_eq!(fates(&parents, &beams, &[0, 3, 5]), [Answer, Overtaken, Dropped, Answer, Dropped, Answer, Kept]);
        assert_eq!(fates(&parents, &beams[..2], &[0, 3]), [Answer, Kept, Dropped, Answer, Dropped, Open, Open]);
        assert_eq!(fates(&parents, &[], &[]), [Open; 7]);
        assert_eq!(path_of(|_| Some(3), 3), [3], "a circle is not followed");
    }

    #[test]
    fn citations_go_before_the_mark() {
        let segment = |text: &str, citation| Segment { node: 0, text: text.into(), citation };
        let answer = LongAnswer {
            question: String::new(),
            text: String::new(),
            segments: vec![segment("One.", Some(0)), segment("Two", None), segment("Three?!", Some(1))],
            passages: Vec::new(),
            probability: None,
            retrieved: true,
            path: Vec::new(),
            ranked: Vec::new(),
            truncated: false,
            tree: Tree::default(),
        };
        assert_eq!(answer.cited_text(), "One [1]. Two Three [2]?!");
    }
}
