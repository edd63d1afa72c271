//! A dimension as a field.

use ecow::EcoString;
use serde_json::Map as Json;

use super::references::{HERE, Use};
use super::*;

impl Reader<'_, '_, '_> {
    pub(super) fn dimension(&mut self, position: usize, member: Member<'_>, dataset: &mut Dataset) {
        let cube = &self.cubes[position];
        let Some((mut keys, name)) = Keys::named(member.node, "dimension", self.report) else { return };
        keys.what = format!("dimension `{}.{name}`", cube.name);
        let what = keys.what.clone();
        let at = member.node.at;
        let type_name = keys.text("type", self.report);
        let text = keys.text("sql", self.report);
        let mut field =
            blank::field(names::clean(&name), Expression::ansi(""), source(member.file, member.node.at));
        field.label = keys.text("title", self.report).into();
        field.description = keys.text("description", self.report).into();
        match type_name.as_str() {
            "string" => field.datatype = "String".into(),
            "boolean" => field.datatype = "Boolean".into(),
            "time" => field.is_time = true,
            // Cube's numbers are of any type.
            "number" | "geo" | "switch" | "" => {}
            other => {
                let what = format!("`type: {other}` of {what}");
                self.report.lost(at, what, "Ossie has no such type", "set `datatype`");
            }
        }
        let is_key = keys.any(&["primary_key", "primaryKey"]).is_some_and(|node| node.value.is_true());
        let is_sub_query = keys.any(&["sub_query", "subQuery"]).is_some_and(|node| node.value.is_true());
        let case = keys.take("case");
        let geo = [keys.take("latitude"), keys.take("longitude")];
        let mut kept: Json<String, serde_json::Value> = keys.keep(&["meta", "format", "links"]);
        for value in keys.list("values", self.report) {
            field.sample_values.extend(plain(value).map(EcoString::from));
        }
        field.is_enum = type_name == "switch" && !field.sample_values.is_empty();
        self.hidden(&mut keys);
        let why = "Steward's masks are written by hand: one that is only nearly the same would be a hole";
        keys.lose(&["mask"], why, "write it under `access`", self.report);
        for node in keys.list("granularities", self.report) {
            let name = find(node, "name").and_then(plain).unwrap_or_default();
            let why = "Steward's grains are those of the calendar";
            self.report.lost(node.at, format!("granularity `{name}` of {what}"), why, "write a field for it");
        }
        keys.ignore(&[
            "propagate_filters_to_sub_query",
            "propagateFiltersToSubQuery",
            "suggest_filter_values",
            "suggestFilterValues",
        ]);
        let aliases = keys.texts("aliases", self.report);
        field.synonyms.extend(aliases.into_iter().map(EcoString::from));
        keys.finish(self.report);
        if is_sub_query {
            let why =
                "it is a measure of another cube for each row, and Steward's fields see their own table";
            self.report.lost(at, what, why, "write a metric, or a view in the warehouse");
            return;
        }
        if let [Some(latitude), Some(longitude)] = geo {
            for (part, node) in [("latitude", latitude), ("longitude", longitude)] {
                let text = find(node, "sql").and_then(plain).unwrap_or_default();
                let mut field = field.clone();
                field.name = format!("{}_{part}", field.name);
                field.datatype = "Float".into();
                self.push(position, dataset, field, &text, &format!("{part} of {what}"), at);
            }
            return;
        }
        let text = match (case.map(|node| self.case(node, &what)), text) {
            (Some(Ok(text)), _) => text,
            (Some(Err(why)), _) => {
                self.report.lost(at, what, why, "write its expression by hand");
                return;
            }
            (None, text) if text.is_empty() => sql::identifier(&name),
            (None, text) => text,
        };
        if is_key {
            dataset.primary_key.push(field.name.clone());
        }
        kept.retain(|_, value| !value.is_null());
        field.custom_extensions.extend(blank::extension(VENDOR, kept));
        self.push(position, dataset, field, &text, &what, at);
    }

    fn push(
        &mut self,
        position: usize,
        dataset: &mut Dataset,
        mut field: Field,
        text: &str,
        what: &str,
        at: Position,
    ) {
        match self.fill(position, text, Use::Dimension) {
            Ok(filled) => {
                field.expression = Expression::ansi(filled.replace(&format!("{HERE}."), ""));
                dataset.fields.push(field);
            }
            Err(why) => {
                dataset.primary_key.retain(|key| *key != field.name);
                let what = format!("{what} = `{}`", text.trim());
                self.report.lost(at, what, why, "write its expression by hand");
            }
        }
    }

    /// `case: {when: [{sql, label}], else: {label}}` as SQL.
    fn case(&mut self, node: &Node, what: &str) -> Result<String, String> {
        let mut keys =
            Keys::open(node, format!("`case` of {what}"), self.report).ok_or("it is no mapping")?;
        let label = |node: Option<&Node>| -> Result<String, String> {
            let label =
                node.and_then(|node| find(node, "label")).ok_or("a branch of its case has no label")?;
            match (plain(label), find(label, "sql").and_then(plain)) {
                (Some(text), _) => Ok(format!("'{}'", text.replace('\'', "''"))),
                (None, Some(sql)) => Ok(sql),
                (None, None) => Err("a label of its case is no text".to_owned()),
            }
        };
        let mut text = "CASE".to_owned();
        for branch in keys.list("when", self.report) {
            let condition = find(branch, "sql").and_then(plain).ok_or("a branch of its case has no sql")?;
            text.push_str(&format!(" WHEN {condition} THEN {}", label(Some(branch))?));
        }
        if let Some(other) = keys.take("else") {
            text.push_str(&format!(" ELSE {}", label(Some(other))?));
        }
        keys.finish(self.report);
        Ok(format!("{text} END"))
    }
}

impl Value {
    fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }
}
