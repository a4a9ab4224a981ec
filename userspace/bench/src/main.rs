//! `skep-bench`: runs one suite, as `cargo xtask bench` starts it.

use std::process::ExitCode;

use clap::Parser;
use skep_bench::{BenchError, Context, Effort, Interrupt, Options};

/// Measures Skep's service dataplane.
#[derive(Parser)]
#[command(name = "skep-bench", version, about)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn run(options: &Options) -> Result<(), BenchError> {
    let context = Context {
        interrupt: Interrupt::catch()?,
        effort: if options.quick {
            Effort::Quick
        } else {
            Effort::Full
        },
    };
    let Some(report) = skep_bench::run(&options.suite, &context)? else {
        return Ok(());
    };
    print!("{report}");
    if let Some(folder) = &options.out {
        report.write(folder)?;
    }
    Ok(())
}
