//! The plan's table of cases.

use super::packing::{self, Group, Template, Writes};
use super::*;
use jiff::Timestamp;
use serde_json::{Value, json};

fn service(spec: Value) -> Service {
    let mut value = json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "d", "uid": "svc", "labels": { "app": "web" },
            "creationTimestamp": "2026-01-01T09:00:00Z" },
        "spec": { "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": { "app": "web" },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }] } });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn pod(number: u8, with: Value) -> Arc<Pod> {
    let mut value = json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("p{number}"), "namespace": "d", "uid": format!("uid{number}"),
            "labels": { "app": "web" } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "ports": [
            { "name": "web", "containerPort": 8000 + i32::from(number) % 2 }] }] },
        "status": { "phase": "Running", "podIP": format!("10.1.0.{number}"),
            "conditions": [{ "type": "Ready", "status": "True",
                "lastTransitionTime": "2026-01-01T10:00:00Z" }] } });
    for (section, fields) in with.as_object().unwrap() {
        for (key, field) in fields.as_object().unwrap() {
            value[section][key] = field.clone();
        }
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn node(name: &str) -> Option<Arc<Node>> {
    (name == "n1").then(|| {
        Arc::new(
            serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Node", "metadata": {
                "name": "n1", "labels": { "topology.kubernetes.io/zone": "z1" } } }))
            .unwrap(),
        )
    })
}

fn writes(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Writes {
    plan(service, pods, existing, &node, None).0
}

/// The slices after the writes, with names and uids as a server gives them.
fn written(writes: Writes, existing: &[Arc<EndpointSlice>], serial: &mut u32) -> Vec<Arc<EndpointSlice>> {
    let gone: Vec<_> = writes
        .delete
        .iter()
        .chain(&writes.update)
        .map(|slice| slice.metadata.name.clone())
        .collect();
    let mut all: Vec<_> = existing
        .iter()
        .filter(|slice| !gone.contains(&slice.metadata.name))
        .cloned()
        .collect();
    all.extend(writes.update.into_iter().map(Arc::new));
    for mut slice in writes.create {
        *serial += 1;
        slice.metadata.name = Some(format!("web-{serial}"));
        slice.metadata.uid = slice.metadata.name.clone();
        all.push(Arc::new(slice));
    }
    all
}

#[test]
fn one_slice_with_everything_that_readers_look_for() {
    let pods = [pod(1, json!({ "spec": { "hostname": "h", "subdomain": "web" } }))];
    let mut writes = writes(&service(json!({})), &pods, &[]);
    let slice = writes.create.remove(0);
    assert!(writes.is_empty());
    assert_eq!(
        serde_json::to_value(slice).unwrap(),
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "generateName": "web-", "namespace": "d",
                "labels": { "app": "web", "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" },
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "svc",
                    "controller": true, "blockOwnerDeletion": true }] },
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": [{ "addresses": ["10.1.0.1"], "hostname": "h", "nodeName": "n1", "zone": "z1",
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": { "kind": "Pod", "namespace": "d", "name": "p1", "uid": "uid1" } }] })
    );
}

#[test]
fn conditions_follow_the_pod() {
    let unready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let going = json!({ "metadata": { "deletionTimestamp": "2026-01-01T11:00:00Z" } });
    let publish = json!({ "publishNotReadyAddresses": true });
    for (spec, with, expected) in [
        (json!({}), json!({}), Some((true, true, false))),
        (json!({}), unready.clone(), Some((false, false, false))),
        (publish.clone(), unready, Some((true, false, false))),
        (json!({}), going.clone(), Some((false, true, true))),
        (publish, going, Some((true, true, true))),
        (json!({}), json!({ "status": { "phase": "Succeeded" } }), None),
        (json!({}), json!({ "status": { "podIP": "" } }), None),
        (json!({}), json!({ "status": { "podIP": "fd00::1" } }), None),
    ] {
        let writes = writes(&service(spec), &[pod(1, with.clone())], &[]);
        let endpoint = writes.create[0].endpoints.as_ref().unwrap().first();
        let seen = endpoint.map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap();
            (
                conditions.ready.unwrap(),
                conditions.serving.unwrap(),
                conditions.terminating.unwrap(),
            )
        });
        assert_eq!(seen, expected, "{with}");
    }
}

#[test]
fn ready_endpoints_have_the_hints_of_the_traffic_distribution() {
    let going = json!({ "metadata": { "deletionTimestamp": "2026-01-01T11:00:00Z" } });
    let (zone, both) = (
        json!({ "forZones": [{ "name": "z1" }] }),
        json!({ "forZones": [{ "name": "z1" }], "forNodes": [{ "name": "n1" }] }),
    );
    let plain = service(json!({}));
    let pods = [pod(1, json!({})), pod(2, going)];
    let mut serial = 0;
    let mut slices = written(writes(&plain, &pods, &[]), &[], &mut serial);
    for (distribution, expected) in [
        (json!("PreferClose"), zone.clone()),
        (json!("PreferSameNode"), both),
        (json!("PreferSameZone"), zone),
        (json!(null), json!(null)),
    ] {
        let service = service(json!({ "trafficDistribution": distribution }));
        let changed = writes(&service, &pods, &slices);
        assert_eq!(
            (changed.create.len(), changed.update.len()),
            (0, 1),
            "{distribution}"
        );
        slices = written(changed, &slices, &mut serial);
        let hints: Vec<Value> = slices[0]
            .endpoints
            .iter()
            .flatten()
            .map(|endpoint| serde_json::to_value(&endpoint.hints).unwrap())
            .collect();
        assert_eq!(hints, [expected, json!(null)], "{distribution}");
        assert!(
            writes(&service, &pods, &slices).is_empty(),
            "{distribution} again"
        );
    }
}

#[test]
fn without_pods_a_placeholder_stands() {
    let service = service(json!({}));
    let placeholder = written(writes(&service, &[], &[]), &[], &mut 0);
    assert_eq!(placeholder.len(), 1);
    assert_eq!(placeholder[0].ports, Some(vec![]));
    assert!(writes(&service, &[], &placeholder).is_empty(), "and stays");
    let filled = writes(&service, &[pod(1, json!({}))], &placeholder);
    assert_eq!(
        (filled.create.len(), filled.update.len(), filled.delete.len()),
        (0, 1, 0),
        "then is reused"
    );
    let slices = written(filled, &placeholder, &mut 1);
    let emptied = writes(&service, &[], &slices);
    assert_eq!(
        (emptied.create.len(), emptied.update.len(), emptied.delete.len()),
        (0, 1, 0)
    );
}

#[test]
fn named_ports_that_differ_make_slices_of_their_own() {
    let service = service(json!({ "ports": [{ "name": "http", "port": 80, "targetPort": "web" }] }));
    let writes = writes(
        &service,
        &[pod(1, json!({})), pod(2, json!({})), pod(3, json!({}))],
        &[],
    );
    let ports: Vec<_> = writes
        .create
        .iter()
        .map(|slice| {
            (
                slice.ports.as_ref().unwrap()[0].port,
                slice.endpoints.as_ref().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(ports, [(Some(8000), 1), (Some(8001), 2)]);
}

#[test]
fn headless_services_are_labelled() {
    let writes = writes(
        &service(json!({ "clusterIP": "None", "ports": null })),
        &[pod(1, json!({}))],
        &[],
    );
    let slice = &writes.create[0];
    assert_eq!(
        slice.metadata.labels.as_ref().unwrap()["service.kubernetes.io/headless"],
        ""
    );
    assert_eq!(slice.ports, Some(vec![]));
    assert_eq!(slice.endpoints.as_ref().unwrap().len(), 1);
}

#[test]
fn two_families_have_slices_each_and_a_dropped_one_none() {
    let both = service(json!({ "ipFamilies": ["IPv4", "IPv6"] }));
    let dual = pod(
        1,
        json!({ "status": { "podIPs": [{ "ip": "10.1.0.1" }, { "ip": "fd00::1" }] } }),
    );
    let slices = written(writes(&both, std::slice::from_ref(&dual), &[]), &[], &mut 0);
    let types: Vec<_> = slices.iter().map(|slice| slice.address_type.as_str()).collect();
    assert_eq!(types, ["IPv4", "IPv6"]);
    let writes = writes(&service(json!({})), &[dual], &slices);
    assert_eq!((writes.create.len(), writes.update.len()), (0, 0));
    assert_eq!(writes.delete[0].address_type, "IPv6");
}

#[test]
fn a_pod_on_an_unknown_node_waits() {
    let pods = [pod(1, json!({ "spec": { "nodeName": "n9" } })), pod(2, json!({}))];
    let (writes, missing) = plan(&service(json!({})), &pods, &[], &node, None);
    assert!(missing);
    assert_eq!(writes.create[0].endpoints.as_ref().unwrap().len(), 1);
}

#[test]
fn one_change_writes_one_slice() {
    let service = service(json!({}));
    let mut serial = 0;
    let mut pods: Vec<_> = (0..250).map(|number| pod(number, json!({}))).collect();
    let slices = written(writes(&service, &pods, &[]), &[], &mut serial);
    let sizes: Vec<_> = slices
        .iter()
        .map(|slice| slice.endpoints.as_ref().unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
    assert!(writes(&service, &pods, &slices).is_empty());
    // One becomes unready.
    pods[1] = pod(
        1,
        json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }),
    );
    let changed = writes(&service, &pods, &slices);
    assert_eq!(
        (changed.create.len(), changed.update.len(), changed.delete.len()),
        (0, 1, 0)
    );
    let slices = written(changed, &slices, &mut serial);
    // One goes: its slice has a hole, which the next new one fills.
    pods.remove(1);
    let slices = written(writes(&service, &pods, &slices), &slices, &mut serial);
    pods.push(pod(251, json!({})));
    let added = writes(&service, &pods, &slices);
    assert_eq!((added.create.len(), added.update.len()), (0, 1));
    assert_eq!(
        added.update[0].endpoints.as_ref().unwrap().len(),
        100,
        "the fullest that has room"
    );
}

#[test]
fn labels_of_the_service_are_carried_over() {
    let mut service = service(json!({}));
    let pods = [pod(1, json!({}))];
    let slices = written(writes(&service, &pods, &[]), &[], &mut 0);
    service
        .metadata
        .labels
        .get_or_insert_default()
        .insert("tier".to_owned(), "front".to_owned());
    let writes = writes(&service, &pods, &slices);
    assert_eq!(
        writes.update[0].metadata.labels.as_ref().unwrap()["tier"],
        "front"
    );
}

#[test]
fn slices_of_an_earlier_service_of_the_name_go() {
    let pods = [pod(1, json!({}))];
    let slices = written(writes(&service(json!({})), &pods, &[]), &[], &mut 0);
    let mut again = service(json!({}));
    again.metadata.uid = Some("svc2".to_owned());
    let writes = writes(&again, &pods, &slices);
    assert_eq!(
        (writes.create.len(), writes.update.len(), writes.delete.len()),
        (1, 0, 1)
    );
}

#[test]
fn trigger_times_are_those_of_the_newest_changes() {
    let mut times = TriggerTimes::default();
    let (service, key) = (service(json!({})), ObjectKey::new("d", "web"));
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let at = |number: u8, text: &str| {
        pod(
            number,
            json!({ "status": { "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": text }] } }),
        )
    };
    assert_eq!(
        times.next(&key, &service, &[pod(1, json!({}))]),
        time("2026-01-01T09:00:00Z")
    );
    assert_eq!(times.next(&key, &service, &[pod(1, json!({}))]), None);
    let changed = [at(1, "2026-01-01T10:30:00Z"), at(2, "2026-01-01T10:20:00Z")];
    assert_eq!(times.next(&key, &service, &changed), time("2026-01-01T10:20:00Z"));
    let mut annotations = None;
    stamp_trigger_time(&mut annotations, time("2026-01-01T10:20:00Z"));
    assert_eq!(
        annotations.as_ref().unwrap()[TRIGGER_TIME],
        "2026-01-01T10:20:00Z"
    );
    stamp_trigger_time(&mut annotations, None);
    assert!(annotations.unwrap().is_empty());
}

#[test]
fn packing_is_bounded_and_complete_under_random_churn() {
    // A small linear congruential generator: fixed, and no other randomness is needed.
    let mut state = 42_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let template = Template {
        max_per_slice: 5,
        ..template(&service(json!({})), "IPv4")
    };
    let mut wanted: Vec<u32> = Vec::new();
    let (mut slices, mut serial) = (Vec::new(), 0);
    for _ in 0..300 {
        if random(2) == 0 {
            wanted.push(random(1000));
        } else if !wanted.is_empty() {
            let place = random(u32::try_from(wanted.len()).unwrap());
            wanted.swap_remove(place as usize);
        }
        wanted.sort_unstable();
        wanted.dedup();
        let endpoints = wanted
            .iter()
            .map(|number| k8s_openapi::api::discovery::v1::Endpoint {
                addresses: vec![format!("10.0.{}.{}", number / 256, number % 256)],
                ..Default::default()
            })
            .collect();
        let group = Group {
            ports: Vec::new(),
            endpoints,
        };
        let groups = [(packing::group_key(&[]), group)].into();
        let writes = packing::pack(&template, &slices, groups, true);
        assert!(
            writes.create.len() + writes.update.len() + writes.delete.len() <= 2,
            "one change, few writes"
        );
        slices = written(writes, &slices, &mut serial);
        let mut seen: Vec<_> = slices
            .iter()
            .flat_map(|slice| {
                slice
                    .endpoints
                    .iter()
                    .flatten()
                    .map(|endpoint| endpoint.addresses[0].clone())
            })
            .collect();
        assert!(
            slices
                .iter()
                .all(|slice| slice.endpoints.as_ref().unwrap().len() <= 5)
        );
        seen.sort();
        let mut expected: Vec<_> = wanted
            .iter()
            .map(|number| format!("10.0.{}.{}", number / 256, number % 256))
            .collect();
        expected.sort();
        assert_eq!(seen, expected);
    }
}
