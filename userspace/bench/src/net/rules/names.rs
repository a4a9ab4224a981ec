//! Names of chains: hashes, since tools bound their length.

use sha2::{Digest as _, Sha256};

/// RFC 4648.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The first `length` characters of the base32 of the SHA-256 of `text`. At most 51: what follows are padded bits.
pub(super) fn hash(text: &str, length: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bit = |at: usize| digest[at / 8] >> (7 - at % 8) & 1;
    let character = |at: usize| {
        let index = (0..5).fold(0, |index, offset| index << 1 | bit(at * 5 + offset));
        char::from(BASE32[usize::from(index)])
    };
    (0..length.min(51)).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests are those of FIPS 180-4's examples, encoded by hand: ba7816bf… and e3b0c442….
    #[test]
    fn hashes_are_base32_of_sha256() {
        assert_eq!(hash("abc", 16), "XJ4BNP4PAHH6UQKB");
        assert_eq!(hash("", 16), "4OYMIQUY7QOBJGX3");
    }
}
