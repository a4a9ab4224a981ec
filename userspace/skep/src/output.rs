//! What a person sees: errors with their causes, steps with their times, tables, logs.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize as _, Stream};
use serde_json::Value;
use skep_cluster::Progress;
use tracing_subscriber::EnvFilter;

const TICK: Duration = Duration::from_millis(100);
/// The DNS library has two lines for every query on INFO.
const SERVICE_LOGS: &str = "info,hickory_server=warn";

/// Logs to standard error: services from INFO on, a person's commands from WARN on; `SKEP_LOG` overrides.
pub(crate) fn start_logging(service: bool) {
    let default = if service { SERVICE_LOGS } else { "warn" };
    let filter = EnvFilter::try_from_env("SKEP_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Prints an error with its causes, each on a line.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!(
        "{} {error}",
        "error:".if_supports_color(Stream::Stderr, |text| text.red())
    );
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::FAILURE
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: an array, of one object for each thing shown
    Json,
}

/// Prints what was gathered for programs, if that is what is wanted.
pub(crate) fn print_json(format: Format, values: &[Value]) -> anyhow::Result<()> {
    if format == Format::Json {
        print(&format!("{}\n", serde_json::to_string_pretty(values)?))?;
    }
    Ok(())
}

/// Prints to standard output. Whoever reads may have seen enough and gone (`| head`): that is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result,
    }
}

/// A table without lines. The columns `numbers` are aligned at their right end.
pub(crate) fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_header(header.iter().map(Cell::new));
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A number of bytes, in the unit in which it is short.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.into_iter().find(|(_, shift)| count >> shift > 0);
    match unit {
        None => format!("{count} B"),
        Some((unit, shift)) => {
            // One digit, rounded down; u128 because ten times the largest count is no u64.
            let tenths = (u128::from(count) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// Emphasis, where the terminal has it and nobody set NO_COLOR.
pub(crate) fn bold(text: &str) -> String {
    text.if_supports_color(Stream::Stdout, |text| text.bold())
        .to_string()
}

/// As it should be.
pub(crate) fn good(text: &str) -> String {
    text.if_supports_color(Stream::Stdout, |text| text.green())
        .to_string()
}

/// As it should not be.
pub(crate) fn bad(text: &str) -> String {
    text.if_supports_color(Stream::Stdout, |text| text.red())
        .to_string()
}

/// Shows steps: a moving line on a terminal, plain lines elsewhere.
pub(crate) struct Steps {
    bar: ProgressBar,
    current: Option<(String, Instant)>,
    interactive: bool,
}

impl Steps {
    pub(crate) fn new() -> Self {
        let interactive = io::stderr().is_terminal();
        let bar = if interactive {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(TICK);
        Self {
            bar,
            current: None,
            interactive,
        }
    }

    fn finish(&mut self) {
        let Some((what, since)) = self.current.take() else {
            return;
        };
        let took = format!("{:.1} s", since.elapsed().as_secs_f64());
        let mark = "✓"
            .if_supports_color(Stream::Stderr, |text| text.green())
            .to_string();
        let line = format!("{mark} {what} ({took})");
        if self.interactive {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}

impl Progress for Steps {
    fn step(&mut self, what: &str) {
        self.finish();
        self.current = Some((what.to_owned(), Instant::now()));
        self.bar.set_message(what.to_owned());
    }

    fn detail(&mut self, text: &str) {
        if let Some((what, _)) = &self.current {
            self.bar.set_message(format!("{what}: {text}"));
        }
    }

    fn done(&mut self) {
        self.finish();
        self.bar.finish_and_clear();
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_the_unit_in_which_they_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (8 << 20, "8.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
