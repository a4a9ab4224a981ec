//! What a run that was killed has left: told by the process ids in the names, removed by the next run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::BenchError;
use crate::engine::machine::PREFIX;

/// Removes cgroups, pins and lock files of runs whose process is gone.
///
/// # Errors
/// [`BenchError::Dataplane`] when pins cannot be removed.
pub(crate) fn sweep() -> Result<(), BenchError> {
    for pins in dead(&skep_loader::bpffs()?) {
        skep_loader::detach(&pins)?;
    }
    for cgroup in dead(&skep_loader::cgroup2()?) {
        if let Err(error) = fs::remove_dir(&cgroup) {
            eprintln!("cgroup {} stays behind: {error}", cgroup.display());
        }
    }
    for lock in dead(&std::env::temp_dir()) {
        if let Err(error) = fs::remove_file(&lock) {
            eprintln!("{} stays behind: {error}", lock.display());
        }
    }
    Ok(())
}

fn dead(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let process = name.to_str().and_then(process_of);
            process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
        })
        .map(|entry| entry.path())
        .collect()
}

/// The process that a name tells of.
fn process_of(name: &str) -> Option<u32> {
    let (process, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    process.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_runs_are_told() {
        assert_eq!(process_of("skep-bench-123-4"), Some(123));
        for other in [
            "skep-test-123-4",
            "skep-bench-123",
            "skep-bench-x-4",
            "skep-bench-1-x",
        ] {
            assert_eq!(process_of(other), None, "{other}");
        }
    }
}
