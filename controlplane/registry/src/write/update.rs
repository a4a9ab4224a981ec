//! Update: from a proposed state to the store, as often as races demand.

use skep_api::resource::DynObject;
use skep_api::validation;
use skep_api::{ApiError, GroupVersionResource, ObjectExt, ObjectKey, Revision, Subresource};

use super::create::validate;
use super::{ATTEMPTS, Attempt, Target, encode, metadata};
use crate::alloc::Claims;
use crate::body::{self, Proposed};
use crate::registry::Inner;
use crate::{NewObject, SharedObject, WriteOptions, Written};

/// What a write makes of the current state. May be asked again, of another state, after a lost race.
pub(super) type Propose<'a> = dyn Fn(&SharedObject) -> Result<Proposed, ApiError> + Send + Sync + 'a;

impl Inner {
    pub(crate) async fn update(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        subresource: Option<Subresource>,
        object: &NewObject,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let target = self.target(resource, key)?;
        check_subresource(&target, subresource, "update")?;
        if subresource == Some(Subresource::Scale) {
            return self.update_scale(&target, object, options).await;
        }
        let proposed = body::decode(&target.info, object, options.field_validation)?;
        let propose = |_: &SharedObject| {
            Ok(Proposed {
                object: proposed.object.clone_box(),
                warnings: proposed.warnings.clone(),
            })
        };
        let outcome = self.mutate(&target, subresource, options, &propose).await;
        let may_create = subresource.is_none() && target.info.create_on_update;
        let unconditional = proposed.object.resource_version().is_none() && proposed.object.uid().is_empty();
        match outcome {
            Err(error) if error.is_not_found() && may_create && unconditional => {
                let mut proposed = proposed;
                proposed.object.meta_mut().name = Some(key.name.clone());
                self.create_decoded(resource, &key.namespace, proposed, options)
                    .await
            }
            outcome => outcome,
        }
    }

    /// Writes what `propose` makes of the current state.
    pub(super) async fn mutate(
        &self,
        target: &Target,
        subresource: Option<Subresource>,
        options: &WriteOptions,
        propose: &Propose<'_>,
    ) -> Result<Written, ApiError> {
        let mut current = self.current(target).await?;
        for _ in 0..ATTEMPTS {
            let proposed = propose(&current)?;
            match self
                .replace(target, subresource, &current, proposed, options)
                .await
            {
                Ok(written) => return Ok(written),
                Err(Attempt::Lost(newer)) => current = newer,
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
        Err(ApiError::modified(target.resource(), &target.key.name))
    }

    async fn replace(
        &self,
        target: &Target,
        subresource: Option<Subresource>,
        current: &SharedObject,
        proposed: Proposed,
        options: &WriteOptions,
    ) -> Result<Written, Attempt> {
        let Proposed {
            object: mut new,
            warnings,
        } = proposed;
        let old = current.object();
        prepare(target, subresource, &mut *new, current)?;
        let written = |object| Written {
            object,
            warnings,
            created: false,
        };
        // The revision is the store's to give; with the old one in it, only real changes show.
        new.meta_mut()
            .resource_version
            .clone_from(&old.object_meta().resource_version);
        if new.equals(old) {
            return Ok(written(current.clone()));
        }
        options.admit(&*new, Some(old))?;
        let errors = check(target, subresource, &*new, old);
        if !errors.is_empty() {
            return Err(target.invalid(errors).into());
        }
        let strategy = self.strategies.of(&target.info);
        let claims = match subresource {
            None => {
                let wanted = new.clone_box();
                let claim = || {
                    new = wanted.clone_box();
                    strategy.claim(&mut *new, Some(old))
                };
                self.claim(target, options, claim).await?
            }
            Some(_) => None,
        };
        if options.dry_run {
            return Ok(written(SharedObject::unstored(new).map_err(ApiError::internal)?));
        }
        let released = metadata::is_released(new.object_meta()) && !strategy.is_held(&*new);
        if released {
            let removed = self
                .store
                .delete(&target.store_key, Some(current.revision().0))
                .await;
            self.give_back(claims).await;
            let (revision, _) = removed.map_err(|error| self.lost(target, error))?;
            let value = encode(&mut *new)?;
            return Ok(written(SharedObject::new(&value, new, Revision(revision))));
        }
        let object = self.swap(target, current, new, claims).await?;
        Ok(written(object))
    }

    /// Writes the new state if the current one is still the last.
    pub(super) async fn swap(
        &self,
        target: &Target,
        current: &SharedObject,
        mut new: Box<dyn DynObject>,
        claims: Option<Claims>,
    ) -> Result<SharedObject, Attempt> {
        let value = encode(&mut *new)?;
        let swapped = self
            .store
            .compare_and_swap(&target.store_key, current.revision().0, value.clone())
            .await;
        self.settle(claims, swapped.as_ref().err()).await;
        let revision = swapped.map_err(|failure| self.lost(target, failure))?;
        Ok(SharedObject::new(&value, new, Revision(revision)))
    }
}

/// Refuses subresources that the kind does not have.
pub(super) fn check_subresource(
    target: &Target,
    subresource: Option<Subresource>,
    action: &str,
) -> Result<(), ApiError> {
    match subresource {
        None => Ok(()),
        Some(subresource) if !target.info.has(subresource) => Err(ApiError::unknown_path()),
        Some(Subresource::Binding) => Err(ApiError::method_not_supported(target.resource(), action)),
        Some(_) => Ok(()),
    }
}

/// Checks preconditions and brings the proposed state in the form in which it would be stored.
fn prepare(
    target: &Target,
    subresource: Option<Subresource>,
    new: &mut dyn DynObject,
    current: &SharedObject,
) -> Result<(), ApiError> {
    let old = current.object();
    let name = &target.key.name;
    if let Some(expected) = metadata::expected_revision(new.object_meta())?
        && expected != current.revision()
    {
        return Err(ApiError::modified(target.resource(), name));
    }
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        );
        return Err(ApiError::conflict(target.resource(), name, &why));
    }
    metadata::carry(new.meta_mut(), old.object_meta(), &target.key)?;
    new.set_defaults();
    match subresource {
        None | Some(Subresource::Scale) => new.prepare_update(old),
        // Made here, not by a client.
        Some(Subresource::Binding) => {}
        Some(Subresource::Status) => {
            new.prepare_status_update(old);
            new.meta_mut()
                .owner_references
                .clone_from(&old.object_meta().owner_references);
        }
        Some(Subresource::Finalize) => new.prepare_finalize(old),
    }
    // A pod's node is not a wish of its author.
    if subresource != Some(Subresource::Binding) && new.spec_changed(old) == Some(true) {
        metadata::raise_generation(new.meta_mut());
    }
    Ok(())
}

fn check(
    target: &Target,
    subresource: Option<Subresource>,
    new: &dyn DynObject,
    old: &dyn DynObject,
) -> Vec<skep_api::FieldError> {
    let mut errors = validate(&target.info, new);
    errors.extend(validation::meta::validate_update(
        new.object_meta(),
        old.object_meta(),
    ));
    // A binding changes what no client may, and nothing else.
    if subresource != Some(Subresource::Binding) {
        errors.extend(new.validate_update(old));
    }
    errors
}
