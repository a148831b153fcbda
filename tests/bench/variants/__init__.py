"""Ways out of a container. A variant has a name, the source address the wire sees, a namespace
(None: the host itself), up() and down(), and packets(), which counts what took this way, or None. With
count=2 it has several: namespaces, address(n).

To add one: a file here, and its place in a phase (../phases.py).
"""
from .host import Host
from .netavark import NetavarkDefault
from .oci_netkit import HostBesideContainer, ManyRules, Masqueraded, OciNetkit
from .published import PublishedHost, PublishedNetavark, PublishedOciNetkit
from .redirect import HostBesideNothing, NetkitRedirect, VethRedirect
from .shared_uplink import Ipvlan, Macvlan
from .veth_bridge_nft import VethBridgeNft
from .veth_routed import VethRouted
