# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with the variables of the nodes, of those under SSH and of those that a pool makes.

Pure functions of the variables that are set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import _node_cilium_l2, _node_firewall, _node_rke2, _node_routing
from ._configuration import check_types, fault, nearest

Values = Mapping[str, Any]
# Each node role's own.
CHECKS: tuple[Callable[[Values], list[str]], ...] = (
    _node_rke2.check,
    _node_routing.check,
    _node_firewall.check,
    _node_cilium_l2.check,
)


def check(values: Values) -> list[str]:
    """Every fault of these variables."""
    return [sentence for of_role in CHECKS for sentence in of_role(values)]


def check_cluster(values: Values, clusters: Sequence[str]) -> list[str]:
    """A node under SSH belongs to a host of the inventory's group rke2_clusters, if it names one."""
    name = values.get("rke2_node_cluster")
    if name is None or name in clusters:
        return []
    there = ", ".join(clusters) or "no host"
    mend = f"name one of them (there is {there}), or leave the variable out."
    return [fault(f"rke2_node_cluster is '{name}', which is no host of the group rke2_clusters", mend)]


def check_pools(values: Values, declared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every fault of what single pools set otherwise, and of the nodes that all pools make.

    :param declared: option of a node role to its argument specification.
    """
    found: dict[str, list[str]] = {}
    faults = list[str]()
    for name, pool in (values.get("platform_pools") or {}).items():
        own = pool.get("node_variables") or {}
        where = f"platform_pools.{name}.node_variables"
        wrong = _unknown(own, declared) or check_types("", declared, own)
        faults += [f"{where}: {sentence}" for sentence in wrong]
        leads = {"rke2_node_control_plane": bool(pool.get("control_plane", False))}
        for sentence in [] if wrong else check({**values, **leads, **own}):
            found.setdefault(sentence, []).append(name)
    # What several pools have wrong alike is said once, without a pool.
    return faults + [text if len(pools) > 1 else f"Pool {pools[0]}: {text}" for text, pools in found.items()]


def _unknown(names: Iterable[str], declared: Mapping[str, Any]) -> list[str]:
    faults = []
    for name in sorted(set(names) - set(declared)):
        guess = nearest(name, declared)
        mend = f"did you mean {guess}?" if guess else "see the README of rke2_node and the roles that it composes."
        faults.append(fault(f"{name} is no variable of a node's role", mend))
    return faults
