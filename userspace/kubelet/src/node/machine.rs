//! What the machine has: read from /proc and the file systems.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Facts of the machine. What cannot be read is zero or empty, and never fatal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Machine {
    pub(super) cpus: usize,
    pub(super) memory_bytes: u64,
    pub(super) memory_available_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) disk_available_bytes: u64,
    pub(super) processes: u64,
    pub(super) process_limit: u64,
    pub(super) machine_id: String,
    pub(super) system_uuid: String,
    pub(super) boot_id: String,
    pub(super) kernel: String,
    pub(super) os: String,
}

impl Machine {
    /// Reads the facts; the disk is the one that pods' folders are on.
    pub(super) fn read(root_dir: &Path) -> Self {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let existing = root_dir.ancestors().find(|folder| folder.exists());
        let disk = existing.and_then(|folder| statvfs(folder).ok());
        let machine_id = first_line("/etc/machine-id");
        let uuid = first_line("/sys/class/dmi/id/product_uuid");
        Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: kilobytes(&memory, "MemTotal:"),
            memory_available_bytes: kilobytes(&memory, "MemAvailable:"),
            disk_bytes: disk.map_or(0, |disk| disk.blocks() * disk.fragment_size()),
            disk_available_bytes: disk.map_or(0, |disk| disk.blocks_available() * disk.fragment_size()),
            processes: running_processes(&first_line("/proc/loadavg")),
            process_limit: first_line("/proc/sys/kernel/pid_max").parse().unwrap_or(0),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: first_line("/proc/sys/kernel/random/boot_id"),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            os: pretty_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        }
    }
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// A line of proc_meminfo(5), in bytes.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// The fourth field of proc_loadavg(5) is `running/existing`.
fn running_processes(load: &str) -> u64 {
    let field = load.split(' ').nth(3).and_then(|field| field.split_once('/'));
    field.and_then(|(_, existing)| existing.parse().ok()).unwrap_or(0)
}

/// The name of os-release(5).
fn pretty_name(text: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            kilobytes("MemTotal:       16 kB\nMemFree: 1 kB\n", "MemTotal:"),
            16 * 1024
        );
        assert_eq!(running_processes("0.20 0.18 0.12 1/80 11206"), 80);
        assert_eq!(pretty_name("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::read(Path::new("/nonexistent/below/root"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && machine.disk_bytes > 0);
    }
}
