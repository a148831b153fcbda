//! The annotations of a container: raw strings → validated [`Wishes`], all faults at once. Pure.
//!
//! What the wishes lead to is decided in `plan/`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{Error, ErrorList, Kind, Result};
use crate::plan::rules::RuleSet;
use crate::request::{PREFIX, Request};
use crate::types::addr::not_unicast;
use crate::types::claim::Interest;
use crate::types::domain::search_domain;
use crate::types::id::NetnsCookie;
use crate::types::mode::Mode;
use crate::types::name::{IfName, check_label, nearest, shown};
use crate::types::publish::Publication;
use crate::types::rate::{Rate, Rates};
use crate::types::reach::Reach;

#[cfg(test)]
mod tests;

/// One item of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressWish {
    /// One of each family that has a pool.
    Auto,
    /// An IPv4 address from a pool.
    Auto4,
    /// An IPv6 address from a pool.
    Auto6,
    /// This one; the prefix length is what stands on the device inside.
    Static {
        /// The address.
        addr: IpAddr,
        /// `None` = a single address.
        prefix_len: Option<u8>,
    },
}

/// One item of `routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteWish {
    /// The default route of each family that has an address.
    Default,
    /// This prefix.
    Net(IpNet),
}

/// What the annotations ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Never empty after [`Wishes::parse`].
    pub address: Vec<AddressWish>,
    /// Name of the endpoint; `None` = the container's id.
    pub name: Option<String>,
    /// `None` = the profile's.
    pub egress: Option<RuleSet>,
    /// `None` = the profile's.
    pub ingress: Option<RuleSet>,
    /// Profile by name; `None` = `default` if there is one.
    pub profile: Option<String>,
    /// Whether the rules decide.
    pub mode: Mode,
    /// How the addresses are reached: `routed` is vouched for by the user. `None` = by the address.
    pub reach: Option<Reach>,
    /// Name of the device inside; always there after [`Wishes::parse`].
    pub interface: Option<IfName>,
    /// Of the device inside, in bytes; `None` = the uplinks'.
    pub mtu_bytes: Option<u32>,
    /// Routes inside; `None` = the default routes.
    pub routes: Option<Vec<RouteWish>>,
    /// Ports of the host that lead to the container's.
    pub publish: Vec<Publication>,
    /// How much it may send and receive.
    pub rates: Rates,
    /// Name servers; `None` = the config's, or the host's.
    pub dns: Option<Vec<IpAddr>>,
    /// Domains to search; `None` = the config's, or the host's.
    pub dns_search: Option<Vec<String>>,
}

/// Keys that are read.
pub const KEYS: [&str; 15] = [
    "address",
    "name",
    "egress",
    "ingress",
    "profile",
    "mode",
    "reach",
    "interface",
    "mtu",
    "routes",
    "publish",
    "rate-egress",
    "rate-ingress",
    "dns",
    "dns-search",
];

/// Most name servers, and most domains to search (`MAXDNSRCH` of older C libraries is 6, of newer
/// ones none).
pub const MAX_DNS: usize = 16;

/// Most addresses of one endpoint.
pub const MAX_ADDRESSES: usize = 16;

/// Most published ports of one endpoint.
pub const MAX_PORTS: usize = 256;

/// Name of the device inside, unless asked otherwise.
const INTERFACE: &str = "eth0";

impl Wishes {
    /// Reads the keys (without prefix) of the container that an endpoint is built for.
    ///
    /// # Errors
    /// [`Kind::BadInput`] with all faults: key, bad text, accepted form.
    pub fn parse(keys: &BTreeMap<String, String>) -> Result<Self> {
        let mut reader = Reader::new(keys);
        reader.require_address();
        let wishes = reader.wishes();
        reader.finish(wishes)
    }

    /// As [`Self::parse`] for a container that joins an endpoint, which need not repeat `address`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_joining(keys: &BTreeMap<String, String>) -> Result<Self> {
        let mut reader = Reader::new(keys);
        let wishes = reader.wishes();
        reader.finish(wishes)
    }
}

/// An error about one key.
fn fault(key: &str, message: impl AsRef<str>) -> Error {
    Error::new(
        Kind::BadInput,
        format!(
            "annotation {PREFIX}{}: {}",
            key.escape_debug(),
            message.as_ref()
        ),
    )
}

/// The same error, as one about a key.
fn about(key: &str, error: &Error) -> Error {
    let moved = fault(key, error.to_string());
    match error.hint() {
        Some(hint) => moved.with_hint(hint),
        None => moved,
    }
}

/// Splits at spaces and `;`, the only separators podman of every age leaves alone.
pub(crate) fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split([' ', ';']).filter(|t| !t.is_empty())
}

struct Reader<'k> {
    /// Those whose text is sound.
    keys: BTreeMap<&'k str, &'k str>,
    faults: ErrorList,
    /// An unknown key looks like `address`, or its text is unsound: it is not missing as well.
    address_told: bool,
}

impl<'k> Reader<'k> {
    fn new(keys: &'k BTreeMap<String, String>) -> Self {
        let mut reader = Self {
            keys: BTreeMap::new(),
            faults: ErrorList::new(),
            address_told: false,
        };
        for (key, value) in keys {
            let known = reader.check_key(key);
            let sound = reader.faults.keep(check_text(key, value)).is_some();
            reader.address_told |= key == "address" && !sound;
            if known && sound {
                reader.keys.insert(key, value);
            }
        }
        reader
    }

    /// True for a key that is read.
    fn check_key(&mut self, key: &str) -> bool {
        if KEYS.contains(&key) {
            return true;
        }
        let near = nearest(key, KEYS.iter().copied());
        self.address_told |= near == Some("address");
        self.faults
            .push(fault(key, "unknown key").with_hint(match near {
                Some(near) => format!("did you mean {PREFIX}{near}?"),
                None => format!("the keys are {}", KEYS.join(", ")),
            }));
        false
    }

    fn require_address(&mut self) {
        if !self.keys.contains_key("address") && !self.address_told {
            let hint = format!("write {PREFIX}address=auto, or the address of the container");
            self.faults
                .push(fault("address", "missing").with_hint(hint));
        }
    }

    /// The value of a key that must not be empty, without spaces around it.
    fn value(&mut self, key: &str) -> Option<&'k str> {
        let value = self.keys.get(key)?.trim_matches([' ', ';']);
        if value.is_empty() {
            self.faults
                .push(fault(key, "empty").with_hint("leave the key out for its default"));
            return None;
        }
        Some(value)
    }

    fn wishes(&mut self) -> Wishes {
        Wishes {
            address: self.address(),
            name: self.label("name"),
            egress: self.rules("egress"),
            ingress: self.rules("ingress"),
            profile: self.label("profile"),
            mode: self.mode(),
            reach: self.reach(),
            interface: self.interface(),
            mtu_bytes: self.mtu(),
            routes: self.routes(),
            publish: self.publish().unwrap_or_default(),
            rates: Rates {
                egress: self.rate("rate-egress"),
                ingress: self.rate("rate-ingress"),
            },
            dns: self.dns(),
            dns_search: self.dns_search(),
        }
    }

    fn dns(&mut self) -> Option<Vec<IpAddr>> {
        let value = self.keys.get("dns")?;
        let mut servers: Vec<IpAddr> = Vec::new();
        for item in items(value) {
            match item.parse::<IpAddr>() {
                Ok(a) if servers.contains(&a) => {
                    self.faults
                        .push(fault("dns", format!("{a} is there twice")));
                }
                Ok(a) => match not_unicast(a) {
                    None => servers.push(a),
                    Some(what) => {
                        let text = format!("{a} is {what}, which no container can reach");
                        self.faults.push(fault("dns", text));
                    }
                },
                Err(_) => {
                    let text = format!("{} is no address", shown(item));
                    let hint = "such as 192.0.2.53, or 2001:db8::53 without brackets";
                    self.faults.push(fault("dns", text).with_hint(hint));
                }
            }
        }
        self.count("dns", servers.len(), items(value).next().is_none());
        Some(servers)
    }

    fn dns_search(&mut self) -> Option<Vec<String>> {
        let value = self.keys.get("dns-search")?;
        let mut domains = Vec::new();
        for item in items(value) {
            match search_domain(item) {
                Ok(domain) => domains.push(domain),
                Err(e) => self.faults.push(about("dns-search", &e)),
            }
        }
        self.count("dns-search", domains.len(), items(value).next().is_none());
        Some(domains)
    }

    fn count(&mut self, key: &str, count: usize, is_empty: bool) {
        if is_empty {
            self.faults
                .push(fault(key, "empty").with_hint("leave it out for the default"));
        }
        if count > MAX_DNS {
            let text = format!("{count} of them, and {MAX_DNS} are the most");
            self.faults.push(fault(key, text));
        }
    }

    fn finish(self, wishes: Wishes) -> Result<Wishes> {
        self.faults.into_result(wishes)
    }

    fn address(&mut self) -> Vec<AddressWish> {
        let Some(value) = self.keys.get("address") else {
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items(value) {
            match address(item) {
                Ok(wish) if repeats(wish, &list) => {
                    self.faults
                        .push(fault("address", format!("{item:?} is there twice")));
                }
                Ok(wish) => list.push(wish),
                Err(e) => self.faults.push(e),
            }
        }
        if items(value).next().is_none() {
            let hint = "write auto, or the address of the container";
            self.faults.push(fault("address", "empty").with_hint(hint));
        }
        if list.len() > MAX_ADDRESSES {
            let message = format!("{} addresses, and {MAX_ADDRESSES} are the most", list.len());
            self.faults.push(fault("address", message));
        }
        list
    }

    fn label(&mut self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        let checked = check_label(value).map_err(|e| about(key, &e));
        self.faults.keep(checked).map(|()| value.to_owned())
    }

    fn rules(&mut self, key: &str) -> Option<RuleSet> {
        match RuleSet::read(&[*self.keys.get(key)?]) {
            Ok(set) => Some(set),
            Err(faults) => {
                faults.iter().for_each(|e| self.faults.push(about(key, e)));
                None
            }
        }
    }

    /// `value` as one of the words that are taken.
    fn word(&mut self, key: &str, taken: &[&str]) -> Option<&'k str> {
        let value = self.value(key)?;
        if taken.contains(&value) {
            return Some(value);
        }
        let list = taken.join(", ");
        let e = fault(key, format!("{} is not one of: {list}", shown(value)));
        self.faults
            .push(match nearest(value, taken.iter().copied()) {
                Some(near) => e.with_hint(format!("did you mean {near}?")),
                None => e,
            });
        None
    }

    fn mode(&mut self) -> Mode {
        let modes = [Mode::Enforce, Mode::Audit];
        let word = self.word("mode", &modes.map(Mode::word));
        let mode = modes.into_iter().find(|m| Some(m.word()) == word);
        mode.unwrap_or_default()
    }

    fn reach(&mut self) -> Option<Reach> {
        self.word("reach", &["auto", "routed", "lan", "masquerade"])
            .and_then(Reach::from_word)
    }

    fn interface(&mut self) -> Option<IfName> {
        let text = if self.keys.contains_key("interface") {
            self.value("interface")?
        } else {
            INTERFACE
        };
        self.faults
            .keep(IfName::new(text).map_err(|e| about("interface", &e)))
    }

    fn mtu(&mut self) -> Option<u32> {
        let value = self.value("mtu")?;
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        match value.parse::<u32>() {
            Ok(n) if digits && (68..=65535).contains(&n) => Some(n),
            _ => {
                self.faults.push(fault(
                    "mtu",
                    format!("{} is not 68 to 65535 (bytes)", shown(value)),
                ));
                None
            }
        }
    }

    fn publish(&mut self) -> Option<Vec<Publication>> {
        let mut list = Vec::new();
        for item in items(self.value("publish")?) {
            let read = item
                .parse::<Publication>()
                .map_err(|e| about("publish", &e));
            list.extend(self.faults.keep(read));
        }
        if list.len() > MAX_PORTS {
            let message = format!("{} ports, and {MAX_PORTS} are the most", list.len());
            self.faults.push(fault("publish", message));
        }
        Some(list)
    }

    fn rate(&mut self, key: &str) -> Option<Rate> {
        let read = self.value(key)?.parse::<Rate>();
        self.faults.keep(read.map_err(|e| about(key, &e)))
    }

    fn routes(&mut self) -> Option<Vec<RouteWish>> {
        let mut list = Vec::new();
        for item in items(self.value("routes")?) {
            match route(item) {
                Ok(wish) if list.contains(&wish) => {
                    self.faults
                        .push(fault("routes", format!("{item:?} is there twice")));
                }
                Ok(wish) => list.push(wish),
                Err(e) => self.faults.push(e),
            }
        }
        Some(list)
    }
}

/// Ports of the host that the keys ask for, as far as they can be read: what to look for among the
/// host's sockets.
#[must_use]
pub fn published_ports(keys: &BTreeMap<String, String>) -> Vec<u16> {
    publications(keys).map(|p| p.host_port).collect()
}

fn publications(keys: &BTreeMap<String, String>) -> impl Iterator<Item = Publication> {
    let value = keys.get("publish").map_or("", String::as_str);
    items(value).filter_map(|t| t.parse().ok())
}

/// What a request asks for that other endpoints may have, as far as it can be read.
#[must_use]
pub fn interest(request: &Request, host: NetnsCookie) -> Interest {
    let value = |key| request.keys.get(key).map_or("", String::as_str);
    let name = value("name").trim_matches([' ', ';']);
    let name = if name.is_empty() {
        request.container_id.as_str()
    } else {
        name
    };
    let addresses = items(value("address")).filter_map(|item| match address(item) {
        Ok(AddressWish::Static { addr, .. }) => Some(addr),
        _ => None,
    });
    let publish: Vec<Publication> = publications(&request.keys).collect();
    Interest::new(host, name, addresses, &publish)
}

/// Refuses what podman before 5.0 mangles: the rest of the value would be lost without a word.
fn check_text(key: &str, value: &str) -> Result<()> {
    let Some((column, c)) = value
        .chars()
        .enumerate()
        .find(|(_, c)| matches!(c, ',' | '"') || c.is_control())
    else {
        return Ok(());
    };
    let column = column + 1;
    let (message, hint) = match c {
        ',' => (
            "a comma, where podman before 5.0 splits the value",
            "separate items by spaces or `;`",
        ),
        '"' => (
            "a double quote, which podman before 5.0 cannot read",
            "quote for the shell only",
        ),
        '\n' => (
            "a newline, behind which podman before 5.0 drops everything",
            "separate items by spaces or `;`",
        ),
        _ => ("a control character", "separate items by spaces or `;`"),
    };
    Err(fault(key, format!("column {column}: {message}")).with_hint(hint))
}

fn address(item: &str) -> Result<AddressWish> {
    match item {
        "auto" => return Ok(AddressWish::Auto),
        "auto4" => return Ok(AddressWish::Auto4),
        "auto6" => return Ok(AddressWish::Auto6),
        _ => {}
    }
    if let Ok(addr) = item.parse::<IpAddr>() {
        return Ok(AddressWish::Static {
            addr,
            prefix_len: None,
        });
    }
    if let Ok(net) = item.parse::<IpNet>() {
        let prefix_len = Some(net.prefix_len());
        return Ok(AddressWish::Static {
            addr: net.addr(),
            prefix_len,
        });
    }
    let message = format!(
        "{} is no address, address/length, auto, auto4 or auto6",
        shown(item)
    );
    let e = fault("address", message);
    if item.contains(['[', ']']) {
        return Err(e.with_hint("brackets are for rules only"));
    }
    Err(match nearest(item, ["auto", "auto4", "auto6"]) {
        Some(near) => e.with_hint(format!("did you mean {near}?")),
        None => e.with_hint("such as 192.0.2.7, 2001:db8::7/64 or auto"),
    })
}

/// True if a wish asks for what the list has: the address with whatever length, or a lease.
fn repeats(wish: AddressWish, list: &[AddressWish]) -> bool {
    use AddressWish::{Auto, Auto4, Auto6, Static};
    list.iter().any(|other| match (wish, *other) {
        (Static { addr: a, .. }, Static { addr: b, .. }) => a == b,
        (Auto, Auto | Auto4 | Auto6) | (Auto4 | Auto6, Auto) => true,
        (a, b) => a == b,
    })
}

fn route(item: &str) -> Result<RouteWish> {
    if item == "default" {
        return Ok(RouteWish::Default);
    }
    let net = match (item.parse::<IpNet>(), item.parse::<IpAddr>()) {
        (Ok(net), _) => net,
        (_, Ok(addr)) => IpNet::from(addr),
        _ => {
            return Err(fault(
                "routes",
                format!("{} is no network and not default", shown(item)),
            )
            .with_hint("such as 10.0.0.0/8 or 2001:db8::/32"));
        }
    };
    if net != net.trunc() {
        return Err(
            fault("routes", format!("{net} has bits set behind its prefix"))
                .with_hint(format!("write {}", net.trunc())),
        );
    }
    if net.prefix_len() == 0 {
        return Ok(RouteWish::Net(net));
    }
    match not_unicast(net.addr()) {
        Some(what) => Err(fault("routes", format!("{item:?} is {what}"))),
        None => Ok(RouteWish::Net(net)),
    }
}
