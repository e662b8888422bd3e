# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Schemas: upstream's where they are, open ones otherwise; what a chart brings stays with the chart."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab import schemas
from lab.settings import LabError

GROUPS = [group for groups in schemas.GROUPS.values() for group in groups]


def test_open_schemas_for_every_group(tmp_path: Path) -> None:
    found, line = schemas.collect(GROUPS, tmp_path / "absent")
    assert "open schemas for gateway.networking.k8s.io" in line
    assert len({crd["metadata"]["name"] for crd in found}) == len(found)
    for crd in found:
        assert sum(version["storage"] for version in crd["spec"]["versions"]) == 1
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        assert schema["x-kubernetes-preserve-unknown-fields"]


def test_gateway_api_says_its_version(tmp_path: Path) -> None:
    found, _ = schemas.collect(["gateway.networking.k8s.io"], tmp_path / "absent")
    for crd in found:
        assert crd["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"] == "v1.4.1"
        assert crd["metadata"]["annotations"]["gateway.networking.k8s.io/channel"] == "standard"


def test_upstreams_files_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "cilium.io"
    folder.mkdir()
    (folder / "a.yaml").write_text(yaml.safe_dump({"metadata": {"name": "from-upstream"}}))
    found, line = schemas.collect(["cilium.io"], tmp_path)
    assert [crd["metadata"]["name"] for crd in found] == ["from-upstream"]
    assert line == f"1 kinds from {tmp_path}"


def test_the_cluster_has_nothing_that_a_chart_brings() -> None:
    brought = ("cert-manager.io", "acme.cert-manager.io", "postgresql.cnpg.io", "k8s.mariadb.com", "argoproj.io")
    assert not set(brought) & set(GROUPS)
    assert all(schemas.collect([group])[0] for group in brought)


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"schemas of nobody\.io"):
        schemas.collect(["nobody.io"], tmp_path)


def test_files_for_a_chart(tmp_path: Path) -> None:
    schemas.write(["cert-manager.io"], tmp_path / "out")
    assert (tmp_path / "out" / "clusterissuers.cert-manager.io.yaml").is_file()
