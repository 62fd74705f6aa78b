//! Assembles a shader variant from its files. Used by `build.rs` (which validates every variant) and at run time (which
//! needs only some), so the text that was validated is the text that runs.
//!
//! Directives, each on a line of its own: `#import path` (a file under `shaders/shared`, once), `#ifdef NAME`, `#ifndef NAME`,
//! `#else`, `#endif`. `$NAME` anywhere stands for the value of the define `NAME=value`.

/// Expands `name` with the given defines (`"FLAG"` or `"KEY=value"`). `read` gives a file's text by its path under `shaders/`.
pub(super) fn expand<'a>(
    name: &str,
    defines: &[&str],
    read: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, String> {
    let mut out = String::new();
    for (define, extension) in [("F16", "f16")] {
        if defines.contains(&define) {
            out.push_str(&format!("enable {extension};\n"));
        }
    }
    let mut imported = Vec::new();
    expand_file(&format!("{name}.wgsl"), defines, read, &mut imported, &mut out)?;
    Ok(out)
}

fn expand_file<'a>(
    path: &str,
    defines: &[&str],
    read: &dyn Fn(&str) -> Option<&'a str>,
    imported: &mut Vec<String>,
    out: &mut String,
) -> Result<(), String> {
    let text = read(path).ok_or_else(|| format!("{path}: no such shader file"))?;
    // One entry per open #ifdef: is this branch taken?
    let mut taken: Vec<bool> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let at = |problem: &str| format!("{path}:{}: {problem}", i + 1);
        let active = taken.iter().all(|t| *t);
        let line = substitute(line, defines);
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["#ifdef", flag] => taken.push(defines.contains(flag)),
            ["#ifndef", flag] => taken.push(!defines.contains(flag)),
            ["#else"] => {
                let branch = taken.last_mut().ok_or_else(|| at("#else without #ifdef"))?;
                *branch = !*branch;
            }
            ["#endif"] => {
                taken.pop().ok_or_else(|| at("#endif without #ifdef"))?;
            }
            ["#import", import] if active => {
                let known = imported.iter().any(|i| i == import);
                imported.push((*import).to_string());
                let file = format!("shared/{import}.wgsl");
                (!known).then(|| expand_file(&file, defines, read, imported, out)).transpose()?;
            }
            _ if active => {
                out.push_str(&line);
                out.push('\n');
            }
            _ => {}
        }
    }
    if taken.is_empty() { Ok(()) } else { Err(format!("{path}: #ifdef without #endif")) }
}

fn substitute(line: &str, defines: &[&str]) -> String {
    let mut line = line.to_string();
    if line.contains('$') {
        for (key, value) in defines.iter().filter_map(|d| d.split_once('=')) {
            line = line.replace(&format!("${key}"), value);
        }
    }
    line
}
