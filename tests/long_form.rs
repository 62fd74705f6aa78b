//! The promise: the long form grows the paper's tree (Algorithm 1) over one KV cache, keeps every candidate, cites rightly, and gives
//! every sequence back however it ends. The numbers are worked by hand: every token has probability 0.5, so a sequence score is 0.5.

#[path = "common/script.rs"]
mod script;

use std::collections::HashMap;

use script::{Step, World, passage};
use selfrag::{
    Error,
    event::Event,
    self_rag::{
        Config, Form, LongAnswer, LongConfig, Mode, Question, Settings, Stop,
        export::{Export, Written},
        long::{Fate, HardControl, PathScore, Retrieve, SegmentEnd},
        rerank,
    },
};

/// ISSUP 0.75, and 0.2 + 0.5 · 0.2 = 0.3.
const FULL: [f32; 3] = [0.6, 0.3, 0.1];
const LITTLE: [f32; 3] = [0.2, 0.2, 0.6];
/// ISUSE 0.5 · 0.5 + 0.5 · 1 = 0.75.
const GRADES: [f32; 5] = [1e-9, 1e-9, 1e-9, 0.5, 0.5];
/// No, Yes, Continue.
const YES: [f32; 3] = [0.1, 0.8, 0.05];

/// Two passages, two segments. Segment scores by node:
///
/// ```text
/// 0: one, aaa  0.5 + 0.75 + 0.75         = 2      → asks again
///    2: one, ccc  0.5 + 0.5 + 0.3 + 0.375 = 1.675     3: two, ddd  0.5 + 0.9 + 0.75 + 0.375 = 2.525
/// 1: two, bbb  0.5 + 0.6 + 0.3           = 1.4    → goes on with its passage
///    4: eee       0.5 + 0.375             = 0.875
/// ```
fn two_segments() -> World {
    let mut world = World::new(0.3, 0.6);
    let r = world.reflection;
    let asks = world.boundary(r.retrieval, YES);
    let continues = world.boundary(r.continue_, [0.1, 0.2, 0.6]);
    world.shelve("one", [world.supported("aaa.", 0.75, FULL), vec![asks]].concat());
    world.shelve("two", [world.supported("bbb.", 0.6, LITTLE), vec![continues]].concat());
    let more = |world: &mut World, marker: &str, steps| world.lines.push((marker.into(), steps));
    let (ccc, ddd) = (world.graded("ccc.", 0.5, LITTLE, GRADES), world.graded("ddd.", 0.9, FULL, GRADES));
    more(&mut world, "aaa.[Fully supported][Retrieval]<paragraph>one", ccc);
    more(&mut world, "aaa.[Fully supported][Retrieval]<paragraph>two", ddd);
    let eee = world.graded("eee.", 0.5, LITTLE, GRADES);
    // Without a passage of its own: text, grade, end.
    let eee = [&eee[1..eee.len() - 3], &eee[eee.len() - 2..]].concat();
    more(&mut world, "[Continue to Use Evidence]", eee);
    world
}

fn close(found: f32, expected: f32, what: &str) {
    assert!((found - expected).abs() < 1e-4, "{what}: {found} found, {expected} expected");
}

fn path_scores(answer: &LongAnswer) -> Vec<f32> {
    answer.tree.nodes.iter().map(|node| node.path_score).collect()
}

#[track_caller]
fn all_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    found.iter().zip(expected).enumerate().for_each(|(at, (f, e))| close(*f, *e, &format!("node {at}")));
}

#[test]
fn the_paper_grows_scores_and_cites() {
    let world = two_segments();
    let (answer, events) = world.ask_long(&LongConfig::paper());
    close(answer.probability.unwrap(), 1.0 / 3.0, "p(Retrieve)");
    all_close(&path_scores(&answer), &[2.0, 1.4, 3.675, 4.525, 2.275]);
    assert_eq!(answer.tree.beams, [vec![0, 1], vec![3, 2]]);
    assert_eq!((answer.path.as_slice(), answer.text.as_str()), (&[0, 3][..], "aaa. ddd."));
    assert_eq!(answer.cited_text(), "aaa [1]. ddd [2].");
    assert_eq!(answer.passages.iter().map(|hit| hit.passage.title.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(answer.retrieved && !answer.truncated);
    let node = &answer.tree.nodes[4];
    assert_eq!((node.parent, node.depth, node.retrieve), (Some(1), 2, Retrieve::Continue));
    assert_eq!(node.cited.as_ref().unwrap().passage.title, "two", "it keeps its parent's passage");
    assert_eq!(
        (node.candidate.hit.is_none(), node.candidate.scores.is_rel),
        (true, None),
        "nothing new to be relevant"
    );
    let ends: Vec<_> = answer.tree.nodes.iter().map(|node| node.end).collect();
    assert_eq!(ends, [SegmentEnd::Next, SegmentEnd::Next, SegmentEnd::Answer, SegmentEnd::Answer, SegmentEnd::Answer]);
    // The boundary belongs to the next segment; what was said there is kept with it.
    let tokens = |at: usize| answer.tree.nodes[at].candidate.tokens.len() as f32;
    close(answer.tree.nodes[0].path_logprob, tokens(0) * 0.5_f32.ln(), "log-probability of one segment");
    close(answer.tree.nodes[3].path_logprob, (tokens(0) + tokens(3)) * 0.5_f32.ln(), "of two");
    close(answer.tree.nodes[3].wish.unwrap().logprobs[1], 0.8_f32.ln(), "log p(R) before it");
    assert_eq!(answer.tree.nodes[0].raw, "[Relevant]aaa.[Fully supported]");

    let log = world.log.borrow();
    assert_eq!(log.searches, ["Q?", "Q? aaa."], "a later search has the segment before; Continue searches nothing");
    let level_two =
        log.batches.iter().rposition(|&size| size == 3).expect("three candidates of two paths are one batch");
    assert!(log.batches[..2] == [1, 2] && level_two > 2, "{:?}", log.batches);
    let shared =
        log.freed.iter().filter(|tokens| tokens.iter().filter(|t| **t == world.reflection.paragraph_open).count() == 2);
    assert_eq!(shared.count(), 2, "two candidates read both passages");

    let position = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).expect("the event comes");
    let order = [
        position(&|e| matches!(e, Event::Decision { retrieve: true, .. })),
        position(&|e| matches!(e, Event::Segments { depth: 1, segments } if segments.len() == 2)),
        position(&|e| matches!(e, Event::Text { candidate: 1, .. })),
        position(&|e| matches!(e, Event::Beam { depth: 1, nodes } if nodes == &[0, 1])),
        position(&|e| matches!(e, Event::Segments { depth: 2, segments } if segments[2].parent == Some(1))),
        position(&|e| matches!(e, Event::Finished { candidate: 4 })),
        position(&|e| matches!(e, Event::Beam { depth: 2, .. })),
        events.len() - 1,
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert!(matches!(events.last(), Some(Event::LongAnswer { .. })));
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<LongAnswer>(&json).unwrap(), answer, "all of it is kept in JSON");
}

#[test]
fn path_scores_add_up_as_told() {
    let world = two_segments();
    let with = |path_score| world.ask_long(&LongConfig { path_score, ..LongConfig::paper() }).0;
    all_close(&path_scores(&with(PathScore::Product)), &[2.0, 1.4, 3.35, 5.05, 1.225]);
    all_close(&path_scores(&with(PathScore::Mean)), &[2.0, 1.4, 1.8375, 2.2625, 1.1375]);
}

#[test]
fn weights_and_beam_width() {
    let world = two_segments();
    let base =
        Config { w_rel: 2.0, w_sup: 0.0, w_use: 4.0, use_seqscore: false, max_new_tokens: 200, ..Config::paper() };
    let (answer, _) = world.ask_long(&LongConfig { base, ..LongConfig::paper() });
    // 2 · 0.75; 2 · 0.6; + 2 · 0.5 + 4 · 0.75; + 2 · 0.9 + 3; + 3.
    all_close(&path_scores(&answer), &[1.5, 1.2, 5.5, 6.3, 4.2]);
    let (answer, _) = world.ask_long(&LongConfig { beam_width: 1, ..LongConfig::paper() });
    assert_eq!(answer.tree.nodes.len(), 4, "the second path is not gone on with");
    let (answer, _) = world.ask_long(&LongConfig { max_depth: 1, ..LongConfig::paper() });
    assert_eq!((answer.text.as_str(), answer.truncated), ("aaa.", true), "the depth ended it, not the model");
}

/// Node 0 ends its answer at once with 2 + 0.375; node 1 goes on: 1.4 and 1.4 + 0.875.
fn one_finishes() -> World {
    let mut world = two_segments();
    let aaa = world.graded("aaa.", 0.75, FULL, GRADES);
    world.lines.iter_mut().find(|(marker, _)| marker == "<paragraph>one").unwrap().1 = aaa;
    world
}

#[test]
fn finished_paths_compete_with_longer_ones() {
    let world = one_finishes();
    let (answer, _) = world.ask_long(&LongConfig::paper());
    all_close(&path_scores(&answer), &[2.375, 1.4, 2.275]);
    assert_eq!((answer.text.as_str(), answer.tree.beams.last().unwrap().as_slice()), ("aaa.", &[0, 2][..]));
    let (lost, _) = world.ask_long(&LongConfig { keep_finished: false, ..LongConfig::paper() });
    assert_eq!(
        (lost.text.as_str(), lost.ranked.as_slice()),
        ("bbb. eee.", &[2][..]),
        "the deepest level alone is read"
    );
}

#[test]
fn no_passage_at_first_and_one_later() {
    let mut world = World::new(0.1, 0.9);
    let r = world.reflection;
    let asks = world.boundary(r.retrieval, YES);
    world.without([world.words("plain", 0.5), vec![asks]].concat());
    world.shelve("one", world.graded("with", 0.9, FULL, GRADES));
    let (answer, events) = world.ask_long(&LongConfig::paper());
    assert_eq!(answer.cited_text(), "plain with [1]");
    let citations: Vec<_> = answer.segments.iter().map(|segment| segment.citation).collect();
    assert_eq!((citations, answer.retrieved), (vec![None, Some(0)], true));
    assert_eq!(answer.tree.nodes[0].retrieve, Retrieve::No);
    assert!(matches!(&events[0], Event::Decision { retrieve: false, .. }));
    // Never: the model's wish is not heard. Its text is then followed by [No Retrieval] again and again, up to the depth.
    let never = LongConfig { base: Config { mode: Mode::Never, ..LongConfig::paper().base }, ..LongConfig::paper() };
    let (answer, _) = world.ask_long(&never);
    assert_eq!((answer.text.as_str(), answer.retrieved), ("plain plain plain plain plain plain", false));
    // δ above the ratio 0.8 / 0.9 of the boundary: no passage.
    let shy = LongConfig {
        base: Config { threshold: Some(0.9), ..LongConfig::paper().base },
        max_depth: 2,
        ..LongConfig::paper()
    };
    assert_eq!(world.ask_long(&shy).0.text, "plain plain");
}

#[test]
fn continue_is_heard_or_not() {
    let world = two_segments();
    // Without Continue, p(R) 0.2 against p(NR) 0.1 is 0.667: node 1 gets passages too. Its script then begins anew.
    let config = LongConfig { continue_evidence: false, max_depth: 2, ..LongConfig::paper() };
    let (answer, _) = world.ask_long(&config);
    let retrieves: Vec<_> = answer.tree.nodes.iter().map(|node| (node.parent, node.retrieve)).collect();
    assert_eq!(retrieves[4..], [(Some(1), Retrieve::Yes); 2]);
}

/// Node 2 continues 0, node 3 continues 1; both without a passage: 0.5 + 0.375.
#[test]
fn what_is_forced_is_decided_whatever_the_model_says() {
    let mut world = two_segments();
    let fff = world.graded("fff.", 0.5, LITTLE, GRADES);
    world.without([&fff[1..fff.len() - 3], &fff[fff.len() - 2..]].concat());
    let forced = |forced: &[Option<bool>]| LongConfig { forced: forced.to_vec(), ..LongConfig::paper() };
    let config = forced(&[None, Some(false)]);
    let (answer, events) = world.ask_long(&config);
    all_close(&path_scores(&answer), &[2.0, 1.4, 2.875, 2.275]);
    assert_eq!(answer.cited_text(), "aaa [1]. fff.");
    assert_eq!(answer.tree.nodes[2].wish.unwrap().said, Some(Retrieve::Yes), "the model's wish is kept");
    let retrieves: Vec<_> = answer.tree.nodes.iter().map(|node| node.retrieve).collect();
    assert_eq!(retrieves, [Retrieve::Yes, Retrieve::Yes, Retrieve::No, Retrieve::No], "for every path, Continue too");
    assert_eq!(world.log.borrow().searches, ["Q?"]);
    let planned: Option<Vec<_>> = events.iter().find_map(|event| match event {
        Event::Segments { depth: 2, segments } => Some(segments.iter().map(|planned| planned.probability).collect()),
        _ => None,
    });
    assert_eq!(planned, Some(vec![None, None]), "nothing was asked");
    // Under another δ only what the model decided would change.
    let base = Config { threshold: Some(0.95), ..LongConfig::paper().base };
    assert_eq!(rerank::long(&answer, &LongConfig { base, ..config }).decisions, [0, 1]);

    let (answer, events) = world.ask_long(&forced(&[Some(false)]));
    assert_eq!((answer.text.as_str(), answer.probability, answer.retrieved), ("fff.", None, false));
    assert!(matches!(&events[0], Event::Decision { probability: None, threshold: None, retrieve: false }));
    // Also against the mode, and one segment says nothing about the next.
    let never = Config { mode: Mode::Never, ..LongConfig::paper().base };
    let (answer, _) = world.ask_long(&LongConfig { base: never, ..forced(&[Some(true)]) });
    assert_eq!((answer.text.as_str(), answer.tree.nodes.len()), ("aaa. fff.", 4));
    // Older journals have no such setting, and a config without one is written as they are.
    let json = serde_json::to_string(&LongConfig::paper()).unwrap();
    assert!(!json.contains("forced") && serde_json::to_string(&forced(&[Some(true)])).unwrap().contains("forced"));
}

#[test]
fn a_tree_is_exported_with_scores_and_fates() {
    let world = two_segments();
    let settings = Settings { form: Form::Long, ..Settings::default() };
    let (answer, _) = world.ask_long(&settings.long(&[]));
    let ranking = rerank::long(&answer, &settings.long(&[]));
    let export = Export::new("M", (&settings, &[]), &settings, Written::Long { answer: &answer, ranking: &ranking });
    let markdown = export.markdown();
    let (head, candidates) = markdown.split_once("\n## Candidates\n\n").unwrap();
    assert!(
        head.starts_with("# Q?\n\naaa \\[1\\]. ddd \\[2\\].\n\n## Sources\n\n1. **one**: text\n2. **two**: text\n"),
        "{head}"
    );
    let lines = [
        "- **answer** 2.000 · one: aaa. (ISREL 0.750, ISSUP 0.750, ISUSE –, sequence 0.500, segment 2.000)",
        "  - kept 3.675 · one: ccc. (ISREL 0.500, ISSUP 0.300, ISUSE 0.750, sequence 0.500, segment 1.675)",
        "  - **answer** 4.525 · two: ddd. (ISREL 0.900, ISSUP 0.750, ISUSE 0.750, sequence 0.500, segment 2.525)",
        "- overtaken 1.400 · two: bbb. (ISREL 0.600, ISSUP 0.300, ISUSE –, sequence 0.500, segment 1.400)",
        "  - dropped 2.275: eee. (ISREL –, ISSUP –, ISUSE 0.750, sequence 0.500, segment 0.875)",
    ];
    assert_eq!(candidates.lines().collect::<Vec<_>>(), lines);
    let json: serde_json::Value = serde_json::from_str(&export.json()).unwrap();
    let long = &json["written"]["long"];
    assert_eq!(serde_json::from_value::<LongAnswer>(long["answer"].clone()).unwrap(), answer, "nothing is lost");
    assert_eq!(long["ranking"]["path"], serde_json::json!([0, 3]));
}

#[test]
fn hard_control_excludes() {
    let world = two_segments();
    let hard = HardControl { no_support: true, ..HardControl::default() };
    let (answer, _) = world.ask_long(&LongConfig { hard, ..LongConfig::paper() });
    let excluded: Vec<_> = answer.tree.nodes.iter().map(|node| node.excluded).collect();
    assert_eq!(excluded, [false, true, true, false], "little support is no support here: 0.6");
    assert_eq!((answer.tree.beams.clone(), answer.text.as_str()), (vec![vec![0], vec![3]], "aaa. ddd."));
    // Everything excluded: the best goes on, and it is said.
    let mut world = World::new(0.3, 0.6);
    world.shelve("one", world.graded("aaa", 0.3, FULL, GRADES));
    let hard = HardControl { irrelevant: true, ..HardControl::default() };
    let (answer, events) = world.ask_long(&LongConfig { hard, ..LongConfig::paper() });
    assert_eq!(answer.text, "aaa");
    assert!(events.iter().any(|e| matches!(e, Event::Warning { message } if message.contains("hard control"))));
}

#[test]
fn given_passages_and_none_at_all() {
    let mut world = two_segments();
    world.lines.push(("<paragraph>mine".into(), world.graded("given", 0.9, FULL, GRADES)));
    let given = [Question::with_passages("Q?", vec![passage("mine")])];
    let (answers, _) = world.try_long(&given, &LongConfig::paper(), &Stop::default(), &mut |_| {}).unwrap();
    assert_eq!(answers[0].text, "given");
    assert!(world.log.borrow().searches.is_empty());
    world.without([world.words("plain", 0.5), vec![world.end(0.5)]].concat());
    let none = [Question::with_passages("Q?", Vec::new())];
    let (answers, events) = world.try_long(&none, &LongConfig::paper(), &Stop::default(), &mut |_| {}).unwrap();
    assert_eq!((answers[0].text.as_str(), answers[0].retrieved), ("plain", false));
    assert!(events.iter().any(|event| matches!(event, Event::Warning { .. })));
}

#[test]
fn several_questions_are_one_batch() {
    let mut world = two_segments();
    world.without([world.words("plain", 0.5), vec![world.end(0.5)]].concat());
    let questions = [Question::new("Q?"), Question::with_passages("R?", vec![]), Question::new("Q?")];
    let (answers, _) = world.try_long(&questions, &LongConfig::paper(), &Stop::default(), &mut |_| {}).unwrap();
    let alone = world.ask_long(&LongConfig::paper()).0;
    assert_eq!((&answers[0], &answers[2], answers[1].text.as_str()), (&alone, &alone, "plain"), "in a batch as alone");
    assert!(world.log.borrow().batches.contains(&5), "2 + 1 + 2 candidates");
    assert!(world.try_long(&[], &LongConfig::paper(), &Stop::default(), &mut |_| {}).unwrap().0.is_empty());
}

#[test]
fn limits_of_segment_answer_and_context() {
    let world = two_segments();
    let base = Config { max_new_tokens: 2, ..Config::paper() };
    let (answer, _) = world.ask_long(&LongConfig { base, ..LongConfig::paper() });
    assert!(answer.tree.nodes.iter().all(|node| node.candidate.tokens.len() == 2 && node.end == SegmentEnd::Limit));
    assert!(answer.truncated && answer.tree.beams.len() == 1);

    let first = world.ask_long(&LongConfig::paper()).0.tree.nodes[0].candidate.tokens.len();
    let (answer, _) = world.ask_long(&LongConfig { max_total_tokens: first + 1, ..LongConfig::paper() });
    assert_eq!(answer.tree.nodes[3].candidate.tokens.len(), 1, "what the first segment left");
    let (answer, _) = world.ask_long(&LongConfig { max_total_tokens: first, ..LongConfig::paper() });
    assert!(answer.tree.nodes.iter().all(|node| node.candidate.tokens.len() <= first));
    assert_eq!(answer.tree.nodes[0].end, SegmentEnd::Limit, "nothing was left to write");

    // Contexts of every size: the answer is shorter, or there is none; nothing overflows.
    let mut small = two_segments();
    let mut cut = 0;
    for context in 20..80 {
        small.context = context;
        let base = Config { max_new_tokens: 16, ..Config::paper() };
        let config = LongConfig { base, ..LongConfig::paper() };
        match small.try_long(&[Question::new("Q?")], &config, &Stop::default(), &mut |_| {}) {
            Ok((answers, _)) => {
                cut += usize::from(answers[0].tree.nodes.iter().any(|node| node.end == SegmentEnd::Limit))
            }
            Err(error) => assert!(matches!(error, Error::ContextFull { .. }), "context {context}: {error}"),
        }
    }
    assert!(cut > 3, "{cut} answers met the context's end");
    small.context = 10;
    let error = small.try_long(&[Question::new("Q?")], &LongConfig::paper(), &Stop::default(), &mut |_| {});
    assert!(matches!(error, Err(Error::ContextFull { .. })));
}

#[test]
fn sequences_are_freed_on_stop_and_on_errors() {
    let passes = {
        let world = two_segments();
        world.ask_long(&LongConfig::paper());
        world.log.borrow().batches.len()
    };
    for config in [LongConfig::paper(), LongConfig { keep_passages: false, ..LongConfig::paper() }] {
        for pass in 1..=passes {
            let world = two_segments();
            world.log.borrow_mut().fail_at = Some(pass);
            let failed = world.try_long(&[Question::new("Q?")], &config, &Stop::default(), &mut |_| {});
            assert!(matches!(failed, Err(Error::Input { .. })), "pass {pass}");
        }
    }
    for depth in [1, 2] {
        let (world, stop) = (two_segments(), Stop::default());
        let mut at = 0;
        let stopped = world.try_long(&[Question::new("Q?")], &LongConfig::paper(), &stop, &mut |event| {
            if matches!(event, Event::Segments { depth: d, .. } if *d == depth) {
                stop.stop();
                at = world.log.borrow().batches.len();
            }
        });
        assert!(matches!(stopped, Err(Error::Stopped)));
        assert_eq!(world.log.borrow().batches.len(), at, "no pass after a stop");
    }
}

#[test]
fn an_empty_segment_is_no_certain_one() {
    let mut world = World::new(0.3, 0.6);
    let r = world.reflection;
    let asks = world.boundary(r.retrieval, YES);
    world.shelve("one", vec![asks]);
    let (answer, _) = world.ask_long(&LongConfig { max_depth: 2, ..LongConfig::paper() });
    all_close(&path_scores(&answer), &[0.0, 0.0]);
    assert_eq!((answer.text.as_str(), answer.segments.len()), ("", 0));
}

#[test]
fn a_model_that_opens_a_passage_of_its_own_is_stopped() {
    let mut world = World::new(0.1, 0.9);
    let r = world.reflection;
    let opens = world.boundary(r.paragraph_open, [0.1, 0.1, 0.1]);
    world.without([world.words("plain", 0.5), vec![opens]].concat());
    world.shelve("one", world.graded("with", 0.9, FULL, GRADES));
    assert_eq!(world.ask_long(&LongConfig::paper()).0.text, "plain with");
}

#[test]
fn sampling_leaves_decisions_alone() {
    let world = two_segments();
    let sampling = selfrag::generator::sampler::Sampling { temperature: 0.7, top_p: 0.9, seed: 3 };
    let base = Config { sampling, ..LongConfig::paper().base };
    world.ask_long(&LongConfig { base, ..LongConfig::paper() });
    let greedy = selfrag::generator::sampler::Sampling::GREEDY;
    assert_eq!(world.log.borrow().samplings, [(0, greedy), (1, sampling)]);
}

#[test]
fn ranked_again_with_the_same_settings_nothing_changes() {
    for world in [two_segments(), one_finishes()] {
        for path_score in [PathScore::Sum, PathScore::Product, PathScore::Mean] {
            for (beam_width, keep_finished) in [(1, true), (2, true), (2, false), (5, true)] {
                let config = LongConfig { path_score, beam_width, keep_finished, ..LongConfig::paper() };
                let (answer, _) = world.ask_long(&config);
                let again = rerank::long(&answer, &config);
                assert_eq!((&again.path, &again.ranked, &again.text), (&answer.path, &answer.ranked, &answer.text));
                assert_eq!((&again.segments, &again.passages), (&answer.segments, &answer.passages));
                assert_eq!((&again.path_scores, &again.beams), (&path_scores(&answer), &answer.tree.beams));
                assert!(!again.changed && again.decisions.is_empty() && again.unwritten.is_empty(), "{again:?}");
            }
        }
    }
}

#[test]
fn ranked_again_with_other_weights() {
    let world = two_segments();
    let (answer, _) = world.ask_long(&LongConfig::paper());
    let weighed = |w_rel, w_sup, w_use| {
        let base = Config { w_rel, w_sup, w_use, ..LongConfig::paper().base };
        rerank::long(&answer, &LongConfig { base, ..LongConfig::paper() })
    };
    // ISSUP against: 0.5 - 0.75 + 0.5 - 0.3 … the less supported path leads: 1: 0.5 - 0.3, 0: 0.5 - 0.75.
    let against = weighed(0.0, -1.0, 0.0);
    all_close(&against.path_scores, &[-0.25, 0.2, -0.25 + 0.2, -0.25 - 0.25, 0.2 + 0.5]);
    assert_eq!((against.path.as_slice(), against.text.as_str(), against.changed), (&[1, 4][..], "bbb. eee.", true));
    assert_eq!(against.passages[0].passage.title, "two");
    assert_eq!(against.beams, [vec![1, 0], vec![4, 2]]);
    let fates = answer.tree.fates(&against.beams, &against.path);
    assert_eq!(fates, [Fate::Kept, Fate::Answer, Fate::Kept, Fate::Dropped, Fate::Answer]);
    let fates = answer.tree.fates(&answer.tree.beams, &answer.path);
    assert_eq!(fates, [Fate::Answer, Fate::Overtaken, Fate::Kept, Fate::Answer, Fate::Dropped]);
    // With a beam of one and these weights node 1 would have gone on, and it did.
    let base = Config { w_rel: 0.0, w_sup: -1.0, w_use: 0.0, ..LongConfig::paper().base };
    let narrow = rerank::long(&answer, &LongConfig { beam_width: 1, base: base.clone(), ..LongConfig::paper() });
    assert_eq!((narrow.path.as_slice(), narrow.unwritten.len()), (&[1, 4][..], 0));
    // Grown with a beam of one, node 1 was never gone on with: that is reported.
    let (grown, _) = world.ask_long(&LongConfig { beam_width: 1, ..LongConfig::paper() });
    let unknown = rerank::long(&grown, &LongConfig { beam_width: 1, base, ..LongConfig::paper() });
    assert_eq!((unknown.path.as_slice(), unknown.unwritten.as_slice()), (&[1][..], &[1][..]));
    // δ over every ratio: all passages were decided otherwise.
    let base = Config { threshold: Some(0.95), ..LongConfig::paper().base };
    assert_eq!(rerank::long(&answer, &LongConfig { base, ..LongConfig::paper() }).decisions, [0, 1, 2, 3]);
}

#[test]
fn short_answers_are_ranked_again() {
    let mut world = World::new(0.3, 0.6);
    world.shelve("one", world.graded("first", 0.9, LITTLE, GRADES));
    world.shelve("two", world.graded("second", 0.6, FULL, GRADES));
    let (answer, _) = world.ask(&Config::paper());
    // 0.5 + 0.9 + 0.3 + 0.375 = 2.075 and 0.5 + 0.6 + 0.75 + 0.375 = 2.225.
    assert_eq!(answer.best, 1);
    let same = rerank::short(&answer, &Config::paper());
    assert_eq!((same.best, same.changed, same.decision_changes), (Some(1), false, Some(false)));
    assert_eq!(same.scores, answer.candidates.iter().map(|candidate| candidate.scores).collect::<Vec<_>>());
    let other = rerank::short(&answer, &Config { w_sup: 0.0, threshold: Some(0.5), ..Config::paper() });
    assert_eq!((other.best, other.text.as_str(), other.changed), (Some(0), "first", true));
    assert_eq!(other.decision_changes, Some(true), "1/3 is not above 0.5");
    close(other.scores[0].segment.unwrap(), 1.775, "0.5 + 0.9 + 0.375");
}

/// Steps that are not in the script would panic; this one is only here to be cut off.
#[test]
fn text_after_the_boundary_is_not_written() {
    let mut world = World::new(0.1, 0.9);
    let r = world.reflection;
    let no = Step { token: r.no_retrieval, prob: 0.5, watched: HashMap::new() };
    world.without([world.words("ab", 0.5), vec![no]].concat());
    let (answer, _) = world.ask_long(&LongConfig { max_depth: 1, ..LongConfig::paper() });
    assert_eq!((answer.text.as_str(), answer.tree.nodes[0].end), ("ab", SegmentEnd::Next));
}
