use std::path::PathBuf;

/// A certificate with its key, both as files and as PEM text.
#[derive(Clone)]
pub struct Identity {
    pub common_name: String,
    pub certificate_path: PathBuf,
    pub key_path: PathBuf,
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    /// Leaves the key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("common_name", &self.common_name)
            .field("certificate_path", &self.certificate_path)
            .field("key_path", &self.key_path)
            .finish_non_exhaustive()
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Serving,
}

impl Usage {
    /// The stem of the identity's files. A common name becomes a file name by keeping what is harmless
    /// in one and replacing the rest (`system:node:a` → `system-node-a`).
    pub(crate) fn file_stem(self, common_name: &str) -> String {
        let prefix = match self {
            Self::Client => "client",
            Self::Serving => "serving",
        };
        let harmless = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
                c
            } else {
                '-'
            }
        };
        format!(
            "{prefix}-{}",
            common_name.chars().map(harmless).collect::<String>()
        )
    }
}
