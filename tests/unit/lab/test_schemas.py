# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Schemas: upstream's where they are, open ones otherwise; what a chart brings stays with the chart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lab import schemas, upstream
from lab.kube import Object
from lab.settings import LabError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


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


def test_an_open_schema_keeps_the_lists_that_have_several_owners(tmp_path: Path) -> None:
    """Without the key the autoscaler's quantity and our pool would be one field: the first apply would conflict."""
    found, _ = schemas.collect(["provisioning.cattle.io"], tmp_path / "absent")
    assert _keyed(found[0]) == ["name"]


@pytest.mark.skipif(not schemas.files_of("provisioning.cattle.io"), reason="upstream's schemas are not at hand")
def test_upstream_keys_the_same_lists() -> None:
    assert _keyed(schemas.collect(["provisioning.cattle.io"])[0][0]) == ["name"]


def _keyed(crd: Object) -> list[str]:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    pools = schema["properties"]["spec"]["properties"]["rkeConfig"]["properties"]["machinePools"]
    assert pools["x-kubernetes-list-type"] == "map"
    return list(pools["x-kubernetes-list-map-keys"])


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


def go(folder: Path, monkeypatch: pytest.MonkeyPatch, checksum: str) -> None:
    """A go command that has one module, with one schema as upstream writes it."""
    module = folder / "module" / "config" / "crd" / "standard"
    module.mkdir(parents=True)
    crd = {"metadata": {"name": "gateways.x"}, "spec": {"conversion": {"strategy": "Webhook"}}, "status": {}}
    (module / "gateway.networking.k8s.io_gateways.yaml").write_text(yaml.safe_dump(crd))
    (folder / "bin").mkdir()
    answer = json.dumps({"Dir": str(folder / "module"), "Sum": checksum})
    (folder / "bin" / "go").write_text(f"#!/bin/sh\necho '{answer}'\n")
    (folder / "bin" / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_modules_come_before_open_schemas(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, monkeypatch, upstream.table()["gateway.networking.k8s.io"]["sum"])
    upstream.fetch(["gateway.networking.k8s.io", "cilium.io"], print)
    found, line = schemas.collect(["gateway.networking.k8s.io", "cilium.io"], tmp_path / "absent")
    assert found[0] == {"metadata": {"name": "gateways.x"}, "spec": {}}
    assert line.endswith(f"from {cache / 'harvester_rke2' / 'schemas'}; open schemas for cilium.io")


def test_a_module_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, monkeypatch, "h1:other")
    with pytest.raises(LabError, match="checksum differs"):
        upstream.fetch(["gateway.networking.k8s.io"], print)
    assert upstream.place("gateway.networking.k8s.io") and not schemas.files_of("gateway.networking.k8s.io", tmp_path)


def test_without_go_the_next_source_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said: list[str] = []
    upstream.fetch(["gateway.networking.k8s.io"], said.append)
    assert said == ["schemas of gateway.networking.k8s.io: not from upstream (no Go command); next source"]
