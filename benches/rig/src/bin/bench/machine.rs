//! What a reader must know of the machine to place the figures; never its name.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Markdown list of the machine and the programs.
pub fn describe(nginx: &Path, ferry: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_once(':')
            .map_or("unknown", |(_, value)| value.trim())
            .to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gib = memory
        .split(' ')
        .next()
        .and_then(|kib| kib.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
        / 1024.0;
    format!(
        "- machine: {cores} cores ({}), {gib:.0} GiB memory, Linux {}\n- {}, {}\n",
        field(&read("/proc/cpuinfo"), "model name"),
        read("/proc/sys/kernel/osrelease").trim(),
        version(nginx, "-v"),
        version(ferry, "--version"),
    )
}

/// The first line a program says of its version, on either output.
fn version(program: &Path, switch: &str) -> String {
    let Ok(output) = Command::new(program).arg(switch).output() else {
        return "unknown".into();
    };
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or("unknown")
        .replace("nginx version: ", "")
}
