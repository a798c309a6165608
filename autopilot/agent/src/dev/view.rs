//! What a person sees: data in, lines out. Nothing here prints, waits or looks at a clock.

use std::time::Duration;

use crate::cli::duration;
use crate::cli::render::{Cell, Palette, Style, Table, clean, cut};
use crate::cli::wire::{AutopilotState, Reason, ServerState};

/// What became of a server's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It runs.
    Running,
    /// It was killed from here.
    Killed,
    /// It was asked to stop and did.
    Stopped,
    /// It ended otherwise, in this way.
    Ended(String),
}

impl Fate {
    fn words(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Ended(status) => status,
        }
    }
}

/// What this process knows about a server it started, whatever the cluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The name people see.
    pub(crate) name: String,
    /// The identity for life.
    pub(crate) id: String,
    /// The HTTP address, `host:port`.
    pub(crate) http: String,
    /// The process id.
    pub(crate) pid: u32,
    /// What became of the process.
    pub(crate) fate: Fate,
}

/// Who said what is in the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Seen or done by this process.
    Dev,
    /// Reported by the autopilot of the leader.
    Autopilot,
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since the start of this process.
    pub(crate) at: Duration,
    /// Who said it.
    pub(crate) voice: Voice,
    /// What happened.
    pub(crate) text: String,
}

impl Moment {
    /// The moment as one line.
    pub(crate) fn line(&self, palette: Palette, width: usize) -> String {
        let voice = match self.voice {
            Voice::Dev => "",
            Voice::Autopilot => "autopilot: ",
        };
        let style = if self.voice == Voice::Autopilot { Style::Dim } else { Style::Plain };
        let line = format!("{:>8.2}s  {voice}{}", self.at.as_secs_f64(), clean(&self.text));
        palette.paint(&cut(&line, width), style)
    }
}

/// Everything one picture shows.
#[derive(Debug, Clone)]
pub(crate) struct Picture<'a> {
    /// What is going on, in a few words.
    pub(crate) title: &'a str,
    /// Since the start of this process.
    pub(crate) at: Duration,
    /// The servers that were started, in that order.
    pub(crate) facts: &'a [Facts],
    /// The last state that the cluster gave.
    pub(crate) state: Option<&'a AutopilotState>,
    /// What autopilot would do next, one step a line; `None` when it was not asked yet.
    pub(crate) plan: Option<&'a [String]>,
    /// Why there is no newer state.
    pub(crate) problem: Option<&'a str>,
    /// What happened, oldest first.
    pub(crate) timeline: &'a [Moment],
    /// Lines below everything.
    pub(crate) hints: &'a [String],
}

/// Fewest lines of the timeline shown, however low the terminal is.
const TIMELINE_LINES_MIN: usize = 3;

/// Sentences are broken here, however wide the terminal is.
pub(crate) const WIDTH_MAX: usize = 80;

/// The picture as lines that fit a terminal of that size.
pub(crate) fn frame(picture: &Picture<'_>, palette: Palette, width: usize, height: usize) -> Vec<String> {
    let mut lines = vec![headline(picture, palette, width)];
    lines.push(String::new());
    lines.extend(table(picture.facts, picture.state).lines(palette, width));
    let said = sentences(picture, palette, width.min(WIDTH_MAX));
    lines.extend(said.into_iter().take(height.saturating_sub(lines.len() + TIMELINE_LINES_MIN + 2)));
    lines.push(String::new());
    // One line stays free for the cursor; hints give way before the timeline does.
    let room = height.saturating_sub(lines.len() + 1);
    let hints = if room > picture.hints.len() + TIMELINE_LINES_MIN { picture.hints } else { &[] };
    let hints_room = if hints.is_empty() { 0 } else { hints.len() + 1 };
    let shown = room.saturating_sub(hints_room).min(picture.timeline.len());
    let newest = &picture.timeline[picture.timeline.len() - shown..];
    lines.extend(newest.iter().map(|moment| moment.line(palette, width)));
    if !hints.is_empty() {
        lines.push(String::new());
        lines.extend(hints.iter().map(|hint| palette.paint(&cut(hint, width), Style::Dim)));
    }
    // A frame taller than the terminal would scroll and could not be drawn over.
    lines.truncate(height.saturating_sub(1).max(1));
    lines
}

fn headline(picture: &Picture<'_>, palette: Palette, width: usize) -> String {
    let (verdict, style) = match (picture.problem, picture.state) {
        (Some(problem), _) => (format!("no answer from a leader ({})", clean(problem)), Style::Bad),
        (None, None) => ("no leader yet".to_owned(), Style::Waiting),
        (None, Some(state)) if !state.healthy => ("not healthy".to_owned(), Style::Bad),
        (None, Some(state)) => {
            (format!("healthy, may lose {}", servers(state.failure_tolerance)), Style::Good)
        }
    };
    let start = format!("{}  {:.1}s  ", picture.title, picture.at.as_secs_f64());
    let start = cut(&start, width);
    let left = width - start.chars().count();
    palette.paint(&start, Style::Strong) + &palette.paint(&cut(&verdict, left), style)
}

fn servers(count: i64) -> String {
    if count == 1 { "1 server".to_owned() } else { format!("{count} servers") }
}

/// The servers, one a line.
pub(crate) fn table(facts: &[Facts], state: Option<&AutopilotState>) -> Table {
    let mut table = Table::new(&["Server", "Role", "Voter", "Health", "Stable for", "HTTP", "PID"]);
    for server in facts {
        let member = state.and_then(|state| state.servers.get(&server.id));
        let ended = server.fate != Fate::Running;
        table.row([
            Cell::styled(&server.name, if ended { Style::Dim } else { Style::Plain }),
            role(server, member),
            match member {
                Some(member) if member.is_voter() => Cell::styled("yes", Style::Good),
                Some(_) => Cell::styled("no", Style::Waiting),
                None => Cell::styled("-", Style::Dim),
            },
            health(server, member),
            member.map_or_else(|| "-".to_owned(), stable_for).into(),
            if ended { Cell::styled("-", Style::Dim) } else { format!("http://{}", server.http).into() },
            if ended { Cell::styled("-", Style::Dim) } else { server.pid.to_string().into() },
        ]);
    }
    table
}

fn role(server: &Facts, member: Option<&ServerState>) -> Cell {
    match member {
        _ if server.fate == Fate::Stopped => Cell::styled("stopped", Style::Dim),
        _ if server.fate != Fate::Running => Cell::styled("dead", Style::Bad),
        Some(member) if member.status == "leader" => Cell::styled("leader", Style::Strong),
        Some(_) => "follower".into(),
        None => Cell::styled("-", Style::Dim),
    }
}

fn health(server: &Facts, member: Option<&ServerState>) -> Cell {
    match member {
        None => Cell::styled("-", Style::Dim),
        Some(member) if member.healthy && server.fate == Fate::Running => {
            Cell::styled("healthy", Style::Good)
        }
        // The last answer is older than the death of the process.
        Some(member) if member.healthy => Cell::styled("unknown", Style::Waiting),
        Some(_) => Cell::styled("unhealthy", Style::Bad),
    }
}

fn stable_for(member: &ServerState) -> String {
    match duration::parse(&member.stable_for) {
        Ok(stable) => duration::short(stable),
        Err(_) if member.stable_for.is_empty() => "-".to_owned(),
        Err(_) => member.stable_for.clone(),
    }
}

/// Below the table: why a server is not what it should be, and what comes next.
fn sentences(picture: &Picture<'_>, palette: Palette, width: usize) -> Vec<String> {
    let mut lines = remarks(picture.facts, picture.state, palette, width);
    let steps = picture.plan.filter(|_| picture.state.is_some() && picture.problem.is_none());
    match steps {
        None => {}
        Some([]) => lines.extend(wrapped("Next", "nothing is to be done", palette, Style::Dim, width)),
        Some(steps) => {
            for step in steps {
                lines.extend(wrapped("Next", step, palette, Style::Plain, width));
            }
        }
    }
    lines
}

/// Why each server that is not a healthy voter is none.
pub(crate) fn remarks(
    facts: &[Facts],
    state: Option<&AutopilotState>,
    palette: Palette,
    width: usize,
) -> Vec<String> {
    let mut lines = Vec::new();
    for server in facts {
        let member = state.and_then(|state| state.servers.get(&server.id));
        for (text, style) in remark(server, member, state.is_some()) {
            lines.extend(wrapped(&server.name, &text, palette, style, width));
        }
    }
    lines
}

fn remark(server: &Facts, member: Option<&ServerState>, answered: bool) -> Vec<(String, Style)> {
    let words = server.fate.words();
    let one = |text: String, style| vec![(text, style)];
    match (&server.fate, member) {
        (Fate::Stopped, _) => Vec::new(),
        (Fate::Running, None) => one("not a member yet".to_owned(), Style::Waiting),
        (Fate::Running, Some(member)) => {
            let unhealthy = |reason: &Reason| (format!("unhealthy: {}", reason.sentence()), Style::Bad);
            let doubtful = |reason: &Reason| (format!("doubtful: {}", reason.sentence()), Style::Waiting);
            let blocked = member.blocked_by.as_ref().filter(|_| !member.is_voter());
            let blocked = blocked.map(|by| (format!("no vote yet: {}", by.sentence()), Style::Waiting));
            let reasons = member.reasons.iter().filter(|_| !member.healthy).map(unhealthy);
            reasons.chain(member.doubts.iter().map(doubtful)).chain(blocked).collect()
        }
        (_, Some(_)) => one(format!("{words}; autopilot has not removed it yet"), Style::Bad),
        (_, None) if answered => one(format!("{words}; removed from the cluster"), Style::Dim),
        (_, None) => one(words.to_owned(), Style::Bad),
    }
}

/// Columns of what a sentence is about.
const LABEL_WIDTH: usize = 8;

/// A sentence behind its label, broken between words, the further lines below its beginning.
fn wrapped(label: &str, text: &str, palette: Palette, style: Style, width: usize) -> Vec<String> {
    let room = width.saturating_sub(LABEL_WIDTH).max(1);
    let mut parts = vec![String::new()];
    for word in clean(text).split_whitespace() {
        let last = parts.last_mut().expect("never empty");
        if last.is_empty() {
            *last = cut(word, room);
        } else if last.chars().count() + 1 + word.chars().count() <= room {
            last.push(' ');
            last.push_str(word);
        } else {
            parts.push(cut(word, room));
        }
    }
    let line = |(number, part): (usize, String)| {
        let label = if number == 0 { label } else { "" };
        let label = cut(&format!("{:LABEL_WIDTH$}", clean(label)), width);
        let part = cut(&part, width.saturating_sub(LABEL_WIDTH));
        label + &palette.paint(&part, style)
    };
    parts.into_iter().enumerate().map(line).collect()
}

/// What to write to a terminal so that `lines` replace the `drawn` lines written before.
pub(crate) fn redraw(drawn: usize, lines: &[String]) -> String {
    let mut out = String::new();
    if drawn > 0 {
        out.push_str(&format!("\x1b[{drawn}A\r"));
    }
    for line in lines {
        out.push_str("\x1b[2K");
        out.push_str(line);
        out.push_str("\r\n");
    }
    out.push_str("\x1b[J");
    out
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
