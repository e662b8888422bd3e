# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The filters over descriptions."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.filter import (
    missing_ground,
    release_references,
    unlabelled_nodes,
)

SERVICES = [
    {"name": "traefik", "slug": "traefik", "phase": 1, "requires": []},
    {"name": "cert_manager", "slug": "cert-manager", "phase": 1, "requires": ["traefik"]},
    {"name": "vault", "slug": "vault", "phase": 2, "requires": ["cert_manager", "traefik"]},
    {"name": "vault_pki", "slug": "vault-pki", "phase": 2, "requires": ["vault"]},
    {"name": "hubble", "slug": "hubble", "phase": 3, "requires": ["vault_pki", "prometheus"]},
    {"name": "prometheus", "slug": "prometheus", "phase": 3, "requires": ["vault_pki"]},
]
EMPTY: dict[str, Any] = {"root_ca_certificate": "", "applysets": []}
ROOT_CA = "Phase 2 needs the root CA, which phase 0 makes: run it first (--tags phase0)."
AWAY = "Calling Harvester: connection refused. Check it."
UNREACHABLE: dict[str, Any] = {**EMPTY, "harvester_why": AWAY, "reachable": False, "why": "Calling: refused. Look."}
PHASE_1 = "vault needs {}, which phase 1 makes: run it first (--tags phase1)."


@pytest.mark.parametrize(
    ("phase", "state", "planned", "sentences"),
    [
        (0, EMPTY, [], []),
        (1, EMPTY, [], [ROOT_CA.replace("Phase 2", "Phase 1")]),
        (2, EMPTY, [], [ROOT_CA, PHASE_1.format("cert_manager"), PHASE_1.format("traefik")]),
        (2, {**EMPTY, "root_ca_certificate": "pem"}, [], [PHASE_1.format("cert_manager"), PHASE_1.format("traefik")]),
        (2, {"root_ca_certificate": "pem", "applysets": ["traefik"]}, [], [PHASE_1.format("cert_manager")]),
        (2, {"root_ca_certificate": "pem", "applysets": ["traefik", "cert-manager"]}, [], []),
        (2, EMPTY, [0, 1], []),
        (0, UNREACHABLE, [], []),
        (1, {**UNREACHABLE, "reachable": True}, [], [f"Phase 1 needs the root CA on Harvester. {AWAY}"]),
        (
            2,
            UNREACHABLE,
            [],
            [f"Phase 2 needs the root CA on Harvester. {AWAY}", "Phase 2 needs the cluster. Calling: refused. Look."],
        ),
        (2, UNREACHABLE, [0, 1], []),
        (2, EMPTY, [1], [ROOT_CA]),
        (
            3,
            {"root_ca_certificate": "pem", "applysets": []},
            [],
            ["hubble, prometheus need vault_pki, which phase 2 makes: run it first (--tags phase2)."],
        ),
        (2, EMPTY, [0], [PHASE_1.format("cert_manager"), PHASE_1.format("traefik")]),
    ],
)
def test_missing_ground(phase: int, state: dict[str, Any], planned: list[int], sentences: list[str]) -> None:
    """What an earlier phase makes must be there, or planned by this run; what the same phase makes comes with it."""
    function = missing_ground.FilterModule().filters()["missing_ground"]
    assert function(SERVICES, phase, state, planned) == sentences


def test_release_references() -> None:
    """Name and namespace, without what else a chart has."""
    charts = [{"name": name, "namespace": name, "version": "1"} for name in ("vault", "cert-manager")]
    function = release_references.FilterModule().filters()["release_references"]
    assert function(charts) == [
        {"name": "vault", "namespace": "vault"},
        {"name": "cert-manager", "namespace": "cert-manager"},
    ]


POOLS = {"cp": {"control_plane": True}, "general": {}, "general-gpu": {"control_plane": False}}
POOL_LABEL = "rke.cattle.io/rke-machine-pool-name"


@pytest.mark.parametrize(
    ("node", "labels", "missing"),
    [
        ("lab-general-a-1", {}, True),
        ("lab-general-gpu-a-1", {}, True),
        ("strange", {POOL_LABEL: "general"}, True),
        ("lab-general-a-1", {"workload-type": "general"}, False),
        ("lab-general-a-1", {"workload-type": "database"}, False),
        ("lab-cp-a-1", {}, False),
        ("lab-general-a-1", {POOL_LABEL: "cp"}, False),
        ("lab-other-a-1", {}, False),
        ("strange", {POOL_LABEL: "other"}, False),
        ("other-general-a-1", {}, False),
    ],
)
def test_unlabelled_nodes(node: str, labels: dict[str, str], missing: bool) -> None:
    """Those that the labeler would label: worker nodes of known pools."""
    function = unlabelled_nodes.FilterModule().filters()["unlabelled_nodes"]
    assert function({node: labels}, "lab", POOLS) == ([node] if missing else [])
