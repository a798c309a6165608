//! `operator autopilot events`: what autopilot did and saw, once or as it happens.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use jiff::{Timestamp, Unit};
use serde_json::Value;

use super::client::{Client, Method, Request, RequestError};
use super::render::{clean, json};
use super::wire::Event;
use super::{ClientArgs, Format, FormatArgs, Outcome, VerbError};

/// How long one request waits for news; less than any client's patience.
const WAIT: Duration = Duration::from_secs(10);
/// Pause after a request that failed while following.
const PAUSE: Duration = Duration::from_millis(500);

/// `events`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens next, across changes of leader, until interrupted
    #[arg(long)]
    follow: bool,
    /// Only what was changed, tried or ordered, with who did it: the audit
    #[arg(long)]
    audit: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    client: ClientArgs,
}

fn request(args: &EventsArgs, after: u64, wait: Option<Duration>) -> Request {
    Request::new(Method::Get, "/agent/autopilot/events")
        .flag("audit", args.audit)
        .parameter("index", Some(after))
        .parameter("wait", wait.map(|wait| format!("{}ms", wait.as_millis())))
}

pub(super) fn events(args: &EventsArgs) -> Result<Outcome, VerbError> {
    let client = args.client.client()?;
    let request = request(args, 0, None);
    let body = client.expect(&request)?;
    if args.follow {
        return follow(&client, args, &request, &body, &mut std::io::stdout().lock());
    }
    Ok(match args.format.format {
        Format::Json => Outcome::text(json(&body)),
        Format::Pretty => {
            let events: Vec<Event> = client.read(&request, &body)?;
            let lines = events.iter().map(|event| line(event) + "\n");
            Outcome::text(heading() + "\n" + &lines.collect::<String>())
        }
    })
}

/// Writes what there is and then what comes. Ends when nobody reads any more.
fn follow(
    client: &Client,
    args: &EventsArgs,
    request: &Request,
    body: &[u8],
    out: &mut dyn Write,
) -> Result<Outcome, VerbError> {
    let wait = WAIT.min(args.client.timeout() / 2);
    let mut after = 0;
    let mut body = body.to_vec();
    if args.format.format == Format::Pretty && writeln!(out, "{}", heading()).is_err() {
        return Ok(Outcome::default());
    }
    loop {
        for value in client.read::<Vec<Value>>(request, &body)? {
            let event: Event = serde_json::from_value(value.clone())
                .map_err(|error| client.malformed(request, &error.to_string()))?;
            after = event.index.max(after);
            let text = match args.format.format {
                Format::Json => value.to_string(),
                Format::Pretty => line(&event),
            };
            if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                return Ok(Outcome::default());
            }
        }
        body = loop {
            match client.expect(&self::request(args, after, Some(wait))) {
                Ok(body) => break body,
                Err(error @ RequestError::Refused { status: 400..500, .. }) => return Err(error.into()),
                // A leader is being elected, or this server starts again: the next answer has what was missed.
                Err(_) => std::thread::sleep(PAUSE),
            }
        };
    }
}

const COLUMNS: [usize; 4] = [20, 12, 16, 12];

fn heading() -> String {
    row(["Time", "By", "What", "Server", "Why"].map(str::to_owned))
}

fn line(event: &Event) -> String {
    let time = i64::try_from(event.time_unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let time = time.map(|time| time.round(Unit::Second).unwrap_or(time).to_string());
    row([
        time.unwrap_or_else(|| "-".to_owned()),
        clean(&event.by),
        clean(&event.kind),
        clean(&event.server),
        format!("{} [{}]", clean(&event.text), clean(&event.reason)),
    ])
}

/// Columns of a fixed width, because what comes later is not known.
fn row([time, by, what, server, why]: [String; 5]) -> String {
    let [a, b, c, d] = COLUMNS;
    format!("{time:a$}  {by:b$}  {what:c$}  {server:d$}  {why}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use clap::Parser;

    use super::super::fake::Fake;
    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: EventsArgs,
    }

    fn args(line: &[&str]) -> EventsArgs {
        Line::try_parse_from([&["events"], line].concat()).expect("good flags").args
    }

    fn event(index: u64, what: &str) -> String {
        format!(
            r#"[{{"Index":{index},"TimeUnixMs":1767323045000,"Kind":"{what}","Server":"id-1","By":"operator",
            "Reason":"requested","Text":"on request"}}]"#
        )
    }

    #[test]
    fn events_are_lines_with_who_and_why() {
        let fake = Fake::start(|_| (200, event(7, "removed")));
        let outcome = events(&args(&["--audit", "--http-addr", &fake.address()])).expect("an answer");
        assert_eq!(
            String::from_utf8(outcome.out).expect("text"),
            "\
Time                  By            What              Server        Why
2026-01-02T03:04:05Z  operator      removed           id-1          on request [requested]
"
        );
        assert_eq!(fake.requests(), ["GET /v1/agent/autopilot/events?audit&index=0"]);
    }

    /// A reader that goes away after some lines.
    struct Lines(usize, Vec<u8>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.1.iter().filter(|byte| **byte == b'\n').count() >= self.0 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn following_goes_on_after_the_last_event_and_through_failures() {
        let asked = AtomicUsize::new(0);
        let fake = Fake::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => (500, "No cluster leader".into()),
            1 => (200, "[]".into()),
            _ => (200, event(9, "promoted")),
        });
        let args = args(&["--follow", "--format", "json", "--timeout", "2s"]);
        let first = request(&args, 0, None);
        let mut out = Lines(2, Vec::new());
        follow(&fake.client(), &args, &first, event(7, "added").as_bytes(), &mut out).expect("the end");
        let text = String::from_utf8(out.1).expect("text");
        let indexes: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<Event>(line).expect("a line of JSON").index)
            .collect();
        assert_eq!(indexes, [7, 9]);
        let asked = fake.requests();
        assert_eq!(asked[..3], ["GET /v1/agent/autopilot/events?index=7&wait=1000ms"; 3].map(str::to_owned));
    }
}
