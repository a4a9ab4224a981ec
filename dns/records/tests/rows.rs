//! The behaviour of cluster DNS, one row per query: objects in, answer out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod objects;

use hickory_proto::rr::{Name, Record, RecordType};
use objects::{headless, service, slice};
use serde_json::json;
use skep_dns_records::{Outcome, PodRecords, Snapshot, Zone, ZoneConfig};

/// A cluster with one of everything.
fn zone() -> Zone {
    let mut zone = Zone::new(ZoneConfig::new(name("cluster.local.")));
    for namespace in ["default", "kube-system", "empty"] {
        zone.apply_namespace(namespace);
    }
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 81}]);
    zone.apply_service(&service(
        "default",
        "web",
        json!({"clusterIPs": ["10.96.0.7", "fd00::7"], "ports": http}),
    ));
    let port = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    zone.apply_slice(&slice(
        "default",
        "web-a",
        "web",
        &port,
        &json!([{"addresses": ["10.1.0.3"]}]),
    ));
    let dns = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]);
    zone.apply_service(&service(
        "kube-system",
        "kube-dns",
        json!({"clusterIP": "10.96.0.10", "ports": dns}),
    ));

    zone.apply_service(&headless("default", "db", json!({})));
    let sql = json!([{"name": "sql", "port": 5432, "protocol": "TCP"}]);
    let endpoints = json!([
        {"addresses": ["10.1.0.1"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.1.0.2"], "hostname": "db-1", "conditions": {"ready": false}},
        {"addresses": ["10.1.0.3"]},
    ]);
    zone.apply_slice(&slice("default", "db-a", "db", &sql, &endpoints));
    let v6 = json!([{"addresses": ["fd01::1"], "hostname": "db-0"}]);
    zone.apply_slice(&slice("default", "db-b", "db", &sql, &v6));

    zone.apply_service(&headless(
        "default",
        "early",
        json!({"publishNotReadyAddresses": true}),
    ));
    let unready = json!([{"addresses": ["10.1.0.9"], "conditions": {"ready": false}}]);
    zone.apply_slice(&slice("default", "early-a", "early", &json!([]), &unready));
    zone.apply_service(&headless("default", "idle", json!({})));
    zone.apply_slice(&slice("default", "idle-a", "idle", &json!([]), &unready));

    for (alias, target) in [
        ("out", "db.example.com"),
        ("in", "web.default.svc.cluster.local"),
        ("lost", "no.default.svc.cluster.local"),
        ("address", "10.9.9.9"),
    ] {
        let spec =
            json!({"type": "ExternalName", "externalName": target, "ports": [{"name": "http", "port": 80}]});
        zone.apply_service(&service("default", alias, spec));
    }
    zone
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// The answer in words: outcome, then the records of each section, in order.
fn ask(snapshot: &Snapshot, query: &str) -> String {
    let (owner, record_type) = query.split_once(' ').unwrap();
    let answer = snapshot.answer(&name(owner), record_type.parse().unwrap());
    let mut words = vec![match answer.outcome {
        Outcome::Chase(target) => format!("chase {target}"),
        outcome => format!("{outcome:?}"),
    }];
    words.extend(answer.answers.iter().map(|record| show(record, true)));
    for (section, records) in [("soa", &answer.authorities), ("glue", &answer.additionals)] {
        words.extend(
            records
                .iter()
                .map(|record| format!("{section} {}", show(record, section != "soa"))),
        );
    }
    words.join("; ")
}

fn show(record: &Record, data: bool) -> String {
    assert_eq!(record.ttl, 5, "{record}");
    let data = if data {
        format!(" {}", record.data)
    } else {
        String::new()
    };
    format!("{} {}{data}", record.name, record.record_type())
}

fn assert_rows(snapshot: &Snapshot, rows: &[(&str, &str)]) {
    for (query, expected) in rows {
        assert_eq!(ask(snapshot, query), *expected, "{query}");
    }
}

const NO_DATA: &str = "NoData; soa cluster.local. SOA";
const NX_DOMAIN: &str = "NxDomain; soa cluster.local. SOA";

#[test]
fn apex_names_answer() {
    assert_rows(
        &zone().snapshot(),
        &[
            (
                "dns-version.cluster.local. TXT",
                "Found; dns-version.cluster.local. TXT 1.1.0",
            ),
            (
                "DNS-Version.Cluster.Local. TXT",
                "Found; DNS-Version.Cluster.Local. TXT 1.1.0",
            ),
            (
                "cluster.local. NS",
                "Found; cluster.local. NS ns.dns.cluster.local.; glue ns.dns.cluster.local. A 10.96.0.10",
            ),
            (
                "ns.dns.cluster.local. A",
                "Found; ns.dns.cluster.local. A 10.96.0.10",
            ),
            ("ns.dns.cluster.local. AAAA", NO_DATA),
            ("cluster.local. A", NO_DATA),
            ("svc.cluster.local. A", NO_DATA),
            ("pod.cluster.local. A", NO_DATA),
            ("dns.cluster.local. A", NO_DATA),
            ("cluster.local. AXFR", "Refused"),
            ("other.cluster.local. A", NX_DOMAIN),
            ("example.com. A", "NotInZone"),
            ("notcluster.local. A", "NotInZone"),
            ("local. A", "NotInZone"),
            (". NS", "NotInZone"),
        ],
    );
    let soa = ask(&zone().snapshot(), "cluster.local. SOA");
    assert!(
        soa.starts_with("Found; cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. ")
            && soa.ends_with(" 7200 1800 86400 5"),
        "{soa}"
    );
}

#[test]
fn cluster_ip_services_answer() {
    assert_rows(
        &zone().snapshot(),
        &[
            (
                "web.default.svc.cluster.local. A",
                "Found; web.default.svc.cluster.local. A 10.96.0.7",
            ),
            (
                "web.default.svc.cluster.local. AAAA",
                "Found; web.default.svc.cluster.local. AAAA fd00::7",
            ),
            (
                "wEb.dEfault.svC.cluster.LOCAL. A",
                "Found; wEb.dEfault.svC.cluster.LOCAL. A 10.96.0.7",
            ),
            ("web.default.svc.cluster.local. TXT", NO_DATA),
            ("web.default.svc.cluster.local. SRV", NO_DATA),
            ("web.default.svc.cluster.local. ANY", NO_DATA),
            ("kube-dns.kube-system.svc.cluster.local. AAAA", NO_DATA),
            (
                "_http._tcp.web.default.svc.cluster.local. SRV",
                "Found; _http._tcp.web.default.svc.cluster.local. SRV 0 100 80 web.default.svc.cluster.local.; \
                 glue web.default.svc.cluster.local. A 10.96.0.7; \
                 glue web.default.svc.cluster.local. AAAA fd00::7",
            ),
            (
                "_dns._udp.kube-dns.kube-system.svc.cluster.local. SRV",
                "Found; _dns._udp.kube-dns.kube-system.svc.cluster.local. SRV 0 100 53 \
                 kube-dns.kube-system.svc.cluster.local.; \
                 glue kube-dns.kube-system.svc.cluster.local. A 10.96.0.10",
            ),
            ("_http._tcp.web.default.svc.cluster.local. A", NO_DATA),
            ("_tcp.web.default.svc.cluster.local. SRV", NO_DATA),
            ("_udp.web.default.svc.cluster.local. SRV", NX_DOMAIN),
            ("_http._udp.web.default.svc.cluster.local. SRV", NX_DOMAIN),
            ("http._tcp.web.default.svc.cluster.local. SRV", NX_DOMAIN),
            ("_.web.default.svc.cluster.local. SRV", NX_DOMAIN),
            (
                "7.0.96.10.in-addr.arpa. PTR",
                "Found; 7.0.96.10.in-addr.arpa. PTR web.default.svc.cluster.local.",
            ),
            ("7.0.96.10.in-addr.arpa. A", "NoData; soa in-addr.arpa. SOA"),
            ("8.0.96.10.in-addr.arpa. PTR", "NotInZone"),
            (
                "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa. PTR",
                "Found; 7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa. \
                 PTR web.default.svc.cluster.local.",
            ),
            (
                "10-1-0-3.web.default.svc.cluster.local. A",
                "Found; 10-1-0-3.web.default.svc.cluster.local. A 10.1.0.3",
            ),
        ],
    );
}

#[test]
fn headless_services_answer_with_their_ready_endpoints() {
    assert_rows(
        &zone().snapshot(),
        &[
            (
                "db.default.svc.cluster.local. A",
                "Found; db.default.svc.cluster.local. A 10.1.0.1; db.default.svc.cluster.local. A 10.1.0.3",
            ),
            (
                "db.default.svc.cluster.local. AAAA",
                "Found; db.default.svc.cluster.local. AAAA fd01::1",
            ),
            (
                "db-0.db.default.svc.cluster.local. A",
                "Found; db-0.db.default.svc.cluster.local. A 10.1.0.1",
            ),
            (
                "DB-0.db.default.svc.cluster.local. AAAA",
                "Found; DB-0.db.default.svc.cluster.local. AAAA fd01::1",
            ),
            ("db-1.db.default.svc.cluster.local. A", NX_DOMAIN),
            (
                "10-1-0-3.db.default.svc.cluster.local. A",
                "Found; 10-1-0-3.db.default.svc.cluster.local. A 10.1.0.3",
            ),
            ("10-1-0-3.db.default.svc.cluster.local. AAAA", NO_DATA),
            ("10-1-0-1.db.default.svc.cluster.local. A", NX_DOMAIN),
            ("*.db.default.svc.cluster.local. A", NX_DOMAIN),
            (
                "_sql._tcp.db.default.svc.cluster.local. SRV",
                "Found; _sql._tcp.db.default.svc.cluster.local. SRV 0 50 5432 db-0.db.default.svc.cluster.local.; \
                 _sql._tcp.db.default.svc.cluster.local. SRV 0 50 5432 10-1-0-3.db.default.svc.cluster.local.; \
                 glue db-0.db.default.svc.cluster.local. A 10.1.0.1; \
                 glue db-0.db.default.svc.cluster.local. AAAA fd01::1; \
                 glue 10-1-0-3.db.default.svc.cluster.local. A 10.1.0.3",
            ),
            (
                "1.0.1.10.in-addr.arpa. PTR",
                "Found; 1.0.1.10.in-addr.arpa. PTR db-0.db.default.svc.cluster.local.",
            ),
            ("2.0.1.10.in-addr.arpa. PTR", "NotInZone"),
            (
                "3.0.1.10.in-addr.arpa. PTR",
                "Found; 3.0.1.10.in-addr.arpa. PTR 10-1-0-3.db.default.svc.cluster.local.; \
                 3.0.1.10.in-addr.arpa. PTR 10-1-0-3.web.default.svc.cluster.local.",
            ),
            (
                "early.default.svc.cluster.local. A",
                "Found; early.default.svc.cluster.local. A 10.1.0.9",
            ),
            ("idle.default.svc.cluster.local. A", NX_DOMAIN),
        ],
    );
}

#[test]
fn external_names_are_aliases() {
    assert_rows(
        &zone().snapshot(),
        &[
            (
                "out.default.svc.cluster.local. A",
                "chase db.example.com.; out.default.svc.cluster.local. CNAME db.example.com.",
            ),
            (
                "out.default.svc.cluster.local. CNAME",
                "Found; out.default.svc.cluster.local. CNAME db.example.com.",
            ),
            (
                "IN.default.svc.cluster.local. A",
                "Found; IN.default.svc.cluster.local. CNAME web.default.svc.cluster.local.; \
                 web.default.svc.cluster.local. A 10.96.0.7",
            ),
            (
                "in.default.svc.cluster.local. MX",
                "NoData; in.default.svc.cluster.local. CNAME web.default.svc.cluster.local.; soa cluster.local. SOA",
            ),
            (
                "lost.default.svc.cluster.local. A",
                "NxDomain; lost.default.svc.cluster.local. CNAME no.default.svc.cluster.local.; \
                 soa cluster.local. SOA",
            ),
            ("_http._tcp.out.default.svc.cluster.local. SRV", NX_DOMAIN),
            ("address.default.svc.cluster.local. A", NX_DOMAIN),
        ],
    );
}

#[test]
fn namespaces_and_unknown_names_are_told_apart() {
    assert_rows(
        &zone().snapshot(),
        &[
            ("default.svc.cluster.local. A", NO_DATA),
            ("EMPTY.svc.cluster.local. A", NO_DATA),
            ("empty.pod.cluster.local. A", NO_DATA),
            ("nowhere.svc.cluster.local. A", NX_DOMAIN),
            ("web.nowhere.svc.cluster.local. A", NX_DOMAIN),
            ("nothing.default.svc.cluster.local. A", NX_DOMAIN),
            ("a.b.web.default.svc.cluster.local. A", NX_DOMAIN),
            ("a._http._tcp.web.default.svc.cluster.local. A", NX_DOMAIN),
            (
                "web.default.svc.cluster.local.default.svc.cluster.local. A",
                NX_DOMAIN,
            ),
            ("example.com.default.svc.cluster.local. A", NX_DOMAIN),
        ],
    );
}

#[test]
fn pod_records_follow_their_mode() {
    let rows = [
        (
            "10-1-2-3.default.pod.cluster.local. A",
            "Found; 10-1-2-3.default.pod.cluster.local. A 10.1.2.3",
        ),
        (
            "fd01--5.default.pod.cluster.local. AAAA",
            "Found; fd01--5.default.pod.cluster.local. AAAA fd01::5",
        ),
        ("10-1-2-3.default.pod.cluster.local. AAAA", NO_DATA),
        ("10-1-2.default.pod.cluster.local. A", NX_DOMAIN),
        ("10-1-2-3.nowhere.pod.cluster.local. A", NX_DOMAIN),
        ("a.10-1-2-3.default.pod.cluster.local. A", NX_DOMAIN),
    ];
    assert_rows(&zone().snapshot(), &rows);
    let mut config = ZoneConfig::new(name("cluster.local."));
    config.pods = PodRecords::Disabled;
    let mut zone = Zone::new(config);
    zone.apply_namespace("default");
    let disabled = rows.map(|(query, _)| (query, NX_DOMAIN));
    assert_rows(&zone.snapshot(), &disabled);
}

#[test]
fn changes_are_seen_in_later_snapshots_only() {
    let mut zone = zone();
    let before = zone.snapshot();
    zone.remove_service("default", "web");
    zone.remove_slice("default", "db-a");
    zone.remove_namespace("empty");
    let after = zone.snapshot();
    assert!(after.serial() > before.serial());
    assert_rows(
        &before,
        &[(
            "web.default.svc.cluster.local. A",
            "Found; web.default.svc.cluster.local. A 10.96.0.7",
        )],
    );
    assert_rows(
        &after,
        &[
            ("web.default.svc.cluster.local. A", NX_DOMAIN),
            ("7.0.96.10.in-addr.arpa. PTR", "NotInZone"),
            ("3.0.1.10.in-addr.arpa. PTR", "NotInZone"),
            ("db.default.svc.cluster.local. A", NO_DATA),
            ("empty.svc.cluster.local. A", NX_DOMAIN),
        ],
    );
    // The slice had stayed: the Service comes back with its endpoint names.
    zone.apply_service(&service("default", "web", json!({"clusterIP": "10.96.0.8"})));
    assert_rows(
        &zone.snapshot(),
        &[(
            "10-1-0-3.web.default.svc.cluster.local. A",
            "Found; 10-1-0-3.web.default.svc.cluster.local. A 10.1.0.3",
        )],
    );
}

#[test]
fn a_namespace_with_records_exists_before_its_object_is_seen() {
    let mut zone = Zone::new(ZoneConfig::new(name("cluster.local.")));
    zone.apply_service(&service("early", "web", json!({"clusterIP": "10.96.0.8"})));
    assert_rows(&zone.snapshot(), &[("early.svc.cluster.local. A", NO_DATA)]);
    zone.remove_service("early", "web");
    assert_rows(&zone.snapshot(), &[("early.svc.cluster.local. A", NX_DOMAIN)]);
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut zone = zone();
    zone.apply_slice(&slice(
        "default",
        "db-b",
        "early",
        &json!([]),
        &json!([{"addresses": ["fd01::2"]}]),
    ));
    assert_rows(
        &zone.snapshot(),
        &[
            ("db.default.svc.cluster.local. AAAA", NO_DATA),
            (
                "early.default.svc.cluster.local. AAAA",
                "Found; early.default.svc.cluster.local. AAAA fd01::2",
            ),
        ],
    );
}

#[test]
fn the_same_objects_again_change_nothing() {
    let mut zone = zone();
    let serial = zone.snapshot().serial();
    zone.apply_namespace("default");
    zone.apply_service(&headless("default", "idle", json!({})));
    zone.apply_service(&service("kube-system", "other", json!({"clusterIP": ""})));
    assert_eq!(zone.snapshot().serial(), serial);
    assert_eq!(
        zone.snapshot()
            .answer(&name("x.y.svc.cluster.local."), RecordType::A)
            .answers,
        []
    );
}
