# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with the variables of the role cilium_l2, each fault in one sentence that says the mend.

That the pool of the shared variables lies in the services network is the business of :mod:`._configuration`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._configuration import Address, fault, parse_network, parse_range

Values = Mapping[str, Any]
# Python knows these, the regular expressions of Go do not.
NOT_IN_GO = re.compile(r"\(\?(=|!|<=|<!|\(|#|P=|>)|\\[1-9]|[*+?}]\+")


def check(values: Values) -> list[str]:
    """Every fault of these variables."""
    if not values.get("cilium_l2_enabled", True):
        return []
    return [*_interfaces(values), *_pool(values)]


def _interfaces(values: Values) -> list[str]:
    patterns = values.get("cilium_l2_interfaces", ["^eth1$"])
    if not patterns:
        mend = "name the services network's, such as ^eth1$."
        return [fault("cilium_l2_interfaces is empty, by which Cilium announces on every interface", mend)]
    mend = "write one as Go has them, such as ^eth1$."
    return [
        fault(f"cilium_l2_interfaces has '{pattern}', which is no regular expression", mend)
        for pattern in patterns
        if not _is_pattern(str(pattern))
    ]


def _is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return bool(pattern) and not NOT_IN_GO.search(pattern)


def _overlap(one: tuple[Address, Address], other: tuple[Address, Address]) -> bool:
    same = one[0].version == other[0].version
    return same and int(one[0]) <= int(other[1]) and int(other[0]) <= int(one[1])


def _pool(values: Values) -> list[str]:
    # The shared variable has been judged with the shared ones; what else the role was given has not.
    name = "platform_load_balancer_pool"
    value = values.get(name)
    if values.get("cilium_l2_pool") not in (None, value):
        name, value = "cilium_l2_pool", values["cilium_l2_pool"]
    # Without the file nothing is made of an empty one.
    if not value and not (name == "cilium_l2_pool" and values.get("cilium_l2_by_manifest_file")):
        return []
    pool, faults = parse_range(name, str(value))
    if pool is None:
        return faults if name == "cilium_l2_pool" else []
    shown = f"{name} ({pool[0]}-{pool[1]})"
    return [*_home(name, shown, pool, values), *_taken(shown, pool, values)]


def _home(name: str, shown: str, pool: tuple[Address, Address], values: Values) -> list[str]:
    home, _faults = parse_network("", str(values.get("platform_services_network") or ""))
    if home is None:
        return []
    if not (pool[0] in home and pool[1] in home):
        mend = "choose addresses of that network, as they are announced there by ARP."
        what = f"{shown} is not inside platform_services_network ({home})"
        return [fault(what, mend)] if name == "cilium_l2_pool" else []
    ends = {home.network_address: "the network's own", home.broadcast_address: "the broadcast address"}
    mend = f"leave {home.network_address} and {home.broadcast_address} out."
    return [
        fault(f"{shown} has {address}, {what}", mend)
        for address, what in ends.items()
        if home.version == 4 and home.num_addresses > 2 and int(pool[0]) <= int(address) <= int(pool[1])
    ]


def _taken(shown: str, pool: tuple[Address, Address], values: Values) -> list[str]:
    """Overlaps with ranges from which others take addresses."""
    faults = []
    for other in ("platform_pod_cidr", "platform_service_cidr"):
        network, _faults = parse_network(other, str(values.get(other) or ""))
        if network is not None and _overlap(pool, (network[0], network[-1])):
            mend = "choose ranges that share no address."
            faults.append(fault(f"{shown} and {other} ({network}) overlap", mend))
    return faults
