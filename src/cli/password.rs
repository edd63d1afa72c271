//! Passwords of users at the command line: typed without echo, from stdin, or made. Never an argument, since arguments
//! show in process lists and shell histories.

use std::io::{BufRead, IsTerminal};

use clap::Args;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use secrecy::{ExposeSecret, SecretString};

use super::CliError;
use super::output::remark;
use crate::auth::user::MAX_PASSWORD_BYTES;

#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Read the password from the first line of stdin
    #[arg(long, conflicts_with = "generate_password")]
    password_stdin: bool,
    /// Make a password and show it once, instead of asking for one; without a terminal that is what happens
    #[arg(long)]
    generate_password: bool,
}

impl PasswordArgs {
    /// The password that somebody gives; `None`: one is to be made. Blocking.
    pub fn obtain(&self, whose: &str) -> Result<Option<SecretString>, CliError> {
        let terminal = std::io::stdin().is_terminal();
        match (self.password_stdin, self.generate_password) {
            (true, _) if terminal => Err(CliError::Usage(
                "--password-stdin would show what you type; leave it out to be asked, or pipe the password in"
                    .to_owned(),
            )),
            (true, _) => first_line(std::io::stdin().lock()).map(Some),
            (false, false) if terminal => ask(whose),
            _ => Ok(None),
        }
    }
}

/// The first line without its end; what follows is ignored.
fn first_line(input: impl BufRead) -> Result<SecretString, CliError> {
    let mut line = String::new();
    // Enough to tell one that is too long.
    let limit = u64::try_from(MAX_PASSWORD_BYTES).unwrap_or(u64::MAX).saturating_add(3);
    let read = input.take(limit).read_line(&mut line);
    read.map_err(|error| CliError::Usage(format!("cannot read the password from stdin: {error}")))?;
    let password =
        line.strip_suffix('\n').map_or(line.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if password.is_empty() {
        let message = "stdin holds no password; pipe it in, or leave --password-stdin out to have one made";
        return Err(CliError::Usage(message.to_owned()));
    }
    Ok(SecretString::from(password))
}

/// Asks twice at the terminal, without echo.
fn ask(whose: &str) -> Result<Option<SecretString>, CliError> {
    remark(&format!("Password of {whose} (not shown; Enter alone: one is made): "));
    let first = type_line()?;
    if first.expose_secret().is_empty() {
        return Ok(None);
    }
    remark("Once more: ");
    if type_line()?.expose_secret() != first.expose_secret() {
        return Err(CliError::Usage("the two differ; nothing was changed".to_owned()));
    }
    Ok(Some(first))
}

/// The terminal shows what is typed again, however this ends.
struct Unechoed;

impl Drop for Unechoed {
    fn drop(&mut self) {
        let _ = disable_raw_mode();
    }
}

fn type_line() -> Result<SecretString, CliError> {
    let failed = |error: std::io::Error| CliError::Terminal(error.to_string());
    enable_raw_mode().map_err(failed)?;
    let _unechoed = Unechoed;
    let mut line = String::new();
    loop {
        let Event::Key(key) = read().map_err(failed)? else { continue };
        match typed(&mut line, key) {
            Typing::Goes => {}
            Typing::Done => return Ok(SecretString::from(line)),
            Typing::Cancelled => return Err(CliError::Cancelled),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Typing {
    Goes,
    Done,
    Cancelled,
}

fn typed(line: &mut String, key: KeyEvent) -> Typing {
    if key.kind == KeyEventKind::Release {
        return Typing::Goes;
    }
    match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
        (KeyCode::Enter, _) | (KeyCode::Char('j' | 'm'), true) => return Typing::Done,
        (KeyCode::Esc, _) | (KeyCode::Char('c' | 'd'), true) => return Typing::Cancelled,
        (KeyCode::Char('u'), true) => line.clear(),
        (KeyCode::Backspace, _) | (KeyCode::Char('h'), true) => drop(line.pop()),
        (KeyCode::Char(c), false) => line.push(c),
        _ => {}
    }
    Typing::Goes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_of_stdin_without_its_end() {
        let read = |text: &str| first_line(text.as_bytes()).map(|line| line.expose_secret().to_owned());
        for text in ["correct horse", "correct horse\n", "correct horse\r\n", "correct horse\nignored\n"] {
            assert_eq!(read(text).unwrap(), "correct horse");
        }
        assert_eq!(read(" spaces stay \n").unwrap(), " spaces stay ");
        for empty in ["", "\n", "\r\n"] {
            assert_eq!(read(empty).unwrap_err().exit_code(), 2);
        }
        assert!(first_line(&b"\xff\xfe"[..]).is_err());
        // Not cut to the longest that would do, but longer than it, so that the registry refuses it.
        assert!(read(&"x".repeat(5_000)).unwrap().len() > MAX_PASSWORD_BYTES);
    }

    #[test]
    fn what_is_typed_can_be_mended_and_given_up() {
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        let mut line = String::new();
        for c in ['x', 'y'] {
            typed(&mut line, key(KeyCode::Char(c)));
        }
        typed(&mut line, control('u'));
        for code in
            [KeyCode::Char('ä'), KeyCode::Char('b'), KeyCode::Backspace, KeyCode::Left, KeyCode::Char('C')]
        {
            assert_eq!(typed(&mut line, key(code)), Typing::Goes);
        }
        assert_eq!(line, "äC");
        assert_eq!(typed(&mut line, key(KeyCode::Enter)), Typing::Done);
        assert_eq!(typed(&mut line, control('c')), Typing::Cancelled);
    }
}
