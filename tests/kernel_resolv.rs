//! A container's resolv.conf on the real kernel: whose it is, where links in the image lead, and what
//! stays on the host.

mod root {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};

    use oci_netkit::kernel::netns::Netns;
    use oci_netkit::kernel::process::Process;
    use oci_netkit::kernel::resolv_conf::{Provided, provide};

    const TEXT: &str = "nameserver 192.0.2.53\n";

    /// A process in a mount namespace of its own, with an image beside it.
    struct Waiting {
        child: Child,
        dir: PathBuf,
    }

    impl Waiting {
        /// `commands` run in there first.
        fn start(name: &str, commands: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("nk-resolv-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("root/etc")).expect("make the image");
            let script = format!("cd {}; {commands} echo; exec sleep 60", dir.display());
            let mut child = Command::new("unshare")
                .args(["--mount", "--propagation", "slave", "sh", "-c", &script])
                .stdout(Stdio::piped())
                .spawn()
                .expect("start");
            let mut byte = [0];
            let out = child.stdout.as_mut().expect("piped");
            std::io::Read::read_exact(out, &mut byte).expect("it waits");
            Self { child, dir }
        }

        fn root(&self) -> PathBuf {
            self.dir.join("root")
        }

        #[track_caller]
        fn provide(&self) -> Provided {
            let process = Process::open(i32::try_from(self.child.id()).expect("a pid"));
            let process = process.expect("it runs");
            let mut netns = Netns::of_process(&process).expect("its namespace");
            provide(&process, &mut netns, self.root(), &self.dir, TEXT).expect("provide")
        }

        /// A file of the image as the process sees it.
        fn sees(&self, path: &str) -> String {
            let pid = self.child.id().to_string();
            let path = self.root().join(path);
            let out = Command::new("nsenter")
                .args(["--target", &pid, "--mount", "cat"])
                .arg(path)
                .output()
                .expect("nsenter");
            String::from_utf8_lossy(&out.stdout).into_owned()
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("list").flatten();
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    #[ignore = "root"]
    fn it_is_mounted_over_the_images_own_and_nowhere_else() {
        let w = Waiting::start("over", "");
        let path = w.root().join("etc/resolv.conf");
        fs::write(&path, "the image's\n").expect("write");
        assert_eq!(w.provide(), Provided::Ours);
        assert_eq!(w.sees("etc/resolv.conf"), TEXT);
        assert_eq!(fs::read_to_string(&path).expect("read"), "the image's\n");
        assert_eq!(names(&w.dir), ["root"], "no file of ours stays");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains("nk-resolv"), "{mounts}");
        assert_eq!(w.provide(), Provided::Theirs, "a second time");
        let pid = w.child.id().to_string();
        let written = Command::new("nsenter")
            .args(["--target", &pid, "--mount", "tee"])
            .arg(path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("nsenter");
        assert!(!written.success(), "it is read-only");
    }

    #[test]
    #[ignore = "root"]
    fn an_image_without_one_gets_an_empty_file() {
        let w = Waiting::start("none", "");
        assert_eq!(w.provide(), Provided::Ours);
        assert_eq!(w.sees("etc/resolv.conf"), TEXT);
        let there = fs::read(w.root().join("etc/resolv.conf")).expect("read");
        assert!(there.is_empty());
        let w = Waiting::start("scratch", "");
        fs::remove_dir(w.root().join("etc")).expect("no etc");
        assert_eq!(w.provide(), Provided::Ours);
        assert_eq!(w.sees("etc/resolv.conf"), TEXT);
    }

    #[test]
    #[ignore = "root"]
    fn links_stay_inside_the_image() {
        let outside = std::env::temp_dir().join(format!("nk-resolv-{}-victim", std::process::id()));
        fs::write(&outside, "outside\n").expect("write");
        let absolute = outside.to_str().expect("a path");
        let up = format!("../../../../../../..{absolute}");
        for (name, target) in [("absolute", absolute), ("up", up.as_str())] {
            let w = Waiting::start(name, "");
            symlink(target, w.root().join("etc/resolv.conf")).expect("link");
            assert_eq!(
                w.provide(),
                Provided::NoPlace,
                "{target} is not in the image"
            );
            // The same path inside.
            let inside = w.root().join(absolute.trim_start_matches('/'));
            fs::create_dir_all(inside.parent().expect("a directory")).expect("make");
            fs::write(&inside, "inside\n").expect("write");
            assert_eq!(w.provide(), Provided::Ours, "{target}");
            assert_eq!(w.sees(absolute.trim_start_matches('/')), TEXT);
            assert_eq!(fs::read_to_string(&outside).expect("read"), "outside\n");
        }
        for (name, target) in [
            ("magic", "/proc/self/root/etc/hostname"),
            ("other", "/proc/1/root/etc/hostname"),
            ("dir", "/etc"),
        ] {
            let w = Waiting::start(name, "mkdir root/proc; mount -t proc proc root/proc;");
            symlink(target, w.root().join("etc/resolv.conf")).expect("link");
            assert_eq!(w.provide(), Provided::NoPlace, "{target}");
        }
        fs::remove_file(outside).expect("remove");
    }

    /// openat2(2): EAGAIN where a rename anywhere meets a `..` of the link.
    #[test]
    #[ignore = "root"]
    fn renames_elsewhere_do_not_disturb() {
        let w = Waiting::start("renames", "");
        let busy = w.dir.join("busy");
        fs::write(&busy, "").expect("write");
        fs::write(w.root().join("etc/file"), "inside\n").expect("write");
        let link = format!("{}file", "../etc/".repeat(15));
        symlink(link, w.root().join("etc/resolv.conf")).expect("link");
        // Until its directory goes.
        let other = w.dir.join("other");
        std::thread::spawn(move || {
            while fs::rename(&busy, &other).is_ok() && fs::rename(&other, &busy).is_ok() {}
        });
        let provided: Vec<Provided> = (0..200).map(|_| w.provide()).collect();
        assert_eq!(provided[0], Provided::Ours);
        assert!(provided[1..].iter().all(|p| *p == Provided::Theirs));
    }

    #[test]
    #[ignore = "root"]
    fn what_somebody_mounted_there_stays() {
        let w = Waiting::start(
            "theirs",
            "echo theirs > file; touch root/etc/resolv.conf; mount --bind file root/etc/resolv.conf;",
        );
        assert_eq!(w.provide(), Provided::Theirs);
        assert_eq!(w.sees("etc/resolv.conf"), "theirs\n");
    }

    #[test]
    #[ignore = "root"]
    fn nothing_is_mounted_in_the_hosts_own_namespace() {
        let w = Waiting::start("host", "");
        let own = i32::try_from(std::process::id()).expect("a pid");
        let own = Process::open(own).expect("ourselves");
        let mut netns = Netns::of_process(&own).expect("its namespace");
        let provided = provide(&own, &mut netns, w.root(), &w.dir, TEXT).expect("provide");
        assert_eq!(provided, Provided::Shared);
        assert_eq!(names(&w.dir), ["root"]);
    }
}
