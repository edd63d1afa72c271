//! Metadata over HTTP.

use std::sync::Arc;

use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::ApiError;
use crate::engine::Engine;
use crate::semantic;

#[derive(Debug, Object)]
pub struct Model {
    pub name: String,
    pub description: String,
    pub instructions: String,
    pub custom_instructions: String,
    pub example_questions: Vec<String>,
    pub synonyms: Vec<String>,
    pub datasets: Vec<String>,
    pub metrics: Vec<String>,
}

#[derive(Debug, Object)]
pub struct Dataset {
    pub model: String,
    pub name: String,
    /// How SQL names it.
    pub relation: String,
    /// Where its rows are; null where that is not configured.
    pub warehouse: Option<String>,
    /// What a query of this warehouse alone may be written in: `datafusion`, `postgresql` or `snowflake`.
    pub dialect: Option<String>,
    pub description: String,
    pub primary_key: Vec<String>,
    pub synonyms: Vec<String>,
    pub hints: Vec<String>,
    pub instructions: String,
    pub sensitivity: String,
    /// Whether you see only the rows that your claims open.
    pub has_row_filter: bool,
    pub filters: Vec<NamedFilter>,
    pub fields: Vec<Field>,
}

#[derive(Debug, Object)]
pub struct NamedFilter {
    pub name: String,
    pub expression: String,
    pub description: String,
    pub synonyms: Vec<String>,
}

#[derive(Debug, Object)]
pub struct Field {
    pub name: String,
    pub label: String,
    pub description: String,
    pub datatype: String,
    pub unit: String,
    pub min_value: Option<String>,
    pub max_value: Option<String>,
    pub nullable: Option<bool>,
    pub is_enum: bool,
    pub sample_values: Vec<String>,
    pub is_time: bool,
    pub time_grains: Vec<String>,
    pub default_aggregation: String,
    pub synonyms: Vec<String>,
    pub hints: Vec<String>,
    pub expression: String,
    pub sensitivity: String,
    pub pii: bool,
    /// Whether you see a mask instead of the values.
    pub is_masked: bool,
}

#[derive(Debug, Object)]
pub struct Metric {
    pub model: String,
    pub name: String,
    pub dataset: String,
    pub expression: String,
    pub description: String,
    pub datatype: String,
    pub unit: String,
    pub synonyms: Vec<String>,
    pub hints: Vec<String>,
}

#[derive(Debug, Object)]
pub struct Relationship {
    pub model: String,
    pub name: String,
    pub from_dataset: String,
    pub from_columns: Vec<String>,
    pub to_dataset: String,
    pub to_columns: Vec<String>,
    pub cardinality: String,
    pub description: String,
    pub hints: Vec<String>,
}

#[derive(Debug, Object)]
pub struct VerifiedQuery {
    pub model: String,
    pub name: String,
    pub question: String,
    pub sql: String,
    pub description: String,
    pub verified_by: String,
    pub verified_at: String,
}

#[derive(Debug, Object)]
pub struct LinkRequest {
    /// What you want to know, in words; at most 8,000 characters.
    pub question: String,
    /// Most tokens of the prompt; 100 to 100,000.
    #[oai(default = "default_budget")]
    pub budget_tokens: u32,
    /// Which form the answer takes; both unless given.
    #[oai(default)]
    pub format: LinkFormat,
}

fn default_budget() -> u32 {
    4_000
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum LinkFormat {
    /// Items alone; `prompt` stays empty.
    Json,
    /// Text for a prompt alone; `items` stays empty.
    Prompt,
    #[default]
    Both,
}

/// What a score is made of.
#[derive(Debug, Object)]
pub struct LinkScore {
    /// Words shared with names, synonyms, descriptions and values: 0 to 1, and 0.2 more for a name in full.
    pub words: f32,
    /// Likeness of meaning; 0 to 1.
    pub meaning: f32,
    /// Values that the question names.
    pub values: f32,
    /// Verified queries that ask something like it.
    pub queries: f32,
    /// What a dataset gains from the others of its model.
    pub company: f32,
}

/// A literal of the question that is a value of a field.
#[derive(Debug, Object)]
pub struct LinkedValue {
    pub field: String,
    pub value: String,
    /// As the question writes it.
    pub literal: String,
}

#[derive(Debug, Object)]
pub struct LinkedJoin {
    pub from_dataset: String,
    pub to_dataset: String,
    /// Equations of the ON clause, to be joined by AND.
    pub on: Vec<String>,
}

#[derive(Debug, Object)]
pub struct LinkItem {
    /// dataset, field, metric, relationship, verified_query, value or instructions.
    pub kind: String,
    pub model: String,
    pub name: String,
    /// Comparable among items of one kind.
    pub score: f32,
    pub score_parts: LinkScore,
    /// Why it is here.
    pub reasons: Vec<String>,
    pub text: String,
    pub tokens: u32,
    pub value: Option<LinkedValue>,
    pub join: Option<LinkedJoin>,
}

#[derive(Debug, Object)]
pub struct LinkedAction {
    /// api.operation
    pub name: String,
    pub summary: String,
    pub score: f64,
}

#[derive(Debug, Object)]
pub struct LinkAnswer {
    /// Kind by kind, best first within each.
    pub items: Vec<LinkItem>,
    /// The same as text, ready for a prompt: model by model.
    pub prompt: String,
    /// Tokens of the prompt.
    pub tokens: u32,
    /// The model whose tokenizer counted them; null: estimated, a token for every three characters.
    pub tokens_counted_by: Option<String>,
    /// Items that the budget left out.
    pub left_out: u32,
    /// `words+meaning`, or `words` while there are no vectors.
    pub ranked_by: String,
    /// Why meaning took no part in the ranking.
    pub note: Option<String>,
    /// External operations that may help.
    pub actions: Vec<LinkedAction>,
    /// Tables of API responses that you may query.
    pub responses: Vec<String>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/v1/semantic", tag = "ApiTag::Semantics")]
impl Api {
    /// List the semantic models.
    #[oai(path = "/models", method = "get", operation_id = "list_models")]
    async fn list_models(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        /// Words to search for.
        q: Query<Option<String>>,
    ) -> Result<Json<Vec<Model>>, ApiError> {
        let list = self.0.list_models(&caller.0, q.0.as_deref()).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.iter().map(|item| model(item)).collect()))
    }

    /// Fetch one semantic model.
    #[oai(path = "/models/:name", method = "get", operation_id = "get_model")]
    async fn get_model(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        name: Path<String>,
    ) -> Result<Json<Model>, ApiError> {
        let found = self.0.get_model(&caller.0, &name.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(model(&found)))
    }

    /// List the datasets that you may see, with their fields.
    #[oai(path = "/datasets", method = "get", operation_id = "list_datasets")]
    async fn list_datasets(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        /// Words to search for.
        q: Query<Option<String>>,
    ) -> Result<Json<Vec<Dataset>>, ApiError> {
        let list =
            self.0.list_datasets(&caller.0, q.0.as_deref()).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(|found| dataset(&self.0, found)).collect()))
    }

    /// Fetch one dataset with its fields; the name is model.dataset.
    #[oai(path = "/datasets/:name", method = "get", operation_id = "get_dataset")]
    async fn get_dataset(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        name: Path<String>,
    ) -> Result<Json<Dataset>, ApiError> {
        let found = self.0.get_dataset(&caller.0, &name.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(dataset(&self.0, found)))
    }

    /// List the metrics.
    #[oai(path = "/metrics", method = "get", operation_id = "list_metrics")]
    async fn list_metrics(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        /// Words to search for.
        q: Query<Option<String>>,
    ) -> Result<Json<Vec<Metric>>, ApiError> {
        let list =
            self.0.list_metrics(&caller.0, q.0.as_deref()).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(metric).collect()))
    }

    /// Fetch one metric.
    #[oai(path = "/metrics/:name", method = "get", operation_id = "get_metric")]
    async fn get_metric(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        name: Path<String>,
    ) -> Result<Json<Metric>, ApiError> {
        let found = self.0.get_metric(&caller.0, &name.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(metric(found)))
    }

    /// List how datasets join.
    #[oai(path = "/relationships", method = "get", operation_id = "list_relationships")]
    async fn list_relationships(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        /// Words to search for.
        q: Query<Option<String>>,
    ) -> Result<Json<Vec<Relationship>>, ApiError> {
        let list =
            self.0.list_relationships(&caller.0, q.0.as_deref()).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(relationship).collect()))
    }

    /// Fetch one relationship.
    #[oai(path = "/relationships/:name", method = "get", operation_id = "get_relationship")]
    async fn get_relationship(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        name: Path<String>,
    ) -> Result<Json<Relationship>, ApiError> {
        let found = self.0.get_relationship(&caller.0, &name.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(relationship(found)))
    }

    /// List questions with SQL that a person has verified.
    #[oai(path = "/verified_queries", method = "get", operation_id = "list_verified_queries")]
    async fn list_verified_queries(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        /// Words to search for.
        q: Query<Option<String>>,
    ) -> Result<Json<Vec<VerifiedQuery>>, ApiError> {
        let list = self
            .0
            .list_verified_queries(&caller.0, q.0.as_deref())
            .await
            .map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(verified_query).collect()))
    }

    /// Fetch one verified query.
    #[oai(path = "/verified_queries/:name", method = "get", operation_id = "get_verified_query")]
    async fn get_verified_query(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        name: Path<String>,
    ) -> Result<Json<VerifiedQuery>, ApiError> {
        let found =
            self.0.get_verified_query(&caller.0, &name.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(verified_query(found)))
    }

    /// Turn a question into the ranked context needed to write its SQL.
    #[oai(path = "/link", method = "post", operation_id = "link")]
    async fn link(
        &self,
        #[oai(scope = "ApiScope::SemanticRead")] caller: Caller,
        body: Json<LinkRequest>,
    ) -> Result<Json<LinkAnswer>, ApiError> {
        let LinkRequest { question, budget_tokens, format } = body.0;
        let answer = self
            .0
            .link(&caller.0, &question, budget_tokens as usize)
            .await
            .map_err(failed(&self.0, &caller.0))?;
        let link = answer.link;
        let items = if format == LinkFormat::Prompt { Vec::new() } else { link.items };
        Ok(Json(LinkAnswer {
            items: items.into_iter().map(link_item).collect(),
            prompt: if format == LinkFormat::Json { String::new() } else { link.prompt },
            tokens: small(link.tokens),
            tokens_counted_by: answer.counted_by,
            left_out: small(link.left_out),
            ranked_by: if link.by_meaning { "words+meaning" } else { "words" }.to_owned(),
            note: answer.note,
            actions: answer
                .actions
                .into_iter()
                .map(|(name, summary, score)| LinkedAction { name, summary, score })
                .collect(),
            responses: answer.responses.into_iter().map(|name| format!("responses.{name}")).collect(),
        }))
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn link_item(item: semantic::LinkedItem) -> LinkItem {
    let parts = item.parts;
    LinkItem {
        kind: item.kind.as_str().to_owned(),
        model: item.model,
        name: item.name,
        score: item.score,
        score_parts: LinkScore {
            words: parts.words,
            meaning: parts.meaning,
            values: parts.values,
            queries: parts.queries,
            company: parts.company,
        },
        reasons: item.reasons,
        text: item.text,
        tokens: small(item.tokens),
        value: item.value.map(|value| LinkedValue {
            field: value.field,
            value: value.value,
            literal: value.literal,
        }),
        join: item.join.map(|join| LinkedJoin { from_dataset: join.from, to_dataset: join.to, on: join.on }),
    }
}

fn model(item: &semantic::Model) -> Model {
    Model {
        name: item.name.clone(),
        description: item.description.clone(),
        instructions: item.ai_context.instructions.clone(),
        custom_instructions: item.custom_instructions.clone(),
        example_questions: item.ai_context.examples.clone(),
        synonyms: item.synonyms.clone(),
        datasets: item.datasets.iter().map(|dataset| format!("{}.{}", item.name, dataset.name)).collect(),
        metrics: item.metrics.iter().map(|metric| format!("{}.{}", item.name, metric.name)).collect(),
    }
}

fn dataset(engine: &Engine, (model, item): (String, semantic::Dataset)) -> Dataset {
    let (warehouse, dialect) = engine.home_of(&item).unzip();
    Dataset {
        warehouse,
        dialect: dialect.map(str::to_owned),
        relation: format!("{model}.{}", item.name),
        model,
        name: item.name,
        description: item.description,
        primary_key: item.primary_key,
        synonyms: item.synonyms,
        hints: item.hints,
        instructions: item.ai_context.instructions,
        sensitivity: item.sensitivity.as_str().to_owned(),
        has_row_filter: item.row_filter.is_some(),
        filters: item
            .filters
            .into_iter()
            .map(|filter| NamedFilter {
                expression: filter.expression.text().to_owned(),
                name: filter.name,
                description: filter.description,
                synonyms: filter.synonyms,
            })
            .collect(),
        fields: item.fields.into_iter().map(field).collect(),
    }
}

fn field(item: semantic::Field) -> Field {
    let (min_value, max_value) = item.range.map(|range| *range).unzip();
    let texts = |texts: ecow::EcoVec<ecow::EcoString>| texts.iter().map(ToString::to_string).collect();
    Field {
        expression: item.expression.text().to_owned(),
        name: item.name,
        label: item.label.into(),
        description: item.description.into(),
        datatype: item.datatype.into(),
        unit: item.unit.into(),
        min_value,
        max_value,
        nullable: item.nullable,
        is_enum: item.is_enum,
        sample_values: texts(item.sample_values),
        is_time: item.is_time,
        time_grains: texts(item.time_grains),
        default_aggregation: item.default_aggregation.into(),
        synonyms: texts(item.synonyms),
        hints: texts(item.hints),
        sensitivity: item.sensitivity.as_str().to_owned(),
        pii: item.pii,
        is_masked: item.is_masked,
    }
}

fn metric((model, item): (String, semantic::Metric)) -> Metric {
    Metric {
        model,
        expression: item.expression.text().to_owned(),
        name: item.name,
        dataset: item.dataset,
        description: item.description,
        datatype: item.datatype,
        unit: item.unit,
        synonyms: item.synonyms,
        hints: item.hints,
    }
}

fn relationship((model, item): (String, semantic::Relationship)) -> Relationship {
    Relationship {
        model,
        name: item.name,
        from_dataset: item.from,
        from_columns: item.from_columns,
        to_dataset: item.to,
        to_columns: item.to_columns,
        cardinality: item.cardinality,
        description: item.description,
        hints: item.hints,
    }
}

fn verified_query((model, item): (String, semantic::VerifiedQuery)) -> VerifiedQuery {
    VerifiedQuery {
        model,
        name: item.name,
        question: item.question,
        sql: item.sql,
        description: item.description,
        verified_by: item.verified_by,
        verified_at: item.verified_at,
    }
}
