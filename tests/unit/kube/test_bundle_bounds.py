# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Numbers that are set once stay within bounds, and frozen objects tell what would change."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.filter.frozen_machine_configs import frozen_machine_configs
from ansible_collections.harvester_rke2.platform.plugins.filter.pool_quantities import pool_quantities
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _managed_fields as fields
from ansible_collections.harvester_rke2.platform.plugins.module_utils._bundle_order import Item, read, waves
from ansible_collections.harvester_rke2.platform.plugins.module_utils._bundle_plan import Frozen, Plan, Rule

POOLS = {
    "controlplane": {"minimum": 3, "maximum": 3},
    "general": {"minimum": 4, "maximum": 10},
}


@pytest.mark.parametrize(("value", "kept"), [(3, 4), (4, 4), (7, 7), (10, 10), (11, 10), (None, None), (True, True)])
def test_a_number_is_brought_to_the_nearer_end(value: Any, kept: Any) -> None:
    (option,) = pool_quantities(POOLS, "lab")
    rule = Rule.read(option)
    assert rule.clamped(value) == kept
    assert fields.written(rule.paths[0]) == '.spec.rkeConfig.machinePools[name="general"].quantity'


def test_a_rule_without_bounds_keeps_everything() -> None:
    assert Rule.read({"kind": "Deployment", "fields": [".spec.replicas"]}).clamped(99) == 99


def test_the_key_of_an_item_is_nobodys_field() -> None:
    path = fields.parse('.pools[name="general"].name')
    assert fields.is_key(path) and not fields.is_key(path[:-1])
    assert not fields.is_key(fields.parse('.pools[name="general"].quantity'))


def plan(before: dict[str, Any], after: dict[str, Any]) -> Plan:
    about = {"apiVersion": "v1", "kind": "HarvesterConfig", "metadata": {"name": "lab-general"}}
    return Plan(Item(0, "x", dict(about)), {}, {}, {**about, **before}, "changed", {**about, **after})


def test_a_frozen_object_tells_what_would_change() -> None:
    (option,) = frozen_machine_configs({"lab-general": ["general"], "lab-compute": ["compute"]}, ["compute"])
    rule = Frozen.read(option)
    assert rule.changes(plan({"userData": "a"}, {"userData": "b", "enableEfi": True})) == [".enableEfi", ".userData"]
    assert rule.changes(plan({"common": {"labels": 1}, "cpuCount": "4"}, {"common": {}, "cpuCount": "4"})) == []
    assert "general" in rule.why and "rke2_cluster_allow_roll" in rule.mend


def test_a_config_of_two_pools_needs_both() -> None:
    (option,) = frozen_machine_configs({"shared": ["one", "two"]}, ["one"])
    assert "pool two " in option["why"] and "one" not in option["why"]


def test_machine_configs_go_before_the_cluster() -> None:
    cluster = {"apiVersion": "provisioning.cattle.io/v1", "kind": "Cluster", "metadata": {"name": "lab"}}
    config = {"apiVersion": "rke-machine-config.cattle.io/v1", "kind": "HarvesterConfig", "metadata": {"name": "lab"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cc"}}
    ordered = [item.kind for wave in waves(read([cluster, config, secret], [])) for item in wave]
    assert ordered == ["Secret", "HarvesterConfig", "Cluster"]
