//! What a story leaves behind: how long each phase took, for people and for programs.

use std::time::Duration;

use serde_json::json;

use crate::cli::render::{Cell, Palette, Style, Table};

/// One phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PhaseReport {
    /// What should happen.
    pub(crate) name: &'static str,
    /// How long it took.
    pub(crate) took: Duration,
    /// How long it might take.
    pub(crate) bound: Duration,
    /// What was seen, or why it failed.
    pub(crate) seen: String,
    /// Whether it came about.
    pub(crate) ok: bool,
}

/// A whole story.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The phases that were begun, in order.
    pub(crate) phases: Vec<PhaseReport>,
    /// From the first start to the last stop.
    pub(crate) total: Duration,
    /// Why the story ended early.
    pub(crate) failure: Option<String>,
}

impl Report {
    /// A table and a last line for people.
    pub(crate) fn text(&self, palette: Palette) -> String {
        let mut table = Table::new(&["#", "Phase", "Took", "Bound", "Result", "Seen"]);
        for (number, phase) in self.phases.iter().enumerate() {
            let seen = if phase.ok { phase.seen.as_str() } else { "see below" };
            table.row([
                (number + 1).to_string().into(),
                phase.name.into(),
                seconds(phase.took).into(),
                format!("{}s", phase.bound.as_secs()).into(),
                if phase.ok { Cell::styled("ok", Style::Good) } else { Cell::styled("FAILED", Style::Bad) },
                seen.into(),
            ]);
        }
        let (last, style) = match &self.failure {
            None => (format!("All phases came about, in {} altogether.", seconds(self.total)), Style::Good),
            Some(_) => (format!("The story ended early, after {}.", seconds(self.total)), Style::Bad),
        };
        format!("{}\n{}\n", table.text(palette), palette.paint(&last, style))
    }

    /// The same as one JSON object. Times are seconds.
    pub(crate) fn json(&self) -> String {
        let phases: Vec<_> = self
            .phases
            .iter()
            .map(|phase| {
                json!({
                    "Name": phase.name,
                    "Seconds": phase.took.as_secs_f64(),
                    "BoundSeconds": phase.bound.as_secs(),
                    "Ok": phase.ok,
                    "Seen": phase.seen,
                })
            })
            .collect();
        let report = json!({
            "Ok": self.failure.is_none(),
            "Failure": self.failure,
            "TotalSeconds": self.total.as_secs_f64(),
            "Phases": phases,
        });
        format!("{report:#}\n")
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let phase = |name, took, ok, seen: &str| PhaseReport {
            name,
            took: Duration::from_millis(took),
            bound: Duration::from_secs(30),
            seen: seen.to_owned(),
            ok,
        };
        Report {
            phases: vec![
                phase("a", 1_250, true, "n1 leads"),
                phase("bb", 30_004, false, "not within 30s: x"),
            ],
            total: Duration::from_millis(31_254),
            failure: Some("not within 30s: x".to_owned()),
        }
    }

    #[test]
    fn people_see_a_table() {
        assert_eq!(
            sample().text(Palette::PLAIN),
            "\
#  Phase  Took    Bound  Result  Seen
1  a      1.25s   30s    ok      n1 leads
2  bb     30.00s  30s    FAILED  see below

The story ended early, after 31.25s.
"
        );
    }

    #[test]
    fn programs_see_json() {
        let value: serde_json::Value = serde_json::from_str(&sample().json()).expect("JSON");
        assert_eq!(value["Ok"], false);
        assert_eq!(value["Phases"][0]["Seconds"], 1.25);
        assert_eq!(value["Phases"][1]["Seen"], "not within 30s: x");
    }
}
