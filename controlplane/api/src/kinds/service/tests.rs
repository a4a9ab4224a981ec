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
fn what_only_load_balancers_have() {
    let with = |more: Value| {
        let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Kind::validate(&service(spec))
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let ranges = |list: Value| with(json!({"loadBalancerSourceRanges": list}));
    assert_eq!(
        ranges(json!(["10.0.0.0/8", " 2001:db8::/32 ", "10.1.2.3/24"])),
        [""; 0]
    );
    for wrong in [
        "10.0.0.0",
        "10.0.0.0/33",
        "2001:db8::/129",
        "10.0.0.0/+8",
        "x/8",
        "",
    ] {
        let told = format!(
            "spec.loadBalancerSourceRanges[0]: Invalid value: {wrong:?}: must be a valid CIDR value, \
             (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        );
        assert_eq!(ranges(json!([wrong])), [told]);
    }
    assert_eq!(with(json!({"loadBalancerClass": "example.com/fast"})), [""; 0]);
    assert_eq!(with(json!({"loadBalancerClass": "not a name"})).len(), 1);
    for field in [
        json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
        json!({"loadBalancerClass": "a/b"}),
        json!({"allocateLoadBalancerNodePorts": false}),
    ] {
        let name = field.as_object().unwrap().keys().next().unwrap().clone();
        let mut field = field;
        field["type"] = json!("NodePort");
        let told = format!("spec.{name}: Forbidden: may only be used when `type` is 'LoadBalancer'");
        assert_eq!(with(field), [told]);
    }
    assert_eq!(
        with(json!({"type": "ClusterIP", "externalTrafficPolicy": "Local"})),
        [
            r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#
        ]
    );
    let exposed =
        json!({"type": "ClusterIP", "externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]});
    assert_eq!(with(exposed), [""; 0]);
    assert_eq!(
        with(json!({"healthCheckNodePort": 30000})),
        [
            "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        ]
    );
    assert_eq!(
        with(json!({"healthCheckNodePort": 30000, "externalTrafficPolicy": "Local"})),
        [""; 0]
    );
}

#[test]
fn load_balancers_update_what_may_change_and_leave_nothing_behind() {
    let spec = json!({"type": "LoadBalancer", "loadBalancerClass": "a/b", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30001, "ports": [{"port": 80}]});
    let mut old = service(spec.clone());
    old.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})).unwrap();
    old.set_defaults();
    let ingress = |service: &Service| {
        let status = service.status.clone().unwrap().load_balancer.unwrap();
        serde_json::to_value(status.ingress).unwrap()
    };
    assert_eq!(ingress(&old), json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]));
    for (field, value, told) in [
        (
            "loadBalancerClass",
            json!("c/d"),
            r#"spec.loadBalancerClass: Invalid value: "c/d": may not change once set"#,
        ),
        (
            "loadBalancerClass",
            json!(null),
            "spec.loadBalancerClass: Invalid value: null: may not change once set",
        ),
        (
            "healthCheckNodePort",
            json!(30002),
            "spec.healthCheckNodePort: Invalid value: 30002: field is immutable",
        ),
    ] {
        let mut spec = spec.clone();
        spec[field] = value;
        let mut new = service(spec);
        new.prepare_update(&old);
        let errors: Vec<String> = Kind::validate_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, [told]);
    }
    let mut plain = spec;
    plain["type"] = json!("ClusterIP");
    let mut plain = service(plain);
    plain.prepare_update(&old);
    assert_eq!(Kind::validate(&plain), []);
    assert_eq!(ingress(&plain), json!(null));
    let left = plain.spec.unwrap();
    assert_eq!(
        (left.load_balancer_class, left.health_check_node_port),
        (None, None)
    );
    assert_eq!(
        (
            left.external_traffic_policy,
            left.allocate_load_balancer_node_ports
        ),
        (None, None)
    );
}

#[test]
fn load_balancer_status_is_checked() {
    let of = |kind: &str, ingress: Value| {
        let value = json!({"metadata": {"name": "web"}, "spec": {"type": kind, "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [ingress]}}});
        let mut service: Service = serde_json::from_value(value).unwrap();
        service.set_defaults();
        Kind::validate(&service)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    for right in [
        json!({"ip": "192.0.2.1"}),
        json!({"ip": "2001:db8::1", "ipMode": "Proxy"}),
        json!({"hostname": "lb.example.com"}),
    ] {
        assert_eq!(of("LoadBalancer", right), [""; 0]);
    }
    let path = "status.loadBalancer.ingress[0]";
    for (wrong, told) in [
        (
            json!({"ip": "x"}),
            r#".ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ),
        (
            json!({"ip": "192.0.2.1", "ipMode": "No"}),
            r#".ipMode: Unsupported value: "No": supported values: "Proxy", "VIP""#,
        ),
        (
            json!({"hostname": "a", "ipMode": "VIP"}),
            ".ipMode: Forbidden: may not be specified when `ip` is not set",
        ),
        (
            json!({"hostname": "192.0.2.1"}),
            r#".hostname: Invalid value: "192.0.2.1": must be a DNS name, not an IP address"#,
        ),
    ] {
        assert_eq!(of("LoadBalancer", wrong), [format!("{path}{told}")]);
    }
    assert_eq!(
        of("NodePort", json!({"hostname": "a"})),
        [r#"status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is "LoadBalancer""#]
    );
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
