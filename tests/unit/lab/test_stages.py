# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The condition that keeps KWOK away from pods of real programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from lab import stages
from lab.kube import Object

PODS = {"pod-ready", "pod-complete", "pod-delete"}


def by_name(loaded: list[Object]) -> dict[str, Object]:
    return {stage["metadata"]["name"]: stage for stage in loaded}


def test_without_an_agent_all_pods_are_simulated(tmp_path: Path) -> None:
    loaded = by_name(stages.load(tmp_path / "images.yaml"))
    assert set(loaded) >= {*PODS, "node-initialize", "node-heartbeat", "vault-labels"}
    assert "any(test" not in json.dumps(list(loaded.values()))


def test_the_condition_stands_first_in_every_pod_stage_and_in_no_other(tmp_path: Path) -> None:
    images = tmp_path / "images.yaml"
    images.write_text(yaml.safe_dump([{"match": "^a[:@]"}, {"match": "^b/c"}]))
    for name, stage in by_name(stages.load(images)).items():
        first = stage["spec"]["selector"]["matchExpressions"][0]
        assert ("any(test" in first["key"]) == (name in PODS)
        if name in PODS:
            assert first == {
                "key": '[.spec.containers[].image] | any(test("(^a[:@])|(^b/c)"))',
                "operator": "NotIn",
                "values": ["true"],
            }


@pytest.mark.parametrize(
    ("image", "real"),
    [
        ("hashicorp/vault:1.21.2", True),
        ("docker.io/hashicorp/vault:1.21.2", True),
        ("docker.io/hashicorp/vault-k8s:1.7", False),
        ("python:3.13-slim", True),
        ("quay.io/jetstack/cert-manager-controller:v1.19.3", True),
        ("quay.io/jetstack/cert-manager-webhook:v1.19.3", False),
        ("nginx", False),
    ],
)
def test_the_images_of_the_agents_table(image: str, real: bool) -> None:
    key = stages.simulated_only(stages.patterns())["key"]
    expression = json.loads(key[key.index("test(") + 5 : -2])
    assert bool(re.search(expression, image)) == real
