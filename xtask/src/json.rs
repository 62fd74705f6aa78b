//! Reading JSON: just enough for what our own programs print.

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// `null`, `true` and `false`, which nobody here asks for.
    Word,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value that is all of `text`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let value = reader.value(0)?;
        reader.skip();
        reader.rest.is_empty().then_some(value)
    }

    /// A field of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(fields) = self else { return None };
        fields.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A field that is a string.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        if let Some(Self::Text(text)) = self.get(key) { Some(text) } else { None }
    }

    /// A field that is a number.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        if let Some(Self::Number(number)) = self.get(key) { Some(*number) } else { None }
    }

    /// The values of a list; of anything else none.
    pub(crate) fn list(&self) -> &[Self] {
        if let Self::List(values) = self { values } else { &[] }
    }
}

/// A string as JSON, quotes included.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Nesting that is followed; more is nobody's result.
const DEEPEST: usize = 32;

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Whether `c` comes next; it is taken.
    fn take(&mut self, c: char) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return None;
        }
        if self.take('{') {
            let mut fields = Vec::new();
            self.items('}', |reader| {
                let key = reader.take('"').then(|| reader.string())??;
                reader.take(':').then_some(())?;
                fields.push((key, reader.value(depth + 1)?));
                Some(())
            })?;
            return Some(Json::Object(fields));
        }
        if self.take('[') {
            let mut values = Vec::new();
            self.items(']', |reader| {
                values.push(reader.value(depth + 1)?);
                Some(())
            })?;
            return Some(Json::List(values));
        }
        if self.take('"') {
            return Some(Json::Text(self.string()?));
        }
        let end = self.rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "null" | "true" | "false" => Some(Json::Word),
            number => number.parse().ok().map(Json::Number),
        }
    }

    /// Items with commas between them up to `end`.
    fn items(&mut self, end: char, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.take(end) {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(end) {
                return Some(());
            }
            self.take(',').then_some(())?;
        }
    }

    /// The rest of a string whose quote was taken.
    fn string(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => out.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'u' => {
                        let digits: String = chars.by_ref().take(4).collect();
                        char::from_u32(u32::from_str_radix(&digits, 16).ok()?).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    c => c,
                }),
                c => out.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let text = r#" {"a": [1, -2.5e3, true, null, []], "b": {"c": "x\n\"y\u00e9"}, "d": {}} "#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.get("a").unwrap().list()[1], Json::Number(-2500.0));
        assert_eq!(json.get("a").unwrap().list().len(), 5);
        assert_eq!(json.get("b").unwrap().text("c"), Some("x\n\"yé"));
        assert_eq!(json.text("a"), None);
        assert_eq!(Json::parse(&quote("a\"\\\nb")), Some(Json::Text("a\"\\\nb".into())));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for wrong in ["", "{", "[1,]", "{\"a\"}", "{a: 1}", "\"x", "1 2", "nul", "[1 2]", &"[".repeat(100_000)] {
            assert_eq!(Json::parse(wrong), None, "{wrong:.20} was accepted");
        }
    }
}
