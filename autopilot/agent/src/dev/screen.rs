//! Where the pictures go: drawn over on a terminal, written once as plain lines anywhere else.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use super::observe::Observation;
use super::view::{self, Facts, Moment, Picture, Voice};
use crate::cli::render::Palette;
use crate::cli::wire::AutopilotState;

/// Most moments remembered; a terminal shows fewer.
const TIMELINE_MAX: usize = 200;

/// Size assumed for a terminal that does not say.
const FALLBACK_SIZE: (usize, usize) = (80, 24);

/// Shows the cluster and what happens to it.
#[derive(Debug)]
pub(crate) struct Screen {
    title: &'static str,
    started: Instant,
    terminal: bool,
    palette: Palette,
    timeline: Vec<Moment>,
    hints: Vec<String>,
    state: Option<AutopilotState>,
    problem: Option<String>,
    plan: Option<Vec<String>>,
    drawn: usize,
}

impl Screen {
    /// A screen on standard output.
    pub(crate) fn new(title: &'static str) -> Self {
        Self {
            title,
            started: Instant::now(),
            terminal: std::io::stdout().is_terminal()
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
            palette: Palette::for_stdout(),
            timeline: Vec::new(),
            hints: Vec::new(),
            state: None,
            problem: None,
            plan: None,
            drawn: 0,
        }
    }

    /// The last state that was shown.
    pub(crate) fn state(&self) -> Option<&AutopilotState> {
        self.state.as_ref()
    }

    /// Sets the lines below everything; without a terminal they are written once.
    pub(crate) fn hint(&mut self, hints: Vec<String>) {
        if !self.terminal {
            write(&(hints.join("\n") + "\n"));
        }
        self.hints = hints;
    }

    /// Adds to the timeline.
    pub(crate) fn note(&mut self, voice: Voice, text: impl Into<String>) {
        let moment = Moment { at: self.started.elapsed(), voice, text: text.into() };
        if !self.terminal {
            write(&(moment.line(self.palette, usize::MAX) + "\n"));
        }
        if self.timeline.len() == TIMELINE_MAX {
            self.timeline.remove(0);
        }
        self.timeline.push(moment);
    }

    /// Takes in what the cluster says; a state and a plan stay until there is a newer one.
    pub(crate) fn learn(&mut self, seen: &Observation) {
        if seen.state.is_some() {
            self.state.clone_from(&seen.state);
        }
        if seen.plan.is_some() {
            self.plan.clone_from(&seen.plan);
        }
        self.problem.clone_from(&seen.problem);
    }

    /// Draws the picture over the last one. Does nothing without a terminal.
    pub(crate) fn draw(&mut self, facts: &[Facts]) {
        if !self.terminal {
            return;
        }
        let (width, height) = terminal_size::terminal_size()
            .map_or(FALLBACK_SIZE, |(width, height)| (usize::from(width.0), usize::from(height.0)));
        let picture = Picture {
            title: self.title,
            at: self.started.elapsed(),
            facts,
            state: self.state.as_ref(),
            plan: self.plan.as_deref(),
            problem: self.problem.as_deref(),
            timeline: &self.timeline,
            hints: &self.hints,
        };
        let lines = view::frame(&picture, self.palette, width, height);
        write(&view::redraw(self.drawn.min(height.saturating_sub(1)), &lines));
        self.drawn = lines.len();
    }

    /// Writes the table once. Does nothing on a terminal, where it stands already.
    pub(crate) fn print_table(&self, facts: &[Facts]) {
        if !self.terminal {
            let table = view::table(facts, self.state.as_ref());
            let remarks = view::remarks(facts, self.state.as_ref(), self.palette, view::WIDTH_MAX);
            let remarks: String = remarks.iter().map(|line| format!("{line}\n")).collect();
            write(&format!("\n{}{remarks}\n", table.text(self.palette)));
        }
    }

    /// Leaves the last picture where it is and writes below it.
    pub(crate) fn print(&mut self, text: &str) {
        self.drawn = 0;
        write(text);
    }

    /// How to colour what goes to [`print`](Self::print).
    pub(crate) fn palette(&self) -> Palette {
        self.palette
    }
}

/// A reader of standard output that went away is no reason to stop: the exit code still tells the end.
fn write(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
