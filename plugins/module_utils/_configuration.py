# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with a user's variables, each fault in one sentence that says the mend.

Pure functions of the variables: nothing here reads a file or a network.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"{LABEL}(\.{LABEL})+")
CLUSTER_NAME = re.compile(LABEL)
# <cluster>-keys must still be a namespace, and Rancher appends the pool and a suffix to make host names of 63 characters.
CLUSTER_NAME_MAX = 40
POOL_KEYS = {"minimum", "maximum", "cpu", "memory_gib", "disk_gib", "control_plane"}
# Below this an RKE2 node with Cilium does not come up (RKE2 documentation, requirements).
POOL_LEAST = {"cpu": 2, "memory_gib": 4, "disk_gib": 20}
QUANTITY = re.compile(r"[1-9][0-9]*(Mi|Gi|Ti)")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else ""


def unknown_names(names: Iterable[str], known: set[str], prefix: str) -> list[str]:
    """Sentences for the names with ``prefix`` that no role declares."""
    found = []
    for name in sorted(names):
        if name.startswith(prefix) and name not in known:
            guess = nearest(name, {candidate for candidate in known if candidate.startswith(prefix)})
            mend = f"did you mean {guess}?" if guess else "remove it, or see the role's README for the names there are."
            found.append(f"{name} is no variable of this collection: {mend}")
    return found


def check_domain(value: str) -> list[str]:
    """Faults of ``platform_domain``."""
    if not value:
        return ["platform_domain is not set: give the domain of the platform's host names, such as lab.example.com."]
    if "://" in value or "/" in value:
        return [f"platform_domain is '{value}', which is a URL: give the bare domain, such as lab.example.com."]
    if value != value.lower():
        return [f"platform_domain is '{value}': write it in lower case, {value.lower()}, as certificates and cookies compare it."]
    if not DOMAIN.fullmatch(value) or len(value) > 200:
        return [f"platform_domain is '{value}', which is no domain name: give at least two labels of letters, digits and '-', such as lab.example.com."]
    return []


def check_cluster_name(value: str) -> list[str]:
    """Faults of ``platform_cluster_name``."""
    if not value:
        return ["platform_cluster_name is not set: give the cluster's name, such as platform-lab."]
    if not CLUSTER_NAME.fullmatch(value):
        return [f"platform_cluster_name is '{value}': use lower-case letters, digits and '-' only, beginning and ending with a letter or digit."]
    if len(value) > CLUSTER_NAME_MAX:
        return [f"platform_cluster_name has {len(value)} characters: shorten it to at most {CLUSTER_NAME_MAX}, as host names are made of it and the pool's name."]
    return []


def _network(name: str, value: str) -> tuple[Network | None, list[str]]:
    try:
        return ipaddress.ip_network(value, strict=True), []
    except ValueError:
        pass
    try:
        mend = f"write {ipaddress.ip_network(value, strict=False)}, whose host bits are zero"
    except ValueError:
        mend = "write a network such as 10.42.0.0/16"
    return None, [f"{name} is '{value}', which is no network: {mend}."]


def _range(name: str, value: str) -> tuple[tuple[Address, Address] | None, list[str]]:
    first, _, last = value.partition("-")
    try:
        low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
    except ValueError:
        return None, [f"{name} is '{value}', which is no range of addresses: write first-last, such as 198.51.100.2-198.51.100.20."]
    if low.version != high.version or int(low) > int(high):
        return None, [f"{name} is '{value}', whose first address is not before its last: write {last.strip()}-{first.strip()}."]
    return (low, high), []


def check_networks(variables: Mapping[str, Any]) -> list[str]:
    """Faults of the networks, of the LoadBalancer pool and of the address taken from it."""
    faults: list[str] = []
    networks: dict[str, Network] = {}
    for name in ("platform_pod_cidr", "platform_service_cidr", "platform_services_network"):
        network, found = _network(name, str(variables[name]))
        faults += found
        if network is not None:
            networks[name] = network
    names = sorted(networks)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if networks[one].version == networks[other].version and networks[one].overlaps(networks[other]):
                faults.append(f"{one} ({networks[one]}) and {other} ({networks[other]}) overlap: choose ranges that share no address.")
    pool, found = _range("platform_load_balancer_pool", str(variables["platform_load_balancer_pool"]))
    faults += found
    if pool is None:
        return faults
    home = networks.get("platform_services_network")
    if home is not None and not (pool[0] in home and pool[1] in home):
        faults.append(
            f"platform_load_balancer_pool ({pool[0]}-{pool[1]}) is not inside platform_services_network ({home}): "
            "choose addresses of that network, as they are announced there by ARP."
        )
    try:
        address = ipaddress.ip_address(str(variables["platform_load_balancer_ip"]))
    except ValueError:
        return [*faults, f"platform_load_balancer_ip is '{variables['platform_load_balancer_ip']}', which is no address: write one of {pool[0]}-{pool[1]}."]
    if address.version != pool[0].version or not int(pool[0]) <= int(address) <= int(pool[1]):
        faults.append(f"platform_load_balancer_ip ({address}) is not in platform_load_balancer_pool ({pool[0]}-{pool[1]}): choose one of its addresses.")
    return faults


def check_pool(name: str, pool: Mapping[str, Any]) -> list[str]:
    """Faults of one node pool."""
    what = f"platform_pools.{name}"
    faults = []
    for key in sorted(set(pool) - POOL_KEYS):
        guess = nearest(key, POOL_KEYS)
        faults.append(f"{what}.{key} is no setting of a pool: " + (f"did you mean {guess}?" if guess else f"there are {', '.join(sorted(POOL_KEYS))}."))
    missing = sorted(POOL_KEYS - {"control_plane"} - set(pool))
    if missing:
        return [*faults, f"{what} lacks {', '.join(missing)}: give each a number."]
    numbers = {key: pool[key] for key in sorted(POOL_KEYS - {"control_plane"})}
    wrong = [key for key, value in numbers.items() if isinstance(value, bool) or not isinstance(value, int) or value < 0]
    if wrong:
        return [*faults, *(f"{what}.{key} is '{numbers[key]}': give a whole number, not below 0, without a unit." for key in wrong)]
    faults += [
        f"{what}.{key} is {numbers[key]}: RKE2 needs at least {least}." for key, least in POOL_LEAST.items() if numbers[key] < least
    ]
    if numbers["minimum"] > numbers["maximum"]:
        faults.append(f"{what} has minimum {numbers['minimum']} above maximum {numbers['maximum']}: exchange them, or raise the maximum.")
    if pool.get("control_plane"):
        if numbers["minimum"] != numbers["maximum"]:
            faults.append(f"{what} is a control plane and cannot grow by itself: give minimum and maximum the same number.")
        if numbers["minimum"] % 2 == 0:
            faults.append(f"{what} has {numbers['minimum']} control-plane nodes: choose an odd number (1, 3 or 5), as etcd needs a majority.")
    return faults


def check_pools(pools: Any) -> list[str]:
    """Faults of ``platform_pools``."""
    if not isinstance(pools, Mapping) or not pools:
        return ["platform_pools is empty: give at least one pool with control_plane: true."]
    faults: list[str] = []
    for name, pool in pools.items():
        if not CLUSTER_NAME.fullmatch(str(name)):
            faults.append(f"platform_pools has a pool named '{name}': use lower-case letters, digits and '-' only.")
        faults += check_pool(str(name), pool) if isinstance(pool, Mapping) else [f"platform_pools.{name} is no mapping: give it minimum, maximum, cpu, memory_gib, disk_gib."]
    if not any(isinstance(pool, Mapping) and pool.get("control_plane") for pool in pools.values()):
        faults.append("platform_pools has no control plane: set control_plane: true on one pool.")
    return faults


def check_quantities(variables: Mapping[str, Any]) -> list[str]:
    """Faults of the variables that end in ``_size``: Kubernetes quantities of storage."""
    return [
        f"{name} is '{value}': write a size such as 10Gi (Mi, Gi or Ti)."
        for name, value in sorted(variables.items())
        if name.endswith("_size") and not QUANTITY.fullmatch(str(value))
    ]


def check_services(services: Iterable[Mapping[str, Any]], pools: Mapping[str, Any]) -> list[str]:
    """Faults between descriptions: pools that do not exist, requirements switched off, hosts taken twice."""
    faults: list[str] = []
    by_name = {service["name"]: service for service in services}
    hosts: dict[str, str] = {}
    for service in by_name.values():
        pool = service.get("pool")
        if pool and pool not in pools:
            guess = nearest(pool, pools) or ", ".join(sorted(pools))
            faults.append(f"{service['name']} runs on the pool '{pool}', which platform_pools lacks: add it, or name another ({guess}).")
        faults += [
            f"{service['name']} needs {needed}, which is switched off: set {needed}_enabled: true, or {service['name']}_enabled: false."
            for needed in service["requires"]
            if needed not in by_name
        ]
        for route in service["routes"]:
            if route["host"] in hosts:
                faults.append(f"{service['name']} and {hosts[route['host']]} both want the host name '{route['host']}': rename one.")
            hosts[route["host"]] = service["name"]
    return faults


def check(variables: Mapping[str, Any], services: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every fault of the shared variables and of how the services fit together."""
    faults = check_domain(str(variables["platform_domain"])) + check_cluster_name(str(variables["platform_cluster_name"]))
    faults += check_networks(variables)
    pools = check_pools(variables["platform_pools"])
    faults += pools
    if not pools:
        faults += check_services(services, variables["platform_pools"])
    return faults
