//! Metrics of both specs: simple ones with their measures, ratios, derived and cumulative ones.

use super::filters::{Scope, all_of};
use super::*;

/// What a metric that aggregates is made of, until its aggregate is written over fields.
struct Simple {
    aggregate: Aggregate,
    filter: String,
    fill_nulls_with: String,
}

impl<'n> Reader<'_, 'n, '_> {
    /// What a measure or a simple metric aggregates.
    pub(super) fn aggregate(&mut self, keys: &mut Keys<'_>, name: &str, dataset: usize) -> Aggregate {
        let mut aggregate = Aggregate { dataset, ..Aggregate::default() };
        aggregate.agg = keys.text("agg", self.report).to_lowercase();
        aggregate.expr = keys.text("expr", self.report);
        if aggregate.expr.is_empty() {
            aggregate.expr = sql::identifier(name);
        }
        aggregate.time_dimension = keys.text("agg_time_dimension", self.report);
        aggregate.percentile = keys.take("percentile").and_then(plain).and_then(|text| text.parse().ok());
        aggregate.is_discrete = keys.text("percentile_type", self.report) == "discrete";
        if let Some(node) = keys.take("agg_params").filter(|node| !is_empty(node))
            && let Some(mut params) = Keys::open(node, format!("agg_params of {}", keys.what), self.report)
        {
            aggregate.percentile =
                params.take("percentile").and_then(plain).and_then(|text| text.parse().ok());
            aggregate.is_discrete = params.flag("use_discrete_percentile", self.report).unwrap_or(false);
            if params.flag("use_approximate_percentile", self.report) == Some(true) {
                let what = format!("the approximation of {}", keys.what);
                self.report.changed(keys.at, what, "its percentile is exact now", "");
            }
            params.finish(self.report);
        }
        if let Some(node) = keys.take("non_additive_dimension").filter(|node| !is_empty(node))
            && let Some(mut inner) =
                Keys::open(node, format!("non_additive_dimension of {}", keys.what), self.report)
        {
            aggregate.non_additive = Some(NonAdditiveDimension {
                name: inner.text("name", self.report),
                latest: inner.any_text(&["window_choice", "window_agg"], self.report).to_lowercase() != "min",
                window_groupings: inner.texts("window_groupings", self.report),
            });
            inner.ignore(&["group_by"]);
            inner.finish(self.report);
        }
        aggregate
    }

    pub(super) fn all_metrics(&mut self) {
        let waiting = std::mem::take(&mut self.metrics);
        let measures = std::mem::take(&mut self.measures);
        let by_name: HashMap<&str, &Measure<'_>> =
            measures.iter().map(|measure| (measure.name.as_str(), measure)).collect();
        let mut used: HashMap<String, bool> = HashMap::new();
        let mut cumulative = Vec::new();
        let mut made: HashMap<String, usize> = HashMap::new();
        for (node, file, base) in waiting {
            self.report.file = file.clone();
            let Some((keys, name)) = Keys::named(node, "metric", self.report) else { continue };
            match self.metric(keys, &name, file, base, &by_name, &mut used) {
                Ok(Made::Whole(metric)) => {
                    made.insert(name, self.model.metrics.len());
                    self.model.metrics.push(*metric);
                }
                Ok(Made::Over(metric, input)) => cumulative.push((metric, input)),
                Err(why) => {
                    let remedy = "write it by hand";
                    self.report.lost(node.at, format!("metric `{name}`"), why, remedy);
                }
            }
        }
        // A cumulative metric over a simple one is that one, summed up in another way.
        for (mut metric, input) in cumulative {
            self.report.file = metric.source.file.clone();
            let found = made.get(&input).map(|at| &self.model.metrics[*at]);
            match found.filter(|found| found.kind.is_none()) {
                Some(found) => {
                    metric.dataset.clone_from(&found.dataset);
                    metric.expression = found.expression.clone();
                    metric.time_dimension.clone_from(&found.time_dimension);
                    metric.filter = all_of(&[found.filter.clone(), metric.filter.clone()]);
                    self.model.metrics.push(*metric);
                }
                None => {
                    let why = format!("it runs over `{input}`, which is no simple metric here");
                    let what = format!("metric `{}`", metric.name);
                    self.report.lost(metric.source.at, what, why, "write it by hand");
                }
            }
        }
        for measure in &measures {
            if used.contains_key(&measure.name) || made.contains_key(&measure.name) {
                continue;
            }
            self.report.file = measure.file.clone();
            let at = measure.node.at;
            let mut metric =
                blank::metric(names::clean(&measure.name), Expression::ansi(""), source(measure.file, at));
            metric.description.clone_from(&measure.description);
            metric.synonyms.extend(Some(measure.label.clone()).filter(|label| !label.is_empty()));
            let simple = Simple {
                aggregate: measure.aggregate.clone(),
                filter: String::new(),
                fill_nulls_with: String::new(),
            };
            match self.simple(&mut metric, simple, at) {
                Ok(()) => self.model.metrics.push(metric),
                Err(why) => {
                    self.report.lost(at, format!("measure `{}`", measure.name), why, "write a metric")
                }
            }
            if !measure.create_metric {
                let why = "no metric uses it; it is a metric of its own now";
                self.report.changed(at, format!("measure `{}`", measure.name), why, "");
            }
        }
    }

    fn metric(
        &mut self,
        mut keys: Keys<'n>,
        name: &str,
        file: &Arc<str>,
        base: Option<usize>,
        measures: &HashMap<&str, &Measure<'_>>,
        used: &mut HashMap<String, bool>,
    ) -> Result<Made, String> {
        let mut metric = blank::metric(names::clean(name), Expression::ansi(""), source(file, keys.at));
        metric.description = self.description(&mut keys);
        metric.synonyms.extend(Some(keys.text("label", self.report)).filter(|label| !label.is_empty()));
        metric.custom_extensions.extend(self.extras(&mut keys));
        let kind = keys.text("type", self.report).to_lowercase();
        let filter = keys.take("filter").filter(|node| !is_empty(node));
        keys.ignore(&["time_granularity"]);
        // The legacy spec has these keys below, the latest beside the name.
        let mut params = match keys.take("type_params").filter(|node| !is_empty(node)) {
            Some(node) => {
                keys.finish(self.report);
                Keys::open(node, format!("type_params of metric `{name}`"), self.report)
                    .ok_or("its type_params are no mapping")?
            }
            None => keys,
        };
        params.ignore(&["input_measures", "is_private"]);
        if params.flag("join_to_timespine", self.report) == Some(true) {
            self.timespine(params.at, name);
        }
        let over = Scope { base, is_qualified: true };
        let result = match kind.as_str() {
            "simple" | "" => {
                let simple = self.simple_parts(&mut params, name, base, filter, measures, used)?;
                self.simple(&mut metric, simple, params.at).map(|()| Made::Whole(Box::new(metric)))
            }
            "ratio" => {
                let filter = self.filter(filter, over)?;
                metric.kind = Some(MetricKind::Ratio);
                for (key, slot) in
                    [("numerator", &mut metric.numerator), ("denominator", &mut metric.denominator)]
                {
                    let node = params.take(key).ok_or_else(|| format!("it has no {key}"))?;
                    *slot = Some(self.input(node, over, &filter)?);
                }
                if let (Some(above), Some(under)) = (&mut metric.numerator, &mut metric.denominator) {
                    if above.called() == under.called() && above != under {
                        // Two inputs of one metric must be told apart in the division.
                        above.alias = format!("{}_numerator", above.name);
                    }
                    let text = format!("{} / NULLIF({}, 0)", quote(above.called()), quote(under.called()));
                    metric.expression = Expression::ansi(text);
                }
                Ok(Made::Whole(Box::new(metric)))
            }
            "derived" => {
                let filter = self.filter(filter, over)?;
                metric.kind = Some(MetricKind::Derived);
                let text = params.text("expr", self.report);
                if text.is_empty() || text.contains("{{") {
                    return Err("it has no expr that can be read without dbt".to_owned());
                }
                metric.expression = Expression::ansi(text);
                for key in ["metrics", "input_metrics"] {
                    for node in params.list(key, self.report) {
                        let input = self.input(node, over, &filter)?;
                        metric.metrics.push(input);
                    }
                }
                Ok(Made::Whole(Box::new(metric)))
            }
            "cumulative" => self.cumulative(&mut params, metric, name, base, filter, measures, used),
            "conversion" => Err("Steward has no conversion metrics".to_owned()),
            other => Err(format!("Steward has no metrics of type `{other}`")),
        };
        if result.is_ok() {
            params.finish(self.report);
        }
        result
    }

    fn timespine(&mut self, at: Position, name: &str) {
        let what = format!("`join_to_timespine` of metric `{name}`");
        let why = "whether gaps are filled is for a query to say";
        self.report.lost(at, what, why, "set `fill_gaps` in queries");
    }

    fn simple_parts(
        &mut self,
        params: &mut Keys<'_>,
        name: &str,
        base: Option<usize>,
        filter: Option<&Node>,
        measures: &HashMap<&str, &Measure<'_>>,
        used: &mut HashMap<String, bool>,
    ) -> Result<Simple, String> {
        let mut fill_nulls_with = params.text("fill_nulls_with", self.report);
        let mut inner_filter = None;
        let mut aggregate = None;
        if let Some(node) = params.take("measure").filter(|node| !is_empty(node)) {
            let measure_name = match plain(node) {
                Some(name) => name,
                None => {
                    let mut measure = Keys::open(node, format!("measure of metric `{name}`"), self.report)
                        .ok_or("no measure")?;
                    inner_filter = measure.take("filter").filter(|node| !is_empty(node));
                    let fill = measure.text("fill_nulls_with", self.report);
                    fill_nulls_with = if fill.is_empty() { fill_nulls_with } else { fill };
                    if measure.flag("join_to_timespine", self.report) == Some(true) {
                        self.timespine(node.at, name);
                    }
                    measure.ignore(&["alias"]);
                    let name = measure.text("name", self.report);
                    measure.finish(self.report);
                    name
                }
            };
            let found = measures.get(measure_name.as_str());
            aggregate =
                Some(found.ok_or_else(|| format!("there is no measure `{measure_name}`"))?.aggregate.clone());
            used.insert(measure_name, true);
        }
        if let Some(node) = params.take("metric_aggregation_params").filter(|node| !is_empty(node)) {
            let mut inner =
                Keys::open(node, "metric_aggregation_params", self.report).ok_or("no aggregate")?;
            let owner = names::clean(&inner.text("semantic_model", self.report));
            let position = self.positions.get(&owner).copied();
            let from = self.aggregate(&mut inner, name, position.or(base).unwrap_or_default());
            inner.finish(self.report);
            let expr = params.text("expr", self.report);
            if aggregate.is_none() && (position.is_some() || base.is_some()) {
                aggregate = Some(Aggregate { expr: if expr.is_empty() { from.expr } else { expr }, ..from });
            }
        } else if aggregate.is_none() && params.has("agg") {
            let base = base.ok_or("a simple metric stands outside of the model that it aggregates")?;
            let mut own = self.aggregate(params, name, base);
            if own.time_dimension.is_empty() {
                own.time_dimension.clone_from(&self.known[base].agg_time_dimension);
            }
            aggregate = Some(own);
        }
        // A manifest repeats the measure's name as an expression.
        params.ignore(&["expr"]);
        let aggregate = aggregate.ok_or("it names neither a measure nor an aggregate")?;
        let scope = Scope { base: Some(aggregate.dataset), is_qualified: false };
        let filter = all_of(&[self.filter(inner_filter, scope)?, self.filter(filter, scope)?]);
        Ok(Simple { aggregate, filter, fill_nulls_with })
    }

    /// Writes an aggregate over the fields of its dataset.
    fn simple(&mut self, metric: &mut Metric, simple: Simple, at: Position) -> Result<(), String> {
        let Simple { aggregate, filter, fill_nulls_with } = simple;
        let over = self.over_fields(&aggregate, metric, at)?;
        let text = match aggregate.agg.as_str() {
            "sum" => format!("SUM({over})"),
            "min" => format!("MIN({over})"),
            "max" => format!("MAX({over})"),
            "average" | "avg" => format!("AVG({over})"),
            "count" => format!("COUNT({over})"),
            "count_distinct" => format!("COUNT(DISTINCT {over})"),
            "sum_boolean" => format!("SUM(CASE WHEN {over} THEN 1 ELSE 0 END)"),
            "median" => format!("MEDIAN({over})"),
            "percentile" => {
                let share = aggregate.percentile.ok_or("its percentile is missing")?;
                let share = if share > 1.0 { share / 100.0 } else { share };
                let function = if aggregate.is_discrete { "PERCENTILE_DISC" } else { "PERCENTILE_CONT" };
                format!("{function}({share}) WITHIN GROUP (ORDER BY {over})")
            }
            other => return Err(format!("there is no aggregation `{other}`")),
        };
        let known = &self.known[aggregate.dataset];
        let field = |name: &String| known.dimensions.get(name).cloned();
        metric.time_dimension = field(&aggregate.time_dimension).unwrap_or_default();
        metric.non_additive_dimension = match aggregate.non_additive {
            Some(found) => Some(NonAdditiveDimension {
                name: field(&found.name).ok_or_else(|| {
                    format!("there is no dimension `{}`, by which it is not additive", found.name)
                })?,
                window_groupings: found
                    .window_groupings
                    .iter()
                    .map(|name| {
                        let entity = known.entities.iter().find(|entity| entity.name == *name);
                        entity.map(|entity| entity.field.clone()).or_else(|| field(name))
                    })
                    .collect::<Option<_>>()
                    .ok_or("its window_groupings name what is not there")?,
                latest: found.latest,
            }),
            None => None,
        };
        metric.fill_nulls_with = match fill_nulls_with.as_str() {
            "" => None,
            text => Some(number(text).ok_or_else(|| format!("`fill_nulls_with: {text}` is no number"))?),
        };
        metric.dataset.clone_from(&self.model.datasets[aggregate.dataset].name);
        metric.expression = Expression::ansi(text);
        metric.filter = filter;
        Ok(())
    }

    /// A measure's expression names columns of its table; fields that are missing are added.
    fn over_fields(
        &mut self,
        aggregate: &Aggregate,
        metric: &Metric,
        at: Position,
    ) -> Result<String, String> {
        let text = aggregate.expr.trim();
        if text == "*" {
            return Ok(text.to_owned());
        }
        if text.contains("{{") {
            return Err(format!("Jinja is not run: `{text}`"));
        }
        let position = aggregate.dataset;
        let mut columns = std::mem::take(&mut self.known[position].columns);
        let dataset = &mut self.model.datasets[position];
        let mut added = Vec::new();
        let result = sql::with_columns(text, |_, column| {
            if let Some(field) = columns.showing(column) {
                return Some(sql::identifier(field));
            }
            // A word that `DATE_TRUNC` and the like take is no column.
            if Grain::from_name(column).is_some() {
                return None;
            }
            let field = columns.add(dataset, column, &metric.source);
            added.push(field.clone());
            Some(sql::identifier(&field))
        });
        self.known[position].columns = columns;
        for field in added {
            let what = format!("field `{}.{field}`", self.model.datasets[position].name);
            let why = format!("it was added for a column that metric `{}` needs", metric.name);
            self.report.changed(at, what, why, "");
        }
        result.map_err(|problem| format!("its expr `{text}` does not parse ({problem})"))
    }

    fn input(&mut self, node: &Node, scope: Scope, filter: &str) -> Result<MetricInput, String> {
        if let Some(name) = plain(node) {
            let filter = filter.to_owned();
            return Ok(MetricInput { filter, ..MetricInput::named(names::clean(&name)) });
        }
        let mut keys = Keys::open(node, "an input metric", self.report).ok_or("an input is no mapping")?;
        let own = keys.take("filter").filter(|node| !is_empty(node));
        let input = MetricInput {
            name: names::clean(&keys.text("name", self.report)),
            alias: keys.text("alias", self.report),
            filter: all_of(&[self.filter(own, scope)?, filter.to_owned()]),
            offset_window: self.span(keys.take("offset_window"))?,
            offset_to_grain: match keys.text("offset_to_grain", self.report).as_str() {
                "" => None,
                grain => Some(Grain::from_name(grain).ok_or_else(|| format!("there is no grain `{grain}`"))?),
            },
        };
        keys.finish(self.report);
        Ok(input)
    }

    /// `7 days`, or a manifest's `{count: 7, granularity: day}`.
    fn span(&self, node: Option<&Node>) -> Result<Option<TimeSpan>, String> {
        let Some(node) = node.filter(|node| !is_empty(node)) else { return Ok(None) };
        let text = match plain(node) {
            Some(text) => text,
            None => {
                let part = |key: &str| find(node, key).and_then(plain).unwrap_or_default();
                format!("{} {}", part("count"), part("granularity"))
            }
        };
        TimeSpan::from_text(&text).map(Some).ok_or_else(|| format!("`{text}` is no span of time"))
    }

    #[expect(clippy::too_many_arguments, reason = "what a metric is read from; a struct would be used once")]
    fn cumulative(
        &mut self,
        params: &mut Keys<'_>,
        mut metric: Metric,
        name: &str,
        base: Option<usize>,
        filter: Option<&Node>,
        measures: &HashMap<&str, &Measure<'_>>,
        used: &mut HashMap<String, bool>,
    ) -> Result<Made, String> {
        metric.kind = Some(MetricKind::Cumulative);
        let mut window = self.span(params.take("window"))?;
        let mut to_date = params.text("grain_to_date", self.report);
        let mut period = params.text("period_agg", self.report);
        let mut input = params.take("input_metric");
        if let Some(node) = params.take("cumulative_type_params").filter(|node| !is_empty(node)) {
            let mut inner =
                Keys::open(node, "cumulative_type_params", self.report).ok_or("they are no mapping")?;
            window = self.span(inner.take("window"))?.or(window);
            let grain = inner.text("grain_to_date", self.report);
            to_date = if grain.is_empty() { to_date } else { grain };
            let agg = inner.text("period_agg", self.report);
            period = if agg.is_empty() { period } else { agg };
            input = inner.take("metric").filter(|node| !is_empty(node)).or(input);
            inner.finish(self.report);
        }
        if !matches!(period.as_str(), "" | "last") {
            let what = format!("`period_agg: {period}` of metric `{name}`");
            let why = "Steward takes the value at the end of each period";
            self.report.lost(params.at, what, why, "check what it shows at coarser grains");
        }
        metric.window = window;
        metric.grain_to_date = match to_date.as_str() {
            "" => None,
            grain => Some(Grain::from_name(grain).ok_or_else(|| format!("there is no grain `{grain}`"))?),
        };
        if params.has("measure") {
            let simple = self.simple_parts(params, name, base, filter, measures, used)?;
            self.simple(&mut metric, simple, params.at)?;
            return Ok(Made::Whole(Box::new(metric)));
        }
        let input = input.ok_or("it names no measure or metric to sum up")?;
        let scope = Scope { base, is_qualified: true };
        let outer = self.filter(filter, scope)?;
        let input = self.input(input, scope, &outer)?;
        metric.filter = input.filter;
        Ok(Made::Over(Box::new(metric), input.name))
    }
}

/// A metric as far as it can be made at once.
enum Made {
    Whole(Box<Metric>),
    /// A cumulative metric, and the simple one that it runs over.
    Over(Box<Metric>, String),
}

/// A number in the spelling that Steward's reader gives it.
fn number(text: &str) -> Option<String> {
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| number.to_string())
}
