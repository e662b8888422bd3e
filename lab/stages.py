# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""KWOK's stages, with the pods of real programs taken out."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from lab.kube import Client, Object
from lab.settings import SOURCES

IMAGES = SOURCES / "agent" / "images.yaml"
FOLDER = SOURCES / "manifests" / "stages"


def patterns(images: Path = IMAGES) -> list[str]:
    """Regular expressions of the images that the agent runs; none when there is no agent."""
    if not images.exists():
        return []
    return [str(entry["match"]) for entry in yaml.safe_load(images.read_text()) or []]


def simulated_only(matches: list[str]) -> Object:
    """The condition that a pod has no container of a known image. KWOK compares booleans of jq as words."""
    alternatives = "|".join(f"({match})" for match in matches)
    return {
        "key": f"[.spec.containers[].image] | any(test({json.dumps(alternatives)}))",
        "operator": "NotIn",
        "values": ["true"],
    }


def load(images: Path = IMAGES, folder: Path = FOLDER) -> list[Object]:
    stages: list[Object] = []
    known = patterns(images)
    for file in sorted(folder.glob("*.yaml")):
        for stage in yaml.safe_load_all(file.read_text()):
            if known and stage["metadata"]["name"].startswith("pod-"):
                stage["spec"]["selector"]["matchExpressions"].insert(0, simulated_only(known))
            stages.append(stage)
    return stages


def apply(client: Client, stages: list[Object]) -> None:
    """Make the server's stages these and no others."""
    path = "/apis/kwok.x-k8s.io/v1alpha1/stages"
    for stage in stages:
        client.apply(f"{path}/{stage['metadata']['name']}", stage)
    wanted = {stage["metadata"]["name"] for stage in stages}
    for item in client.request("GET", path)["items"]:
        if item["metadata"]["name"] not in wanted:
            client.delete(f"{path}/{item['metadata']['name']}")
