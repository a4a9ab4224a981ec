//! The kinds that are compiled in: one file and one line of [`all`] each.

mod cluster_role;
mod cluster_role_binding;
mod config_map;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod pod;
mod pod_spec;
mod rbac_rules;
mod replica_set;
mod role;
mod role_binding;
mod scale;
mod secret;
mod service;
mod service_account;

use k8s_openapi::api::{apps, coordination, core, discovery, rbac};

use crate::resource::ResourceInfo;

/// Every compiled-in kind, the core group first.
pub(crate) fn all() -> Vec<ResourceInfo> {
    vec![
        ResourceInfo::of::<core::v1::ConfigMap>(),
        ResourceInfo::of::<core::v1::Endpoints>(),
        ResourceInfo::of::<core::v1::Event>(),
        ResourceInfo::of::<core::v1::Namespace>(),
        ResourceInfo::of::<core::v1::Node>(),
        ResourceInfo::of::<core::v1::Pod>(),
        ResourceInfo::of::<core::v1::Secret>(),
        ResourceInfo::of::<core::v1::Service>(),
        ResourceInfo::of::<core::v1::ServiceAccount>(),
        ResourceInfo::of::<apps::v1::Deployment>(),
        ResourceInfo::of::<apps::v1::ReplicaSet>(),
        ResourceInfo::of::<coordination::v1::Lease>(),
        ResourceInfo::of::<discovery::v1::EndpointSlice>(),
        ResourceInfo::of::<rbac::v1::ClusterRole>(),
        ResourceInfo::of::<rbac::v1::ClusterRoleBinding>(),
        ResourceInfo::of::<rbac::v1::Role>(),
        ResourceInfo::of::<rbac::v1::RoleBinding>(),
    ]
}
