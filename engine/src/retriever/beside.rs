//! A corpus with a user's own documents beside it: a question is embedded once and asked of either or both.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::{
    Corpus, Embedder, Hit, Retriever,
    documents::{Documents, Scope},
    embed_questions,
    manifest::EncoderInfo,
};
use crate::{Error, Result, order::sort_by, platform::LocalFuture};

/// What changes between questions, shared by the retriever and whoever adds and removes.
#[derive(Debug, Default)]
pub struct Own {
    /// The documents, embedded by the corpus's encoder.
    pub documents: RefCell<Documents>,
    /// What is asked.
    pub scope: Cell<Scope>,
    /// What the last search of the corpus told ([`Corpus::told`]).
    pub told: RefCell<Option<String>>,
}

/// The retriever over both.
pub struct Beside {
    corpus: Box<dyn Corpus>,
    own: Rc<Own>,
}

impl Beside {
    /// A corpus with `own` beside it.
    pub fn new(corpus: Box<dyn Corpus>, own: Rc<Own>) -> Self {
        Self { corpus, own }
    }

    async fn search_all(&mut self, questions: &[&str], n_docs: usize) -> Result<Vec<Vec<Hit>>> {
        let (own, scope) = (self.own.clone(), self.own.scope.get());
        own.told.take();
        if scope == Scope::Documents && own.documents.borrow().n_passages() == 0 {
            return Err(Error::config("documents", "none is there: add one, or ask the corpus"));
        }
        let queries = embed_questions(self.corpus.as_mut(), questions).await?;
        let mut hits = match scope {
            Scope::Documents => vec![Vec::new(); queries.len()],
            _ => {
                let hits = self.corpus.nearest(&queries, n_docs).await?;
                *own.told.borrow_mut() = self.corpus.told();
                hits
            }
        };
        if scope != Scope::Corpus {
            let documents = own.documents.borrow();
            for (hits, query) in hits.iter_mut().zip(&queries) {
                let found = documents.search(query, n_docs);
                hits.extend(
                    found.into_iter().map(|(passage, score)| Hit { passage: passage.clone(), score: Some(score) }),
                );
                // One encoder made all vectors, so their products compare. The sort is stable: of equals the corpus's come first.
                sort_by(hits, |a, b| b.score.unwrap_or(f32::MIN).total_cmp(&a.score.unwrap_or(f32::MIN)));
                hits.truncate(n_docs);
            }
        }
        Ok(hits)
    }
}

impl Retriever for Beside {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(self.search_all(questions, n_docs))
    }

    fn encoder(&mut self) -> Option<(&mut dyn Embedder, EncoderInfo)> {
        Some(self.corpus.encoder())
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use crate::{
        platform::block_on,
        retriever::{
            Passage,
            documents::{
                Document,
                tests::{Letters, info},
            },
            flat::dot_f32,
        },
    };

    /// Passages that are found by their letters.
    struct Corpus3(Letters, [&'static str; 3]);

    impl Corpus for Corpus3 {
        fn encoder(&mut self) -> (&mut dyn Embedder, EncoderInfo) {
            (&mut self.0, info())
        }

        fn nearest<'a>(&'a mut self, queries: &'a [Vec<f32>], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
            Box::pin(async move {
                let texts = self.1.map(str::to_owned);
                let vectors = self.0.embed(&texts).await?;
                let hit = |(text, score): (&String, f32)| Hit {
                    passage: Passage { id: text.clone(), title: String::new(), text: text.clone() },
                    score: Some(score),
                };
                let of = |query: &Vec<f32>| {
                    let mut hits: Vec<Hit> =
                        texts.iter().zip(vectors.iter().map(|v| dot_f32(v, query))).map(hit).collect();
                    hits.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap());
                    hits.truncate(n_docs);
                    hits
                };
                Ok(queries.iter().map(of).collect())
            })
        }

        fn told(&self) -> Option<String> {
            Some("asked".into())
        }
    }

    fn texts(beside: &mut Beside, question: &str, n: usize) -> Vec<String> {
        let hits = block_on(beside.search(&[question], n)).unwrap().remove(0);
        hits.into_iter().map(|hit| hit.passage.text).collect()
    }

    #[test]
    fn a_question_is_asked_of_the_corpus_of_the_documents_or_of_both() {
        let own = Rc::new(Own::default());
        let mut beside = Beside::new(Box::new(Corpus3(Letters, ["aaaa", "aa", "b"])), own.clone());
        assert_eq!(texts(&mut beside, "a", 2), ["aaaa", "aa"], "no documents yet");
        let embedded = block_on(Document::embed("x", "aaa", &mut Letters, &info(), &mut |_, _| ())).unwrap();
        own.documents.borrow_mut().add(embedded);
        // The document's title, x, is embedded too.
        assert_eq!(texts(&mut beside, "a", 2), ["aaaa", "aaa"]);
        assert_eq!(texts(&mut beside, "a", 9), ["aaaa", "aaa", "aa", "b"]);
        assert_eq!(own.told.borrow().as_deref(), Some("asked"));
        own.scope.set(Scope::Corpus);
        assert_eq!(texts(&mut beside, "a", 2), ["aaaa", "aa"]);
        own.scope.set(Scope::Documents);
        assert_eq!(texts(&mut beside, "a", 2), ["aaa"]);
        assert_eq!(*own.told.borrow(), None, "the corpus was not asked");
        own.documents.borrow_mut().remove("x");
        let error = block_on(beside.search(&["a"], 2)).unwrap_err();
        assert!(matches!(&error, Error::Config { name, .. } if name == "documents"), "{error}");
    }

    #[test]
    fn of_equals_the_corpuss_come_first() {
        let own = Rc::new(Own::default());
        let mut beside = Beside::new(Box::new(Corpus3(Letters, ["aaa", "b", "c"])), own.clone());
        let embedded = block_on(Document::embed("x", "aaa.", &mut Letters, &info(), &mut |_, _| ())).unwrap();
        own.documents.borrow_mut().add(embedded);
        assert_eq!(texts(&mut beside, "a", 2), ["aaa", "aaa."]);
    }
}
