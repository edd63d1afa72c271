//! Measures as metrics: aggregates, arithmetic over other measures, rolling windows.

use super::template::Piece;
use super::*;

impl Reader<'_, '_, '_> {
    pub(super) fn measures(&mut self, model: &mut Model, columns: &mut [Columns], position: usize) {
        for member in &self.cubes[position].measures {
            let metric = self.remarking(*member, |reader| reader.measure(model, columns, position, *member));
            model.metrics.extend(metric);
        }
    }

    fn measure(
        &mut self,
        model: &mut Model,
        columns: &mut [Columns],
        position: usize,
        member: Member<'_>,
    ) -> Option<Metric> {
        let cube = &self.cubes[position];
        let (mut keys, name) = Keys::named(member.node, "measure", self.report)?;
        keys.what = format!("measure `{}.{name}`", cube.name);
        let what = keys.what.clone();
        let at = member.node.at;
        let called =
            self.metric_names.get(&(position, name.clone())).cloned().unwrap_or_else(|| name.clone());
        if called != name {
            let why = format!("it is called `{called}` now, since several cubes have such a measure");
            self.report.changed(at, what.clone(), why, "");
        }
        let mut metric = blank::metric(called, Expression::ansi(""), source(member.file, at));
        let type_name = keys.text("type", self.report);
        let text = keys.text("sql", self.report);
        metric.description = keys.text("description", self.report);
        metric.synonyms.extend(Some(keys.text("title", self.report)).filter(|title| !title.is_empty()));
        metric.synonyms.extend(keys.texts("aliases", self.report));
        let filters = keys.list("filters", self.report);
        let rolling = keys.any(&["rolling_window", "rollingWindow"]);
        let shift = keys.any(&["time_shift", "timeShift"]);
        self.hidden(&mut keys);
        keys.ignore(&["drill_members", "drillMembers", "drill_member_refs", "multi_stage", "multiStage"]);
        let why = "Steward's metrics are grouped by what a query asks for";
        let stages =
            ["group_by", "groupBy", "reduce_by", "reduceBy", "add_group_by", "addGroupBy", "order_by"];
        let is_staged = stages.iter().any(|key| keys.has(key));
        keys.lose(&stages, why, "", self.report);
        let why = "Steward's metrics have one expression";
        keys.lose(&["case"], why, "write it as CASE in the expression", self.report);
        let kept = keys.keep(&["meta", "format"]);
        metric.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.finish(self.report);
        if is_staged || type_name == "rank" {
            self.report.lost(at, what, "without its stages it would say something else", "write it by hand");
            return None;
        }
        let mut conditions = Vec::new();
        for filter in filters {
            let text = find(filter, "sql").and_then(plain).unwrap_or_default();
            match self.over_fields(model, columns, position, &text, member) {
                Ok(condition) => conditions.push(condition),
                Err(why) => {
                    // Without its filter it would be another measure.
                    self.report.lost(at, format!("{what}, filter `{text}`"), why, "write it by hand");
                    return None;
                }
            }
        }
        let condition = match conditions.as_slice() {
            [one] => one.clone(),
            many => many.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" AND "),
        };
        let made = self.expression(model, columns, position, member, &type_name, &text, &mut metric);
        if let Err(why) = made {
            self.report.lost(at, format!("{what} = `{}`", text.trim()), why, "write it by hand");
            return None;
        }
        if metric.kind == Some(MetricKind::Derived) {
            for input in &mut metric.metrics {
                input.filter.clone_from(&condition);
            }
        } else {
            metric.filter = condition;
        }
        if let Some(node) = rolling
            && let Err(why) = self.window(node, &mut metric, &what)
        {
            self.report.lost(at, what, why, "write it by hand");
            return None;
        }
        if let Some(node) = shift
            && let Err(why) = time_shift(node, &mut metric)
        {
            self.report.lost(at, what, why, "write it by hand");
            return None;
        }
        Some(metric)
    }

    /// The expression of a measure by its type, without its filters.
    #[expect(clippy::too_many_arguments, reason = "what a measure is made of; a struct would be used once")]
    fn expression(
        &mut self,
        model: &mut Model,
        columns: &mut [Columns],
        position: usize,
        member: Member<'_>,
        type_name: &str,
        text: &str,
        metric: &mut Metric,
    ) -> Result<(), String> {
        let mut over = |reader: &mut Self| reader.over_fields(model, columns, position, text, member);
        let aggregate = match type_name {
            "count" if text.is_empty() => "COUNT(*)".to_owned(),
            "count" => format!("COUNT({})", over(self)?),
            "count_distinct" | "countDistinct" => format!("COUNT(DISTINCT {})", over(self)?),
            "count_distinct_approx" | "countDistinctApprox" => {
                let what = format!("the approximation of metric `{}`", metric.name);
                self.report.changed(member.node.at, what, "it counts exactly now", "");
                format!("COUNT(DISTINCT {})", over(self)?)
            }
            "sum" | "avg" | "min" | "max" => format!("{}({})", type_name.to_uppercase(), over(self)?),
            "running_total" | "runningTotal" => {
                metric.kind = Some(MetricKind::Cumulative);
                format!("SUM({})", over(self)?)
            }
            "number" | "string" | "boolean" | "time" | "number_agg" => {
                return self.calculated(model, columns, position, member, text, metric);
            }
            "" => return Err("it has no type".to_owned()),
            other => return Err(format!("Steward knows no measures of type `{other}`")),
        };
        if text.is_empty() && type_name != "count" {
            return Err("it has no sql".to_owned());
        }
        metric.expression = Expression::ansi(aggregate);
        metric.dataset.clone_from(&model.datasets[position].name);
        Ok(())
    }

    /// Arithmetic over other measures, or over aggregates that it writes out itself; both at once it must not be.
    fn calculated(
        &mut self,
        model: &mut Model,
        columns: &mut [Columns],
        position: usize,
        member: Member<'_>,
        text: &str,
        metric: &mut Metric,
    ) -> Result<(), String> {
        let mut inputs: Vec<String> = Vec::new();
        let mut others = false;
        let filled = template::fill(text, |piece| match piece {
            Piece::Brace(inner) => {
                let found = self.measure_named(position, inner);
                match found {
                    Some(name) => {
                        if !inputs.contains(&name) {
                            inputs.push(name.clone());
                        }
                        Ok(sql::identifier(&name))
                    }
                    None => {
                        others = true;
                        Ok(format!("{{{inner}}}"))
                    }
                }
            }
            Piece::Jinja(inner) => Err(format!("Jinja is not run: `{{{{ {inner} }}}}`")),
            Piece::Statement(inner) => Err(format!("Jinja is not run: `{{% {inner} %}}`")),
            Piece::Text(text) => Ok((*text).to_owned()),
        })?;
        if inputs.is_empty() {
            metric.expression = Expression::ansi(self.over_fields(model, columns, position, text, member)?);
            metric.dataset.clone_from(&model.datasets[position].name);
            return Ok(());
        }
        let aggregates = parse_expression(&filled).is_ok_and(|expr| sql::is_aggregate(&expr));
        if others || aggregates {
            return Err("it mixes other measures with aggregates or columns of its own".to_owned());
        }
        metric.kind = Some(MetricKind::Derived);
        metric.expression = Expression::ansi(filled);
        metric.metrics = inputs.into_iter().map(MetricInput::named).collect();
        Ok(())
    }

    /// The metric that a reference names: `count`, `CUBE.count`, `orders.count`.
    fn measure_named(&self, position: usize, inner: &str) -> Option<String> {
        let parts: Vec<&str> = inner.split('.').map(str::trim).collect();
        let (cube, name) = match parts.as_slice() {
            [name] => (position, *name),
            ["CUBE", name] => (position, *name),
            [cube, name] => (*self.by_name.get(*cube)?, *name),
            _ => return None,
        };
        self.metric_names.get(&(cube, name.to_owned())).cloned()
    }

    /// `rolling_window: {trailing: 7 day}` or `{type: to_date, granularity: month}`.
    fn window(&mut self, node: &Node, metric: &mut Metric, what: &str) -> Result<(), String> {
        let mut keys =
            Keys::open(node, format!("rolling_window of {what}"), self.report).ok_or("no mapping")?;
        if metric.kind == Some(MetricKind::Derived) {
            return Err("it is a window over arithmetic of measures".to_owned());
        }
        metric.kind = Some(MetricKind::Cumulative);
        let granularity = keys.text("granularity", self.report);
        let trailing = keys.text("trailing", self.report);
        let leading = keys.text("leading", self.report);
        let offset = keys.text("offset", self.report);
        let is_to_date = keys.text("type", self.report) == "to_date";
        keys.finish(self.report);
        if !leading.is_empty() {
            return Err("its window looks ahead".to_owned());
        }
        if offset == "start" {
            return Err("its window ends where the period starts".to_owned());
        }
        if is_to_date {
            let grain = Grain::from_name(&granularity);
            metric.grain_to_date = Some(grain.ok_or(format!("there is no grain `{granularity}`"))?);
        } else if !trailing.is_empty() && trailing != "unbounded" {
            let span = TimeSpan::from_text(&trailing);
            metric.window = Some(span.ok_or(format!("`{trailing}` is no span of time"))?);
        }
        Ok(())
    }
}

/// `time_shift: [{interval: 1 year, type: prior}]` as an offset of the measure's one input.
fn time_shift(node: &Node, metric: &mut Metric) -> Result<(), String> {
    let items = match &node.value {
        Value::Sequence(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let [item] = items else { return Err("it is shifted along several dimensions".to_owned()) };
    let text = |key: &str| find(item, key).and_then(plain).unwrap_or_default();
    let interval = text("interval");
    let Some(span) = TimeSpan::from_text(&interval) else {
        return Err(format!("it is shifted by `{interval}`, which is no span of time"));
    };
    if text("type") == "next" {
        return Err("it is shifted ahead".to_owned());
    }
    match (metric.kind, metric.metrics.as_mut_slice()) {
        (Some(MetricKind::Derived), [input]) => {
            input.offset_window = Some(span);
            Ok(())
        }
        _ => Err("it is shifted, and not by itself another measure".to_owned()),
    }
}
