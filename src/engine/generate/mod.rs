//! From a question to SQL that passes: verified query, or link → language model → guard and plan → bounded repair.
//!
//! G1 SQL is handed out only after the same check that `sql_check` makes for this caller: what the model wrote, and
//! whatever talked it into that, widens nothing.  G2 the model is told what this caller may see, and no more.
//! G3 what the model cost is audited, whatever came of it.

mod prompt;
mod reply;
mod verified;

use serde_json::{Value, json};

use super::namespace::{ACTIONS, INFORMATION_SCHEMA, RESPONSES, SEMANTIC};
use super::{Context, Done, Engine, EngineError, LinkAnswer, SqlCheck};
use crate::auth::Operation;
use crate::error::ErrorKind;
use crate::llm::{LlmError, Usage};
use crate::semantic::LinkedKind;
use prompt::Relations;
use reply::Reply;

/// Longest question, in characters.
pub const MAX_QUESTION_CHARACTERS: usize = 4_000;
/// Range of [`GenerateRequest::budget_tokens`].
const BUDGET_TOKENS: std::ops::RangeInclusive<usize> = 400..=100_000;
/// Of an answer in no form, so much goes back to the model, in characters.
const QUOTED_CHARACTERS: usize = 2_000;

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    pub question: String,
    /// Most tokens of the linked context, estimated from above; 400 to 100,000.
    pub budget_tokens: usize,
}

/// How far a generation has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Looking for what the question is about.
    Linking,
    /// The language model writes; from 1.
    Asking { attempt: u32 },
    /// The guard reads what it wrote.
    Checking,
    /// It did not pass; from 1.
    Repairing { repair: u32, reason: String },
}

/// What came of a question.
#[derive(Debug, Clone)]
pub struct Generation {
    pub answer: GeneratedAnswer,
    pub spent: Spent,
}

/// Checked SQL, or why there is none.
#[derive(Debug, Clone)]
pub enum GeneratedAnswer {
    Sql(Box<GeneratedSql>),
    /// The data that the caller may see does not hold the answer.
    NotAnswerable {
        missing: Vec<String>,
        explanation: String,
    },
}

/// SQL that passed the guard and was planned.
#[derive(Debug, Clone)]
pub struct GeneratedSql {
    /// As it was written, to be run as it is.
    pub sql: String,
    pub check: SqlCheck,
    /// In the model's words; a verified query's description.
    pub explanation: String,
    pub verified_query: Option<Provenance>,
}

/// The verified query behind an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// `model.query`
    pub name: String,
    /// True: this is its SQL. False: the language model says that it began from there.
    pub is_exact: bool,
}

/// What a generation took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// The language model that was asked, if one was.
    pub model: Option<String>,
    /// Where the endpoint counts.
    pub usage: Option<Usage>,
    pub repairs: u32,
}

impl Spent {
    /// For the audit: numbers first, so that they are never cut.
    pub(super) fn audit_text(&self, relations: &[String]) -> String {
        let mut text = match (&self.model, self.usage) {
            (None, _) => String::new(),
            (Some(model), usage) => {
                let Usage { prompt_tokens, completion_tokens } = usage.unwrap_or_default();
                let repairs = self.repairs;
                format!(
                    "prompt_tokens={prompt_tokens} completion_tokens={completion_tokens} repairs={repairs} model={model} "
                )
            }
        };
        text.push_str(&relations.join(","));
        text.trim_end().to_owned()
    }
}

impl Engine {
    /// Generates SQL for a question in words. The SQL has passed the guard and the planner, and nothing has run.
    /// `progress` is called at each step, from the first on that may take long. Dropping the future ends it.
    pub async fn sql_generate(
        &self,
        context: &Context,
        request: &GenerateRequest,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Generation, EngineError> {
        self.perform(context, Operation::SqlGenerate, None, async {
            let mut spent = Spent::default();
            match self.generate(context, request, progress, &mut spent).await {
                Ok(answer) => {
                    let relations = match &answer {
                        GeneratedAnswer::Sql(found) => found.check.relations.as_slice(),
                        GeneratedAnswer::NotAnswerable { .. } => &[],
                    };
                    let touched = Some(spent.audit_text(relations));
                    Ok(Done { touched, ..Done::new(Generation { answer, spent }) })
                }
                Err(cause) if spent.model.is_some() => {
                    Err(EngineError::Generation { spent, cause: Box::new(cause) })
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn generate(
        &self,
        context: &Context,
        request: &GenerateRequest,
        progress: &(dyn Fn(Progress) + Send + Sync),
        spent: &mut Spent,
    ) -> Result<GeneratedAnswer, EngineError> {
        check_request(request)?;
        let question = request.question.trim();
        if let Some(answer) = self.verified(context, question).await? {
            return Ok(answer);
        }
        let Some(llm) = &self.llm else {
            let (found, _) = self.generation_context(context, question, request.budget_tokens).await?;
            return Err(EngineError::NoLanguageModel { context: Box::new(found) });
        };
        let _place = llm.admit(context.principal.client_id.as_str())?;
        progress(Progress::Linking);
        let (found, link) = self.generation_context(context, question, request.budget_tokens).await?;
        let (form, deadline) = (prompt::form(), llm.deadline());
        let mut messages = prompt::opening(question, &found);
        spent.model = Some(llm.config().model.clone());
        loop {
            progress(Progress::Asking { attempt: spent.repairs + 1 });
            let completion = llm.complete(&messages, &form, deadline).await?;
            if let Some(usage) = completion.usage {
                spent.usage.get_or_insert_default().add(usage);
            }
            let (answered, fault) = match reply::parse(&completion.text) {
                Some(Reply::NotAnswerable { missing, explanation }) => {
                    return Ok(GeneratedAnswer::NotAnswerable { missing, explanation });
                }
                None if completion.is_cut => {
                    let max_output_tokens = llm.config().max_output_tokens;
                    return Err(LlmError::CutOff { max_output_tokens }.into());
                }
                None => {
                    let said = reply::clip(&completion.text, QUOTED_CHARACTERS);
                    (Value::from(said), EngineError::Llm(LlmError::NoForm))
                }
                Some(Reply::Sql { sql, explanation, verified_query }) => {
                    progress(Progress::Checking);
                    match self.sql_check(context, &sql).await {
                        Ok(check) => {
                            let verified_query = verified_query.and_then(|name| provenance(&link, &name));
                            let found = GeneratedSql { sql, check, explanation, verified_query };
                            return Ok(GeneratedAnswer::Sql(Box::new(found)));
                        }
                        Err(error) if is_mendable(&error) => {
                            (json!({"answerable": true, "sql": sql, "explanation": explanation}), error)
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            if spent.repairs >= llm.config().max_repairs {
                return Err(fault);
            }
            spent.repairs += 1;
            let reason = told(&fault);
            progress(Progress::Repairing { repair: spent.repairs, reason: reason.clone() });
            messages.extend(prompt::repair(&answered, &reason));
        }
    }

    /// The answer that somebody verified, where this very question has one that this caller may run.
    async fn verified(
        &self,
        context: &Context,
        question: &str,
    ) -> Result<Option<GeneratedAnswer>, EngineError> {
        if Operation::ListVerifiedQueries.authorize(&context.principal, None).is_err() {
            return Ok(None);
        }
        let models = self.models(context);
        let Some((model, query)) = verified::find(&models, question) else { return Ok(None) };
        match self.sql_check(context, &query.sql).await {
            Ok(check) => Ok(Some(GeneratedAnswer::Sql(Box::new(GeneratedSql {
                sql: query.sql.trim().to_owned(),
                check,
                explanation: query.description.clone(),
                verified_query: Some(Provenance { name: format!("{model}.{}", query.name), is_exact: true }),
            })))),
            // It says something else to this caller, or nothing: as if it were not there.
            Err(error) if is_mendable(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the model is told of the data (G2), and what the linker found.
    async fn generation_context(
        &self,
        context: &Context,
        question: &str,
        budget_tokens: usize,
    ) -> Result<(Value, Option<LinkAnswer>), EngineError> {
        let may_read = Operation::Link.authorize(&context.principal, None).is_ok();
        // Whoever may not read metadata is told the names that the information schema shows them anyway.
        let share = if may_read { budget_tokens / 4 } else { budget_tokens };
        let relations = self.unlinked_relations(context, may_read, share).await?;
        let link = match may_read {
            true => Some(self.link(context, question, budget_tokens - share).await?),
            false => None,
        };
        Ok((prompt::context(link.as_ref(), &relations), link))
    }

    async fn unlinked_relations(
        &self,
        context: &Context,
        only_responses: bool,
        budget_tokens: usize,
    ) -> Result<Relations, EngineError> {
        let namespace = self.namespace(context, &self.view(context), None).await?;
        // The service's own tables say nothing of the data, or are read by linking.
        let own = [INFORMATION_SCHEMA, SEMANTIC, ACTIONS];
        let mut relations = Relations::default();
        let mut left = budget_tokens;
        for relation in namespace.relations().filter(|relation| !own.contains(&relation.schema.as_str())) {
            if only_responses && relation.schema != RESPONSES {
                continue;
            }
            let columns: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
            // A token holds at least three characters of names, on average; JSON adds its marks.
            let characters: usize = columns.iter().map(|column| column.chars().count() + 3).sum();
            let tokens = (characters + relation.name.len() + relation.schema.len() + 30).div_ceil(3);
            match left.checked_sub(tokens) {
                Some(rest) => {
                    left = rest;
                    relations.listed.push((format!("{}.{}", relation.schema, relation.name), columns));
                }
                None => relations.left_out += 1,
            }
        }
        Ok(relations)
    }
}

fn check_request(request: &GenerateRequest) -> Result<(), EngineError> {
    let invalid = |message: String| Err(EngineError::InvalidInput(message));
    if request.question.trim().is_empty() {
        return invalid("the question is empty; write what you want to know".to_owned());
    }
    let characters = request.question.chars().count();
    if characters > MAX_QUESTION_CHARACTERS {
        return invalid(format!(
            "the question has {characters} characters, more than the {MAX_QUESTION_CHARACTERS} allowed; ask for one thing at a time"
        ));
    }
    if !BUDGET_TOKENS.contains(&request.budget_tokens) {
        return invalid(format!("budget_tokens is {}; use 400 to 100,000", request.budget_tokens));
    }
    Ok(())
}

/// Whether other SQL may pass where this did not: not where a scope is missing, or something else failed.
fn is_mendable(error: &EngineError) -> bool {
    match error {
        EngineError::Refused(refusal) => refusal.missing_scope.is_none(),
        EngineError::Query(error) => error.kind() == ErrorKind::InvalidInput,
        _ => false,
    }
}

/// Why an answer did not do, as model and caller are told.
fn told(fault: &EngineError) -> String {
    match fault {
        EngineError::Llm(_) => "the answer is not the JSON object that was asked for".to_owned(),
        EngineError::Refused(refusal) => match refusal.position {
            Some((line, column)) => format!("{} (line {line}, column {column})", fault.public()),
            None => fault.public(),
        },
        _ => fault.public(),
    }
}

/// The verified query of that name, if the model was shown one.
fn provenance(link: &Option<LinkAnswer>, name: &str) -> Option<Provenance> {
    let items = &link.as_ref()?.link.items;
    let shown = items.iter().filter(|item| item.kind == LinkedKind::VerifiedQuery);
    let mut named = shown
        .map(|item| (format!("{}.{}", item.model, item.name), &item.name))
        .filter(|(full, short)| full == name || *short == name);
    let (name, _) = named.next()?;
    Some(Provenance { name, is_exact: false })
}
