//! Text for people: aligned tables and blocks, with colour where it is wanted.
//!
//! Everything here turns data into lines; nothing here prints. Text that came from a server is cleaned of control
//! characters, so that a server's name cannot move the cursor of the terminal it is shown on.

use std::io::IsTerminal;

/// How a piece of text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Style {
    /// As it is.
    #[default]
    Plain,
    /// Something is as it should be: green.
    Good,
    /// Something needs attention soon: yellow.
    Waiting,
    /// Something is wrong: red.
    Bad,
    /// Of less interest: dim.
    Dim,
    /// A heading: bold.
    Strong,
}

/// Whether styles become colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Palette {
    colours: bool,
}

impl Palette {
    /// No colours at all.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colours: false };

    /// Colours when standard output is a terminal and `NO_COLOR` is unset or empty (no-color.org).
    pub(crate) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { colours: !refused && !dumb && std::io::stdout().is_terminal() }
    }

    /// The text in its style.
    pub(crate) fn paint(self, text: &str, style: Style) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Good => "32",
            Style::Waiting => "33",
            Style::Bad => "31",
            Style::Dim => "2",
            Style::Strong => "1",
        };
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell with a style.
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: clean(text.as_ref()), style }
    }

    /// `true` in green or `false` in red.
    pub(crate) fn verdict(good: bool) -> Self {
        Self::styled(good.to_string(), if good { Style::Good } else { Style::Bad })
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// Replaces control characters.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A table with a header and left-aligned columns two spaces apart.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.header.len(), "every column has a header");
        self.rows.push(cells.into());
    }

    /// The header and the rows as lines of at most `width` characters.
    pub(crate) fn lines(&self, palette: Palette, width: usize) -> Vec<String> {
        let header: Vec<Cell> = self.header.iter().map(|title| Cell::styled(title, Style::Strong)).collect();
        let all: Vec<&Vec<Cell>> = std::iter::once(&header).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                all.iter().filter_map(|row| row.get(column)).map(|cell| length(&cell.text)).max().unwrap_or(0)
            })
            .collect();
        all.iter().map(|row| line(row, &widths, palette, width)).collect()
    }

    /// The whole table as text, each line ended.
    pub(crate) fn text(&self, palette: Palette) -> String {
        self.lines(palette, usize::MAX).iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

fn line(row: &[Cell], widths: &[usize], palette: Palette, width: usize) -> String {
    let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
    let mut out = String::new();
    let mut left = width;
    for (column, cell) in row.iter().enumerate().take(last + 1) {
        let text = cut(&cell.text, left);
        out.push_str(&palette.paint(&text, cell.style));
        left -= length(&text);
        if column < last {
            let padding = (widths[column] + 2).saturating_sub(length(&text)).min(left);
            out.extend(std::iter::repeat_n(' ', padding));
            left -= padding;
        }
    }
    out
}

/// At most `width` characters of a text, the last one `…` when something was cut off.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

/// Columns a text takes, counting every character as one.
fn length(text: &str) -> usize {
    text.chars().count()
}

/// A JSON document indented by four spaces, as Consul prints it.
///
/// A body that is not JSON is given back as it is: showing it helps more than hiding it.
pub(crate) fn json(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return String::from_utf8_lossy(body).into_owned();
    };
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    match serde::Serialize::serialize(&value, &mut serializer) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned() + "\n",
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["Node", "Voter"]);
        table.row(["first".into(), Cell::verdict(true)]);
        table.row(["n2".into(), Cell::verdict(false)]);
        table
    }

    #[test]
    fn columns_are_aligned_without_trailing_space() {
        assert_eq!(sample().text(Palette::PLAIN), "Node   Voter\nfirst  true\nn2     false\n");
    }

    #[test]
    fn narrow_lines_are_cut() {
        assert_eq!(sample().lines(Palette::PLAIN, 9), ["Node   V…", "first  t…", "n2     f…"]);
        assert_eq!(sample().lines(Palette::PLAIN, 3), ["No…", "fi…", "n2 "]);
        assert_eq!(sample().lines(Palette::PLAIN, 0), ["", "", ""]);
    }

    #[test]
    fn colour_does_not_change_alignment() {
        let lines = sample().lines(Palette { colours: true }, usize::MAX);
        assert_eq!(lines[1], "first  \u{1b}[32mtrue\u{1b}[0m");
        assert_eq!(lines[0], "\u{1b}[1mNode\u{1b}[0m   \u{1b}[1mVoter\u{1b}[0m");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(Cell::from("a\u{1b}[2Jb\n").text, "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn json_is_indented_by_four() {
        assert_eq!(json(br#"{"A":[1]}"#), "{\n    \"A\": [\n        1\n    ]\n}\n");
        assert_eq!(json(b"not json"), "not json");
    }
}
