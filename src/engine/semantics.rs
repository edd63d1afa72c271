//! Metadata operations: list, fetch, search.

use std::sync::Arc;

use super::{Context, Done, Engine, EngineError};
use crate::auth::Operation;
use crate::semantic::{
    Dataset, Diagnostic, Match, Metric, Model, Relationship, Thing, VerifiedQuery, did_you_mean,
};

/// A part of a model together with the model's name.
pub type Of<T> = (String, T);

impl Engine {
    pub async fn list_models(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Arc<Model>>, EngineError> {
        self.perform(context, Operation::ListModels, None, async {
            let found = self.matching(context, query, |hit| match hit.thing {
                Thing::Model => Some(hit.model.clone()),
                _ => None,
            });
            Ok(listed(match found.await? {
                Some(found) => found,
                None => self.models(context),
            }))
        })
        .await
    }

    pub async fn get_model(&self, context: &Context, name: &str) -> Result<Arc<Model>, EngineError> {
        self.perform(context, Operation::GetModel, None, async {
            let models = self.models(context);
            let all = models.iter().map(|model| (model.name.as_str(), "", model));
            Ok(Done::new(find("model", all, name)?.clone()))
        })
        .await
    }

    /// With a query, datasets that match by themselves or by one of their fields.
    pub async fn list_datasets(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<Dataset>>, EngineError> {
        self.perform(context, Operation::ListDatasets, None, async {
            let Some(query) = words(query) else {
                return Ok(listed(self.parts(context, |model| &model.datasets)));
            };
            let view = self.view(context);
            let search = move || {
                let found = view.finder().datasets(&query);
                found.into_iter().map(|(model, dataset)| (model.name.clone(), dataset.clone())).collect()
            };
            Ok(listed(tokio::task::spawn_blocking(search).await?))
        })
        .await
    }

    /// The warehouse that a dataset lives in, and the dialect of SQL that runs there; nothing where it is not configured.
    pub fn home_of(&self, dataset: &Dataset) -> Option<(String, &'static str)> {
        self.warehouses.shown(dataset)
    }

    /// `name` is `model.dataset`, or `dataset` where that is unique.
    pub async fn get_dataset(&self, context: &Context, name: &str) -> Result<Of<Dataset>, EngineError> {
        self.perform(context, Operation::GetDataset, None, async {
            self.part(context, "dataset", name, |model| &model.datasets, |dataset| &dataset.name)
        })
        .await
    }

    pub async fn list_metrics(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<Metric>>, EngineError> {
        self.perform(context, Operation::ListMetrics, None, async {
            let found = self.matching(context, query, |hit| match hit.thing {
                Thing::Metric(metric) => Some((hit.model.name.clone(), metric.clone())),
                _ => None,
            });
            Ok(listed(match found.await? {
                Some(found) => found,
                None => self.parts(context, |model| &model.metrics),
            }))
        })
        .await
    }

    pub async fn get_metric(&self, context: &Context, name: &str) -> Result<Of<Metric>, EngineError> {
        self.perform(context, Operation::GetMetric, None, async {
            self.part(context, "metric", name, |model| &model.metrics, |metric| &metric.name)
        })
        .await
    }

    pub async fn list_relationships(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<Relationship>>, EngineError> {
        self.perform(context, Operation::ListRelationships, None, async {
            let found = self.matching(context, query, |hit| match hit.thing {
                Thing::Relationship(link) => Some((hit.model.name.clone(), link.clone())),
                _ => None,
            });
            Ok(listed(match found.await? {
                Some(found) => found,
                None => self.parts(context, |model| &model.relationships),
            }))
        })
        .await
    }

    pub async fn get_relationship(
        &self,
        context: &Context,
        name: &str,
    ) -> Result<Of<Relationship>, EngineError> {
        self.perform(context, Operation::GetRelationship, None, async {
            self.part(context, "relationship", name, |model| &model.relationships, |link| &link.name)
        })
        .await
    }

    pub async fn list_verified_queries(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<VerifiedQuery>>, EngineError> {
        self.perform(context, Operation::ListVerifiedQueries, None, async {
            let found = self.matching(context, query, |hit| match hit.thing {
                Thing::VerifiedQuery(verified) => Some((hit.model.name.clone(), verified.clone())),
                _ => None,
            });
            Ok(listed(match found.await? {
                Some(found) => found,
                None => self.parts(context, |model| &model.verified_queries),
            }))
        })
        .await
    }

    pub async fn get_verified_query(
        &self,
        context: &Context,
        name: &str,
    ) -> Result<Of<VerifiedQuery>, EngineError> {
        self.perform(context, Operation::GetVerifiedQuery, None, async {
            self.part(context, "verified query", name, |model| &model.verified_queries, |query| &query.name)
        })
        .await
    }

    /// Findings of the last load, for the doors that show them to the operator.
    pub fn semantic_diagnostics(&self) -> Vec<Diagnostic> {
        self.served.load().catalog.diagnostics.clone()
    }

    pub(super) fn models(&self, context: &Context) -> Vec<Arc<Model>> {
        self.view(context).models.clone()
    }

    fn parts<T: Clone>(&self, context: &Context, part: impl Fn(&Model) -> &Vec<T>) -> Vec<Of<T>> {
        let models = self.models(context);
        models
            .iter()
            .flat_map(|model| {
                part(model).iter().map(move |item| (model.name.clone(), item.clone())).collect::<Vec<_>>()
            })
            .collect()
    }

    /// What matches `query`, best first; nothing where there is no query.
    async fn matching<T: Send + 'static>(
        &self,
        context: &Context,
        query: Option<&str>,
        pick: impl Fn(Match<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Option<Vec<T>>, EngineError> {
        let Some(query) = words(query) else { return Ok(None) };
        let view = self.view(context);
        let search = move || view.finder().search(&query).filter_map(pick).collect();
        Ok(Some(tokio::task::spawn_blocking(search).await?))
    }

    /// The one part of this name, `model.name` or `name` where that is unique.
    fn part<T: Clone>(
        &self,
        context: &Context,
        what: &'static str,
        name: &str,
        part: impl Fn(&Model) -> &Vec<T>,
        own_name: impl Fn(&T) -> &String,
    ) -> Result<Done<Of<T>>, EngineError> {
        let models = self.models(context);
        let own_name = &own_name;
        let all = models.iter().flat_map(|model| {
            part(model).iter().map(move |item| (model.name.as_str(), own_name(item).as_str(), (model, item)))
        });
        let (model, item) = find(what, all, name)?;
        Ok(Done::new((model.name.clone(), item.clone())))
    }
}

/// The words of a search, if there are any.
fn words(query: Option<&str>) -> Option<String> {
    query.filter(|query| !query.trim().is_empty()).map(str::to_owned)
}

fn listed<T>(items: Vec<T>) -> Done<Vec<T>> {
    let rows = items.len();
    Done::new(items).rows(rows)
}

/// The item called `name` among `(model, own name, item)`, where the model itself has no second name.
fn find<'m, T>(
    what: &'static str,
    items: impl Iterator<Item = (&'m str, &'m str, T)>,
    name: &str,
) -> Result<T, EngineError> {
    let full =
        |model: &str, own: &str| if own.is_empty() { model.to_owned() } else { format!("{model}.{own}") };
    let is_full = |model: &str, own: &str| match own {
        "" => name == model,
        own => name.strip_prefix(model).and_then(|rest| rest.strip_prefix('.')) == Some(own),
    };
    let (mut known, mut found, mut exact) = (Vec::new(), Vec::new(), None);
    for (model, own, item) in items {
        if is_full(model, own) && exact.is_none() {
            exact = Some(item);
        } else if own == name {
            found.push((full(model, own), item));
        }
        known.push((model, own));
    }
    if let Some(item) = exact {
        return Ok(item);
    }
    match found.len() {
        1 => found.pop().map(|(_, item)| item).ok_or(EngineError::Interrupted),
        0 => {
            let names: Vec<String> = known.iter().map(|(model, own)| full(model, own)).collect();
            let help = did_you_mean(name, names.iter().map(String::as_str));
            let help = if help.is_empty() { help } else { format!("; {help}") };
            Err(EngineError::NotFound { what, name: name.to_owned(), help })
        }
        _ => {
            let choices: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!("`{name}` could be any of {}; write the full name", choices.join(", "));
            Err(EngineError::InvalidInput(message))
        }
    }
}
