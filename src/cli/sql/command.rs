//! The shell's own commands, which begin with a backslash. Pure.

use clap::ValueEnum;

use super::output::OutputFormat;

/// What `\h` prints.
pub const HELP: &str = "\
  SELECT …;        runs when the line ends with `;`
  \\d               lists the tables
  \\d NAME          shows a table's columns with their types and meanings
  \\format FORMAT   table, csv, json, ndjson
  \\timing          shows or hides how long queries take
  \\h               this help
  \\q               leaves, as Ctrl-D does
Tab completes. Ctrl-C cancels the running query, or drops what you have typed. Ctrl-R searches the history.";

/// A line that is not SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Tables,
    Describe(String),
    Format(OutputFormat),
    Timing,
    Help,
    Quit,
}

/// Whether a line is for the shell rather than for the engine.
pub fn is_command(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('\\') || matches!(word(line).to_ascii_lowercase().as_str(), "quit" | "exit" | "help")
}

/// Reads a line for which [`is_command`] holds.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    let command = match (name.to_ascii_lowercase().as_str(), argument) {
        ("\\d" | "\\dt", "") => Command::Tables,
        ("\\d" | "\\dt", table) => Command::Describe(table.to_owned()),
        ("\\format", "") => return Err(format!("which format? {}", formats())),
        ("\\format", format) => match OutputFormat::from_str(format, true) {
            Ok(format) => Command::Format(format),
            Err(_) => return Err(format!("there is no format `{format}`; {}", formats())),
        },
        ("\\timing", _) => Command::Timing,
        ("\\h" | "\\?" | "help", _) => Command::Help,
        ("\\q" | "quit" | "exit", _) => Command::Quit,
        (unknown, _) => return Err(format!("there is no command `{unknown}`; \\h lists them")),
    };
    Ok(command)
}

fn word(line: &str) -> &str {
    line.trim_end_matches(';').trim()
}

fn formats() -> String {
    let names: Vec<String> = OutputFormat::value_variants().iter().map(|format| format.name()).collect();
    format!("there are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_the_shell_are_told_from_sql() {
        for line in ["\\d", " \\q", "exit;", "QUIT", "help"] {
            assert!(is_command(line) && parse(line).is_ok(), "{line}");
        }
        for line in ["SELECT '\\d'", "exit now", "help me;"] {
            assert!(!is_command(line), "{line}");
        }
    }

    #[test]
    fn commands_take_their_argument_and_a_mistake_is_told_with_what_there_is() {
        assert_eq!(parse("\\d flights.flights;"), Ok(Command::Describe("flights.flights".to_owned())));
        assert_eq!(parse("\\format JSON"), Ok(Command::Format(OutputFormat::Json)));
        assert!(parse("\\format xml").unwrap_err().contains("ndjson"));
        assert!(parse("\\x").unwrap_err().contains("\\h"));
    }
}
