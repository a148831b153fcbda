use super::*;

fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[track_caller]
fn refused(pairs: &[(&str, &str)], parts: &[&str]) -> String {
    let text = Wishes::parse(&keys(pairs)).unwrap_err().report();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    text
}

#[test]
fn an_address_is_all_that_is_needed() {
    let wishes = Wishes::parse(&keys(&[("address", "auto")])).unwrap();
    assert_eq!(wishes.address, [AddressWish::Auto]);
    assert_eq!(wishes.interface.unwrap().as_str(), "eth0");
    assert_eq!(
        (wishes.egress, wishes.ingress, wishes.profile),
        (None, None, None)
    );
    assert_eq!(
        (wishes.mtu_bytes, wishes.routes, wishes.name),
        (None, None, None)
    );
}

#[test]
fn every_key_is_read() {
    let wishes = Wishes::parse(&keys(&[
        ("address", " 192.0.2.7/24; 2001:db8::7 "),
        ("name", "web"),
        ("egress", ""),
        ("ingress", "any:443"),
        ("profile", "ci"),
        ("mode", "enforce"),
        ("reach", "routed"),
        ("interface", "net0"),
        ("mtu", "1400"),
        ("routes", "default; 10.0.0.0/8"),
    ]))
    .unwrap();
    let (v4, v6) = ("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
    assert_eq!(
        wishes.address,
        [
            AddressWish::Static {
                addr: v4,
                prefix_len: Some(24)
            },
            AddressWish::Static {
                addr: v6,
                prefix_len: None
            },
        ]
    );
    assert_eq!(
        wishes.egress,
        Some(RuleSet::default()),
        "empty is nothing, not absent"
    );
    assert_eq!(wishes.ingress.unwrap().texts(), ["any:443"]);
    assert_eq!(wishes.reach, Some(Reach::Routed));
    assert_eq!(wishes.mtu_bytes, Some(1400));
    let net = RouteWish::Net("10.0.0.0/8".parse().unwrap());
    assert_eq!(wishes.routes, Some(vec![RouteWish::Default, net]));
}

#[test]
fn misspelt_missing_and_empty_address_each_have_their_words() {
    let text = refused(
        &[("adress", "auto")],
        &[
            "io.oci-netkit.adress: unknown key",
            "did you mean io.oci-netkit.address?",
        ],
    );
    assert!(!text.contains("missing"), "{text}");
    refused(
        &[("egress", "any")],
        &["io.oci-netkit.address: missing", "address=auto"],
    );
    refused(&[], &["address: missing"]);
    refused(&[("address", " ; ")], &["io.oci-netkit.address: empty"]);
    refused(
        &[("address", "atuo")],
        &["\"atuo\" is no address", "did you mean auto?"],
    );
    refused(&[("address", "[::1]")], &["brackets are for rules only"]);
}

#[test]
fn what_old_podman_mangles_is_refused() {
    refused(
        &[("address", "auto"), ("egress", "any:80,any:443")],
        &["column 7: a comma", "`;`"],
    );
    refused(&[("address", "\"auto\"")], &["column 1: a double quote"]);
    refused(
        &[("address", "auto"), ("egress", "any:80\nany:443")],
        &["column 7: a newline"],
    );
    refused(&[("address", "auto\t")], &["column 5: a control character"]);
    refused(
        &[("address", "auto"), ("typo", "a,b")],
        &["typo: unknown key", "typo: column 2"],
    );
}

#[test]
fn name_servers_and_domains_are_lists() {
    let wishes = Wishes::parse(&keys(&[
        ("address", "auto"),
        ("dns", "192.0.2.53;2001:db8::53"),
        ("dns-search", "corp.example lan"),
    ]))
    .unwrap();
    assert_eq!(wishes.dns.unwrap().len(), 2);
    assert_eq!(wishes.dns_search.unwrap(), ["corp.example", "lan"]);
    let auto = ("address", "auto");
    refused(&[auto, ("dns", "")], &["dns: empty"]);
    refused(
        &[auto, ("dns", "[2001:db8::53]")],
        &["is no address", "without brackets"],
    );
    refused(
        &[auto, ("dns", "127.0.0.1")],
        &["127.0.0.1 is", "no container can reach"],
    );
    refused(&[auto, ("dns", "192.0.2.53 192.0.2.53")], &["twice"]);
    refused(
        &[auto, ("dns-search", "a..b")],
        &["dns-search", "empty label"],
    );
}

#[test]
fn bad_values_are_named_with_the_accepted_form() {
    let auto = ("address", "auto");
    refused(&[auto, ("mtu", "67")], &["mtu: \"67\" is not 68 to 65535"]);
    refused(&[auto, ("mtu", "1k")], &["mtu"]);
    refused(&[auto, ("mtu", "")], &["mtu: empty"]);
    refused(
        &[auto, ("interface", "../x")],
        &["interface", "device name"],
    );
    refused(&[auto, ("name", "a b")], &["name: \"a b\" is not ["]);
    refused(
        &[auto, ("reach", "route")],
        &["reach: \"route\" is not one of", "did you mean routed?"],
    );
    refused(
        &[auto, ("routes", "10.0.0.1/8")],
        &["routes", "write 10.0.0.0/8"],
    );
    refused(&[auto, ("routes", "x")], &["routes", "no network"]);
    refused(&[auto, ("routes", "127.0.0.0/8")], &["loopback"]);
    refused(&[auto, ("routes", "default default")], &["twice"]);
    refused(
        &[auto, ("egress", "10.0.0.1/8")],
        &["io.oci-netkit.egress: rule", "column 1"],
    );
    refused(
        &[auto, ("xyzzy", "")],
        &["xyzzy: unknown key", "the keys are address"],
    );
}

#[test]
fn addresses_are_up_to_sixteen_and_distinct() {
    let many: Vec<String> = (1..=17).map(|i| format!("192.0.2.{i}")).collect();
    refused(
        &[("address", &many.join(" "))],
        &["17 addresses, and 16 are the most"],
    );
    assert!(Wishes::parse(&keys(&[("address", &many[..16].join(";"))])).is_ok());
    refused(&[("address", "192.0.2.1 192.0.2.1/24")], &["twice"]);
    refused(&[("address", "auto auto4")], &["twice"]);
    assert!(Wishes::parse(&keys(&[("address", "auto4 auto6 192.0.2.1")])).is_ok());
}

#[test]
fn all_faults_are_told_at_once() {
    let text = refused(
        &[("egress", "any:0 x://y"), ("mtu", "x"), ("typo", "")],
        &["5 faults:"],
    );
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn a_joining_container_need_not_repeat_the_address() {
    let wishes = Wishes::parse_joining(&keys(&[("name", "web")])).unwrap();
    assert!(wishes.address.is_empty());
    assert!(Wishes::parse_joining(&keys(&[("adress", "auto")])).is_err());
}
