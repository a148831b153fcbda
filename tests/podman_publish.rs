//! Published ports with real containers: who reaches them from the wire, what the container sees, and
//! what is refused.
//!
//! ```text
//!  containers 10.87.128.N, fd00:87::N (masqueraded) ── host 192.0.2.2     ── wire 192.0.2.1
//!             198.51.100.N, 2001:db8:2::N (routed)         2001:db8:1::2     2001:db8:1::1
//! ```

mod rig;

mod guest {
    use serde_json::Value;

    use crate::rig::container::{self, Container};
    use crate::rig::{HOST, HOST_6, WIRE, WIRE_6, cli, host, wire};

    const POOLS: &str = r#"
[[pool]]
prefix = "10.87.128.0/17"
reach = "masquerade"
[[pool]]
prefix = "fd00:87::/64"
reach = "masquerade"
"#;

    fn private(name: &str, n: u8) -> container::Spec {
        container::bundle(name).address(&format!("10.87.128.{n} fd00:87::{n}"))
    }

    fn echoes(protocol: &str, to: &str, port: u16) {
        let said = format!("{protocol} to {to} {port}");
        assert_eq!(wire::ask(protocol, to, port, &said), Ok(said.clone()));
    }

    /// Who the container thinks the last one was.
    fn last_peer(c: &Container) -> Value {
        c.heard(1.0).pop().expect("somebody came")["from"].clone()
    }

    fn reaches_every_way(c: &Container) {
        c.listen("tcp", 8000);
        c.listen("udp", 8000);
        for (to, from) in [(HOST, WIRE), (HOST_6, WIRE_6)] {
            for protocol in ["tcp", "udp"] {
                echoes(protocol, to, 8080);
                assert_eq!(last_peer(c), from, "the real client");
            }
        }
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn curl_on_the_wire_reaches_a_containers_server_which_sees_the_client() {
            host::start_clean();
            let _config = host::OtherConfig::with(POOLS);
            let c = container::podman("published")
                .address("auto")
                .ingress("any:8000 udp:any:8000")
                .with("publish", "8080:8000 8080:8000/udp")
                .start();
            reaches_every_way(&c);
            let shown = cli::show(&c.id);
            assert_eq!(shown["publish"][0], "8080:8000/tcp");
            assert_eq!(shown["publish"][1], "8080:8000/udp");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn routed_addresses_are_published_too_and_large_transfers_pass() {
        host::start_clean();
        let c = container::bundle("routed")
            .address("198.51.100.7 2001:db8:2::7")
            .ingress("any:8000 udp:any:8000")
            .with("publish", "8080:8000 8080:8000/udp")
            .start();
        reaches_every_way(&c);
        // 4 MiB there and back, in segments as large as the devices make them.
        const CLIENT: &str = "
import socket, sys, threading
to, size = sys.argv[1], 4 << 20
sock = socket.create_connection((to, 8080), 10)
threading.Thread(target=lambda: sock.sendall(b'x' * size), daemon=True).start()
got = 0
while got < size and (part := sock.recv(1 << 18)):
    got += len(part)
print(got)
";
        for to in [HOST, HOST_6] {
            let done = wire::exec_for(&["python3", "-c", CLIENT, to], 60).success();
            assert_eq!(done.trim(), (4 << 20).to_string());
        }
    }

    /// One exchange of a process of the host, in Python: how it goes and who answered, as it sees it.
    fn from_host(kind: &str, to: &str, port: u16, source: &str) -> String {
        const CLIENT: &str = "
import errno, socket, sys
kind, to, port, source = sys.argv[1:]
family = socket.AF_INET6 if ':' in to else socket.AF_INET
stream = socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM
sock = socket.socket(family, stream)
sock.settimeout(1.5)
try:
    if source:
        sock.bind((source, 0))
    if kind == 'loose':
        for word in (b'one', b'hello'):
            sock.sendto(word, (to, int(port)))
            data, peer = sock.recvfrom(4096)
    else:
        sock.connect((to, int(port)))
        peer = sock.getpeername()
        sock.send(b'hello')
        data = sock.recv(4096)
    print(data.decode(), *peer[:2])
except TimeoutError:
    print('timeout')
except OSError as error:
    print(errno.errorcode[error.errno])
";
        let port = port.to_string();
        let said = host::run(&["python3", "-c", CLIENT, kind, to, &port, source]);
        said.trim().to_owned()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_host_reaches_it_by_its_addresses_and_localhost() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let c = private("local", 21)
            .ingress("host:8000 udp:host:8000")
            .with("publish", "8080:8000 8080:8000/udp 127.0.0.1:8081:8000")
            .start();
        c.listen("tcp", 8000);
        c.listen("udp", 8000);
        for (to, from) in [
            ("127.0.0.1", HOST),
            ("::1", HOST_6),
            (HOST, HOST),
            (HOST_6, HOST_6),
            ("::ffff:127.0.0.1", HOST),
        ] {
            for kind in ["tcp", "udp", "loose"] {
                // What it asked for is what it is shown.
                let said = from_host(kind, to, 8080, "");
                assert_eq!(said, format!("hello {to} 8080"), "{kind}");
                assert_eq!(last_peer(&c), from, "{kind} {to}");
            }
        }
        assert_eq!(
            from_host("tcp", "127.0.0.1", 8081, ""),
            "hello 127.0.0.1 8081"
        );
        assert_eq!(from_host("tcp", HOST, 8081, ""), "ECONNREFUSED");
        assert_eq!(from_host("tcp", "127.0.0.1", 8082, ""), "ECONNREFUSED");
        // The container itself, as ever.
        let own = from_host("tcp", "10.87.128.21", 8000, "");
        assert_eq!(own, "hello 10.87.128.21 8000");
        for kind in ["tcp", "udp", "loose"] {
            let said = from_host(kind, "127.0.0.1", 8080, "127.0.0.1");
            assert_eq!(said, "EADDRNOTAVAIL", "{kind}: bound to loopback");
        }
        // The wire is not let in by the rule `host`, and loopback's port is not there for it.
        c.expect_drop("ingress", "no-rule", || {
            wire::ask("tcp", HOST, 8080, "hello")
        })
        .expect_err("dropped");
        let asked = wire::ask("tcp", HOST, 8081, "hello");
        assert_eq!(asked, Err("ECONNREFUSED".into()));
        // A socket of the host goes first.
        let echo = host::Echo::new(8080);
        c.heard(0.0);
        assert_eq!(
            from_host("tcp", "127.0.0.1", 8080, ""),
            "hello 127.0.0.1 8080"
        );
        assert_eq!(
            from_host("loose", HOST, 8080, ""),
            format!("hello {HOST} 8080")
        );
        assert_eq!(c.heard(0.0), Vec::<Value>::new());
        drop(echo);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn other_containers_get_there_by_the_hosts_address_and_not_by_their_localhost() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let c = private("one", 22)
            .ingress("containers:8000 udp:containers:8000")
            .with("publish", "8080:8000 8080:8000/udp")
            .start();
        c.listen("tcp", 8000);
        c.listen("udp", 8000);
        let other = private("two", 23)
            .egress("containers:8000 udp:containers:8000")
            .start();
        for (to, own) in [(HOST, "10.87.128.23"), (HOST_6, "fd00:87::23")] {
            for protocol in ["tcp", "udp"] {
                other.reaches(protocol, to, 8080);
                assert_eq!(last_peer(&c), own, "the real client");
            }
        }
        let closed = other.attempt("tcp", HOST, 8081);
        closed.expect_err("the host is not allowed");
        let asked = other.attempt("tcp", "127.0.0.1", 8080);
        assert_eq!(asked, Err("ECONNREFUSED".into()));
        assert_eq!(c.heard(0.0), Vec::<Value>::new());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn ingress_rules_decide_and_a_refusal_is_counted() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let c = private("strict", 12)
            .ingress(&format!("{WIRE}:8000"))
            .with("publish", "8080:8000 8081:8001 8080:8000/udp")
            .start();
        for port in [8000, 8001] {
            c.listen("tcp", port);
        }
        c.listen("udp", 8000);
        echoes("tcp", HOST, 8080);
        for (protocol, to, port) in [
            ("tcp", HOST, 8081),
            ("udp", HOST, 8080),
            ("tcp", HOST_6, 8080),
        ] {
            let asked = c.expect_drop("ingress", "no-rule", || {
                wire::ask(protocol, to, port, "hello")
            });
            assert_eq!(asked, Err("timeout".into()));
        }
        // The private address itself is as far away as without a published port.
        let route = ["ip", "route", "replace", "10.87.128.0/17", "via", HOST];
        wire::exec(&route).success();
        let asked = c.expect_drop("ingress", "nat-direct", || {
            wire::ask("tcp", "10.87.128.12", 8000, "hello")
        });
        wire::exec(&["ip", "route", "delete", route[3]]).success();
        assert_eq!(asked, Err("timeout".into()));
        let others = wire::ask("tcp", HOST, 8082, "hello");
        assert_eq!(others, Err("ECONNREFUSED".into()), "the host's own answer");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_datagram_to_a_closed_port_is_refused_by_the_published_address() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let _c = private("closed", 13)
            .ingress("udp:any:8000 any:8000")
            .with("publish", "8080:8000/udp 8080:8000")
            .start();
        for to in [HOST, HOST_6] {
            for protocol in ["udp", "tcp"] {
                let asked = wire::ask(protocol, to, 8080, "anybody?");
                assert_eq!(asked, Err("ECONNREFUSED".into()), "{protocol} {to}");
            }
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_port_in_use_is_refused_with_the_name_of_its_owner() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let echo = host::Echo::new(8090);
        let wanted = |ports: &str| {
            let refused = private("late", 15).with("publish", ports).refused();
            assert!(refused.code != 0);
            cli::last_error()["error"]
                .as_str()
                .expect("a text")
                .to_owned()
        };
        let me = format!("(pid {})", std::process::id());
        let said = wanted(&format!("{}:8000", echo.port()));
        assert!(said.contains(&me) && said.contains("TCP port"), "{said}");
        let said = wanted(&format!("{HOST}:{}:8000/udp", echo.port()));
        assert!(said.contains(&me) && said.contains("UDP port"), "{said}");
        let c = private("early", 16).with("publish", "8080:8000").start();
        let said = wanted("8080:8001");
        assert!(said.contains("belongs to endpoint early"), "{said}");
        c.stop();
        private("late", 17).with("publish", "8080:8001").start();
        let said = wanted("203.0.113.77:80:80 80:0");
        assert!(said.contains("is no port"), "{said}");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_socket_of_the_host_that_comes_later_has_the_port() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let c = private("yields", 18)
            .ingress("any:8000 udp:any:8000")
            .with("publish", "8090:8000 8090:8000/udp")
            .start();
        c.listen("tcp", 8000);
        c.listen("udp", 8000);
        echoes("tcp", HOST, 8090);
        assert_eq!(c.heard(1.0).len(), 1);
        let echo = host::Echo::new(8090);
        for protocol in ["tcp", "udp"] {
            echoes(protocol, HOST, 8090);
        }
        assert!(!echo.heard().is_empty());
        assert_eq!(c.heard(0.0), Vec::<Value>::new());
        let said = cli::run(&["doctor"]);
        let told = format!(
            "port 8090 of this host belongs to podman_publish (pid {}",
            std::process::id()
        );
        assert!(said.code == 1 && said.out.contains(&told), "{said:?}");
        drop(echo);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_end_of_the_container_gives_its_ports_back() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        // The programs stay loaded once they are.
        private("warm", 19).start().stop();
        let before = host::Snapshot::take();
        for _ in 0..2 {
            let c = private("twice", 20)
                .ingress("any:8000")
                .with("publish", "8080:8000")
                .start();
            c.listen("tcp", 8000);
            echoes("tcp", HOST, 8080);
            c.stop();
            let asked = wire::ask("tcp", HOST, 8080, "still there?");
            assert_eq!(asked, Err("ECONNREFUSED".into()));
            before.assert_same();
        }
    }
}
