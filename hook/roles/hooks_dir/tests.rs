use super::*;

/// A root with both files of config/ and an executable, each test spoils one thing.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nk-hooks-{}-{name}", std::process::id()));
        let root = Self(dir);
        for argument in ["create", "poststop"] {
            let file = format!("50-oci-netkit-{argument}.json");
            let source = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("config")
                .join(&file);
            root.write(
                &format!("{HOOKS_DIR}/{file}"),
                &fs::read_to_string(source).unwrap(),
            );
        }
        root.write("usr/libexec/oci/hooks.d/oci-netkit", "");
        let binary = root.0.join("usr/libexec/oci/hooks.d/oci-netkit");
        fs::set_permissions(binary, fs::Permissions::from_mode(0o755)).unwrap();
        root
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn faults(&self) -> Vec<String> {
        look(&self.0).into_iter().filter_map(|r| r.fault).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_files_of_config_are_a_good_registration() {
    let root = Root::new("good");
    assert_eq!(root.faults(), Vec::<String>::new());
    assert_eq!(look(&root.0).len(), 2);
}

#[test]
fn a_missing_binary_is_a_fault_of_both_stages() {
    let root = Root::new("binary");
    fs::remove_file(root.0.join("usr/libexec/oci/hooks.d/oci-netkit")).unwrap();
    let faults = root.faults();
    assert_eq!(faults.len(), 2);
    assert!(faults[0].contains("skips it silently"));
}

#[test]
fn a_missing_stage_is_named() {
    let root = Root::new("stage");
    fs::remove_file(root.0.join(HOOKS_DIR).join("50-oci-netkit-poststop.json")).unwrap();
    assert!(root.faults()[0].contains("`hook poststop` at poststop"));
}

#[test]
fn somebody_s_malformed_file_is_a_fault() {
    let root = Root::new("malformed");
    root.write(&format!("{HOOKS_DIR}/10-other.json"), "{");
    assert!(root.faults()[0].contains("no container at all"));
}

#[test]
fn a_hooks_dir_that_leaves_ours_out_is_a_fault() {
    let root = Root::new("conf");
    root.write(
        "etc/containers/containers.conf",
        "[engine]\nhooks_dir = [\"/etc/hooks\"]\n",
    );
    assert!(root.faults()[0].contains("leaves /usr/share/containers/oci/hooks.d out"));
}

#[test]
fn a_regex_on_one_key_misses_typos_and_is_a_fault() {
    let root = Root::new("regex");
    let path = root.0.join(HOOKS_DIR).join("50-oci-netkit-create.json");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace(r"^io\\.oci-netkit\\.", "^io.oci-netkit.address$");
    fs::write(&path, text).unwrap();
    assert!(root.faults()[0].contains("every io.oci-netkit. annotation"));
}
