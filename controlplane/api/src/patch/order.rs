//! The order of list items after a strategic merge.
//!
//! Items that the patch names come in the patch's order; items that only the server has are put between them as the
//! server's order tells.

use serde_json::Value;

/// How two items are known to be the same: by their merge key, or by themselves.
pub(super) fn same(a: &Value, b: &Value, merge_key: Option<&str>) -> bool {
    match merge_key {
        None => a == b,
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
    }
}

fn position(items: &[Value], item: &Value, merge_key: Option<&str>) -> Option<usize> {
    items
        .iter()
        .position(|candidate| same(candidate, item, merge_key))
}

/// Orders `merged`: items in `wanted` by `wanted`, others by `server`.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    merge_key: Option<&str>,
) -> Vec<Value> {
    let place = |order: &[Value], item: &Value| position(order, item, merge_key).unwrap_or(usize::MAX);
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| position(wanted, item, merge_key).is_some());
    named.sort_by_key(|item| place(wanted, item));
    others.sort_by_key(|item| place(server, item));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        let own = position(server, &other, merge_key);
        // It goes before the first named item that follows it on the server.
        while let Some(next) = named.peek() {
            let follows = own
                .zip(position(server, next, merge_key))
                .is_some_and(|(own, next)| own < next);
            if follows {
                break;
            }
            arranged.extend(named.next());
        }
        arranged.push(other);
    }
    arranged.extend(named);
    arranged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arranged(merged: &str, wanted: &str, server: &str) -> String {
        let list = |text: &str| text.chars().map(|c| json!(c.to_string())).collect::<Vec<_>>();
        let arranged = arrange(list(merged), &list(wanted), &list(server), None);
        arranged.iter().filter_map(Value::as_str).collect()
    }

    #[test]
    fn orders_are_kept_on_both_sides() {
        let cases = [
            ("abc", "", "abc", "abc"),
            ("abc", "cba", "abc", "cba"),
            ("abcx", "x", "abc", "xabc"),
            ("abcd", "db", "abcd", "acdb"),
            ("abcd", "bd", "abcd", "abcd"),
        ];
        for (merged, wanted, server, expected) in cases {
            assert_eq!(
                arranged(merged, wanted, server),
                expected,
                "{merged} {wanted} {server}"
            );
        }
    }
}
