//! The value of the `pod-template-hash` label. Pure.
//!
//! The same template and collision count give the same value for as long as the template's JSON does not
//! change; nothing depends on that over time, because the ReplicaSet of a template is found by comparing
//! templates.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// Upstream's alphabet without vowels and look-alikes: names made of it spell no words.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

pub(crate) fn template_hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let json = serde_json::to_vec(template).expect("API types serialize to JSON");
    let mut hash = fnv32a(FNV_OFFSET, &json);
    if let Some(count) = collision_count {
        hash = fnv32a(hash, &count.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

fn fnv32a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

fn safe_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_that_of_upstream() {
        // rand.SafeEncodeString of all digits.
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn hash_is_stable_and_differs_by_collision_count() {
        let template = PodTemplateSpec::default();
        let first = template_hash(&template, None);
        assert_eq!(first, template_hash(&template, None));
        assert_ne!(first, template_hash(&template, Some(0)));
        assert_ne!(
            template_hash(&template, Some(1)),
            template_hash(&template, Some(0))
        );
    }

    #[test]
    fn fnv_matches_published_vectors() {
        assert_eq!(fnv32a(FNV_OFFSET, b""), 0x811c_9dc5);
        assert_eq!(fnv32a(FNV_OFFSET, b"foobar"), 0xbf9c_f968);
    }
}
