# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with a user's variables, each fault in one sentence that says the mend.

Pure functions of the variables: nothing here reads a file or a network.
"""

from __future__ import annotations

import difflib
import ipaddress
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"{LABEL}(\.{LABEL})+")
CLUSTER_NAME = re.compile(LABEL)
# <cluster>-keys must still be a namespace, and Rancher appends pool and suffix for host names of 63 characters at most.
CLUSTER_NAME_MAX = 40
# A host name of 63 characters before it still makes a legal name of 255.
DOMAIN_MAX = 190
EXAMPLE_DOMAIN = "such as lab.example.com"
EXAMPLE_RANGE = "198.51.100.2-198.51.100.20"
POOL_NUMBERS = {"minimum", "maximum", "cpu", "memory_gib", "disk_gib"}
POOL_KEYS = POOL_NUMBERS | {"control_plane", "node_variables"}
# Below this an RKE2 node with Cilium does not come up (RKE2 documentation, requirements).
POOL_LEAST = {"cpu": 2, "memory_gib": 4, "disk_gib": 20}
QUANTITY = re.compile(r"[1-9][0-9]*(Mi|Gi|Ti)")
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping", "list": "a list"}


def fault(what: str, mend: str) -> str:
    """The sentence that every fault becomes."""
    return f"{what}: {mend}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else ""


def unknown_names(names: Iterable[str], known: set[str], prefix: str) -> list[str]:
    """Sentences for the names with ``prefix`` that no role declares."""
    found = []
    # Without the prefix: what all names share says nothing about which is meant.
    rests = {name.removeprefix(prefix) for name in known if name.startswith(prefix)}
    for name in sorted(names):
        if name.startswith(prefix) and name not in known:
            guess = nearest(name.removeprefix(prefix), rests)
            other = "remove it, or see the role's README for the names there are."
            mend = f"did you mean {prefix}{guess}?" if guess else other
            found.append(fault(f"{name} is no variable of this collection", mend))
    return found


def check_types(role: str, options: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Faults of values that the role's argument specification does not allow. None is repeated: it may be a secret."""
    faults = []
    for name, value in sorted(values.items()):
        option = {**options[name], "required": False, "default": None}
        kind, choices = option.get("type", "str"), option.get("choices")
        errors = ArgumentSpecValidator({name: option}).validate({name: value}).error_messages
        if value is None:
            faults.append(fault(f"{name} is empty", "give it a value, or remove the line to get the default."))
        elif kind in TYPES and not _is(kind, value):
            what = f"{name} must be {TYPES[kind]}, but is {_shape(value)}"
            faults.append(fault(what, "correct it, or remove the line to get the default."))
        elif errors and choices:
            there_are = ", ".join(str(choice) for choice in choices)
            faults.append(fault(f"{name} has a value that it cannot have", f"choose one of {there_are}."))
        elif errors:
            mend = f"see ansible-doc -t role harvester_rke2.platform.{role} for what it takes."
            faults.append(fault(f"{name} cannot be used ({'; '.join(errors)})", mend))
    return faults


def _is(kind: str, value: Any) -> bool:
    if kind == "int" and isinstance(value, bool):
        return False
    return not ArgumentSpecValidator({"value": {"type": kind}}).validate({"value": value}).error_messages


def _shape(value: Any) -> str:
    # In this order: a bool is an int, too.
    shapes = {bool: "bool", str: "text", int: "int", float: "float", dict: "dict", list: "list"}
    kind = next((name for shape, name in shapes.items() if isinstance(value, shape)), type(value).__name__)
    return TYPES.get(kind, kind)


def check_domain(value: str) -> list[str]:
    """Faults of ``platform_domain``."""
    what = f"platform_domain is '{value}'"
    if not value:
        return [fault("platform_domain is not set", f"give the domain of the platform's host names, {EXAMPLE_DOMAIN}.")]
    if "://" in value or "/" in value:
        return [fault(f"{what}, which is a URL", f"give the bare domain, {EXAMPLE_DOMAIN}.")]
    if value != value.lower():
        return [fault(what, f"write it in lower case, {value.lower()}, as certificates and cookies compare it.")]
    if not DOMAIN.fullmatch(value) or len(value) > DOMAIN_MAX:
        mend = f"give at least two labels of letters, digits and '-', {EXAMPLE_DOMAIN}."
        return [fault(f"{what}, which is no domain name", mend)]
    return []


def check_cluster_name(value: str) -> list[str]:
    """Faults of ``platform_cluster_name``."""
    if not value:
        return [fault("platform_cluster_name is not set", "give the cluster's name, such as platform-lab.")]
    if not CLUSTER_NAME.fullmatch(value) and len(value) <= CLUSTER_NAME_MAX:
        mend = "use lower-case letters, digits and '-' only, beginning and ending with a letter or digit."
        return [fault(f"platform_cluster_name is '{value}'", mend)]
    if len(value) > CLUSTER_NAME_MAX:
        mend = f"shorten it to at most {CLUSTER_NAME_MAX}, as host names are made of it and the pool's name."
        return [fault(f"platform_cluster_name has {len(value)} characters", mend)]
    return []


def check_keys_namespace(value: str) -> list[str]:
    """Faults of ``platform_keys_namespace``."""
    if CLUSTER_NAME.fullmatch(value):
        return []
    mend = "use at most 63 lower-case letters, digits and '-'."
    return [fault(f"platform_keys_namespace is '{value}', which is no namespace", mend)]


def parse_network(name: str, value: str) -> tuple[Network | None, list[str]]:
    what = f"{name} is '{value}', which is no network"
    try:
        return ipaddress.ip_network(value, strict=True), []
    except ValueError:
        mend = "write a network such as 10.42.0.0/16."
    try:
        mend = f"write {ipaddress.ip_network(value, strict=False)}, whose host bits are zero."
    except ValueError:
        return None, [fault(what, mend)]
    return None, [fault(what, mend)]


def parse_range(name: str, value: str) -> tuple[tuple[Address, Address] | None, list[str]]:
    first, _, last = (part.strip() for part in value.partition("-"))
    try:
        low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    except ValueError:
        mend = f"write first-last, such as {EXAMPLE_RANGE}."
        return None, [fault(f"{name} is '{value}', which is no range of addresses", mend)]
    if low.version != high.version:
        mend = f"write two of the same kind, such as {EXAMPLE_RANGE}."
        return None, [fault(f"{name} is '{value}', an IPv4 and an IPv6 address", mend)]
    if int(low) > int(high):
        return None, [fault(f"{name} is '{value}', whose first address is after its last", f"write {last}-{first}.")]
    return (low, high), []


def check_networks(variables: Mapping[str, Any]) -> list[str]:
    """Faults of the networks, of the LoadBalancer pool and of the address taken from it."""
    faults: list[str] = []
    networks: dict[str, Network] = {}
    for name in ("platform_pod_cidr", "platform_service_cidr", "platform_services_network"):
        network, found = parse_network(name, str(variables[name]))
        faults += found
        if network is not None:
            networks[name] = network
    for (one, first), (other, second) in itertools.combinations(sorted(networks.items()), 2):
        if first.version == second.version and first.overlaps(second):
            what = f"{one} ({first}) and {other} ({second}) overlap"
            faults.append(fault(what, "choose ranges that share no address."))
    pool, found = parse_range("platform_load_balancer_pool", str(variables["platform_load_balancer_pool"]))
    return faults + found + (_check_pool_of_addresses(pool, networks, variables) if pool else [])


def _check_pool_of_addresses(
    pool: tuple[Address, Address], networks: Mapping[str, Network], variables: Mapping[str, Any]
) -> list[str]:
    faults: list[str] = []
    shown = f"{pool[0]}-{pool[1]}"
    home = networks.get("platform_services_network")
    if home is not None and not (pool[0] in home and pool[1] in home):
        what = f"platform_load_balancer_pool ({shown}) is not inside platform_services_network ({home})"
        faults.append(fault(what, "choose addresses of that network, as they are announced there by ARP."))
    value = str(variables["platform_load_balancer_ip"])
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        what = f"platform_load_balancer_ip is '{value}', which is no address"
        return [*faults, fault(what, f"write one of {shown}.")]
    if address.version != pool[0].version or not int(pool[0]) <= int(address) <= int(pool[1]):
        what = f"platform_load_balancer_ip ({address}) is not in platform_load_balancer_pool ({shown})"
        faults.append(fault(what, "choose one of its addresses."))
    return faults


def check_pool(name: str, pool: Mapping[str, Any]) -> list[str]:
    """Faults of one node pool."""
    what = f"platform_pools.{name}"
    faults = []
    for key in sorted(set(pool) - POOL_KEYS, key=str):
        guess = nearest(str(key), POOL_KEYS)
        mend = f"did you mean {guess}?" if guess else f"there are {', '.join(sorted(POOL_KEYS))}."
        faults.append(fault(f"{what}.{key} is no setting of a pool", mend))
    missing = sorted(POOL_NUMBERS - set(pool))
    if missing:
        return [*faults, fault(f"{what} lacks {', '.join(missing)}", "give each a number.")]
    for key in sorted(POOL_NUMBERS):
        if isinstance(pool[key], bool) or not isinstance(pool[key], int) or pool[key] < 0:
            mend = "give a whole number, not below 0, without a unit."
            faults.append(fault(f"{what}.{key} is '{pool[key]}'", mend))
    if not isinstance(pool.get("control_plane", False), bool):
        faults.append(fault(f"{what}.control_plane is '{pool['control_plane']}'", "write true or false."))
    if not isinstance(pool.get("node_variables", {}), Mapping):
        mend = "give variables of the node's roles with their values."
        faults.append(fault(f"{what}.node_variables is no mapping", mend))
    return faults or _check_pool_numbers(what, pool)


def _check_pool_numbers(what: str, pool: Mapping[str, Any]) -> list[str]:
    least, most = pool["minimum"], pool["maximum"]
    faults = [
        fault(f"{what}.{key} is {pool[key]}, with which RKE2 does not come up", f"give at least {needed}.")
        for key, needed in POOL_LEAST.items()
        if pool[key] < needed
    ]
    if least > most:
        mend = "exchange them, or raise the maximum."
        faults.append(fault(f"{what} has minimum {least} above maximum {most}", mend))
    if pool.get("control_plane") and least != most:
        mend = "give minimum and maximum the same number."
        faults.append(fault(f"{what} is a control plane and cannot grow by itself", mend))
    if pool.get("control_plane") and least % 2 == 0:
        mend = "choose an odd number (1, 3 or 5), as etcd needs a majority."
        faults.append(fault(f"{what} has {least} control-plane nodes", mend))
    return faults


def check_pools(pools: Any) -> list[str]:
    """Faults of ``platform_pools``."""
    if not isinstance(pools, Mapping) or not pools:
        return [fault("platform_pools is empty", "give at least one pool with control_plane: true.")]
    faults: list[str] = []
    for name, pool in pools.items():
        if not CLUSTER_NAME.fullmatch(str(name)):
            mend = "use lower-case letters, digits and '-' only."
            faults.append(fault(f"platform_pools has a pool named '{name}'", mend))
        if isinstance(pool, Mapping):
            faults += check_pool(str(name), pool)
        else:
            faults.append(fault(f"platform_pools.{name} is no mapping", f"give it {', '.join(sorted(POOL_NUMBERS))}."))
    if not any(isinstance(pool, Mapping) and pool.get("control_plane") for pool in pools.values()):
        faults.append(fault("platform_pools has no control plane", "set control_plane: true on one pool."))
    return faults


def check_quantities(variables: Mapping[str, Any]) -> list[str]:
    """Faults of the variables that end in ``_size``: Kubernetes quantities of storage."""
    return [
        fault(f"{name} is '{value}'", "write a size such as 10Gi (Mi, Gi or Ti).")
        for name, value in sorted(variables.items())
        if name.endswith("_size") and not QUANTITY.fullmatch(str(value))
    ]


def _check_requirements(service: Mapping[str, Any], enabled: Iterable[str], known: Iterable[str]) -> list[str]:
    name, faults = service["name"], []
    for needed in service["requires"]:
        if needed in enabled:
            continue
        if needed in known:
            mend = f"set {needed}_enabled: true, or {name}_enabled: false."
            faults.append(fault(f"{name} needs {needed}, which is switched off", mend))
        else:
            mend = f"put that role on roles_path, or set {name}_enabled: false."
            faults.append(fault(f"{name} needs {needed}, which no role describes", mend))
    return faults


def check_services(
    services: Iterable[Mapping[str, Any]], pools: Mapping[str, Any], known: Iterable[str] = ()
) -> list[str]:
    """Faults between descriptions: pools that do not exist, requirements not met, hosts taken twice, own checks.

    :param services: the enabled ones.
    :param known: names of all services, enabled or not.
    """
    faults: list[str] = []
    by_name = {service["name"]: service for service in services}
    hosts: dict[str, str] = {}
    for name, service in by_name.items():
        pool = service.get("pool")
        if pool and pool not in pools:
            mend = f"add it, or name another ({nearest(pool, pools) or ', '.join(sorted(pools))})."
            faults.append(fault(f"{name} runs on the pool '{pool}', which platform_pools lacks", mend))
        faults += _check_requirements(service, by_name, known)
        faults += [check["message"] for check in service["checks"] if not check["that"]]
        for host in (route["host"] for route in service["routes"]):
            if host in hosts:
                faults.append(fault(f"{name} and {hosts[host]} both want the host name '{host}'", "rename one."))
            hosts[host] = name
    return faults


def check(variables: Mapping[str, Any]) -> list[str]:
    """Return every fault of the shared variables."""
    name = check_cluster_name(str(variables["platform_cluster_name"]))
    return [
        *check_domain(str(variables["platform_domain"])),
        # The namespace is made of the cluster's name, whose fault is not to be told twice.
        *(name or check_keys_namespace(str(variables["platform_keys_namespace"]))),
        *check_networks(variables),
        *check_pools(variables["platform_pools"]),
    ]
