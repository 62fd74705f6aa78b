//! Generator, vocabulary and retriever as one thing that answers questions.

use crate::{
    Result,
    event::Event,
    generator::Generator,
    retriever::Retriever,
    self_rag::{
        Answer, Config, LongAnswer, LongConfig, LongForm, Question, ShortForm, Stop,
        plain::{self, Completion},
    },
    tokenizer::{ReflectionTokens, Tokenizer},
    weights::Metadata,
};

/// A loaded Self-RAG system.
pub struct Engine {
    generator: Box<dyn Generator>,
    tokenizer: Tokenizer,
    reflection: ReflectionTokens,
    retriever: Option<Box<dyn Retriever>>,
}

impl Engine {
    /// From a generator and its tokenizer; an error if the vocabulary has no reflection tokens.
    pub fn new(
        generator: Box<dyn Generator>,
        tokenizer: Tokenizer,
        retriever: Option<Box<dyn Retriever>>,
    ) -> Result<Self> {
        let reflection = ReflectionTokens::find(&tokenizer)?;
        Ok(Self { generator, tokenizer, reflection, retriever })
    }

    /// The same with the vocabulary that the model's metadata holds; `file` is for messages.
    pub fn from_metadata(
        file: &str,
        metadata: &Metadata,
        generator: Box<dyn Generator>,
        retriever: Option<Box<dyn Retriever>>,
    ) -> Result<Self> {
        Self::new(generator, Tokenizer::from_metadata(file, metadata)?, retriever)
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The retriever, if there is one.
    pub fn retriever(&mut self) -> Option<&mut (dyn Retriever + 'static)> {
        self.retriever.as_deref_mut()
    }

    /// Sets or takes away the retriever.
    pub fn set_retriever(&mut self, retriever: Option<Box<dyn Retriever>>) {
        self.retriever = retriever;
    }

    /// Puts something around generator and retriever, to watch them for instance.
    pub fn wrap(
        self,
        generator: impl FnOnce(Box<dyn Generator>) -> Box<dyn Generator>,
        retriever: impl FnOnce(Box<dyn Retriever>) -> Box<dyn Retriever>,
    ) -> Self {
        Self { generator: generator(self.generator), retriever: self.retriever.map(retriever), ..self }
    }

    /// Answers one question.
    pub async fn ask(
        &mut self,
        question: &Question,
        config: &Config,
        stop: &Stop,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer> {
        let questions = std::slice::from_ref(question);
        let mut answers = self.ask_batch(questions, config, stop, &mut |_, event| on_event(event)).await?;
        Ok(answers.remove(0))
    }

    /// Answers several questions as one batch; `on_event` gets the question's index with each event.
    pub async fn ask_batch(
        &mut self,
        questions: &[Question],
        config: &Config,
        stop: &Stop,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<Answer>> {
        let short_form = ShortForm {
            generator: self.generator.as_mut(),
            // A match, not `map`: the closure could not shorten the trait object's lifetime.
            retriever: match self.retriever.as_mut() {
                Some(retriever) => Some(retriever.as_mut()),
                None => None,
            },
            tokenizer: &self.tokenizer,
            reflection: &self.reflection,
            config,
            stop,
        };
        short_form.answer_batch(questions, on_event).await
    }

    /// Answers several questions in long form as one batch; `on_event` gets the question's index with each event.
    pub async fn ask_long_batch(
        &mut self,
        questions: &[Question],
        config: &LongConfig,
        stop: &Stop,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<LongAnswer>> {
        let long_form = LongForm {
            generator: self.generator.as_mut(),
            retriever: match self.retriever.as_mut() {
                Some(retriever) => Some(retriever.as_mut()),
                None => None,
            },
            tokenizer: &self.tokenizer,
            reflection: &self.reflection,
            config,
            stop,
        };
        long_form.answer_batch(questions, on_event).await
    }

    /// Continues plain prompts as one batch, without reflection: the baselines.
    pub async fn complete_batch(
        &mut self,
        prompts: &[String],
        config: &Config,
        stop: &Stop,
    ) -> Result<Vec<Completion>> {
        plain::complete(self.generator.as_mut(), (&self.tokenizer, &self.reflection), prompts, config, stop).await
    }

    /// The reflection tokens.
    pub fn reflection(&self) -> &ReflectionTokens {
        &self.reflection
    }
}
