//! A published port: `[hostaddr:]hostport:port[/proto]`, as it is written and remembered. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::shown;
use crate::error::{Error, Kind, Result};

/// A protocol with ports that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// `IPPROTO_TCP`, `IPPROTO_UDP`.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads to one of the container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publication {
    /// Address of the host; `None` = all, 0.0.0.0 = all of IPv4, :: = all of IPv6.
    pub host: Option<IpAddr>,
    /// Of the host.
    pub host_port: u16,
    /// Of the container.
    pub port: u16,
    /// Of both.
    pub protocol: Transport,
}

impl Publication {
    /// The addresses of the host by family, 0.0.0.0 and :: for all of it.
    #[must_use]
    pub fn hosts(&self) -> Vec<IpAddr> {
        match self.host {
            Some(host) => vec![host],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        }
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(IpAddr::V4(host)) => write!(f, "{host}:")?,
            Some(IpAddr::V6(host)) => write!(f, "[{host}]:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.host_port, self.port, self.protocol)
    }
}

impl From<Publication> for String {
    fn from(publication: Publication) -> Self {
        publication.to_string()
    }
}

impl TryFrom<String> for Publication {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Publication {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Transport::Tcp),
            Some((rest, "udp")) => (rest, Transport::Udp),
            Some((_, other)) => {
                return Err(fault(text, &format!("{} is not tcp or udp", shown(other))));
            }
            None => (text, Transport::Tcp),
        };
        let Some((rest, port)) = rest.rsplit_once(':') else {
            return Err(
                fault(text, "needs a port of the host and one of the container")
                    .with_hint(format!("write HOSTPORT:PORT, such as 8080:{rest}")),
            );
        };
        let (host, host_port) = match rest.rsplit_once(':') {
            Some((host, host_port)) => (Some(address(text, host)?), host_port),
            None => (None, rest),
        };
        Ok(Self {
            host,
            host_port: number(text, host_port)?,
            port: number(text, port)?,
            protocol,
        })
    }
}

fn fault(text: &str, what: &str) -> Error {
    Error::new(Kind::BadInput, format!("{}: {what}", shown(text))).with_hint(
        "the form is [HOSTADDR:]HOSTPORT:PORT[/tcp|udp], such as 8080:80, 192.0.2.1:53:53/udp or \
         [2001:db8::1]:443:8443",
    )
}

fn number(text: &str, port: &str) -> Result<u16> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(port @ 1..) if digits => Ok(port),
        _ if port.contains('-') => Err(fault(text, "ranges are not supported")
            .with_hint("write an item for each port, with spaces between")),
        _ => Err(fault(
            text,
            &format!("{} is no port (1 to 65535)", shown(port)),
        )),
    }
}

fn address(text: &str, host: &str) -> Result<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let parsed = match inner {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    };
    if let Some(IpAddr::V6(v6)) = parsed {
        if v6.to_ipv4_mapped().is_some() {
            return Err(fault(text, "an IPv4 address stands without brackets"));
        }
    }
    parsed.ok_or_else(|| {
        let what = format!("{} is no address of the host", shown(host));
        let error = fault(text, &what);
        if inner.is_none() && text.matches(':').count() > 2 {
            error.with_hint("IPv6 addresses stand in brackets: [2001:db8::1]:8080:80")
        } else {
            error
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for (text, canonical) in [
            ("8080:80", "8080:80/tcp"),
            ("8080:80/tcp", "8080:80/tcp"),
            ("53:5353/udp", "53:5353/udp"),
            ("192.0.2.1:8080:80", "192.0.2.1:8080:80/tcp"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080:80/tcp"),
            ("[2001:DB8::1]:1:65535/udp", "[2001:db8::1]:1:65535/udp"),
            ("[::]:8080:80", "[::]:8080:80/tcp"),
        ] {
            let publication: Publication = text.parse().unwrap();
            assert_eq!(publication.to_string(), canonical);
            assert_eq!(canonical.parse::<Publication>().unwrap(), publication);
            let json = serde_json::to_string(&publication).unwrap();
            assert_eq!(json, format!("\"{canonical}\""));
        }
    }

    #[test]
    fn what_it_is_not_is_said_with_the_form() {
        for (text, parts) in [
            (
                "80",
                &["needs a port of the host and one", "8080:80"] as &[&str],
            ),
            ("0:80", &["\"0\" is no port", "[HOSTADDR:]"]),
            ("80:0", &["\"0\" is no port"]),
            ("80:65536", &["\"65536\" is no port"]),
            ("+80:80", &["\"+80\" is no port"]),
            (":80", &["\"\" is no port"]),
            ("80:", &["\"\" is no port"]),
            ("80:80/sctp", &["\"sctp\" is not tcp or udp"]),
            ("80:80/TCP", &["\"TCP\" is not tcp or udp"]),
            ("80-90:80-90", &["ranges are not supported", "each port"]),
            ("eth0:80:80", &["\"eth0\" is no address"]),
            ("2001:db8::1:80:80", &["brackets"]),
            ("[192.0.2.1]:80:80", &["is no address"]),
            ("[::ffff:192.0.2.1]:80:80", &["without brackets"]),
            ("192.0.2.1/24:80:80", &["is not tcp or udp"]),
        ] {
            let error = text.parse::<Publication>().unwrap_err();
            let said = format!("{error} {}", error.hint().unwrap_or_default());
            assert!(said.contains(&shown(text)), "{said}");
            for part in parts {
                assert!(said.contains(part), "{text}: {said}");
            }
        }
    }
}
