//! Random objects and names: nothing panics, and the tree of names is a tree.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod objects;

use hickory_proto::rr::{Name, RecordType};
use objects::{headless, service, slice};
use proptest::prelude::*;
use serde_json::json;
use skep_dns_records::{Outcome, Zone, ZoneConfig};

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "svc",
            "pod",
            "dns",
            "ns",
            "default",
            "other",
            "web",
            "db",
            "out",
            "_tcp",
            "_udp",
            "_http",
            "http",
            "10-0-0-1",
            "fd00--1",
            "db-0",
            "dns-version",
            "cluster",
            "local",
            "arpa",
            "in-addr",
            "ip6",
            "10",
            "0",
            "1",
            "*",
            "_",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9_-]{1,20}",
    ]
}

fn any_name() -> impl Strategy<Value = Name> {
    let zone = prop::sample::select(vec!["cluster.local.", "svc.cluster.local.", "in-addr.arpa.", "."]);
    (prop::collection::vec(label(), 0..7), zone).prop_map(|(labels, zone)| {
        let zone = Name::from_ascii(zone).unwrap();
        labels
            .iter()
            .fold(zone, |name, label| name.prepend_label(label.as_bytes()).unwrap())
    })
}

#[derive(Clone, Debug)]
enum Change {
    Service(usize, usize),
    RemoveService(usize),
    Slice(usize, usize, Vec<(u8, bool, bool)>),
    RemoveSlice(usize),
    Namespace(usize),
    RemoveNamespace(usize),
}

const NAMESPACES: [&str; 2] = ["default", "other"];
const SERVICES: [&str; 3] = ["web", "db", "out"];

fn change() -> impl Strategy<Value = Change> {
    let endpoints = prop::collection::vec((0_u8..4, any::<bool>(), any::<bool>()), 0..4);
    prop_oneof![
        (0_usize..6, 0_usize..3).prop_map(|(at, kind)| Change::Service(at, kind)),
        (0_usize..6).prop_map(Change::RemoveService),
        (0_usize..4, 0_usize..6, endpoints).prop_map(|(name, at, list)| Change::Slice(name, at, list)),
        (0_usize..4).prop_map(Change::RemoveSlice),
        (0_usize..2).prop_map(Change::Namespace),
        (0_usize..2).prop_map(Change::RemoveNamespace),
    ]
}

fn apply(zone: &mut Zone, change: &Change) {
    let place = |at: usize| (NAMESPACES[at % 2], SERVICES[at / 2]);
    let ports = json!([{"name": "http", "port": 80}]);
    match change {
        Change::Service(at, kind) => {
            let (namespace, name) = place(*at);
            let object = match kind {
                0 => service(
                    namespace,
                    name,
                    json!({"clusterIP": format!("10.0.0.{}", at % 4), "ports": ports}),
                ),
                1 => headless(namespace, name, json!({})),
                _ => service(
                    namespace,
                    name,
                    json!({
                        "type": "ExternalName", "externalName": format!("{}.default.svc.cluster.local", SERVICES[at % 3]),
                    }),
                ),
            };
            zone.apply_service(&object);
        }
        Change::RemoveService(at) => zone.remove_service(place(*at).0, place(*at).1),
        Change::Slice(name, at, endpoints) => {
            let (namespace, service) = place(*at);
            let endpoints: Vec<_> = endpoints
                .iter()
                .map(|(host, ready, named)| {
                    json!({
                        "addresses": [format!("10.0.0.{host}")], "conditions": {"ready": ready},
                        "hostname": named.then(|| format!("db-{host}")),
                    })
                })
                .collect();
            zone.apply_slice(&slice(
                namespace,
                &format!("s{name}"),
                service,
                &ports,
                &json!(endpoints),
            ));
        }
        Change::RemoveSlice(name) => {
            for namespace in NAMESPACES {
                zone.remove_slice(namespace, &format!("s{name}"));
            }
        }
        Change::Namespace(at) => zone.apply_namespace(NAMESPACES[*at]),
        Change::RemoveNamespace(at) => zone.remove_namespace(NAMESPACES[*at]),
    }
}

const TYPES: [RecordType; 8] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::NS,
    RecordType::SOA,
];

proptest! {
    #[test]
    fn answers_keep_the_rules_of_dns(
        changes in prop::collection::vec(change(), 0..24),
        names in prop::collection::vec(any_name(), 1..24),
    ) {
        let mut zone = Zone::new(ZoneConfig::new(Name::from_ascii("cluster.local.").unwrap()));
        for change in &changes {
            apply(&mut zone, change);
        }
        let snapshot = zone.snapshot();
        for name in &names {
            let outcomes = TYPES.map(|record_type| {
                let answer = snapshot.answer(name, record_type);
                match answer.outcome {
                    Outcome::Found => prop_assert_eq!(answer.answers[0].name.to_ascii(), name.to_ascii()),
                    Outcome::NoData | Outcome::NxDomain => {
                        prop_assert_eq!(answer.authorities.len(), 1);
                        prop_assert!(answer.authorities[0].name.zone_of(name));
                    }
                    _ => {}
                }
                Ok((answer.outcome, answer.answers.is_empty()))
            });
            let outcomes: Vec<_> = outcomes.into_iter().collect::<Result<_, TestCaseError>>()?;
            // A name exists or not, whatever the type, unless an alias leads elsewhere.
            let missing = outcomes.iter().filter(|(outcome, bare)| *bare && *outcome == Outcome::NxDomain).count();
            prop_assert!(missing == 0 || missing == TYPES.len(), "{name}: {outcomes:?}");
            // RFC 8020: nothing exists below a name that does not.
            if missing == TYPES.len() && name.num_labels() < 100 {
                let below = name.prepend_label("web").unwrap();
                prop_assert_eq!(snapshot.answer(&below, RecordType::A).outcome, Outcome::NxDomain, "{}", below);
            }
        }
    }

    #[test]
    fn history_leaves_no_trace(
        changes in prop::collection::vec(change(), 0..24),
        names in prop::collection::vec(any_name(), 1..24),
    ) {
        let config = || ZoneConfig::new(Name::from_ascii("cluster.local.").unwrap());
        let mut zone = Zone::new(config());
        for change in &changes {
            apply(&mut zone, change);
        }
        for at in 0..6 {
            apply(&mut zone, &Change::RemoveService(at));
            apply(&mut zone, &Change::RemoveSlice(at));
            apply(&mut zone, &Change::RemoveNamespace(at % 2));
        }
        let (emptied, fresh) = (zone.snapshot(), Zone::new(config()).snapshot());
        for name in &names {
            for record_type in TYPES.iter().filter(|t| **t != RecordType::SOA) {
                prop_assert_eq!(emptied.answer(name, *record_type).outcome, fresh.answer(name, *record_type).outcome);
            }
        }
    }

    #[test]
    fn names_of_any_bytes_never_panic(bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..63), 0..3)) {
        let mut zone = Zone::new(ZoneConfig::new(Name::from_ascii("cluster.local.").unwrap()));
        zone.apply_service(&headless("default", "db", json!({})));
        zone.apply_slice(&slice("default", "a", "db", &json!([{"name": "sql", "port": 1}]), &json!([{"addresses": ["::1"]}])));
        for zone_name in ["db.default.svc.cluster.local.", "default.pod.cluster.local.", "ip6.arpa."] {
            let labels = bytes.iter().map(Vec::as_slice);
            let base = Name::from_ascii(zone_name).unwrap();
            let Ok(name) = Name::from_labels(labels.chain(base.iter())) else { continue };
            for record_type in TYPES {
                zone.snapshot().answer(&name, record_type);
            }
        }
    }
}
