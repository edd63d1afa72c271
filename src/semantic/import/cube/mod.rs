//! Cube's data model in YAML: cubes become datasets, dimensions fields, measures metrics, segments filters.
//!
//! A cube that extends another has its members too; where a member is taken over, what is to say of it is said once, at
//! the cube that defines it. Names of measures are the model's in Steward: those that several cubes have get the cube's
//! name before theirs.

mod dimensions;
mod measures;
mod references;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Map as Json;

use super::columns::Columns;
use super::keys::{Keys, find, plain};
use super::{
    ImportError, ImportOptions, Parsed, Report, blank, names, relation, relation_parts, source, sql, template,
};
use crate::semantic::node::{Node, Value};
use crate::semantic::*;

const VENDOR: &str = "CUBE";

/// What a name after a cube's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reach {
    /// A dimension.
    Member,
    /// A physical column.
    Column,
    /// Of another cube it is not said: dimensions come first.
    Either,
}

/// A member of a cube: where it is defined, and whether by the cube itself.
#[derive(Debug, Clone, Copy)]
struct Member<'n> {
    node: &'n Node,
    file: &'n Arc<str>,
    own: bool,
}

/// A cube with everything that it inherits.
#[derive(Debug)]
struct Cube<'n> {
    /// As Cube has it.
    name: String,
    node: &'n Node,
    file: &'n Arc<str>,
    dimensions: Vec<Member<'n>>,
    measures: Vec<Member<'n>>,
    segments: Vec<Member<'n>>,
    joins: Vec<Member<'n>>,
    /// Names of dimensions and measures.
    dimension_names: HashMap<String, usize>,
    measure_names: HashMap<String, usize>,
}

pub fn read(
    files: &[Parsed],
    options: &ImportOptions,
    report: &mut Report,
) -> Result<Vec<Model>, ImportError> {
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let name = options.default_name.clone().unwrap_or_else(|| "cube".to_owned());
    let mut model = blank::model(names::clean(&name), source(&first.name, first.root.at));
    let mut found: Vec<(String, &Node, &Arc<str>)> = Vec::new();
    for file in files {
        report.file = file.name.clone();
        let Some(mut keys) = Keys::open(&file.root, "the file", report) else { continue };
        for node in keys.list("cubes", report) {
            match find(node, "name").and_then(plain) {
                Some(name) => found.push((name, node, &file.name)),
                None => report.lost(node.at, "a cube", "it has no name", "give it one"),
            }
        }
        for node in keys.list("views", report) {
            let name = find(node, "name").and_then(plain).unwrap_or_default();
            let why = "Steward has no views of views: its datasets join by themselves";
            report.lost(
                node.at,
                format!("view `{name}`"),
                why,
                "hide what a view left out with `sensitivity`",
            );
        }
        keys.finish(report);
    }
    let cubes = inherited(&found, report);
    let mut reader =
        Reader { options, report, by_name: HashMap::new(), metric_names: HashMap::new(), cubes: &cubes };
    reader.index();
    let mut columns = Vec::with_capacity(cubes.len());
    for position in 0..cubes.len() {
        let dataset = reader.cube(position);
        columns.push(Columns::of(&dataset));
        model.datasets.push(dataset);
    }
    for position in 0..cubes.len() {
        reader.joins(&mut model, &mut columns, position);
        reader.segments(&mut model, &mut columns, position);
        reader.measures(&mut model, &mut columns, position);
    }
    Ok(vec![model])
}

/// Cubes with the members of those that they extend; each cube is looked at once.
fn inherited<'n>(found: &[(String, &'n Node, &'n Arc<str>)], report: &mut Report) -> Vec<Cube<'n>> {
    let by_name: HashMap<&str, usize> =
        found.iter().enumerate().map(|(position, (name, _, _))| (name.as_str(), position)).collect();
    let parent = |position: usize| -> Option<usize> {
        let text = find(found[position].1, "extends").and_then(plain)?;
        by_name.get(text.trim_matches(['{', '}', '$', ' '])).copied()
    };
    let mut cubes = Vec::with_capacity(found.len());
    for (position, (name, node, file)) in found.iter().enumerate() {
        let mut line = vec![position];
        let mut at = position;
        while let Some(next) = parent(at) {
            if line.contains(&next) {
                report.file = (*file).clone();
                report.lost(
                    node.at,
                    format!("`extends` of cube `{name}`"),
                    "the cubes extend each other",
                    "",
                );
                break;
            }
            line.push(next);
            at = next;
        }
        let members = |key: &str| {
            let mut members: Vec<Member<'n>> = Vec::new();
            let mut positions: HashMap<String, usize> = HashMap::new();
            for (depth, ancestor) in line.iter().enumerate().rev() {
                let (_, node, file) = found[*ancestor];
                let Some(Value::Sequence(items)) = find(node, key).map(|node| &node.value) else { continue };
                for item in items {
                    let member = Member { node: item, file, own: depth == 0 };
                    let name = find(item, "name").and_then(plain).unwrap_or_default();
                    match positions.get(&name) {
                        // Two of one name in one cube are Cube's own mistake; both go on, and are told apart later.
                        Some(position) if members[*position].own != member.own => members[*position] = member,
                        _ => {
                            positions.insert(name, members.len());
                            members.push(member);
                        }
                    }
                }
            }
            members
        };
        let named = |members: &[Member<'_>]| {
            let names = members.iter().enumerate();
            names.filter_map(|(at, member)| Some((find(member.node, "name").and_then(plain)?, at))).collect()
        };
        let (dimensions, measures) = (members("dimensions"), members("measures"));
        cubes.push(Cube {
            name: name.clone(),
            node,
            file,
            dimension_names: named(&dimensions),
            measure_names: named(&measures),
            dimensions,
            measures,
            segments: members("segments"),
            joins: members("joins"),
        });
    }
    cubes
}

struct Reader<'a, 'n, 'r> {
    options: &'a ImportOptions,
    report: &'r mut Report,
    cubes: &'a [Cube<'n>],
    /// Positions of cubes.
    by_name: HashMap<String, usize>,
    /// Names of metrics by cube and measure.
    metric_names: HashMap<(usize, String), String>,
}

impl<'n> Reader<'_, 'n, '_> {
    fn index(&mut self) {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (position, cube) in self.cubes.iter().enumerate() {
            self.by_name.insert(cube.name.clone(), position);
            for name in cube.measure_names.keys() {
                *counts.entry(name.to_lowercase()).or_default() += 1;
            }
        }
        for (position, cube) in self.cubes.iter().enumerate() {
            for name in cube.measure_names.keys() {
                let is_shared = counts.get(&name.to_lowercase()).is_some_and(|count| *count > 1);
                let new = if is_shared { format!("{}_{name}", cube.name) } else { name.clone() };
                self.metric_names.insert((position, name.clone()), names::clean(&new));
            }
        }
    }

    /// Runs with remarks going to the report only if the member is the cube's own.
    fn remarking<T>(&mut self, member: Member<'_>, work: impl FnOnce(&mut Self) -> T) -> T {
        self.report.file = member.file.clone();
        let before = self.report.remarks.len();
        let result = work(self);
        if !member.own {
            self.report.remarks.truncate(before);
        }
        result
    }

    /// The dataset of a cube with its fields.
    fn cube(&mut self, position: usize) -> Dataset {
        let cube = &self.cubes[position];
        self.report.file = cube.file.clone();
        let clean = names::clean(&cube.name);
        let at = cube.node.at;
        let mut dataset = blank::dataset(clean.clone(), String::new(), source(cube.file, at));
        let mut kept = Json::new();
        if let Some(mut keys) = Keys::open(cube.node, format!("cube `{}`", cube.name), self.report) {
            keys.ignore(&["name", "dimensions", "measures", "segments", "joins", "sql_alias", "sqlAlias"]);
            if let Some(base) = keys.take("extends").and_then(plain) {
                let base = base.trim_matches(['{', '}', '$', ' ']).to_owned();
                if !self.by_name.contains_key(&base) {
                    let why = format!("there is no cube `{base}` among the files");
                    self.report.lost(at, format!("`extends` of {}", keys.what), why, "import its file too");
                }
            }
            dataset.description = keys.text("description", self.report);
            let title = keys.text("title", self.report);
            dataset.synonyms.extend(Some(title).filter(|title| !title.is_empty()));
            kept.extend(keys.keep(&["meta", "data_source", "dataSource"]));
            self.hidden(&mut keys);
            let why = "Steward has no caches of its own to build";
            let caches = ["pre_aggregations", "preAggregations", "refresh_key", "refreshKey"];
            keys.lose(&caches, why, "the warehouse's own materialised views do that", self.report);
            let why = "Steward's rules of access are written by hand: one that is only nearly the same would be a hole";
            let access = ["access_policy", "accessPolicy", "rewrite_queries", "context_members"];
            keys.lose(&access, why, "write `access` and `sensitivity`", self.report);
            keys.lose(&["hierarchies", "folders"], "Steward has no hierarchies", "", self.report);
            keys.ignore(&["sql_table", "sqlTable", "sql"]);
            keys.finish(self.report);
        }
        dataset.relation = self.relation(position, &clean, &mut kept);
        dataset.custom_extensions.extend(blank::extension(VENDOR, kept));
        for member in &self.cubes[position].dimensions {
            self.remarking(*member, |reader| reader.dimension(position, *member, &mut dataset));
        }
        dataset
    }

    /// `public: false` must not become public without a word.
    fn hidden(&mut self, keys: &mut Keys<'_>) {
        for key in ["public", "shown"] {
            if keys.flag(key, self.report) == Some(false) {
                let what = format!("`{key}: false` of {}", keys.what);
                let why = "Steward hides by clearance, not by part of a model";
                self.report.lost(keys.at, what, why, "set `sensitivity`, or delete it");
            }
        }
    }

    /// Where a cube's rows are: its own table or query, or that of a cube that it extends.
    fn relation(
        &mut self,
        position: usize,
        name: &str,
        kept: &mut Json<String, serde_json::Value>,
    ) -> String {
        let mut at = Some(position);
        let mut seen = BTreeSet::new();
        let mut text = None;
        while let Some(position) = at.filter(|at| seen.insert(*at)) {
            let node = self.cubes[position].node;
            text = ["sql_table", "sqlTable", "sql"].iter().find_map(|key| find(node, key).and_then(plain));
            if text.is_some() {
                break;
            }
            let base = find(node, "extends").and_then(plain).unwrap_or_default();
            at = self.by_name.get(base.trim_matches(['{', '}', '$', ' '])).copied();
        }
        let cube = &self.cubes[position];
        self.report.file = cube.file.clone();
        let text = text.unwrap_or_default();
        let words: Vec<&str> = text.trim().trim_end_matches(';').split_whitespace().collect();
        let table = match words.as_slice() {
            [table] => Some(*table),
            [select, "*", from, table]
                if select.eq_ignore_ascii_case("select") && from.eq_ignore_ascii_case("from") =>
            {
                Some(*table)
            }
            _ => None,
        };
        // BigQuery's way to quote is round the whole name.
        let table = table.map(|table| table.trim_matches('`').to_owned());
        if let Some(parts) = table.as_deref().and_then(relation_parts) {
            return relation(&parts[0], &parts[1], &parts[2], self.options);
        }
        let why = match text.is_empty() {
            true => "it has neither sql_table nor sql",
            false => "its rows come from a query, and Steward's datasets are tables or views",
        };
        let remedy = "create a view of the query (kept in custom_extensions) and set `source`";
        self.report.lost(cube.node.at, format!("the source of cube `{}`", cube.name), why, remedy);
        if !text.is_empty() {
            kept.insert("sql".to_owned(), text.into());
        }
        relation("", "", name, self.options)
    }

    fn joins(&mut self, model: &mut Model, columns: &mut [Columns], position: usize) {
        for member in &self.cubes[position].joins {
            // A cube that extends another joins what that one joins.
            let relationship =
                self.remarking(*member, |reader| reader.join(model, columns, position, *member));
            model.relationships.extend(relationship);
        }
    }

    fn join(
        &mut self,
        model: &mut Model,
        columns: &mut [Columns],
        position: usize,
        member: Member<'_>,
    ) -> Option<Relationship> {
        let cube = &self.cubes[position];
        let (mut keys, name) = Keys::named(member.node, "join", self.report)?;
        keys.what = format!("join of `{}` to `{name}`", cube.name);
        let text = keys.text("sql", self.report);
        let kind = keys.any_text(&["relationship", "type"], self.report).to_lowercase();
        let what = keys.what.clone();
        keys.finish(self.report);
        let Some(other) = self.by_name.get(&name).copied() else {
            let why = format!("there is no cube `{name}` among the files");
            self.report.lost(member.node.at, what, why, "import its file too");
            return None;
        };
        let filled = self.fill(position, &text, references::Use::Join);
        let pairs = match filled.map(|text| sql::equalities(&text)) {
            Ok(Some(pairs)) if !pairs.is_empty() => pairs,
            Ok(_) => {
                let why = "Steward joins where columns of the one equal columns of the other";
                let what = format!("{what} on `{text}`");
                self.report.lost(member.node.at, what, why, "add a view with such columns");
                return None;
            }
            Err(why) => {
                self.report.lost(member.node.at, format!("{what} on `{text}`"), why, "");
                return None;
            }
        };
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for pair in pairs {
            let sides = [pair.0, pair.1].map(|(qualifier, column)| {
                let side = match qualifier.as_deref() {
                    Some(references::HERE | references::MEMBER) | None => Some(position),
                    Some(name) => self.by_name.get(name).copied(),
                };
                (side, qualifier, column)
            });
            let [first, second] = sides;
            let (ours, theirs) = match (first.0, second.0) {
                (Some(a), Some(b)) if a == position && b == other => (first, second),
                (Some(a), Some(b)) if a == other && b == position => (second, first),
                _ => {
                    let what = format!("{what} on `{text}`");
                    self.report.lost(member.node.at, what, "it compares other cubes than these two", "");
                    return None;
                }
            };
            let reach = match ours.1.as_deref() {
                Some(references::MEMBER) => Reach::Member,
                _ => Reach::Column,
            };
            near.push(self.field(model, columns, position, &ours.2, reach, member));
            far.push(self.field(model, columns, other, &theirs.2, Reach::Either, member));
        }
        let (here, there) = (model.datasets[position].name.clone(), model.datasets[other].name.clone());
        let (from, to, from_columns, to_columns, cardinality) = match kind.as_str() {
            "many_to_one" | "belongs_to" | "belongsto" => (here, there, near, far, "many_to_one"),
            "one_to_many" | "has_many" | "hasmany" => (there, here, far, near, "many_to_one"),
            "one_to_one" | "has_one" | "hasone" => (here, there, near, far, "one_to_one"),
            other => {
                let why = format!("`relationship: {other}` is none that Cube has");
                self.report.lost(member.node.at, what, why, "");
                return None;
            }
        };
        let mut relationship =
            blank::relationship(format!("{from}_to_{to}"), from, to, source(member.file, member.node.at));
        relationship.from_columns = from_columns;
        relationship.to_columns = to_columns;
        relationship.cardinality = cardinality.to_owned();
        Some(relationship)
    }

    /// The field for a member, or for a physical column of a cube; one that is missing is added.
    fn field(
        &mut self,
        model: &mut Model,
        columns: &mut [Columns],
        position: usize,
        column: &str,
        reach: Reach,
        member: Member<'_>,
    ) -> String {
        let known = &columns[position];
        let found = match reach {
            Reach::Member => known.named(column),
            Reach::Column => known.showing(column),
            Reach::Either if self.cubes[position].dimension_names.contains_key(column) => known.named(column),
            Reach::Either => known.showing(column),
        };
        if let Some(field) = found {
            return field.to_owned();
        }
        let at = source(member.file, member.node.at);
        let field = columns[position].add(&mut model.datasets[position], column, &at);
        let what = format!("field `{}.{field}`", model.datasets[position].name);
        let why = "it was added for a column that a join, segment or measure needs";
        self.report.changed(member.node.at, what, why, "");
        field
    }

    fn segments(&mut self, model: &mut Model, columns: &mut [Columns], position: usize) {
        for member in &self.cubes[position].segments {
            let filter = self.remarking(*member, |reader| {
                let (mut keys, name) = Keys::named(member.node, "segment", reader.report)?;
                keys.what = format!("segment `{}.{name}`", reader.cubes[position].name);
                let text = keys.text("sql", reader.report);
                let mut filter = NamedFilter {
                    name: names::clean(&name),
                    description: keys.text("description", reader.report),
                    expression: Expression::ansi(""),
                    synonyms: Vec::new(),
                    source: source(member.file, member.node.at),
                };
                let title = keys.text("title", reader.report);
                filter.synonyms.extend(Some(title).filter(|title| !title.is_empty()));
                reader.hidden(&mut keys);
                keys.lose(&["meta"], "Steward's filters have no extensions", "", reader.report);
                let what = keys.what.clone();
                keys.finish(reader.report);
                match reader.over_fields(model, columns, position, &text, *member) {
                    Ok(text) => {
                        filter.expression = Expression::ansi(text);
                        Some(filter)
                    }
                    Err(why) => {
                        reader.report.lost(member.node.at, format!("{what} = `{text}`"), why, "");
                        None
                    }
                }
            });
            model.datasets[position].filters.extend(filter);
        }
    }

    /// SQL of a segment, measure or filter of one, over the fields of its dataset.
    fn over_fields(
        &mut self,
        model: &mut Model,
        columns: &mut [Columns],
        position: usize,
        text: &str,
        member: Member<'_>,
    ) -> Result<String, String> {
        let filled = self.fill(position, text, references::Use::Rows)?;
        let mut wanted: Vec<(String, Reach)> = Vec::new();
        let seen = |qualifier: Option<&str>, column: &str| match qualifier {
            None | Some(references::HERE) => Some((column.to_owned(), Reach::Column)),
            Some(references::MEMBER) => Some((column.to_owned(), Reach::Member)),
            Some(_) => None,
        };
        sql::with_columns(&filled, |qualifier, column| {
            wanted.extend(seen(qualifier, column));
            None
        })
        .map_err(|problem| format!("its SQL does not parse ({problem})"))?;
        let mut fields = HashMap::new();
        for (column, reach) in wanted {
            // Parts of dates look like columns; they are settled for all formats.
            let is_part = Grain::from_name(&column).is_some() && columns[position].showing(&column).is_none();
            if reach == Reach::Column && is_part {
                continue;
            }
            let field = self.field(model, columns, position, &column, reach, member);
            fields.insert((column, reach), sql::identifier(&field));
        }
        sql::with_columns(&filled, |qualifier, column| fields.get(&seen(qualifier, column)?).cloned())
    }
}
