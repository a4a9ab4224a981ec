//! `/healthz`, `/livez`, `/readyz`, each with `?verbose` and `/<check>`.

use crate::http::Response;
use crate::http::query::Query;
use crate::http::reply;
use http::StatusCode;

/// A named condition of the server's health.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
}

/// Whether a path is one of the health endpoints.
pub(crate) fn is_health(path: &str) -> bool {
    endpoint(path).is_some()
}

fn endpoint(path: &str) -> Option<(&str, Option<&str>)> {
    let (endpoint, check) = match path.strip_prefix('/')?.split_once('/') {
        Some((endpoint, check)) => (endpoint, Some(check)),
        None => (path.strip_prefix('/')?, None),
    };
    matches!(endpoint, "healthz" | "livez" | "readyz").then_some((endpoint, check))
}

/// The answer, in upstream's form. `exclude` leaves checks out.
pub(crate) fn answer(path: &str, query: &Query, checks: &[Check]) -> Response {
    let Some((endpoint, only)) = endpoint(path) else {
        return reply::text(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let asked: Vec<&Check> = checks
        .iter()
        .filter(|check| only.is_none_or(|only| only == check.name))
        .filter(|check| !query.all("exclude").any(|name| name == check.name))
        .collect();
    if only.is_some() && asked.is_empty() {
        return reply::text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let healthy = asked.iter().all(|check| check.ok);
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let verbose = query.all("verbose").next().is_some();
    if healthy && !verbose {
        return reply::text(status, "ok");
    }
    let mut text = String::new();
    for check in asked {
        text.push_str(&match check.ok {
            true => format!("[+]{} ok\n", check.name),
            false => format!("[-]{} failed: reason withheld\n", check.name),
        });
    }
    text.push_str(&format!(
        "{endpoint} check {}\n",
        if healthy { "passed" } else { "failed" }
    ));
    reply::text(status, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(uri: &str, ok: bool) -> (u16, String) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let response = answer(
            path,
            &Query::parse(query),
            &[
                Check {
                    name: "ping",
                    ok: true,
                },
                Check { name: "store", ok },
            ],
        );
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn health_reads_as_upstream() {
        assert_eq!(get("/healthz", true).await, (200, "ok".into()));
        assert_eq!(
            get("/readyz?verbose", true).await,
            (200, "[+]ping ok\n[+]store ok\nreadyz check passed\n".into())
        );
        let failed = "[+]ping ok\n[-]store failed: reason withheld\nlivez check failed\n";
        assert_eq!(get("/livez", false).await, (500, failed.into()));
        assert_eq!(get("/livez/ping", false).await, (200, "ok".into()));
        assert_eq!(get("/livez?exclude=store", false).await, (200, "ok".into()));
        assert_eq!(get("/livez/absent", true).await.0, 404);
        assert!(!is_health("/health"));
    }
}
