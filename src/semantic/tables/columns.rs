//! Tables that are made from the models when they are read: nothing of a catalog is kept twice.
//!
//! C1 A part of a table has the rows of one stretch of datasets; all parts in order have all rows, each once.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::builder::{ListBuilder, StringBuilder};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};

use crate::semantic::model::{Dataset, Field, Model};

/// A part takes another dataset as long as it has fewer fields than this.
const PART_FIELDS: usize = 1_024;

/// Some datasets of one model, in their order.
#[derive(Debug, Clone)]
pub(super) struct Part {
    model: Arc<Model>,
    datasets: Range<usize>,
    fields: usize,
}

/// All datasets, in parts; a model without any has a part without any.
pub(super) fn parts(models: &[Arc<Model>]) -> Arc<[Part]> {
    let mut parts = Vec::new();
    for model in models {
        let (mut start, mut fields) = (0, 0);
        for (at, dataset) in model.datasets.iter().enumerate() {
            fields += dataset.fields.len();
            if fields >= PART_FIELDS && at + 1 < model.datasets.len() {
                parts.push(Part { model: model.clone(), datasets: start..at + 1, fields });
                (start, fields) = (at + 1, 0);
            }
        }
        parts.push(Part { model: model.clone(), datasets: start..model.datasets.len(), fields });
    }
    parts.into()
}

/// The models whose first part is among these.
pub(super) fn models<'p>(parts: &'p [&'p Part]) -> impl Iterator<Item = &'p Model> + Clone {
    parts.iter().filter(|part| part.datasets.start == 0).map(|part| part.model.as_ref())
}

/// The models whose last part is among these.
pub(super) fn ended<'p>(parts: &'p [&'p Part]) -> impl Iterator<Item = &'p Model> + Clone {
    parts.iter().filter(|part| part.datasets.end == part.model.datasets.len()).map(|part| part.model.as_ref())
}

pub(super) fn datasets<'p>(parts: &'p [&'p Part]) -> impl Iterator<Item = (&'p Model, &'p Dataset)> + Clone {
    parts.iter().flat_map(|part| {
        part.model.datasets[part.datasets.clone()].iter().map(|dataset| (part.model.as_ref(), dataset))
    })
}

pub(super) fn fields<'p>(
    parts: &'p [&'p Part],
) -> impl Iterator<Item = (&'p Model, &'p Dataset, &'p Field)> + Clone {
    datasets(parts)
        .flat_map(|(model, dataset)| dataset.fields.iter().map(move |field| (model, dataset, field)))
}

/// What a table holds for some parts.
pub(super) type Make = fn(&[&Part], Columns) -> Columns;

#[derive(Clone)]
enum Source {
    Parts(Arc<[Part]>, Make),
    Whole(RecordBatch),
}

/// One table of the semantic layer. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    schema: SchemaRef,
    /// What each column holds.
    about: Arc<[&'static str]>,
    source: Source,
}

impl std::fmt::Debug for Table {
    /// With its rows.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Table").field(&self.all()).finish()
    }
}

impl Table {
    pub(super) fn of_parts(parts: Arc<[Part]>, make: Make) -> Self {
        let (none, about) = make(&[], Columns::default()).finish();
        Self { schema: none.schema(), about, source: Source::Parts(parts, make) }
    }

    pub(super) fn whole(columns: Columns) -> Self {
        let (batch, about) = columns.finish();
        Self { schema: batch.schema(), about, source: Source::Whole(batch) }
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub(super) fn about(&self) -> &[&'static str] {
        &self.about
    }

    /// Number of its parts.
    pub fn parts(&self) -> usize {
        match &self.source {
            Source::Parts(parts, _) => parts.len(),
            Source::Whole(_) => 1,
        }
    }

    /// How much there is in a part, in fields of the model or, where the table is no model's, in rows.
    pub fn weight(&self, part: usize) -> usize {
        match &self.source {
            Source::Parts(parts, _) => parts.get(part).map_or(0, |part| part.fields),
            Source::Whole(batch) => batch.num_rows(),
        }
    }

    /// The rows of some parts, in their order; of all columns, or of those that `projection` lists.
    pub fn batch(&self, parts: &[usize], projection: Option<&[usize]>) -> RecordBatch {
        let all: Vec<usize>;
        let projection = match projection {
            Some(projection) => projection,
            None => {
                all = (0..self.schema.fields().len()).collect();
                &all
            }
        };
        let (known, make) = match &self.source {
            Source::Parts(known, make) => (known, make),
            Source::Whole(batch) => {
                let rows = if parts.is_empty() { 0 } else { batch.num_rows() };
                return batch
                    .slice(0, rows)
                    .project(projection)
                    .expect("the columns are those of its schema");
            }
        };
        let wanted: Vec<&Part> = parts.iter().filter_map(|part| known.get(*part)).collect();
        let (made, _) =
            make(&wanted, Columns { wanted: Some(projection.to_vec()), ..Columns::default() }).finish();
        made
    }

    /// All of its rows.
    pub fn all(&self) -> RecordBatch {
        self.batch(&(0..self.parts()).collect::<Vec<_>>(), None)
    }
}

/// Collects columns of equal length; the first mistake would be a defect of this module, hence `expect`.
#[derive(Default)]
pub(super) struct Columns {
    /// Places of the columns to make; all without it.
    wanted: Option<Vec<usize>>,
    made: Vec<(usize, ArrowField, ArrayRef)>,
    about: Vec<&'static str>,
    rows: Option<usize>,
}

impl Columns {
    /// Must come first: the number of rows where no column is wanted.
    pub fn rows(mut self, rows: impl Iterator) -> Self {
        if self.wanted.as_ref().is_some_and(Vec::is_empty) {
            self.rows = Some(rows.count());
        }
        self
    }

    pub fn text<'a>(
        self,
        name: &'static str,
        about: &'static str,
        values: impl Iterator<Item = &'a str>,
    ) -> Self {
        // Empty text in YAML terms is "not given": NULL in SQL terms.
        self.push(name, about, DataType::Utf8, || {
            Arc::new(values.map(|value| (!value.is_empty()).then_some(value)).collect::<StringArray>())
        })
    }

    pub fn int(self, name: &'static str, about: &'static str, values: impl Iterator<Item = i64>) -> Self {
        self.push(name, about, DataType::Int64, || Arc::new(values.map(Some).collect::<Int64Array>()))
    }

    pub fn float(self, name: &'static str, about: &'static str, values: impl Iterator<Item = f32>) -> Self {
        self.push(name, about, DataType::Float32, || Arc::new(values.map(Some).collect::<Float32Array>()))
    }

    pub fn bool(
        self,
        name: &'static str,
        about: &'static str,
        values: impl Iterator<Item = Option<bool>>,
    ) -> Self {
        self.push(name, about, DataType::Boolean, || Arc::new(values.collect::<BooleanArray>()))
    }

    pub fn list<'a, T: AsRef<str> + 'a>(
        self,
        name: &'static str,
        about: &'static str,
        values: impl Iterator<Item = &'a [T]>,
    ) -> Self {
        let item = ArrowField::new("item", DataType::Utf8, true);
        self.push(name, about, DataType::List(Arc::new(item)), || {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for value in values {
                for item in value {
                    builder.values().append_value(item);
                }
                builder.append(true);
            }
            let array: ListArray = builder.finish();
            Arc::new(array)
        })
    }

    fn push(
        mut self,
        name: &'static str,
        about: &'static str,
        data_type: DataType,
        array: impl FnOnce() -> ArrayRef,
    ) -> Self {
        let place = self.about.len();
        self.about.push(about);
        if self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&place)) {
            self.made.push((place, ArrowField::new(name, data_type, true), array()));
        }
        self
    }

    /// The columns in the order in which they were wanted, and what each column of the table holds.
    pub fn finish(self) -> (RecordBatch, Arc<[&'static str]>) {
        let made = &self.made;
        let wanted = self.wanted.unwrap_or_else(|| (0..made.len()).collect());
        let columns = wanted.iter().filter_map(|place| made.iter().find(|(made, ..)| made == place));
        let (fields, arrays): (Vec<_>, Vec<_>) =
            columns.map(|(_, field, array)| (field.clone(), array.clone())).unzip();
        let options = RecordBatchOptions::new().with_row_count(self.rows);
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .expect("every column was built from the same rows");
        (batch, self.about.into())
    }
}
