//! What stands in braces in Cube's SQL: `{CUBE}`, `{CUBE.member}`, `{member}`, `{other_cube.member}`, `${…}`.

use std::collections::HashSet;

use super::template::{self, Piece};
use super::{Reader, find, names, plain, sql};

/// Stands for the cube itself before a physical column.
pub const HERE: &str = "__cube_itself";
/// Stands before a dimension of the cube itself.
pub const MEMBER: &str = "__cube_member";

/// Where SQL is used, which decides what its references may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A dimension: over physical columns; other dimensions are written out.
    Dimension,
    Join,
    /// A segment, measure or filter: over fields.
    Rows,
}

impl Reader<'_, '_, '_> {
    /// Fills the references in SQL of a cube.
    pub(super) fn fill(&self, position: usize, text: &str, used: Use) -> Result<String, String> {
        self.fill_within(position, text, used, &mut HashSet::new())
    }

    fn fill_within(
        &self,
        position: usize,
        text: &str,
        used: Use,
        open: &mut HashSet<String>,
    ) -> Result<String, String> {
        template::fill(text, |piece| match piece {
            Piece::Text(text) => Ok((*text).to_owned()),
            Piece::Jinja(inner) => Err(format!("Jinja is not run: `{{{{ {inner} }}}}`")),
            Piece::Statement(inner) => Err(format!("Jinja is not run: `{{% {inner} %}}`")),
            Piece::Brace(inner) => self.reference(position, inner, used, open),
        })
    }

    fn reference(
        &self,
        position: usize,
        inner: &str,
        used: Use,
        open: &mut HashSet<String>,
    ) -> Result<String, String> {
        let cube = &self.cubes[position];
        for dynamic in ["FILTER_PARAMS", "FILTER_GROUP", "SECURITY_CONTEXT", "COMPILE_CONTEXT", "SQL_UTILS"] {
            if inner.starts_with(dynamic) {
                return Err(format!("{dynamic} is known to Cube alone, when a query runs"));
            }
        }
        let parts: Vec<&str> = inner.split('.').map(str::trim).collect();
        let is_here = |name: &str| name == "CUBE" || name == "TABLE" || name == cube.name;
        match parts.as_slice() {
            [name] if is_here(name) => Ok(HERE.to_owned()),
            [name] if self.by_name.contains_key(*name) && !cube.dimension_names.contains_key(*name) => {
                self.other(name, used)
            }
            [name] => self.member(position, name, used, open),
            [first, name] if is_here(first) => self.member(position, name, used, open),
            [first, name, grain] if is_here(first) => {
                Ok(truncated(&self.member(position, name, used, open)?, grain))
            }
            [name, grain] if cube.dimension_names.contains_key(*name) => {
                Ok(truncated(&self.member(position, name, used, open)?, grain))
            }
            [other, name] => {
                self.other(other, used)?;
                self.of_other(other, name, used)
            }
            [other, name, grain] => {
                self.other(other, used)?;
                Ok(truncated(&self.of_other(other, name, used)?, grain))
            }
            _ => Err(format!("the reference `{{{inner}}}` leads through several joins")),
        }
    }

    fn other(&self, name: &str, used: Use) -> Result<String, String> {
        if !self.by_name.contains_key(name) {
            return Err(format!("there is no cube `{name}` among the files"));
        }
        match used {
            Use::Dimension => {
                Err(format!("it needs the cube `{name}`, and Steward's fields see their own table"))
            }
            Use::Join => Ok(sql::identifier(name)),
            Use::Rows => Ok(sql::identifier(&names::clean(name))),
        }
    }

    fn of_other(&self, other: &str, name: &str, used: Use) -> Result<String, String> {
        let cube = self.by_name.get(other).map(|position| &self.cubes[*position]);
        if cube.is_some_and(|cube| cube.measure_names.contains_key(name)) {
            return Err(format!("`{{{other}.{name}}}` is a measure, not a value of a row"));
        }
        Ok(match used {
            Use::Join => format!("{}.{}", sql::identifier(other), sql::identifier(name)),
            _ => sql::qualified(&names::clean(other), &names::clean(name)),
        })
    }

    fn member(
        &self,
        position: usize,
        name: &str,
        used: Use,
        open: &mut HashSet<String>,
    ) -> Result<String, String> {
        let cube = &self.cubes[position];
        let Some(at) = cube.dimension_names.get(name) else {
            return Err(match cube.measure_names.contains_key(name) {
                true => format!("`{{{name}}}` is a measure, not a value of a row"),
                false => format!("the cube has no member `{name}`"),
            });
        };
        if used != Use::Dimension {
            return Ok(format!("{MEMBER}.{}", sql::identifier(&names::clean(name))));
        }
        if !open.insert(name.to_owned()) {
            return Err(format!("the dimension `{name}` refers to itself"));
        }
        let text = find(cube.dimensions[*at].node, "sql").and_then(plain).unwrap_or_else(|| name.to_owned());
        let filled = self.fill_within(position, &text, used, open);
        open.remove(name);
        let filled = filled?;
        // A long chain of dimensions that each name the last one twice would double with every link.
        if filled.len() > 64 * 1024 {
            return Err(format!("the dimension `{name}` is too long when it is written out"));
        }
        Ok(if sql::as_column(&filled).is_some() { filled } else { format!("({filled})") })
    }
}

fn truncated(text: &str, grain: &str) -> String {
    format!("DATE_TRUNC('{}', {text})", grain.to_lowercase().replace('\'', ""))
}
