# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The leader's work against an API server: labels, conflicts, watches that end, outages."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator

import controller
import pytest
from ansible_collections.harvester_rke2.platform.tests.unit.node_labeler.fake_api import FakeApi
from ansible_collections.harvester_rke2.platform.tests.unit.waiting import until
from controller import Api, ApiError, Backoff, Health, Metrics
from node_labeler import Config, Labeler, declare

CONFIG = Config.from_environment(
    {"CLUSTER": "lab", "POOLS": "general,database", "CONTROL_PLANE_POOLS": "cp", "POD_NAME": "p", "POD_NAMESPACE": "n"}
)


class Running:
    """A labeler at work in a thread."""

    def __init__(self, fake: FakeApi, config: Config = CONFIG) -> None:
        self.api = Api("127.0.0.1", fake.port, fake.account, timeout=5.0)
        self.metrics = Metrics()
        declare(self.metrics)
        self.leading = True
        self.health = Health()
        self.ended = threading.Event()
        self.labeler = Labeler(self.api, config, self.metrics, self.health, lambda: self.leading)
        self.labeler._backoff = Backoff(0.01, 0.05)
        self.thread = threading.Thread(target=self.labeler.run, args=(self.ended,), daemon=True)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        while self.thread.is_alive():
            self.api.interrupt()
            self.thread.join(0.05)

    def metric(self, line: str) -> float:
        """The value of the metric whose line begins so."""
        values = [text.rpartition(" ")[2] for text in self.metrics.render().splitlines() if text.startswith(line + " ")]
        return float(values[0]) if values else 0.0


@pytest.fixture
def running(fake: FakeApi) -> Iterator[Running]:
    """A labeler that follows the nodes."""
    with Running(fake) as labeler:
        until(lambda: fake.watchers)
        yield labeler


def test_labels_what_is_there_and_what_comes(fake: FakeApi) -> None:
    """Nodes of the first list, new ones, and one whose label is taken away again."""
    fake.put_node("lab-general-a-1")
    fake.put_node("lab-cp-a-1")
    fake.put_node("lab-gpu-a-1")
    with Running(fake) as labeler:
        until(lambda: fake.label("lab-general-a-1") == "general")
        fake.put_node("lab-database-a-1", {"other": "kept"})
        until(lambda: fake.label("lab-database-a-1") == "database")
        assert fake.nodes["lab-database-a-1"]["metadata"]["labels"]["other"] == "kept"
        fake.put_node("lab-general-a-1", {})
        until(lambda: fake.label("lab-general-a-1") == "general")
        until(lambda: labeler.metric('node_labeler_nodes{state="labelled"}') == 2)
        assert labeler.metric('node_labeler_nodes{state="control_plane"}') == 1
        assert labeler.metric('node_labeler_nodes{state="unknown_pool"}') == 1
        until(lambda: labeler.metric('node_labeler_patches_total{result="success"}') == 3)
        # The node whose label was removed had it once: its second labelling says nothing about the time to the first.
        assert labeler.metric("node_labeler_label_delay_seconds_count") == 2
        fake.delete_node("lab-database-a-1")
        until(lambda: labeler.metric('node_labeler_nodes{state="labelled"}') == 1)
    assert fake.label("lab-cp-a-1") is None
    assert fake.label("lab-gpu-a-1") is None
    assert labeler.metric('node_labeler_nodes{state="labelled"}') == 0, "a replica that no longer leads knows no nodes"


def test_writes_nothing_when_nothing_is_missing(fake: FakeApi, running: Running) -> None:
    """A labelled node that changes is looked at, not written."""
    fake.put_node("lab-general-a-1", {"workload-type": "general"})
    fake.put_node("lab-general-a-1", {"workload-type": "general", "x": "y"})
    until(lambda: running.metric('node_labeler_nodes{state="labelled"}') == 1)
    assert fake.writes() == []


def test_never_overwrites(fake: FakeApi, running: Running) -> None:
    """Another value stays, and one Event tells of it, whatever else changes on the node."""
    for number in range(3):
        fake.put_node("lab-general-a-1", {"workload-type": "database", "n": str(number)})
    until(lambda: fake.events)
    fake.put_node("lab-general-a-2")
    until(lambda: fake.label("lab-general-a-2") == "general")
    assert fake.label("lab-general-a-1") == "database"
    assert len(fake.events) == 1
    event = fake.events[0]
    assert event["involvedObject"]["name"] == "lab-general-a-1"
    assert event["reason"] == "PoolLabelMismatch"
    assert "'database'" in event["message"] and "'general'" in event["message"]


def test_the_next_leader_repeats_no_event(fake: FakeApi, running: Running) -> None:
    """An Event that is there already is not one more failure."""
    fake.put_node("lab-general-a-1", {"workload-type": "database"})
    until(lambda: fake.events)
    with Running(fake) as second:
        until(lambda: second.metric('node_labeler_nodes{state="mismatch"}') == 1)
        assert second.metric('node_labeler_errors_total{reason="AlreadyExists"}') == 0
    assert len(fake.events) == 1


def test_a_label_set_in_between_wins(fake: FakeApi) -> None:
    """The patch names the version that was looked at, so another's label is refused to be overwritten."""
    labeler = Running(fake)
    seen = fake.put_node("lab-general-a-1")
    fake.put_node("lab-general-a-1", {"workload-type": "database"})
    labeler.labeler.handle(seen)
    assert fake.label("lab-general-a-1") == "database"
    assert labeler.metric('node_labeler_patches_total{result="conflict"}') == 1


def test_a_node_that_is_gone(fake: FakeApi) -> None:
    """A node deleted since it was listed is no failure."""
    labeler = Running(fake)
    seen = fake.put_node("lab-general-a-1")
    fake.delete_node("lab-general-a-1")
    labeler.labeler.handle(seen)
    assert labeler.metric('node_labeler_patches_total{result="error"}') == 0


def test_without_the_lease_nothing_is_written(fake: FakeApi, running: Running) -> None:
    """A replica that lost its lease a moment ago sees the event, and leaves it to the other one."""
    running.leading = False
    fake.put_node("lab-general-a-1")
    fake.put_node("lab-general-a-2", {"workload-type": "database"})
    until(lambda: running.metric('node_labeler_nodes{state="mismatch"}') == 1)
    assert fake.writes() == []


def test_a_version_that_was_forgotten(fake: FakeApi, running: Running) -> None:
    """410 in a running watch: the nodes are listed again, and nothing is missed."""
    watcher = fake.watchers[0]
    with fake.lock:
        fake.forget()
        fake.put_node("lab-general-a-1")
    until(lambda: fake.label("lab-general-a-1") == "general")
    assert running.metric('node_labeler_errors_total{reason="Expired"}') == 1
    until(lambda: fake.watchers and fake.watchers[0] is not watcher)


def test_a_watch_that_ends_begins_again_at_its_last_version(fake: FakeApi, running: Running) -> None:
    """Also a bookmark moves the version, so an idle watch need not list again."""
    fake.put_node("lab-general-a-1", {"workload-type": "general"})
    fake.bookmark()
    version = str(fake.version)
    until(lambda: running.metric('node_labeler_nodes{state="labelled"}') == 1)
    fake.end_watches()
    until(lambda: len([call for call in fake.calls if call[0] == "WATCH"]) == 2)
    assert f"resourceVersion={version}&" in [call for call in fake.calls if call[0] == "WATCH"][1][1]
    assert len([call for call in fake.calls if call[1] == "/api/v1/nodes"]) == 1
    assert running.metric("node_labeler_watch_restarts_total") == 1


def test_an_outage_is_waited_for(fake: FakeApi) -> None:
    """List, watch and patch refused for a while: the label comes all the same."""
    fake.put_node("lab-general-a-1")
    fake.fail("GET", "/api/v1/nodes", 503, times=3)
    fake.fail("PATCH", "lab-general-a-1", 500, times=2)
    with Running(fake) as labeler:
        until(lambda: fake.label("lab-general-a-1") == "general")
        assert labeler.metric('node_labeler_errors_total{reason="Planned503"}') == 3
        assert labeler.metric('node_labeler_patches_total{result="error"}') == 2


def test_one_refused_node_does_not_hold_up_the_others(fake: FakeApi) -> None:
    """A webhook that refuses one node, for example."""
    fake.put_node("lab-general-a-1")
    fake.put_node("lab-general-a-2")
    fake.fail("PATCH", "lab-general-a-1", 403, times=1000)
    with Running(fake):
        until(lambda: fake.label("lab-general-a-2") == "general")
        fake.failures.clear()
        until(lambda: fake.label("lab-general-a-1") == "general")


def test_dry_run(fake: FakeApi) -> None:
    """The API judges the request once, and stores nothing."""
    fake.put_node("lab-general-a-1")
    fake.put_node("lab-general-a-2", {"workload-type": "database"})
    with Running(fake, dataclasses.replace(CONFIG, dry_run=True)) as labeler:
        until(lambda: fake.watchers)
        fake.put_node("lab-general-a-1", {"x": "y"})
        fake.bookmark()
        until(lambda: not fake.watchers[0].qsize())
        until(lambda: labeler.metric('node_labeler_nodes{state="missing"}') == 1)
    assert [call[1] for call in fake.writes()] == ["/api/v1/nodes/lab-general-a-1?dryRun=All"]
    assert fake.label("lab-general-a-1") is None
    assert fake.events == []


def test_the_token_is_read_anew(fake: FakeApi, running: Running) -> None:
    """The kubelet renews it, and the API refuses the old one."""
    fake.set_token("second")
    fake.put_node("lab-general-a-1")
    until(lambda: fake.label("lab-general-a-1") == "general")


def test_another_ca_is_refused(fake: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server that cannot prove itself never sees the token."""
    from ansible_collections.harvester_rke2.platform.tests.unit.node_labeler.conftest import self_signed

    stranger, _ = self_signed(tmp_path_factory.mktemp("stranger"))
    (fake.account / "ca.crt").write_bytes(stranger.read_bytes())
    with pytest.raises(ApiError, match="certificate verify failed") as caught:
        Api("127.0.0.1", fake.port, fake.account).request("GET", "/api/v1/nodes")
    assert caught.value.status == 0
    assert fake.calls == []


def test_nobody_listens(fake: FakeApi) -> None:
    """No connection is an ApiError too, so that every loop waits and tries again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ApiError, match=r"GET /api/v1/nodes: .*refused"):
        Api("127.0.0.1", port, fake.account).request("GET", "/api/v1/nodes")


def test_silence_ends_a_watch(fake: FakeApi) -> None:
    """A connection that died without a word is not waited for for ever."""
    began = time.monotonic()
    events = Api("127.0.0.1", fake.port, fake.account).watch("/api/v1/nodes", {"resourceVersion": "100"}, silence=0.2)
    assert list(events) == []
    assert time.monotonic() - began < 2


def test_refusals_carry_the_servers_words(fake: FakeApi) -> None:
    """Reason, message and the wait that the server asks for."""
    fake.fail("GET", "/api/v1/nodes", 429, headers={"Retry-After": "7"})
    with pytest.raises(ApiError) as caught:
        Api("127.0.0.1", fake.port, fake.account).request("GET", "/api/v1/nodes")
    assert (caught.value.status, caught.value.reason, caught.value.retry_after) == (429, "Planned429", 7.0)
    assert str(caught.value) == "GET /api/v1/nodes: refused (HTTP 429)"
    assert Backoff(0.01, 0.05).next(caught.value) == 7.0


def test_backoff_grows_to_its_limit_and_begins_anew() -> None:
    """Never more than the longest pause, never the same for all replicas."""
    backoff = Backoff(1.0, 8.0)
    pauses = [backoff.next() for _ in range(40)]
    for pause, full in zip(pauses, [1.0, 2.0, 4.0, 8.0, *[8.0] * 36], strict=True):
        assert full / 2 <= pause <= full
    backoff.reset()
    assert backoff.next() <= 1.0


def test_log_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, whatever is in it."""
    controller.log("info", "two\nlines", node='a"b', pools=("x", "y"))
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    written = json.loads(line)
    assert (written["msg"], written["node"], written["pools"]) == ("two\nlines", 'a"b', ["x", "y"])
    assert written["time"].endswith("Z")
