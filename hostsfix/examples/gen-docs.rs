//! Writes hostsfix(8) and the shell completions into a directory: `cargo run --example gen-docs -- DIR`.
//!
//! A build-time program, so that the installed one carries nothing of this.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;
use hostsfix::cli::Cli;

/// Everything that the definition of the command line does not know.
const PROSE: &str = include_str!("../man/hostsfix.8");

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: gen-docs DIR");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("hostsfix.8"), man_page()?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        completion(shell, &dir)?;
    }
    Ok(())
}

fn man_page() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let man = clap_mangen::Man::new(command.clone()).section("8").manual("System Administration");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    let (description, rest) = PROSE.split_at(PROSE.find(".SH \"THE MANAGED BLOCK\"").unwrap_or(0));
    page.extend_from_slice(description.as_bytes());
    page.extend_from_slice(b".SH COMMANDS\n");
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let stop = if about.ends_with('?') { "" } else { "." };
        page.extend_from_slice(b".SS ");
        page.extend_from_slice(sub.get_name().as_bytes());
        page.extend_from_slice(format!("\n{about}{stop}\n").as_bytes());
        options(sub, &mut page);
    }
    man.render_options_section(&mut page)?;
    page.extend_from_slice(rest.as_bytes());
    Ok(page)
}

/// The options that only this command has.
fn options(command: &clap::Command, page: &mut Vec<u8>) {
    for arg in command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && arg.get_id() != "help" && arg.get_id() != "version")
    {
        let value = arg
            .get_value_names()
            .filter(|_| arg.get_action().takes_values())
            .map(|names| names[0].to_string());
        let head = match (arg.get_long(), value) {
            (Some(long), Some(value)) => format!("\\fB\\-\\-{long}\\fR \\fI{value}\\fR"),
            (Some(long), None) => format!("\\fB\\-\\-{long}\\fR"),
            (None, value) => format!("\\fI{}\\fR", value.unwrap_or_default()),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        page.extend_from_slice(format!(".TP\n{}\n{help}\n", head.replace("dry-run", "dry\\-run")).as_bytes());
    }
}

fn completion(shell: Shell, dir: &Path) -> std::io::Result<()> {
    clap_complete::generate_to(shell, &mut Cli::command(), "hostsfix", dir).map(drop)
}
