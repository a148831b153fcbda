//! Everything about a host that an endpoint could have changed, as text, to be compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use oci_netkit::state::Paths;

use super::guest::run;

/// Name of the part → what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    pub fn take(paths: &Paths) -> Self {
        let mut parts = BTreeMap::new();
        for command in [
            "ip -d link",
            "ip addr",
            "ip route show table all",
            "ip -6 route show table all",
        ] {
            parts.insert(command.to_owned(), run(command));
        }
        for family in ["ipv4", "ipv6"] {
            sysctls(
                Path::new("/proc/sys/net")
                    .join(family)
                    .join("conf")
                    .as_path(),
                &mut parts,
            );
        }
        for dir in [&paths.bpffs_dir, &paths.state_dir] {
            parts.insert(format!("find {}", dir.display()), find(dir));
        }
        parts.insert("bpf".into(), bpf());
        Self(parts)
    }

    /// Waits for the kernel to free what it frees later, then wants everything as it was.
    pub fn assert_restored(&self, paths: &Paths, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let now = Self::take(paths);
            if now == *self {
                return;
            }
            if Instant::now() > deadline {
                panic!("{what}: {}", self.difference(&now));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn difference(&self, now: &Self) -> String {
        let mut text = String::new();
        for key in self.0.keys().chain(now.0.keys()) {
            let (old, new) = (self.0.get(key), now.0.get(key));
            if old != new {
                text += &format!("\n{key}\n  was {old:?}\n  is  {new:?}");
            }
        }
        text
    }
}

fn sysctls(conf: &Path, parts: &mut BTreeMap<String, String>) {
    for device in fs::read_dir(conf).unwrap() {
        for file in fs::read_dir(device.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let value = fs::read_to_string(&path).unwrap_or_default();
            parts.insert(path.display().to_string(), value);
        }
    }
}

/// Files, but for locks: those are no state.
fn find(dir: &Path) -> String {
    let mut names = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What was refused to those that have ended is meant to stay.
                if path.file_name().is_none_or(|n| n != "ended") {
                    open.push(path);
                }
            } else if path.extension().is_none_or(|e| e != "lock") {
                names.push(path.display().to_string());
            }
        }
    }
    names.sort();
    names.join("\n")
}

/// Programs and maps of ours in the kernel, and all device links.
fn bpf() -> String {
    let mut names = Vec::new();
    for program in libbpf_rs::query::ProgInfoIter::default() {
        let name = program.name.to_string_lossy().into_owned();
        if name.starts_with("nk_") {
            names.push(format!("program {} {name}", program.id));
        }
    }
    for map in libbpf_rs::query::MapInfoIter::default() {
        let name = map.name.to_string_lossy().into_owned();
        if name.starts_with("nk_") {
            names.push(format!("map {} {name}", map.id));
        }
    }
    for link in libbpf_rs::query::LinkInfoIter::default() {
        names.push(format!("link {}", link.id));
    }
    names.join("\n")
}
