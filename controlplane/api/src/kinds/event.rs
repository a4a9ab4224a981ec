//! `Event` of the core group.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::ObjectExt;
use crate::error::FieldError;
use crate::print;
use crate::resource::{Column, Kind, Row};

/// How long an event is kept after it was last seen; upstream's `--event-ttl`.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

impl Kind for Event {
    const ROW: Row = Row {
        singular: "event",
        short_names: &["ev"],
        columns: &[
            Column::string(
                "Last Seen",
                "The time at which the most recent occurrence of this event was recorded.",
            ),
            Column::string(
                "Type",
                "Type of this event (Normal, Warning), new types could be added in the future",
            ),
            Column::string(
                "Reason",
                "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
            ),
            Column::string("Object", "The object that this event is about."),
            Column::string("Subobject", "The field of the object that this event is about.").wide(),
            Column::string(
                "Source",
                "The component reporting this event. Should be a short machine understandable string.",
            )
            .wide(),
            Column::string(
                "Message",
                "A human-readable description of the status of this operation.",
            ),
            Column::string("First Seen", "The time at which the event was first recorded.").wide(),
            Column::integer("Count", "The number of times this event has occurred.").wide(),
            Column {
                priority: 1,
                ..Column::NAME
            },
        ],
        create_on_update: true,
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        // Upstream shows the empty source as an object.
        self.source.get_or_insert_default();
    }

    fn validate(&self) -> Vec<FieldError> {
        let about = self.involved_object.namespace.as_deref().unwrap_or("");
        let right = match about {
            "" => matches!(self.namespace(), "" | "default"),
            about => about == self.namespace(),
        };
        if right {
            return Vec::new();
        }
        vec![FieldError::invalid(
            "involvedObject.namespace",
            about,
            "does not match event.namespace",
        )]
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        let object = &self.involved_object;
        let source = self
            .source
            .as_ref()
            .and_then(|source| source.component.as_deref());
        let text = match field {
            "involvedObject.kind" => object.kind.as_deref(),
            "involvedObject.namespace" => object.namespace.as_deref(),
            "involvedObject.name" => object.name.as_deref(),
            "involvedObject.uid" => object.uid.as_deref(),
            "involvedObject.apiVersion" => object.api_version.as_deref(),
            "involvedObject.resourceVersion" => object.resource_version.as_deref(),
            "involvedObject.fieldPath" => object.field_path.as_deref(),
            "reason" => self.reason.as_deref(),
            "reportingComponent" => self.reporting_component.as_deref(),
            "source" => source.or(self.reporting_component.as_deref()),
            "type" => self.type_.as_deref(),
            _ => return None,
        };
        Some(Cow::Borrowed(text.unwrap_or("")))
    }

    fn expires_at(&self) -> Option<Timestamp> {
        let times = [&self.metadata.creation_timestamp, &self.last_timestamp];
        let series = self
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        let seen = times
            .into_iter()
            .flatten()
            .map(|time| time.0)
            .chain(series.map(|time| time.0))
            .max()?;
        seen.checked_add(KEPT).ok()
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let of_time = self.event_time.as_ref().map(|time| Time(time.0));
        let first = self.first_timestamp.clone().or_else(|| of_time.clone());
        let series = self
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        let last = series
            .map(|time| Time(time.0))
            .or_else(|| self.last_timestamp.clone())
            .or_else(|| first.clone());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let counted = self
            .series
            .as_ref()
            .and_then(|series| series.count)
            .or(self.count);
        vec![
            print::since(last.as_ref(), now).into(),
            text(&self.type_).into(),
            text(&self.reason).into(),
            target(&self.involved_object).into(),
            text(&self.involved_object.field_path).into(),
            source(self).into(),
            text(&self.message).trim().into(),
            print::since(first.as_ref(), now).into(),
            counted.unwrap_or(0).max(1).into(),
            self.name().into(),
        ]
    }
}

/// `pod/web`.
fn target(object: &ObjectReference) -> String {
    let kind = object.kind.as_deref().unwrap_or("").to_lowercase();
    match object.name.as_deref().unwrap_or("") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Event) -> String {
    let from = event.source.clone().unwrap_or_default();
    let component = from.component.filter(|component| !component.is_empty());
    let component = component
        .or_else(|| event.reporting_component.clone())
        .unwrap_or_default();
    let host = from
        .host
        .filter(|host| !host.is_empty())
        .or_else(|| event.reporting_instance.clone());
    match host.filter(|host| !host.is_empty()) {
        Some(host) => format!("{component}, {host}"),
        None => component,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_read_as_upstream() {
        let event: Event = serde_json::from_value(json!({
            "metadata": {"name": "web.1", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default", "fieldPath": "spec.containers{c}"},
            "type": "Normal", "reason": "Pulled", "message": " pulled \n", "count": 3,
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z",
            "source": {"component": "kubelet", "host": "n1"},
        }))
        .unwrap();
        let now = Timestamp::from_second(70).unwrap();
        assert_eq!(
            Value::Array(event.cells(now)),
            json!([
                "10s",
                "Normal",
                "Pulled",
                "pod/web",
                "spec.containers{c}",
                "kubelet, n1",
                "pulled",
                "70s",
                3,
                "web.1"
            ])
        );
        assert_eq!(event.cells(now).len(), Event::ROW.columns.len());
        assert!(Kind::validate(&event).is_empty());
        assert_eq!(event.expires_at(), Some(Timestamp::from_second(3660).unwrap()));
    }
}
