//! Counting tests in what the test runners print.

/// Tests that passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Tally {
    /// Adds what a line reports: cargo's and wasm-bindgen's `test result: …`, node's `# pass 3` or `ℹ pass 3`.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colours(line);
        if let Some((_, counts)) = line.split_once("test result: ") {
            self.passed += before(counts, " passed").unwrap_or(0);
            self.failed += before(counts, " failed").unwrap_or(0);
        } else if let Some(count) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) {
            match count.split_once(' ') {
                Some(("pass", n)) => self.passed += n.trim().parse().unwrap_or(0),
                Some(("fail" | "cancelled", n)) => self.failed += n.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The number that ends right before `word`.
fn before(text: &str, word: &str) -> Option<usize> {
    let head = &text[..text.find(word)?];
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The line without terminal colour sequences, which a runner may print even into a pipe.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or("").to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, text)| text));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runner_is_understood() {
        let cases = [
            ("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 1.20s", 12, 0),
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 filtered out; finished in 0.01s", 1, 2),
            ("test result: \u{1b}[32mok\u{1b}[0m. 4 passed; 0 failed; 0 ignored", 4, 0),
            ("# pass 7", 7, 0),
            ("# fail 1", 0, 1),
            ("ℹ pass 5", 5, 0),
            ("ℹ fail 2", 0, 2),
            ("# cancelled 1", 0, 1),
            ("# tests 8", 0, 0),
            ("test page::loads ... ok", 0, 0),
        ];
        for (line, passed, failed) in cases {
            let mut tally = Tally::default();
            tally.read(line);
            assert_eq!(tally, Tally { passed, failed }, "{line}");
        }
    }
}
