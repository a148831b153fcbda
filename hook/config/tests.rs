use super::*;

#[track_caller]
fn refused(text: &str, parts: &[&str]) -> String {
    let said = Config::parse(text).unwrap_err();
    assert_eq!(said.kind(), crate::error::Kind::Config);
    let said = said.report();
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    said
}

#[test]
fn no_text_is_the_default() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
    assert_eq!(Config::parse("# nothing\n").unwrap(), Config::default());
    let limits = Limits {
        flows_out: 2048,
        flows_in: 1024,
        rules: 100_000,
        denied: 256,
        learned: 1024,
    };
    assert_eq!(Config::default().limits, limits);
}

#[test]
fn the_sample_is_read() {
    let sample = include_str!("../../config/config.toml");
    let config = Config::parse(sample).unwrap();
    assert_eq!(
        config,
        Config::default(),
        "everything in the sample is commented out"
    );
    // What is commented out is an example, so it must be right as well.
    let all: String = sample
        .lines()
        .filter(|l| !l.starts_with("# "))
        .map(|l| l.strip_prefix('#').unwrap_or(l).to_owned() + "\n")
        .collect();
    let config = Config::parse(&all).unwrap();
    assert_eq!(config.pools.len(), 2);
    assert!(config.profiles.contains_key("default"));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(
        r#"
uplinks = ["eth0", "eth1"]
allow_net_admin = true
audit_allowed = true
[[pool]]
prefix = "192.0.2.0/24"
reach = "routed"
[[pool]]
prefix = "2001:db8::/64"
reach = "masquerade"
[dns]
servers = ["192.0.2.53"]
[limits]
flows_out = 0x1000
flows_in = 1
rules = 5
denied = 9
[profile.default]
egress = "any:443; udp:any:53"
[profile.ci]
egress = ["tcp:any:443", """
  tcp:any:80
  tcp:any:22 """]
ingress = ""
"#,
    )
    .unwrap();
    assert_eq!(config.uplinks.unwrap().len(), 2);
    assert_eq!(config.pools[1].prefix, "2001:db8::/64".parse().unwrap());
    assert_eq!(
        config.pools.iter().map(|p| p.reach).collect::<Vec<_>>(),
        [Reach::Routed, Reach::Masquerade]
    );
    assert_eq!(config.resolvers, Some(vec!["192.0.2.53".parse().unwrap()]));
    assert_eq!(
        config.limits,
        Limits {
            flows_out: 4096,
            flows_in: 1,
            rules: 5,
            denied: 9,
            learned: 1024
        }
    );
    assert!(config.allow_net_admin && config.audit_allowed);
    assert_eq!(config.profiles["default"].egress.rules().len(), 2);
    let ci = ["tcp:any:443", "tcp:any:80", "tcp:any:22"];
    assert_eq!(config.profiles["ci"].egress.texts(), ci);
}

#[test]
fn all_faults_are_told_with_their_lines_in_order() {
    let said = refused(
        "limits = 3\nuplink = [\"eth0\"]\nallow_net_admin = \"yes\"\n\n[[pool]]\nreach = \"routed\"\n",
        &[
            "4 faults:",
            "line 1: limits: a table is wanted",
            "line 2: uplink: unknown key; hint: did you mean uplinks?",
            "line 3: allow_net_admin: true or false",
            "line 5: pool.prefix: missing",
        ],
    );
    let lines: Vec<&str> = said.lines().skip(1).map(|l| &l[..8]).collect();
    assert!(lines.is_sorted(), "{said}");
}

#[test]
fn broken_toml_is_told_with_its_line() {
    refused("a = 1\nb = = 2\n", &["line 2:"]);
    refused(
        "uplinks = [\"a\"]\nuplinks = [\"b\"]\n",
        &["line 2:", "duplicate"],
    );
}

#[test]
fn domains_to_search_are_names() {
    refused(
        "[dns]\nsearch = [\"a..b\"]\n",
        &["line 2: dns.search: \"a..b\" has an empty label"],
    );
}

#[test]
fn later_values_are_refused_not_ignored() {
    let pool = "[[pool]]\nprefix = \"10.87.128.0/17\"\nreach = \"auto\"\n";
    refused(
        pool,
        &[
            "line 3: pool.reach: auto is not yet supported",
            "routed, lan, masquerade",
        ],
    );
}

#[test]
fn pools_are_checked() {
    let pool = |p: &str| format!("[[pool]]\nprefix = \"{p}\"\nreach = \"routed\"\n");
    refused(&pool("192.0.2.1/24"), &["line 2", "write 192.0.2.0/24"]);
    refused(&pool("10.88.5.0/24"), &["10.88.0.0/16, which podman uses"]);
    refused(&pool("10.0.0.0/8"), &["podman"]);
    refused(&pool("10.89.0.0/24"), &["10.89.0.0/16, which podman uses"]);
    refused(&pool("127.1.0.0/16"), &["127.0.0.0/8"]);
    refused(&pool("fe80::/64"), &["fe80::/10"]);
    refused(&pool("0.0.0.0/0"), &["overlaps"]);
    refused(&pool("::ffff:10.0.0.0/104"), &["::ffff:0:0/96"]);
    refused(&pool("192.0.2.0"), &["no prefix"]);
    let two = pool("192.0.2.0/24") + &pool("192.0.2.128/25");
    refused(
        &two,
        &["line 5", "192.0.2.128/25 overlaps the pool 192.0.2.0/24"],
    );
    refused(
        "[[pool]]\nprefix = \"192.0.2.0/24\"\n",
        &["pool.reach: missing", "masquerade", "routed"],
    );
    refused(
        "[[pool]]\nprefix = \"192.0.2.0/24\"\nreach = \"router\"\n",
        &["line 3: pool.reach: not one of: routed, lan, masquerade"],
    );
    refused("[pool]\nprefix = \"192.0.2.0/24\"\n", &["[[pool]]"]);
    let warned = Config::parse(&pool("10.200.0.0/24")).unwrap();
    assert!(
        warned.warnings[0].contains("10.128.0.0/9"),
        "{:?}",
        warned.warnings
    );
}

#[test]
fn rules_of_profiles_are_checked_where_they_stand() {
    refused(
        "[profile.x]\negress = [\n  \"any:443\",\n  \"any:0\",\n]\n",
        &["line 4: profile.x.egress: rule \"any:0\", column 5"],
    );
    refused(
        "[profile.x]\negres = \"\"\n",
        &["profile.x.egres: unknown key", "egress?"],
    );
    refused("[profile.x]\negress = 5\n", &["a string or a list"]);
    refused("[profile.\"a b\"]\n", &["profile: \"a b\" is not"]);
}

#[test]
fn name_servers_and_limits_are_checked() {
    refused(
        "[dns]\nservers = [\"127.0.0.53\"]\n",
        &["line 2", "loopback"],
    );
    refused("[dns]\nservers = []\n", &["empty"]);
    refused("[dns]\nservers = \"192.0.2.1\"\n", &["a list of strings"]);
    refused(
        "[limits]\nflows_out = 0\n",
        &["limits.flows_out: not a number of 1 to 1048576"],
    );
    refused(
        "uplinks = [\"eth0\", \"eth0\", \"lo\"]\n",
        &["twice", "not lo"],
    );
}

#[test]
fn other_names_do_not_exist_unless_they_are_refused() {
    let nxdomain = |text: &str| Config::parse(text).unwrap().nxdomain;
    assert!(nxdomain("") && nxdomain("[dns]\n"));
    assert!(nxdomain("[dns]\nrefused = \"nxdomain\"\n"));
    assert!(!nxdomain("[dns]\nrefused = \"refused\"\n"));
    refused(
        "[dns]\nrefused = \"servfail\"\n",
        &["line 2", "nxdomain, refused"],
    );
}

#[test]
fn a_ceiling_grants_what_it_says_and_nothing_else() {
    let config = Config::parse("").unwrap();
    assert_eq!(config.ceiling, None);
    let config = Config::parse("[ceiling]\n").unwrap();
    assert_eq!(config.ceiling, Some(Ceiling::default()));
    let config = Config::parse(
        "[ceiling]\negress = \"tcp:any:443 !10.0.0.0/8\"\npublish = [\"80\", \"8000-8999\"]\n\
         address = [\"192.0.2.0/24\"]\n",
    );
    let ceiling = config.unwrap().ceiling.unwrap();
    assert_eq!(ceiling.rules.egress.texts(), ["tcp:any:443", "!10.0.0.0/8"]);
    assert_eq!(ceiling.rules.ingress.texts(), [""; 0]);
    assert_eq!(ceiling.publish[1], PortRange::new(8000, 8999).unwrap());
    assert_eq!(ceiling.address, ["192.0.2.0/24".parse().unwrap()]);
    refused(
        "[ceiling]\nports = 1\npublish = [\"x\"]\naddress = [\"192.0.2\"]\negress = \"x:y:z\"\n",
        &[
            "line 2: ceiling.ports: unknown key",
            "line 3: ceiling.publish: \"x\" is not a range of ports",
            "line 4: ceiling.address: \"192.0.2\" is not a prefix",
            "line 5: ceiling.egress: rule",
        ],
    );
}
