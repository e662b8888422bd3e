# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Harbor's description acted upon by the role ``service`` as it is: what a later service gets for nothing."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import Play, rendered


@pytest.fixture(scope="module")
def objects(play: Play, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Kind to object, of what was rendered."""
    found = rendered(play, tmp_path_factory.mktemp("harbor"), "harbor")
    return {document["kind"]: document for _service, document in found}


def test_kinds(objects: dict[str, Any]) -> None:
    """Namespace, trust, and the way in."""
    assert set(objects) == {"Namespace", "ConfigMap", "Gateway", "HTTPRoute"}
    assert objects["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"


def test_the_gateway(objects: dict[str, Any]) -> None:
    """One listener for the host, whose certificate the ClusterIssuer makes."""
    (listener,) = objects["Gateway"]["spec"]["listeners"]
    assert listener["hostname"] == "harbor.lab.example.com"
    assert listener["tls"]["certificateRefs"][0]["name"] == "harbor-tls"


def test_the_route(objects: dict[str, Any]) -> None:
    """As the chart's own route: four prefixes to core, the rest to the portal, with time for large layers."""
    spec = objects["HTTPRoute"]["spec"]
    assert spec["hostnames"] == ["harbor.lab.example.com"]
    found = [
        ([match["path"]["value"] for match in rule["matches"]], rule["backendRefs"][0]["name"], rule["timeouts"])
        for rule in spec["rules"]
    ]
    assert found == [
        (["/api/", "/service/", "/v2/", "/c/"], "harbor-core", {"request": "1800s"}),
        (["/"], "harbor-portal", {"request": "1800s"}),
    ]
