//! Files that a command reads and writes, by where they really lie.

use std::path::{Path, PathBuf};

/// Refuses files to write that are read, or that are one file, however they are spelled.
pub(super) fn check_outputs(read: &[&PathBuf], written: &[&PathBuf]) -> anyhow::Result<()> {
    let read: Vec<PathBuf> = read.iter().map(|path| resolved(path)).collect();
    let files: Vec<PathBuf> = written.iter().map(|path| resolved(path)).collect();
    for (at, output) in written.iter().enumerate() {
        anyhow::ensure!(!read.contains(&files[at]), "{}: it is read", output.display());
        anyhow::ensure!(!files[..at].contains(&files[at]), "{}: different files expected", output.display());
    }
    Ok(())
}

/// Refuses files in a folder whose files a command makes itself; `option` names it.
pub(super) fn check_outside(folder: &Path, option: &str, files: &[&PathBuf]) -> anyhow::Result<()> {
    let made = resolved(folder);
    for file in files {
        let (inside, file) = (resolved(file).starts_with(&made), file.display());
        anyhow::ensure!(!inside, "{file}: it lies inside {option} {}, another folder expected", folder.display());
    }
    Ok(())
}

/// Without links and detours as far as it exists; the rest as it is spelled.
fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = whole.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    match found {
        Some((part, found)) => found.join(whole.strip_prefix(part).unwrap_or(Path::new(""))),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_hide_a_file() {
        let folder = std::env::temp_dir().join(format!("selfrag-files-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("work")).unwrap();
        std::fs::write(folder.join("a"), "").unwrap();
        let [a, detour, new, same, inside, new_folder] =
            ["a", "work/../a", "new", "./work/../new", "work/new/x", "unmade"].map(|name| folder.join(name));
        #[cfg(unix)]
        {
            let link = folder.join("link");
            std::os::unix::fs::symlink(&a, &link).unwrap();
            assert!(check_outputs(&[&a], &[&link]).is_err());
        }
        assert!(check_outputs(&[&a], &[&detour]).unwrap_err().to_string().contains("it is read"));
        assert!(check_outputs(&[&a], &[&new, &same]).unwrap_err().to_string().contains("different files"));
        assert!(check_outputs(&[&a], &[&new]).is_ok());
        let work = folder.join("work/../work");
        assert!(check_outside(&work, "--work", &[&a, &new]).is_ok());
        assert!(check_outside(&work, "--work", &[&inside]).unwrap_err().to_string().contains("inside --work"));
        assert!(check_outside(&new_folder, "--work", &[&new_folder.join("x")]).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
