//! Embeds the eBPF objects that `cargo xtask build-ebpf` has built, if it has.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Constant name and file of each object.
const OBJECTS: &[(&str, &str)] = &[("CGROUP_SOCK", "skep-cgroup-sock.o"), ("TC", "skep-tc.o")];

fn main() -> io::Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    println!("cargo::rerun-if-env-changed=SKEP_EBPF_DIR");
    let folder = match env::var_os("SKEP_EBPF_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ebpf"),
    };
    // Cargo reruns a script at every build while a path it watches does not exist.
    fs::create_dir_all(&folder)?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut code = String::new();
    for (name, file) in OBJECTS {
        code.push_str(&format!("pub(crate) const {name}: Option<&[u8]> = "));
        match fs::read(folder.join(file)) {
            Ok(object) => {
                fs::write(out_dir.join(file), object)?;
                code.push_str(&format!(
                    "Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/{file}\")));\n"
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => code.push_str("None;\n"),
            Err(error) => return Err(error),
        }
    }
    fs::write(out_dir.join("objects.rs"), code)
}
