# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with the variables of the role policy_routing, each fault in one sentence that says the mend.

Pure functions of the variables that are set.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ._configuration import EXAMPLE_RANGE, fault

# What the kernel takes: 15 bytes, no '/' and no blank. This text also stands in file names and in a shell script.
INTERFACE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]{0,14}")
TABLE_NAME = re.compile(r"[A-Za-z][-A-Za-z0-9_]{0,31}")
TABLE_NAMES = ("default", "local", "main", "unspec")
TABLES_OF_THE_KERNEL = (0, 253, 254, 255)
HIGHEST_TABLE = 2**32 - 1
# For the packets of its proxy.
TABLES_OF_CILIUM = (2004, 2005)
# 0 is the kernel's, and one is left for the rule before ours.
LOWEST_PRIORITY, HIGHEST_PRIORITY = 2, 32765
HIGHEST_VLAN = 4094
Values = Mapping[str, Any]
Range = tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]


def check(values: Values) -> list[str]:
    """Every fault of these variables."""
    if values.get("policy_routing_enabled") is False:
        return []
    return [sentence for part in (_interfaces, _table, _priorities, _addresses) for sentence in part(values)]


def _number(name: str, values: Values, default: int, low: int, high: int) -> tuple[int, list[str]]:
    value = values.get(name, default)
    try:
        number = default if isinstance(value, bool) else int(str(value))
    except ValueError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        return default, [fault(f"{name} is '{value}'", f"choose a whole number from {low} to {high}.")]
    return number, []


def _interfaces(values: Values) -> list[str]:
    names = {
        "policy_routing_interface": str(values.get("policy_routing_interface", "eth1")),
        "policy_routing_parent": str(values.get("policy_routing_parent", "eth0")),
    }
    faults = [
        fault(
            f"{name} is '{value}', which is no name of an interface",
            "use at most 15 letters, digits, '-', '_' and '.', such as eth1.",
        )
        for name, value in names.items()
        if not INTERFACE.fullmatch(value) or value in ("all", "default", "lo")
    ]
    vlan, found = _number("policy_routing_vlan", values, 0, 0, HIGHEST_VLAN)
    faults += found
    if len(set(names.values())) == 1:
        mend = f"name the VLAN's interface, such as {names['policy_routing_parent']}.{vlan}."
        if not vlan:
            mend = "name the second interface: the first keeps the default route, and SSH comes by it."
        both = names["policy_routing_parent"]
        faults.append(fault(f"policy_routing_interface and policy_routing_parent are both '{both}'", mend))
    return faults


def _table(values: Values) -> list[str]:
    table, faults = _number("policy_routing_table", values, 200, 0, HIGHEST_TABLE)
    if table in TABLES_OF_THE_KERNEL + TABLES_OF_CILIUM:
        whose = "the kernel's own" if table in TABLES_OF_THE_KERNEL else "Cilium's"
        faults.append(fault(f"policy_routing_table is {table}, which is {whose}", "choose another, such as 200."))
    name = str(values.get("policy_routing_table_name", "ingress"))
    if name in TABLE_NAMES:
        mend = "choose another, such as ingress."
        faults.append(fault(f"policy_routing_table_name is '{name}', which is a table of the kernel's", mend))
    elif not TABLE_NAME.fullmatch(name):
        mend = "use at most 32 letters, digits, '-' and '_', beginning with a letter."
        faults.append(fault(f"policy_routing_table_name is '{name}', which is no name of a table", mend))
    return faults


def _priorities(values: Values) -> list[str]:
    limits = (LOWEST_PRIORITY, HIGHEST_PRIORITY)
    rule, faults = _number("policy_routing_rule_priority", values, 100, *limits)
    pool, found = _number("policy_routing_network_priority", values, 101, *limits)
    faults += found
    if not faults and pool == rule:
        mend = "give each its own, such as 100 and 101."
        what = f"policy_routing_rule_priority and policy_routing_network_priority are both {rule}"
        faults.append(fault(what, mend))
    elif not faults and pool == rule - 1:
        mend = f"choose {rule + 1}."
        what = f"policy_routing_network_priority is {pool}, where the rule for what the node sends to itself is"
        faults.append(fault(what, mend))
    return faults


def _addresses(values: Values) -> list[str]:
    network, faults = _network(values)
    pool_name = "platform_load_balancer_pool"
    pool, found = _range(pool_name, values)
    dhcp, found_too = _range("policy_routing_dhcp_range", values)
    faults += found + found_too
    text = str(values.get("policy_routing_gateway") or "")
    if text:
        faults += _gateway(text, network, pool, dhcp)
    if network and dhcp and not (dhcp[0] in network and dhcp[1] in network):
        mend = f"give the range that DHCP serves in {network}."
        faults.append(fault(f"policy_routing_dhcp_range is outside of platform_services_network ({network})", mend))
    if pool and dhcp and pool[0] <= dhcp[1] and dhcp[0] <= pool[1]:
        what = f"{pool_name} and policy_routing_dhcp_range share {max(pool[0], dhcp[0])} to {min(pool[1], dhcp[1])}"
        faults.append(fault(what, "move one of them: two machines would have one address."))
    return faults


def _network(values: Values) -> tuple[ipaddress.IPv4Network | None, list[str]]:
    try:
        network = ipaddress.ip_network(
            str(values.get("policy_routing_network") or values.get("platform_services_network") or ""), strict=False
        )
    except ValueError:
        # The platform's own checks say it, or it is not set.
        return None, []
    if isinstance(network, ipaddress.IPv4Network):
        return network, []
    mend = "give it an IPv4 network: policy routing does no IPv6."
    return None, [fault(f"platform_services_network is '{network}', which is IPv6", mend)]


def _range(name: str, values: Values) -> tuple[Range | None, list[str]]:
    text = str(values.get(name) or "")
    if not text:
        return None, []
    try:
        first, last = (ipaddress.ip_address(part.strip()) for part in text.split("-"))
    except ValueError:
        return None, [fault(f"{name} is '{text}', which is no range of addresses", f"write it like {EXAMPLE_RANGE}.")]
    if not (isinstance(first, ipaddress.IPv4Address) and isinstance(last, ipaddress.IPv4Address)):
        mend = f"give IPv4 addresses, such as {EXAMPLE_RANGE}: policy routing does no IPv6."
        return None, [fault(f"{name} is '{text}', which is IPv6", mend)]
    if first > last:
        what = f"{name} is '{text}', whose first address is after its last"
        return None, [fault(what, f"write {last}-{first}.")]
    return (first, last), []


def _gateway(text: str, network: ipaddress.IPv4Network | None, pool: Range | None, dhcp: Range | None) -> list[str]:
    what = f"policy_routing_gateway is '{text}'"
    try:
        gateway = ipaddress.ip_address(text)
    except ValueError:
        return [fault(f"{what}, which is no address", "give the router's address, or leave it empty for DHCP's.")]
    if not isinstance(gateway, ipaddress.IPv4Address):
        return [fault(f"{what}, which is IPv6", "give the router's IPv4 address: policy routing does no IPv6.")]
    if network and gateway not in network:
        mend = "give the router's address in that network, or leave it empty for DHCP's."
        return [fault(f"{what}, which is outside of platform_services_network ({network})", mend)]
    if network and gateway in (network.network_address, network.broadcast_address) and network.prefixlen < 31:
        return [fault(f"{what}, which no machine in {network} can have", "give the router's address.")]
    for name, taken in (("the LoadBalancer pool", pool), ("policy_routing_dhcp_range", dhcp)):
        if taken and taken[0] <= gateway <= taken[1]:
            mend = "give the router's address, or take it out of the range."
            return [fault(f"{what}, which is in {name} ({taken[0]}-{taken[1]})", mend)]
    return []
