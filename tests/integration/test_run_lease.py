# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The Lease that keeps two runs apart, on the lab's real Harvester API server. Needs a running lab (LAB_NAME)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _run_lease as leases
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient

from lab.settings import Lab

DIRECTORY = Lab.from_environment().directory
KUBECONFIG = DIRECTORY / "kubeconfig" / "harvester.yaml"
ELSEWHERE = "another-machine pid:[1] 4711 1"

pytestmark = [
    pytest.mark.skipif(not KUBECONFIG.exists(), reason=f"no lab runs in {DIRECTORY}"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace that is not there yet."""
    name = f"lease-{uuid.uuid4().hex[:6]}"
    yield name
    client().delete(f"/api/v1/namespaces/{name}")


def client() -> KubeClient:
    return KubeClient.from_options({"kubeconfig": str(KUBECONFIG)})


def lease(space: str, holder: str, process: str = ELSEWHERE, duration: int = 3) -> leases.RunLease:
    return leases.RunLease(client(), space, "run", leases.Run(holder, process), "production", duration)


def holder(space: str) -> str | None:
    found = lease(space, "nobody").read()
    assert found is not None
    return found["spec"].get("holderIdentity")


def me() -> str:
    return leases.process_of(os.getpid())


def test_the_first_takes_it_and_makes_its_namespace(space: str) -> None:
    anna = lease(space, "anna@laptop")
    assert anna.acquire() == {"already": False, "taken_from": "", "renewed": ""}
    spec = (anna.read() or {})["spec"]
    assert spec["holderIdentity"] == "anna@laptop" and spec["leaseDurationSeconds"] == 3
    assert spec["acquireTime"] == spec["renewTime"] and spec["leaseTransitions"] == 1
    assert anna.acquire()["already"]


def test_a_live_run_of_this_machine_is_named_at_once(space: str) -> None:
    lease(space, "anna@laptop", me(), duration=60).acquire()
    began = time.monotonic()
    with pytest.raises(leases.Held) as held:
        lease(space, "ben@desk").acquire()
    assert time.monotonic() - began < 30
    said = str(held.value)
    assert "cluster production: anna@laptop has it since 20" in said and "UTC" in said
    assert "after 60 s without a sign of life the cluster is taken over" in said


def test_a_run_of_another_machine_that_renews_is_not_taken_over(space: str) -> None:
    anna, over = lease(space, "anna@laptop"), threading.Event()
    anna.acquire()

    def renew() -> None:
        while not over.wait(0.7):
            assert anna.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(leases.Held, match="anna@laptop has it"):
            lease(space, "ben@desk").acquire()
    finally:
        over.set()
        thread.join()
    spec = (anna.read() or {})["spec"]
    assert spec["holderIdentity"] == "anna@laptop" and spec["leaseTransitions"] == 1
    assert spec["acquireTime"] < spec["renewTime"]


def test_a_silent_run_of_another_machine_is_taken_over_after_its_time_and_not_before(space: str) -> None:
    """However old its renewal says it is: the clocks of two machines are not compared."""
    anna = lease(space, "anna@laptop")
    anna.acquire()
    found = anna.read() or {}
    found["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
    client().request("PUT", f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases/run", body=found)
    began = time.monotonic()
    taken = lease(space, "ben@desk").acquire()
    assert time.monotonic() - began > 2.9
    assert taken["taken_from"] == "anna@laptop" and holder(space) == "ben@desk"
    # Who was taken for dead and is not, must know: it has lost the cluster, and cannot give back what is not its own.
    assert anna.renew() is False
    anna.release()
    assert holder(space) == "ben@desk"


def test_a_dead_run_of_this_machine_is_taken_over_at_once(space: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    lease(space, "anna@laptop", leases.process_of(process.pid), duration=60).acquire()
    process.kill()
    process.wait()
    began = time.monotonic()
    assert lease(space, "ben@laptop").acquire()["taken_from"] == "anna@laptop"
    assert time.monotonic() - began < 30


def test_what_is_given_back_is_free_at_once(space: str) -> None:
    anna = lease(space, "anna@laptop", duration=60)
    anna.acquire()
    anna.release()
    assert holder(space) is None
    taken = lease(space, "ben@desk").acquire()
    assert taken["taken_from"] == "" and taken["renewed"] > "20"


def test_of_many_at_once_one_gets_it(space: str) -> None:
    lease(space, "before", me()).acquire()
    lease(space, "before", me()).release()

    def attempt(number: int) -> bool:
        try:
            return not lease(space, f"run-{number}", me()).acquire()["already"]
        except leases.Held:
            return False

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(attempt, range(12))) == 1
    assert ((lease(space, "nobody").read() or {})["spec"])["leaseTransitions"] == 2


def kept(space: str, hears: str = "default_int_handler") -> tuple[leases.RunLease, subprocess.Popen[bytes]]:
    """A process, and its Lease with a keeper in the background."""
    # Said outright: whoever runs the tests in the background has the signal ignored for all below.
    program = f"import signal, time; signal.signal(signal.SIGINT, signal.{hears}); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    mine = lease(space, "anna@laptop", leases.process_of(process.pid))
    mine.acquire()
    leases.in_background(lambda: leases.keep(lease(space, "anna@laptop", mine.run.process), process.pid, pause=0.5))
    return mine, process


def test_it_is_renewed_while_the_run_lives_and_given_back_when_it_was_killed(space: str) -> None:
    mine, process = kept(space)
    seen = {(mine.read() or {})["spec"]["renewTime"]}
    deadline = time.monotonic() + 20
    while len(seen) < 4 and time.monotonic() < deadline:
        time.sleep(0.3)
        seen.add((mine.read() or {})["spec"]["renewTime"])
    assert len(seen) >= 4 and holder(space) == "anna@laptop"
    process.kill()
    deadline = time.monotonic() + 10
    while holder(space) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert holder(space) is None
    process.wait()


def test_a_lease_that_somebody_has_deleted_is_made_again(space: str) -> None:
    mine, process = kept(space)
    client().delete(f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases/run")
    deadline = time.monotonic() + 10
    while mine.read() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert holder(space) == "anna@laptop"
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("hears", "ends_by"),
    [("default_int_handler", signal.SIGINT), ("SIG_IGN", signal.SIGTERM)],
    ids=["heard", "ignored"],
)
def test_a_run_whose_cluster_was_taken_over_is_stopped(space: str, hears: str, ends_by: signal.Signals) -> None:
    mine, process = kept(space, hears)
    while True:
        found = mine.read() or {}
        found["spec"]["holderIdentity"] = "ben@desk"
        # The keeper may be quicker: then it is tried again.
        if mine._put(found):
            break
    assert process.wait(30) == -ends_by
    assert holder(space) == "ben@desk"
