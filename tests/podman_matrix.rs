//! Who reaches whom: every path between container, host, wire and another container, by TCP, UDP and
//! ICMP echo, over IPv4 and IPv6, for each way a container can be reached; once with rules that allow
//! everything, once without any. The table is printed, and compared with what the design says.
//!
//! ```text
//!   open, closed ══ guest 192.0.2.2 ── wire 192.0.2.1, 203.0.113.10
//!   other        ══       2001:db8:1::2     2001:db8:1::1, 2001:db8:f::10
//! ```

mod rig;

mod guest {

    use crate::rig::container::{self, Container};
    use crate::rig::probe::{Place, Probe, reached, seen_as};
    use crate::rig::{HOST, HOST_6, OUTSIDE, OUTSIDE_6, cli, host, say, wire};

    const ALL: &str = "any:any any:host any:containers";
    const ECHO: u16 = 7777;
    /// Of the host: its own server, and the published ports of the open and the closed container.
    const HOSTS: u16 = 7770;
    const PUBLISHED: [u16; 2] = [8001, 8002];
    const OTHER: [&str; 2] = ["198.51.100.99", "2001:db8:2::99"];
    const FAMILIES: [u8; 2] = [4, 6];
    const COLUMNS: [(&str, usize); 6] = [
        ("tcp", 0),
        ("tcp", 1),
        ("udp", 0),
        ("udp", 1),
        ("icmp", 0),
        ("icmp", 1),
    ];

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Path {
        ToWire,
        ToHost,
        ToOther,
        FromWire,
        FromHost,
        FromOther,
    }

    impl Path {
        const ALL: [Self; 6] = [
            Self::ToWire,
            Self::ToHost,
            Self::ToOther,
            Self::FromWire,
            Self::FromHost,
            Self::FromOther,
        ];
        const INWARD: [Self; 3] = [Self::FromWire, Self::FromHost, Self::FromOther];

        fn words(self) -> &'static str {
            match self {
                Self::ToWire => "container -> wire",
                Self::ToHost => "container -> host",
                Self::ToOther => "container -> other",
                Self::FromWire => "wire -> container",
                Self::FromHost => "host -> container",
                Self::FromOther => "other -> container",
            }
        }
    }

    /// One kind of reach, with a container that may do everything and one that may nothing.
    struct Subject<'c> {
        reach: &'static str,
        paths: &'static [Path],
        /// The open one, then the closed one.
        containers: [&'c Container; 2],
        /// Where each is asked for, by family.
        addresses: [[&'static str; 2]; 2],
        ports: [u16; 2],
    }

    /// What becomes of a question.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Cell {
        Answered,
        Refused,
        /// There is no such thing.
        None,
    }

    impl Cell {
        fn word(self) -> &'static str {
            match self {
                Self::Answered => "ok",
                Self::Refused => "no",
                Self::None => "-",
            }
        }
    }

    /// The design, sections 3 and 6.
    fn designed(reach: &str, path: Path, protocol: &str, open: bool) -> Cell {
        match (reach, path) {
            // A port has no echo.
            ("publish", _) if protocol == "icmp" => Cell::None,
            // Only this host knows the address, whatever the rules say.
            ("masquerade", Path::FromWire) => Cell::Refused,
            _ if open => Cell::Answered,
            _ => Cell::Refused,
        }
    }

    impl<'c> Subject<'c> {
        /// Reached by its own addresses.
        fn plain(
            reach: &'static str,
            containers: &'c [Container; 2],
            addresses: [[&'static str; 2]; 2],
        ) -> Self {
            Self {
                reach,
                paths: &Path::ALL,
                containers: containers.each_ref(),
                addresses,
                ports: [ECHO; 2],
            }
        }

        fn probe(&self, path: Path, which: usize, protocol: &'static str, family: usize) -> Probe {
            let (to, port) = match path {
                Path::ToWire => ([OUTSIDE, OUTSIDE_6][family], ECHO),
                Path::ToHost => ([HOST, HOST_6][family], HOSTS),
                Path::ToOther => (OTHER[family], ECHO),
                _ => (self.addresses[which][family], self.ports[which]),
            };
            Probe {
                protocol,
                to: to.into(),
                port,
            }
        }

        fn place<'p>(&'p self, path: Path, which: usize, other: &'p Container) -> Place<'p> {
            match path {
                Path::FromWire => Place::Wire,
                Path::FromHost => Place::Host,
                Path::FromOther => Place::Container(other),
                _ => Place::Container(self.containers[which]),
            }
        }
    }

    /// One question of the table.
    #[derive(Clone, Copy)]
    struct Question {
        subject: usize,
        path: Path,
        /// Of the open container, or of the closed one.
        which: usize,
        column: usize,
    }

    /// Row by row, in each the open container's columns and then the closed one's.
    fn questions(subjects: &[Subject<'_>]) -> Vec<Question> {
        let mut all = Vec::new();
        for (subject, s) in subjects.iter().enumerate() {
            for path in s.paths {
                all.extend((0..2 * COLUMNS.len()).map(|n| Question {
                    subject,
                    path: *path,
                    which: n / COLUMNS.len(),
                    column: n % COLUMNS.len(),
                }));
            }
        }
        all
    }

    /// Asks all, at each place everything at once.
    fn measure(subjects: &[Subject<'_>], all: &[Question], other: &Container) -> Vec<Cell> {
        let mut cells = vec![Cell::None; all.len()];
        let place = |q: &Question| subjects[q.subject].place(q.path, q.which, other);
        let mut waiting: Vec<usize> = (0..all.len())
            .filter(|n| {
                let (q, reach) = (all[*n], subjects[all[*n].subject].reach);
                designed(reach, q.path, COLUMNS[q.column].0, true) != Cell::None
            })
            .collect();
        while let Some(first) = waiting.first() {
            let here = place(&all[*first]);
            let (now, later) = waiting.iter().partition(|n| place(&all[**n]).is(here));
            let now: Vec<usize> = now;
            let probe = |n: &usize| {
                let q = all[*n];
                let (protocol, family) = COLUMNS[q.column];
                subjects[q.subject].probe(q.path, q.which, protocol, family)
            };
            let probes: Vec<Probe> = now.iter().map(probe).collect();
            for (n, answered) in now.into_iter().zip(reached(here, &probes)) {
                cells[n] = if answered {
                    Cell::Answered
                } else {
                    Cell::Refused
                };
            }
            waiting = later;
        }
        cells
    }

    /// Prints the table; what of it is not as designed.
    fn compare(subjects: &[Subject<'_>], all: &[Question], cells: &[Cell]) -> Vec<String> {
        say(
            "\nanswered (ok) or not (no): with rules that allow all / without any; -: no such thing",
        );
        let titles = COLUMNS.map(|(p, f)| format!("{:>8}", format!("{p}{}", FAMILIES[f])));
        say(&format!("{:<31}{}", "", titles.concat()));
        let mut wrong = Vec::new();
        let width = 2 * COLUMNS.len();
        for (questions, row) in all.chunks(width).zip(cells.chunks(width)) {
            let (path, reach) = (
                questions[0].path.words(),
                subjects[questions[0].subject].reach,
            );
            let (open, closed) = row.split_at(COLUMNS.len());
            let words = open.iter().zip(closed).map(|(a, b)| {
                let both = format!("{}/{}", a.word(), b.word());
                format!("{both:>8}")
            });
            say(&format!(
                "{reach:<11} {path:<19}{}",
                words.collect::<String>()
            ));
            for (q, is) in questions.iter().zip(row) {
                let (protocol, family) = COLUMNS[q.column];
                let should = designed(reach, q.path, protocol, q.which == 0);
                if *is != should {
                    let (family, rules) = (FAMILIES[family], ["allowed", "denied"][q.which]);
                    wrong.push(format!(
                        "{reach}: {path}, {protocol}{family}, {rules}: {is:?}, not {should:?}"
                    ));
                }
            }
        }
        say(&format!(
            "{} cells, {} not as designed",
            cells.len(),
            wrong.len()
        ));
        wrong
    }

    fn start(name: &str, addresses: [&str; 2], rules: &str, publish: Option<u16>) -> Container {
        let mut spec = container::podman(name)
            .address(&addresses.join(" "))
            .egress(rules)
            .ingress(rules);
        if let Some(port) = publish {
            let ports = format!("{port}:{ECHO} {port}:{ECHO}/udp");
            spec = spec.with("publish", &ports);
        }
        let c = spec.start();
        c.listen("tcp", ECHO);
        c.listen("udp", ECHO);
        c
    }

    /// The wire believes that private addresses are behind the guest.
    struct Believes;

    impl Believes {
        fn new() -> Self {
            wire::exec(&["ip", "route", "add", "10.99.0.0/24", "via", HOST]).success();
            wire::exec(&["ip", "route", "add", "fd99::/64", "via", HOST_6]).success();
            Self
        }
    }

    impl Drop for Believes {
        fn drop(&mut self) {
            wire::exec(&["ip", "route", "del", "10.99.0.0/24"]);
            wire::exec(&["ip", "route", "del", "fd99::/64"]);
        }
    }

    const ROUTED: [[&str; 2]; 2] = [
        ["198.51.100.95", "2001:db8:2::95"],
        ["198.51.100.96", "2001:db8:2::96"],
    ];
    const LAN: [[&str; 2]; 2] = [
        ["192.0.2.55", "2001:db8:1::55"],
        ["192.0.2.56", "2001:db8:1::56"],
    ];
    const PRIVATE: [[&str; 2]; 2] = [["10.99.0.5", "fd99::5"], ["10.99.0.6", "fd99::6"]];

    #[test]
    #[ignore = "needs the guest"]
    fn every_path_is_open_or_closed_as_the_rules_say() {
        host::start_clean();
        let _routes = Believes::new();
        let echo = host::Echo::new(HOSTS);
        let other = start("other", OTHER, ALL, None);
        let pair = |name: &str, addresses: [[&str; 2]; 2], publish: [Option<u16>; 2]| {
            [
                start(name, addresses[0], ALL, publish[0]),
                start(&format!("{name}-closed"), addresses[1], "", publish[1]),
            ]
        };
        let routed = pair("routed", ROUTED, [None; 2]);
        let lan = pair("lan", LAN, [None; 2]);
        let private = pair("private", PRIVATE, PUBLISHED.map(Some));
        let subjects = [
            Subject::plain("routed", &routed, ROUTED),
            Subject::plain("lan", &lan, LAN),
            Subject::plain("masquerade", &private, PRIVATE),
            Subject {
                paths: &Path::INWARD,
                ports: PUBLISHED,
                ..Subject::plain("publish", &private, [[HOST, HOST_6]; 2])
            },
        ];
        let all = questions(&subjects);
        let wrong = compare(&subjects, &all, &measure(&subjects, &all, &other));
        assert!(wrong.is_empty(), "{wrong:#?}");
        drop(echo);

        for subject in &subjects {
            let [open, closed] = subject.containers;
            let wire = if subject.reach == "routed" || subject.reach == "lan" {
                "no-rule"
            } else {
                "nat-direct"
            };
            let has = |direction: &str, reasons: &[&str]| {
                let drops = closed.drops(direction);
                let missing = reasons.iter().find(|r| !drops.contains_key(**r));
                assert_eq!(missing, None, "{}, {direction}: {drops:?}", subject.reach);
            };
            has("egress", &["no-rule", "host", "containers"]);
            has("ingress", &[wire, "host", "containers"]);
            let refused = |drops: &cli::Drops| {
                ["no-rule", "host", "containers", "deny-rule"]
                    .iter()
                    .any(|r| drops.contains_key(*r))
            };
            assert!(!refused(&open.drops("egress")), "{}", subject.reach);
            assert!(!refused(&open.drops("ingress")), "{}", subject.reach);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_wire_sees_the_address_that_the_reach_promises() {
        host::start_clean();
        for (reach, addresses, seen) in [
            ("routed", ROUTED[0], ROUTED[0]),
            ("lan", LAN[0], LAN[0]),
            ("masquerade", PRIVATE[0], [HOST, HOST_6]),
        ] {
            let c = start(reach, addresses, ALL, None);
            for (to, source) in [OUTSIDE, OUTSIDE_6].iter().zip(seen) {
                assert_eq!(seen_as(&c, to), source, "{reach}");
            }
        }
    }
}
