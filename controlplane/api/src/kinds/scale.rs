//! `autoscaling/v1 Scale`: the body of the `scale` subresource. It is not stored and has no row of the table.

use k8s_openapi::api::autoscaling::v1::Scale;

use crate::resource::{Kind, Row};

impl Kind for Scale {
    const ROW: Row = Row {
        singular: "scale",
        ..Row::DEFAULT
    };
}
