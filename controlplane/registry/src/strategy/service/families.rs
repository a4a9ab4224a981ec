//! Which address families a Service gets.

use std::net::IpAddr;

use ipnet::IpNet;
use skep_api::k8s_openapi::api::core::v1::ServiceSpec;
use skep_api::{FieldError, FieldPath};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn of(address: &IpAddr) -> Self {
        if address.is_ipv6() { Self::V6 } else { Self::V4 }
    }
}

/// The families that the cluster has, the default one first.
pub(super) fn configured(cidrs: &[IpNet]) -> Vec<Family> {
    let mut families: Vec<Family> = cidrs.iter().map(|cidr| Family::of(&cidr.addr())).collect();
    families.dedup();
    families.truncate(2);
    families
}

/// The families of a Service in the order of its addresses; fills in `ipFamilyPolicy`.
pub(super) fn resolve(spec: &mut ServiceSpec, configured: &[Family]) -> Result<Vec<Family>, Vec<FieldError>> {
    let mut families = asked_for(spec, configured)?;
    if families.is_empty() {
        families.extend(configured.first());
    }
    let default = if families.len() > 1 {
        "RequireDualStack"
    } else {
        "SingleStack"
    };
    let policy = spec.ip_family_policy.get_or_insert_with(|| default.to_owned());
    let refuse = |why: &str| Err(vec![FieldError::invalid("spec.ipFamilyPolicy", &*policy, why)]);
    if policy == "SingleStack" {
        return match families.len() {
            0 | 1 => Ok(families),
            _ => refuse(
                "may only be set to 'RequireDualStack' or 'PreferDualStack' when multiple `ipFamilies` are specified",
            ),
        };
    }
    for family in configured {
        if !families.contains(family) {
            families.push(*family);
        }
    }
    if policy == "RequireDualStack" && families.len() < 2 {
        return refuse("this cluster is not configured for dual-stack services");
    }
    Ok(families)
}

/// The families that `ipFamilies` and `clusterIPs` name, which must agree.
fn asked_for(spec: &ServiceSpec, configured: &[Family]) -> Result<Vec<Family>, Vec<FieldError>> {
    let path = FieldPath::new("spec");
    let mut families = Vec::new();
    for (index, text) in spec.ip_families.iter().flatten().enumerate() {
        let Some(family) = configured.iter().find(|family| family.as_str() == text) else {
            let path = path.child("ipFamilies").index(index);
            return Err(vec![FieldError::invalid(
                path,
                text,
                "not configured on this cluster",
            )]);
        };
        families.push(*family);
    }
    for (index, text) in spec.cluster_ips.iter().flatten().enumerate() {
        let Ok(address) = text.parse::<IpAddr>() else {
            continue;
        };
        let family = Family::of(&address);
        match families.get(index) {
            None => families.push(family),
            Some(given) if *given == family => {}
            Some(given) => {
                let why = format!(
                    "expected an {} value as indicated by `ipFamilies[{index}]`",
                    given.as_str()
                );
                return Err(vec![FieldError::invalid(
                    path.child("clusterIPs").index(index),
                    text,
                    why,
                )]);
            }
        }
    }
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(
        ips: &[&str],
        given: &[&str],
        policy: Option<&str>,
        configured: &[Family],
    ) -> Result<Vec<Family>, String> {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut spec = ServiceSpec {
            cluster_ips: (!ips.is_empty()).then(|| list(ips)),
            ip_families: (!given.is_empty()).then(|| list(given)),
            ip_family_policy: policy.map(str::to_owned),
            ..ServiceSpec::default()
        };
        resolve(&mut spec, configured).map_err(|errors| errors[0].path.clone())
    }

    #[test]
    fn resolution_table() {
        use Family::{V4, V6};
        let (single, dual) = ([V4], [V4, V6]);
        assert_eq!(families(&[], &[], None, &single), Ok(vec![V4]));
        assert_eq!(families(&[], &[], None, &dual), Ok(vec![V4]));
        assert_eq!(families(&[], &["IPv6"], None, &dual), Ok(vec![V6]));
        assert_eq!(families(&["fd00::1"], &[], None, &dual), Ok(vec![V6]));
        assert_eq!(
            families(&[], &[], Some("PreferDualStack"), &dual),
            Ok(vec![V4, V6])
        );
        assert_eq!(
            families(&[], &["IPv6"], Some("PreferDualStack"), &dual),
            Ok(vec![V6, V4])
        );
        assert_eq!(families(&[], &[], Some("PreferDualStack"), &single), Ok(vec![V4]));
        assert_eq!(families(&[], &["IPv4", "IPv6"], None, &dual), Ok(vec![V4, V6]));
        let policy = || Err("spec.ipFamilyPolicy".to_owned());
        assert_eq!(families(&[], &[], Some("RequireDualStack"), &single), policy());
        assert_eq!(
            families(&[], &["IPv4", "IPv6"], Some("SingleStack"), &dual),
            policy()
        );
        assert_eq!(
            families(&[], &["IPv6"], None, &single),
            Err("spec.ipFamilies[0]".to_owned())
        );
        assert_eq!(
            families(&["10.0.0.1"], &["IPv6"], None, &dual),
            Err("spec.clusterIPs[0]".to_owned())
        );
    }
}
