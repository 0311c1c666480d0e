//! Options that several subcommands share.

use std::path::PathBuf;

use pref64::config::{Config, ConfigError};

/// Where the configuration comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: /etc/v4shim.toml, or the environment variable V4SHIM_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set a configuration key, overriding the files; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) sets: Vec<String>,
}

impl ConfigArgs {
    /// Loads the configuration that these options name.
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.sets)
    }
}
