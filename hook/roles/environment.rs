//! Where things are on this host, injected into every role: config, state, pins, hooks.d.

use std::path::PathBuf;

use crate::config::{self, Config};
use crate::error::{Error, Kind, Result};
use crate::kernel::netns;
use crate::plan;
use crate::state::Paths;
use crate::state::store::View;

/// The places.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The config file.
    pub config: PathBuf,
    /// The config must exist: it was named on the command line.
    pub config_named: bool,
    /// State and pins.
    pub paths: Paths,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            config: config::PATH.into(),
            config_named: false,
            paths: Paths::default(),
        }
    }
}

impl Environment {
    /// Whether this is the network namespace that the containers' host is.
    ///
    /// # Errors
    /// As [`plan::check_same_host`], and when the records cannot be read.
    pub fn check_same_host(&self, boot_id: &str) -> Result<()> {
        let ledger = View::new(&self.paths).ledger(boot_id)?;
        plan::check_same_host(netns::own_cookie()?, &ledger)
    }

    /// Text of the config file; empty if the default one does not exist.
    ///
    /// # Errors
    /// [`Kind::Config`] if it cannot be read, or was named and is not there.
    pub fn config_text(&self) -> Result<String> {
        match std::fs::read_to_string(&self.config) {
            Ok(text) => Ok(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !self.config_named => {
                Ok(String::new())
            }
            Err(e) => Err(Error::new(
                Kind::Config,
                format!("read {}: {e}", self.config.display()),
            )),
        }
    }

    /// The parsed config.
    ///
    /// # Errors
    /// [`Kind::Config`] with every fault in it.
    pub fn load_config(&self) -> Result<Config> {
        Config::parse(&self.config_text()?)
            .map_err(|e| e.with_context(self.config.display().to_string()))
    }
}
