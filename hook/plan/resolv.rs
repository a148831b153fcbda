//! The text of a container's /etc/resolv.conf (resolv.conf(5)). Pure.

use std::net::IpAddr;

/// Name servers that C libraries read (`MAXNS`); more are of no use.
const SERVERS: usize = 3;

/// `None` where there is nothing to say.
#[must_use]
pub fn text(resolvers: &[IpAddr], search: &[String]) -> Option<String> {
    if resolvers.is_empty() {
        return None;
    }
    let mut text = "# by oci-netkit\n".to_owned();
    if !search.is_empty() {
        text += &format!("search {}\n", search.join(" "));
    }
    for resolver in resolvers.iter().take(SERVERS) {
        text += &format!("nameserver {resolver}\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_libraries_read() {
        let resolvers: Vec<IpAddr> = ["192.0.2.53", "2001:db8::53", "192.0.2.54", "192.0.2.55"]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect();
        assert_eq!(
            text(&resolvers, &["corp.example".into(), "lan".into()]).unwrap(),
            "# by oci-netkit\nsearch corp.example lan\nnameserver 192.0.2.53\n\
             nameserver 2001:db8::53\nnameserver 192.0.2.54\n"
        );
        assert_eq!(text(&[], &["lan".into()]), None);
    }
}
