//! Rules with names as real programs meet them: curl with two libcs, lookups in parallel as Node
//! makes them, apt and git. What is on the list works as without us; what is not fails at once, and
//! says that the name is the reason.
//!
//! ```text
//!  containers 198.51.100.N, 2001:db8:2::N ── host 192.0.2.2 ── wire ── 203.0.113.10, 2001:db8:f::10
//!  DNS on 53, HTTP on 80 and 8080 of every address of the wire: tests/vm/README.md
//! ```

mod rig;

mod guest {
    use serde_json::Value;

    use crate::rig::names::{Client, RESOLVERS, named};
    use crate::rig::{OUTSIDE, OUTSIDE_6, cli, host, say, wire};

    /// The same resolvers; names off the list are refused.
    const REFUSED: &str =
        "dns = { servers = [\"203.0.113.10\", \"2001:db8:f::10\"], refused = \"refused\" }";

    /// Names that were refused, by `denied`.
    fn refused_names(c: &Client) -> Vec<String> {
        let denied = cli::json(&["denied", &c.0.id]);
        let rows = denied["denied"].as_array().expect("rows").iter();
        rows.filter_map(|r| r["name"].as_str().map(str::to_owned))
            .collect()
    }

    fn text<'v>(ran: &'v Value, key: &str) -> &'v str {
        ran[key].as_str().expect("a text")
    }

    /// What a program printed that is to succeed.
    #[track_caller]
    fn printed(ran: &Value) -> String {
        assert_eq!(ran["rc"], 0, "{ran}");
        format!("{}{}", text(ran, "out"), text(ran, "err"))
    }

    /// What a program printed that is to fail, and soon.
    #[track_caller]
    fn complained(what: &str, ran: &Value, seconds: f64) -> String {
        assert_ne!(ran["rc"], 0, "{what}: {ran}");
        let took = ran["seconds"].as_f64().expect("seconds");
        say(&format!("{what}: failed in {took:.2} s"));
        assert!(took < seconds, "{what}: {ran}");
        format!("{}{}", text(ran, "out"), text(ran, "err"))
    }

    const GLIBC: &str = "/usr/bin/curl";
    const MUSL: &str = "/opt/musl/bin/curl";

    /// Status, output, and the seconds that all of it took: curl's own count leaves threads out.
    fn curl(c: &Client, program: &str, args: &[&str]) -> (i64, String, f64) {
        let mut argv = vec![program, "-sS", "--max-time", "30"];
        argv.extend(args);
        let ran = c.run(&argv);
        (
            ran["rc"].as_i64().expect("a status"),
            format!("{}{}", text(&ran, "out"), text(&ran, "err")),
            ran["seconds"].as_f64().expect("seconds"),
        )
    }

    /// curl(1) says so where there is no such name.
    const NO_SUCH_HOST: i64 = 6;

    #[test]
    #[ignore = "needs the guest"]
    fn curl_of_glibc_and_of_musl() {
        host::start_clean();
        for (config, answer) in [(RESOLVERS, "NXDOMAIN"), (REFUSED, "REFUSED")] {
            let _config = host::OtherConfig::with(config);
            let rules = "tcp:www.example.test:80 tcp:www.example.test:8080";
            let c = Client::start(named("curl", 100, rules));
            for program in [GLIBC, MUSL] {
                let (_, _, seconds) = curl(&c, program, &["--version"]);
                say(&format!("{program} --version: {seconds:.3} s"));
                for (args, server) in [
                    (&["http://www.example.test/x"][..], ""),
                    (&["-4", "http://www.example.test:8080/x"], OUTSIDE),
                    (&["-6", "http://www.example.test:8080/x"], OUTSIDE_6),
                ] {
                    let (code, said, _) = curl(&c, program, args);
                    assert_eq!(code, 0, "{program} {args:?}: {said}");
                    assert!(said.contains("host=www.example.test"), "{said}");
                    assert!(said.contains(&format!("server={server}")), "{said}");
                }
                let quiet = wire::cursor();
                for url in ["http://other.example.test/", "http://www.example.com/"] {
                    let (code, said, seconds) = curl(&c, program, &[url]);
                    say(&format!(
                        "{program} {url}: {answer}, failed in {seconds:.3} s"
                    ));
                    assert_eq!(code, NO_SUCH_HOST, "{program} {url}: {said}");
                    assert!(said.contains("Could not resolve host"), "{said}");
                    // 100 ms natively. musl waits 5 s for a better answer than REFUSED
                    // (__res_msend_rc(), src/network/res_msend.c), which is why it is not the default.
                    if program == GLIBC || answer == "NXDOMAIN" {
                        assert!(seconds < 2.0, "{program} {url}: {seconds}");
                    }
                }
                quiet.assert_silence();
            }
            let redirect = "http://www.example.test/to/evil.example.com/";
            let (code, said, _) = curl(&c, GLIBC, &["-L", redirect]);
            assert_eq!(code, NO_SUCH_HOST, "{said}");
            assert!(said.contains("evil.example.com"), "{said}");
            let refused = refused_names(&c);
            for name in ["other.example.test", "www.example.com", "evil.example.com"] {
                assert!(refused.contains(&name.to_owned()), "{refused:?}");
            }
        }
    }

    /// Queries for A and AAAA of each name, all sent before an answer is read, by one socket or by
    /// one each, which all use the same id; prints how many were answered rightly.
    const QUERIES: &str = r#"
import socket, struct, sys
resolver, sockets, names = sys.argv[1], sys.argv[2], sys.argv[3:]
def connected():
    sock = socket.socket(socket.AF_INET6 if ":" in resolver else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.connect((resolver, 53))
    return sock
def question(name, kind):
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    return labels + struct.pack("!BHH", 0, kind, 1)
one, asked = connected(), []
for name in names:
    for kind, size in (1, 4), (28, 16):
        sock = one if sockets == "one" else connected()
        ident = len(asked) if sockets == "one" else 7
        asked.append((sock, ident, question(name, kind), size))
for sock, ident, body, _ in asked:
    sock.send(struct.pack("!6H", ident, 0x100, 1, 0, 0, 0) + body)
waiting = {(s.fileno(), i): (s, b, size) for s, i, b, size in asked}
answered = 0
for sock, *_ in asked:
    data = sock.recv(4096)
    ident, flags, _, records = struct.unpack_from("!4H", data)
    _, body, size = waiting.pop((sock.fileno(), ident))
    assert data[12:12 + len(body)] == body and not flags & 15 and records == 1, data
    assert struct.unpack("!H", data[-size - 2:-size])[0] == size, data
    answered += 1
print(answered)
"#;

    /// Each name in a thread of its own: libc's lookup, a connection to each address, an echo.
    const THREADS: &str = r#"
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def one(name):
    found = socket.getaddrinfo(name, 7777, 0, socket.SOCK_STREAM)
    for *_, address in found:
        with socket.create_connection(address[:2], 10) as sock:
            sock.sendall(name.encode())
            assert sock.recv(300) == name.encode()
    return len(found)
names = sys.argv[1:]
with ThreadPoolExecutor(len(names)) as pool:
    print(sum(pool.map(one, names)))
"#;

    #[test]
    #[ignore = "needs the guest"]
    fn lookups_in_parallel_by_one_socket_and_by_many() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        let c = Client::start(named("parallel", 101, "tcp:*.many.example.test:7777"));
        let names: Vec<String> = (0..24).map(|n| format!("n{n}.many.example.test")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for resolver in [OUTSIDE, OUTSIDE_6] {
            // As a single lookup, and as many at a time.
            for (sockets, names) in [
                ("one", &names[..1]),
                ("many", &names[..1]),
                ("one", &names),
                ("many", &names),
            ] {
                let mut args = vec![resolver, sockets];
                args.extend(names);
                let ran = c.python(QUERIES, &args);
                assert_eq!(ran["ok"], true, "{resolver} {sockets}: {ran}");
                assert_eq!(text(&ran, "out").trim(), (2 * names.len()).to_string());
            }
        }
        c.0.reaches("tcp", OUTSIDE, 7777);
        let ran = c.python(THREADS, &names);
        assert_eq!(ran["ok"], true, "{ran}");
        assert_eq!(text(&ran, "out").trim(), "48", "two addresses each: {ran}");
    }

    /// Two directories of packages, with as much of an archive as apt needs.
    const ARCHIVE: &str = r#"
import hashlib, os, pathlib, subprocess
for name in "one", "two":
    to = pathlib.Path("/srv/www/apt", name)
    to.mkdir(parents=True, exist_ok=True)
    index = ""
    for n in range(4):
        root = pathlib.Path(f"/tmp/{name}{n}")
        (root / "DEBIAN").mkdir(parents=True, exist_ok=True)
        control = f"Package: {name}{n}\nVersion: 1\nArchitecture: all\n"
        control += "Maintainer: Nobody <nobody@example.test>\nDescription: nothing\n"
        (root / "DEBIAN/control").write_text(control)
        (root / "data").write_bytes(os.urandom(100_000))
        deb = to / f"{name}{n}.deb"
        subprocess.run(["dpkg-deb", "-Znone", "--build", root, deb], check=True)
        data = deb.read_bytes()
        index += f"{control}Filename: ./{deb.name}\nSize: {len(data)}\n"
        index += f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    (to / "Packages").write_text(index)
"#;

    /// apt-get with these sources and directories of its own. By default it would ask for a name again
    /// and again, later each time, whatever the answer is.
    const APT: &str = r#"
set -eu
dir=$1 sources=$2
shift 2
mkdir -p "$dir/lists/partial" "$dir/archives/partial"
printf '%b' "$sources" >"$dir/sources.list"
cd "$dir"
exec apt-get -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
	-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir" -o APT::Sandbox::User=root \
	-o APT::Update::Error-Mode=any -o Acquire::Retries=0 "$@"
"#;

    fn apt(c: &Client, dir: &str, sources: &str, args: &[&str]) -> Value {
        let mut argv = vec!["sh", "-c", APT, "apt", dir, sources];
        argv.extend(args);
        c.run(&argv)
    }

    #[test]
    #[ignore = "needs the guest"]
    fn apt_from_two_archives() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        wire::exec(&["python3", "-c", ARCHIVE]).success();
        let rules = "tcp:deb.example.test:80 tcp:other.example.test:8080";
        let c = Client::start(named("apt", 102, rules));
        let sources = "deb [trusted=yes] http://deb.example.test/files/apt/one ./\\n\
                       deb [trusted=yes] http://other.example.test:8080/files/apt/two ./\\n";
        printed(&apt(&c, "/tmp/apt", sources, &["update"]));
        let packages = "download one0 one1 one2 one3 two0 two1 two2 two3";
        let download: Vec<&str> = packages.split(' ').collect();
        printed(&apt(&c, "/tmp/apt", sources, &download));
        let there = printed(&c.run(&["sh", "-c", "ls /tmp/apt/*.deb"]));
        assert_eq!(there.lines().count(), 8, "{there}");
        for (url, name) in [
            ("evil.example.test/files/apt/one", "evil.example.test"),
            (
                "deb.example.test/to/bad.example.test/files/apt/one",
                "bad.example.test",
            ),
        ] {
            let source = format!("deb [trusted=yes] http://{url} ./");
            let ran = apt(&c, &format!("/tmp/{name}"), &source, &["update"]);
            let said = complained(&format!("apt from {url}"), &ran, 15.0);
            assert!(said.contains("resolv") && said.contains(name), "{said}");
            assert!(refused_names(&c).contains(&name.into()), "{name}");
        }
    }

    /// A repository, and one with it as a submodule by a name that is on no list.
    const REPOSITORIES: &str = r#"
set -eu
export HOME=/tmp GIT_AUTHOR_NAME=nobody GIT_AUTHOR_EMAIL=nobody@example.test
export GIT_COMMITTER_NAME=nobody GIT_COMMITTER_EMAIL=nobody@example.test
work=$(mktemp -d) to=/srv/www/git
rm -rf "$to"
mkdir -p "$to"
git init -q -b main "$work"
cd "$work"
for n in 1 2 3 4 5; do
	echo "by name $n" >"file$n"
	git add .
	git commit -qm "change $n"
done
git clone -q --bare . "$to/plain.git"
printf '[submodule "sub"]\n\tpath = sub\n\turl = %s\n' http://evil.example.test/files/git/plain.git \
	>.gitmodules
git add .gitmodules
git update-index --add --cacheinfo "160000,$(git rev-parse HEAD),sub"
git commit -qm "a submodule"
git clone -q --bare . "$to/whole.git"
for each in plain whole; do
	git -C "$to/$each.git" update-server-info
done
"#;

    #[test]
    #[ignore = "needs the guest"]
    fn git_over_http() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        wire::exec(&["sh", "-c", REPOSITORIES]).success();
        let c = Client::start(named("git", 103, "tcp:git.example.test:80"));
        let clone = |url: &str, to: &str| c.run(&["git", "clone", "--recurse-submodules", url, to]);
        printed(&clone(
            "http://git.example.test/files/git/plain.git",
            "/tmp/plain",
        ));
        assert_eq!(c.0.read("/tmp/plain/file5"), "by name 5\n");
        for (url, name) in [
            (
                "http://bad.example.test/files/git/plain.git",
                "bad.example.test",
            ),
            (
                "http://git.example.test/to/bad.example.test/files/git/plain.git",
                "bad.example.test",
            ),
            (
                "http://git.example.test/files/git/whole.git",
                "evil.example.test",
            ),
        ] {
            let ran = clone(url, "/tmp/more");
            let said = complained(&format!("git clone {url}"), &ran, 30.0);
            let error = format!("Could not resolve host: {name}");
            assert!(said.contains(&error), "{said}");
            assert!(refused_names(&c).contains(&name.into()), "{name}");
            c.run(&["rm", "-rf", "/tmp/more"]);
        }
    }
}
