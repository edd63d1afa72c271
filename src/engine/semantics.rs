//! Metadata operations: list, fetch, search, link.

use std::sync::Arc;

use super::{Context, Done, Engine, EngineError};
use crate::auth::Operation;
use crate::semantic::{
    Dataset, Diagnostic, Link, Metric, Model, Relationship, SearchIndex, VerifiedQuery, did_you_mean, link,
};

/// Linked context and the external operations that may help.
#[derive(Debug, Clone)]
pub struct LinkAnswer {
    pub link: Link,
    /// `(api.operation, summary, score)`, best first.
    pub actions: Vec<(String, String, f64)>,
    /// Tables of API responses that the caller may query.
    pub responses: Vec<String>,
}

/// A part of a model together with the model's name.
pub type Of<T> = (String, T);

impl Engine {
    pub async fn list_models(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Arc<Model>>, EngineError> {
        self.perform(context, Operation::ListModels, None, async {
            let models = self.models(context);
            Ok(listed(ranked(models, query, |model| {
                format!("{} {} {}", model.name, model.synonyms.join(" "), model.description)
            })))
        })
        .await
    }

    pub async fn get_model(&self, context: &Context, name: &str) -> Result<Arc<Model>, EngineError> {
        self.perform(context, Operation::GetModel, None, async {
            find("model", self.models(context), name, |model| model.name.clone())
        })
        .await
    }

    pub async fn list_datasets(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<Dataset>>, EngineError> {
        self.perform(context, Operation::ListDatasets, None, async {
            let text = |(model, dataset): &Of<Dataset>| {
                let fields: Vec<&str> = dataset.fields.iter().map(|field| field.name.as_str()).collect();
                let synonyms = dataset.synonyms.join(" ");
                format!("{model} {} {synonyms} {} {}", dataset.name, dataset.description, fields.join(" "))
            };
            Ok(listed(ranked(self.datasets(context), query, text)))
        })
        .await
    }

    /// `name` is `model.dataset`, or `dataset` where that is unique.
    pub async fn get_dataset(&self, context: &Context, name: &str) -> Result<Of<Dataset>, EngineError> {
        self.perform(context, Operation::GetDataset, None, async {
            find("dataset", self.datasets(context), name, |(model, dataset)| {
                format!("{model}.{}", dataset.name)
            })
        })
        .await
    }

    pub async fn list_metrics(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<Metric>>, EngineError> {
        self.perform(context, Operation::ListMetrics, None, async {
            let text = |(model, metric): &Of<Metric>| {
                format!("{model} {} {} {}", metric.name, metric.synonyms.join(" "), metric.description)
            };
            Ok(listed(ranked(self.parts(context, |model| &model.metrics), query, text)))
        })
        .await
    }

    pub async fn get_metric(&self, context: &Context, name: &str) -> Result<Of<Metric>, EngineError> {
        self.perform(context, Operation::GetMetric, None, async {
            find("metric", self.parts(context, |model| &model.metrics), name, |(model, metric)| {
                format!("{model}.{}", metric.name)
            })
        })
        .await
    }

    pub async fn list_relationships(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<Relationship>>, EngineError> {
        self.perform(context, Operation::ListRelationships, None, async {
            let text = |(model, link): &Of<Relationship>| {
                format!("{model} {} {} {} {}", link.name, link.from, link.to, link.description)
            };
            Ok(listed(ranked(self.parts(context, |model| &model.relationships), query, text)))
        })
        .await
    }

    pub async fn get_relationship(
        &self,
        context: &Context,
        name: &str,
    ) -> Result<Of<Relationship>, EngineError> {
        self.perform(context, Operation::GetRelationship, None, async {
            let all = self.parts(context, |model| &model.relationships);
            find("relationship", all, name, |(model, link)| format!("{model}.{}", link.name))
        })
        .await
    }

    pub async fn list_verified_queries(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<Of<VerifiedQuery>>, EngineError> {
        self.perform(context, Operation::ListVerifiedQueries, None, async {
            let text = |(model, verified): &Of<VerifiedQuery>| {
                format!("{model} {} {} {}", verified.name, verified.question, verified.description)
            };
            Ok(listed(ranked(self.parts(context, |model| &model.verified_queries), query, text)))
        })
        .await
    }

    pub async fn get_verified_query(
        &self,
        context: &Context,
        name: &str,
    ) -> Result<Of<VerifiedQuery>, EngineError> {
        self.perform(context, Operation::GetVerifiedQuery, None, async {
            let all = self.parts(context, |model| &model.verified_queries);
            find("verified query", all, name, |(model, verified)| format!("{model}.{}", verified.name))
        })
        .await
    }

    /// The context that an agent needs to write SQL for `question`, in about `budget_tokens` tokens.
    pub async fn link(
        &self,
        context: &Context,
        question: &str,
        budget_tokens: usize,
    ) -> Result<LinkAnswer, EngineError> {
        self.perform(context, Operation::Link, None, async {
            if question.trim().is_empty() {
                return Err(EngineError::InvalidInput(
                    "the question is empty; write what you want to know".to_owned(),
                ));
            }
            if !(100..=100_000).contains(&budget_tokens) {
                let message = format!("budget_tokens is {budget_tokens}; use 100 to 100,000");
                return Err(EngineError::InvalidInput(message));
            }
            let models = self.models(context);
            let asked = question.to_owned();
            let link = tokio::task::spawn_blocking(move || link(&models, &asked, budget_tokens)).await?;
            let may_list = Operation::ListActions.authorize(&context.principal, None).is_ok();
            let actions = if may_list { self.suggest_actions(question) } else { Vec::new() };
            let responses =
                self.response_tables(context).await?.into_iter().map(|table| table.name).collect();
            let rows = link.items.len();
            Ok(Done::new(LinkAnswer { link, actions, responses }).rows(rows))
        })
        .await
    }

    /// Findings of the last load, for the doors that show them to the operator.
    pub fn semantic_diagnostics(&self) -> Vec<Diagnostic> {
        self.served.catalog.diagnostics.clone()
    }

    pub(super) fn models(&self, context: &Context) -> Vec<Arc<Model>> {
        self.served.view(&context.principal).models.clone()
    }

    fn datasets(&self, context: &Context) -> Vec<Of<Dataset>> {
        self.parts(context, |model| &model.datasets)
    }

    fn parts<T: Clone>(&self, context: &Context, part: impl Fn(&Model) -> &Vec<T>) -> Vec<Of<T>> {
        let models = self.models(context);
        models
            .iter()
            .flat_map(|model| {
                part(model).iter().map(|item| (model.name.clone(), item.clone())).collect::<Vec<_>>()
            })
            .collect()
    }
}

fn listed<T>(items: Vec<T>) -> Done<Vec<T>> {
    let rows = items.len();
    Done::new(items).rows(rows)
}

/// All items, or those that share a word with `query`, best first.
fn ranked<T>(items: Vec<T>, query: Option<&str>, text: impl Fn(&T) -> String) -> Vec<T> {
    let Some(query) = query.filter(|query| !query.trim().is_empty()) else { return items };
    let mut index = SearchIndex::default();
    for item in &items {
        index.add(&[(&text(item), 1.0)]);
    }
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    index.search(query).into_iter().filter_map(|hit| items[hit.document].take()).collect()
}

fn find<T>(
    what: &'static str,
    items: Vec<T>,
    name: &str,
    full: impl Fn(&T) -> String,
) -> Result<Done<T>, EngineError> {
    let names: Vec<String> = items.iter().map(&full).collect();
    let is_named = |candidate: &String| {
        candidate == name
            || candidate.split_once('.').is_some_and(|(_, short)| short == name && !name.contains('.'))
    };
    let exact = names.iter().position(|candidate| candidate == name);
    let found: Vec<usize> = match exact {
        Some(position) => vec![position],
        None => names
            .iter()
            .enumerate()
            .filter(|(_, candidate)| is_named(candidate))
            .map(|(position, _)| position)
            .collect(),
    };
    match found.as_slice() {
        [position] => {
            let position = *position;
            let item = items.into_iter().nth(position).ok_or(EngineError::Interrupted)?;
            Ok(Done::new(item))
        }
        [] => {
            let help = did_you_mean(name, names.iter().map(String::as_str));
            let help = if help.is_empty() { help } else { format!("; {help}") };
            Err(EngineError::NotFound { what, name: name.to_owned(), help })
        }
        several => {
            let choices: Vec<&str> = several.iter().map(|position| names[*position].as_str()).collect();
            Err(EngineError::InvalidInput(format!(
                "`{name}` could be any of {}; write the full name",
                choices.join(", ")
            )))
        }
    }
}
