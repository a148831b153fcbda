//! Which ports we added to the kernel's reserved ones: to be taken away when no container needs
//! them. Written before they are added.

use serde::{Deserialize, Serialize};

use super::store::{Store, View, read_json, remove_file, write_json};
use crate::error::Result;
use crate::types::port::PortSet;

const FILE: &str = "reserved-ports.json";

#[derive(Serialize, Deserialize)]
struct Note {
    /// The kernel's list ends with the boot.
    boot_id: String,
    /// In the kernel's notation.
    ports: String,
}

impl View {
    /// What was added in this boot and not taken away. A damaged note counts as none: what it spoke
    /// of then stays reserved, which costs the host these ports for sockets that ask for any.
    #[must_use]
    pub fn reserved_ports(&self, boot_id: &str) -> PortSet {
        let note = read_json::<Note>(&self.file(FILE));
        let ports = note.and_then(|note| match note {
            Some(note) if note.boot_id == boot_id => note.ports.parse(),
            _ => Ok(PortSet::default()),
        });
        ports.unwrap_or_else(|e| {
            log::warn!("{e}: counts as none");
            PortSet::default()
        })
    }
}

impl Store {
    /// Notes what is about to be added; none removes the note.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_reserved_ports(&self, boot_id: &str, ports: &PortSet) -> Result<()> {
        let path = self.view().file(FILE);
        if ports.is_empty() {
            return remove_file(&path);
        }
        let note = Note {
            boot_id: boot_id.to_owned(),
            ports: ports.to_string(),
        };
        write_json(&path, &note)
    }
}
