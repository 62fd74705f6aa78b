//! The promise: labels become rows as the paper says, or as the released code does; each expected row is worked out by hand.

use selfrag::data::{
    generator::{
        assemble::{Answer, Judged, Sentence, assemble},
        settings::Settings,
        sources::Source,
    },
    notes::Notes,
    parts::{CONTINUE, FULLY, IRRELEVANT, NO_RETRIEVAL, NO_SUPPORT, PARTIALLY, RELEVANT, RETRIEVAL, UTILITY},
};

const GOOD: usize = UTILITY + 4;

fn source(set: &str, output: &str) -> Source {
    Source { id: "1".into(), set: set.into(), instruction: "I".into(), input: String::new(), output: output.into() }
}

/// Passages `T0\nt`, `T1\nt`, … with relevance and support.
fn passages(labels: &[(usize, usize)]) -> Vec<Judged> {
    let label = |label: usize| (label > 0).then_some(label);
    let one = |(at, (relevance, support)): (usize, &(usize, usize))| Judged {
        passage: format!("T{at}\nt"),
        relevance: label(*relevance),
        support: label(*support),
    };
    labels.iter().enumerate().map(one).collect()
}

fn sentence(text: &str, retrieve: usize, labels: &[(usize, usize)]) -> Sentence {
    Sentence { text: text.into(), skipped: false, retrieve: Some(retrieve), passages: passages(labels) }
}

fn bare(text: &str) -> Sentence {
    Sentence { text: text.into(), skipped: true, retrieve: Some(RETRIEVAL), passages: Vec::new() }
}

/// The output of one answer, or why there is none.
fn made(set: &str, need: usize, sentences: Vec<Sentence>, settings: &Settings) -> Result<String, String> {
    let texts: Vec<&str> = sentences.iter().map(|sentence| sentence.text.as_str()).collect();
    let source = source(set, &texts.join(" "));
    let answer = Answer { source: &source, need: Some(need), utility: Some(GOOD), sentences };
    let mut notes = Notes::default();
    let mut rows = assemble(&[answer], settings, &mut notes);
    match rows.pop() {
        Some(row) => Ok(row.output),
        None => Err(notes.left_out.keys().next().expect("nothing is dropped without a reason").to_string()),
    }
}

/// A sentence S that wants a passage.
fn chosen(set: &str, labels: &[(usize, usize)], settings: &Settings) -> Result<String, String> {
    let output = made(set, RETRIEVAL, vec![sentence("S.", RETRIEVAL, labels)], settings)?;
    let output = output.strip_prefix("[Retrieval]<paragraph>").expect("a passage");
    Ok(output.strip_suffix("[Utility:5]").expect("a utility").replace("\nt</paragraph>", " "))
}

fn ok(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Draws that are certain: what is kept is always kept, what is rare is never drawn.
fn certain() -> Settings {
    Settings {
        keep_no_retrieval: 1.0,
        keep_partially_supported: 1.0,
        keep_no_support: 1.0,
        irrelevant_for_nq: 0.0,
        drop_nq_no_retrieval: 0.0,
        ..Settings::compat()
    }
}

const REL_FULL: (usize, usize) = (RELEVANT, FULLY);
const REL_PART: (usize, usize) = (RELEVANT, PARTIALLY);
const REL_NONE: (usize, usize) = (RELEVANT, NO_SUPPORT);
const IRR: (usize, usize) = (IRRELEVANT, NO_SUPPORT);
/// Irrelevant, and support was not asked.
const IRR_ALONE: (usize, usize) = (IRRELEVANT, 0);

#[test]
fn the_paper_takes_the_best_that_supports_or_any() {
    let paper = Settings::paper();
    // The highest rank of those that support, fully or partially.
    assert_eq!(
        chosen("x", &[IRR_ALONE, REL_NONE, REL_PART, REL_FULL], &paper),
        ok("T2 [Relevant]S.[Partially supported]")
    );
    assert_eq!(chosen("nq", &[IRR_ALONE, REL_FULL], &paper), ok("T1 [Relevant]S.[Fully supported]"));
    // Otherwise any, with its own labels; one without its labels is none.
    assert_eq!(
        chosen("x", &[(0, 0), REL_NONE, (RELEVANT, 0)], &paper),
        ok("T1 [Relevant]S.[No support / Contradictory]")
    );
    assert_eq!(chosen("wow", &[(0, FULLY), IRR_ALONE], &paper), ok("T1 [Irrelevant]S."));
    let by_seed =
        |seed: u64| chosen("x", &[IRR, REL_NONE, IRR, REL_NONE], &Settings { seed, ..paper.clone() }).unwrap();
    let drawn: std::collections::BTreeSet<String> = (0..40).map(by_seed).collect();
    let expected = [
        "T0 [Irrelevant]S.",
        "T1 [Relevant]S.[No support / Contradictory]",
        "T2 [Irrelevant]S.",
        "T3 [Relevant]S.[No support / Contradictory]",
    ];
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), expected, "each of the four is drawn");
    assert_eq!(by_seed(3), by_seed(3));
    assert_eq!(chosen("x", &[], &paper), Err("answers: a sentence without a judged passage".into()));
}

#[test]
fn a_whole_answer_in_both_ways() {
    let sentences = || {
        vec![
            bare("Hm."),
            sentence("One.", NO_RETRIEVAL, &[IRR, REL_FULL]),
            bare("Yes."),
            bare("No."),
            sentence("Two.", CONTINUE, &[]),
            sentence("Three.", NO_RETRIEVAL, &[]),
        ]
    };
    // The instruction decides for the first sentence that gets a token; text that follows text stands apart.
    assert_eq!(
        made("x", RETRIEVAL, sentences(), &Settings::paper()),
        ok("Hm.[Retrieval]<paragraph>T1\nt</paragraph>[Relevant]One.[Fully supported]Yes. No.\
            [Continue to Use Evidence]Two.[No Retrieval]Three.[Utility:5]")
    );
    // For the very first, which has none; the others go by their own labels, and nothing stands between.
    assert_eq!(
        made("x", RETRIEVAL, sentences(), &certain()),
        ok("Hm.[No Retrieval]One.Yes.No.[Continue to Use Evidence]Two.[No Retrieval]Three.[Utility:5]")
    );
    // Continue before any passage says nothing.
    assert_eq!(
        made("x", RETRIEVAL, sentences(), &Settings { first_kept: false, ..Settings::paper() }),
        Err("answers: labels in impossible order".into())
    );
    assert_eq!(
        made("x", CONTINUE, vec![sentence("One.", RETRIEVAL, &[])], &certain()),
        Err("answers: [Continue to Use Evidence] at the start".into())
    );
    assert_eq!(
        made("x", NO_RETRIEVAL, vec![bare("One."), bare("Two.")], &certain()),
        ok("[No Retrieval]One. Two.[Utility:5]")
    );
    let none = Settings { keep_no_retrieval: 0.0, ..certain() };
    assert_eq!(made("x", NO_RETRIEVAL, vec![bare("One.")], &none), Err("answers: [No Retrieval], not drawn".into()));
}

#[test]
fn the_released_code_goes_by_support_and_chance() {
    let settings = certain();
    let never = Settings { keep_partially_supported: 0.0, keep_no_support: 0.0, ..certain() };
    let right = Settings { list_index: false, ..never.clone() };
    let (full, part) = (ok("T2 [Relevant]S.[Fully supported]"), ok("T1 [Relevant]S.[Partially supported]"));
    assert_eq!(chosen("x", &[REL_NONE, REL_PART, REL_FULL, IRR], &never), full, "full is never left to chance");
    assert_eq!(chosen("x", &[REL_NONE, REL_PART, IRR], &settings), part);
    // Not drawn: a random irrelevant one. There is one, place 0 of the list, which is taken for passage 0.
    assert_eq!(
        chosen("x", &[REL_NONE, REL_PART, IRR], &never),
        ok("T0 [Relevant]S.[No support / Contradictory]"),
        "even where a partial one was there"
    );
    assert_eq!(chosen("x", &[REL_NONE, REL_PART, IRR], &right), ok("T2 [Irrelevant]S."));
    assert_eq!(chosen("x", &[IRR, REL_NONE], &settings), ok("T1 [Relevant]S.[No support / Contradictory]"));
    assert_eq!(chosen("wow", &[IRR, REL_NONE], &settings), ok("T1 [Irrelevant]S."), "three sets know no such label");
    assert_eq!(chosen("x", &[IRR, REL_NONE], &never), ok("T0 [Irrelevant]S."));
    // Both labels are needed.
    assert_eq!(
        chosen("x", &[(RELEVANT, 0), (0, FULLY), REL_PART], &settings),
        ok("T2 [Relevant]S.[Partially supported]")
    );
    // Passage 0 has no labels, and is drawn by mistake.
    assert_eq!(
        chosen("x", &[(0, 0), IRR], &never),
        Err("answers: a passage without labels, drawn by its place in a list".into())
    );
    // Nothing irrelevant: the sentence is dropped, and with it the answer, which has no other.
    assert_eq!(chosen("x", &[REL_PART], &never), Err("answers: empty but for tokens".into()));
    let two = vec![sentence("One.", RETRIEVAL, &[REL_PART]), sentence("Two.", NO_RETRIEVAL, &[])];
    assert_eq!(made("x", RETRIEVAL, two, &never), ok("[No Retrieval]Two.[Utility:5]"));
}

#[test]
fn the_released_code_has_rules_for_sets() {
    let settings = certain();
    let right = Settings { list_index: false, ..certain() };
    // nq and fever: an irrelevant one overrides everything.
    for set in ["nq", "fever"] {
        assert_eq!(chosen(set, &[REL_FULL, IRR], &right), ok("T1 [Irrelevant]S."));
        assert_eq!(chosen(set, &[REL_FULL, IRR], &settings), ok("T0 [Relevant]S.[Fully supported]"), "by the slip");
        assert_eq!(chosen(set, &[REL_FULL, REL_PART], &right), ok("T0 [Relevant]S.[Fully supported]"));
    }
    assert_eq!(chosen("asqa", &[REL_FULL, IRR], &right), ok("T0 [Relevant]S.[Fully supported]"));
    // nq alone: a chance of an irrelevant one in a full one's place, if nothing overrides it.
    let chance = Settings { irrelevant_sets: Vec::new(), irrelevant_for_nq: 1.0, ..right.clone() };
    assert_eq!(chosen("nq", &[REL_FULL, IRR], &chance), ok("T1 [Irrelevant]S."));
    assert_eq!(chosen("asqa", &[REL_FULL, IRR], &chance), ok("T0 [Relevant]S.[Fully supported]"));
    let drop = Settings { drop_nq_no_retrieval: 1.0, ..certain() };
    assert_eq!(
        made("nq", NO_RETRIEVAL, vec![bare("One.")], &drop),
        Err("answers: nq with [No Retrieval], not drawn".into())
    );
    assert_eq!(made("asqa", NO_RETRIEVAL, vec![bare("One.")], &drop), ok("[No Retrieval]One.[Utility:5]"));
    // Negative samples: an irrelevant passage wherever there is one, and only answers that have one, of six sets.
    let negative = Settings { negative_samples: true, ..right };
    assert_eq!(chosen("asqa", &[REL_FULL, IRR], &negative), ok("T1 [Irrelevant]S."));
    assert_eq!(chosen("asqa", &[REL_FULL], &negative), Err("answers: no negative sample".into()));
    assert_eq!(chosen("alpaca", &[REL_FULL, IRR], &negative), Err("answers: no negative sample".into()));
    assert_eq!(chosen("obqa", &[REL_NONE], &negative), ok("T0 [Irrelevant]S."));
}

#[test]
fn labels_that_are_missing_and_closed_answers() {
    let made = |set: &str, output: &str, need: Option<usize>, utility: Option<usize>, settings: &Settings| {
        let (source, mut notes) = (source(set, output), Notes::default());
        let sentences = vec![sentence(output, RETRIEVAL, &[REL_FULL])];
        let rows = assemble(&[Answer { source: &source, need, utility, sentences }], settings, &mut notes);
        (rows.into_iter().map(|row| row.output).collect::<String>(), notes.left_out)
    };
    let (paper, compat) = (Settings::paper(), certain());
    for settings in [&paper, &compat] {
        let (output, left_out) = made("x", "A.", None, Some(GOOD), settings);
        assert_eq!((output.as_str(), left_out["answers: no label of the instruction's retrieval"]), ("", 1));
        let (output, left_out) = made("x", "A.", Some(RETRIEVAL), None, settings);
        assert_eq!((output.as_str(), left_out["answers: no label of the utility"]), ("", 1));
    }
    let no = |output: &str, settings: &Settings| made("fever", output, Some(NO_RETRIEVAL), Some(UTILITY), settings).0;
    assert_eq!(no("true", &compat), "[No Retrieval]true[Utility:5]");
    assert_eq!(no("true", &paper), "[No Retrieval]true[Utility:1]");
    assert_eq!(no("Not true", &compat), "[No Retrieval]Not true[Utility:1]");
    assert_eq!(no("REFUTES", &compat), "[No Retrieval]false[Utility:1]");
}
