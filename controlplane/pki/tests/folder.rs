//! Behaviour of a PKI folder over its life.

use skep_pki::{Pki, PkiError, PkiOptions, names};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

fn open(dir: &Path) -> Pki {
    Pki::open_or_create(dir, PkiOptions::new("test")).expect("open")
}

fn open_at(dir: &Path, clock: fn() -> SystemTime) -> Result<Pki, PkiError> {
    Pki::open_or_create(
        dir,
        PkiOptions {
            cluster: "test".into(),
            clock,
        },
    )
}

#[test]
fn files_are_reused_and_keys_are_private() {
    let dir = tempfile::tempdir().expect("tempdir");
    let first = open(dir.path());
    let issued = first
        .issue_client(names::ADMIN, &[names::MASTERS])
        .expect("issue");
    let again = open(dir.path());
    assert_eq!(first.ca_pem(), again.ca_pem());
    let reused = again
        .issue_client(names::ADMIN, &[names::MASTERS])
        .expect("issue");
    assert_eq!(issued.certificate_pem, reused.certificate_pem);
    let signing = first.token_key().expect("key");
    assert_eq!(signing, again.token_key().expect("key"));
    for key in ["ca.key", "client-kubernetes-admin.key", "sa.key"] {
        let mode = fs::metadata(dir.path().join(key))
            .expect("key file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn a_certificate_that_says_something_else_is_issued_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let pki = open(dir.path());
    let sans = ["10.64.0.1".to_owned(), "kubernetes.default.svc".to_owned()];
    let first = pki.issue_serving(names::API_SERVER, &sans[..1]).expect("issue");
    let wider = pki.issue_serving(names::API_SERVER, &sans).expect("issue");
    assert_ne!(first.certificate_pem, wider.certificate_pem);
    let narrower = pki.issue_serving(names::API_SERVER, &sans[1..]).expect("issue");
    assert_eq!(wider.certificate_pem, narrower.certificate_pem);
    let plain = pki.issue_client("jane", &[]).expect("issue");
    let grouped = pki.issue_client("jane", &["dev", "ops"]).expect("issue");
    assert_ne!(plain.certificate_pem, grouped.certificate_pem);
    let same = pki.issue_client("jane", &["ops", "dev"]).expect("issue");
    assert_eq!(same.certificate_pem, grouped.certificate_pem);
    let too_many = pki.issue_client("jane", &["a", "b", "c"]);
    assert!(matches!(too_many, Err(PkiError::TooManyGroups { count: 3, .. })));
}

#[test]
fn renewal_comes_before_the_end_and_keeps_the_authority_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let pki = open(dir.path());
    let now = pki.issue_node_client("a").expect("issue");
    let later = open_at(dir.path(), || SystemTime::now() + 320 * DAY).expect("open");
    assert_eq!(later.ca_pem(), pki.ca_pem());
    assert_ne!(
        later.issue_node_client("a").expect("issue").certificate_pem,
        now.certificate_pem
    );
    let much_later = open_at(dir.path(), || SystemTime::now() + 3600 * DAY).expect("open");
    assert_ne!(much_later.ca_pem(), pki.ca_pem());
    let still = open(dir.path()).issue_node_client("a").expect("issue");
    assert!(still.certificate_path.exists());
}

#[test]
fn a_broken_authority_is_named_and_never_replaced() {
    let dir = tempfile::tempdir().expect("tempdir");
    drop(open(dir.path()));
    let expired = open_at(dir.path(), || SystemTime::now() + 3700 * DAY)
        .err()
        .expect("expired");
    assert!(expired.to_string().contains("ca.crt"), "{expired}");
    fs::write(dir.path().join("ca.crt"), "nonsense").expect("write");
    let broken = open_at(dir.path(), SystemTime::now).err().expect("broken");
    assert!(
        broken.to_string().contains("restore it from a backup"),
        "{broken}"
    );
    fs::remove_file(dir.path().join("ca.key")).expect("remove");
    let keyless = open_at(dir.path(), SystemTime::now).err().expect("keyless");
    assert!(matches!(keyless, PkiError::MissingAuthorityKey { .. }));
    assert_eq!(
        fs::read_to_string(dir.path().join("ca.crt")).expect("read"),
        "nonsense"
    );
}

#[test]
fn certificates_of_another_authority_are_not_reused() {
    let (one, two) = (
        tempfile::tempdir().expect("tempdir"),
        tempfile::tempdir().expect("tempdir"),
    );
    let (first, second) = (open(one.path()), open(two.path()));
    let foreign = first.issue_client("jane", &[]).expect("issue");
    fs::copy(&foreign.certificate_path, two.path().join("client-jane.crt")).expect("copy");
    fs::copy(&foreign.key_path, two.path().join("client-jane.key")).expect("copy");
    let own = second.issue_client("jane", &[]).expect("issue");
    assert_ne!(own.certificate_pem, foreign.certificate_pem);
}

#[test]
fn opening_without_an_authority_says_so() {
    let dir = tempfile::tempdir().expect("tempdir");
    let error = Pki::open(dir.path(), PkiOptions::new("test"))
        .err()
        .expect("no authority");
    assert!(matches!(error, PkiError::NoAuthority { .. }));
    assert!(error.to_string().contains("start the server"));
}

#[test]
fn a_kubeconfig_embeds_everything() {
    let dir = tempfile::tempdir().expect("tempdir");
    let pki = open(dir.path());
    let admin = pki.issue_client(names::ADMIN, &[names::MASTERS]).expect("issue");
    let text = pki.kubeconfig("https://172.29.0.1:6443", &admin);
    for part in [
        "server: 'https://172.29.0.1:6443'",
        "current-context: 'test'",
        "certificate-authority-data: LS0t",
        "client-key-data: LS0t",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn private_folders_are_their_owners_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mode = |path: &Path| fs::metadata(path).expect("folder").permissions().mode() & 0o777;
    let inner = dir.path().join("above/inner");
    skep_pki::create_private_folder(&inner).expect("made");
    assert_eq!((mode(&inner), mode(&dir.path().join("above"))), (0o700, 0o700));
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).expect("opened up");
    skep_pki::create_private_folder(&inner).expect("tightened");
    assert_eq!(mode(&inner), 0o700);
}
