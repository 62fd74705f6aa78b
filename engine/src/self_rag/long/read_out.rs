//! Tree → the answer's text, segments and citations. Pure.

use super::{
    LongConfig, compat,
    grow::Asked,
    tree::{LongAnswer, Retrieve, Segment, SegmentEnd, Tree},
};
use crate::retriever::Hit;

/// The answer of a question whose tree is grown.
pub(super) fn answer(config: &LongConfig, asked: Asked<'_>) -> LongAnswer {
    let Asked { question, tree, probability, .. } = asked;
    let ranked = tree.beams.last().cloned().unwrap_or_default();
    let path = chosen(config, &tree, &ranked);
    let (segments, passages) = segments(config, &tree, &path);
    LongAnswer {
        question: question.text.clone(),
        text: text_of(config, &tree, &path),
        segments,
        passages,
        probability,
        retrieved: path.iter().any(|&node| tree.nodes[node].retrieve == Retrieve::Yes),
        truncated: path.last().is_none_or(|&node| tree.nodes[node].end != SegmentEnd::Answer),
        path,
        ranked,
        tree,
    }
}

/// The best path that has any text; the best of all if none has.
pub fn chosen(config: &LongConfig, tree: &Tree, ranked: &[usize]) -> Vec<usize> {
    let paths: Vec<Vec<usize>> = ranked.iter().map(|&node| tree.path(node)).collect();
    let with_text = paths.iter().find(|path| !text_of(config, tree, path).trim().is_empty());
    with_text.or(paths.first()).cloned().unwrap_or_default()
}

/// A path's text.
pub fn text_of(config: &LongConfig, tree: &Tree, path: &[usize]) -> String {
    let texts = path.iter().map(|&node| tree.nodes[node].text.as_str());
    if config.stop_at_segment {
        return texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
    }
    let text = compat::postprocess(&texts.collect::<Vec<_>>().join(" "), config.keep_continue_text);
    if config.fix_spacing { compat::fix_spacing(&text) } else { text }
}

/// A path's segments and the passages that they cite, each once, in the order of their first citation.
pub fn segments(config: &LongConfig, tree: &Tree, path: &[usize]) -> (Vec<Segment>, Vec<Hit>) {
    let mut passages: Vec<Hit> = Vec::new();
    let mut segments = Vec::new();
    for &node in path {
        let text = match config.stop_at_segment {
            true => tree.nodes[node].text.clone(),
            false => compat::postprocess(&tree.nodes[node].text, config.keep_continue_text),
        };
        if text.is_empty() {
            continue;
        }
        let citation = tree.nodes[node].cited.as_ref().map(|hit| {
            let known = passages.iter().position(|known| known.passage == hit.passage);
            known.unwrap_or_else(|| {
                passages.push(hit.clone());
                passages.len() - 1
            })
        });
        segments.push(Segment { node, text, citation });
    }
    (segments, passages)
}

/// ALCE's text with citations and its passages: as the released code writes them where `enumerate_citations` says so, otherwise
/// [`LongAnswer::cited_text`] with [`LongAnswer::passages`].
pub fn released_text(config: &LongConfig, answer: &LongAnswer) -> (String, Vec<Hit>) {
    if !config.enumerate_citations {
        let text = answer.cited_text();
        return (if config.fix_spacing { compat::fix_spacing(&text) } else { text }, answer.passages.clone());
    }
    let nodes: Vec<_> = answer.path.iter().map(|&node| &answer.tree.nodes[node]).collect();
    if nodes.first().is_none_or(|node| node.retrieve != Retrieve::Yes) {
        let text: Vec<&str> = nodes.iter().map(|node| node.text.as_str()).collect();
        return (compat::postprocess(&text.join(" "), config.keep_continue_text), Vec::new());
    }
    let segments: Vec<(&str, bool)> = nodes.iter().map(|node| (node.text.as_str(), node.cited.is_some())).collect();
    let (mut text, cited) = compat::cite(&segments, config.keep_continue_text, true);
    if config.fix_spacing {
        text = compat::fix_spacing(&text);
    }
    text = compat::cite_continued(&text);
    (text, cited.into_iter().filter_map(|index| nodes[index].cited.clone()).collect())
}
