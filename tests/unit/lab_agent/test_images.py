# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The table of images, and the addresses of pods."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab.agent.config import Config, ConfigError
from lab.agent.images import Images, read_table
from lab.agent.sandbox import Addresses, SandboxError

TABLE = Path(__file__).resolve().parents[3] / "lab" / "agent" / "images.yaml"
KNOWN = {
    "hashicorp/vault:1.19.0": "vault",
    "docker.io/hashicorp/vault@sha256:0": "vault",
    "quay.io/jetstack/cert-manager-controller:v1.19.3": "cert-manager",
    "quay.io/prometheus/prometheus:v3.5.5": "prometheus",
    "quay.io/prometheus/alertmanager:v0.31.1": "alertmanager",
    "quay.io/prometheus/node-exporter:v1.12.1": "node-exporter",
    "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0": "kube-state-metrics",
    "quay.io/kiwigrid/k8s-sidecar:1.30.10": "k8s-sidecar",
    "python:3.13-slim": "python",
    "docker.io/library/python:3.13-slim-bookworm": "python",
    "docker.io/library/python:3.13-slim@sha256:0": "python",
}
UNKNOWN = [
    "hashicorp/vault-k8s:1.7.2",
    "ghcr.io/hashicorp/vault:1.19.0",
    "quay.io/jetstack/cert-manager-webhook:v1.19.3",
    "quay.io/jetstack/cert-manager-cainjector:v1.19.3",
    "docker.io/grafana/grafana:12.3.1",
    "quay.io/prometheus/prometheus-operator:v0.1.0",
    "docker.io/library/python:3.12-slim",
    "python:3.13-slimmer",
]


def config(tmp_path: Path) -> Config:
    (tmp_path / "bin").mkdir(exist_ok=True)
    network = IPv4Network("198.18.128.0/17")
    return Config(tmp_path, tmp_path / "run", tmp_path / "bin", Path("/nowhere/python3"), TABLE, network, "g", "n", "d")


@pytest.mark.parametrize(("reference", "name"), KNOWN.items())
def test_known_images(tmp_path: Path, reference: str, name: str) -> None:
    found = Images(config(tmp_path)).find(reference)
    assert found is not None and found.name == name


@pytest.mark.parametrize("reference", UNKNOWN)
def test_other_images_stay_simulated(tmp_path: Path, reference: str) -> None:
    assert Images(config(tmp_path)).find(reference) is None


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_expressions_mean_the_same_to_jq() -> None:
    """KWOK asks by jq which pods are not its own."""
    expressions = [image.match for image in read_table(TABLE)]
    for reference in [*KNOWN, *UNKNOWN]:
        here = any(re.search(expression, reference) for expression in expressions)
        program = " or ".join(f"test({json.dumps(expression)})" for expression in expressions)
        answer = subprocess.run(
            ["jq", program], input=json.dumps(reference), capture_output=True, text=True, check=True
        )
        assert json.loads(answer.stdout) is here, reference


def test_a_pod_is_real_by_any_of_its_containers(tmp_path: Path) -> None:
    images = Images(config(tmp_path))
    real, unknown = {"image": "python:3.13-slim"}, {"image": "nginx"}
    assert images.real({"spec": {"containers": [unknown, real]}})
    assert not images.real({"spec": {"containers": [unknown], "initContainers": [real]}})


def test_every_bind_of_the_table_is_a_program_or_the_interpreter() -> None:
    for image in read_table(TABLE):
        assert image.tools in ("none", "busybox", "debian")
        for source in image.binds.values():
            own = TABLE.with_name(source.removeprefix("{agent}/"))
            assert source == "{python}" or own.is_file() or re.fullmatch(r"[a-z_-]+", source)
        assert all(path.startswith("/") for path in [*image.binds, *image.files, *image.folders])
        assert image.uid >= 0 and image.gid >= 0


def test_a_configuration_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text('{"kubeconfig": "x", "runn": "y"}')
    with pytest.raises(ConfigError, match="must have exactly the keys bin, domain"):
        Config.load(file)


def test_addresses_are_kept_and_not_given_again_soon(tmp_path: Path) -> None:
    file = tmp_path / "addresses.json"
    pool = Addresses(IPv4Network("198.18.128.0/29"), file)
    assert [pool.take("a"), pool.take("b"), pool.take("a")] == ["198.18.128.2", "198.18.128.3", "198.18.128.2"]
    again = Addresses(IPv4Network("198.18.128.0/29"), file)
    assert again.take("b") == "198.18.128.3"
    again.free("a")
    assert again.take("c") == "198.18.128.4", "one just freed is not the next"
    assert [again.take(uid) for uid in "def"] == ["198.18.128.5", "198.18.128.6", "198.18.128.2"]
    with pytest.raises(SandboxError, match="no address is free"):
        again.take("g")
