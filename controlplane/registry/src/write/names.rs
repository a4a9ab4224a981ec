//! Names made from `generateName`.

/// Consonants and digits that make no words, as upstream's.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const NAME_LENGTH: usize = 63;

/// The prefix, cut so that the whole fits in a label, with a random suffix.
pub(super) fn generate(prefix: &str) -> String {
    let mut most = prefix.len().min(NAME_LENGTH - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(most) {
        most -= 1;
    }
    let mut name = prefix[..most].to_owned();
    name.extend((0..SUFFIX_LENGTH).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_prefix_and_fit_in_a_label() {
        let name = generate("web-");
        assert!(name.starts_with("web-") && name.len() == 9);
        assert_eq!(generate(&"a".repeat(100)).len(), 63);
        assert_ne!(generate("web-"), generate("web-"));
    }
}
