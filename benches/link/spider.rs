//! Spider as a test of linking: 166 databases in one catalog, 1,034 questions without a word on which one is meant.
//!
//! The catalog is made of `tables.json` alone: names, the names that people use for them, keys and foreign keys.
//! Nothing of the questions or their SQL gets in. A question's gold tables are the relations of its SQL.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use datafusion::sql::sqlparser::ast::visit_relations;
use datafusion::sql::sqlparser::dialect::SQLiteDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::{Value, json};
use steward::semantic::{Catalog, LinkRequest, LinkedKind, Linker};

/// A dataset as `(model, name)`.
pub type Table = (String, String);

pub struct Question {
    pub text: String,
    pub database: String,
    pub gold: BTreeSet<Table>,
}

pub struct Spider {
    databases: Vec<Value>,
    pub questions: Vec<Question>,
}

/// How well datasets were found, averaged over questions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub questions: usize,
    /// Mean share of a question's tables among the first one, five and ten.
    pub recall: [f64; 3],
    /// Share of questions that have all of their tables among the first ten.
    pub all_in_ten: f64,
}

const FIRST: [usize; 3] = [1, 5, 10];

impl Spider {
    /// Reads the shared copy; `None`, with a word about it, where it is not there.
    pub fn load() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/spider");
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let (Some(tables), Some(dev)) = (read("tables.json"), read("dev.json")) else {
            println!("skipped: ../shared/data/spider/tables.json and dev.json are not there");
            return None;
        };
        let databases: Vec<Value> = serde_json::from_str(&tables).expect("tables.json is JSON");
        let dev: Vec<Value> = serde_json::from_str(&dev).expect("dev.json is JSON");
        let questions = dev
            .iter()
            .map(|question| {
                let database = text(&question["db_id"]);
                let schema = databases.iter().find(|known| known["db_id"] == database.as_str());
                let schema = schema.expect("every question's database is in tables.json");
                let gold = gold(schema, &text(&question["query"]));
                Question { text: text(&question["question"]), gold, database }
            })
            .collect();
        Some(Self { databases, questions })
    }

    /// All databases as models, `copies` times, so that a catalog of any size can be made.
    pub fn catalog(&self, copies: usize) -> Catalog {
        let mut sources = Vec::new();
        for copy in 0..copies {
            for database in &self.databases {
                let mut model = model(database);
                if copy > 0 {
                    model["name"] = json!(format!("{}_{copy}", text(&database["db_id"])));
                }
                let file = format!("semantic/{}/model.json", text(&model["name"]));
                sources.push((file, Ok(model.to_string())));
            }
        }
        let catalog = Catalog::from_sources(sources, Vec::new());
        let broken: Vec<_> =
            catalog.diagnostics.iter().filter(|finding| finding.severity.as_str() == "error").collect();
        assert!(broken.is_empty(), "{broken:#?}");
        catalog
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A name with nothing in it that a model's names may not have.
fn name(original: &Value) -> String {
    let allowed = |character: char| character.is_alphanumeric() || "_- ".contains(character);
    text(original).chars().map(|character| if allowed(character) { character } else { '_' }).collect()
}

fn model(database: &Value) -> Value {
    let tables = list(&database["table_names_original"]);
    let columns = list(&database["column_names_original"]);
    let table_of = |column: usize| columns[column][0].as_u64().map(|table| table as usize);
    let datasets: Vec<Value> = tables
        .iter()
        .enumerate()
        .map(|(table, original)| {
            let mut seen = BTreeSet::new();
            let fields: Vec<Value> = (0..columns.len())
                .filter(|column| table_of(*column) == Some(table))
                .filter(|column| seen.insert(name(&columns[*column][1]).to_lowercase()))
                .map(|column| {
                    let original = text(&columns[column][1]).replace('"', "\"\"");
                    json!({
                        "name": name(&columns[column][1]),
                        "label": database["column_names"][column][1],
                        "expression": format!("\"{original}\""),
                    })
                })
                .collect();
            let source = format!("local.{}.{}", text(&database["db_id"]), name(original));
            json!({
                "name": name(original),
                "source": source,
                "synonyms": [database["table_names"][table]],
                "fields": fields,
            })
        })
        .collect();
    let relationships: Vec<Value> = list(&database["foreign_keys"])
        .iter()
        .enumerate()
        .filter_map(|(at, key)| {
            let (from, to) = (key[0].as_u64()? as usize, key[1].as_u64()? as usize);
            let table = |column: usize| Some(name(tables.get(table_of(column)?)?));
            let (left, right) = (table(from)?, table(to)?);
            Some(json!({
                "name": format!("{left}_{right}_{at}"), "from": left, "to": right,
                "from_columns": [name(&columns[from][1])], "to_columns": [name(&columns[to][1])],
            }))
        })
        .collect();
    json!({"name": database["db_id"], "datasets": datasets, "relationships": relationships})
}

/// The tables that the SQL reads.
fn gold(database: &Value, sql: &str) -> BTreeSet<Table> {
    let statements = Parser::parse_sql(&SQLiteDialect {}, sql).expect("Spider's SQL parses");
    let mut found = BTreeSet::new();
    let _ = visit_relations(&statements, |relation| {
        let wanted = relation.to_string().replace(['"', '`'], "").to_lowercase();
        let known = list(&database["table_names_original"]);
        let table = known.iter().find(|known| text(known).to_lowercase() == wanted);
        found.insert((text(&database["db_id"]), name(table.expect("the SQL reads tables of its database"))));
        std::ops::ControlFlow::<()>::Continue(())
    });
    assert!(!found.is_empty(), "{sql}");
    found
}

impl Figures {
    /// Of `found`, best first, for each question.
    pub fn of(questions: &[&Question], found: &[Vec<Table>]) -> Self {
        let mut sums = Self { questions: questions.len(), ..Self::default() };
        for (question, found) in questions.iter().zip(found) {
            let among = |first: usize| {
                found.iter().take(first).filter(|table| question.gold.contains(*table)).count()
            };
            for (sum, first) in sums.recall.iter_mut().zip(FIRST) {
                *sum += among(first) as f64 / question.gold.len() as f64;
            }
            sums.all_in_ten += f64::from(u8::from(among(10) == question.gold.len()));
        }
        let count = (questions.len() as f64).max(1.0);
        Self {
            recall: sums.recall.map(|sum| sum / count),
            all_in_ten: sums.all_in_ten / count,
            questions: questions.len(),
        }
    }
}

/// The datasets of the answers themselves, best first, and how long each answer took.
pub fn answers(
    linker: &Linker,
    questions: &[&Question],
    vectors: Option<&[Vec<f32>]>,
    count: &dyn Fn(&str) -> usize,
) -> (Vec<Vec<Table>>, Vec<Duration>) {
    let answer = |(at, question): (usize, &&Question)| {
        let started = Instant::now();
        let link = linker.link(&LinkRequest {
            question: &question.text,
            vector: vectors.map(|vectors| vectors[at].as_slice()),
            budget_tokens: 4_000,
            count,
        });
        let elapsed = started.elapsed();
        let datasets = link.items.into_iter().filter(|item| item.kind == LinkedKind::Dataset);
        (datasets.map(|item| (item.model, item.name)).collect(), elapsed)
    };
    questions.iter().enumerate().map(answer).unzip()
}
