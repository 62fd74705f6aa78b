//! Assembles, validates and reflects every shader variant. A broken shader fails the build with its file's name.
//!
//! Writes `$OUT_DIR/shaders.rs`: the shader texts, each variant's bindings, and a Rust struct for every shader's `Params`,
//! so that a uniform has one definition: the WGSL one.

use std::{collections::BTreeMap, env, fmt::Write, fs, path::Path};

use naga::{
    AddressSpace, ScalarKind, StorageAccess, TypeInner,
    valid::{Capabilities, ValidationFlags, Validator},
};

#[path = "src/gpu/preprocess.rs"]
mod preprocess;

/// The least maxComputeWorkgroupStorageSize of a WebGPU device.
const WORKGROUP_BYTES: u32 = 16 << 10;

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../shaders");
    println!("cargo::rerun-if-changed={}", root.display());
    println!("cargo::rerun-if-changed=src/gpu/preprocess.rs");
    let files = read_shaders(&root);
    let read = |path: &str| files.get(path).map(String::as_str);
    let list = fs::read_to_string(root.join("variants")).expect("shaders/variants lists every shader");

    // No browser has cooperative matrices, and the page's bytes are counted.
    let is_web = env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm");

    let mut code = String::from("/// Shader files by path.\npub(super) const FILES: &[(&str, &str)] = &[\n");
    for (path, text) in files.iter().filter(|(path, _)| !(is_web && path.contains("coop"))) {
        writeln!(code, "    ({path:?}, {text:?}),").expect("a string grows");
    }
    code.push_str("];\n\n/// Every validated variant.\npub(super) const VARIANTS: &[Variant] = &[\n");
    let mut params: BTreeMap<String, String> = BTreeMap::new();
    let mut failures = Vec::new();
    for entry in parse_variants(&list) {
        for defines in combinations(&entry) {
            let defines: Vec<&str> = defines.iter().map(String::as_str).collect();
            match reflect(&entry.shader, &defines, &read) {
                Ok((bindings, uniform)) => {
                    if !(is_web && defines.contains(&"COOP")) {
                        writeln!(
                            code,
                            "    Variant {{ shader: {:?}, defines: &{defines:?}, bindings: &[{}] }},",
                            entry.shader,
                            bindings.join(", ")
                        )
                        .expect("a string grows");
                    }
                    if let Some(uniform) = uniform {
                        let known = params.entry(entry.shader.clone()).or_insert_with(|| uniform.clone());
                        assert_eq!(*known, uniform, "shaders/{}.wgsl: Params differs between variants", entry.shader);
                    }
                }
                Err(error) => failures.push(format!("shaders/{}.wgsl {defines:?}: {error}", entry.shader)),
            }
        }
    }
    code.push_str("];\n\n/// The shaders' uniform structs, from their WGSL definitions.\npub mod params {\n    #![allow(missing_docs)]\n");
    for (shader, fields) in &params {
        let name: String = shader.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        writeln!(
            code,
            "    #[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]\n    #[repr(C)]\n    pub struct {name} {{\n{fields}    }}"
        )
        .expect("a string grows");
    }
    code.push_str("}\n");
    assert!(failures.is_empty(), "invalid shaders:\n{}", failures.join("\n"));
    let listed: Vec<String> = parse_variants(&list).into_iter().map(|e| format!("{}.wgsl", e.shader)).collect();
    for path in files.keys().filter(|p| !p.contains('/')) {
        assert!(listed.contains(path), "shaders/{path} is not listed in shaders/variants");
    }
    fs::write(Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("shaders.rs"), code)
        .expect("OUT_DIR is writable");
}

fn read_shaders(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "wgsl") {
                let name = path.strip_prefix(root).expect("found under root").to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                files.insert(name, without_comments(&text));
            }
        }
    }
    files
}

/// The same lines without comments and indentation: what is shipped is small, and errors still name the file's own lines.
fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned() + "\n";
    text.lines().map(code).collect()
}

/// Validates one variant and returns its bindings and the fields of its `Params`.
fn reflect<'a>(
    shader: &str,
    defines: &[&str],
    read: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<(Vec<String>, Option<String>), String> {
    let source = preprocess::expand(shader, defines, read)?;
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::SUBGROUP_BARRIER
        | Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| e.emit_to_string(&source))?;
    if !module.entry_points.iter().any(|e| e.name == "main") {
        return Err("no entry point named main".into());
    }
    // Cooperative matrices are asked for with the memory that their kernels take; all else must run on any device.
    let workgroup_bytes: u32 = module
        .global_variables
        .iter()
        .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
        .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()))
        .sum();
    if workgroup_bytes > WORKGROUP_BYTES && !defines.contains(&"COOP") {
        return Err(format!("{workgroup_bytes} bytes of workgroup memory, {WORKGROUP_BYTES} are what WebGPU grants"));
    }
    let mut bindings = BTreeMap::new();
    let mut uniform = None;
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        if binding.group != 0 {
            return Err("bindings belong in group 0".into());
        }
        let kind = match variable.space {
            AddressSpace::Uniform => {
                uniform = Some(fields(&module, variable.ty)?);
                "Binding::Uniform"
            }
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => "Binding::ReadWrite",
            AddressSpace::Storage { .. } => "Binding::Read",
            _ => return Err("only uniform and storage bindings are known".into()),
        };
        bindings.insert(binding.binding, kind.to_string());
    }
    if !bindings.keys().copied().eq(0..bindings.len() as u32) {
        return Err(format!("bindings must be numbered from 0 without gaps, found {:?}", bindings.keys()));
    }
    Ok((bindings.into_values().collect(), uniform))
}

fn fields(module: &naga::Module, ty: naga::Handle<naga::Type>) -> Result<String, String> {
    let TypeInner::Struct { members, .. } = &module.types[ty].inner else {
        return Err("the uniform must be a struct".into());
    };
    let mut out = String::new();
    for member in members {
        let TypeInner::Scalar(scalar) = module.types[member.ty].inner else {
            return Err("uniform members must be scalars".into());
        };
        let rust = match scalar.kind {
            ScalarKind::Uint => "u32",
            ScalarKind::Sint => "i32",
            ScalarKind::Float => "f32",
            _ => return Err("uniform members must be u32, i32 or f32".into()),
        };
        writeln!(out, "        pub {}: {rust},", member.name.as_deref().unwrap_or("unnamed")).expect("a string grows");
    }
    Ok(out)
}

/// A line of `shaders/variants`: a shader and its options.
struct Entry {
    /// File name without extension.
    shader: String,
    /// Each option's choices; the empty string stands for "not defined".
    options: Vec<Vec<String>>,
}

/// Reads `shaders/variants`: `name  KEY=a|b|c  FLAG?  FLAG  …`, `#` starts a comment.
fn parse_variants(text: &str) -> Vec<Entry> {
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let shader = words.next().unwrap_or_default().to_string();
            let options = words
                .map(|word| match word.split_once('=') {
                    Some((key, values)) => values.split('|').map(|v| format!("{key}={v}")).collect(),
                    None => match word.strip_suffix('?') {
                        Some(flag) => vec![String::new(), flag.to_string()],
                        None => vec![word.to_string()],
                    },
                })
                .collect();
            Entry { shader, options }
        })
        .collect()
}

/// Every combination of an entry's options, each as a list of defines in the entry's order.
fn combinations(entry: &Entry) -> Vec<Vec<String>> {
    entry.options.iter().fold(vec![Vec::new()], |all, choices| {
        all.iter()
            .flat_map(|prefix| {
                choices.iter().map(move |choice| {
                    let mut defines: Vec<String> = prefix.clone();
                    defines.extend((!choice.is_empty()).then(|| choice.clone()));
                    defines
                })
            })
            .collect()
    })
}
