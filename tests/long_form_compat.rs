//! The promise: each switch of `compat` changes what it says and nothing else, by numbers worked by hand.

#[path = "common/script.rs"]
mod script;

use std::collections::HashMap;

use script::{Step, World};
use selfrag::{
    event::Event,
    self_rag::{
        Config, LongAnswer, LongConfig, Mode, Question,
        long::{PathScore, Retrieve, released_text},
    },
    tokenizer::SegmentPrefix,
};

const FULL: [f32; 3] = [0.6, 0.3, 0.1];
const LITTLE: [f32; 3] = [0.2, 0.2, 0.6];
const GRADES: [f32; 5] = [1e-9, 1e-9, 1e-9, 0.5, 0.5];

/// The released code made to retrieve: its own adaptive mode never does.
fn always() -> LongConfig {
    let compat = LongConfig::compat();
    LongConfig { base: Config { mode: Mode::Always, ..compat.base.clone() }, ..compat }
}

/// With reflection tokens in the text, as its authors meant it.
fn meant() -> LongConfig {
    LongConfig { special_tokens_in_text: true, contaminate_siblings: false, rewrite_no_retrieval: false, ..always() }
}

fn token(token: u32) -> Step {
    Step { token, prob: 0.5, watched: HashMap::new() }
}

/// Passage one: aaa, asks again, and writes on (bbb) as nothing stops it. Passage two: a whole answer, ccc. Then, after aaa: ddd, eee.
fn world() -> World {
    let mut world = World::new(0.3, 0.6);
    let r = world.reflection;
    let asks = token(r.retrieval);
    let rest = [vec![asks], world.words("bbb.", 0.5), vec![world.end(0.5)]].concat();
    world.shelve("one", [world.supported("aaa.", 0.75, FULL), rest].concat());
    world.shelve("two", world.graded("ccc.", 0.6, LITTLE, GRADES));
    let (ddd, eee) = (world.graded("ddd.", 0.5, LITTLE, GRADES), world.graded("eee.", 0.9, FULL, GRADES));
    world.lines.push(("aaa.[Fully supported][Retrieval]<paragraph>one".into(), ddd));
    world.lines.push(("aaa.[Fully supported][Retrieval]<paragraph>two".into(), eee));
    world
}

#[track_caller]
fn scores(answer: &LongAnswer, expected: &[f32]) {
    let found: Vec<f32> = answer.tree.nodes.iter().map(|node| node.path_score).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-4), "{found:?} found, {expected:?} expected");
}

/// `special_tokens_in_text` off: the tree has one level, the answer is one block. Scores are 1.0 · rel + 1.0 · sup.
#[test]
fn as_released_the_answer_is_one_block() {
    let world = world();
    let (answer, _) = world.ask_long(&always());
    scores(&answer, &[1.5, 0.9]);
    assert_eq!((answer.tree.beams.len(), answer.text.as_str()), (1, "aaa. bbb."), "invented text stays");
    assert_eq!(answer.tree.nodes[0].raw, "aaa.bbb.");
    let (text, passages) = released_text(&always(), &answer);
    // `fix_spacing` parts the two sentences; the citation takes the last period's place.
    assert_eq!((text.as_str(), passages[0].passage.title.as_str(), passages.len()), ("aaa. bbb [1].", "one", 1));
}

/// `special_tokens_in_text` on: aaa | [Retrieval] is cut off and answered; path scores are products.
#[test]
fn with_tokens_in_the_text_the_tree_grows() {
    let world = world();
    let (answer, _) = world.ask_long(&meant());
    scores(&answer, &[1.5, 0.9, 1.5 * 0.8, 1.5 * 1.65]);
    assert_eq!(answer.path, [0, 3]);
    assert_eq!(answer.tree.nodes[0].text, "[Relevant]aaa.[Fully supported]");
    assert_eq!(answer.tree.nodes[0].raw, "[Relevant]aaa.[Fully supported][Retrieval]bbb.</s>");
    assert_eq!(answer.text, "aaa. eee.");
    let (text, passages) = released_text(&meant(), &answer);
    assert_eq!(text, "aaa [1]. eee [2].");
    assert_eq!(passages.iter().map(|hit| hit.passage.title.as_str()).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn path_score_and_score_terms() {
    let world = world();
    let with = |change: &dyn Fn(&mut LongConfig)| {
        let mut config = meant();
        change(&mut config);
        world.ask_long(&config).0
    };
    scores(&with(&|c| c.path_score = PathScore::Sum), &[1.5, 0.9, 2.3, 3.15]);
    // ISUSE 0.75 with its 0.5: 0.375 where a grade was written.
    scores(&with(&|c| c.ignore_utility = false), &[1.5, 1.275, 1.5 * 1.175, 1.5 * 2.025]);
    // The sequence score 0.5 everywhere.
    scores(&with(&|c| c.ignore_seqscore = false), &[2.0, 1.4, 2.0 * 1.3, 2.0 * 2.15]);
    scores(&with(&|c| c.base.w_rel = 3.0), &[1.5, 0.9, 1.2, 2.475]);
    scores(&with(&|c| (c.base.w_rel, c.fixed_weights) = (3.0, false)), &[3.0, 2.1, 3.0 * 1.8, 3.0 * 3.45]);
}

#[test]
fn finished_paths_are_lost_or_kept() {
    let mut world = world();
    // The second level is poor: 0.1 + 0.3 = 0.4, so 1.5 · 0.4 = 0.6, under the finished 0.9.
    for (marker, steps) in [
        ("aaa.[Fully supported][Retrieval]<paragraph>one", 0.1),
        ("aaa.[Fully supported][Retrieval]<paragraph>two", 0.1),
    ] {
        let poor = world.graded("poor.", steps, LITTLE, GRADES);
        world.lines.iter_mut().find(|(known, _)| known == marker).unwrap().1 = poor;
    }
    let (answer, _) = world.ask_long(&meant());
    assert_eq!((answer.text.as_str(), answer.ranked.as_slice()), ("aaa. poor.", &[2, 3][..]));
    let (answer, _) = world.ask_long(&LongConfig { keep_finished: true, ..meant() });
    assert_eq!((answer.text.as_str(), answer.ranked.as_slice()), ("ccc.", &[1, 2][..]));
}

#[test]
fn searches_and_contexts() {
    let world = world();
    let paragraphs = |config: &LongConfig| {
        world.log.borrow_mut().freed.clear();
        world.log.borrow_mut().searches.clear();
        world.ask_long(config);
        let log = world.log.borrow();
        let count = |tokens: &Vec<u32>| tokens.iter().filter(|t| **t == world.reflection.paragraph_open).count();
        (log.freed.iter().map(count).max().unwrap(), log.searches.clone())
    };
    assert_eq!(paragraphs(&meant()), (1, vec!["Q?".to_owned()]), "the text alone, and the first search's passages");
    let again = paragraphs(&LongConfig { retrieve_again: true, ..meant() });
    assert_eq!(again.1.len(), 2, "{again:?}");
    assert!(again.1[1].starts_with("Q? ") && again.1[1].contains("aaa."), "{again:?}");
}

#[test]
fn siblings_are_mixed_up_or_not() {
    let mut world = World::new(0.3, 0.6);
    let r = world.reflection;
    let asks = |text: &str, relevant| {
        [world.supported(text, relevant, FULL), vec![token(r.retrieval), world.end(0.5)]].concat()
    };
    let (aaa, bbb) = (asks("aaa.", 0.9), asks("bbb.", 0.8));
    world.shelve("one", aaa);
    world.shelve("two", bbb);
    for title in ["one", "two"] {
        let end = world.graded("end.", 0.5, LITTLE, GRADES);
        for context in ["aaa.[Fully supported]", "bbb.[Fully supported]"] {
            world.lines.push((format!("{context}[Retrieval]<paragraph>{title}"), end.clone()));
        }
    }
    let contexts = |config: &LongConfig| {
        world.log.borrow_mut().freed.clear();
        world.ask_long(config);
        let text = |tokens: &Vec<u32>| tokens.iter().filter_map(|&t| world.tokenizer.token(t)).collect::<String>();
        let all: Vec<String> = world.log.borrow().freed.iter().map(text).collect();
        let has = |part: &str| all.iter().any(|text| text.contains(part));
        (
            has("\n[Relevant]bbb") || has("<0x0A>[Relevant]bbb"),
            has("aaa.[Fully\u{2581}supported][Relevant]bbb") || has("aaa.[Fully supported][Relevant]bbb"),
        )
    };
    let clean = LongConfig { max_depth: 3, ..meant() };
    assert_eq!(contexts(&clean), (true, false), "the second child follows its parent, the question");
    let mixed = LongConfig { contaminate_siblings: true, ..clean };
    assert_eq!(contexts(&mixed), (false, true), "the second child follows the first");
}

#[test]
fn depth_counts_the_question() {
    let world = world();
    let levels = |max_depth, depth_counts_root| {
        world.ask_long(&LongConfig { max_depth, depth_counts_root, ..meant() }).0.tree.beams.len()
    };
    assert_eq!([levels(2, true), levels(2, false), levels(3, true)], [1, 2, 2]);
}

/// The probe: 25 greedy tokens. As released their text has no reflection tokens, so nothing is ever retrieved (§4.2).
#[test]
fn the_probe_decides() {
    let mut world = World::new(0.3, 0.6);
    let r = world.reflection;
    let plain = [world.words("plain\n\nmore", 0.5), vec![world.end(0.5)]].concat();
    world.without(plain);
    world.shelve("one", world.graded("aaa.", 0.75, FULL, GRADES));
    // The first line's only step is the first token; the probe then goes on along this one.
    let watched = world.lines[0].1[0].watched.clone();
    let first = |token| Step { token, prob: 0.9, watched: watched.clone() };
    let probe = |world: &mut World, tokens: Vec<Step>| world.lines[0].1 = tokens;
    let retrieved = |world: &World, config: &LongConfig| {
        let (answer, events) = world.ask_long(config);
        assert!(matches!(events[0], Event::Decision { retrieve, .. } if retrieve == answer.retrieved));
        (answer.retrieved, answer.text)
    };
    let word = world.words("a", 0.5)[0].token;
    let asks = vec![first(word), token(r.retrieval), world.end(0.5)];
    probe(&mut world, asks);
    let compat = LongConfig::compat();
    let meant = LongConfig { special_tokens_in_text: true, ..compat.clone() };
    assert_eq!(retrieved(&world, &compat), (false, "plain".into()), "cut at the empty line");
    assert_eq!(retrieved(&world, &meant), (true, "aaa.".into()), "the ratio 0.333 is above 0.2");
    let shy = LongConfig { base: Config { threshold: Some(0.4), ..meant.base.clone() }, ..meant.clone() };
    assert!(!retrieved(&world, &shy).0, "in its text, but 0.333 is not above 0.4");
    let none = LongConfig { base: Config { threshold: None, ..meant.base.clone() }, ..meant.clone() };
    assert!(!retrieved(&world, &none).0, "no threshold, no retrieval");
    // Beyond an empty line the probe's text does not count.
    let late = [vec![first(word)], world.words("\n\n", 0.5), vec![token(r.retrieval), world.end(0.5)]].concat();
    probe(&mut world, late);
    assert!(!retrieved(&world, &meant).0);
    // Without the probe the ratio decides alone.
    assert!(retrieved(&world, &LongConfig { probe_decision: false, ..compat }).0);
}

/// p(NR) 0.6, p(R) 0.1, p(C) 0.04: (0.1 + 0.04) / 0.7 = 0.2. δ 0.19: rewritten, and so the segment is cut there.
#[test]
fn no_retrieval_in_the_text_is_rewritten() {
    let mut world = World::new(0.3, 0.6);
    let r = world.reflection;
    let no = world.boundary(r.no_retrieval, [0.6, 0.1, 0.04]);
    world.shelve(
        "one",
        [world.supported("aaa.", 0.75, FULL), vec![no], world.words("bbb.", 0.5), vec![world.end(0.5)]].concat(),
    );
    let with = |threshold, rewrite_no_retrieval| {
        let base = Config { threshold: Some(threshold), ..meant().base };
        world.ask_long(&LongConfig { base, rewrite_no_retrieval, max_depth: 2, ..meant() }).0.tree.nodes[0].clone()
    };
    let rewritten = with(0.19, true);
    assert_eq!(rewritten.text, "[Relevant]aaa.[Fully supported]");
    assert_eq!(rewritten.raw, "[Relevant]aaa.[Fully supported][Retrieval]bbb.</s>[No Retrieval]");
    assert_eq!(with(0.21, true).raw, "[Relevant]aaa.[Fully supported][No Retrieval]bbb.</s>[No Retrieval]");
    assert_eq!(with(0.19, false).raw, "[Relevant]aaa.[Fully supported][No Retrieval]bbb.</s>");
}

#[test]
fn text_and_citation_switches() {
    let mut world = World::new(0.3, 0.6);
    let r = world.reflection;
    let rest = [vec![token(r.retrieval), world.end(0.5)]].concat();
    let steps = [world.words("In 3.5 U.S.", 0.5), rest.clone()].concat();
    world.shelve("one", steps);
    let more =
        [world.words("ok.", 0.5), vec![token(r.continue_)], world.words("no.", 0.5), vec![world.end(0.5)]].concat();
    world.lines.push(("U.S.[Retrieval]<paragraph>one".into(), more));
    let (answer, _) = world.ask_long(&meant());
    assert_eq!(answer.text, "In 3. 5 U. S. ok.[Continue to Use Evidence]no.");
    let (text, passages) = released_text(&meant(), &answer);
    assert_eq!(
        (text.as_str(), passages.len()),
        ("In 3. 5 U. S [1]. ok [1]. no [2].", 2),
        "Continue gets the first citation"
    );
    let (answer, _) = world.ask_long(&LongConfig { fix_spacing: false, ..meant() });
    assert_eq!(answer.text, "In 3.5 U.S. ok.[Continue to Use Evidence]no.");
    let (answer, _) = world.ask_long(&LongConfig { fix_spacing: false, keep_continue_text: false, ..meant() });
    assert_eq!(answer.text, "In 3.5 U.S. ok.no.");
    assert_eq!(answer.segments[1].text, "ok.no.");
    let modern = LongConfig { enumerate_citations: false, ..meant() };
    let (text, passages) = released_text(&modern, &world.ask_long(&modern).0);
    assert!(text.ends_with("[1].") && passages.len() == 1, "one passage is listed once: {text}");
}

#[test]
fn no_retrieval_mode_works_where_the_released_code_crashes() {
    let mut world = world();
    world.without([world.words(" plain.\n\nmore", 0.5), vec![world.end(0.5)]].concat());
    let base = Config { mode: Mode::Never, ..LongConfig::compat().base };
    let config = LongConfig { base, ..LongConfig::compat() };
    let (answer, _) = world.ask_long(&config);
    assert_eq!((answer.text.as_str(), answer.tree.nodes[0].retrieve), ("plain.", Retrieve::No));
    let (text, passages) = released_text(&config, &answer);
    assert_eq!((text.as_str(), passages.len()), ("plain.", 0));
}

#[test]
fn segment_prefix_is_every() {
    let world = world();
    let seen = |segment_prefix| {
        world.log.borrow_mut().freed.clear();
        let base = Config { segment_prefix, ..always().base };
        world
            .try_long(&[Question::new("Q?")], &LongConfig { base, ..always() }, &Default::default(), &mut |_| {})
            .unwrap();
        let log = world.log.borrow();
        let after = |tokens: &Vec<u32>| {
            let at = tokens.iter().position(|&id| id == world.reflection.paragraph_open)?;
            Some(world.tokenizer.token(tokens[at + 1]).unwrap().starts_with('\u{2581}'))
        };
        log.freed.iter().find_map(after).unwrap()
    };
    assert!(seen(SegmentPrefix::Every) && !seen(SegmentPrefix::None));
    assert_eq!(LongConfig::compat().base.segment_prefix, SegmentPrefix::Every);
}
