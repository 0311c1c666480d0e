//! Writes v4shim-clatd(8), v4shim.toml(5), the default configuration file into a
//! directory: `cargo run --example gen-docs -- DIR`.
//!
//! A build-time program, so that the installed one carries nothing of this.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clatd::cli::Cli;
use pref64::config::{KEYS, SECTIONS, default_file};

/// What the definition of the command line does not know.
const PROSE: &str = include_str!("../man/v4shim-clatd.8");

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: gen-docs DIR");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("v4shim-clatd.8"), daemon_page()?)?;
    std::fs::write(dir.join("v4shim.toml.5"), configuration_page())?;
    std::fs::write(dir.join("v4shim.toml"), default_file())
}

fn daemon_page() -> std::io::Result<Vec<u8>> {
    let command = Cli::command();
    let man = clap_mangen::Man::new(command).title("v4shim-clatd").section("8").manual("v4shim");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    page.extend_from_slice(
        b".SH NAME\nv4shim\\-clatd \\- IPv4 for an IPv6\\-only host through its network's NAT64\n",
    );
    page.extend_from_slice(b".SH SYNOPSIS\n\\fBsystemctl start v4shim\\-clatd.service\\fR\n.PP\n\\fB/usr/libexec/v4shim/clatd\\fR [\\fIOPTIONS\\fR]\n");
    page.extend_from_slice(PROSE.as_bytes());
    man.render_options_section(&mut page)?;
    page.extend_from_slice(
        b".SH \"EXIT STATUS\"\n0 ok, 1 failed, 2 usage or configuration, 4 permission.\n\
          .SH \"SEE ALSO\"\n\\fBv4shim\\fR(1), \\fBv4shim\\-run\\fR(1), \\fBhostsfix\\fR(8), \\fBv4shim.toml\\fR(5)\n",
    );
    Ok(page)
}

fn configuration_page() -> String {
    let mut page = format!(
        ".TH v4shim.toml 5 \"\" \"v4shim {}\" v4shim\n\
         .SH NAME\nv4shim.toml \\- configuration of v4shim\n\
         .SH SYNOPSIS\n\\fI/etc/v4shim.toml\\fR\n.br\n\\fI/etc/v4shim.toml.d/*.toml\\fR\n\
         .SH DESCRIPTION\nOne file for all programs of v4shim, in TOML.\n\
         Every key is optional; without any file everything is found out.\n\
         Drop\\-ins are read afterwards, in order of name; the later value of a key wins.\n\
         An unknown key is an error.\n\
         \\fBv4shim\\-clatd\\fR(8) reads the files again at \\fBsystemctl reload v4shim\\-clatd\\fR.\n",
        env!("CARGO_PKG_VERSION")
    );
    for section in SECTIONS {
        page.push_str(&format!(".SH \"[{}]\"\n{}\n", escape(section.name), escape(section.doc)));
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            page.push_str(&format!(
                ".TP\n\\fB{}\\fR = {}\n{}\nValues: {}.\nDefault: {}.\n",
                escape(key.name),
                escape(key.example),
                escape(key.doc),
                escape(key.values),
                escape(key.default)
            ));
        }
    }
    page.push_str(".SH \"SEE ALSO\"\n\\fBv4shim\\-clatd\\fR(8), \\fBv4shim\\fR(1), \\fBhostsfix\\fR(8)\n");
    page
}

/// Plain text as roff.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    // A line must not begin like a request.
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
