//! The ways people start containers with podman besides `podman run`: each works, or is refused
//! with a sentence that says what to do.

mod rig;

mod guest {
    use std::fs;
    use std::process::Command;

    use crate::rig::cli;
    use crate::rig::container::runtime;
    use crate::rig::host;

    const DATA: &str = "/src/tests/data/life";
    const ADDRESS: &str = "io.oci-netkit.address=198.51.100.50";
    const EGRESS: &str = "io.oci-netkit.egress=tcp:203.0.113.10:80";
    /// What such a container is run with.
    const OURS: [&str; 6] = [
        "--network=none",
        "--annotation",
        ADDRESS,
        "--annotation",
        EGRESS,
        "localhost/small",
    ];

    /// Runs podman; whether it succeeded, and all it said.
    fn podman(args: &[&str]) -> (bool, String) {
        let output = Command::new("podman")
            .args(["--runtime", &runtime()])
            .args(args)
            .output()
            .expect("run podman");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said += &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }

    #[track_caller]
    fn must(args: &[&str]) -> String {
        let (done, said) = podman(args);
        assert!(done, "podman {args:?}: {said}\n{:#}", cli::last_error());
        said.trim().to_owned()
    }

    /// `podman run` with our annotations and these options.
    #[track_caller]
    fn start(name: &str, options: &[&str]) {
        let mut args = vec!["run", "--detach", "--name", name];
        args.extend(options);
        args.extend(OURS);
        args.extend(["sleep", "600"]);
        must(&args);
    }

    fn remove(name: &str) {
        must(&["rm", "--force", "--time", "0", name]);
    }

    /// An HTTP answer to a process that podman puts into the container.
    fn fetches(name: &str, server: &str) -> bool {
        let url = format!("http://{server}/");
        podman(&["exec", name, "wget", "-T", "2", "-qO-", &url]).0
    }

    #[track_caller]
    fn is_judged(name: &str) {
        assert!(fetches(name, "203.0.113.10"), "{name}: {:#?}", cli::list());
        assert!(!fetches(name, "203.0.113.20"), "{name}");
    }

    #[track_caller]
    fn nothing_is_managed() {
        host::eventually("no endpoint is left", || cli::list().is_empty());
    }

    /// A host with the image, a busybox, and ids for user namespaces.
    fn prepare() {
        host::start_clean();
        let script = "set -e; mkdir -p /tmp/small/bin /tmp/small/etc /tmp/small/tmp
            cp /usr/bin/busybox /tmp/small/bin/
            for tool in sh sleep wget true; do ln -sf busybox /tmp/small/bin/$tool; done
            podman image exists localhost/small ||
                tar -C /tmp/small -c . | podman import - localhost/small
            for file in /etc/subuid /etc/subgid; do
                grep -q ^containers: $file || echo containers:200000:1000000 >>$file
            done";
        host::run(&["bash", "-c", script]);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn init_read_only_user_namespaces_and_health_checks_work() {
        prepare();
        let mut create = vec!["create", "--name", "life"];
        create.extend(OURS);
        create.extend(["sleep", "600"]);
        must(&create);
        must(&["init", "life"]);
        assert_eq!(cli::list().len(), 1);
        must(&["start", "life"]);
        is_judged("life");
        remove("life");
        nothing_is_managed();

        must(&create);
        must(&["init", "life"]);
        remove("life");
        nothing_is_managed();

        start("life", &["--read-only", "--userns=auto"]);
        is_judged("life");
        remove("life");

        // Root of a user namespace may have it: it does not own the host's side.
        start("life", &["--userns=auto", "--cap-add=NET_ADMIN"]);
        is_judged("life");
        remove("life");

        let check = "--health-cmd=wget -T 2 -qO- http://203.0.113.10/";
        start("life", &[check, "--health-interval=disable"]);
        must(&["healthcheck", "run", "life"]);
        remove("life");
        nothing_is_managed();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_restart_policy_brings_the_same_network_back() {
        prepare();
        start("life", &["--restart=always"]);
        let pid = must(&["inspect", "--format", "{{.State.Pid}}", "life"]);
        host::run(&["kill", "-9", &pid]);
        host::eventually("it runs again", || {
            let now = podman(&["inspect", "--format", "{{.State.Pid}}", "life"]).1;
            now.trim() != pid && now.trim() != "0" && fetches("life", "203.0.113.10")
        });
        is_judged("life");
        must(&["pause", "life"]);
        must(&["unpause", "life"]);
        must(&["rename", "life", "other"]);
        is_judged("other");
        remove("other");
        nothing_is_managed();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn kube_play_serves_all_containers_of_the_pod() {
        prepare();
        let file = format!("{DATA}/pod.yaml");
        must(&["kube", "play", "--network", "none", &file]);
        is_judged("kp-one");
        is_judged("kp-two");
        assert_eq!(cli::list().len(), 1);
        must(&["kube", "down", &file]);
        nothing_is_managed();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_pods_endpoint_goes_with_its_last_annotated_member() {
        prepare();
        must(&["pod", "create", "--name", "life", "--network", "none"]);
        must(&[
            "run",
            "--detach",
            "--pod",
            "life",
            "--name",
            "with",
            "--annotation",
            ADDRESS,
            "--annotation",
            EGRESS,
            "localhost/small",
            "sleep",
            "600",
        ]);
        must(&[
            "run",
            "--detach",
            "--pod",
            "life",
            "--name",
            "without",
            "localhost/small",
            "sleep",
            "600",
        ]);
        is_judged("without");
        must(&["stop", "--time", "0", "with"]);
        nothing_is_managed();
        assert!(!fetches("without", "203.0.113.10"));
        must(&["start", "with"]);
        is_judged("without");
        must(&["pod", "rm", "--force", "--time", "0", "life"]);
        nothing_is_managed();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn what_quadlet_generates_works() {
        prepare();
        let dir = "/etc/containers/systemd";
        fs::create_dir_all(dir).expect("make its directory");
        let unit = format!("{dir}/web.container");
        fs::copy(format!("{DATA}/web.container"), &unit).expect("install the unit");
        let units = host::run(&["/usr/libexec/podman/quadlet", "-dryrun"]);
        fs::remove_file(unit).expect("remove the unit");
        let start = units.lines().find_map(|l| l.strip_prefix("ExecStart="));
        // What systemd would fill in, and what only it can answer.
        let start = start
            .unwrap_or_else(|| panic!("{units}"))
            .replace("%N", "web")
            .replace("%t", "/run")
            .replace("--cgroups=split", "--cgroups=enabled")
            .replace("--sdnotify=conmon", "--sdnotify=ignore")
            .replace("podman run", &format!("podman --runtime {} run", runtime()));
        host::run(&["bash", "-c", &start]);
        is_judged("systemd-web");
        remove("systemd-web");
        nothing_is_managed();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_compose_file_works() {
        prepare();
        let file = format!("{DATA}/compose.yaml");
        let compose = |args: &[&str]| {
            let mut argv = vec!["podman-compose", "--project-name", "life", "--file", &file];
            let runtime = format!("--runtime {}", runtime());
            argv.extend(["--podman-args", &runtime]);
            argv.extend(args);
            host::run(&argv);
        };
        compose(&["up", "--detach"]);
        is_judged("life_web_1");
        compose(&["down", "--timeout", "0"]);
        nothing_is_managed();
    }

    /// The kernel's netkit is unknown to CRIU, and crun of Debian has none.
    #[test]
    #[ignore = "needs the guest"]
    fn a_checkpoint_is_never_restored_without_judgement() {
        prepare();
        start("life", &[]);
        if podman(&["container", "checkpoint", "life"]).0 {
            nothing_is_managed();
            let (restored, said) = podman(&["container", "restore", "life"]);
            assert!(!restored && said.contains("checkpoint"), "{said}");
            nothing_is_managed();
            must(&["start", "life"]);
        }
        is_judged("life");
        remove("life");
        nothing_is_managed();
    }
}
