//! What to run, as people write it and as it is run.

use serde::{Deserialize, Serialize};

use super::{Geometry, LOAD, WARM_UP, WORKLOADS};
use crate::{Error, Result, ops::self_test::FORMATS, platform::Temporary, weights::DType};

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The model's sizes.
    pub geometry: Geometry,
    /// Its weights' format.
    pub dtype: DType,
    /// Which of [`WORKLOADS`].
    pub workloads: Vec<String>,
    /// Tokens a decode workload writes.
    pub steps: usize,
    /// Measure each kernel too.
    pub kernels: bool,
    /// What `load` loads, a path or URL, splits in order; natively a file of the geometry is written where this is empty.
    pub model: Vec<String>,
    /// Rows that are searched; where nothing is said, 21 million on a GPU, fewer elsewhere.
    pub rows: Option<usize>,
    /// Bytes of GPU memory for rows that are searched, natively: the others are streamed from host memory. Without it, what there is.
    pub gpu_memory: Option<u64>,
}

/// The same in words, for several formats: what a form, an address or a message holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// A geometry's name.
    pub geometry: String,
    /// Layers, if not the geometry's own.
    pub layers: Option<usize>,
    /// Names of weight formats: a report each.
    pub types: Vec<String>,
    /// Which of [`WORKLOADS`].
    pub workloads: Vec<String>,
    /// Tokens a decode workload writes.
    pub steps: usize,
    /// Measure each kernel too.
    pub kernels: bool,
    /// What `load` loads, a path or URL, splits in order; natively a file of the geometry is written where this is empty.
    pub model: Vec<String>,
    /// Rows that are searched; where nothing is said, 21 million on a GPU, fewer elsewhere.
    pub rows: Option<usize>,
}

impl Default for Order {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            geometry: Geometry::LLAMA2_7B.name.into(),
            layers: None,
            types: words(&["q4_0"]),
            workloads: words(&["decode", "decode-10", "prefill"]),
            steps: 100,
            kernels: false,
            model: Vec::new(),
            rows: None,
        }
    }
}

/// Most layers: no model that people run has more.
const MOST_LAYERS: usize = 256;
/// Most rows of a search: more than any memory holds.
const MOST_ROWS: usize = 1_000_000_000;

impl Order {
    /// Reads an address's query, `geometry=tiny&type=q4_0,f16&workloads=decode&steps=8&layers=2&kernels=1&rows=20000`, as it is after
    /// percent-decoding. What it does not name stays, and names that mean nothing here are passed over.
    pub fn with_query(self, query: &str) -> Result<Self> {
        let mut order = self;
        for part in query.trim_start_matches('?').split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let number =
                || value.parse().map_err(|_| Error::config(name, format!("{value:?} is not a number of 1 or more")));
            let list = || value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            match name {
                "geometry" => order.geometry = value.to_owned(),
                "layers" => order.layers = Some(number()?),
                "type" => order.types = list(),
                "workloads" => order.workloads = list(),
                "steps" => order.steps = number()?,
                "model" => order.model = list(),
                "rows" => order.rows = Some(number()?),
                "kernels" => order.kernels = is_on(value),
                _ => {}
            }
        }
        Ok(order)
    }

    /// Whether a query asks for a start without a click: `run=1`.
    pub fn starts_at_once(query: &str) -> bool {
        query.trim_start_matches('?').split('&').any(|part| part.strip_prefix("run=").is_some_and(is_on))
    }

    /// What to run, checked: one a format.
    pub fn specs(&self) -> Result<Vec<Spec>> {
        let geometry = Geometry::named(&self.geometry)?;
        let geometry = Geometry { layers: self.layers.unwrap_or(geometry.layers), ..geometry };
        if self.types.is_empty() {
            return Err(Error::config("type", format!("none; one or more of {:?}", FORMATS.map(DType::name))));
        }
        let spec = |name: &String| {
            let dtype = format_named(name)?;
            let workloads = self.workloads.clone();
            let (kernels, model, rows) = (self.kernels, self.model.clone(), self.rows);
            let spec = Spec { geometry, dtype, workloads, steps: self.steps, kernels, model, rows, gpu_memory: None };
            spec.check()?;
            Ok(spec)
        };
        self.types.iter().map(spec).collect()
    }
}

fn is_on(value: &str) -> bool {
    !matches!(value, "0" | "false" | "no" | "off")
}

/// The weight format of a name.
pub fn format_named(name: &str) -> Result<DType> {
    let unknown = || Error::config("type", format!("{name:?} is none of {:?}", FORMATS.map(DType::name)));
    FORMATS.into_iter().find(|dtype| dtype.name() == name).ok_or_else(unknown)
}

impl Spec {
    /// Whether it can be run: known before anything is made.
    pub fn check(&self) -> Result<()> {
        let Geometry { name, layers, context_length, .. } = self.geometry;
        if !(1..=MOST_LAYERS).contains(&layers) {
            return Err(Error::config("layers", format!("{layers}, expected 1 to {MOST_LAYERS}")));
        }
        if self.steps == 0 {
            return Err(Error::config("steps", "at least 1"));
        }
        if self.rows.is_some_and(|rows| !(1..=MOST_ROWS).contains(&rows)) {
            return Err(Error::config("rows", format!("1 to {MOST_ROWS}")));
        }
        let known = WORKLOADS.map(|(name, _)| name);
        if self.workloads.is_empty() {
            return Err(Error::config("workloads", format!("none; one or more of {known:?}")));
        }
        for workload in &self.workloads {
            let deepest = match workload.as_str() {
                "decode" | "decode-10" => 256usize.saturating_add(self.steps).saturating_add(WARM_UP),
                "decode-2048" => 2048usize.saturating_add(self.steps).saturating_add(WARM_UP),
                other if known.contains(&other) => 0,
                other => return Err(Error::config("workloads", format!("{other:?} is none of {known:?}"))),
            };
            if workload == LOAD && self.model.is_empty() && !Temporary::POSSIBLE {
                return Err(Error::config("model", "load needs a GGUF file: its address, model=URL"));
            }
            if deepest > context_length {
                let problem = format!("{workload} needs {deepest} tokens of context; {name} has {context_length}");
                return Err(Error::config("workloads", problem));
            }
        }
        if !self.geometry.fits(self.dtype) {
            let columns = [self.geometry.hidden, self.geometry.feed_forward];
            let (dtype, block) = (self.dtype.name(), self.dtype.block_len());
            let problem = format!("{dtype}: the columns of {name}, {columns:?}, are not whole blocks of {block}");
            return Err(Error::config("type", problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T>(result: Result<T>) -> String {
        result.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_query_says_what_to_run() {
        let query = "?bench&geometry=tiny&type=q4_0,f16&workloads=decode,prefill&steps=8&layers=1&kernels=1&run=1";
        let order = Order::default().with_query(query).unwrap();
        assert_eq!((order.geometry.as_str(), order.layers, order.steps, order.kernels), ("tiny", Some(1), 8, true));
        assert_eq!((order.types.join(" "), order.workloads.join(" ")), ("q4_0 f16".into(), "decode prefill".into()));
        let specs = order.specs().unwrap();
        assert_eq!(specs.iter().map(|spec| spec.dtype).collect::<Vec<_>>(), [DType::Q4_0, DType::F16]);
        assert_eq!((specs[0].geometry.name, specs[0].geometry.layers), ("tiny", 1));
        assert!(Order::starts_at_once(query) && !Order::starts_at_once("?bench&run=0") && !Order::starts_at_once(""));
    }

    #[test]
    fn what_a_query_leaves_out_is_the_default() {
        for query in ["", "?", "?bench", "bench&other=1"] {
            assert_eq!(Order::default().with_query(query).unwrap(), Order::default(), "{query}");
        }
        assert!(!Order::default().with_query("kernels=0").unwrap().kernels);
        assert_eq!(Order::default().specs().unwrap().len(), 1, "the default can be run");
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        for (query, expected) in [
            ("geometry=huge", "setting geometry"),
            ("type=q3", "setting type"),
            ("type=", "setting type"),
            ("geometry=smollm2-135m&type=q4_k", "not whole blocks of 256"),
            ("workloads=fly", "setting workloads"),
            ("workloads=", "setting workloads"),
            ("steps=0", "setting steps"),
            ("steps=100000", "tokens of context"),
            ("steps=18446744073709551615", "tokens of context"),
            ("geometry=smollm2-135m&type=q8_0&workloads=decode-2048", "tokens of context"),
            ("layers=0", "setting layers"),
            ("rows=0", "setting rows"),
            ("rows=1000000001", "setting rows"),
            ("layers=1000000", "setting layers"),
        ] {
            // A number may be more than a 32-bit machine counts to: then it is refused as it is read.
            let specs = Order::default().with_query(query).and_then(|order| order.specs());
            let message = message(specs);
            assert!(message.contains(expected) || message.contains("not a number"), "{query}: {message}");
        }
        for query in ["steps=x", "steps=-1", "layers=", "layers=1.5"] {
            assert!(message(Order::default().with_query(query)).contains("not a number"), "{query}");
        }
    }
}
