//! How the demo looks: elapsed seconds, commands, their words, findings, the table. Colour only on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use super::signals;

/// Longest line.
const WIDTH: usize = 98;
/// Where text starts; elapsed seconds stand before it.
const MARGIN: usize = 9;

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Command,
    Good,
    Bad,
}

/// See the module.
pub struct Screen {
    started: Instant,
    colour: bool,
}

impl Screen {
    pub fn new() -> Screen {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        // The lab's kernel shows its output through a pipe.
        let terminal = stdout().is_terminal() || std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        Screen { started: Instant::now(), colour: terminal && !no_color && !dumb }
    }

    /// Since the demo's start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Lines as they are, without margin.
    pub fn raw(&self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    /// A new part.
    pub fn heading(&self, text: &str) {
        self.line("");
        self.line(&format!("{}{}", self.clock(), self.paint(Style::Bold, text)));
    }

    /// What is about to happen, and why.
    pub fn text(&self, text: &str) {
        self.wrapped("", Style::Plain, text);
    }

    /// Says at once what is being done; `on` is the machine it is done on.
    pub fn command(&self, on: &str, command: &str) {
        self.line(&format!("{}{on:<13}$ {}", self.clock(), self.paint(Style::Command, command)));
    }

    /// What a command said.
    pub fn quote(&self, output: &str) {
        output.lines().for_each(|line| self.wrapped("| ", Style::Dim, line));
    }

    /// What was seen, and whether it is what it should be.
    pub fn finding(&self, ok: bool, text: &str) {
        let (mark, style) = if ok { ("ok    ", Style::Good) } else { ("FAILED", Style::Bad) };
        for (n, line) in wrap(text, WIDTH - MARGIN - 7).iter().enumerate() {
            let mark = if n == 0 { self.paint(style, mark) } else { " ".repeat(6) };
            self.line(&format!("{:MARGIN$}{mark} {line}", ""));
        }
    }

    /// One line of the last table.
    pub fn row(&self, number: &str, shown: &str, result: Option<bool>, seconds: &str) {
        let (word, style) = match result {
            None => ("result", Style::Bold),
            Some(true) => ("ok", Style::Good),
            Some(false) => ("FAILED", Style::Bad),
        };
        let text = WIDTH - 26;
        for (n, line) in wrap(shown, text).iter().enumerate() {
            let line = format!("{line:text$}");
            let line = if result.is_none() { self.paint(Style::Bold, &line) } else { line };
            match n {
                0 => self
                    .line(&format!("  {number:>2}  {line}  {}  {seconds:>7}", self.paint(style, &format!("{word:6}")))),
                _ => self.line(&format!("      {}", line.trim_end())),
            }
        }
    }

    /// The last word.
    pub fn verdict(&self, ok: bool, text: &str) {
        self.line("");
        self.line(&self.paint(if ok { Style::Good } else { Style::Bad }, text));
    }

    fn clock(&self) -> String {
        self.paint(Style::Dim, &format!("{:>6}  ", seconds(self.elapsed()))) + " "
    }

    fn wrapped(&self, before: &str, style: Style, text: &str) {
        let hang = text.len() - text.trim_start().len();
        for (n, line) in wrap(text.trim_start(), WIDTH - MARGIN - before.len() - hang).iter().enumerate() {
            // What does not fit goes on further right, so that it is not taken for a line of its own.
            let indent = " ".repeat(if before.is_empty() || n == 0 { hang } else { hang + 4 });
            self.line(&format!("{:MARGIN$}{}", "", self.paint(style, &format!("{before}{indent}{line}"))));
        }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Command => "36",
            Style::Good => "32",
            Style::Bad => "1;31",
            Style::Plain => return text.into(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    /// A reader that has gone away (`| head`) ends the demo as Ctrl-C does.
    fn line(&self, text: &str) {
        let mut out = stdout().lock();
        if writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).is_err() {
            signals::interrupt();
        }
    }
}

/// `12.3s`
pub fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// `1 packet`, `2 packets`
pub fn count<N: Display + PartialEq + From<u8>>(n: N, what: &str) -> String {
    let plural = if n == N::from(1) { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// Breaks at spaces; keeps runs of spaces in lines that fit.
fn wrap(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.into()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}
