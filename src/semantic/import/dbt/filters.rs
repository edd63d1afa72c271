//! dbt's filters: `{{ Dimension('order__status') }} = 'new'` as SQL over fields.

use super::template::{Call, Piece};
use super::*;

/// Where names in a filter are looked for first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    pub base: Option<usize>,
    /// Whether every field is written with its dataset, since the metric has none of its own.
    pub is_qualified: bool,
}

impl Reader<'_, '_, '_> {
    /// The conditions of a `filter`, joined: text, a list of texts, or a manifest's `where_filters`.
    pub(super) fn filter(&self, node: Option<&Node>, scope: Scope) -> Result<String, String> {
        let Some(node) = node else { return Ok(String::new()) };
        let texts: Vec<String> = match &node.value {
            Value::Mapping(_) => items(find(node, "where_filters"))
                .filter_map(|one| find(one, "where_sql_template").and_then(plain))
                .collect(),
            Value::Sequence(list) => list.iter().filter_map(plain).collect(),
            _ => plain(node).into_iter().collect(),
        };
        let mut conditions = Vec::new();
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            let filled =
                self.filled(text, scope).map_err(|why| format!("its filter `{}`: {why}", text.trim()))?;
            conditions.push(filled.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        Ok(all_of(&conditions))
    }

    fn filled(&self, text: &str, scope: Scope) -> Result<String, String> {
        template::fill(text, |piece| match piece {
            Piece::Text(text) => Ok((*text).to_owned()),
            Piece::Brace(inner) => Ok(format!("{{{inner}}}")),
            Piece::Statement(inner) => Err(format!("Jinja is not run: `{{% {inner} %}}`")),
            Piece::Jinja(inner) => match template::call(inner) {
                Some(call) => self.call(&call, scope),
                None => Err(format!("Jinja is not run: `{{{{ {inner} }}}}`")),
            },
        })
    }

    fn call(&self, call: &Call, scope: Scope) -> Result<String, String> {
        let Some(name) = call.arguments.first() else {
            return Err(format!("`{}` names nothing", call.function));
        };
        if let Some(method) = call.methods.first() {
            return Err(format!("`.{method}()` has no counterpart"));
        }
        match call.function.as_str() {
            "Dimension" | "TimeDimension" => {
                let field = self.dimension_named(name, scope)?;
                match call.grain.as_ref().or(call.arguments.get(1)) {
                    None => Ok(field),
                    Some(grain) if Grain::from_name(grain).is_some() => {
                        Ok(format!("DATE_TRUNC('{}', {field})", grain.to_lowercase()))
                    }
                    Some(grain) => Err(format!("there is no grain `{grain}`")),
                }
            }
            "Entity" => self.entity_named(name, scope),
            "Metric" => Err("a metric inside a filter has no counterpart".to_owned()),
            other => Err(format!("`{other}(…)` is known to dbt alone")),
        }
    }

    /// `dimension`, `entity__dimension` or `entity__…__entity__dimension`.
    fn dimension_named(&self, path: &str, scope: Scope) -> Result<String, String> {
        let base = scope.base;
        let (entities, name) = path.rsplit_once("__").map_or(("", path), |(before, name)| (before, name));
        if name == "metric_time" || path == "metric_time" {
            let Some(base) = base else {
                return Err("`metric_time` has no one meaning over several datasets".to_owned());
            };
            let name = &self.known[base].agg_time_dimension;
            return match self.known[base].dimensions.get(name) {
                Some(field) => Ok(self.spelled(base, field, scope)),
                None => Err("the dataset has no agg_time_dimension".to_owned()),
            };
        }
        // What is known under the whole name goes first: dimensions may have two underscores in theirs.
        if let Some(base) = base
            && let Some(field) = self.known[base].dimensions.get(path)
        {
            return Ok(self.spelled(base, field, scope));
        }
        let entity = entities.rsplit("__").next().unwrap_or_default();
        let holders = self.keys.get(entity).map(Vec::as_slice).unwrap_or_default();
        let own = base.into_iter().filter(|base| holders.contains(base) || entity.is_empty());
        for position in own.chain(holders.iter().copied()) {
            if let Some(field) = self.known[position].dimensions.get(name) {
                return Ok(self.spelled(position, field, scope));
            }
        }
        Err(format!("no semantic model has the dimension `{path}`"))
    }

    fn entity_named(&self, path: &str, scope: Scope) -> Result<String, String> {
        let name = path.rsplit("__").next().unwrap_or(path);
        let holders = self.keys.get(name).map(Vec::as_slice).unwrap_or_default();
        for position in scope.base.into_iter().chain(holders.iter().copied()) {
            let entity = self.known[position].entities.iter().find(|entity| entity.name == name);
            if let Some(entity) = entity.filter(|entity| !entity.field.is_empty()) {
                return Ok(self.spelled(position, &entity.field, scope));
            }
        }
        Err(format!("no semantic model has the entity `{path}`"))
    }

    fn spelled(&self, position: usize, field: &str, scope: Scope) -> String {
        match scope.base == Some(position) && !scope.is_qualified {
            true => sql::identifier(field),
            false => sql::qualified(&self.model.datasets[position].name, field),
        }
    }
}

/// Conditions that must all hold.
pub fn all_of(conditions: &[String]) -> String {
    let mut conditions: Vec<&String> = conditions.iter().filter(|one| !one.is_empty()).collect();
    conditions.dedup();
    match conditions.as_slice() {
        [] => String::new(),
        [one] => (*one).clone(),
        many => many.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" AND "),
    }
}
