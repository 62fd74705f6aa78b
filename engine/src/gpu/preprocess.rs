//! Assembles a shader variant from its files. Used by `build.rs` (which validates every variant) and at run time (which
//! needs only some), so the text that was validated is the text that runs.
//!
//! Directives, each on a line of its own: `#import path` (a file under `shaders/shared`, once), `#ifdef NAME`, `#ifndef NAME`,
//! `#else`, `#endif`, and `#for i in 0..N` … `#end`, which writes its lines N times with `$i` standing for the number: naga has no
//! way to ask for an unrolled loop, and an array indexed in a loop that is not unrolled lies in memory, not in registers.
//! `$NAME` anywhere stands for the value of the define `NAME=value`.

/// Expands `name` with the given defines (`"FLAG"` or `"KEY=value"`). `read` gives a file's text by its path under `shaders/`.
pub(super) fn expand<'a>(
    name: &str,
    defines: &[&str],
    read: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, String> {
    let mut expansion = Expansion { defines, read, imported: Vec::new(), out: String::new() };
    for (define, extension) in [("F16", "f16"), ("COOP", "wgpu_cooperative_matrix")] {
        if defines.contains(&define) {
            expansion.out.push_str(&format!("enable {extension};\n"));
        }
    }
    expansion.file(&format!("{name}.wgsl"))?;
    Ok(expansion.out)
}

/// A line of a file: its number and its text.
type Line<'t> = (usize, &'t str);
/// What the numbers of the open `#for`s stand for.
type Counters = Vec<(String, String)>;

struct Expansion<'d, 'f> {
    defines: &'d [&'d str],
    read: &'d dyn Fn(&str) -> Option<&'f str>,
    imported: Vec<String>,
    out: String,
}

impl Expansion<'_, '_> {
    fn file(&mut self, path: &str) -> Result<(), String> {
        let text = (self.read)(path).ok_or_else(|| format!("{path}: no such shader file"))?;
        let lines: Vec<Line<'_>> = text.lines().enumerate().map(|(i, line)| (i + 1, line)).collect();
        self.lines(path, &lines, &Vec::new())
    }

    fn lines(&mut self, path: &str, lines: &[Line<'_>], counters: &Counters) -> Result<(), String> {
        // One entry per open #ifdef: is this branch taken?
        let mut taken: Vec<bool> = Vec::new();
        let mut next = 0;
        while let Some((number, line)) = lines.get(next) {
            next += 1;
            let at = |problem: &str| format!("{path}:{number}: {problem}");
            let active = taken.iter().all(|t| *t);
            let line = self.substitute(line, counters);
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["#ifdef", flag] => taken.push(self.defines.contains(flag)),
                ["#ifndef", flag] => taken.push(!self.defines.contains(flag)),
                ["#else"] => {
                    let branch = taken.last_mut().ok_or_else(|| at("#else without #ifdef"))?;
                    *branch = !*branch;
                }
                ["#endif"] => {
                    taken.pop().ok_or_else(|| at("#endif without #ifdef"))?;
                }
                ["#for", counter, "in", range] => {
                    let body = next..next + for_body(&lines[next..]).ok_or_else(|| at("#for without #end"))?;
                    next = body.end + 1;
                    if !active {
                        continue;
                    }
                    let (first, end) = range
                        .split_once("..")
                        .and_then(|(first, end)| Some((first.parse::<u32>().ok()?, end.parse::<u32>().ok()?)))
                        .ok_or_else(|| at("#for needs a range of two numbers"))?;
                    for i in first..end {
                        let mut counters = counters.clone();
                        counters.push(((*counter).to_string(), i.to_string()));
                        self.lines(path, &lines[body.clone()], &counters)?;
                    }
                }
                ["#end"] => return Err(at("#end without #for")),
                ["#import", import] if active => self.import(import)?,
                _ if active => {
                    self.out.push_str(&line);
                    self.out.push('\n');
                }
                _ => {}
            }
        }
        if taken.is_empty() { Ok(()) } else { Err(format!("{path}: #ifdef without #endif")) }
    }

    fn import(&mut self, path: &str) -> Result<(), String> {
        if self.imported.iter().any(|imported| imported == path) {
            return Ok(());
        }
        self.imported.push(path.to_string());
        self.file(&format!("shared/{path}.wgsl"))
    }

    fn substitute(&self, line: &str, counters: &Counters) -> String {
        let mut line = line.to_string();
        if line.contains('$') {
            let defines = self.defines.iter().filter_map(|d| d.split_once('='));
            for (key, value) in defines.chain(counters.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
                line = line.replace(&format!("${key}"), value);
            }
        }
        line
    }
}

/// Lines up to the `#end` of a `#for` that has just been read.
fn for_body(lines: &[Line<'_>]) -> Option<usize> {
    let mut open = 1;
    lines.iter().position(|(_, line)| {
        match line.split_whitespace().next() {
            Some("#for") => open += 1,
            Some("#end") => open -= 1,
            _ => {}
        }
        open == 0
    })
}
