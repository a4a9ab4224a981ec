//! Every suite once, as small as it can be: everything runs and reports, whatever the figures.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use skep_bench::{Context, Effort, Interrupt, Report, Suite};

fn run(suite: &Suite) -> Report {
    let context = Context {
        effort: Effort::Smoke,
        interrupt: Interrupt::default(),
    };
    let report = skep_bench::run(suite, &context).unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        panic!("{error}: {}", cause.unwrap_or_default())
    });
    let report = report.unwrap();
    let folder = tempfile::tempdir().unwrap();
    report.write(folder.path()).unwrap();
    let written = std::fs::read(folder.path().join(format!("{}.json", report.suite))).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["rows"].as_array().unwrap().len(), report.rows.len());
    report
}

fn assert_has(report: &Report, name: &str) {
    let found = report.rows.iter().filter(|row| row.name.contains(name)).count();
    assert!(found > 0, "no row says {name}:\n{report}");
}

#[test]
fn bpf_measures_every_program_it_finds() {
    let report = run(&Suite::Bpf);
    for hook in [
        "connect4",
        "connect6",
        "getpeername4",
        "getpeername6",
        "sendmsg4",
        "sendmsg6",
        "recvmsg4",
        "recvmsg6",
        "tcx_ingress@eth0",
        "tcx_egress@eth0",
    ] {
        assert_has(&report, &format!("{hook}: verified instructions"));
        assert_has(&report, &format!("{hook}: "));
    }
    assert!(report.rows.iter().all(|row| row.value.median > 0.0), "{report}");
}

#[test]
fn net_measures_every_contender_over_every_path() {
    let report = run(&Suite::Net);
    for contender in ["direct", "direct again", "Skep", "iptables", "nftables"] {
        for cell in [
            "ClusterIP RR",
            "ClusterIP CRR",
            "ClusterIP stream",
            "NodePort RR",
            "NodePort CRR",
            "NodePort stream",
        ] {
            assert_has(&report, &format!("{contender}, 3 Services: {cell}"));
        }
    }
    assert_has(&report, "Skep / iptables: ClusterIP CRR, middle");
    assert_has(&report, "Skep, 30 Services / 1: ClusterIP CRR");
}

#[test]
fn table_measures_from_the_api_to_the_maps() {
    let report = run(&Suite::Table { memory_of: None });
    for name in [
        "cold sync",
        "from the informer to the map, p99",
        "churn",
        "real server",
        "memory",
    ] {
        assert_has(&report, name);
    }
    let lost = report
        .rows
        .iter()
        .find(|row| row.name.contains("never came"))
        .unwrap();
    assert_eq!(lost.value.median, 0.0, "{report}");
}
