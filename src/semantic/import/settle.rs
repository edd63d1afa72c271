//! Makes what an importer has read loadable: names that are given once, keys and joins over fields that exist,
//! expressions that parse and name what is there. What cannot be settled goes, and the report says so.
//!
//! Knows the rules of `lint`, no foreign format.

use std::collections::{HashMap, HashSet};

use super::columns::Columns;
use super::{Report, names, sql};
use crate::semantic::*;

/// Words that databases take without quotes as parts of dates.
const DATE_PARTS: &[&str] = &[
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
    "dow",
    "doy",
    "epoch",
    "isodow",
    "isoweek",
    "dayofweek",
    "dayofyear",
    "millisecond",
    "microsecond",
];

pub fn settle(model: &mut Model, report: &mut Report) {
    model.name = names::clean(&model.name);
    let mut settling = Settling { report, columns: Vec::new(), positions: HashMap::new() };
    settling.datasets(model);
    settling.relationships(model);
    settling.filters(model);
    settling.metrics(model);
    settling.queries(model);
}

struct Settling<'r> {
    report: &'r mut Report,
    /// By position of the dataset.
    columns: Vec<Columns>,
    /// Position of a dataset, by its name in lower case.
    positions: HashMap<String, usize>,
}

impl Settling<'_> {
    fn lost(&mut self, source: &Source, what: String, why: impl Into<String>, remedy: &str) {
        self.report.file = source.file.clone();
        self.report.lost(source.at, what, why, remedy);
    }

    fn changed(&mut self, source: &Source, what: String, why: impl Into<String>) {
        self.report.file = source.file.clone();
        self.report.changed(source.at, what, why, "");
    }

    /// Gives a name out once; a second thing of that name gets a number.
    fn rename(&mut self, unique: &mut names::Unique, name: &mut String, kind: &str, source: &Source) {
        let clean = unique.take(&names::clean(name));
        if clean != *name {
            let what = format!("{kind} `{}`", name.escape_debug());
            self.changed(source, what, format!("it is called `{clean}` now, since its name is taken or odd"));
            *name = clean;
        }
    }

    fn datasets(&mut self, model: &mut Model) {
        let mut unique = names::Unique::default();
        for (position, dataset) in model.datasets.iter_mut().enumerate() {
            let source = dataset.source.clone();
            self.rename(&mut unique, &mut dataset.name, "dataset", &source);
            self.positions.insert(dataset.name.to_lowercase(), position);
            self.fields(dataset);
            let mut columns = Columns::of(dataset);
            let mut primary = std::mem::take(&mut dataset.primary_key);
            let mut unique_keys = std::mem::take(&mut dataset.unique_keys);
            for column in primary.iter_mut().chain(unique_keys.iter_mut().flatten()) {
                *column = self.field_for(dataset, &mut columns, column, &source);
            }
            unique_keys.retain(|key| !key.is_empty());
            (dataset.primary_key, dataset.unique_keys) = (primary, unique_keys);
            self.columns.push(columns);
        }
    }

    fn fields(&mut self, dataset: &mut Dataset) {
        let mut unique = names::Unique::default();
        let mut kept = Vec::with_capacity(dataset.fields.len());
        for mut field in std::mem::take(&mut dataset.fields) {
            let source = field.source.clone();
            let what = || format!("field `{}.{}`", dataset.name, field.name);
            if let Err(problem) = parse_expression(field.expression.text()) {
                let what = format!("{} = {}", what(), short(field.expression.text()));
                self.lost(&source, what, format!("its SQL does not parse ({problem})"), "write it by hand");
                continue;
            }
            if field.is_enum && field.sample_values.is_empty() {
                field.is_enum = false;
                self.changed(&source, what(), "it is no enum here, since its values are not listed");
            }
            self.rename(&mut unique, &mut field.name, &format!("field of `{}`", dataset.name), &source);
            kept.push(field);
        }
        dataset.fields = kept;
    }

    /// The field that a key or a join means by a column; added, if there is none.
    fn field_for(
        &mut self,
        dataset: &mut Dataset,
        columns: &mut Columns,
        column: &str,
        source: &Source,
    ) -> String {
        let plain = column.trim().trim_matches(['"', '`']);
        if let Some(field) = columns.named(plain) {
            return field.to_owned();
        }
        let field = columns.add(dataset, plain, source);
        let what = format!("field `{}.{field}`", dataset.name);
        self.changed(source, what, "it was added for a column that a key, a join or a metric needs");
        field
    }

    fn relationships(&mut self, model: &mut Model) {
        let mut unique = names::Unique::default();
        let mut kept = Vec::new();
        for mut relationship in std::mem::take(&mut model.relationships) {
            let source = relationship.source.clone();
            let what = format!("relationship `{}`", relationship.name);
            if relationship.from_columns.is_empty()
                || relationship.from_columns.len() != relationship.to_columns.len()
            {
                self.lost(&source, what, "it does not pair columns of both sides", "list them");
                continue;
            }
            let sides = [&relationship.from, &relationship.to];
            let known = sides.map(|side| self.positions.get(&side.to_lowercase()).copied());
            let [Some(from), Some(to)] = known else {
                let missing = if known[0].is_none() { sides[0] } else { sides[1] };
                self.lost(&source, what, format!("there is no dataset `{missing}`"), "import its file too");
                continue;
            };
            for (position, list) in
                [(from, &mut relationship.from_columns), (to, &mut relationship.to_columns)]
            {
                let mut columns = std::mem::take(&mut self.columns[position]);
                for column in list.iter_mut() {
                    *column = self.field_for(&mut model.datasets[position], &mut columns, column, &source);
                }
                self.columns[position] = columns;
            }
            relationship.from = model.datasets[from].name.clone();
            relationship.to = model.datasets[to].name.clone();
            self.rename(&mut unique, &mut relationship.name, "relationship", &source);
            kept.push(relationship);
        }
        model.relationships = kept;
    }

    fn filters(&mut self, model: &mut Model) {
        for position in 0..model.datasets.len() {
            let mut unique = names::Unique::default();
            let mut kept = Vec::new();
            for mut filter in std::mem::take(&mut model.datasets[position].filters) {
                let source = filter.source.clone();
                let what = format!("filter `{}.{}`", model.datasets[position].name, filter.name);
                match self.settled(model, Some(position), &|_| false, filter.expression.text(), &source) {
                    Ok(text) => {
                        replace(&mut filter.expression, text);
                        self.rename(&mut unique, &mut filter.name, "filter", &source);
                        kept.push(filter);
                    }
                    Err(why) => self.lost(&source, what, why, "write it by hand"),
                }
            }
            model.datasets[position].filters = kept;
        }
    }

    fn metrics(&mut self, model: &mut Model) {
        let mut unique = names::Unique::default();
        let mut metrics = std::mem::take(&mut model.metrics);
        for metric in &mut metrics {
            let source = metric.source.clone();
            self.rename(&mut unique, &mut metric.name, "metric", &source);
        }
        let names: HashSet<String> = metrics.iter().map(|metric| metric.name.clone()).collect();
        metrics.retain_mut(|metric| match self.metric(model, &names, metric) {
            Ok(()) => true,
            Err(why) => {
                let what = format!("metric `{}` = {}", metric.name, short(metric.expression.text()));
                self.lost(&metric.source.clone(), what, why, "write it by hand");
                false
            }
        });
        model.metrics = self.without_orphans(metrics);
    }

    /// Drops metrics over metrics that are not there, and those over these, each looked at once.
    fn without_orphans(&mut self, metrics: Vec<Metric>) -> Vec<Metric> {
        let names: HashSet<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut missing: HashMap<usize, String> = HashMap::new();
        let mut open = Vec::new();
        for (position, metric) in metrics.iter().enumerate() {
            for input in metric.inputs() {
                users.entry(&input.name).or_default().push(position);
                if !names.contains(input.name.as_str()) && !missing.contains_key(&position) {
                    missing.insert(position, input.name.clone());
                    open.push(position);
                }
            }
        }
        while let Some(position) = open.pop() {
            let name = metrics[position].name.as_str();
            for user in users.get(name).into_iter().flatten() {
                if !missing.contains_key(user) {
                    missing.insert(*user, name.to_owned());
                    open.push(*user);
                }
            }
        }
        let mut kept = Vec::with_capacity(metrics.len());
        for (position, metric) in metrics.into_iter().enumerate() {
            match missing.get(&position) {
                Some(input) => self.lost(
                    &metric.source,
                    format!("metric `{}`", metric.name),
                    format!("it is made of `{input}`, which is no metric here"),
                    "import that one too, or write it by hand",
                ),
                None => kept.push(metric),
            }
        }
        kept
    }

    fn metric(
        &mut self,
        model: &mut Model,
        names: &HashSet<String>,
        metric: &mut Metric,
    ) -> Result<(), String> {
        let base = match metric.dataset.as_str() {
            "" => None,
            name => match self.positions.get(&name.to_lowercase()) {
                Some(position) => Some(*position),
                None => return Err(format!("there is no dataset `{name}`")),
            },
        };
        if let Some(position) = base {
            metric.dataset = model.datasets[position].name.clone();
        }
        let source = metric.source.clone();
        let inputs: HashSet<String> = metric.inputs().map(|input| input.called().to_owned()).collect();
        let own = metric.name.clone();
        let is_input =
            |name: &str| inputs.contains(name) || (base.is_none() && name != own && names.contains(name));
        if metric.kind != Some(MetricKind::Ratio) {
            let text = self.settled(model, base, &is_input, metric.expression.text(), &source)?;
            replace(&mut metric.expression, text);
        }
        let inputs = metric.numerator.iter_mut().chain(&mut metric.denominator).chain(&mut metric.metrics);
        for filter in std::iter::once(&mut metric.filter).chain(inputs.map(|input| &mut input.filter)) {
            if !filter.is_empty() {
                *filter = self.settled(model, base, &|_| false, filter, &source)?;
            }
        }
        if !metric.time_dimension.is_empty() {
            let named = self.field_named(model, base, &metric.time_dimension, &source);
            metric.time_dimension = named.unwrap_or_else(|| {
                let what = format!("`time_dimension` of metric `{own}`");
                let why = format!("`{}` is no field here", metric.time_dimension);
                self.lost(&source, what, why, "name a field, or let queries say which");
                String::new()
            });
        }
        if let Some(semi) = &mut metric.non_additive_dimension {
            for name in std::iter::once(&mut semi.name).chain(&mut semi.window_groupings) {
                // Without it the metric would add up what must not be added up.
                *name = self
                    .field_named(model, base, name, &source)
                    .ok_or_else(|| format!("it is not additive over `{name}`, which is no field here"))?;
            }
        }
        let known: HashSet<&str> = model.relationships.iter().map(|link| link.name.as_str()).collect();
        metric.joins.retain(|name| {
            let is_known = known.contains(name.as_str());
            if !is_known {
                let what = format!("the join of metric `{own}` by `{name}`");
                self.lost(&source, what, "there is no such relationship here", "name another");
            }
            is_known
        });
        Ok(())
    }

    /// The field that `field` or `dataset.field` names, in the same form; it is added where its dataset is known.
    fn field_named(
        &mut self,
        model: &mut Model,
        base: Option<usize>,
        name: &str,
        source: &Source,
    ) -> Option<String> {
        let (position, column) = match name.rsplit_once('.') {
            Some((owner, column)) => (*self.positions.get(&owner.to_lowercase())?, column),
            None => (base?, name),
        };
        let mut columns = std::mem::take(&mut self.columns[position]);
        let field = self.field_for(&mut model.datasets[position], &mut columns, column, source);
        self.columns[position] = columns;
        Some(if name.contains('.') { format!("{}.{field}", model.datasets[position].name) } else { field })
    }

    /// SQL over fields, with every column in the spelling of its field; fields that are missing are added.
    fn settled(
        &mut self,
        model: &mut Model,
        base: Option<usize>,
        is_input: &dyn Fn(&str) -> bool,
        text: &str,
        source: &Source,
    ) -> Result<String, String> {
        let mut problem = None;
        let new = sql::with_columns(text, |qualifier, column| {
            if qualifier.is_none() && is_input(column) {
                return Some(sql::identifier(column));
            }
            let position = match qualifier {
                None => base?,
                Some(name) => match self.positions.get(&name.to_lowercase()) {
                    Some(position) => *position,
                    None => {
                        problem.get_or_insert_with(|| {
                            format!("it names `{name}.{column}`, and there is no dataset `{name}`")
                        });
                        return None;
                    }
                },
            };
            let is_known = self.columns[position].named(column).is_some();
            if qualifier.is_none() && !is_known && DATE_PARTS.contains(&column.to_lowercase().as_str()) {
                return Some(format!("'{}'", column.to_lowercase()));
            }
            let mut columns = std::mem::take(&mut self.columns[position]);
            let field = self.field_for(&mut model.datasets[position], &mut columns, column, source);
            self.columns[position] = columns;
            Some(match qualifier {
                None => sql::identifier(&field),
                Some(_) => sql::qualified(&model.datasets[position].name, &field),
            })
        })
        .map_err(|problem| format!("its SQL does not parse ({problem})"))?;
        match problem {
            Some(problem) => Err(problem),
            None => Ok(new),
        }
    }

    fn queries(&mut self, model: &mut Model) {
        let mut unique = names::Unique::default();
        let (schema, datasets) = (sql::identifier(&model.name), &model.datasets);
        let mut kept = Vec::new();
        for mut query in std::mem::take(&mut model.verified_queries) {
            let source = query.source.clone();
            let what = format!("verified query `{}`", short(&query.name));
            if query.question.trim().is_empty() || query.sql.trim().is_empty() {
                self.lost(&source, what, "it lacks its question or its SQL", "");
                continue;
            }
            query.sql = sql::tidy(&query.sql);
            let renamed = sql::with_tables(&query.sql, |name| {
                // Cortex Analyst writes logical tables with two underscores before their names.
                let position = self
                    .positions
                    .get(&name.to_lowercase())
                    .or_else(|| self.positions.get(&name.strip_prefix("__")?.to_lowercase()))?;
                Some(format!("{schema}.{}", sql::identifier(&datasets[*position].name)))
            });
            match renamed {
                Ok(text) => query.sql = text,
                Err(problem) => {
                    self.changed(
                        &source,
                        what,
                        format!("its SQL does not parse ({problem}) and stays as it is"),
                    );
                }
            }
            self.rename(&mut unique, &mut query.name, "verified query", &source);
            kept.push(query);
        }
        model.verified_queries = kept;
    }
}

/// Puts new text in the place of the one that is evaluated.
fn replace(expression: &mut Expression, text: String) {
    let old = expression.text();
    let owned = |(dialect, text): (&str, &str)| (dialect.to_owned(), text.to_owned());
    let mut dialects: Vec<(String, String)> = expression.dialects().map(owned).collect();
    if let Some(entry) = dialects.iter_mut().find(|(_, known)| known == old) {
        entry.1 = text;
    }
    if let Some(replaced) = Expression::new(dialects) {
        *expression = replaced;
    }
}

fn short(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}
