use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::call;
use super::result;
use super::{Outcome, run};
use crate::protocol::{Attached, Attachment, Request};

fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let map: BTreeMap<String, String> = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    move |name| map.get(name).cloned()
}

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c0ffee"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/proc/self/ns/net"),
];

fn with(
    mut pairs: Vec<(&'static str, &'static str)>,
    name: &'static str,
    value: &'static str,
) -> Vec<(&'static str, &'static str)> {
    pairs.retain(|(key, _)| *key != name);
    pairs.push((name, value));
    pairs
}

fn config(version: &str) -> Vec<u8> {
    json!({ "cniVersion": version, "name": "skep", "type": "skep-cni", "socket": "/nowhere/agent.sock" })
        .to_string()
        .into_bytes()
}

fn error_of(outcome: &Outcome) -> (Value, u64) {
    assert_eq!(outcome.exit_code, 1);
    let error: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let code = error["code"].as_u64().unwrap();
    assert!(!error["msg"].as_str().unwrap().is_empty());
    (error, code)
}

#[test]
fn version_lists_what_is_supported() {
    let outcome = run(
        environment(&[("CNI_COMMAND", "VERSION")]),
        br#"{"cniVersion":"1.0.0"}"#,
    );
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(outcome.exit_code, 0);
    assert_eq!(
        answer,
        json!({ "cniVersion": "1.0.0", "supportedVersions": call::VERSIONS })
    );
}

#[test]
fn wrong_calls_get_the_specified_codes() {
    let add = ADD.to_vec();
    let table = vec![
        (with(add.clone(), "CNI_COMMAND", "HOLD"), config("1.0.0"), 4),
        (vec![], config("1.0.0"), 4),
        (with(add.clone(), "CNI_CONTAINERID", ""), config("1.0.0"), 4),
        (with(add.clone(), "CNI_CONTAINERID", "../x"), config("1.0.0"), 4),
        (with(add.clone(), "CNI_IFNAME", "a/b"), config("1.0.0"), 4),
        (
            with(add.clone(), "CNI_IFNAME", "sixteen-letters!"),
            config("1.0.0"),
            4,
        ),
        (with(add.clone(), "CNI_NETNS", ""), config("1.0.0"), 4),
        (with(add.clone(), "CNI_NETNS", "/nowhere/ns"), config("1.0.0"), 3),
        (add.clone(), b"{".to_vec(), 6),
        (add.clone(), config("0.2.0"), 1),
        (add.clone(), config("2.0.0"), 1),
        (with(add.clone(), "CNI_COMMAND", "CHECK"), config("0.3.1"), 1),
        (vec![("CNI_COMMAND", "STATUS")], config("1.0.0"), 1),
        (vec![("CNI_COMMAND", "GC")], config("1.1.0"), 7),
        (
            add.clone(),
            br#"{"cniVersion":"1.0.0","name":"","type":"skep-cni"}"#.to_vec(),
            7,
        ),
        (
            add.clone(),
            br#"{"cniVersion":"1.0.0","name":"skep","type":"skep-cni"}"#.to_vec(),
            7,
        ),
        // The agent is not there.
        (add.clone(), config("1.0.0"), 11),
        (vec![("CNI_COMMAND", "STATUS")], config("1.1.0"), 50),
    ];
    for (pairs, stdin, wanted) in table {
        let outcome = run(environment(&pairs), &stdin);
        let (error, code) = error_of(&outcome);
        assert_eq!(
            code,
            wanted,
            "{pairs:?} {}: {error}",
            String::from_utf8_lossy(&stdin)
        );
    }
}

#[test]
fn errors_answer_in_the_asked_version() {
    let (error, _) = error_of(&run(environment(&[]), &config("0.4.0")));
    assert_eq!(error["cniVersion"], "0.4.0");
    let (error, _) = error_of(&run(environment(&[]), b"not json"));
    assert_eq!(error["cniVersion"], "1.1.0");
}

#[test]
fn results_have_the_form_of_their_version() {
    let attached = Attached {
        host_interface: "sk012345678901".to_owned(),
        host_mac: "aa:bb:cc:dd:ee:01".to_owned(),
        mac: "aa:bb:cc:dd:ee:02".to_owned(),
        address: "10.128.0.5".parse().unwrap(),
        gateway: "169.254.1.1".parse().unwrap(),
        mtu: 1500,
    };
    for version in call::VERSIONS {
        let call = call::parse(&environment(&ADD), &config(version)).unwrap();
        let answer: Value = serde_json::from_str(&result::attached(&call, &attached)).unwrap();
        let mut address = json!({ "address": "10.128.0.5/32", "gateway": "169.254.1.1", "interface": 1 });
        if version.starts_with("0.") {
            address["version"] = "4".into();
        }
        let mut interfaces = json!([
            { "name": "sk012345678901", "mac": "aa:bb:cc:dd:ee:01" },
            { "name": "eth0", "mac": "aa:bb:cc:dd:ee:02", "sandbox": "/proc/self/ns/net" },
        ]);
        if version == "1.1.0" {
            interfaces[0]["mtu"] = 1500.into();
            interfaces[1]["mtu"] = 1500.into();
        }
        let wanted = json!({
            "cniVersion": version, "interfaces": interfaces, "ips": [address],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }], "dns": {},
        });
        assert_eq!(answer, wanted, "version {version}");
    }
}

#[test]
fn check_hands_on_the_known_addresses_and_gc_the_valid_attachments() {
    let stdin = json!({
        "cniVersion": "1.1.0", "name": "skep", "type": "skep-cni",
        "prevResult": { "ips": [{ "address": "10.128.0.5/32" }] },
    });
    let pairs = with(ADD.to_vec(), "CNI_COMMAND", "CHECK");
    let call = call::parse(&environment(&pairs), stdin.to_string().as_bytes()).unwrap();
    assert!(matches!(super::request(&call), Request::Check { known, .. } if known == ["10.128.0.5/32"]));
    let stdin = json!({
        "cniVersion": "1.1.0", "name": "skep", "type": "skep-cni",
        "cni.dev/valid-attachments": [{ "containerID": "c1", "ifname": "eth0" }],
    });
    let call = call::parse(
        &environment(&[("CNI_COMMAND", "GC")]),
        stdin.to_string().as_bytes(),
    )
    .unwrap();
    let valid = vec![Attachment {
        container: "c1".to_owned(),
        interface: "eth0".to_owned(),
    }];
    assert_eq!(super::request(&call), Request::Gc { valid });
}

#[test]
fn del_goes_without_a_namespace_that_is_gone() {
    for netns in ["", "/nowhere/ns"] {
        let pairs = with(with(ADD.to_vec(), "CNI_COMMAND", "DEL"), "CNI_NETNS", netns);
        let call = call::parse(&environment(&pairs), &config("1.0.0")).unwrap();
        assert!(call.open_netns().unwrap().is_none());
    }
}

proptest! {
    #[test]
    fn any_input_gets_an_answer(
        command in "ADD|DEL|CHECK|STATUS|GC|VERSION|.{0,4}", stdin in ".{0,60}|\\{\"cniVersion\":.{0,40}\\}",
    ) {
        let pairs = [("CNI_COMMAND", command.as_str())];
        let outcome = run(environment(&pairs), stdin.as_bytes());
        prop_assert!(outcome.exit_code <= 1);
        if outcome.exit_code == 1 {
            error_of(&outcome);
        }
    }
}
