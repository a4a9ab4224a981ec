use serde_json::json;

use super::*;

fn service(spec: Value) -> Service {
    let mut service: Service =
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
    service.set_defaults();
    service
}

#[test]
fn defaults_are_what_kubectl_shows() {
    let value = serde_json::to_value(service(json!({"type": "NodePort", "ports": [{"port": 80}]}))).unwrap();
    assert_eq!(
        value["spec"],
        json!({
            "type": "NodePort", "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(value["status"], json!({"loadBalancer": {}}));
    let affine = service(json!({"sessionAffinity": "ClientIP", "ports": [{"port": 80}]}));
    let value = serde_json::to_value(affine).unwrap();
    assert_eq!(
        value["spec"]["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );
    let balanced = service(json!({"type": "LoadBalancer", "ports": [{"port": 80}]}));
    assert_eq!(
        balanced.spec.unwrap().allocate_load_balancer_node_ports,
        Some(true)
    );
}

#[test]
fn what_users_get_wrong_is_told_as_upstream() {
    let cases = [
        (json!({}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"port": 80}, {"name": "b", "port": 81}]}),
            "spec.ports[0].name: Required value",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            r#"spec.ports[1].name: Duplicate value: "a""#,
        ),
        (
            json!({"type": "Foo", "ports": [{"port": 80}]}),
            r#"spec.type: Unsupported value: "Foo": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"ports": [{"port": 80}], "trafficDistribution": "PreferFar"}),
            r#"spec.trafficDistribution: Unsupported value: "PreferFar": supported values: "PreferClose", "PreferSameNode", "PreferSameZone""#,
        ),
        (
            json!({"type": "ExternalName"}),
            "spec.externalName: Required value",
        ),
        (
            json!({"clusterIP": "x", "ports": [{"port": 80}]}),
            r#"spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ),
    ];
    for (spec, expected) in cases {
        let errors = Kind::validate(&service(spec));
        assert!(
            errors.iter().any(|error| error.to_string() == expected),
            "{expected}: {errors:?}"
        );
    }
    for right in [
        json!({"clusterIP": "None"}),
        json!({"ports": [{"port": 80}], "trafficDistribution": "PreferSameZone"}),
        json!({"type": "ExternalName", "externalName": "a.b."}),
    ] {
        assert!(Kind::validate(&service(right)).is_empty());
    }
}

#[test]
fn updates_keep_what_was_allocated() {
    let old = service(
        json!({"type": "NodePort", "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    let mut new = service(json!({"type": "NodePort", "ports": [{"port": 80}, {"name": "b", "port": 81}]}));
    new.prepare_update(&old);
    let spec = new.spec.clone().unwrap();
    assert_eq!(spec.cluster_ips.unwrap(), ["10.0.0.1"]);
    assert_eq!(
        spec.ports
            .unwrap()
            .iter()
            .map(|port| port.node_port)
            .collect::<Vec<_>>(),
        [Some(30080), None]
    );
    let mut plain = service(
        json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080}]}),
    );
    plain.prepare_update(&old);
    assert!(Kind::validate(&plain).is_empty(), "node ports go with the type");
    let mut moved = service(json!({"clusterIP": "10.0.0.9", "ports": [{"port": 80}]}));
    moved.prepare_update(&old);
    assert_eq!(
        Kind::validate_update(&moved, &old)[0].to_string(),
        r#"spec.clusterIPs[0]: Invalid value: ["10.0.0.9"]: may not change once set"#
    );
    let mut named = service(json!({"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.0.0.1"}));
    named.prepare_update(&old);
    assert_eq!(named.spec.unwrap().cluster_ip, None);
}

#[test]
fn cells_read_as_upstream() {
    let now = Timestamp::UNIX_EPOCH;
    let cells = |spec: Value| Value::Array(columns::cells(&service(spec), now));
    assert_eq!(
        cells(
            json!({"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]})
        ),
        json!([
            "web",
            "NodePort",
            "10.0.0.1",
            "<none>",
            "80:30080/TCP,53/UDP",
            "<unknown>",
            "app=web"
        ])
    );
    assert_eq!(
        cells(json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80}]})),
        json!([
            "web",
            "LoadBalancer",
            "10.0.0.1",
            "<pending>",
            "80/TCP",
            "<unknown>",
            "<none>"
        ])
    );
    assert_eq!(
        cells(json!({"type": "ExternalName", "externalName": "a.b"})),
        json!([
            "web",
            "ExternalName",
            "<none>",
            "a.b",
            "<none>",
            "<unknown>",
            "<none>"
        ])
    );
}
