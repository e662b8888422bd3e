# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Which pool a node is of, what is said about it, and what the program reads from its environment."""

from __future__ import annotations

import pytest
from node_labeler import CONTROL_PLANE_LABELS, POOL_LABEL, Config, State, judge, pool_of

ENVIRONMENT = {
    "CLUSTER": "lab",
    "POOLS": "general, compute,database,gen",
    "CONTROL_PLANE_POOLS": "controlplane,general-cp",
    "POD_NAME": "node-labeler-abc",
    "POD_NAMESPACE": "node-labeler",
}
CONFIG = Config.from_environment(ENVIRONMENT)


@pytest.mark.parametrize(
    ("name", "labels", "pool"),
    [
        ("lab-general-x7k2p-q9z4w", {}, "general"),
        ("lab-gen-x7k2p-q9z4w", {}, "gen"),
        ("lab-general-cp-x7k2p-q9z4w", {}, "general-cp"),
        ("lab-controlplane-x7k2p-q9z4w", {}, "controlplane"),
        ("other-general-x7k2p-q9z4w", {}, ""),
        ("lab-general", {}, ""),
        ("lab-gpu-x7k2p-q9z4w", {}, ""),
        ("anything", {POOL_LABEL: "database"}, "database"),
        ("lab-general-x7k2p-q9z4w", {POOL_LABEL: "database"}, "database"),
        ("lab-general-x7k2p-q9z4w", {POOL_LABEL: ""}, "general"),
        ("lab-general-x7k2p-q9z4w", {POOL_LABEL: "gpu"}, "gpu"),
    ],
)
def test_pool(name: str, labels: dict[str, str], pool: str) -> None:
    """Rancher's label first, then the longest pool that the name begins with."""
    assert pool_of(name, labels, CONFIG) == pool


@pytest.mark.parametrize(
    ("name", "labels", "state"),
    [
        ("lab-general-a-b", {}, State.MISSING),
        ("lab-general-a-b", {"workload-type": "general"}, State.LABELLED),
        ("lab-general-a-b", {"workload-type": "database"}, State.MISMATCH),
        ("lab-general-a-b", {"workload-type": ""}, State.MISMATCH),
        ("lab-general-a-b", {POOL_LABEL: "gpu"}, State.UNKNOWN_POOL),
        ("lab-gpu-a-b", {}, State.UNKNOWN_POOL),
        ("lab-controlplane-a-b", {}, State.CONTROL_PLANE),
        ("lab-general-cp-a-b", {}, State.CONTROL_PLANE),
        *(("lab-general-a-b", {label: "true"}, State.CONTROL_PLANE) for label in CONTROL_PLANE_LABELS),
    ],
)
def test_judgement(name: str, labels: dict[str, str], state: State) -> None:
    """Only a worker node of a known pool without the label is labelled."""
    assert judge({"metadata": {"name": name, "labels": labels}}, CONFIG)[0] is state


def test_a_node_without_labels() -> None:
    """The API leaves empty maps out."""
    assert judge({"metadata": {"name": "lab-compute-a-b"}}, CONFIG) == (State.MISSING, "compute")


def test_environment() -> None:
    """Lists are split, the rest has defaults, and no two starts share an identity."""
    assert CONFIG.pools == ("general", "compute", "database", "gen")
    assert (CONFIG.dry_run, CONFIG.replica.port) == (False, 8080)
    assert CONFIG.replica.identity.startswith("node-labeler-abc_")
    assert Config.from_environment(ENVIRONMENT).replica.identity != CONFIG.replica.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CLUSTER": "", "POOLS": ""}, "the environment lacks CLUSTER, POOLS"),
        ({"DRY_RUN": "maybe"}, "DRY_RUN is 'maybe'"),
        ({"PORT": "http"}, "invalid literal"),
    ],
)
def test_wrong_environment(change: dict[str, str], message: str) -> None:
    """What is missing or cannot be is named."""
    with pytest.raises(ValueError, match=message):
        Config.from_environment({**ENVIRONMENT, **change})
