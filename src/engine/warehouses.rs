//! The configured warehouses, and in which of them a dataset lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, WarehouseConfig};
use crate::guard::Dialect;
use crate::query::QueryEngine;
use crate::semantic::{Dataset, Model};
use crate::warehouse::{
    AdbcWarehouse, LocalWarehouse, SnowflakeWarehouse, Source, Warehouse, WarehouseDialect, WarehouseError,
    physical_name,
};

#[derive(Debug)]
pub(super) struct Warehouses {
    by_name: BTreeMap<String, Arc<dyn Warehouse>>,
}

/// Where a dataset's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub warehouse: String,
    /// As the warehouse has them.
    pub schema: String,
    pub table: String,
}

impl Warehouses {
    /// Opens them all, beside the program's `own`. No server is asked: one that is down keeps nobody else's queries from
    /// running.
    pub fn open(
        config: &Config,
        query: &QueryEngine,
        own: Vec<(String, Arc<dyn Warehouse>)>,
    ) -> Result<Self, WarehouseError> {
        let timeout = Duration::from_secs(query.limits().timeout_seconds);
        let mut by_name: BTreeMap<String, Arc<dyn Warehouse>> = BTreeMap::new();
        for (name, warehouse) in &config.warehouses {
            let opened: Arc<dyn Warehouse> = match warehouse {
                WarehouseConfig::Local { path, s3 } => {
                    let state = query.state().clone();
                    Arc::new(LocalWarehouse::open(name, path, s3.as_ref(), state, timeout)?)
                }
                WarehouseConfig::Adbc(config) => Arc::new(AdbcWarehouse::open(name, config, timeout)?),
                WarehouseConfig::Snowflake(config) => {
                    Arc::new(SnowflakeWarehouse::open(name, config, timeout)?)
                }
            };
            by_name.insert(name.clone(), opened);
        }
        for (name, warehouse) in own {
            if by_name.contains_key(&name) {
                let message =
                    "the program brings a warehouse of this name too; rename one of them".to_owned();
                return Err(WarehouseError::Config { warehouse: name, message });
            }
            by_name.insert(name, warehouse);
        }
        Ok(Self { by_name })
    }

    pub fn get(&self, name: &str) -> Result<&Arc<dyn Warehouse>, WarehouseError> {
        self.by_name.get(name).ok_or_else(|| {
            let known = self.by_name.keys().cloned().collect::<Vec<_>>().join(", ");
            WarehouseError::UnknownWarehouse { name: name.to_owned(), known }
        })
    }

    /// Warehouses that take whole queries, with the dialect in which the guard reads these.
    pub fn whole(&self) -> impl Iterator<Item = (&str, Dialect)> {
        self.by_name.iter().filter_map(|(name, opened)| {
            opened.remote()?;
            Some((name.as_str(), guard_dialect(opened.dialect())?))
        })
    }

    pub fn dialect_of(&self, name: &str) -> Option<Dialect> {
        self.whole().find(|(known, _)| *known == name).map(|(_, dialect)| dialect)
    }

    /// The warehouse of a dataset and what its SQL is written in, for those who write it.
    pub fn shown(&self, dataset: &Dataset) -> Option<(String, &'static str)> {
        let name = Source::parse(&dataset.relation)
            .ok()?
            .warehouse
            .or_else(|| self.by_name.keys().next().cloned())?;
        let dialect = self.by_name.get(&name)?.dialect();
        // Others are read by the embedded engine.
        let written = if guard_dialect(dialect).is_some() { dialect } else { WarehouseDialect::DataFusion };
        Some((name, written.as_str()))
    }

    /// Where `dataset` lives, whether or not that warehouse is configured.
    pub fn place(&self, model: &Model, dataset: &Dataset) -> Result<Place, WarehouseError> {
        let source = Source::parse(&dataset.relation)?;
        let default = || self.by_name.keys().next().cloned().unwrap_or_default();
        let warehouse = source.warehouse.unwrap_or_else(default);
        let dialect =
            self.by_name.get(&warehouse).map_or(WarehouseDialect::DataFusion, |opened| opened.dialect());
        let schema = source.schema.unwrap_or_else(|| model.name.clone());
        Ok(Place {
            warehouse,
            schema: physical_name(dialect, &schema),
            table: physical_name(dialect, &source.table),
        })
    }
}

/// The dialect in which the guard can read whole queries for a warehouse.
fn guard_dialect(dialect: WarehouseDialect) -> Option<Dialect> {
    match dialect {
        WarehouseDialect::PostgreSql => Some(Dialect::PostgreSql),
        WarehouseDialect::Snowflake => Some(Dialect::Snowflake),
        WarehouseDialect::DataFusion | WarehouseDialect::Sqlite | WarehouseDialect::DuckDb => None,
    }
}
