//! What the runtime asks, checked.

use std::fs::File;
use std::path::PathBuf;

use serde::Deserialize;

use crate::protocol::{Attachment, Failure, code};

/// Versions of the specification, oldest first.
pub(super) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Longest name of a network device (IFNAMSIZ without its end).
const INTERFACE_NAME_LIMIT: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) command: Command,
    pub(super) version: String,
    pub(super) plugin_type: String,
    pub(super) socket: Option<PathBuf>,
    /// Empty strings where the command names none.
    pub(super) attachment: Attachment,
    /// Path of the pod's network namespace; the runtime may have none any more for DEL.
    pub(super) netns: Option<String>,
    pub(super) known_addresses: Vec<String>,
    pub(super) valid: Vec<Attachment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    cni_version: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    plugin_type: String,
    socket: Option<PathBuf>,
    prev_result: Option<Previous>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Attachment>>,
}

#[derive(Deserialize)]
struct Previous {
    #[serde(default)]
    ips: Vec<PreviousAddress>,
}

#[derive(Deserialize)]
struct PreviousAddress {
    address: String,
}

impl Call {
    /// The pod's network namespace, opened. DEL goes without when it is gone.
    pub(super) fn open_netns(&self) -> Result<Option<File>, Failure> {
        let Some(path) = &self.netns else { return Ok(None) };
        match File::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(_) if self.command == Command::Del => Ok(None),
            Err(error) => Err(Failure::new(
                code::UNKNOWN_CONTAINER,
                format!("cannot open the network namespace {path}"),
            )
            .with_details(error.to_string())),
        }
    }
}

pub(super) fn parse(environment: &dyn Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<Call, Failure> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    let required = |name: &str| {
        variable(name).ok_or_else(|| {
            Failure::new(
                code::INVALID_ENVIRONMENT,
                format!("the variable {name} is missing"),
            )
        })
    };
    let command = command(&required("CNI_COMMAND")?)?;
    let config: Config = serde_json::from_slice(stdin).map_err(|error| {
        Failure::new(
            code::UNDECODABLE,
            "the network configuration is not what CNI defines",
        )
        .with_details(error.to_string())
    })?;
    // A configuration without a version means 0.1.0 by the specification; only VERSION may do without.
    let version = config.cni_version.unwrap_or_else(|| "0.1.0".to_owned());
    if command != Command::Version {
        check_version(command, &version)?;
        check_name(&config.name)?;
    }
    let mut attachment = Attachment {
        container: String::new(),
        interface: String::new(),
    };
    let mut netns = None;
    if matches!(command, Command::Add | Command::Del | Command::Check) {
        attachment.container = required("CNI_CONTAINERID")?;
        check_container(&attachment.container)?;
        attachment.interface = required("CNI_IFNAME")?;
        check_interface(&attachment.interface)?;
        netns = if command == Command::Del {
            variable("CNI_NETNS")
        } else {
            Some(required("CNI_NETNS")?)
        };
    }
    if command == Command::Gc && config.valid.is_none() {
        return Err(Failure::new(
            code::INVALID_CONFIG,
            "GC without \"cni.dev/valid-attachments\"",
        ));
    }
    let known = config
        .prev_result
        .map(|previous| previous.ips)
        .unwrap_or_default();
    Ok(Call {
        command,
        version,
        plugin_type: config.plugin_type,
        socket: config.socket,
        attachment,
        netns,
        known_addresses: known.into_iter().map(|known| known.address).collect(),
        valid: config.valid.unwrap_or_default(),
    })
}

fn command(name: &str) -> Result<Command, Failure> {
    Ok(match name {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "STATUS" => Command::Status,
        "GC" => Command::Gc,
        "VERSION" => Command::Version,
        other => {
            return Err(Failure::new(
                code::INVALID_ENVIRONMENT,
                format!("there is no CNI_COMMAND {other:?}"),
            ));
        }
    })
}

fn check_version(command: Command, version: &str) -> Result<(), Failure> {
    let known = VERSIONS.iter().position(|known| *known == version);
    let since = match command {
        Command::Add | Command::Del | Command::Version => "0.3.0",
        Command::Check => "0.4.0",
        Command::Status | Command::Gc => "1.1.0",
    };
    let first = VERSIONS.iter().position(|known| *known == since);
    if known.is_some() && known >= first {
        return Ok(());
    }
    let msg = format!("{command:?} is not supported with cniVersion {version:?}");
    let details = format!("supported from {since}; known versions: {}", VERSIONS.join(", "));
    Err(Failure::new(code::INCOMPATIBLE_VERSION, msg).with_details(details))
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.bytes();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|character| character.is_ascii_alphanumeric() || b"_.-".contains(&character))
}

fn check_name(name: &str) -> Result<(), Failure> {
    if is_identifier(name) {
        return Ok(());
    }
    Err(Failure::new(
        code::INVALID_CONFIG,
        format!("{name:?} is not a network name"),
    ))
}

fn check_container(container: &str) -> Result<(), Failure> {
    if is_identifier(container) {
        return Ok(());
    }
    Err(Failure::new(
        code::INVALID_ENVIRONMENT,
        format!("CNI_CONTAINERID {container:?} is not a container id"),
    ))
}

fn check_interface(name: &str) -> Result<(), Failure> {
    let odd = |character: char| character == '/' || character == ':' || character.is_whitespace();
    if name.len() > INTERFACE_NAME_LIMIT || name == "." || name == ".." || name.contains(odd) {
        return Err(Failure::new(
            code::INVALID_ENVIRONMENT,
            format!("CNI_IFNAME {name:?} is not a device name"),
        ));
    }
    Ok(())
}
