//! One level of the tree: passages, candidates, their writing, and which paths go on.

use super::{Batch, Retrieve, SegmentEnd, Tree, Wish, beam, compat, said, tree::Node};
use crate::{
    Result,
    event::{Event, Planned},
    generator::{SeqId, prompt},
    retriever::Hit,
    self_rag::{
        Candidate, Passages, Question,
        writing::{Rules, Writing},
    },
    tokenizer::reflection::NAMES,
};

/// Least room for a segment with its passage; with less a path ends.
const LEAST_ROOM: usize = 8;

/// A question under way.
pub(super) struct Asked<'q> {
    pub(super) question: &'q Question,
    /// The prompt's sequence, while it is needed.
    prompt: Option<SeqId>,
    n_prompt: usize,
    pub(super) probability: Option<f32>,
    pub(super) tree: Tree,
    /// Paths that go on.
    pub(super) open: Vec<Path>,
    /// Paths that ended and are in the beam, best first.
    finished: Vec<usize>,
    /// The question's own passages, once they were searched.
    hits: Option<Vec<Hit>>,
}

impl<'q> Asked<'q> {
    pub(super) fn new(
        question: &'q Question,
        prompt: SeqId,
        n_prompt: usize,
        root: Path,
        probability: Option<f32>,
    ) -> Self {
        Self {
            question,
            prompt: Some(prompt),
            n_prompt,
            probability,
            tree: Tree::default(),
            open: vec![root],
            finished: Vec::new(),
            hits: None,
        }
    }
}

/// A path that goes on.
pub(super) struct Path {
    /// Its last node; none: the question.
    node: Option<usize>,
    /// A sequence that holds all of it; none: the prompt, and then `context`.
    seq: Option<SeqId>,
    /// Where passages are not kept: what follows the prompt, the last segment left out (the released code's `prompt`).
    before: Vec<u32>,
    /// Where passages are not kept: the last segment (the released code's `processed_pred`).
    own: Vec<u32>,
    /// Tokens of the sequence.
    used: usize,
    /// Tokens written on the path.
    written: usize,
    held: Option<Hit>,
    retrieve: Retrieve,
    wish: Option<Wish>,
}

impl Path {
    pub(super) fn root(n_prompt: usize, retrieve: Retrieve, wish: Wish) -> Self {
        Self {
            node: None,
            seq: None,
            before: Vec::new(),
            own: Vec::new(),
            used: n_prompt,
            written: 0,
            held: None,
            retrieve,
            wish: Some(wish),
        }
    }
}

/// A candidate of this level and what its node needs to know.
struct Growing {
    /// Which of the question's open paths it continues.
    path: usize,
    /// Tokens of its sequence before anything was written.
    used: usize,
    retrieve: Retrieve,
    cited: Option<Hit>,
}

impl Batch<'_, '_> {
    /// Grows every open path by a segment and selects what goes on.
    pub(super) async fn grow(&mut self, asked: &mut [Asked<'_>], level: usize) -> Result<()> {
        let hits = self.passages(asked).await?;
        self.lay_contexts(asked).await?;
        let (mut growing, mut writings) = (Vec::new(), Vec::new());
        for (index, (asked, hits)) in asked.iter_mut().zip(hits).enumerate() {
            self.start(index, asked, hits, level, &mut growing, &mut writings)?;
        }
        let rules = self.rules;
        while self.sequences.step(&mut writings, &rules, self.stop, self.on_event).await? {}
        let mut written: Vec<Vec<(Growing, Writing)>> = asked.iter().map(|_| Vec::new()).collect();
        for (growing, writing) in growing.into_iter().zip(writings) {
            written[writing.question].push((growing, writing));
        }
        for (index, (asked, written)) in asked.iter_mut().zip(written).enumerate() {
            if !asked.open.is_empty() {
                self.select(index, asked, written, level);
            }
        }
        Ok(())
    }

    /// The passages for each open path of each question; none where a path does without. One search for all.
    async fn passages(&mut self, asked: &mut [Asked<'_>]) -> Result<Vec<Vec<Vec<Hit>>>> {
        let n_docs = self.config.base.n_docs;
        let mut hits: Vec<Vec<Vec<Hit>>> = asked.iter().map(|asked| vec![Vec::new(); asked.open.len()]).collect();
        let (mut queries, mut places) = (Vec::new(), Vec::new());
        for (index, asked) in asked.iter_mut().enumerate() {
            for (place, path) in asked.open.iter().enumerate().filter(|(_, path)| path.retrieve == Retrieve::Yes) {
                match &asked.question.passages {
                    Passages::Given(given) => {
                        let given = given.iter().take(n_docs);
                        hits[index][place] =
                            given.map(|passage| Hit { passage: passage.clone(), score: None }).collect();
                    }
                    Passages::Retrieved => match path.node {
                        Some(node) if self.config.retrieve_again => {
                            queries.push(query(asked.question, &asked.tree.nodes[node].text));
                            places.push((index, place));
                        }
                        // Only a question's first search has no hits yet.
                        _ => match &asked.hits {
                            Some(known) => hits[index][place] = known.clone(),
                            None => {
                                queries.push(asked.question.query().to_owned());
                                places.push((index, place));
                            }
                        },
                    },
                }
            }
        }
        if let Some(retriever) = self.retriever.as_mut().filter(|_| !queries.is_empty()) {
            self.stop.check()?;
            let texts: Vec<&str> = queries.iter().map(String::as_str).collect();
            let found = retriever.search(&texts, n_docs).await?;
            assert_eq!(found.len(), queries.len(), "the retriever gives one list for each question");
            for ((index, place), mut found) in places.into_iter().zip(found) {
                found.truncate(n_docs);
                asked[index].hits.get_or_insert_with(|| found.clone());
                hits[index][place] = found;
            }
        }
        for (index, (asked, hits)) in asked.iter_mut().zip(&hits).enumerate() {
            for (path, hits) in asked.open.iter_mut().zip(hits) {
                if path.retrieve == Retrieve::Yes && hits.is_empty() {
                    path.retrieve = Retrieve::No;
                    let message = "no passage found: going on without".to_owned();
                    (self.on_event)(index, Event::Warning { message });
                }
            }
        }
        Ok(hits)
    }

    /// Where passages are not kept: a sequence of prompt and text for every open path, filled in one pass.
    async fn lay_contexts(&mut self, asked: &mut [Asked<'_>]) -> Result<()> {
        let available = self.sequences.generator.context_length();
        let mut batch = Vec::new();
        for asked in asked.iter_mut() {
            for path in asked.open.iter_mut().filter(|path| path.seq.is_none()) {
                let prompt = asked.prompt.expect("kept while passages are not");
                let seq = self.sequences.fork(prompt)?;
                path.seq = Some(seq);
                let context = [path.before.as_slice(), &path.own].concat();
                path.used = asked.n_prompt + context.len();
                // A path that does not fit is ended by `start`.
                if !context.is_empty() && path.used + LEAST_ROOM <= available {
                    batch.push((seq, context));
                }
            }
            if self.config.keep_passages
                && let Some(prompt) = asked.prompt.take()
            {
                self.sequences.free(prompt);
            }
        }
        if !batch.is_empty() {
            self.sequences.forward(&batch, self.stop).await?;
        }
        Ok(())
    }

    /// The candidates of a question's open paths.
    fn start(
        &mut self,
        index: usize,
        asked: &mut Asked<'_>,
        hits: Vec<Vec<Hit>>,
        level: usize,
        growing: &mut Vec<Growing>,
        writings: &mut Vec<Writing>,
    ) -> Result<()> {
        let reflection = self.rules.reflection;
        let mut planned = Vec::new();
        for (place, (path, hits)) in asked.open.iter_mut().zip(hits).enumerate() {
            let seq = path.seq.take().expect("laid before");
            let left = self.sequences.generator.context_length().saturating_sub(path.used);
            let wanted = self.config.base.max_new_tokens.min(self.config.max_total_tokens.saturating_sub(path.written));
            // The question itself has room: its prompt was checked.
            let fits = path.node.is_none() || left >= LEAST_ROOM && wanted > 0;
            let mut inputs: Vec<(Vec<u32>, Option<Hit>)> = Vec::new();
            match path.retrieve {
                Retrieve::Yes => {
                    for hit in hits.into_iter().filter(|_| fits) {
                        let made = self.rules.passage(&hit.passage, left, wanted)?;
                        if made.cut > 0 {
                            let message = prompt::cut_message(&hit.passage, made.cut);
                            (self.on_event)(index, Event::Warning { message });
                        }
                        inputs.push((made.tokens, Some(hit)));
                    }
                }
                Retrieve::No if fits => inputs.push((vec![reflection.no_retrieval], None)),
                Retrieve::Continue if fits => inputs.push((vec![reflection.continue_], None)),
                _ => {}
            }
            if !fits && let Some(node) = path.node {
                asked.tree.nodes[node].end = SegmentEnd::Limit;
                asked.finished.push(node);
            }
            for (input, hit) in inputs {
                let node = asked.tree.nodes.len() + planned.len();
                let room = wanted.min(left - input.len());
                let cited = if path.retrieve == Retrieve::Continue { path.held.clone() } else { hit.clone() };
                let fork = self.sequences.fork(seq)?;
                let (retrieve, used) = (path.retrieve, path.used + input.len());
                let probability = path.wish.and_then(|wish| self.config.decide(level, &wish).1);
                planned.push(Planned { node, parent: path.node, retrieve, probability, hit: hit.clone() });
                growing.push(Growing { path: place, used, retrieve, cited });
                writings.push(Writing::new(index, node, fork, hit, input, room));
            }
            self.sequences.free(seq);
        }
        if !planned.is_empty() {
            (self.on_event)(index, Event::Segments { depth: level, segments: planned });
        }
        Ok(())
    }

    /// The written candidates become nodes; the best paths go on.
    fn select(&mut self, index: usize, asked: &mut Asked<'_>, written: Vec<(Growing, Writing)>, level: usize) {
        let first = asked.tree.nodes.len();
        let mut paths: Vec<Option<Path>> = Vec::new();
        // The text of the sibling before, which the released code mixes up with the parent's.
        let mut elder: Option<(usize, Vec<u32>)> = None;
        for (growing, writing) in written {
            let place = growing.path;
            let mixed = elder.take().filter(|(of, _)| self.config.contaminate_siblings && *of == place);
            let (node, path, own) = self.node(asked, growing, writing, level, mixed.map(|(_, own)| own));
            asked.tree.nodes.push(node);
            paths.push(path);
            elder = Some((place, own));
        }
        let tree = &mut asked.tree;
        let new: Vec<usize> = (first..tree.nodes.len()).collect();
        if !new.is_empty() && new.iter().all(|&node| tree.nodes[node].excluded) && asked.finished.is_empty() {
            let message = "hard control excluded every candidate: the best of them goes on".to_owned();
            (self.on_event)(index, Event::Warning { message });
        }
        let beam = beam::select(self.config, tree, &asked.finished, &new, |node| tree.nodes[node].path_score);
        (asked.open, asked.finished) = (Vec::new(), Vec::new());
        for &node in &beam {
            match node.checked_sub(first).and_then(|at| paths.get_mut(at)).and_then(Option::take) {
                Some(path) => asked.open.push(path),
                None => asked.finished.push(node),
            }
        }
        for path in paths.into_iter().flatten() {
            path.seq.into_iter().for_each(|seq| self.sequences.free(seq));
        }
        (self.on_event)(index, Event::Beam { depth: level, nodes: beam.clone() });
        tree.beams.push(beam);
    }

    /// A candidate as a node, as a path if it may go on, and the tokens of its part of the answer. `elder`: what stands in the place of
    /// the parent's text.
    fn node(
        &mut self,
        asked: &Asked<'_>,
        growing: Growing,
        mut writing: Writing,
        level: usize,
        elder: Option<Vec<u32>>,
    ) -> (Node, Option<Path>, Vec<u32>) {
        let config = self.config;
        let parent = &asked.open[growing.path];
        let (seq, boundary, ended) = (writing.seq, writing.boundary, writing.ended);
        let retrievals = std::mem::take(&mut writing.retrievals);
        let candidate = writing.into_candidate(self.rules.config);
        let (raw, text, kept) = self.texts(&candidate, growing.retrieve, &retrievals);
        let has_passage = growing.cited.is_some();
        let next =
            boundary.map(|(token, logprobs)| Wish { logprobs, said: said(self.rules.reflection, token), has_passage });
        // Where segments are not stopped at, a text that asks for a passage goes on, and gets one unasked.
        let asks = !config.stop_at_segment && growing.retrieve == Retrieve::Yes && kept.is_some();
        let end = match (next.is_some() || asks, ended) {
            (true, _) => SegmentEnd::Next,
            (false, true) => SegmentEnd::Answer,
            (false, false) => SegmentEnd::Limit,
        };
        let mut segments: Vec<f32> = parent
            .node
            .map_or(Vec::new(), |node| asked.tree.path(node))
            .iter()
            .map(|&at| asked.tree.nodes[at].candidate.scores.segment.unwrap_or(0.0))
            .collect();
        segments.push(candidate.scores.segment.unwrap_or(0.0));
        let own = kept.unwrap_or_else(|| candidate.tokens.clone());
        let path = (end == SegmentEnd::Next).then(|| {
            let retrieve = match next {
                Some(wish) => config.decide(level + 1, &wish).0,
                None => Retrieve::Yes,
            };
            Path {
                node: Some(asked.tree.nodes.len()),
                seq: config.keep_passages.then_some(seq),
                before: match config.keep_passages {
                    true => Vec::new(),
                    false => [parent.before.as_slice(), elder.as_ref().unwrap_or(&parent.own)].concat(),
                },
                own: if config.keep_passages { Vec::new() } else { own.clone() },
                used: growing.used + candidate.tokens.len(),
                written: parent.written + candidate.tokens.len(),
                held: growing.cited.clone(),
                retrieve,
                wish: next,
            }
        });
        if path.as_ref().is_none_or(|path| path.seq.is_none()) {
            self.sequences.free(seq);
        }
        let node = Node {
            parent: parent.node,
            depth: level,
            retrieve: growing.retrieve,
            wish: parent.wish,
            cited: growing.cited,
            excluded: beam::excluded(config.hard, &candidate, self.rules.reflection),
            path_score: beam::path_score(config.path_score, &segments),
            path_logprob: parent.node.map_or(0.0, |node| asked.tree.nodes[node].path_logprob)
                + candidate.evidence.sum_logprob,
            candidate,
            raw,
            text,
            end,
        };
        (node, path, own)
    }

    /// The raw text, the segment's part of the answer, and, where the released code would go on, the tokens of that part.
    fn texts(
        &self,
        candidate: &Candidate,
        retrieve: Retrieve,
        retrievals: &[(usize, [f32; 3])],
    ) -> (String, String, Option<Vec<u32>>) {
        let Rules { tokenizer, reflection, .. } = self.rules;
        let config = self.config;
        if config.stop_at_segment {
            let raw = compat::spelled(tokenizer, reflection, &candidate.tokens);
            return (raw, candidate.text.trim().to_owned(), None);
        }
        if !config.special_tokens_in_text {
            // The released code cuts an answer without passages at the first empty line.
            let text = match retrieve {
                Retrieve::Yes => candidate.text.clone(),
                _ => candidate.text.split("\n\n").next().unwrap_or_default().to_owned(),
            };
            return (candidate.text.clone(), text, None);
        }
        let raw = compat::spelled(tokenizer, reflection, &candidate.tokens);
        if retrieve != Retrieve::Yes {
            let text = raw.split("\n\n").next().unwrap_or_default().to_owned();
            return (raw, text, None);
        }
        let threshold = config.base.threshold.filter(|_| config.rewrite_no_retrieval);
        let tokens = match threshold {
            Some(threshold) => compat::rewrite_no_retrieval(reflection, &candidate.tokens, retrievals, threshold),
            None => candidate.tokens.clone(),
        };
        let raw = compat::spelled(tokenizer, reflection, &tokens);
        let kept = tokens.iter().position(|&token| token == reflection.retrieval).map(|at| tokens[..at].to_vec());
        let text = raw.split(NAMES[1]).next().unwrap_or_default().to_owned();
        (raw, text, kept)
    }
}

/// What is searched for a later segment: the question and the segment before (Algorithm 1: x, y_{t-1}).
fn query(question: &Question, previous: &str) -> String {
    format!("{} {previous}", question.query()).trim_end().to_owned()
}
