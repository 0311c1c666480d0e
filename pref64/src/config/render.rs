//! The commented default file, for packaging.

use super::{KEYS, SECTIONS};

const WIDTH: usize = 100;

/// The text of a default `/etc/v4shim.toml`: every key documented and commented out.
///
/// Section headers are live, so that uncommenting a key is enough.
pub fn default_file() -> String {
    let mut text = String::from(
        "# v4shim configuration. Every key is optional; what is commented out shows the default or an example.\n\
         # Drop-ins in /etc/v4shim.toml.d/*.toml are read afterwards, in order of name; the later value wins.\n\
         # Check a change with: v4shim prefix\n",
    );
    for section in SECTIONS {
        text.push_str(&format!("\n# {}\n[{}]\n", section.doc, section.name));
        for key in KEYS.iter().filter(|key| key.section == section.name) {
            text.push('\n');
            for line in wrap(key.doc, WIDTH - 2) {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!("# Values: {}. Default: {}.\n", key.values, key.default));
            text.push_str(&format!("#{} = {}\n", key.name, key.example));
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
