# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""RKE2 finds the LoadBalancer addresses on a control-plane node, and on no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

SCENARIO = Path(__file__).resolve().parents[1]
ROOT = SCENARIO.parents[2]
MANIFEST = "/var/lib/rancher/rke2/server/manifests/cilium-l2.yaml"


def converge(*options: str) -> str:
    words = [str(Path(sys.executable).with_name("ansible-playbook")), *options, "-i"]
    words += [str(ROOT / "molecule/nodes/inventory.yml"), str(SCENARIO / "converge.yml")]
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.behaviour
def test_a_control_plane_node_has_both_objects(sut: Any) -> None:
    done = sut.run(f"cat {MANIFEST}")
    assert done.returncode == 0
    pool, policy = yaml.safe_load_all(done.stdout)
    assert pool["spec"]["blocks"] == [{"start": "198.51.100.2", "stop": "198.51.100.20"}]
    assert policy["spec"]["interfaces"] == ["^eth1$"]


def test_nothing_but_the_file_and_the_mark_is_there(sut: Any) -> None:
    assert sut.out("find /var/lib/rancher /var/lib/rke2-node -type f").splitlines() == [
        MANIFEST,
        "/var/lib/rke2-node/cilium_l2",
    ]
    assert sut.out(f"stat -c '%U:%G %a' {MANIFEST}") == "root:root 644"


def test_a_worker_has_none(sut: Any) -> None:
    worker = ("-e", '{"rke2_node_control_plane": false}')
    report = converge("--check", "--diff", *worker)
    assert f"+++ after: {MANIFEST}" in report and "-kind: CiliumL2AnnouncementPolicy" in report
    assert sut.run(f"test -e {MANIFEST}").returncode == 0
    converge(*worker)
    assert sut.run(f"test -e {MANIFEST}").returncode == 1
    converge()
    assert sut.run(f"test -e {MANIFEST}").returncode == 0
