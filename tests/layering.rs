//! House rules that the compiler does not know: imports go downward, pure layers stay pure, no
//! catch-all modules, no hand-written twins of C structs, no tests that skip themselves.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the library from the bottom up. A module may use those above it in this list and
/// itself; the first that matches a path counts, so parts of a module stand before the whole.
const LAYERS: [&str; 13] = [
    "error",
    "types",
    "request",
    "facts",
    // The grammar is shared: the config's profiles and the annotations are made of rules.
    "plan/rules",
    "config",
    "annotations",
    "plan",
    // Files on disk know nothing of the kernel; kernel/ is told by state where its pins go.
    "state",
    "kernel",
    "apply",
    "inspect",
    "roles",
];

/// Layers that do no I/O and know no clock, environment or randomness.
const PURE: [&str; 8] = [
    "error",
    "types",
    "request",
    "facts",
    "plan/rules",
    "config",
    "annotations",
    "plan",
];

/// What a pure layer must not name.
const IMPURE: [&str; 14] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::time",
    "std::thread",
    "std::os",
    "nix::",
    "libbpf_rs",
    "libbpf_sys",
    "netlink_",
    "tokio",
    "println!",
    "eprintln!",
    "log::",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    files
}

/// Path below `hook/` without the extension: plan/rules/parse.
fn module(path: &Path) -> String {
    let path = path
        .strip_prefix(root().join("hook"))
        .unwrap()
        .with_extension("");
    path.to_str().unwrap().to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|l| {
        module
            .strip_prefix(l)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn rust_sources() -> Vec<(String, String)> {
    files("hook")
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .map(|p| (module(&p), fs::read_to_string(&p).unwrap()))
        .collect()
}

/// Code without comments and without string literals' neighbours: lines that do not start as one.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim_start)
        .filter(|l| !l.starts_with("//"))
}

/// Modules named as crate::a::b anywhere in the code, as a/b.
fn uses(text: &str) -> Vec<String> {
    code(text)
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            rest[..end.unwrap_or(rest.len())]
                .trim_end_matches(':')
                .replace("::", "/")
        })
        .collect()
}

#[test]
fn imports_go_downward() {
    let mut wrong = Vec::new();
    for (module, text) in rust_sources() {
        let Some(own) = layer(&module) else { continue };
        assert!(
            !text.contains("crate::{"),
            "{module}: one path to a line, so that it can be read"
        );
        for used in uses(&text) {
            let Some(other) = layer(&used) else { continue };
            if other > own {
                wrong.push(format!("{module} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let free = ["lib", "main"];
    for (module, _) in rust_sources() {
        assert!(
            free.contains(&module.as_str()) || layer(&module).is_some(),
            "{module}"
        );
    }
}

#[test]
fn pure_layers_touch_nothing() {
    let mut wrong = Vec::new();
    for (module, text) in rust_sources() {
        let is_test = module.ends_with("tests");
        let Some(own) = layer(&module).map(|l| LAYERS[l]) else {
            continue;
        };
        if is_test || !PURE.contains(&own) {
            continue;
        }
        for line in code(&text) {
            for name in IMPURE.iter().filter(|n| line.contains(*n)) {
                wrong.push(format!("{module}: {name} in: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_module_is_a_catch_all() {
    for path in files("hook").into_iter().chain(files("bpf")) {
        let parts = path.strip_prefix(root()).unwrap().with_extension("");
        for part in parts.iter().filter_map(|p| p.to_str()) {
            let banned = ["utils", "util", "helpers", "helper", "common", "misc"];
            assert!(!banned.contains(&part), "{}", path.display());
        }
    }
}

#[test]
fn no_twin_of_a_c_struct_is_written_by_hand() {
    // What a file of our own consists of, which nobody writes in C.
    let own = ["types/claim", "types/lease", "state/claims"];
    for (module, text) in rust_sources() {
        for line in code(&text) {
            let is_own = own.contains(&module.as_str());
            assert!(is_own || !line.contains("repr(C"), "{module}: {line}");
        }
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for (module, text) in rust_sources() {
        let told = text.starts_with("//!") || module.ends_with("tests");
        assert!(told, "{module} has no opening comment");
    }
}

/// A test that needs more than is there must fail, or be one that run-root.sh does not select.
#[test]
fn no_test_skips_itself() {
    let mut wrong = Vec::new();
    for path in files("tests")
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
    {
        let text = fs::read_to_string(&path).unwrap();
        let mut in_test = false;
        for line in text.lines() {
            in_test |= line.trim_start().starts_with("#[test]");
            // Tests end where their brace closes at the margin of a module or file.
            in_test &= !(line == "}" || line == "    }");
            let code = line.trim_start();
            if in_test
                && (code == "return;"
                    || code.ends_with("{ return }")
                    || code.ends_with("{ return };"))
            {
                wrong.push(format!("{}: {code}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "return early:\n{}", wrong.join("\n"));
}
