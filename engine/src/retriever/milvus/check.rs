//! A server's answers, checked before anything is believed: it may be another one than was meant, or hostile.

use std::collections::{HashMap, HashSet};

use milvus::v2::types::{FieldData, Ids, QueryResults, SearchResults, SingleResult};

use super::{
    IndexKind,
    record::{ID, ROW, TEXT, TITLE, VECTOR},
};
use crate::{
    Error, Result,
    retriever::{Passage, flat::Scored},
};

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) questions: usize,
    /// Passages for each.
    pub(super) n_docs: usize,
    /// Passages that there are.
    pub(super) count: u64,
    pub(super) index: IndexKind,
}

/// The hits of each question: rows that exist, none twice, with scores that are numbers, best first; equal ones by row.
pub(super) fn hits(place: &str, asked: Asked, found: &SearchResults) -> Result<Vec<Vec<Scored>>> {
    let results = found.get_results();
    if results.len() != asked.questions {
        let problem = format!("hits of {} questions, of {} expected", results.len(), asked.questions);
        return Err(Error::input(place, "search", problem));
    }
    let of =
        |(at, result)| of_question(asked, result).map_err(|e| Error::input(place, format!("search, question {at}"), e));
    results.iter().enumerate().map(of).collect()
}

fn of_question(asked: Asked, found: &SingleResult) -> Result<Vec<Scored>, String> {
    let Ids::Int64(rows) = found.get_ids() else {
        return Err("hits with texts for keys, row numbers expected".into());
    };
    let scores = found.get_scores();
    if rows.len() != scores.len() {
        return Err(format!("{} hits with {} scores", rows.len(), scores.len()));
    }
    let expected = asked.n_docs.min(usize::try_from(asked.count).unwrap_or(usize::MAX));
    // Clusters may hold fewer passages than are asked for; all rows together do not.
    if rows.len() > expected || (rows.len() < expected && asked.index == IndexKind::Flat) {
        return Err(format!("{} hits, {expected} expected", rows.len()));
    }
    let (mut seen, mut hits) = (HashSet::new(), Vec::with_capacity(rows.len()));
    for (row, score) in rows.iter().zip(scores) {
        let known = u32::try_from(*row).ok().filter(|row| u64::from(*row) < asked.count);
        let known = known.ok_or_else(|| format!("row {row}, but there are {} passages", asked.count))?;
        if !seen.insert(known) {
            return Err(format!("row {row} twice"));
        }
        if !score.is_finite() {
            return Err(format!("row {row} with score {score}, a finite number expected"));
        }
        hits.push(Scored { row: known, score: *score });
    }
    hits.sort_by(Scored::order);
    Ok(hits)
}

/// The passages of exactly these rows.
pub(super) fn passages(place: &str, rows: &[u32], found: &QueryResults) -> Result<HashMap<u32, Passage>> {
    let bad = |problem: String| Error::input(place, "passages", problem);
    let numbers = integers(found, ROW).map_err(bad)?;
    let texts = |name| texts(found, name, numbers.len()).map_err(bad);
    let (ids, titles, texts) = (texts(ID)?, texts(TITLE)?, texts(TEXT)?);
    let asked: HashSet<u32> = rows.iter().copied().collect();
    let mut passages = HashMap::with_capacity(asked.len());
    for (at, row) in numbers.iter().enumerate() {
        let row = u32::try_from(*row).ok().filter(|row| asked.contains(row));
        let row = row.ok_or_else(|| bad(format!("row {} was not asked for", numbers[at])))?;
        if ids[at].is_empty() {
            return Err(bad(format!("row {row} has an empty id")));
        }
        let passage = Passage { id: ids[at].clone(), title: titles[at].clone(), text: texts[at].clone() };
        if passages.insert(row, passage).is_some() {
            return Err(bad(format!("row {row} twice")));
        }
    }
    match rows.iter().find(|row| !passages.contains_key(row)) {
        Some(row) => Err(bad(format!("row {row} is missing"))),
        None => Ok(passages),
    }
}

/// The one vector that was asked for.
pub(super) fn vector(place: &str, dim: usize, found: &QueryResults) -> Result<Vec<f32>> {
    let vectors = found.get_output_field(VECTOR).and_then(FieldData::as_float_vectors);
    match vectors {
        Some([vector]) if vector.len() == dim && vector.iter().all(|x| x.is_finite()) => Ok(vector.clone()),
        _ => Err(Error::input(place, VECTOR, format!("one vector of {dim} finite values expected"))),
    }
}

/// The answer to `count(*)`.
pub(super) fn count(place: &str, found: &QueryResults) -> Result<u64> {
    let count = match found.get_output_field("count(*)").and_then(FieldData::as_int64) {
        Some([count]) => u64::try_from(*count).ok(),
        _ => None,
    };
    count.ok_or_else(|| Error::input(place, "count(*)", "one number that is not negative expected"))
}

fn integers<'a>(found: &'a QueryResults, name: &str) -> Result<&'a [i64], String> {
    let field = found.get_output_field(name).ok_or_else(|| format!("no field {name:?}"))?;
    field.as_int64().ok_or_else(|| format!("field {name:?} holds no integers"))
}

fn texts<'a>(found: &'a QueryResults, name: &str, rows: usize) -> Result<&'a [String], String> {
    let field = found.get_output_field(name).ok_or_else(|| format!("no field {name:?}"))?;
    let texts = field.as_varchar().ok_or_else(|| format!("field {name:?} holds no texts"))?;
    if texts.len() == rows { Ok(texts) } else { Err(format!("{rows} rows with {} of {name:?}", texts.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked { questions: 1, n_docs: 2, count: 5, index: IndexKind::Flat };

    fn answer(rows: Vec<i64>, scores: Vec<f32>) -> SingleResult {
        SingleResult::new().ids(Ids::Int64(rows)).scores(scores)
    }

    fn checked(asked: Asked, answers: Vec<SingleResult>) -> Result<Vec<Vec<Scored>>> {
        hits("m", asked, &SearchResults::new().results(answers))
    }

    #[test]
    fn hits_come_best_first_and_equal_ones_by_row() {
        let asked = Asked { n_docs: 9, ..ASKED };
        let found = checked(asked, vec![answer(vec![3, 4, 1, 0, 2], vec![0.5, 1.0, 1.0, -2.0, 0.5])]).unwrap();
        let rows: Vec<u32> = found[0].iter().map(|scored| scored.row).collect();
        assert_eq!(rows, [1, 4, 2, 3, 0]);
    }

    #[test]
    fn hits_that_no_honest_server_sends_are_errors() {
        let two = || answer(vec![1, 2], vec![1.0, 0.5]);
        for (answers, problem) in [
            (vec![], "hits of 0 questions, of 1 expected"),
            (vec![two(), two()], "hits of 2 questions"),
            (vec![answer(vec![1], vec![1.0])], "question 0: 1 hits, 2 expected"),
            (vec![answer(vec![1, 2, 3], vec![1.0; 3])], "3 hits, 2 expected"),
            (vec![answer(vec![1, 2], vec![1.0])], "2 hits with 1 scores"),
            (vec![answer(vec![1, 1], vec![1.0; 2])], "row 1 twice"),
            (vec![answer(vec![1, 5], vec![1.0; 2])], "row 5, but there are 5"),
            (vec![answer(vec![1, -1], vec![1.0; 2])], "row -1"),
            (vec![answer(vec![1, i64::MAX], vec![1.0; 2])], "row 9223372036854775807"),
            (vec![answer(vec![1, 2], vec![1.0, f32::NAN])], "score NaN"),
            (vec![answer(vec![1, 2], vec![f32::INFINITY, 1.0])], "score inf"),
            (vec![SingleResult::new().ids(Ids::VarChar(vec!["1".into()])).scores(vec![1.0])], "texts for keys"),
        ] {
            let error = checked(ASKED, answers).unwrap_err().to_string();
            assert!(error.starts_with("m: search") && error.contains(problem), "{error:?} should say {problem:?}");
        }
        let clustered = Asked { index: IndexKind::Ivf { nlist: 2 }, ..ASKED };
        assert_eq!(checked(clustered, vec![answer(vec![1], vec![1.0])]).unwrap()[0].len(), 1);
        assert!(checked(clustered, vec![answer(vec![1, 2, 3], vec![1.0; 3])]).is_err());
    }

    fn fields(rows: Vec<i64>, texts: usize) -> Vec<FieldData> {
        let all = |name: &str, n: usize| FieldData::varchar(name, (0..n).map(|i| format!("{name} {i}")).collect());
        let n = rows.len();
        vec![FieldData::int64(ROW, rows), all(TEXT, texts), all(TITLE, n), all(ID, n)]
    }

    fn found(fields: Vec<FieldData>) -> QueryResults {
        QueryResults::new().output_fields(fields)
    }

    #[test]
    fn passages_belong_to_the_rows_that_were_asked_for() {
        let passages = |fields| passages("m", &[7, 3], &found(fields));
        let good = passages(fields(vec![3, 7], 2)).unwrap();
        let third = Passage { id: "id 0".into(), title: "title 0".into(), text: "text 0".into() };
        assert_eq!((good.len(), &good[&3]), (2, &third));
        let lacking = |name: &str| {
            let mut fields = fields(vec![3, 7], 2);
            fields.retain(|field| field.name() != name);
            fields
        };
        let mut empty = lacking(ID);
        empty.push(FieldData::varchar(ID, vec!["a".into(), String::new()]));
        let mut numbers = lacking(TEXT);
        numbers.push(FieldData::int64(TEXT, vec![1, 2]));
        for (fields, problem) in [
            (vec![], "no field \"row\""),
            (lacking(TEXT), "no field \"text\""),
            (lacking(TITLE), "no field \"title\""),
            (lacking(ID), "no field \"id\""),
            (numbers, "holds no texts"),
            (empty, "empty id"),
            (fields(vec![3, 7], 1), "2 rows with 1 of \"text\""),
            (fields(vec![3], 1), "row 7 is missing"),
            (fields(vec![3, 3], 2), "row 3 twice"),
            (fields(vec![3, 8], 2), "row 8 was not asked for"),
            (fields(vec![3, -1], 2), "row -1 was not asked for"),
        ] {
            let error = passages(fields).unwrap_err().to_string();
            assert!(error.starts_with("m: passages: ") && error.contains(problem), "{error:?} should say {problem:?}");
        }
    }

    #[test]
    fn counts_and_vectors_are_what_they_should_be() {
        let counted = |values| count("m", &found(vec![FieldData::int64("count(*)", values)]));
        assert_eq!(counted(vec![3]).unwrap(), 3);
        assert!(counted(vec![-1]).is_err() && counted(vec![]).is_err() && counted(vec![1, 2]).is_err());
        assert!(count("m", &found(vec![])).is_err());
        let held = |values| vector("m", 2, &found(vec![FieldData::float_vector(VECTOR, values)]));
        assert_eq!(held(vec![vec![1.0, 2.0]]).unwrap(), [1.0, 2.0]);
        for wrong in [vec![], vec![vec![1.0]], vec![vec![1.0, f32::NAN]], vec![vec![1.0, 2.0]; 2]] {
            assert!(held(wrong).is_err());
        }
    }
}
