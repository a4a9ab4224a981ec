//! The facts that the fake runtime models, checked on it and on a real containerd.

use skep_cri::Runtime;
use skep_cri::testing::{BUSYBOX, ExecAnswer, FakeRuntime, contract, with_containerd};

#[tokio::test]
async fn fake_runtime_keeps_the_contract() {
    let runtime = FakeRuntime::new();
    runtime.add_image(BUSYBOX);
    runtime.on_exec(|_, command| match command[0].as_str() {
        "sleep" => ExecAnswer::Hang,
        _ => ExecAnswer::Exit(0, String::new()),
    });
    contract::check(&*runtime, "/contract", "/nowhere").await;
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-cri -- --ignored"]
fn containerd_keeps_the_contract() {
    with_containerd(|harness| async move {
        let logs = harness.directory().join("logs");
        let client = harness.client();
        let version = client.version().await.expect("a version");
        assert_eq!(version.runtime_name, "containerd");
        let status = client.status().await.expect("a status");
        assert!(status.conditions.iter().all(|condition| condition.status));
        contract::check(&client, harness.cgroup(), &logs.display().to_string()).await;
    });
}
