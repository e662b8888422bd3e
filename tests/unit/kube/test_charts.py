# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Charts: where they are taken from, and what makes them another."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _helm_release, _ready
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_discovery import Discovery
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _charts

CHART = _charts.Chart("vault", "vault", "https://charts.example.com", "vault", "1.0.0", {"a": {"b": 1}})


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "https://other.example.com"},
        {"chart": "other"},
        {"version": "1.0.1"},
        {"values": {"a": {"b": 2}}},
        {"values": {}},
    ],
)
def test_what_changes_the_digest(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CHART, **change).digest != CHART.digest


def test_the_order_of_values_is_no_change() -> None:
    one = dataclasses.replace(CHART, values={"a": 1, "b": {"c": 1, "d": 2}})
    other = dataclasses.replace(CHART, values={"b": {"d": 2, "c": 1}, "a": 1})
    assert one.digest == other.digest


def unpack(folder: Path, version: str = "1.0.0") -> Path:
    chart = folder / "vault"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(f"name: vault\nversion: {version}\n")
    (chart / "templates" / "a.yaml").write_text("a: 1\n")
    return chart


def test_the_content_of_a_chart_on_disk_counts_and_its_place_does_not(tmp_path: Path) -> None:
    one, other = unpack(tmp_path / "1"), unpack(tmp_path / "2")
    first = dataclasses.replace(CHART, local=str(one)).digest
    assert dataclasses.replace(CHART, local=str(other)).digest == first != CHART.digest
    (other / "templates" / "a.yaml").write_text("a: 2\n")
    assert dataclasses.replace(CHART, local=str(other)).digest != first


def test_a_packaged_chart_of_the_version_goes_before_the_unpacked_one(tmp_path: Path) -> None:
    assert _charts.find_local("", "vault", "1.0.0") == ""
    assert _charts.find_local(str(tmp_path), "vault", "1.0.0") == ""
    unpacked = unpack(tmp_path)
    assert _charts.find_local(str(tmp_path), "vault", "v1.0.0") == str(unpacked)
    (tmp_path / "vault-1.0.0.tgz").write_bytes(b"x")
    assert _charts.find_local(str(tmp_path), "vault", "1.0.0") == str(tmp_path / "vault-1.0.0.tgz")


def test_an_unpacked_chart_of_another_version_is_refused(tmp_path: Path) -> None:
    unpack(tmp_path, "2.0.0")
    with pytest.raises(PlatformError, match=r"has version 2\.0\.0"):
        _charts.find_local(str(tmp_path), "vault", "1.0.0")


def test_what_helm_is_told() -> None:
    assert CHART.arguments()["chart_repo_url"] == "https://charts.example.com"
    oci = dataclasses.replace(CHART, repository="oci://registry.example.com/charts/").arguments()
    assert oci["chart_ref"] == "oci://registry.example.com/charts/vault" and "chart_repo_url" not in oci
    local = dataclasses.replace(CHART, local="/charts/vault").arguments()
    assert local["chart_ref"] == "/charts/vault" and "chart_version" not in local
    assert CHART.arguments()["wait"] is False


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            {"stderr": "walk.go:74: found symbolic link\nError: UPGRADE FAILED: no matches for kind X\n"},
            "UPGRADE FAILED:",
        ),
        ({"msg": "Helm version must be >= 3.0.0, current version is 2.9.1"}, "Helm version must be >= 3.0.0"),
        ({"stderr": "Killed", "msg": "non-zero return code"}, "Killed."),
        ({}, "it says nothing."),
    ],
)
def test_what_helm_says_is_told_with_the_release(said: dict[str, Any], why: str) -> None:
    sentence = _charts.failure("Upgrading the Helm release vault/vault", said)
    assert sentence.startswith(f"Upgrading the Helm release vault/vault: helm failed: {why}")
    assert sentence.endswith("Mend that and run again: what helm has left half done is recovered first.")


def test_values_are_merged_as_helm_merges_them() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert _charts.merged(base, {"a": {"c": [3]}, "e": None}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": None}


def secret(name: str, version: int, status: str, digest: str = "") -> dict[str, Any]:
    labels = {"owner": "helm", "name": name, "version": str(version), "status": status}
    notes = {_helm_release.DIGEST: digest} if digest else {}
    return {"name": f"sh.helm.release.v1.{name}.v{version}", "namespace": "s", "labels": labels, "annotations": notes}


def test_the_newest_revision_counts_not_the_last_by_name() -> None:
    metas = [secret("a", 9, "superseded", "old"), secret("a", 10, "pending-upgrade"), secret("b", 1, "deployed", "d")]
    first, second = _helm_release.newest(metas)
    assert (first["revision"], first["status"], first["digest"]) == (10, "pending-upgrade", "")
    assert (second["name"], second["digest"]) == ("b", "d")


class _Cluster:
    """As much of a client as reading a manifest takes."""

    def __init__(self, release: dict[str, Any]) -> None:
        packed = gzip.compress(json.dumps(release).encode())
        self.data = base64.b64encode(base64.b64encode(packed)).decode()

    def request(self, method: str, path: str) -> dict[str, Any]:
        return {"data": {"release": self.data}}

    def resource(self, api_version: str, kind: str) -> Any:
        if kind == "Gone":
            raise PlatformError("Looking", "gone")
        return type("R", (), {"namespaced": kind not in ("Namespace", "CustomResourceDefinition")})


def test_the_manifest_of_a_release_becomes_objects() -> None:
    manifest = (
        "---\n# Source\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\n"
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n---\napiVersion: x/v1\nkind: Gone\nmetadata: {name: g}\n"
    )
    manifest += (
        "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        'metadata:\n  annotations:\n    a: b\n  name: "things.example.com"\n'
        'spec: {a schema: never read, "as: this is no YAML}\n'
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\ndata:\n  a: |\n    kind: CustomResourceDefinition\n"
    )
    release = {"name": "a", "namespace": "s", "secret": "x"}
    found = _helm_release.objects(_Cluster({"manifest": manifest}), release)  # type: ignore[arg-type]
    assert [(obj["kind"], obj["metadata"].get("namespace")) for obj in found] == [
        ("ConfigMap", "s"),
        ("Namespace", None),
        ("CustomResourceDefinition", None),
        ("ConfigMap", "s"),
    ]
    assert found[2]["metadata"] == {"name": "things.example.com"}


def test_a_definition_is_waited_for_only_while_it_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by discovery, which lists an established one only; the same question afterwards finds it served."""
    names = ("here.example.com", "missing.example.com")
    manifest = "".join(
        "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        f"metadata:\n  name: {name}\nspec: {{}}\n"
        for name in names
    )
    served = [{"resource": "here", "responseKind": {"kind": "Here"}, "scope": "Namespaced"}]

    def get(path: str, accept: str) -> dict[str, Any]:
        items = [{"metadata": {"name": "example.com"}, "versions": [{"version": "v1", "resources": served}]}]
        return {"kind": "APIGroupDiscoveryList", "items": items if path == "/apis" else []}

    client: Any = _Cluster({"manifest": manifest})
    client.discovery = Discovery(get)
    monkeypatch.setattr(_helm_release, "find", lambda *_: {"name": "a", "namespace": "s", "secret": "x"})
    wanted = [{"name": "a", "namespace": "s"}]
    assert [target.name for target in _ready.of_releases(client, wanted)] == ["missing.example.com"]
    served.append({"resource": "missing", "responseKind": {"kind": "Missing"}, "scope": "Cluster"})
    client.discovery.forget()
    assert not _ready.of_releases(client, wanted)
