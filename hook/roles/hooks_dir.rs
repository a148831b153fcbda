//! Is the hook registered with the engines? Reads hooks.d (oci-hooks(5)) as podman would.
//!
//! It matters because podman skips a hook whose binary is missing without a word, and because one
//! malformed file there breaks every container on the host.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// podman's only default directory, whatever podman(1) says of /etc.
pub const HOOKS_DIR: &str = "usr/share/containers/oci/hooks.d";

/// The stages that need a file each: both stages of one file get the same arguments.
const STAGES: [(&str, &str); 2] = [("createRuntime", "create"), ("poststop", "poststop")];

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// In words.
    pub found: String,
    /// What is wrong, if anything.
    pub fault: Option<String>,
    /// How to mend it.
    pub fix: String,
}

impl Registration {
    fn good(found: String) -> Self {
        Self {
            found,
            fault: None,
            fix: String::new(),
        }
    }

    fn bad(fault: String, fix: String) -> Self {
        Self {
            found: String::new(),
            fault: Some(fault),
            fix,
        }
    }
}

/// Looks below `root`, which is `/` but in tests.
#[must_use]
pub fn look(root: &Path) -> Vec<Registration> {
    let dir = root.join(HOOKS_DIR);
    let mut found = Vec::new();
    let mut hooks = Vec::new();
    for path in json_files(&dir) {
        match fs::read(&path)
            .map_err(|e| e.to_string())
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|e| e.to_string()))
        {
            Ok(json) => hooks.push((path, json)),
            Err(e) => found.push(Registration::bad(
                format!(
                    "{} cannot be read ({e}): podman starts no container at all",
                    path.display()
                ),
                format!("mend or remove {}", path.display()),
            )),
        }
    }
    for (stage, argument) in STAGES {
        found.push(of_stage(root, &dir, &hooks, stage, argument));
    }
    found.extend(of_containers_conf(root));
    found
}

fn json_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    paths
}

fn of_stage(
    root: &Path,
    dir: &Path,
    hooks: &[(PathBuf, Value)],
    stage: &str,
    argument: &str,
) -> Registration {
    let ours = hooks.iter().find(|(_, json)| {
        let stages = json["stages"].as_array().into_iter().flatten();
        let args: Vec<&str> = json["hook"]["args"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        stages.filter_map(Value::as_str).any(|s| s == stage) && args.ends_with(&["hook", argument])
    });
    let Some((file, json)) = ours else {
        return Registration::bad(
            format!(
                "no file in {} calls `hook {argument}` at {stage}",
                dir.display()
            ),
            format!("install config/50-oci-netkit-{argument}.json there"),
        );
    };
    let binary = json["hook"]["path"].as_str().unwrap_or_default();
    let runnable = fs::metadata(root.join(binary.trim_start_matches('/')))
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if !runnable {
        return Registration::bad(
            format!(
                "{} names {binary}, which cannot be run: podman skips it silently",
                file.display()
            ),
            format!("install the binary as {binary}"),
        );
    }
    if !json["when"]["annotations"]
        .as_object()
        .is_some_and(|a| a.keys().any(|k| k == r"^io\.oci-netkit\."))
    {
        return Registration::bad(
            format!("{} does not fire for every io.oci-netkit. annotation", file.display()),
            r#"set "when": {"annotations": {"^io\\.oci-netkit\\.": ""}}, so that misspelt keys fail"#
                .to_owned(),
        );
    }
    Registration::good(format!("{stage}: {}", file.display()))
}

/// `hooks_dir` of containers.conf(5) replaces the default directory.
fn of_containers_conf(root: &Path) -> Option<Registration> {
    let path = root.join("etc/containers/containers.conf");
    let conf: toml::Table = fs::read_to_string(&path).ok()?.parse().ok()?;
    let dirs = conf.get("engine")?.get("hooks_dir")?.as_array()?;
    let ours = format!("/{HOOKS_DIR}");
    let there = dirs
        .iter()
        .filter_map(toml::Value::as_str)
        .any(|d| d.trim_end_matches('/') == ours);
    (!there).then(|| {
        Registration::bad(
            format!("hooks_dir in {} leaves {ours} out", path.display()),
            format!("add \"{ours}\" to it"),
        )
    })
}

#[cfg(test)]
mod tests;
