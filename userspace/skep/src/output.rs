//! What a person sees: errors with their causes, steps with their times, logs.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize as _, Stream};
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
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
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

/// Shows steps: a moving line on a terminal, plain lines elsewhere.
pub(crate) struct Steps {
    bar: ProgressBar,
    current: Option<(String, Instant)>,
    interactive: bool,
}

impl Steps {
    pub(crate) fn new() -> Self {
        let interactive = std::io::stderr().is_terminal();
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
