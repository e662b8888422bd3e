# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Pool and policy are what Cilium's schemas take; a node has the file, or the Cluster the objects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _node_parts

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS = ROOT.parent / "shared" / "crds" / "cilium.io"
MANIFEST = "/var/lib/rancher/rke2/server/manifests/cilium-l2.yaml"
POOL = {"platform_load_balancer_pool": "198.51.100.2 - 198.51.100.20"}
BY_FILE = {"rke2_node_control_plane": True, "cilium_l2_by_manifest_file": True}


def files(**variables: Any) -> dict[str, str]:
    loader = DataLoader()
    found = _node_parts.load("cilium_l2", variables, Templar(loader=loader, variables=variables), loader)
    return {file["path"]: file["content"] for file in found["files"]} if found else {}


def schema_of(kind: str, version: str) -> dict[str, Any]:
    for path in SCHEMAS.glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        if definition["names"]["kind"] == kind:
            (one,) = [one for one in definition["versions"] if one["name"] == version and one["served"]]
            return closed(one["schema"]["openAPIV3Schema"])
    raise AssertionError(f"{kind} is not among {SCHEMAS}")


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as strict field validation does."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema and schema["properties"].get("kind") is None:
        inner.setdefault("additionalProperties", False)
    return inner


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"Cilium's schemas are not at {SCHEMAS}")
def test_the_objects_are_valid() -> None:
    objects = list(yaml.safe_load_all(files(**POOL, **BY_FILE)[MANIFEST]))
    assert [one["kind"] for one in objects] == ["CiliumLoadBalancerIPPool", "CiliumL2AnnouncementPolicy"]
    for one in objects:
        schema = schema_of(one["kind"], one["apiVersion"].rpartition("/")[2])
        metadata = schema["properties"].pop("metadata")
        assert metadata["type"] == "object"
        jsonschema.validate(one, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**one, "spec": {**one["spec"], "unknown": 1}}, schema)


def test_the_variables_are_in_them() -> None:
    text = files(**POOL, **BY_FILE, cilium_l2_interfaces=["^eth1$", "^ens[0-9]+$"])[MANIFEST]
    pool, policy = yaml.safe_load_all(text)
    assert pool["metadata"]["name"] == "ingress-pool"
    assert pool["spec"]["blocks"] == [{"start": "198.51.100.2", "stop": "198.51.100.20"}]
    assert policy["metadata"]["name"] == "l2-policy"
    assert policy["spec"] == {
        "interfaces": ["^eth1$", "^ens[0-9]+$"],
        "loadBalancerIPs": True,
        "externalIPs": True,
        "nodeSelector": {
            "matchExpressions": [{"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"}]
        },
    }
    assert text == files(**POOL, **BY_FILE, cilium_l2_interfaces=["^eth1$", "^ens[0-9]+$"])[MANIFEST]


@pytest.mark.parametrize("missing", ["rke2_node_control_plane", "cilium_l2_by_manifest_file"])
def test_workers_and_user_data_have_none(missing: str) -> None:
    assert files(**POOL, **{**BY_FILE, missing: False}) == {}
    assert files(**POOL, **{name: True for name in BY_FILE if name != missing}) == {}


def cluster_manifest(folder: Path, **variables: Any) -> list[Any]:
    """What the Cluster object's additionalManifest is: these lines of its template."""
    source = (ROOT / "roles/rke2_cluster/templates/objects/30-cluster.yml.j2").read_text()
    (folder / "manifest.j2").write_text(source[source.index("    additionalManifest: |") : source.index("    etcd:\n")])
    copy = {"dest": str(folder / "manifest.yml"), "content": "{{ lookup('ansible.builtin.template', 'manifest.j2') }}"}
    tasks = [{"ansible.builtin.copy": copy}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "play.yml"]
    settings = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections")}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return list(yaml.safe_load_all(yaml.safe_load((folder / "manifest.yml").read_text())["additionalManifest"] or ""))


def test_the_cluster_object_has_the_same(tmp_path: Path) -> None:
    variables = {**POOL, "cilium_l2_interfaces": ["^ens4$"]}
    assert cluster_manifest(tmp_path, **variables) == list(yaml.safe_load_all(files(**variables, **BY_FILE)[MANIFEST]))
    assert cluster_manifest(tmp_path, **variables, cilium_l2_enabled=False) == []
