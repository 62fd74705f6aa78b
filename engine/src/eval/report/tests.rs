use super::*;
use crate::{
    critique::Evidence,
    eval::{record::VERSION, task::Task},
    retriever::{Hit, Passage},
    self_rag::{Answer, Candidate, Config},
};

const HOSTILE: &str = "</td><script src=\"http://x/y.js\">alert('1')</script>\u{202e}\u{1b}[31m&";

fn run(mode: Mode, probability: Option<f32>, correct: f64) -> Run {
    let header = Header {
        selfrag_eval: VERSION,
        task: Task::Popqa,
        method: Method::Short(Config { mode, ..Config::paper() }),
        compat_rows: false,
        input: HOSTILE.into(),
        sha256: "0".into(),
        rows: 2,
        shard: (0, 1),
        batch: 4,
        generator: HOSTILE.into(),
        index: None,
        search: false,
    };
    let retrieved = mode != Mode::Never;
    let passage = Passage { id: "7".into(), title: HOSTILE.into(), text: HOSTILE.repeat(20) };
    let candidate = Candidate {
        hit: retrieved.then_some(Hit { passage, score: None }),
        text: HOSTILE.into(),
        tokens: vec![1],
        scores: Scores { is_rel: Some(0.75), segment: Some(2.375), ..Scores::default() },
        evidence: Evidence::default(),
        truncated: false,
    };
    let answer = Answer {
        question: HOSTILE.into(),
        text: HOSTILE.into(),
        probability,
        retrieved,
        candidates: vec![candidate],
        best: 0,
    };
    let record = |index: usize, outcome: Outcome| Record {
        index,
        line: index + 1,
        question: HOSTILE.into(),
        prompt: HOSTILE.into(),
        golds: vec![HOSTILE.into()],
        item: serde_json::Map::new(),
        outcome,
    };
    let answered = Outcome::Answered {
        prediction: HOSTILE.into(),
        output: None,
        cited: Vec::new(),
        metrics: Metrics::from([("match".into(), correct)]),
        retrieved,
        written: Written::Short(answer),
    };
    Run {
        name: HOSTILE.into(),
        header,
        records: vec![record(0, answered), record(1, Outcome::Unusable(HOSTILE.into()))],
    }
}

#[test]
fn hostile_text_stays_text_and_nothing_is_loaded() {
    let page = page(&[run(Mode::Adaptive, Some(0.9), 1.0), run(Mode::Never, None, 0.0)]);
    assert!(!page.contains("<script") && !page.contains("src=\""), "nothing runs, nothing is loaded");
    assert!(!page.contains("href") && !page.contains("url(") && !page.contains("@import"));
    assert!(!page.contains(['\u{202e}', '\u{1b}']) && page.contains("&lt;script"));
    assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"));
    let opened = |tag: &str| page.matches(&format!("<{tag}")).count();
    for tag in ["table", "details", "figure", "svg", "div", "tr", "summary"] {
        assert_eq!(opened(tag), page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn it_shows_scores_sweep_distributions_and_questions() {
    let page = page(&[run(Mode::Adaptive, Some(0.9), 1.0), run(Mode::Never, None, 0.0)]);
    assert!(
        page.contains("<td class=\"n\">1.0000</td><td class=\"n\">1.0000</td></tr>"),
        "frequency and match of the first"
    );
    assert!(page.contains("Threshold sweep") && page.contains("aria-label=\"ISREL\""));
    // δ 0.8: with passages, right; δ 1.0: without, wrong.
    assert!(page.contains("<td class=\"n\">0.8</td><td class=\"n\">1.0000</td><td class=\"n\">1.0000</td>"));
    assert!(page.contains("<td class=\"n\">1.0</td><td class=\"n\">0.0000</td><td class=\"n\">0.0000</td>"));
    assert!(
        page.contains("p(Retrieve) 0.9000: with passages") && page.contains("2.375") && page.contains("not scored")
    );
}
