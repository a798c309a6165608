//! Consul's flag spelling.
//!
//! Consul's command line uses Go's flag package, where a long flag may have one dash: `-format=json`.
//! Scripts written for it keep working because such an argument is rewritten to `--format=json` before it is
//! parsed. Only arguments that name a long flag of this program are touched, so a value such as `-x` and every
//! argument after `--` stay as they are.

use std::collections::BTreeSet;
use std::ffi::OsString;

/// Gives every known long flag that was written with one dash its second one.
///
/// The first argument (the program) is never changed.
pub(crate) fn double_dashes<I>(args: I, long_flags: &BTreeSet<String>) -> Vec<OsString>
where
    I: IntoIterator<Item = OsString>,
{
    let mut only_values_follow = false;
    args.into_iter()
        .enumerate()
        .map(|(position, arg)| {
            only_values_follow |= arg == "--";
            if position == 0 || only_values_follow || !is_single_dash_long(&arg, long_flags) {
                return arg;
            }
            let mut rewritten = OsString::from("-");
            rewritten.push(arg);
            rewritten
        })
        .collect()
}

/// The long flags of a command and of everything below it.
pub(crate) fn long_flags(command: &mut clap::Command) -> BTreeSet<String> {
    // Building adds the flags clap makes itself: help and version.
    command.build();
    let mut names = BTreeSet::new();
    collect(command, &mut names);
    names
}

fn collect(command: &clap::Command, names: &mut BTreeSet<String>) {
    names.extend(command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned));
    for subcommand in command.get_subcommands() {
        collect(subcommand, names);
    }
}

fn is_single_dash_long(arg: &OsString, long_flags: &BTreeSet<String>) -> bool {
    let Some(flag) = arg.to_str().and_then(|text| text.strip_prefix('-')) else { return false };
    let name = flag.split_once('=').map_or(flag, |(name, _)| name);
    long_flags.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[&str], expected: &[&str]) {
        let flags = ["format", "http-addr", "id"].into_iter().map(str::to_owned).collect();
        let given = given.iter().map(OsString::from);
        let expected: Vec<OsString> = expected.iter().map(OsString::from).collect();
        assert_eq!(double_dashes(given, &flags), expected);
    }

    #[test]
    fn known_long_flags_gain_a_dash() {
        check(&["autopilot", "-format=json", "-id", "n1"], &["autopilot", "--format=json", "--id", "n1"]);
    }

    #[test]
    fn other_arguments_stay() {
        let same = ["-id", "--format=json", "-", "-x", "-formatted", "-=", "--"];
        check(&same, &same);
    }

    #[test]
    fn values_after_two_dashes_stay() {
        check(&["autopilot", "-id=1", "--", "-id=1"], &["autopilot", "--id=1", "--", "-id=1"]);
    }
}
