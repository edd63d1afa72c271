//! The guard's sources, compiled without the rest of the service.

pub mod claims;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/guard/mod.rs"]
pub mod guard;

/// What the guard takes from the semantic layer.
pub mod semantic {
    use datafusion::sql::sqlparser::ast::Expr;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    pub fn parse_expression(text: &str) -> Result<Expr, String> {
        let parser = Parser::new(&GenericDialect {}).try_with_sql(text);
        parser.and_then(|mut parser| parser.parse_expr()).map_err(|error| error.to_string())
    }

    pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
        let near = |candidate: &&str| strsim::damerau_levenshtein(name, candidate) <= 1 + name.len() / 3;
        let nearest = known.into_iter().filter(near).min_by_key(|known| strsim::levenshtein(name, known));
        nearest.map(|found| format!("did you mean `{found}`?")).unwrap_or_default()
    }
}
