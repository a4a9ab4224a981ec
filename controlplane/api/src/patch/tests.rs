use proptest::prelude::*;
use serde_json::json;

use super::*;

fn deployment(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

/// Object, patch and result, all of a pod template's spec.
#[track_caller]
fn check(object: Value, patch: Value, expected: Value) {
    let patched = strategic(deployment(object), &deployment(patch), "apps", "v1", "Deployment").unwrap();
    assert_eq!(patched, deployment(expected));
}

#[test]
fn list_items_merge_by_key() {
    check(
        json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}]}),
        json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}, {"name": "b"}]}),
    );
}

#[test]
fn list_items_are_deleted_by_directive() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
}

#[test]
fn lists_and_objects_are_replaced_by_directive() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}], "securityContext": {"runAsUser": 1}}),
        json!({"containers": [{"name": "c"}, {"$patch": "replace"}], "securityContext": {"$patch": "replace", "fsGroup": 2}}),
        json!({"containers": [{"name": "c"}], "securityContext": {"fsGroup": 2}}),
    );
}

#[test]
fn order_is_set_as_asked() {
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "n"}], "containers": [{"name": "n", "image": "i"}]}),
        json!({"containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}, {"name": "n", "image": "i"}]}),
    );
    check(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
        json!({"containers": [{"name": "b"}, {"name": "a"}]}),
    );
}

#[test]
fn unions_retain_only_what_is_named() {
    check(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    );
}

#[test]
fn primitive_lists_merge_and_lose_items() {
    let object = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"]}});
    let patched = strategic(object, &patch, "", "v1", "Pod").unwrap();
    let mut finalizers: Vec<&str> = patched["metadata"]["finalizers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    finalizers.sort_unstable();
    assert_eq!(finalizers, ["a", "c", "d"]);
}

#[test]
fn plain_lists_are_replaced_nulls_delete_and_maps_merge() {
    check(
        json!({"tolerations": [{"key": "a"}], "nodeSelector": {"x": "1", "y": "2"}, "hostname": "h"}),
        json!({"tolerations": [{"key": "b"}], "nodeSelector": {"x": null, "z": "3"}, "hostname": null, "subdomain": null}),
        json!({"tolerations": [{"key": "b"}], "nodeSelector": {"y": "2", "z": "3"}}),
    );
}

#[test]
fn wrong_patches_are_refused() {
    let wrong = [
        json!({"containers": [{"image": "x"}]}),
        json!({"containers": ["x"]}),
        json!({"containers": [{"name": "a", "$patch": "explode"}]}),
        json!({"$setElementOrder/containers": 1, "containers": []}),
    ];
    for patch in wrong {
        let object = deployment(json!({"containers": [{"name": "a"}]}));
        let outcome = strategic(object, &deployment(patch.clone()), "apps", "v1", "Deployment");
        assert!(matches!(outcome, Err(PatchError::Malformed(_))), "{patch}");
    }
    assert!(matches!(
        merge(json!({}), &json!([])),
        Err(PatchError::Malformed(_))
    ));
    assert!(matches!(JsonPatch::parse(b"{}"), Err(PatchError::Malformed(_))));
}

#[test]
fn json_patches_apply_or_fail_whole() {
    let patch = |text: &str| {
        JsonPatch::parse(text.as_bytes())
            .unwrap()
            .apply(json!({"a": [1, 2]}))
    };
    assert_eq!(
        patch(r#"[{"op":"remove","path":"/a/0"},{"op":"add","path":"/b","value":1}]"#),
        Ok(json!({"a": [2], "b": 1}))
    );
    assert!(matches!(
        patch(r#"[{"op":"test","path":"/a/0","value":5}]"#),
        Err(PatchError::Failed(_))
    ));
    assert!(matches!(
        patch(r#"[{"op":"remove","path":"/x"}]"#),
        Err(PatchError::Failed(_))
    ));
}

/// The outcome of a JSON patch on `object`.
fn json_patch(operations: &[Value], object: Value) -> Result<Value, PatchError> {
    JsonPatch::parse(&serde_json::to_vec(operations).unwrap())
        .unwrap()
        .apply(object)
}

#[test]
fn a_json_patch_copies_three_mebibytes_at_most() {
    let object = json!({"data": {"a": "x".repeat(1 << 20)}});
    let copies = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|index| json!({"op": "copy", "from": "/data/a", "path": format!("/data/b{index}")}))
            .collect()
    };
    let patched = json_patch(&copies(2), object.clone()).unwrap();
    assert_eq!(patched["data"].as_object().unwrap().len(), 3);
    // Each copy has two quotation marks more than a mebibyte.
    assert_eq!(
        json_patch(&copies(3), object),
        Err(PatchError::Failed(
            "Unable to complete the copy, the accumulated size increase of copy is 3145734, exceeding the limit 3145728"
                .into()
        ))
    );
    // Each operation doubles the object.
    let doubling: Vec<Value> = (0..64)
        .map(|index| json!({"op": "copy", "from": "/data", "path": format!("/data/{index}")}))
        .collect();
    let outcome = json_patch(&doubling, json!({"data": {"a": 1}}));
    assert!(matches!(outcome, Err(PatchError::Failed(_))));
}

#[test]
fn a_json_patch_does_not_nest_without_end() {
    let (within, levels) = ("/x".repeat(100), 100);
    let deep = || (0..levels).fold(json!({}), |inner, _| json!({"x": inner}));
    let rounds = (0..10).flat_map(|_| {
        [
            json!({"op": "add", "path": "/b", "value": deep()}),
            json!({"op": "move", "from": "/a", "path": format!("/b{within}/y")}),
            json!({"op": "move", "from": "/b", "path": "/a"}),
        ]
    });
    let outcome = json_patch(&rounds.collect::<Vec<_>>(), json!({"a": {}}));
    assert!(matches!(outcome, Err(PatchError::Failed(_))));
    // Moving sideways is no nesting.
    let there_and_back = (0..500).flat_map(|_| {
        [
            json!({"op": "move", "from": "/a", "path": "/b"}),
            json!({"op": "move", "from": "/b", "path": "/a"}),
        ]
    });
    let object = json!({"a": deep()});
    assert_eq!(
        json_patch(&there_and_back.collect::<Vec<_>>(), object.clone()),
        Ok(object)
    );
}

#[test]
fn a_json_patch_has_a_bounded_number_of_operations() {
    let operations = vec![json!({"op": "test", "path": "", "value": {}}); 10_001];
    let outcome = JsonPatch::parse(&serde_json::to_vec(&operations).unwrap());
    assert_eq!(
        outcome.unwrap_err(),
        PatchError::TooLarge("The allowed maximum operations in a JSON patch is 10000, got 10001".into())
    );
}

fn containers() -> impl Strategy<Value = Value> {
    let container = ("[a-d]", "[x-z]").prop_map(|(name, image)| json!({"name": name, "image": image}));
    prop::collection::vec(container, 0..5).prop_map(|mut list| {
        list.sort_by_key(|item| item["name"].to_string());
        list.dedup_by_key(|item| item["name"].to_string());
        Value::Array(list)
    })
}

proptest! {
    /// Patching twice is patching once, and what the patch says is in the result.
    #[test]
    fn strategic_merge_is_idempotent(object in containers(), patch in containers()) {
        let apply = |object: Value| {
            strategic(object, &deployment(json!({"containers": patch.clone()})), "apps", "v1", "Deployment").unwrap()
        };
        let once = apply(deployment(json!({"containers": object})));
        for item in patch.as_array().unwrap() {
            let items = once["spec"]["template"]["spec"]["containers"].as_array().unwrap();
            prop_assert!(items.contains(item));
        }
        prop_assert_eq!(apply(once.clone()), once);
    }
}
