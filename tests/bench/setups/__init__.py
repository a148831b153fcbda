"""Tools that connect a namespace. Each has a name, add(namespace, n) and delete(namespace, n) for
the n-th container, reset(), after which the next add is like the first after boot, programs,
the paths of all it runs, and files, texts by the paths at which it looks for them.

To add one: a file here, a word in NAMES and one in tools().
"""
from .cni import CniBridge, CniPtp
from .netavark import Netavark
from .oci_netkit import OciNetkitSetup


NAMES = [tool.name for tool in (OciNetkitSetup, CniPtp, CniBridge, Netavark)]


def tools(binary):
    return [OciNetkitSetup(binary), CniPtp(), CniBridge(), Netavark()]
