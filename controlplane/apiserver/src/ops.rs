//! The operations on resources, as both transports ask for them: a resource path, query parameters and
//! a JSON body in; registry objects out. No HTTP here, and no authorization: both lie before, but for the [`Gate`]
//! that judges what a write makes.

mod options;

use crate::auth::gate::Gate;
use crate::http::query::Query;
use crate::http::request_info::ResourcePath;
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Binding, Namespace};
use skep_api::{ApiError, FieldSelector, ObjectKey, ResourceInfo, Subresource, gvr_of};
use skep_registry::{
    Admission, Deleted, GetOptions, ListOptions, NewObject, ObjectList, Patch, PatchKind, Registry, Scope,
    SharedObject, WatchStream, WriteOptions, Written,
};
use std::sync::Arc;

pub(crate) use options::watch_timeout;

/// What to do, with what of the request it needs.
pub(crate) enum Action {
    Get,
    List,
    Create(Bytes),
    Update(Bytes),
    Patch(PatchKind, Bytes),
    Delete(Bytes),
    DeleteCollection(Bytes),
}

/// What came of it.
pub(crate) enum Outcome {
    Object(SharedObject),
    List(ObjectList),
    Written(Written),
    Deleted(Deleted),
    /// Done, and nothing to show.
    Bound,
}

/// A resource that exists, and the path that led to it.
pub(crate) struct Operation<'a> {
    registry: &'a Registry,
    row: Arc<ResourceInfo>,
    path: &'a ResourcePath,
    query: &'a Query,
    subresource: Option<Subresource>,
    admission: Option<Arc<dyn Admission>>,
}

impl<'a> Operation<'a> {
    /// # Errors
    /// 404 where the path leads to no resource.
    pub(crate) fn new(
        registry: &'a Registry,
        path: &'a ResourcePath,
        query: &'a Query,
    ) -> Result<Self, ApiError> {
        let row = registry
            .table()
            .get(&path.resource)
            .ok_or_else(ApiError::unknown_path)?
            .clone();
        let subresource = match path.subresource.as_str() {
            "" => None,
            name => {
                let known = Subresource::parse(name).filter(|subresource| row.has(*subresource));
                Some(known.ok_or_else(ApiError::unknown_path)?)
            }
        };
        // A namespace lies in its own scope, where the request was authorized, and in no other.
        let own_scope = row.gvr == gvr_of::<Namespace>() && path.namespace == path.name;
        if (!row.namespaced && !own_scope && !path.namespace.is_empty()) || !path.rest.is_empty() {
            return Err(ApiError::unknown_path());
        }
        Ok(Self {
            registry,
            row,
            path,
            query,
            subresource,
            admission: None,
        })
    }

    /// Writes pass this gate, too.
    pub(crate) fn admitted_by(self, gate: Gate) -> Self {
        Self {
            admission: Some(Arc::new(gate)),
            ..self
        }
    }

    pub(crate) fn row(&self) -> &Arc<ResourceInfo> {
        &self.row
    }

    pub(crate) async fn run(&self, action: Action) -> Result<Outcome, ApiError> {
        match action {
            Action::Get => self.get().await.map(Outcome::Object),
            Action::List => self.list().await.map(Outcome::List),
            Action::Create(body) => self.create(body).await,
            Action::Update(body) => self.update(body).await.map(Outcome::Written),
            Action::Patch(kind, body) => self.patch(kind, body).await.map(Outcome::Written),
            Action::Delete(body) => self.delete(&body).await.map(Outcome::Deleted),
            Action::DeleteCollection(body) => self.delete_collection(&body).await.map(Outcome::List),
        }
    }

    async fn get(&self) -> Result<SharedObject, ApiError> {
        let options = GetOptions {
            version: options::read_version(self.query, false)?,
        };
        let key = self.key()?;
        match self.subresource {
            None => self.registry.get(&self.row.gvr, &key, &options).await,
            Some(subresource @ (Subresource::Status | Subresource::Scale)) => {
                self.registry
                    .get_subresource(&self.row.gvr, &key, subresource, &options)
                    .await
            }
            Some(_) => Err(self.not_allowed("get")),
        }
    }

    async fn list(&self) -> Result<ObjectList, ApiError> {
        self.registry
            .list(&self.row.gvr, &self.scope(), &self.list_options()?)
            .await
    }

    fn list_options(&self) -> Result<ListOptions, ApiError> {
        let mut options = options::list(self.query)?;
        self.narrow(&mut options.fields);
        Ok(options)
    }

    /// A collection request whose path names an object (`/api/v1/watch/pods/x` and the like) is about that
    /// object, for which it was authorized, whatever its field selector says.
    fn narrow(&self, fields: &mut FieldSelector) {
        if !self.path.name.is_empty() {
            let named = FieldSelector::equals("metadata.name", &self.path.name);
            fields.requirements.extend(named.requirements);
        }
    }

    /// The events of a watch.
    pub(crate) async fn watch(&self) -> Result<WatchStream, ApiError> {
        let mut options = options::watch(self.query)?;
        self.narrow(&mut options.fields);
        self.registry.watch(&self.row.gvr, &self.scope(), &options).await
    }

    /// `kind` names the options in errors.
    fn write_options(&self, kind: &str) -> Result<WriteOptions, ApiError> {
        let options = options::write(self.query, kind)?;
        Ok(WriteOptions {
            admission: self.admission.clone(),
            ..options
        })
    }

    async fn create(&self, body: Bytes) -> Result<Outcome, ApiError> {
        let options = self.write_options("CreateOptions")?;
        match self.subresource {
            None if self.path.name.is_empty() => {
                let namespace = self.collection_namespace()?;
                let object = NewObject::Json(body);
                self.registry
                    .create(&self.row.gvr, namespace, object, &options)
                    .await
                    .map(Outcome::Written)
            }
            Some(Subresource::Binding) => {
                let binding: Binding = decode(&body, "Binding")?;
                let key = self.key()?;
                self.registry
                    .bind(&key.namespace, &key.name, binding, &options)
                    .await?;
                Ok(Outcome::Bound)
            }
            _ => Err(self.not_allowed("create")),
        }
    }

    async fn update(&self, body: Bytes) -> Result<Written, ApiError> {
        let options = self.write_options("UpdateOptions")?;
        let object = NewObject::Json(body);
        self.registry
            .update(&self.row.gvr, &self.key()?, self.subresource, object, &options)
            .await
    }

    async fn patch(&self, kind: PatchKind, body: Bytes) -> Result<Written, ApiError> {
        let options = self.write_options("PatchOptions")?;
        let patch = Patch { kind, body };
        self.registry
            .patch(&self.row.gvr, &self.key()?, self.subresource, patch, &options)
            .await
    }

    async fn delete(&self, body: &[u8]) -> Result<Deleted, ApiError> {
        if self.subresource.is_some() {
            return Err(self.not_allowed("delete"));
        }
        let options = options::delete(self.query, body)?;
        self.registry.delete(&self.row.gvr, &self.key()?, &options).await
    }

    async fn delete_collection(&self, body: &[u8]) -> Result<ObjectList, ApiError> {
        let (list, options) = (self.list_options()?, options::delete(self.query, body)?);
        self.registry
            .delete_collection(&self.row.gvr, &self.scope(), &list, &options)
            .await
    }

    /// The object that the path names.
    fn key(&self) -> Result<ObjectKey, ApiError> {
        if self.path.name.is_empty() {
            return Err(self.not_allowed("this"));
        }
        if !self.row.namespaced {
            return Ok(ObjectKey::cluster(self.path.name.clone()));
        }
        let namespace = self.collection_namespace()?;
        Ok(ObjectKey::new(namespace, self.path.name.clone()))
    }

    /// The namespace of the collection that the path names; empty for cluster-scoped resources.
    fn collection_namespace(&self) -> Result<&str, ApiError> {
        match (self.row.namespaced, self.path.namespace.as_str()) {
            (false, _) => Ok(""),
            (true, "") => Err(self.not_allowed("this")),
            (true, namespace) => Ok(namespace),
        }
    }

    fn scope(&self) -> Scope {
        if self.row.namespaced {
            Scope::of(&self.path.namespace)
        } else {
            Scope::All
        }
    }

    fn not_allowed(&self, action: &str) -> ApiError {
        ApiError::method_not_supported(&self.row.gvr, action)
    }
}

/// Decodes a body whose kind is known.
///
/// # Errors
/// 400 where it is no such object.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(body: &[u8], kind: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body cannot be read as a {kind}: {error}")))
}
