# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The election: one leader at a time, whatever happens to it, and the program as a whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import controller
import pytest
from ansible_collections.harvester_rke2.platform.tests.unit.node_labeler.fake_api import FakeApi
from ansible_collections.harvester_rke2.platform.tests.unit.waiting import until
from controller import Api, ApiError, Campaign, Elector, Health, Metrics, Terms

TERMS = Terms(duration=1.2, deadline=0.9, retry=0.1)


def elector(fake: FakeApi, identity: str, terms: Terms = TERMS) -> Elector:
    """A candidate."""
    return Elector(Api("127.0.0.1", fake.port, fake.account), "node-labeler", "node-labeler", identity, terms)


def lease(fake: FakeApi) -> dict[str, object]:
    """What the lease says."""
    spec: dict[str, object] = fake.leases["node-labeler"]["spec"]
    return spec


def test_the_first_makes_the_lease_and_renews_it(fake: FakeApi) -> None:
    """Renewing keeps the time of the election and counts no transition."""
    one = elector(fake, "one")
    assert not one.leading
    one.step()
    assert one.leading
    first = dict(lease(fake))
    time.sleep(0.01)
    one.step()
    second = lease(fake)
    assert second["acquireTime"] == first["acquireTime"]
    assert second["renewTime"] != first["renewTime"]
    assert (first["leaseTransitions"], second["leaseTransitions"]) == (0, 0)


def test_a_renewed_lease_is_respected_however_long(fake: FakeApi) -> None:
    """The other's clock does not matter: what counts is that the lease changes."""
    one, two = elector(fake, "one"), elector(fake, "two")
    limit = time.monotonic() + 1.5 * TERMS.duration
    while time.monotonic() < limit:
        one.step()
        lease(fake)["renewTime"] = "2001-01-01T00:00:00.000000Z"
        two.step()
        assert not two.leading
        time.sleep(0.05)


def test_a_dead_leader_is_replaced_after_its_term(fake: FakeApi) -> None:
    """Not before the whole duration was seen to pass, whatever the lease's own times say."""
    one, two = elector(fake, "one"), elector(fake, "two")
    one.step()
    # Before the step that sees the lease first: its term counts from there.
    began = time.monotonic()
    two.step()
    while not two.leading:
        time.sleep(0.02)
        two.step()
    assert time.monotonic() - began >= TERMS.duration - 0.05
    assert not one.leading, "the old leader's deadline is before the lease's end"
    assert (lease(fake)["holderIdentity"], lease(fake)["leaseTransitions"]) == ("two", 1)
    one.step()
    assert not one.leading


def test_a_stopped_leader_does_not_act_when_it_wakes(fake: FakeApi) -> None:
    """It has had no chance to notice, and must not write all the same."""
    one = elector(fake, "one")
    one.step()
    time.sleep(TERMS.deadline + 0.05)
    assert not one.leading


def test_two_that_race_for_a_free_lease(fake: FakeApi) -> None:
    """Both have read that it is free; the stale write loses."""
    one, two = elector(fake, "one"), elector(fake, "two")
    one.step()
    one.release()
    assert lease(fake)["holderIdentity"] == ""
    answer = fake.answer
    stale: list[bool] = []

    def interleaved(method: str, target: str, body: dict[str, object] | None) -> dict[str, object]:
        if method == "PUT" and body and body["spec"]["holderIdentity"] == "one" and not stale:  # type: ignore[index]
            stale.append(True)
            two.step()
        return answer(method, target, body)

    fake.answer = interleaved  # type: ignore[method-assign]
    one.step()
    assert stale and two.leading and not one.leading
    assert lease(fake)["holderIdentity"] == "two"


def test_many_candidates_never_two_leaders(fake: FakeApi) -> None:
    """Ten candidates at once, for a while, each counted at every moment."""
    candidates = [elector(fake, f"c{number}") for number in range(10)]
    stop = threading.Event()
    most: list[int] = []

    def stand(candidate: Elector) -> None:
        while not stop.is_set():
            candidate.step()
            stop.wait(0.02)

    threads = [threading.Thread(target=stand, args=(candidate,), daemon=True) for candidate in candidates]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + 2.0
    while time.monotonic() < limit:
        most.append(sum(candidate.leading for candidate in candidates))
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join(5)
    assert max(most) == 1


def test_release_leaves_anothers_lease_alone(fake: FakeApi) -> None:
    """Who has lost the lease has nothing to give back."""
    one, two = elector(fake, "one"), elector(fake, "two")
    two.step()
    one.release()
    assert lease(fake)["holderIdentity"] == "two"


def test_a_lease_without_a_holder_is_taken_at_once(fake: FakeApi) -> None:
    """As it is after a release."""
    one, two = elector(fake, "one"), elector(fake, "two")
    one.step()
    two.step()
    one.release()
    two.step()
    assert two.leading


def campaign(
    fake: FakeApi, identity: str, work: Callable[[threading.Event], None]
) -> tuple[Campaign, list[bool], list[ApiError]]:
    """A campaign and what it told."""
    told: list[bool] = []
    failures: list[ApiError] = []
    api = Api("127.0.0.1", fake.port, fake.account, timeout=2.0)
    candidate = Elector(api, "node-labeler", "node-labeler", identity, TERMS)
    return Campaign(api, candidate, Health(), work, told.append, failures.append), told, failures


def test_a_campaign_ends_its_work_when_the_api_is_away(fake: FakeApi) -> None:
    """Then leads again when it is back; the failures are counted."""
    spans: list[str] = []

    def work(ended: threading.Event) -> None:
        spans.append("begun")
        ended.wait(10)
        spans.append("ended")

    stand, told, failures = campaign(fake, "one", work)
    stop = threading.Event()
    thread = threading.Thread(target=stand.run, args=(stop,), daemon=True)
    thread.start()
    until(lambda: spans == ["begun"])
    assert stand.health.ready
    fake.fail("GET", "/leases", 503, times=1000)
    until(lambda: spans == ["begun", "ended"])
    until(lambda: told[-1] is False)
    fake.failures.clear()
    until(lambda: spans == ["begun", "ended", "begun"])
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert spans[-1] == "ended"
    assert lease(fake)["holderIdentity"] == "", "the lease was given back"
    assert failures[0].status == 503
    assert not stand.health.ready


def test_work_that_fails_ends_the_program(fake: FakeApi) -> None:
    """So that the container is started anew, and does not look alive without doing anything."""

    def work(ended: threading.Event) -> None:
        """Ends at once."""

    stand, _, _ = campaign(fake, "one", work)
    with pytest.raises(RuntimeError, match="ended by itself"):
        stand.run(threading.Event())
    assert lease(fake)["holderIdentity"] == ""


def test_health() -> None:
    """A loop that no longer turns is named; one that has ended is not missed."""
    health = Health(patience=0.05)
    health.beat("nodes")
    health.beat("election")
    assert health.stuck() == []
    time.sleep(0.06)
    health.beat("election")
    assert health.stuck() == ["nodes"]
    health.forget("nodes")
    assert health.stuck() == []


def test_metrics_text() -> None:
    """Prometheus' format, with its escapes."""
    metrics = Metrics()
    metrics.declare("a_total", "counter", "A.")
    metrics.declare("b", "gauge", "B.")
    metrics.declare("h", "histogram", "H.", (1, 2.5))
    metrics.add("a_total", reason='quo"te\\back\nline')
    metrics.set("b", 1.5)
    for value in (0.5, 2.0, 9.0):
        metrics.observe("h", value)
    assert metrics.render() == (
        "# HELP a_total A.\n# TYPE a_total counter\n"
        'a_total{reason="quo\\"te\\\\back\\nline"} 1\n'
        "# HELP b B.\n# TYPE b gauge\nb 1.5\n"
        "# HELP h H.\n# TYPE h histogram\n"
        'h_bucket{le="1"} 1\nh_bucket{le="2.5"} 2\nh_bucket{le="+Inf"} 3\nh_sum 11.5\nh_count 3\n'
    )


def get(port: int, path: str) -> tuple[int, str, str]:
    """Status, content type and text."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_probes_and_metrics() -> None:
    """Not ready before the API was reached; not alive when a loop is stuck."""
    metrics, health = Metrics(), Health(patience=0.05)
    server = controller.serve(0, metrics, health)
    port = int(server.server_address[1])
    try:
        assert get(port, "/healthz") == (200, "text/plain", "ok\n")
        assert get(port, "/readyz")[0] == 503
        health.ready = True
        assert get(port, "/readyz")[0] == 200
        assert get(port, "/metrics")[:2] == (200, Metrics.CONTENT_TYPE)
        assert get(port, "/nothing")[0] == 404
        health.beat("nodes")
        time.sleep(0.06)
        assert get(port, "/healthz") == (503, "text/plain", "stuck: nodes\n")
    finally:
        server.shutdown()
        server.server_close()


LIBRARY = Path(controller.__file__).parent
PROGRAM = LIBRARY.parents[1] / "node_labeler" / "files" / "node_labeler.py"
# The address of the pod's account is fixed; the wrapper only puts the test's in its place.
WRAPPER = """
import pathlib, runpy, sys
sys.path.insert(0, sys.argv[1])
import controller
controller.Api.__init__.__defaults__ = (pathlib.Path(sys.argv[3]), 5.0)
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def start(fake: FakeApi, name: str, **environment: str) -> subprocess.Popen[str]:
    """The whole program, as in a pod."""
    return subprocess.Popen(
        [sys.executable, "-c", WRAPPER, str(LIBRARY), str(PROGRAM), str(fake.account)],
        env={
            "PATH": os.environ["PATH"],
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(fake.port),
            "CLUSTER": "lab",
            "POOLS": "general",
            "POD_NAME": name,
            "POD_NAMESPACE": "node-labeler",
            "PORT": "0",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_program_stops_cleanly_and_the_other_takes_over(fake: FakeApi) -> None:
    """SIGTERM: exit code 0 within seconds, the lease given back, every line of its log JSON."""
    fake.put_node("lab-general-a-1")
    one = start(fake, "one")
    two = None
    try:
        until(lambda: fake.label("lab-general-a-1") == "general")
        two = start(fake, "two")
        until(lambda: two.stdout is not None and "started" in two.stdout.readline())
        one.send_signal(signal.SIGTERM)
        output, _ = one.communicate(timeout=10)
        assert one.returncode == 0
        messages = [json.loads(line)["msg"] for line in output.splitlines()]
        assert messages == ["started", "became the leader", "labelled the node", "released the lease", "stopped"]
        until(lambda: str(lease(fake)["holderIdentity"]).startswith("two_"))
        fake.put_node("lab-general-a-2")
        until(lambda: fake.label("lab-general-a-2") == "general")
    finally:
        for process in (one, two):
            if process is not None:
                process.kill()
                process.communicate()


def test_the_program_names_what_its_environment_lacks(fake: FakeApi) -> None:
    """And ends with its own exit code."""
    process = start(fake, "one", CLUSTER="")
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 2
    assert json.loads(output)["error"] == "the environment lacks CLUSTER"
