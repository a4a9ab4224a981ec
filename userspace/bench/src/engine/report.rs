//! What a run says: rows with figures beside their targets, as a table and as JSON.

use std::fmt;
use std::fs;
use std::path::Path;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use crate::BenchError;
use crate::engine::statistics::Estimate;

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// To reach.
    AtLeast(f64),
    /// Not to exceed.
    AtMost(f64),
    /// No target: a ratio of two contenders, higher is better.
    Beside,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(value) => write!(f, "≥ {value}"),
            Self::AtMost(value) => write!(f, "≤ {value}"),
            Self::Beside => Ok(()),
        }
    }
}

/// What may be said of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Conclusion {
    /// The whole interval is on the right side of the target.
    Met,
    /// The whole interval is on the wrong side.
    Missed,
    /// Better than the other contender, whole interval.
    Ahead,
    /// Worse than the other contender, whole interval.
    Behind,
    /// The noise exceeds the difference.
    None,
}

impl Conclusion {
    fn of(value: &Estimate, target: Target) -> Self {
        let (low, high) = (value.low, value.high);
        match target {
            Target::AtLeast(bound) if low >= bound => Self::Met,
            Target::AtLeast(bound) if high < bound => Self::Missed,
            Target::AtMost(bound) if high <= bound => Self::Met,
            Target::AtMost(bound) if low > bound => Self::Missed,
            Target::Beside if low > 1.0 => Self::Ahead,
            Target::Beside if high < 1.0 => Self::Behind,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::None => "no conclusion",
        })
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The figure.
    pub value: Estimate,
    /// `ns`, `ms`, `/s`, `×` for ratios.
    pub unit: &'static str,
    /// What it is held against, if anything.
    pub target: Option<Target>,
    /// What that says.
    pub conclusion: Option<Conclusion>,
}

impl Row {
    /// A figure without a target.
    pub(crate) fn figure(name: impl Into<String>, value: Estimate, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            target: None,
            conclusion: None,
        }
    }

    /// The figure is held against this.
    pub(crate) fn against(mut self, target: Target) -> Self {
        self.conclusion = Some(Conclusion::of(&self.value, target));
        self.target = Some(target);
        self
    }
}

/// What a suite found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The suite's name, and that of its file.
    pub suite: &'static str,
    /// Machine and kernel.
    pub machine: String,
    /// Whether it was the short form.
    pub effort: &'static str,
    /// The figures.
    pub rows: Vec<Row>,
    /// What the suite did not do, and why.
    pub remarks: Vec<String>,
    /// Every single sample, in the suite's own form.
    pub raw: serde_json::Value,
}

impl Report {
    /// Writes `<suite>.json` into a folder, which is made when it is not there.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), BenchError> {
        let path = folder.join(format!("{}.json", self.suite));
        let text = serde_json::to_vec_pretty(self)?;
        let failed = || BenchError::io(format!("write {}", path.display()));
        fs::create_dir_all(folder).map_err(failed())?;
        fs::write(&path, text).map_err(failed())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}), {}", self.suite, self.effort, self.machine)?;
        let mut table = Table::new();
        table
            .load_style(ASCII_MARKDOWN)
            .set_header(["", "median", "interval", "", "target", ""]);
        for row in &self.rows {
            let Estimate {
                median,
                low,
                high,
                confidence,
                ..
            } = row.value;
            let interval = if low == high {
                String::new()
            } else {
                let percent = confidence * 100.0;
                format!("{} … {} ({percent:.0} %)", number(low), number(high))
            };
            table.add_row([
                Cell::new(&row.name),
                Cell::new(number(median)).set_alignment(CellAlignment::Right),
                Cell::new(interval).set_alignment(CellAlignment::Right),
                Cell::new(row.unit),
                Cell::new(row.target.map(|target| target.to_string()).unwrap_or_default()),
                Cell::new(row.conclusion.map(|found| found.to_string()).unwrap_or_default()),
            ]);
        }
        writeln!(f, "{table}")?;
        for remark in &self.remarks {
            writeln!(f, "* {remark}")?;
        }
        Ok(())
    }
}

/// With as many decimals as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Cores, processor and kernel, without names of machines.
pub(crate) fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(low: f64, high: f64) -> Estimate {
        Estimate {
            median: f64::midpoint(low, high),
            low,
            high,
            confidence: 0.96,
            samples: 9,
        }
    }

    #[test]
    fn a_target_within_the_noise_is_neither_met_nor_missed() {
        for (low, high, target, expected) in [
            (0.96, 0.98, Target::AtLeast(0.95), Conclusion::Met),
            (0.90, 0.94, Target::AtLeast(0.95), Conclusion::Missed),
            (0.90, 0.96, Target::AtLeast(0.95), Conclusion::None),
            (4.0, 5.0, Target::AtMost(5.0), Conclusion::Met),
            (6.0, 9.0, Target::AtMost(5.0), Conclusion::Missed),
            (4.0, 9.0, Target::AtMost(5.0), Conclusion::None),
            (1.01, 1.20, Target::Beside, Conclusion::Ahead),
            (0.90, 0.99, Target::Beside, Conclusion::Behind),
            (0.99, 1.01, Target::Beside, Conclusion::None),
        ] {
            let row = Row::figure("x", between(low, high), "×").against(target);
            assert_eq!(row.conclusion, Some(expected), "{low} {high} {target:?}");
        }
    }
}
