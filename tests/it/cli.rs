//! The command line: what it takes, what it refuses and in which words, what `--help` and the README say about it.
//!
//! The cases are `fixtures/config/{valid,invalid}/*.txt`: a line `$ NAME=value mcp-ferry --flag value`, then what must
//! come of it. Refusals are tried on the real binary, and stderr must hold exactly those lines.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test and its helpers may stop at the first surprise"
)]

mod logging;
mod process;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

use mcp_ferry::config::{self, Config};

const BINARY: &str = env!("CARGO_BIN_EXE_mcp-ferry");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// One command of a fixture and the lines under it.
struct Case {
    /// File and command, for messages.
    name: String,
    env: BTreeMap<String, String>,
    args: Vec<String>,
    expected: Vec<String>,
}

fn cases(kind: &str) -> Vec<Case> {
    let folder = Path::new(ROOT).join("fixtures/config").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let stem = file.file_stem().unwrap().to_str().unwrap();
        let before = cases.len();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if let Some(command) = line.strip_prefix("$ ") {
                let mut words = words(command).into_iter();
                let env = words
                    .by_ref()
                    .take_while(|word| word != "mcp-ferry")
                    .map(|word| {
                        let (name, value) = word.split_once('=').unwrap();
                        (name.to_owned(), value.to_owned())
                    })
                    .collect();
                cases.push(Case {
                    name: format!("{stem}: {command}"),
                    env,
                    args: words.collect(),
                    expected: Vec::new(),
                });
            } else {
                cases.last_mut().unwrap().expected.push(line.to_owned());
            }
        }
        assert!(cases.len() > before, "{stem} holds no case");
    }
    for case in &cases {
        assert!(!case.expected.is_empty(), "{} expects nothing", case.name);
    }
    cases
}

/// Splits at spaces outside single quotes; `\n` and `\e` inside them are a line end and an escape character.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            let part = part.replace("\\n", "\n").replace("\\e", "\u{1b}");
            words.last_mut().unwrap().push_str(&part);
            continue;
        }
        for (index, word) in part.split(' ').enumerate() {
            if index > 0 {
                words.push(String::new());
            }
            words.last_mut().unwrap().push_str(word);
        }
    }
    words
}

fn parse(
    env: &BTreeMap<String, String>,
    args: &[String],
) -> Result<config::Command, config::Refused> {
    let args = ["mcp-ferry"]
        .into_iter()
        .chain(args.iter().map(String::as_str));
    config::parse(args.map(OsString::from), &|name| {
        env.get(name).map(OsString::from)
    })
}

fn run(env: &BTreeMap<String, String>, args: &[String]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().envs(env).current_dir(ROOT);
    command.output().unwrap()
}

fn run_with(args: &[&str]) -> Output {
    let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
    run(&BTreeMap::new(), &args)
}

#[test]
fn valid_command_lines_are_understood() {
    for case in cases("valid") {
        let command = parse(&case.env, &case.args).unwrap_or_else(|why| {
            panic!("{} is refused: {why}", case.name);
        });
        let understood = format!("{command:?}");
        for expected in &case.expected {
            assert!(
                understood.contains(expected),
                "{}\nexpected {expected}\nin {understood}",
                case.name
            );
        }
        assert!(
            !understood.contains("canary"),
            "{} shows a secret: {understood}",
            case.name
        );
    }
}

#[test]
fn wrong_values_are_refused_in_one_clear_line() {
    for case in cases("invalid") {
        let output = run(&case.env, &case.args);
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines, case.expected, "{}", case.name);
        assert_eq!(output.status.code(), Some(2), "{}", case.name);
        assert!(output.stdout.is_empty(), "{}", case.name);
        assert!(
            lines.len() <= 2 && !said.contains("canary"),
            "{}: {said}",
            case.name
        );
    }
}

#[test]
fn text_that_is_no_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;

    let bytes = || OsString::from_vec(b"http://a/\xff".to_vec());
    let mut command = Command::new(BINARY);
    let output = command
        .env_clear()
        .env("MCP_FERRY_UPSTREAM", bytes())
        .output()
        .unwrap();
    assert_eq!(
        output.stderr,
        b"error: MCP_FERRY_UPSTREAM: is not UTF-8 text\n"
    );
    assert_eq!(output.status.code(), Some(2));

    let mut command = Command::new(BINARY);
    let output = command
        .env_clear()
        .arg("--upstream")
        .arg(bytes())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: invalid UTF-8"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_configuration_can_be_made_from_an_upstream_alone() {
    let url = "https://example.com/mcp?key=canary";
    let config = Config::for_upstream(url.parse().unwrap());
    assert_eq!(config.upstream.url, url);
    let Ok(config::Command::Serve(parsed)) =
        parse(&BTreeMap::new(), &["--upstream".to_owned(), url.to_owned()])
    else {
        panic!("the upstream is refused");
    };
    assert_eq!(format!("{config:?}"), format!("{parsed:?}"));
}

/// All flags: the subcommand (or the program), and what clap knows.
fn flags() -> Vec<(String, clap::Arg)> {
    let command = config::command();
    let all = std::iter::once(&command).chain(command.get_subcommands());
    all.flat_map(|command| {
        let name = command.get_name().to_owned();
        command
            .get_arguments()
            .filter(|arg| arg.get_long().is_some())
            .map(move |flag| (name.clone(), flag.clone()))
    })
    .collect()
}

/// Whether the flag stands for something without a value too.
fn is_optional(flag: &clap::Arg) -> bool {
    flag.get_num_args()
        .is_some_and(|values| values.min_values() == 0)
        && flag.get_action().takes_values()
}

#[test]
fn help_lists_every_flag_in_its_group_with_variable_and_default() {
    let output = run_with(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let help = String::from_utf8(output.stdout).unwrap();
    let position = |what: &str| {
        let found = help.find(what);
        found.unwrap_or_else(|| panic!("--help lacks {what}"))
    };
    let groups = [
        "Where",
        "Paths",
        "Upstream",
        "Client streams",
        "Replicas",
        "Admin",
        "Tap",
        "Logging",
    ];
    let starts = groups.map(|group| position(&format!("\n{group}:\n")));
    assert!(starts.is_sorted());
    let flags = flags();
    for (_, flag) in flags.iter().filter(|(task, _)| task == "mcp-ferry") {
        let long = flag.get_long().unwrap();
        let value = match flag.get_action().takes_values() {
            true if is_optional(flag) => " [<",
            true => " <",
            false => "\n",
        };
        let from = position(&format!("      --{long}{value}"));
        let group = flag.get_help_heading().unwrap();
        let inside = starts.iter().rposition(|start| *start < from).unwrap();
        assert_eq!(groups[inside], group, "--{long}");
        let entry = help[from..].split("\n\n      --").next().unwrap();
        let variable = format!("[env: MCP_FERRY_{}", long.to_uppercase().replace('-', "_"));
        assert!(entry.contains(&variable), "--{long}: {entry}");
        let [value] = flag.get_default_values() else {
            continue;
        };
        let default = format!("[default: {}]", value.display());
        assert!(
            value.is_empty() || entry.contains(&default),
            "--{long}: {entry}"
        );
    }
    // Nothing wider than a terminal, in the short form either.
    let short = String::from_utf8(run_with(&["-h"]).stdout).unwrap();
    assert!(short.len() < help.len() && short.contains("--max-in-flight"));
    for line in help.lines().chain(short.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn subcommands_have_help_and_the_program_a_version() {
    for (args, expected) in [
        (["demo", "--help"].as_slice(), "[env: MCP_FERRY_DEMO_ONCE]"),
        (&["health", "--help"], "[env: MCP_FERRY_HEALTH_URL]"),
        (
            &["--version"],
            concat!("mcp-ferry ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
    ] {
        let output = run_with(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn the_bounds_in_the_help_are_the_ones_that_hold() {
    let takes = |flag: &str, value: &str| {
        let args = ["--upstream", "http://a/mcp", flag, value].map(str::to_owned);
        parse(&BTreeMap::new(), &args).is_ok()
    };
    let mut bounded = 0;
    for (_, flag) in flags() {
        let unit = match flag.get_value_names() {
            Some([name]) if *name == *"DURATION" => "ms",
            Some([name]) if *name == *"SIZE" || *name == *"NUMBER" => "",
            _ => continue,
        };
        let long = format!("--{}", flag.get_long().unwrap());
        let help = flag.get_help().unwrap().to_string();
        let bounds = help.rsplit_once('(').unwrap().1.split(')').next().unwrap();
        let (least, most) = bounds.split_once(" to ").unwrap();
        let beyond = [
            format!("{}{unit}", smallest_units(most) + 1),
            format!("{}{unit}", smallest_units(least).saturating_sub(1)),
        ];
        assert!(takes(&long, least) && takes(&long, most), "{long} {bounds}");
        assert!(!takes(&long, &beyond[0]), "{long} {}", beyond[0]);
        assert!(
            smallest_units(least) == 0 || !takes(&long, &beyond[1]),
            "{long} {}",
            beyond[1]
        );
        bounded += 1;
    }
    assert!(bounded > 10, "only {bounded} flags with bounds were found");
}

/// Milliseconds, bytes or pieces.
fn smallest_units(text: &str) -> u64 {
    let (number, unit) = text.split_at(
        text.find(|char: char| !char.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let scale = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => panic!("{text}"),
    };
    number.parse::<u64>().unwrap() * scale
}

/// `REGENERATE=1 cargo test --test it readme` writes the table anew.
#[test]
fn the_table_in_the_readme_is_the_command_line() {
    const BEGIN: &str = "<!-- flags:begin -->\n";
    const END: &str = "<!-- flags:end -->";
    let path = Path::new(ROOT).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let table = table();
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert!(
            written == table,
            "README.md differs; REGENERATE=1 cargo test --test it readme"
        );
    }
}

fn table() -> String {
    let mut table = String::new();
    let mut last = String::new();
    for (task, flag) in flags() {
        let group = match task.as_str() {
            "mcp-ferry" => flag.get_help_heading().unwrap().to_owned(),
            // Told above, under their own heading.
            _ if flag.get_help_heading().is_some() => continue,
            _ => format!("`mcp-ferry {task}`"),
        };
        if group != last {
            table += &format!("\n**{group}**\n\n");
            table +=
                "| flag | environment variable | default | meaning |\n| --- | --- | --- | --- |\n";
            last = group;
        }
        let long = flag.get_long().unwrap();
        let value = match flag.get_value_names() {
            Some([name]) if is_optional(&flag) => format!(" [{name}]"),
            Some([name]) if flag.get_action().takes_values() => format!(" {name}"),
            _ => String::new(),
        };
        let names = config::env_names(&task, long);
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let help = flag.get_help().unwrap().to_string();
        let meaning = help.split(" [default: ").next().unwrap();
        let default = match flag.get_default_values() {
            [value] if !value.is_empty() && flag.get_action().takes_values() => {
                format!("`{}`", value.display())
            }
            _ => String::new(),
        };
        table += &format!(
            "| `--{long}{value}` | {} | {default} | {meaning} |\n",
            names.join(", ")
        );
    }
    table + "\n"
}
