//! What is printed, in the form of the configuration's version.

use serde_json::{Value, json};

use super::call::{Call, VERSIONS};
use crate::protocol::{Attached, Failure};

/// The answer to VERSION.
pub(super) fn versions(asked: &str) -> String {
    json!({ "cniVersion": asked, "supportedVersions": VERSIONS }).to_string()
}

/// The version to answer in when the configuration may be anything.
pub(super) fn version_for_errors(stdin: &[u8]) -> String {
    let config: Option<Value> = serde_json::from_slice(stdin).ok();
    let asked = config
        .as_ref()
        .and_then(|config| config.get("cniVersion"))
        .and_then(Value::as_str);
    asked
        .filter(|asked| VERSIONS.contains(asked))
        .unwrap_or(VERSIONS[VERSIONS.len() - 1])
        .to_owned()
}

pub(super) fn error(version: &str, failure: &Failure) -> String {
    let mut error = json!({ "cniVersion": version, "code": failure.code, "msg": failure.msg });
    if !failure.details.is_empty() {
        error["details"] = failure.details.clone().into();
    }
    error.to_string()
}

/// The answer to ADD.
pub(super) fn attached(call: &Call, attached: &Attached) -> String {
    let mut interfaces = json!([
        { "name": attached.host_interface, "mac": attached.host_mac },
        { "name": call.attachment.interface, "mac": attached.mac, "sandbox": call.netns },
    ]);
    if call.version == "1.1.0" {
        for interface in interfaces.as_array_mut().into_iter().flatten() {
            interface["mtu"] = attached.mtu.into();
        }
    }
    let address =
        json!({ "address": format!("{}/32", attached.address), "gateway": attached.gateway, "interface": 1 });
    json!({
        "cniVersion": call.version,
        "interfaces": interfaces,
        "ips": [with_family(&call.version, address, "4")],
        "routes": [{ "dst": "0.0.0.0/0", "gw": attached.gateway }],
        "dns": {},
    })
    .to_string()
}

/// Before 1.0 an address said which family it is of.
pub(super) fn with_family(version: &str, mut address: Value, family: &str) -> Value {
    if version.starts_with("0.") {
        address["version"] = family.into();
    }
    address
}
