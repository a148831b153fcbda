use super::*;

fn of(texts: &[&str]) -> Vec<Publication> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

#[test]
fn ports_lead_to_the_first_address_of_each_family() {
    let addresses: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2", "2001:db8::1"]
        .map(|a| a.parse().unwrap())
        .into();
    let shown = |text: &str, addresses: &[IpAddr]| -> Vec<String> {
        let specs = specs(&text.parse().unwrap(), addresses);
        let one = |s: &PortSpec| format!("{s} {} {}", s.port, s.local_index);
        specs.iter().map(one).collect()
    };
    assert_eq!(
        shown("8080:80", &addresses),
        ["0.0.0.0:8080/tcp 80 0", "[::]:8080/tcp 80 2"]
    );
    assert_eq!(
        shown("8080:80/udp", &addresses[2..]),
        ["[::]:8080/udp 80 0"]
    );
    assert_eq!(shown("192.0.2.1:1:2", &addresses), ["192.0.2.1:1/tcp 2 0"]);
    assert!(shown("[2001:db8::9]:1:2", &addresses[..1]).is_empty());
}

#[test]
fn a_port_at_all_addresses_meets_the_same_at_one() {
    let addresses = ["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let meet_in = |a: &str, b: &str| {
        let (a, b) = (&of(&[a])[0], &of(&[b])[0]);
        let (a, b) = (specs(a, &addresses), specs(b, &addresses));
        a.iter().any(|x| b.iter().any(|y| meet(x, y)))
    };
    for (a, b, wanted) in [
        ("80:1", "80:2", true),
        ("80:1", "80:1/udp", false),
        ("80:1", "81:1", false),
        ("80:1", "192.0.2.1:80:1", true),
        ("192.0.2.1:80:1", "192.0.2.2:80:1", false),
        ("0.0.0.0:80:1", "[::]:80:1", false),
        ("[::]:80:1", "[2001:db8::1]:80:1", true),
    ] {
        assert_eq!(meet_in(a, b), wanted, "{a} {b}");
        assert_eq!(meet_in(b, a), wanted, "{b} {a}");
    }
}
