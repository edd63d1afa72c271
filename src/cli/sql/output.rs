//! The forms that a result can take, and where it goes.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::cli::CliError;
use crate::cli::output::{print, remark, write_file};
use crate::query::{Format, QueryResult, encode};

/// As users name the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Drawn with lines, for people
    Table,
    Csv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
    Parquet,
    /// Arrow IPC stream
    Arrow,
}

impl OutputFormat {
    fn is_binary(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }

    fn of_ending(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match ending.as_str() {
            "txt" => Self::Table,
            "csv" => Self::Csv,
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::Ndjson,
            "parquet" => Self::Parquet,
            "arrow" | "arrows" => Self::Arrow,
            _ => return None,
        })
    }

    /// What `\format` and its messages call it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn encoding(self) -> Format {
        match self {
            Self::Table => Format::Table,
            Self::Csv => Format::Csv,
            Self::Json => Format::Json,
            Self::Ndjson => Format::Ndjson,
            Self::Parquet => Format::Parquet,
            Self::Arrow => Format::ArrowStream,
        }
    }
}

/// Where results go, in which form.
#[derive(Debug, Clone)]
pub struct Target {
    pub format: OutputFormat,
    file: Option<PathBuf>,
    is_terminal: bool,
}

impl Target {
    /// Without a format, the file's ending decides; without a file it is a table.
    pub fn new(
        format: Option<OutputFormat>,
        file: Option<PathBuf>,
        is_terminal: bool,
    ) -> Result<Self, CliError> {
        let format = match (format, &file) {
            (Some(format), _) => format,
            (None, Some(path)) => OutputFormat::of_ending(path).ok_or_else(|| {
                let shown = path.display();
                CliError::Usage(format!(
                    "the ending of {shown} tells no format; add --format, such as --format csv"
                ))
            })?,
            (None, None) => OutputFormat::Table,
        };
        let mut target = Self { format, file, is_terminal };
        target.set_format(format)?;
        Ok(target)
    }

    pub fn set_format(&mut self, format: OutputFormat) -> Result<(), CliError> {
        if format.is_binary() && self.file.is_none() && self.is_terminal {
            let name = format.name();
            return Err(CliError::Usage(format!(
                "{name} is not for terminals; use -o FILE, or redirect the output"
            )));
        }
        self.format = format;
        Ok(())
    }

    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Results one after the other make sense as text on stdout only.
    pub fn check_statements(&self, count: usize) -> Result<(), CliError> {
        if count > 1 && (self.is_file() || self.format.is_binary()) {
            return Err(CliError::Usage(format!(
                "{count} statements have {count} results, which do not fit in one file; run them one by one"
            )));
        }
        Ok(())
    }

    /// Writes a result whole. Blocking.
    pub fn write(&self, result: &QueryResult) -> Result<(), CliError> {
        let mut bytes = encode(result, self.format.encoding())?;
        if self.format == OutputFormat::Json {
            bytes.push(b'\n');
        }
        let Some(path) = &self.file else { return print(&bytes) };
        write_file(path, &bytes)?;
        remark(&format!("-- {} in {}", rows(result.rows), path.display()));
        Ok(())
    }
}

/// `1 row`, `2 rows`.
pub fn rows(count: usize) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_ending_names_the_format_unless_it_is_given() {
        let format =
            |file: &str, format| Target::new(format, Some(file.into()), true).map(|target| target.format);
        assert_eq!(format("a/b.parquet", None).unwrap(), OutputFormat::Parquet);
        assert_eq!(format("b.JSONL", None).unwrap(), OutputFormat::Ndjson);
        assert_eq!(format("b.parquet", Some(OutputFormat::Csv)).unwrap(), OutputFormat::Csv);
        for odd in ["b", "b.xlsx"] {
            assert!(format(odd, None).unwrap_err().to_string().contains("--format"), "{odd}");
        }
    }

    #[test]
    fn bytes_for_machines_do_not_go_to_terminals() {
        for format in [OutputFormat::Parquet, OutputFormat::Arrow] {
            let error = Target::new(Some(format), None, true).unwrap_err();
            assert!(error.to_string().contains("use -o"), "{error}");
            assert!(Target::new(Some(format), None, false).is_ok());
        }
    }

    #[test]
    fn several_results_do_not_share_a_file() {
        let csv = Target::new(None, Some("x.csv".into()), true).unwrap();
        assert!(csv.check_statements(1).is_ok());
        assert_eq!(csv.check_statements(2).unwrap_err().exit_code(), 2);
        let piped = Target::new(Some(OutputFormat::Arrow), None, false).unwrap();
        assert!(piped.check_statements(2).is_err());
        assert!(Target::new(None, None, true).unwrap().check_statements(2).is_ok());
    }
}
