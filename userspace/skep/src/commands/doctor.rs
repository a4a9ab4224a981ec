//! `skep doctor`.

use anyhow::{Result, bail};
use owo_colors::{OwoColorize as _, Stream};
use skep_cluster::{Finding, Severity, examine};
use skep_loader::features;

use crate::output::print;

pub(super) fn run() -> Result<()> {
    let mut findings = examine();
    findings.extend(kernel_features());
    for finding in &findings {
        show(finding)?;
    }
    let missing = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Missing)
        .count();
    if missing > 0 {
        bail!("{missing} thing(s) are missing without which a cluster cannot run");
    }
    Ok(print("\nThis machine can run Skep.\n")?)
}

/// What the kernel's BPF can do, asked of the kernel itself.
fn kernel_features() -> Vec<Finding> {
    let probed = match features() {
        Ok(probed) => probed,
        Err(error) => {
            return vec![Finding {
                what: "BPF".to_owned(),
                severity: Severity::Missing,
                seen: error.to_string(),
                remedy: Some("run as root, on a kernel with BPF".to_owned()),
            }];
        }
    };
    let findings = probed.into_iter().map(|feature| match feature.missing {
        None => Finding {
            what: feature.name.to_owned(),
            severity: Severity::Good,
            seen: format!("there ({})", feature.purpose),
            remedy: None,
        },
        Some(seen) => Finding {
            what: feature.name.to_owned(),
            severity: Severity::Missing,
            seen,
            remedy: Some(format!(
                "without it there is no {}: boot a newer kernel",
                feature.purpose
            )),
        },
    });
    findings.collect()
}

fn show(finding: &Finding) -> Result<()> {
    let mark = match finding.severity {
        Severity::Good => "✓"
            .if_supports_color(Stream::Stdout, |text| text.green())
            .to_string(),
        Severity::Degraded => "!"
            .if_supports_color(Stream::Stdout, |text| text.yellow())
            .to_string(),
        Severity::Missing => "✗"
            .if_supports_color(Stream::Stdout, |text| text.red())
            .to_string(),
    };
    print(&format!("{mark} {}: {}\n", finding.what, finding.seen))?;
    if let Some(remedy) = &finding.remedy {
        print(&format!("    {remedy}\n"))?;
    }
    Ok(())
}
