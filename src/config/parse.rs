//! The command line and the environment, joined and read in one go; and the parser's complaints, cut down to one line.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsString;

use clap::FromArgMatches as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;

use super::flags::{Cli, command, env_names};
use super::{Command, Refused, build, values};

/// How the operator named each value: `--keep-alive`, or `MCP_FERRY_KEEP_ALIVE` when it came from there. Complaints
/// use the same name.
#[derive(Default)]
pub(super) struct Names {
    from_env: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn of<'a>(&'a self, flag: &'a str) -> &'a str {
        self.from_env.get(flag).map_or(flag, String::as_str)
    }
}

/// Reads the command line (program name first) and the environment. A flag wins over its variable, a variable over
/// the default, and an empty variable counts as not set. Variables that are not ours are left alone: Kubernetes makes
/// its own `MCP_FERRY_…` for a Service of this name.
///
/// # Errors
///
/// The first thing that cannot be used, in words for the operator.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Command, Refused> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let mut names = Names::default();
    let told = match command().try_get_matches_from(&args) {
        Ok(told) => told,
        Err(error) => return explain(&error, &names),
    };
    // Variables become arguments of the same parser, so that there is one syntax, one check and one complaint.
    let whole = command();
    let (position, asked, told) = match told.subcommand() {
        Some((name, inner)) => (2, whole.find_subcommand(name).unwrap_or(&whole), inner),
        None => (1, &whole, &told),
    };
    let mut extra = Vec::new();
    for arg in asked.get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        if told.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            continue;
        }
        for name in env_names(asked.get_name(), long) {
            let Some(value) = env(&name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let Some(value) = value.to_str().map(str::trim) else {
                return Err(Refused::new(format!("{name}: is not UTF-8 text")));
            };
            if arg.get_action().takes_values() {
                extra.push(OsString::from(format!("--{long}={value}")));
            } else if values::switch(value).map_err(|why| Refused::new(format!("{name}: {why}")))? {
                extra.push(OsString::from(format!("--{long}")));
            }
            names.from_env.insert(format!("--{long}"), name);
            break;
        }
    }
    args.splice(position.min(args.len())..position.min(args.len()), extra);
    let read = command()
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match read {
        Ok(cli) => build::command(cli, &names, env),
        Err(error) => explain(&error, &names),
    }
}

/// Cuts clap's message of many lines down to what is wrong and at most one piece of advice.
fn explain(error: &clap::Error, names: &Names) -> Result<Command, Refused> {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Ok(Command::Print(error.render().to_string()));
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    if let (ErrorKind::ValueValidation, Some(why)) = (error.kind(), error.source()) {
        let shown = context(ContextKind::InvalidArg);
        let flag = shown.split(' ').next().unwrap_or(shown);
        return Err(Refused::new(format!("{}: {why}", names.of(flag))));
    }
    let text = error.render().to_string();
    // What the operator typed may hold line ends of its own, so the parts are told by their headings.
    let (first, rest) = ["\n\n  tip: ", "\n\nUsage:", "\n\nFor more"]
        .iter()
        .filter_map(|heading| text.find(heading))
        .min()
        .map_or_else(|| (text.trim_end(), ""), |end| text.split_at(end));
    let refused = Refused::new(first.strip_prefix("error: ").unwrap_or(first));
    if error.kind() == ErrorKind::InvalidSubcommand
        && context(ContextKind::InvalidSubcommand).contains("://")
    {
        return Err(refused.hint("the server's URL goes after --upstream"));
    }
    let tip = rest.lines().find_map(|line| line.strip_prefix("  tip: "));
    Err(refused.hint(tip.unwrap_or("mcp-ferry --help lists every flag")))
}
