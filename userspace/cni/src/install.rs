//! Puts the plugin and its configuration where the container runtime looks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::CniError;

/// Version of the specification in the configuration: what the runtime's library must know, so not the newest.
const VERSION: &str = "1.0.0";
const CONFIG_FILE: &str = "10-skep.conflist";

/// What goes where.
#[derive(Clone, Debug)]
pub struct Install {
    /// The plugin program, as it was built.
    pub plugin: PathBuf,
    /// The runtime's folder of CNI programs.
    pub bin_dir: PathBuf,
    /// The runtime's folder of CNI configurations.
    pub conf_dir: PathBuf,
    /// The agent's socket, as the runtime's children see it.
    pub socket: PathBuf,
}

/// Copies the plugin, also under the name `loopback` that runtimes look for, and writes the configuration last: the
/// runtime takes it as the sign that the network is ready. Replaces what is there; every file is whole at any time.
///
/// # Errors
/// [`CniError::Io`].
pub fn install(install: &Install) -> Result<(), CniError> {
    for folder in [&install.bin_dir, &install.conf_dir] {
        fs::create_dir_all(folder).map_err(on(folder, "make the folder"))?;
    }
    let program = fs::read(&install.plugin).map_err(on(&install.plugin, "read the CNI plugin"))?;
    for name in ["skep-cni", "loopback"] {
        place(&install.bin_dir.join(name), &program, 0o755)?;
    }
    let config = json!({
        "cniVersion": VERSION,
        "name": "skep",
        "plugins": [{ "type": "skep-cni", "socket": install.socket }],
    });
    place(
        &install.conf_dir.join(CONFIG_FILE),
        format!("{config:#}\n").as_bytes(),
        0o644,
    )
}

/// Writes beside, then renames: also a program that is being run can be replaced.
fn place(path: &Path, content: &[u8], mode: u32) -> Result<(), CniError> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let beside = path.with_extension("new");
    let write = || {
        let mut file = File::create(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(on(path, "install"))
}

fn on(path: &Path, during: &'static str) -> impl FnOnce(io::Error) -> CniError {
    let path = path.to_owned();
    move |source| CniError::Io { during, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_whole_and_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let what = Install {
            plugin: path("built"),
            bin_dir: path("opt/bin"),
            conf_dir: path("etc/net.d"),
            socket: "/run/skep/c/n/cni.sock".into(),
        };
        assert!(matches!(
            install(&what),
            Err(CniError::Io {
                during: "read the CNI plugin",
                ..
            })
        ));
        for content in ["one", "two", "two"] {
            fs::write(path("built"), content).unwrap();
            install(&what).unwrap();
            for name in ["opt/bin/skep-cni", "opt/bin/loopback"] {
                assert_eq!(fs::read_to_string(path(name)).unwrap(), content);
                assert_eq!(
                    fs::metadata(path(name)).unwrap().permissions().mode() & 0o777,
                    0o755
                );
            }
        }
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(path("etc/net.d/10-skep.conflist")).unwrap()).unwrap();
        assert_eq!(
            config["plugins"][0],
            json!({ "type": "skep-cni", "socket": "/run/skep/c/n/cni.sock" })
        );
        assert_eq!(fs::read_dir(path("opt/bin")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(path("etc/net.d")).unwrap().count(), 1);
    }
}
