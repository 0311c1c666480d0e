//! Reading files and `--set` arguments into a [`Config`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::{Refusal, Value};
use super::{CONFIG_ENV, Config, ConfigError, DEFAULT_FILE, KEYS, Key, Origin, SECTIONS, check, keys};

/// A configuration larger than this is a mistake (a device, a log), not a configuration.
const MAX_SIZE: u64 = 1024 * 1024;

impl Config {
    /// Loads the configuration: the main file, its drop-ins (`FILE.d/*.toml` by name), then `sets` (`section.key=value`).
    ///
    /// `path` is the `--config` argument. Without it the environment variable `V4SHIM_CONFIG` names the file, and
    /// without that it is `/etc/v4shim.toml`, which may be missing; a file that was named must exist.
    ///
    /// # Errors
    /// The first thing that is wrong, as one line.
    pub fn load(path: Option<&Path>, sets: &[String]) -> Result<Self, ConfigError> {
        let from_env = std::env::var_os(CONFIG_ENV).filter(|value| !value.is_empty()).map(PathBuf::from);
        let (main, named) = match (path, &from_env) {
            (Some(path), _) => (path, true),
            (None, Some(path)) => (path.as_path(), true),
            (None, None) => (Path::new(DEFAULT_FILE), false),
        };
        Self::load_from(main, named, sets)
    }

    /// [`Config::load`] with nothing taken from the environment. `must_exist`: whether a missing `main` is an error.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(main: &Path, must_exist: bool, sets: &[String]) -> Result<Self, ConfigError> {
        let mut raw = Raw::default();
        match read(main) {
            Ok(text) => raw.file(main, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => return Err(unreadable(main, &error)),
        }
        for path in drop_ins(main)? {
            raw.file(&path, &read(&path).map_err(|error| unreadable(&path, &error))?)?;
        }
        for set in sets {
            raw.set(set)?;
        }
        raw.check()
    }

    /// Parses one file's text, as if it were the only one. `path` is for messages.
    ///
    /// # Errors
    /// The first thing that is wrong, as one line.
    pub fn from_text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut raw = Raw::default();
        raw.file(path, text)?;
        raw.check()
    }
}

/// What the files and arguments say: applied one by one, each value checked where it stands, so that a mistake
/// is reported even when a later file overrides it.
#[derive(Default)]
struct Raw {
    config: Config,
    /// Who set a key last, and to what: rules between keys need it for their messages.
    set_by: BTreeMap<String, (Origin, String)>,
}

impl Raw {
    fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let at =
            |offset: Option<usize>| Origin::File(path.to_owned(), offset.map(|offset| line_of(text, offset)));
        let document = DeTable::parse(text).map_err(|error| ConfigError {
            origin: at(error.span().map(|span| span.start)),
            key: None,
            value: None,
            reason: match error.span().and_then(|span| text.lines().nth(line_of(text, span.start) - 1)) {
                Some(line) => {
                    format!("not valid TOML: {} in `{}`", one_line(error.message()), line.trim()).into()
                }
                None => format!("not valid TOML: {}", one_line(error.message())).into(),
            },
            remedy: "correct the syntax (key = value, strings in quotes)".into(),
        })?;
        for (section, body) in document.get_ref().iter() {
            let origin = at(Some(section.span().start));
            let name = section.get_ref().as_ref();
            let DeValue::Table(table) = body.get_ref() else {
                return Err(outside_section(origin, name));
            };
            if !SECTIONS.iter().any(|known| known.name == name) {
                return Err(unknown_section(origin, name));
            }
            // By position, so that the first mistake in the file is the one reported.
            let mut settings: Vec<_> = table.iter().collect();
            settings.sort_by_key(|(key, _)| key.span().start);
            for (key, value) in settings {
                let origin = at(Some(key.span().start));
                self.apply(origin, name, key.get_ref(), &convert(text, value))?;
            }
        }
        Ok(())
    }

    fn set(&mut self, argument: &str) -> Result<(), ConfigError> {
        let usage = |reason: &str| ConfigError {
            origin: Origin::Set,
            key: None,
            value: None,
            reason: format!("{argument:?}: {reason}").into(),
            remedy: "write it as --set section.key=value, such as --set clat.address=shared".into(),
        };
        let (path, text) = argument.split_once('=').ok_or_else(|| usage("there is no '='"))?;
        let (section, key) = path.trim().split_once('.').ok_or_else(|| usage("the key has no section"))?;
        if !SECTIONS.iter().any(|known| known.name == section) {
            return Err(unknown_section(Origin::Set, section));
        }
        let text = text.trim();
        let value = match DeValue::parse(text) {
            Ok(value) => convert(text, &value),
            // A bare string, unless it was evidently meant as TOML.
            Err(error) if text.starts_with(['[', '"', '\'', '{']) => {
                return Err(usage(&format!("not a valid TOML value: {}", one_line(error.message()))));
            }
            Err(_) => Value::String(text.to_owned()),
        };
        self.apply(Origin::Set, section, key, &value)
    }

    fn apply(&mut self, origin: Origin, section: &str, name: &str, value: &Value) -> Result<(), ConfigError> {
        let Some(key) = KEYS.iter().find(|key| key.section == section && key.name == name) else {
            return Err(unknown_key(origin, section, name, value));
        };
        let path = path_of(key);
        (key.set)(&mut self.config, value)
            .map_err(|refusal| refused(origin.clone(), &path, value.to_string(), refusal))?;
        self.set_by.insert(path, (origin, value.to_string()));
        Ok(())
    }

    fn check(self) -> Result<Config, ConfigError> {
        match check::whole(&self.config) {
            Ok(()) => Ok(self.config),
            Err((path, refusal)) => {
                // A rule between keys can fail by the other key alone; then that one is to blame.
                let blamed = self.set_by.get(path).or_else(|| self.set_by.get("clat.device"));
                let (origin, value) = blamed.cloned().unwrap_or((Origin::Set, String::new()));
                Err(refused(origin, path, value, refusal))
            }
        }
    }
}

fn path_of(key: &Key) -> String {
    format!("{}.{}", key.section, key.name)
}

fn refused(origin: Origin, path: &str, value: String, Refusal { reason, remedy }: Refusal) -> ConfigError {
    ConfigError {
        origin,
        key: Some(path.into()),
        value: Some(value.into()),
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

fn unknown_section(origin: Origin, name: &str) -> ConfigError {
    let known = SECTIONS.iter().map(|section| section.name);
    let list = SECTIONS.iter().map(|section| format!("[{}]", section.name)).collect::<Vec<_>>().join(", ");
    ConfigError {
        origin,
        key: Some(format!("[{}]", name.escape_debug()).into()),
        value: None,
        reason: "unknown section".into(),
        remedy: match keys::closest(name, known) {
            Some(near) => format!("did you mean [{near}]?").into(),
            None => format!("the sections are {list}").into(),
        },
    }
}

fn outside_section(origin: Origin, name: &str) -> ConfigError {
    let remedy = match KEYS.iter().find(|key| key.name == name) {
        Some(key) => format!("it belongs under [{}]", key.section),
        None => "put every key under its section, such as [clat]".to_owned(),
    };
    let key = Some(name.escape_debug().to_string().into());
    ConfigError {
        origin,
        key,
        value: None,
        reason: "a key outside any section".into(),
        remedy: remedy.into(),
    }
}

fn unknown_key(origin: Origin, section: &str, name: &str, value: &Value) -> ConfigError {
    let siblings = || KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
    let remedy = if let Some(near) = keys::closest(name, siblings()) {
        format!("did you mean {section}.{near}?")
    } else if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        format!("did you mean {}?", path_of(key))
    } else {
        format!("the keys of [{section}] are {}", siblings().collect::<Vec<_>>().join(", "))
    };
    ConfigError {
        origin,
        key: Some(format!("{section}.{}", name.escape_debug()).into()),
        value: Some(value.to_string().into()),
        reason: "unknown key".into(),
        remedy: remedy.into(),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "create it, or name another one with --config or V4SHIM_CONFIG",
        io::ErrorKind::PermissionDenied => "run as root, or make it readable",
        io::ErrorKind::IsADirectory => "name a file",
        io::ErrorKind::InvalidData => "write it as UTF-8 text",
        _ => "check the file",
    };
    let reason = if error.kind() == io::ErrorKind::NotFound {
        "cannot read the configuration: no such file".to_owned()
    } else {
        format!("cannot read the configuration: {error}")
    };
    ConfigError {
        origin: Origin::File(path.to_owned(), None),
        key: None,
        value: None,
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {MAX_SIZE} bytes")));
    }
    Ok(text)
}

/// `FILE.d/*.toml`, sorted by name; hidden files are skipped as a shell's `*` does.
fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut dir = main.as_os_str().to_owned();
    dir.push(".d");
    let dir = PathBuf::from(dir);
    let listing = match std::fs::read_dir(&dir) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(&dir, &error)),
    };
    let mut paths = Vec::new();
    for entry in listing {
        let path = entry.map_err(|error| unreadable(&dir, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn convert(text: &str, value: &Spanned<DeValue<'_>>) -> Value {
    // As written, on one line: for types that no key takes and numbers that fit no integer.
    let written = || one_line(text.get(value.span()).unwrap_or_default());
    match value.get_ref() {
        DeValue::String(string) => Value::String(string.clone().into_owned()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("an integer beyond 64 bits", written()),
        },
        DeValue::Float(_) => Value::Other("a float", written()),
        DeValue::Datetime(_) => Value::Other("a date or time", written()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| convert(text, item)).collect()),
        DeValue::Table(_) => Value::Other("a table", written()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}
