//! Process id files: who runs, whether it lives, how it is ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ClusterError;

const ENDING: &str = "pid";
const POLL: Duration = Duration::from_millis(20);

/// The file that holds the process id of one of a cluster's processes.
pub(crate) fn pid_file(run_dir: &Path, process: &str) -> PathBuf {
    run_dir.join(format!("{process}.{ENDING}"))
}

/// Writes a process id, with the process's start time, so that a later process of the same id is not mistaken for it.
pub(crate) fn write(run_dir: &Path, process: &str, id: u32) -> Result<(), ClusterError> {
    let path = pid_file(run_dir, process);
    let start = start_time(id).unwrap_or_default();
    fs::write(&path, format!("{id} {start}\n")).map_err(ClusterError::io("write", path))
}

/// Whether any process named in the folder's files lives.
pub(crate) fn any_alive(run_dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(run_dir) else {
        return false;
    };
    let files = entries.flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
        .any(|path| alive(&path).is_some())
}

/// The living process of that name.
pub(crate) fn living(run_dir: &Path, process: &str) -> Option<u32> {
    alive(&pid_file(run_dir, process))
}

/// The living process of a file.
fn alive(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    let (id, start) = text.trim().split_once(' ')?;
    let id = id.parse().ok()?;
    (start_time(id)?.to_string() == start).then_some(id)
}

/// Asks a process to end and waits; after the time it is ended by force.
pub(crate) fn stop(run_dir: &Path, process: &str, patience: Duration) {
    let path = pid_file(run_dir, process);
    let Some(id) = alive(&path) else { return };
    let Ok(raw) = i32::try_from(id) else { return };
    let pid = Pid::from_raw(raw);
    for (signal, patience) in [
        (Signal::SIGTERM, patience),
        (Signal::SIGKILL, Duration::from_secs(2)),
    ] {
        if kill(pid, signal).is_err() {
            return;
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if alive(&path).is_none() {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// When a process started, in clock ticks since boot (proc(5), field 22 of `stat`); nothing for a dead one.
fn start_time(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in brackets may hold anything: fields are counted from behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_process_id_is_not_taken_for_the_old_process() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::process::id();
        write(folder.path(), "self", own).unwrap();
        assert!(any_alive(folder.path()));
        fs::write(pid_file(folder.path(), "self"), format!("{own} 1")).unwrap();
        assert!(!any_alive(folder.path()));
    }
}
