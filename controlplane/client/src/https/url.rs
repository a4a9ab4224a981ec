//! From a request to its URL.

use std::fmt;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{ApiRequest, ConfigError};

/// Unreserved characters (RFC 3986 §2.3) stay as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The server's address without a trailing slash.
#[derive(Clone, Debug)]
pub(super) struct BaseUrl {
    text: String,
    host: String,
}

impl BaseUrl {
    pub(super) fn parse(server: &str) -> Result<Self, ConfigError> {
        let refuse = |problem: String| ConfigError::Server {
            server: server.to_owned(),
            problem,
        };
        let text = server.trim_end_matches('/');
        let uri: Uri = text
            .parse()
            .map_err(|error: http::uri::InvalidUri| refuse(error.to_string()))?;
        if uri.scheme_str() != Some("https") {
            return Err(refuse("only https:// is spoken".to_owned()));
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| refuse("it names no host".to_owned()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self {
            text: text.to_owned(),
            host,
        })
    }

    /// The host without an IPv6 address's brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn path(&self, path: &str) -> String {
        format!("{}/{}", self.text, path.trim_start_matches('/'))
    }

    /// `/api/v1/namespaces/default/pods/web-0/status?…`
    pub(super) fn resource(&self, request: &ApiRequest) -> String {
        let resource = &request.resource;
        let mut url = self.text.clone();
        if resource.group.is_empty() {
            url.push_str("/api");
        } else {
            segment(&mut url, "apis");
            segment(&mut url, &resource.group);
        }
        segment(&mut url, &resource.version);
        if let Some(namespace) = &request.namespace {
            segment(&mut url, "namespaces");
            segment(&mut url, namespace);
        }
        segment(&mut url, &resource.resource);
        for part in [&request.name, &request.subresource].into_iter().flatten() {
            segment(&mut url, part);
        }
        let watch = matches!(request.verb, crate::Verb::Watch).then_some(("watch", "true"));
        let query = request
            .query
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (i, (name, value)) in watch.into_iter().chain(query).enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.extend(utf8_percent_encode(name, ENCODED));
            url.push('=');
            url.extend(utf8_percent_encode(value, ENCODED));
        }
        url
    }
}

fn segment(url: &mut String, segment: &str) {
    url.push('/');
    url.extend(utf8_percent_encode(segment, ENCODED));
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{Node, Pod};

    use super::*;
    use crate::Verb;

    #[test]
    fn resources_have_the_api_s_paths() {
        let base = BaseUrl::parse("https://10.0.0.1:6443/").unwrap();
        let request = ApiRequest::of::<Pod>(Verb::Get)
            .namespace("default")
            .name("web-0")
            .subresource("status");
        assert_eq!(
            base.resource(&request),
            "https://10.0.0.1:6443/api/v1/namespaces/default/pods/web-0/status"
        );
        let request = ApiRequest::of::<Deployment>(Verb::Watch).query("labelSelector", "a in (b,c)");
        assert_eq!(
            base.resource(&request),
            "https://10.0.0.1:6443/apis/apps/v1/deployments?watch=true&labelSelector=a%20in%20%28b%2Cc%29"
        );
        let request = ApiRequest::of::<Node>(Verb::Get).name("../../secrets");
        assert_eq!(
            base.resource(&request),
            "https://10.0.0.1:6443/api/v1/nodes/..%2F..%2Fsecrets"
        );
    }

    #[test]
    fn host_is_bare_and_a_path_stays() {
        let base = BaseUrl::parse("https://[::1]:6443/k8s/").unwrap();
        assert_eq!(base.host(), "::1");
        assert_eq!(base.path("/healthz"), "https://[::1]:6443/k8s/healthz");
    }

    #[test]
    fn addresses_without_tls_or_host_are_refused() {
        for server in ["http://10.0.0.1", "10.0.0.1:6443", "https://", ""] {
            assert!(BaseUrl::parse(server).is_err(), "{server}");
        }
    }
}
