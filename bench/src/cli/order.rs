//! Flags may stand before the command: `cubed-bench --quiet throughput` means `cubed-bench throughput --quiet`.
//!
//! Always holds: a flag ends up behind the command, which takes it or refuses it by name; none is ignored. Without a command the
//! line is the tour's and stays as it is.

use std::ffi::OsString;

use clap::Command;

/// The line with every flag that stands before or between the names of commands behind them.
pub(super) fn flags_behind_commands(
    root: &Command,
    line: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut rest = line.into_iter();
    let (mut names, mut flags): (Vec<_>, Vec<_>) = (rest.by_ref().take(1).collect(), Vec::new());
    let mut command = root;
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy().into_owned();
        if let Some(found) = command.find_subcommand(&text) {
            names.push(word);
            command = found;
            if !command.has_subcommands() {
                break;
            }
        } else {
            flags.push(word);
            match text.strip_prefix("--") {
                Some(name) if takes_value(root, name) => flags.extend(rest.next()),
                Some(name) if !name.is_empty() => {}
                // Neither a flag nor a command: clap says what is wrong with it.
                _ => break,
            }
        }
    }
    names.extend(flags);
    names.extend(rest);
    names
}

/// Whether the word after `--name` belongs to it, in whichever command has this flag.
fn takes_value(command: &Command, name: &str) -> bool {
    let mut own = command.get_arguments().filter(|argument| argument.get_long() == Some(name));
    own.any(|argument| argument.get_action().takes_values())
        || command.get_subcommands().any(|command| takes_value(command, name))
}

#[cfg(test)]
mod tests {
    //! Goal: flags move behind the command with their values, and nothing else moves.
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn ordered(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        let line = flags_behind_commands(&Cli::command(), words);
        line.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn flags_move_behind_the_command() {
        for (given, wanted) in [
            ("b --quiet throughput", "b throughput --quiet"),
            ("b --json latency latency --spin", "b latency --json latency --spin"),
            (
                "b --json=x --size 64 throughput --flows 2",
                "b throughput --json=x --size 64 --flows 2",
            ),
            ("b --quiet scale --json x idle --peers 5", "b scale idle --quiet --json x --peers 5"),
            ("b scale --quiet", "b scale --quiet"),
        ] {
            assert_eq!(ordered(given), wanted);
        }
    }

    #[test]
    fn other_lines_stay() {
        for line in [
            "b",
            "b --quiet --json x",
            "b throughput --quiet",
            "b --json",
            "b nonsense --quiet throughput",
            "b -- throughput",
            "b help throughput",
            "b run plan.toml --quiet",
        ] {
            assert_eq!(ordered(line), line);
        }
    }
}
