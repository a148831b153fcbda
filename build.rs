//! Compiles `bpf/` to one CO-RE object with its Rust skeleton, against the committed, trimmed
//! `bpf/vmlinux.h`: the build machine's kernel is never read.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "bpf/datapath.bpf.c";

fn main() {
    if env::var_os("CARGO_FEATURE_VENDORED").is_some() {
        link_unwinder();
    }
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-changed=bpf");
    for file in fs::read_dir("bpf").expect("bpf/ lies beside build.rs") {
        let path = file.expect("bpf/ can be listed").path();
        println!("cargo:rerun-if-changed={}", path.display());
    }

    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let found = Command::new(&clang).arg("--version").output();
    if !found.is_ok_and(|o| o.status.success()) {
        eprintln!(
            "error: {} does not run, and the BPF programs need it.\n\
             hint: apt-get install clang (Debian, Ubuntu), or name another with CLANG=/path",
            clang.to_string_lossy()
        );
        std::process::exit(1);
    }

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let object = out.join("datapath.bpf.o");
    let built = SkeletonBuilder::new()
        .source(SOURCE)
        .obj(&object)
        .clang(&clang)
        .clang_args([
            "-I",
            "bpf",
            "-Wall",
            "-Werror",
            "-mcpu=v3",
            "-fno-strict-aliasing",
        ])
        .build_and_generate(out.join("datapath.skel.rs"));
    if let Err(e) = built {
        eprintln!("error: compile {SOURCE}: {e:#}");
        std::process::exit(1);
    }
    let object = fs::read(object).expect("it was just built");
    println!("cargo:rustc-env=OCI_NETKIT_OBJECT={:016x}", fnv1a(&object));
}

/// The static half of libgcc, before std asks for libgcc_s, of which a backtrace is all we need: lld,
/// rustc's linker here, takes it instead. Where there is none, or with another linker, nothing
/// changes.
fn link_unwinder() {
    let archive = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    let archive = archive.map_or_else(|_| Vec::new(), |output| output.stdout);
    let archive = PathBuf::from(String::from_utf8_lossy(&archive).trim());
    // A compiler that does not know it says its name again.
    if let (true, Some(dir)) = (archive.is_absolute(), archive.parent()) {
        println!("cargo:rustc-link-search=native={}", dir.display());
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// Names the object, so that one build finds its own programs again (kernel/bpf/load.rs). Not a
/// secret: any hash that differs for different objects will do. A debug build counts as another
/// version, which is what the tests of an upgrade make use of.
fn fnv1a(bytes: &[u8]) -> u64 {
    let about = ["CARGO_PKG_VERSION", "PROFILE"].map(|name| env::var(name).unwrap_or_default());
    let all = bytes.iter().chain(about.iter().flat_map(|a| a.as_bytes()));
    all.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
