//! A generator on an OpenAI-compatible completions server such as vLLM, for evaluations that outgrow one GPU.
//!
//! ```text
//! POST {address}/v1/completions {"prompt": [ids], "max_tokens", "temperature": 0, "logprobs": N, "return_tokens_as_token_ids": true, …}
//!   → choices[0].logprobs {tokens: ["token_id:32004", …], token_logprobs, top_logprobs: [{"token_id:32004": -0.1, …}, …]}
//! ```
//!
//! The loop asks a token at a time and is greedy, so what it will ask next is known: a request writes on to `read_ahead` tokens or the
//! next token that the loop may turn at, and the steps are handed out one by one. Only a prompt's first pass, which decides about
//! retrieval, asks for one token. Shared prefixes are the server's affair (vLLM: `--enable-prefix-caching`).
//!
//! A reflection token that is not among the N most likely counts as e^-100, as in the released code. That is no matter for those that
//! were written with their group likely, but a decision between two absent tokens would be a toss-up: it is an error.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Generator, SeqId, StepOutput,
    server::{Server, ServerOptions},
};
use crate::{
    Error, Result,
    platform::LocalFuture,
    tokenizer::{ReflectionTokens, Tokenizer},
};

/// Log-probability of a token that the server did not list.
const ABSENT: f32 = -100.0;

/// What to ask, and how often.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// The server's address without `/v1/…`.
    pub address: String,
    /// The model's name there; none: the first that it lists.
    pub model: Option<String>,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Log-probabilities to ask for at each token (vLLM allows 20 unless it was started with `--max-logprobs`).
    pub logprobs: usize,
    /// Tokens that a request may write.
    pub read_ahead: usize,
    /// How often a request is sent again that failed for no fault of its own.
    pub retries: u32,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Whether a prompt's first token decides about retrieval.
    pub decides: bool,
}

impl RemoteOptions {
    /// For an address, with what suits vLLM.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            model: None,
            api_key: None,
            concurrency: 16,
            logprobs: 20,
            read_ahead: 100,
            retries: 5,
            timeout: Duration::from_secs(600),
            decides: true,
        }
    }

    /// How the server is asked.
    fn server(&self) -> ServerOptions {
        ServerOptions {
            address: self.address.clone(),
            api_key: self.api_key.clone(),
            concurrency: self.concurrency,
            retries: self.retries,
            timeout: self.timeout,
            per_minute: None,
        }
    }
}

/// A model on a server.
pub struct Remote {
    server: Server,
    options: RemoteOptions,
    model: String,
    context_length: usize,
    /// Where a request ends: the model's own ends, and the retrieval group, at which the long form turns.
    stops: Vec<u32>,
    end: Option<u32>,
    retrieval: [u32; 2],
    watched: Vec<u32>,
    sequences: HashMap<SeqId, Held>,
    next: u32,
}

/// A sequence as it is known here.
#[derive(Debug, Clone, Default)]
struct Held {
    tokens: Vec<u32>,
    /// Whether it is a prompt that no pass has read yet.
    is_new: bool,
    /// The token that the steps ahead follow.
    given: Option<u32>,
    ahead: VecDeque<StepOutput>,
}

impl Remote {
    /// Asks the server what it has.
    pub fn connect(options: RemoteOptions, tokenizer: &Tokenizer, reflection: &ReflectionTokens) -> Result<Self> {
        if options.logprobs == 0 {
            return Err(Error::config("logprobs", "at least 1 expected"));
        }
        let server = Server::new(options.server(), "generator")?;
        let listed = server.send("models", None)?;
        let first = &listed["data"][0];
        let name = options.model.clone();
        let chosen = match &name {
            None => Some(first),
            Some(name) => listed["data"].as_array().into_iter().flatten().find(|model| model["id"] == name.as_str()),
        };
        let Some(id) = chosen.and_then(|model| model["id"].as_str()) else {
            let wanted = name.as_deref().unwrap_or("any model");
            return Err(server.error("models", format!("{wanted} is not among what it lists")));
        };
        let model = id.to_owned();
        let longest = chosen.and_then(|model| model["max_model_len"].as_u64()).unwrap_or(4096);
        let mut stops = tokenizer.stop_tokens().to_vec();
        stops.extend([reflection.no_retrieval, reflection.retrieval, reflection.continue_]);
        Ok(Self {
            server,
            options,
            model,
            context_length: usize::try_from(longest).unwrap_or(usize::MAX),
            stops,
            end: tokenizer.eos(),
            retrieval: [reflection.no_retrieval, reflection.retrieval],
            watched: Vec::new(),
            sequences: HashMap::new(),
            next: 0,
        })
    }

    /// The model's name on the server.
    pub fn model(&self) -> &str {
        &self.model
    }

    fn add(&mut self, held: Held) -> SeqId {
        self.next += 1;
        self.sequences.insert(SeqId(self.next), held);
        SeqId(self.next)
    }

    fn pass(&mut self, batch: &[(SeqId, Vec<u32>)]) -> Result<Vec<StepOutput>> {
        let mut wanted = Vec::new();
        for (at, (seq, tokens)) in batch.iter().enumerate() {
            let held = self.sequences.get_mut(seq).expect("a live sequence");
            let (needed, available) = (held.tokens.len() + tokens.len() + 1, self.context_length);
            if needed > available {
                return Err(Error::ContextFull { needed, available });
            }
            held.tokens.extend_from_slice(tokens);
            if held.given.is_none() || tokens.as_slice() != held.given.as_slice() {
                held.ahead.clear();
            }
            if held.ahead.is_empty() {
                let most = if held.is_new { 1 } else { self.options.read_ahead.max(1) };
                wanted.push((at, self.body(&self.sequences[seq].tokens, most.min(available - needed + 1))));
            }
        }
        let bodies: Vec<&Value> = wanted.iter().map(|(_, body)| body).collect();
        let answers = self.server.send_all("completions", &bodies)?;
        for ((at, _), answer) in wanted.into_iter().zip(answers) {
            let steps = self.steps(&answer)?;
            let held = self.sequences.get_mut(&batch[at].0).expect("a live sequence");
            if held.is_new && self.options.decides {
                check_decision(&self.server, &answer, self.retrieval, self.options.logprobs)?;
            }
            held.ahead = steps.into();
        }
        let mut outputs = Vec::new();
        for (seq, _) in batch {
            let held = self.sequences.get_mut(seq).expect("a live sequence");
            let step = held.ahead.pop_front().expect("every answer has a step");
            (held.is_new, held.given) = (false, Some(step.token));
            outputs.push(step);
        }
        Ok(outputs)
    }

    fn body(&self, prompt: &[u32], max_tokens: usize) -> Value {
        json!({
            "model": self.model(),
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "logprobs": self.options.logprobs,
            "stop_token_ids": self.stops,
            "return_tokens_as_token_ids": true,
            "skip_special_tokens": false,
            "spaces_between_special_tokens": false,
        })
    }

    /// The steps of an answer; at least one.
    fn steps(&self, answer: &Value) -> Result<Vec<StepOutput>> {
        let error = |problem: String| self.server.error("completions", problem);
        let choice = &answer["choices"][0];
        let logprobs = &choice["logprobs"];
        let list = |name: &str| {
            let list = logprobs[name].as_array();
            list.ok_or_else(|| error(format!("choices[0].logprobs.{name}: a list expected, as vLLM gives it")))
        };
        let (tokens, values, tops) = (list("tokens")?, list("token_logprobs")?, list("top_logprobs")?);
        if tokens.len() != values.len() || tokens.len() != tops.len() {
            return Err(error("choices[0].logprobs: lists of one length expected".into()));
        }
        let mut steps = Vec::new();
        for ((token, value), top) in tokens.iter().zip(values).zip(tops) {
            let token = token.as_str().and_then(token_id).ok_or_else(|| {
                let hint = "`token_id:N` expected: the server does not know return_tokens_as_token_ids, vLLM does";
                error(format!("{token} for a token, {hint}"))
            })?;
            let logprob = value.as_f64().ok_or_else(|| error(format!("{value} for a log-probability")))? as f32;
            let watched = self.watched.iter().map(|&id| listed(top, id).unwrap_or(ABSENT)).collect();
            steps.push(StepOutput { token, logprob, watched });
        }
        // Some servers leave the end's token out; its probability is then not known and counts as certain.
        let ended =
            choice["finish_reason"] == "stop" && steps.last().is_none_or(|step| !self.stops.contains(&step.token));
        if let (true, Some(end)) = (ended, self.end) {
            steps.push(StepOutput { token: end, logprob: 0.0, watched: vec![ABSENT; self.watched.len()] });
        }
        if steps.is_empty() {
            return Err(error("choices[0].logprobs: no token".into()));
        }
        Ok(steps)
    }
}

impl Generator for Remote {
    fn context_length(&self) -> usize {
        self.context_length
    }

    fn watch(&mut self, tokens: &[u32]) {
        if self.watched != tokens {
            self.watched = tokens.to_vec();
            self.sequences.values_mut().for_each(|held| held.ahead.clear());
        }
    }

    fn start(&mut self) -> Result<SeqId> {
        Ok(self.add(Held { is_new: true, ..Held::default() }))
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        let held = self.sequences[&seq].clone();
        Ok(self.add(held))
    }

    fn free(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        Box::pin(std::future::ready(self.pass(batch)))
    }
}

/// `token_id:7` → 7.
fn token_id(name: &str) -> Option<u32> {
    name.strip_prefix("token_id:")?.parse().ok()
}

/// A token's log-probability among those listed.
fn listed(top: &Value, id: u32) -> Option<f32> {
    Some(top.get(format!("token_id:{id}"))?.as_f64()? as f32)
}

/// A decision needs at least one of the tokens that it is between.
fn check_decision(server: &Server, answer: &Value, retrieval: [u32; 2], logprobs: usize) -> Result<()> {
    let top = &answer["choices"][0]["logprobs"]["top_logprobs"][0];
    if retrieval.iter().any(|&id| listed(top, id).is_some()) {
        return Ok(());
    }
    let problem = format!(
        "neither [Retrieval] nor [No Retrieval] is among the {logprobs} most likely tokens after a prompt: ask for more (vLLM: --max-logprobs N, here: --logprobs N), or give a --mode that needs no decision"
    );
    Err(server.error("completions", problem))
}
