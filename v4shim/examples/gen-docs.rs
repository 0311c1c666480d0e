//! Writes v4shim(1), a page for each subcommand and the shell completions into a directory:
//! `cargo run --example gen-docs -- DIR`.
//!
//! A build-time program, so that the installed one carries nothing of this.

use std::path::{Path, PathBuf};

use clap_complete::Shell;

/// What the definition of the command line does not know, by page.
const PROSE: [(&str, &str); 4] = [
    ("v4shim", include_str!("../man/v4shim.1")),
    ("v4shim-prefix", include_str!("../man/v4shim-prefix.1")),
    ("v4shim-run", include_str!("../man/v4shim-run.1")),
    ("v4shim-status", include_str!("../man/v4shim-status.1")),
];

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: gen-docs DIR");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&dir)?;
    let mut command = v4shim::command();
    command.build();
    page(&command, "v4shim", &dir)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        page(sub, &format!("v4shim-{}", sub.get_name()), &dir)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut v4shim::command(), "v4shim", &dir)?;
    }
    Ok(())
}

fn page(command: &clap::Command, name: &str, dir: &Path) -> std::io::Result<()> {
    let prose = PROSE.iter().find(|(of, _)| *of == name).map(|(_, prose)| *prose).ok_or_else(|| {
        std::io::Error::other(format!("no text for {name}(1): add man/{name}.1 and its line here"))
    })?;
    let man = clap_mangen::Man::new(command.clone()).title(name).section("1").manual("v4shim");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    text.extend_from_slice(
        format!(".SH NAME\n{} \\- {}\n", name.replace('-', "\\-"), about.trim_end_matches('.')).as_bytes(),
    );
    man.render_synopsis_section(&mut text)?;
    text.extend_from_slice(prose.as_bytes());
    if command.has_subcommands() {
        text.extend_from_slice(b".SH COMMANDS\n");
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            text.extend_from_slice(
                format!(".TP\n\\fBv4shim\\-{}\\fR(1)\n{about}.\n", sub.get_name()).as_bytes(),
            );
        }
    }
    man.render_options_section(&mut text)?;
    text.extend_from_slice(SEE_ALSO.as_bytes());
    std::fs::write(dir.join(format!("{name}.1")), text)
}

const SEE_ALSO: &str = "\
.SH \"EXIT STATUS\"\n\
0 ok or not needed, 1 failed, 2 usage or configuration, 3 degraded or waiting, 4 permission.\n\
\\fBv4shim run\\fR exits as its command does.\n\
.SH \"SEE ALSO\"\n\
\\fBv4shim\\fR(1), \\fBv4shim\\-clatd\\fR(8), \\fBhostsfix\\fR(8), \\fBv4shim.toml\\fR(5)\n";
