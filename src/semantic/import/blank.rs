//! Parts of a model with nothing in them but what they cannot be without.

use ecow::{EcoString, EcoVec};

use crate::semantic::*;

pub fn model(name: String, source: Source) -> Model {
    Model {
        name,
        source,
        description: String::new(),
        ai_context: AiContext::default(),
        custom_instructions: String::new(),
        synonyms: Vec::new(),
        datasets: Vec::new(),
        relationships: Vec::new(),
        metrics: Vec::new(),
        verified_queries: Vec::new(),
        custom_extensions: Vec::new(),
    }
}

pub fn dataset(name: String, relation: String, source: Source) -> Dataset {
    Dataset {
        name,
        relation,
        source,
        role: None,
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        description: String::new(),
        ai_context: AiContext::default(),
        synonyms: Vec::new(),
        hints: Vec::new(),
        sensitivity: Sensitivity::Public,
        row_filter: None,
        filters: Vec::new(),
        fields: Vec::new(),
        custom_extensions: Vec::new(),
    }
}

pub fn field(name: String, expression: Expression, source: Source) -> Field {
    Field {
        name,
        expression,
        source,
        label: EcoString::new(),
        description: EcoString::new(),
        datatype: EcoString::new(),
        unit: EcoString::new(),
        range: None,
        nullable: None,
        is_enum: false,
        sample_values: EcoVec::new(),
        synonyms: EcoVec::new(),
        hints: EcoVec::new(),
        sensitivity: Sensitivity::Public,
        mask: None,
        is_masked: false,
        pii: false,
        is_time: false,
        time_grains: EcoVec::new(),
        default_aggregation: EcoString::new(),
        ai_context: None,
        custom_extensions: Vec::new(),
    }
}

pub fn metric(name: String, expression: Expression, source: Source) -> Metric {
    Metric {
        name,
        expression,
        source,
        kind: None,
        dataset: String::new(),
        numerator: None,
        denominator: None,
        metrics: Vec::new(),
        window: None,
        grain_to_date: None,
        filter: String::new(),
        non_additive_dimension: None,
        time_dimension: String::new(),
        fill_nulls_with: None,
        joins: Vec::new(),
        description: String::new(),
        datatype: String::new(),
        unit: String::new(),
        synonyms: Vec::new(),
        hints: Vec::new(),
        ai_context: AiContext::default(),
        custom_extensions: Vec::new(),
    }
}

pub fn relationship(name: String, from: String, to: String, source: Source) -> Relationship {
    Relationship {
        name,
        from,
        to,
        source,
        from_columns: Vec::new(),
        to_columns: Vec::new(),
        cardinality: String::new(),
        description: String::new(),
        hints: Vec::new(),
        custom_extensions: Vec::new(),
    }
}

/// What was kept as JSON, under the vendor's name; nothing if nothing was.
pub fn extension(vendor: &str, kept: serde_json::Map<String, serde_json::Value>) -> Option<CustomExtension> {
    (!kept.is_empty()).then(|| CustomExtension {
        vendor_name: vendor.to_owned(),
        data: serde_json::Value::Object(kept).to_string(),
    })
}
