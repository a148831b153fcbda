//! Annotations that come with an image: podman before 4.5.1 hands them to its containers as if the user
//! had written them. Debian 12's podman 4.3.1, beside the guest's own.

mod rig;

mod guest {
    use std::fs;
    use std::process::{Command, Output};

    use serde_json::{Value, json};

    use crate::rig::{OUTSIDE, cli, container, host};

    const OLD: &str = "/opt/podman-4.3/usr/bin/podman";
    const DIR: &str = "/run/oci-netkit-tests/images";

    #[track_caller]
    fn succeeds(mut command: Command) {
        let ran = command.output().expect("run it");
        assert!(ran.status.success(), "{command:?}: {ran:?}");
    }

    /// An image with busybox and these annotations, in both podmans.
    struct Image(&'static str);

    impl Image {
        fn with(name: &'static str, annotations: &[(&str, &str)]) -> Self {
            let dir = format!("{DIR}/{name}");
            fs::create_dir_all(&dir).expect("make the directory");
            fs::copy("/usr/bin/busybox", format!("{dir}/busybox")).expect("copy busybox");
            let text = "FROM scratch\nCOPY busybox /bin/busybox\n";
            fs::write(format!("{dir}/Containerfile"), text).expect("write it");
            let mut build = Command::new("podman");
            // A cached one has the annotations of its first build.
            build.args(["build", "--quiet", "--no-cache", "--tag", name]);
            for (key, value) in annotations {
                build.args(["--annotation", &format!("io.oci-netkit.{key}={value}")]);
            }
            build.arg(&dir);
            succeeds(build);
            let archive = format!("{dir}/image.tar");
            let mut save = Command::new("podman");
            save.args(["save", "--quiet", "--format", "oci-archive", "--output"]);
            save.args([&archive, name]);
            succeeds(save);
            let mut load = old();
            load.args(["load", "--quiet", "--input", &archive]);
            succeeds(load);
            Self(name)
        }

        /// A container of it, with these annotations besides, whose shell runs `script`.
        fn run(&self, mut podman: Command, annotations: &[&str], script: &str) -> Output {
            podman.arg("--runtime").arg(container::runtime());
            podman.args(["run", "--rm", "--network", "none"]);
            for annotation in annotations {
                podman.args(["--annotation", &format!("io.oci-netkit.{annotation}")]);
            }
            podman.args([self.0, "/bin/busybox", "sh", "-c", script]);
            podman.output().expect("run podman")
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            for mut podman in [old(), Command::new("podman")] {
                let _ = podman.args(["rmi", "--force", self.0]).output();
            }
            let _ = fs::remove_dir_all(format!("{DIR}/{}", self.0));
        }
    }

    /// With a storage of its own.
    fn old() -> Command {
        let mut podman = Command::new(OLD);
        podman.args(["--root", "/var/lib/containers/old"]);
        podman.args(["--runroot", "/run/containers/old"]);
        podman.args(["--tmpdir", "/run/libpod-old"]);
        podman
    }

    fn new() -> Command {
        Command::new("podman")
    }

    const DEVICES: &str = "busybox ip -oneline address show";

    fn text(output: &Output) -> String {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn an_image_asks_an_old_podman_for_a_network_and_gets_none() {
        host::start_clean();
        container::podman("first").address("auto4").start().stop();
        host::eventually("it has ended", || cli::list().is_empty());
        let before = host::Snapshot::take();
        let image = Image::with("greedy", &[("address", "auto4"), ("egress", "any:any")]);
        let refused = image.run(old(), &[], DEVICES);
        assert!(!refused.status.success(), "{refused:?}");
        let error = cli::last_error();
        assert_eq!(error["exit_code"], 77, "{error:#}");
        for part in [
            "io.oci-netkit.egress",
            "podman 4.3.1 lets images annotate",
            "no ceiling",
        ] {
            assert!(error["error"].to_string().contains(part), "{error:#}");
        }
        assert!(error["hint"].to_string().contains("[ceiling]"), "{error:#}");
        before.assert_same();
        // The user's word counts before the image's, and an address alone leads nowhere.
        let alone = text(&image.run(old(), &["egress="], DEVICES));
        assert!(alone.contains("198.51.100."), "{alone}");
        host::eventually("it has ended", || cli::list().is_empty());
        // Newer ones leave them in the image.
        let none = text(&image.run(new(), &[], DEVICES));
        assert!(
            none.contains("127.0.0.1") && !none.contains("eth0"),
            "{none}"
        );
        let asked = text(&image.run(new(), &["address=auto4", "egress=any:any"], DEVICES));
        assert!(asked.contains("198.51.100."), "{asked}");
        host::eventually("it has ended", || cli::list().is_empty());
        before.assert_same();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn under_a_ceiling_an_image_gets_what_any_may_have() {
        host::start_clean();
        let rule = format!("tcp:{OUTSIDE}:7777");
        let _config = host::OtherConfig::with(&format!("[ceiling]\negress = \"{rule}\""));
        let modest = Image::with("modest", &[("address", "auto4"), ("egress", &rule)]);
        let script = format!("echo through | busybox nc -w 5 {OUTSIDE} 7777");
        assert_eq!(text(&modest.run(old(), &[], &script)), "through\n");
        let greedy = Image::with("greedy", &[("address", "auto4"), ("egress", "any:any")]);
        let refused = greedy.run(old(), &[], &script);
        assert!(!refused.status.success(), "{refused:?}");
        let error = cli::last_error()["error"].to_string();
        assert!(error.contains("beyond the ceiling"), "{error}");
        host::eventually("they have ended", || cli::list().is_empty());
    }

    /// The old one in the place of the guest's own.
    struct Downgrade;

    impl Downgrade {
        fn make() -> Self {
            host::run(&["mount", "--bind", OLD, "/usr/bin/podman"]);
            Self
        }
    }

    impl Drop for Downgrade {
        fn drop(&mut self) {
            host::attempt(&["umount", "/usr/bin/podman"]);
        }
    }

    /// What doctor says about podman.
    fn doctors() -> Value {
        let findings = cli::run(&["doctor", "--json"]).json();
        let all = findings.as_array().expect("findings").iter();
        let mut podman = all.filter(|f| f["check"] == "podman");
        podman.next().expect("a line about podman").clone()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn doctor_names_an_old_podman() {
        assert_eq!(doctors()["ok"], true);
        let old = Downgrade::make();
        let said = doctors();
        assert_eq!(said["ok"], false, "{said:#}");
        assert!(said["detail"].to_string().contains("podman 4.3.1"));
        assert!(said["fix"].to_string().contains("[ceiling]"), "{said:#}");
        {
            let _config = host::OtherConfig::with("[ceiling]\negress = \"\"");
            assert_eq!(doctors()["ok"], true);
        }
        drop(old);
        assert_eq!(doctors()["ok"], true);
        // The hook, too, asks anew once the program is another.
        let c = container::podman("updated")
            .address("auto4")
            .egress("any:any");
        c.start().stop();
        let known =
            fs::read_to_string(format!("{}/podman.json", host::STATE)).expect("it is known");
        let known: Value = serde_json::from_str(&known).expect("JSON");
        assert_eq!(known["program"]["path"], json!("/usr/bin/podman"));
        assert_ne!(known["version"]["major"], 4);
    }
}
