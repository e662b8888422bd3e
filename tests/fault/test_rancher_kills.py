# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Phase 0 is killed at random moments; the next run converges, and of everything there is one and nothing is left over.

Two lives, each a cluster of its own. In a life the run is killed again and again, each time from the beginning, at
moments drawn from its whole length. SITE_SEED repeats a series. The few milliseconds between the answer that holds a
token and the file that keeps it are looked for one by one below.
"""

from __future__ import annotations

import os
import pathlib
import random
import ssl
import time
import uuid
from collections.abc import Iterator

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._rancher_kubeconfig import OURS, token_name

from tests.fault import _modules
from tests.fault._gate import AFTER, ANSWERED, BEFORE, Gate
from tests.fault._rancher import TOKENS, Cluster, connection
from tests.fault._site import Site, site

SEED = int(os.environ.get("SITE_SEED") or random.SystemRandom().randrange(10**6))
LIVES, KILLS = 2, 10

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    where = site()
    where.empty(nodes="rancher")
    yield where


def test_killed_at_random_moments_nothing_is_left_over(lab: Site) -> None:
    print(f"\nSITE_SEED={SEED}")
    moments, began = random.Random(SEED), time.monotonic()
    first = Cluster(lab, f"k-{uuid.uuid4().hex[:6]}")
    length = first.made().seconds
    first.remove()
    print(f"an undisturbed run takes {length:.0f} s")
    killed: list[str] = []
    while len(killed) < LIVES * KILLS:
        life = Cluster(lab, f"k-{uuid.uuid4().hex[:6]}")
        for moment in sorted(moments.uniform(0.5, length) for _ in range(KILLS)):
            run = life.start()
            while time.monotonic() - run.began < moment and run.process.poll() is None:
                time.sleep(0.01)
            # A later run is shorter, as much is done already: it is killed in the midst of its own length.
            if run.process.poll() is not None:
                assert run.finish().returncode == 0
                run = life.start()
                time.sleep(moments.uniform(0.5, length / 3))
            if run.process.poll() is None:
                killed.append(run.kill())
                print(f"  {life.name} killed at {moment:5.1f} s: {killed[-1]}", flush=True)
            run.finish()
        key = root_ca(lab, life)
        life.converges()
        assert key is None or root_ca(lab, life) == key, "another root CA"
        life.remove()
    print(f"{len(killed)} kills at {len(set(killed))} tasks in {time.monotonic() - began:.0f} s, all converged")
    assert len(set(killed)) >= 4


def root_ca(lab: Site, life: Cluster) -> str | None:
    found = lab.harvester.get_or_none(f"/api/v1/namespaces/{life.name}-keys/secrets/root-ca")
    return None if found is None else str(found["data"]["tls.crt"])


@pytest.mark.parametrize("moment", [BEFORE, AFTER, ANSWERED])
def test_the_kubeconfig_killed_at_every_call_there_is_one_token(lab: Site, tmp_path: pathlib.Path, moment: str) -> None:
    """The module by itself, on the one cluster that is always there."""
    straight, gate = connection(lab), Gate()
    context = ssl.create_default_context(cafile=straight["rancher_ca_certificate"])
    url = gate.before(straight["rancher_url"], context)
    token = straight["rancher_token"]

    def ours() -> list[str]:
        tokens = lab.client("rancher").request("GET", TOKENS)["items"]
        return [
            one["metadata"]["name"] for one in tokens if str(one.get("description")).startswith(f"{OURS} harvester")
        ]

    number, most = 0, 0
    try:
        while True:
            number += 1
            path = tmp_path / str(number) / "kubeconfig.yaml"
            params = {"rancher_url": url, "rancher_token": token, "name": "harvester", "path": str(path)}
            gate.reset()
            gate.kill_at = number, moment
            gate.target = _modules.start("rancher_kubeconfig", params)
            _modules.finish(gate.target)
            if len(gate.calls) < number:
                break
            most = max(most, len(ours()))
            gate.reset()
            after = _modules.run("rancher_kubeconfig", params)
            assert after.returncode == 0, f"call {number}: {after.text}"
            assert ours() == [token_name(str(path))], f"call {number}"
            assert [file.name for file in path.parent.iterdir()] == ["kubeconfig.yaml"]
            again = _modules.run("rancher_kubeconfig", params)
            assert again.returncode == 0 and not again.result["changed"] and "POST" not in str(gate.calls[-2:])
            forget(lab, ours())
        forget(lab, ours())
    finally:
        gate.close()
    print(f"{number - 1} calls, killed {moment}; tokens right after a kill: at most {most}")
    assert number > 3


def test_a_disk_that_is_full_leaves_no_token(lab: Site, tmp_path: pathlib.Path) -> None:
    """Fault 20: there is room for the note beside the kubeconfig, but not for the kubeconfig."""
    path = tmp_path / "kubeconfig.yaml"
    params = {**connection(lab), "name": "harvester", "path": str(path)}
    before = len(lab.client("rancher").request("GET", TOKENS)["items"])
    full = _modules.finish(_modules.start("rancher_kubeconfig", params, largest_file=300))
    assert full.returncode != 0 and "Writing the kubeconfig" in full.message and "Make room" in full.message, full.text
    assert len(lab.client("rancher").request("GET", TOKENS)["items"]) == before
    assert not path.exists() and "Traceback" not in full.text
    after = _modules.run("rancher_kubeconfig", params)
    assert after.returncode == 0 and after.result["changed"], after.text
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    forget(lab, [token_name(str(path))])


def forget(lab: Site, names: list[str]) -> None:
    for name in names:
        lab.client("rancher").delete(f"{TOKENS}/{name}")
