# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What is wrong with the variables of the role node_firewall, each fault in one sentence that says the mend.

Pure functions of the variables that are set (private to this collection).
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._configuration import fault, nearest

KEYS = {"port", "protocol", "sources", "nodes", "purpose"}
PROTOCOLS = ("tcp", "udp")
NODES = ("all", "control_plane")
HIGHEST = 65535
RATE = re.compile(r"[1-9][0-9]*/(second|minute|hour|day)")
# A trial has half of the time for a new connection, whose own limit is Ansible's 10 s.
LEAST_SECONDS, MOST_SECONDS = 20, 600
# nft keeps 128 bytes of a comment; what would end its quotes is refused.
PURPOSE = re.compile(r'[^"\\\n\r]{0,100}')
PORT_MEND = "write a port such as 8443, or a range such as 30000-32767."
LISTS = ("node_firewall_ports", "node_firewall_extra_ports")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One port or range that is opened."""

    where: str
    port: str
    low: int
    high: int
    protocol: str
    nodes: str
    restricted: bool


def check(values: Values) -> list[str]:
    """Every fault of these variables."""
    faults: list[str] = []
    entries: list[Entry] = []
    for name in LISTS:
        entries += _entries(name, values, faults)
    for name in ("node_firewall_cluster_sources", "node_firewall_pod_cidrs"):
        faults += _networks(name, values.get(name, []))
    faults += _narrower(values, entries) + _contradictions(entries)
    # A list with a fault in it says nothing yet about what is missing.
    if "node_firewall_ports" in values and not faults:
        faults += _ssh(values, entries)
    return faults + _numbers(values)


def _entries(name: str, values: Values, faults: list[str]) -> list[Entry]:
    """The entries that are right; the faults of the others are appended."""
    given = values.get(name, [])
    if not _is_list(given):
        faults.append(fault(f"{name} is no list", "give a list of {port, protocol}."))
        return []
    narrower = values.get("node_firewall_sources", {})
    narrowed = {str(port) for port, sources in narrower.items() if sources} if isinstance(narrower, Mapping) else set()
    found = []
    for number, raw in enumerate(given):
        where = f"{name}[{number}]"
        if not isinstance(raw, Mapping):
            faults.append(fault(f"{where} is no mapping", "write it like {port: 8443, protocol: tcp}."))
            continue
        low, high, wrong = _port(where, raw.get("port"))
        wrong += _entry(where, raw)
        faults += wrong
        if not wrong:
            port, nodes = str(raw["port"]), raw.get("nodes", "all")
            found.append(
                Entry(where, port, low, high, raw["protocol"], nodes, bool(raw.get("sources")) or port in narrowed)
            )
    return found


def _entry(where: str, raw: Mapping[Any, Any]) -> list[str]:
    faults = []
    for key in sorted(set(raw) - KEYS, key=str):
        guess = nearest(str(key), KEYS)
        mend = f"did you mean {guess}?" if guess else f"there are {', '.join(sorted(KEYS))}."
        faults.append(fault(f"{where}.{key} is no setting of a port", mend))
    if raw.get("protocol") not in PROTOCOLS:
        mend = "write tcp or udp; a port that needs both has two entries."
        faults.append(fault(f"{where}.protocol is '{raw.get('protocol', '')}'", mend))
    if raw.get("nodes", "all") not in NODES:
        faults.append(fault(f"{where}.nodes is '{raw['nodes']}'", "write all or control_plane."))
    if not isinstance(raw.get("purpose", ""), str) or not PURPOSE.fullmatch(raw.get("purpose", "")):
        mend = "use at most 100 characters, without quotes, backslashes and line ends."
        faults.append(fault(f"{where}.purpose cannot be shown in the rules", mend))
    return faults + _networks(f"{where}.sources", raw.get("sources", []))


def _port(where: str, value: Any) -> tuple[int, int, list[str]]:
    what = f"{where}.port is '{'' if value is None else value}'"
    match = None if isinstance(value, bool) else re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", str(value))
    if match is None:
        return 0, 0, [fault(f"{what}, which is no port", PORT_MEND)]
    low, high = int(match[1]), int(match[2] or match[1])
    if not (1 <= low <= HIGHEST and 1 <= high <= HIGHEST):
        return 0, 0, [fault(f"{what}, but ports are 1 to {HIGHEST}", PORT_MEND)]
    if low > high:
        return 0, 0, [fault(f"{what}, a range that ends before it begins", f"write {high}-{low}.")]
    return low, high, []


def _networks(name: str, given: Any) -> list[str]:
    if not _is_list(given):
        return [fault(f"{name} is no list", "give a list of networks, such as [10.0.0.0/8].")]
    faults = []
    for value in given:
        try:
            ipaddress.ip_network(str(value), strict=True)
        except ValueError:
            faults.append(fault(f"{name} has '{value}', which is no network", _network_mend(str(value))))
    return faults


def _network_mend(value: str) -> str:
    try:
        return f"write {ipaddress.ip_network(value, strict=False)}, whose host bits are zero."
    except ValueError:
        return "write a network such as 10.0.0.0/8, or fd00::/8."


def _narrower(values: Values, entries: Sequence[Entry]) -> list[str]:
    given = values.get("node_firewall_sources", {})
    if not isinstance(given, Mapping):
        return [fault("node_firewall_sources is no mapping", "give port to networks, such as {6443: [10.0.0.0/8]}.")]
    faults = []
    known = list(dict.fromkeys(entry.port for entry in entries))
    for port, networks in given.items():
        faults += _networks(f"node_firewall_sources[{port}]", networks)
        if "node_firewall_ports" in values and str(port) not in known:
            what = f"node_firewall_sources has the port '{port}', which no entry opens so"
            faults.append(fault(what, f"write it as there ({', '.join(known)})."))
    return faults


def _contradictions(entries: Sequence[Entry]) -> list[str]:
    faults = []
    for one, other in itertools.permutations(entries, 2):
        overlap = one.protocol == other.protocol and one.low <= other.high and other.low <= one.high
        if overlap and not one.restricted and other.restricted and one.nodes in ("all", other.nodes):
            what = f"{one.where} opens {one.protocol} {one.port} to everybody, but {other.where} restricts {other.port}"
            faults.append(fault(what, "give both sources, or remove one of them."))
    return faults


def _ssh(values: Values, entries: Sequence[Entry]) -> list[str]:
    port = values.get("node_firewall_ssh_port", 22)
    if values.get("node_firewall_allow_no_ssh", False) or not str(port).isdigit():
        return []
    for entry in entries:
        if entry.protocol == "tcp" and entry.nodes == "all" and entry.low <= int(port) <= entry.high:
            return []
    mend = "open it in node_firewall_ports, or set node_firewall_allow_no_ssh: true if nobody is to come in by SSH."
    return [fault(f"No entry opens node_firewall_ssh_port ({port}) on all nodes", mend)]


def _numbers(values: Values) -> list[str]:
    faults = []
    port = values.get("node_firewall_ssh_port", 22)
    if "-" in str(port) or _port("", port)[2]:
        mend = "give sshd's port, a whole number."
        faults.append(fault(f"node_firewall_ssh_port is '{port}'", mend))
    seconds = values.get("node_firewall_rollback_seconds", 60)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        mend = f"give {LEAST_SECONDS} to {MOST_SECONDS}: within half of it a new connection must come through."
        faults.append(fault(f"node_firewall_rollback_seconds is '{seconds}'", mend))
    rate = values.get("node_firewall_log_rate", "")
    if rate and not RATE.fullmatch(str(rate)):
        mend = "write a number a second, minute, hour or day, such as 5/minute, or '' for none."
        faults.append(fault(f"node_firewall_log_rate is '{rate}'", mend))
    return faults


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
