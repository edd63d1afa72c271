//! The interactive shell: editing, history, completion. Everything that it decides is in `command` and `split`.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use reedline::{
    ColumnarMenu, Completer, Emacs, FileBackedHistory, InputMode, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    SimpleMatchHighlighter, Span, Suggestion, ValidationResult, Validator, default_emacs_keybindings,
};

use super::command::{self, Command};
use super::complete::Names;
use super::describe;
use super::output::Target;
use super::session::Session;
use super::split::is_finished;
use crate::cli::CliError;
use crate::cli::output::{print_line, remark};

/// Entries that the history keeps.
const HISTORY_ENTRIES: usize = 5_000;
const MENU: &str = "completion";

/// Reads and runs lines until the user leaves.
pub async fn run(session: Session, target: Target) -> Result<(), CliError> {
    let names = Arc::new(ArcSwap::from_pointee(session.names().await?));
    let mut editor = editor(&session, names.clone())?;
    print_line("Steward SQL. \\h helps, \\d lists the tables, \\q leaves.")?;
    let mut shell = Shell { session, target, timing: false, names };
    loop {
        // The editor blocks its thread until a line is there.
        let read = tokio::task::spawn_blocking(move || {
            let signal = editor.read_line(&StewardPrompt);
            (editor, signal)
        });
        let (returned, signal) = read.await?;
        editor = returned;
        match signal.map_err(|error| CliError::Terminal(error.to_string()))? {
            Signal::Success(line) => match shell.take(&line).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(CliError::Told) => {}
                Err(CliError::Cancelled) => remark("-- cancelled"),
                Err(error @ (CliError::ReaderGone | CliError::Stdout(_) | CliError::Crashed)) => {
                    return Err(error);
                }
                Err(error) => remark(&format!("error: {error}")),
            },
            Signal::CtrlC => {}
            _ => return Ok(()),
        }
    }
}

struct Shell {
    session: Session,
    target: Target,
    timing: bool,
    names: Arc<ArcSwap<Names>>,
}

impl Shell {
    /// Takes a line; false when the user leaves.
    async fn take(&mut self, line: &str) -> Result<bool, CliError> {
        if line.trim().is_empty() {
            return Ok(true);
        }
        if !command::is_command(line) {
            self.session.run_text("line", line, &self.target, self.timing).await?;
            return Ok(true);
        }
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(message) => {
                remark(&format!("error: {message}"));
                return Ok(true);
            }
        };
        match command {
            Command::Quit => return Ok(false),
            Command::Help => print_line(command::HELP)?,
            Command::Timing => {
                self.timing = !self.timing;
                remark(if self.timing { "-- timing is on" } else { "-- timing is off" });
            }
            Command::Format(format) => {
                self.target.set_format(format)?;
                remark(&format!("-- results come as {}", format.name()));
            }
            Command::Tables => {
                let names = self.refresh().await?;
                self.target.write(&describe::tables(&self.session, &names).await?)?;
            }
            Command::Describe(name) => {
                let names = self.refresh().await?;
                self.target.write(&describe::columns(&self.session, &names, &name).await?)?;
            }
        }
        Ok(true)
    }

    /// Tables of API responses come and go.
    async fn refresh(&self) -> Result<Arc<Names>, CliError> {
        let names = Arc::new(self.session.names().await?);
        self.names.store(names.clone());
        Ok(names)
    }
}

fn editor(session: &Session, names: Arc<ArcSwap<Names>>) -> Result<Reedline, CliError> {
    let path = session.config().data_dir.join("sql_history");
    let history = FileBackedHistory::with_file(HISTORY_ENTRIES, path.clone()).map_err(|error| {
        CliError::Terminal(format!("the history {} cannot be used: {error}", path.display()))
    })?;
    let mut keys = default_emacs_keybindings();
    let next = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(next));
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let menu = ColumnarMenu::default().with_name(MENU).with_columns(4).with_input_mode(InputMode::FullBuffer);
    Ok(Reedline::create()
        .with_history(Box::new(history))
        .with_highlighter(Box::new(SimpleMatchHighlighter::default()))
        .with_validator(Box::new(Finished))
        .with_completer(Box::new(ByNames(names)))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_partial_completions(true)
        .with_quick_completions(true)
        .use_bracketed_paste(true)
        .with_edit_mode(Box::new(Emacs::new(keys))))
}

struct Finished;

impl Validator for Finished {
    fn validate(&self, line: &str) -> ValidationResult {
        if command::is_command(line) || is_finished(line) {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

struct ByNames(Arc<ArcSwap<Names>>);

impl Completer for ByNames {
    fn complete(&mut self, line: &str, pos: usize) -> Vec<Suggestion> {
        let (start, found) = self.0.load().complete(line, pos);
        let suggestion = |candidate: super::complete::Candidate| Suggestion {
            append_whitespace: !candidate.text.ends_with('('),
            value: candidate.text,
            description: Some(candidate.kind),
            span: Span::new(start, pos),
            ..Suggestion::default()
        };
        found.into_iter().map(suggestion).collect()
    }
}

struct StewardPrompt;

impl Prompt for StewardPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "steward".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "      -> ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!("(history: {}) ", search.term).into()
    }
}
