# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The leader's work against an API server and a Prometheus: what grows, what does not, and what is said about it."""

from __future__ import annotations

import datetime
import json
import threading
import time
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.unit.storage_autoscaler.fakes import (
    GIB,
    FakePrometheus,
    FakeStorageApi,
)
from ansible_collections.harvester_rke2.platform.tests.unit.storage_autoscaler.settings import ENVIRONMENT, settings
from ansible_collections.harvester_rke2.platform.tests.unit.waiting import until
from controller import Api, ApiError, Backoff, Health, Metrics, Replica
from policies import Config
from storage_autoscaler import Autoscaler, declare
from usage import Prometheus, PrometheusError
from volumes import GROWTHS


class Running:
    """An autoscaler, round by round."""

    def __init__(self, fake: FakeStorageApi, prometheus: FakePrometheus, **more: Any) -> None:
        config = Config.from_object(settings(prometheus.url, **more), Replica.from_environment(ENVIRONMENT))
        self.metrics = Metrics()
        declare(self.metrics, config)
        self.leading = True
        self.health = Health()
        api = Api("127.0.0.1", fake.port, fake.account, timeout=5.0)
        source = Prometheus(prometheus.url, timeout=2.0)
        self.autoscaler = Autoscaler(api, source, config, self.metrics, self.health, lambda: self.leading)
        self.round = self.autoscaler.round

    def metric(self, line: str) -> float | None:
        """The value of the metric whose line begins so; None if there is none."""
        begin = f"storage_autoscaler_{line} "
        values = [text.rpartition(" ")[2] for text in self.metrics.render().splitlines() if text.startswith(begin)]
        return float(values[0]) if values else None

    def state(self) -> list[str]:
        """The states in which there are PVCs."""
        lines = [line.split('"') for line in self.metrics.render().splitlines() if "autoscaler_pvcs{" in line]
        return [line[1] for line in lines if not line[2].endswith(" 0")]


@pytest.fixture
def running(fake: FakeStorageApi, prometheus: FakePrometheus) -> Running:
    """One with the usual settings."""
    return Running(fake, prometheus)


def ago(**past: float) -> str:
    """A moment in the past."""
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(**past)).isoformat()


def remember(claim: dict[str, Any], *times: str, before: int = 10, after: int = 15) -> None:
    """Let an object remember growths."""
    growths = [{"at": at, "fromBytes": before * GIB, "toBytes": after * GIB} for at in times]
    claim["metadata"]["annotations"] = {GROWTHS: json.dumps(growths)}


SERIES = '{namespace="monitoring",pvc="data-0"}'


def test_a_full_volume_grows_once(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """By its step, with its memory in the same write, an Event, and then not again in the cool-down."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.85)
    running.round()
    assert fake.size("data-0") == "15Gi"
    [(target, body)] = fake.patches()
    assert target.endswith("/monitoring/persistentvolumeclaims/data-0?fieldManager=storage-autoscaler&force=true")
    assert body["spec"] == {"resources": {"requests": {"storage": "15Gi"}}}
    assert sorted(body["metadata"]) == ["annotations", "name", "namespace", "resourceVersion"]
    [growth] = json.loads(body["metadata"]["annotations"][GROWTHS])
    assert (growth["fromBytes"], growth["toBytes"]) == (10 * GIB, 15 * GIB)
    [event] = fake.events
    assert (event["type"], event["reason"], event["involvedObject"]["name"]) == ("Normal", "StorageExpanded", "data-0")
    assert event["message"] == "Asked for 15 GiB instead of 10 GiB: 85% are used."
    # Not there yet; then there, but Prometheus does not know; then full again.
    for full in (lambda: None, fake.resize, lambda: prometheus.put("data-0", 0.95, 15)):
        full()
        running.round()
        assert fake.size("data-0") == "15Gi"
    assert running.state() == ["cooldown"]
    assert len(fake.patches()) == 1
    assert running.metric('expansions_total{namespace="monitoring",pvc="data-0",result="success"}') == 1
    assert running.metric("pvc_usage_ratio" + SERIES) == 0.95
    assert running.metric("day_growth_bytes") == 5 * GIB
    assert running.metric("prometheus_up") == 1
    assert (running.metric("last_run_timestamp_seconds") or 0) > time.time() - 5


def test_a_restart_forgets_nothing(fake: FakeStorageApi, prometheus: FakePrometheus) -> None:
    """The cool-down is on the volume: another replica, or the same one after a restart, keeps it."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.85)
    Running(fake, prometheus).round()
    fake.resize()
    prometheus.put("data-0", 0.85, 15)
    other = Running(fake, prometheus)
    other.round()
    assert (fake.size("data-0"), other.state()) == ("15Gi", ["cooldown"])


def test_two_leaders_at_once(fake: FakeStorageApi, prometheus: FakePrometheus) -> None:
    """Who has read the volume before the other wrote it loses: the size was raised once."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.85)
    one, two = Running(fake, prometheus), Running(fake, prometheus)
    answer = fake.answer
    raced: list[bool] = []

    def interleaved(method: str, target: str, body: dict[str, Any] | None) -> dict[str, Any]:
        if method == "PATCH" and not raced:
            raced.append(True)
            two.round()
        return answer(method, target, body)

    fake.answer = interleaved  # type: ignore[method-assign]
    one.round()
    assert fake.size("data-0") == "15Gi"
    assert one.state() == ["later"]
    assert one.metric('expansions_total{namespace="monitoring",pvc="data-0",result="conflict"}') == 1
    assert two.metric('expansions_total{namespace="monitoring",pvc="data-0",result="success"}') == 1
    assert len(fake.events) == 1


@pytest.mark.parametrize(
    ("hours", "size"),
    [
        ((0.48,), "10Gi"),
        ((0.52,), "15Gi"),
        # The third of a day is followed by six hours.
        ((8, 6, 4), "10Gi"),
        ((20, 10, 7), "15Gi"),
        ((30, 28, 1), "15Gi"),
        # A clock that was wrong.
        ((-0.1,), "10Gi"),
    ],
)
def test_the_cool_down(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running, hours: tuple[float, ...], size: str
) -> None:
    """Half an hour, and six hours after three growths in a day."""
    # Not when the tests are collected: the first of them may run minutes later.
    remember(fake.put_claim("data-0"), *(ago(hours=number) for number in hours))
    prometheus.put("data-0", 0.85)
    running.round()
    assert fake.size("data-0") == size


def test_the_memory_is_kept_short(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """What is older than a day does not matter any more."""
    remember(fake.put_claim("data-0"), ago(hours=30), ago(hours=2))
    prometheus.put("data-0", 0.85)
    running.round()
    annotations = fake.claims["monitoring", "data-0"]["metadata"]["annotations"]
    assert len(json.loads(annotations[GROWTHS])) == 2


def test_below_the_threshold_nothing_is_written(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running
) -> None:
    """And what no policy names is not even looked at."""
    fake.put_claim("data-0")
    fake.put_claim("other")
    fake.put_claim("data-0", namespace="default")
    for namespace, name, ratio in (
        ("monitoring", "data-0", 0.79),
        ("monitoring", "other", 0.99),
        ("default", "data-0", 0.99),
    ):
        prometheus.put(name, ratio, namespace=namespace)
    running.round()
    assert fake.writes() == []
    assert running.state() == ["ok"]
    assert running.metric('pvc_usage_ratio{namespace="monitoring",pvc="other"}') is None


def test_full_of_inodes(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """A larger filesystem has more of them."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.1, inodes_used=900.0)
    running.round()
    assert fake.size("data-0") == "15Gi"


def test_at_the_maximum(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """It stays, and one Event and a metric tell of it; beyond the maximum it does not shrink."""
    fake.put_claim("data-0", 40)
    fake.put_claim("data-1", 60)
    prometheus.put("data-0", 0.9, 40)
    prometheus.put("data-1", 0.9, 60)
    running.round()
    running.round()
    assert (fake.size("data-0"), fake.size("data-1")) == ("40Gi", "60Gi")
    assert running.metric("pvc_limit_reached" + SERIES) == 1
    assert running.metric('blocked_total{reason="limit"}') == 4
    assert [event["reason"] for event in fake.events] == ["StorageLimitReached"] * 2
    assert "it has 40 GiB, and its policy's maximum is 40 GiB. Raise maximum_gib" in fake.events[0]["message"]
    prometheus.put("data-0", 0.5, 40)
    running.round()
    assert running.metric("pvc_limit_reached" + SERIES) == 0


STALE = [{"age": 700.0}, {"samples": 1.0}, {"capacity": 0.0}, {"used": float("nan")}]


@pytest.mark.parametrize("spoilt", STALE)
def test_stale_data_grows_nothing(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running, spoilt: dict[str, float]
) -> None:
    """Old values, a single one, or none that makes sense."""
    fake.put_claim("data-0")
    series = prometheus.put("data-0", 0.99)
    for name, value in spoilt.items():
        setattr(series, name, value)
    running.round()
    assert fake.writes() == []
    assert running.state() == ["stale"]
    assert running.metric("pvc_usage_ratio" + SERIES) is None


def failing(kind: str) -> dict[str, Any]:
    """A condition that holds."""
    return {
        "conditions": [{"type": kind, "status": "True", "message": "no room", "lastTransitionTime": ago(minutes=1)}]
    }


CASES: list[tuple[dict[str, Any], str]] = [
    ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "deleting"),
    ({"status": {"phase": "Pending"}}, "not_bound"),
    ({"status": {"phase": "Lost"}}, "not_bound"),
    ({"spec": {"storageClassName": "fixed"}}, "not_expandable"),
    ({"spec": {"storageClassName": "gone"}}, "not_expandable"),
    ({"spec": {"storageClassName": None}}, "not_expandable"),
    ({"status": failing("Resizing")}, "resizing"),
    ({"status": failing("FileSystemResizePending")}, "resizing"),
    ({"status": {"allocatedResourceStatuses": {"storage": "NodeResizeInProgress"}}}, "resize_stuck"),
    ({"status": failing("ControllerResizeError")}, "resize_failed"),
    ({"status": failing("NodeResizeError")}, "resize_failed"),
    ({"status": {"allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"}}}, "resize_failed"),
    ({"status": {"capacity": {"storage": "8Gi"}}}, "resize_stuck"),
    ({"status": {"capacity": {"storage": "13Gi"}}}, "resize_stuck"),
    ({"metadata": {"annotations": {GROWTHS: "yesterday"}}}, "unreadable"),
    ({"metadata": {"annotations": {GROWTHS: '[{"at": "2026-01-01T00:00:00"}]'}}}, "unreadable"),
    ({"metadata": {"annotations": {GROWTHS: "{}"}}}, "grow"),
    ({"spec": {"resources": {"requests": {"storage": "much"}}}}, "unreadable"),
]


@pytest.mark.parametrize(("change", "state"), CASES)
def test_volumes_that_must_not_grow(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running, change: dict[str, Any], state: str
) -> None:
    """Each for its own reason, which the metric names."""
    claim = fake.put_claim("data-0")
    for part, values in change.items():
        claim[part].update(values)
    prometheus.put("data-0", 0.99)
    running.round()
    assert running.state() == [state]
    assert bool(fake.patches()) is (state == "grow")
    blocked = state in ("not_expandable", "resize_failed", "resize_stuck", "unreadable")
    assert [event["reason"] for event in fake.events if event["type"] == "Warning"] == [
        "StorageExpansionBlocked"
    ] * blocked
    if blocked:
        assert running.metric(f'blocked_total{{reason="{state}"}}') == 1


def test_a_growth_that_does_not_arrive(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """It is waited for a while, then spoken of; and never asked for again on top."""
    claim = fake.put_claim("data-0", 15)
    claim["status"]["capacity"]["storage"] = "10Gi"
    prometheus.put("data-0", 0.99)
    remember(claim, ago(minutes=10))
    running.round()
    assert running.state() == ["resizing"]
    remember(claim, ago(minutes=100))
    running.round()
    assert running.state() == ["resize_stuck"]
    assert fake.patches() == []


def test_a_day_has_its_cap(fake: FakeStorageApi, prometheus: FakePrometheus) -> None:
    """All volumes together; the fullest come first; what the volumes remember counts after a restart too."""
    for name, ratio in (("data-0", 0.85), ("data-1", 0.95), ("data-2", 0.90)):
        fake.put_claim(name)
        prometheus.put(name, ratio)
    running = Running(fake, prometheus, daily_gib=11)
    running.round()
    assert [fake.size(f"data-{number}") for number in range(3)] == ["10Gi", "15Gi", "15Gi"]
    assert running.metric('blocked_total{reason="daily_cap"}') == 1
    fake.resize()
    again = Running(fake, prometheus, daily_gib=11)
    again.round()
    assert fake.size("data-0") == "10Gi"
    assert again.metric("day_growth_bytes") == 10 * GIB


def test_without_the_lease_nothing_is_written(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running
) -> None:
    """A replica that lost its lease a moment ago leaves it to the other one."""
    fake.put_claim("data-0")
    fake.put_claim("data-1", 40)
    prometheus.put("data-0", 0.9)
    prometheus.put("data-1", 0.9, 40)
    running.leading = False
    running.round()
    assert fake.writes() == []


def test_dry_run(fake: FakeStorageApi, prometheus: FakePrometheus) -> None:
    """The API judges it once, and stores nothing."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.85)
    running = Running(fake, prometheus, dry_run=True)
    running.round()
    running.round()
    [(target, _)] = fake.patches()
    assert target.endswith("&dryRun=All")
    assert (fake.size("data-0"), fake.events) == ("10Gi", [])
    assert running.metric('expansions_total{namespace="monitoring",pvc="data-0",result="dry_run"}') == 1


def test_a_refused_write_is_not_repeated_at_once(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running
) -> None:
    """A quota, for example; the other volumes grow all the same."""
    for name in ("data-0", "data-1"):
        fake.put_claim(name)
        prometheus.put(name, 0.85)
    fake.fail("PATCH", "data-0", 403, times=9)
    running.round()
    running.round()
    assert (fake.size("data-0"), fake.size("data-1")) == ("10Gi", "15Gi")
    assert len([target for target, _ in fake.patches() if "data-0" in target]) == 1
    assert running.metric('blocked_total{reason="refused"}') == 2
    assert running.metric('expansions_total{namespace="monitoring",pvc="data-0",result="error"}') == 1
    assert [event["involvedObject"]["name"] for event in fake.events if event["type"] == "Warning"] == ["data-0"]


def test_a_volume_that_is_gone(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """A PVC deleted since it was listed is no failure, and is not made anew."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.85)
    fake.fail("PATCH", "data-0", 404)
    running.round()
    assert running.state() == ["later"]
    assert running.metric('errors_total{reason="Planned404"}') is None


def test_an_event_that_fails_is_no_failure(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """The volume has grown."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.85)
    fake.fail("POST", "/events", 500)
    running.round()
    assert fake.size("data-0") == "15Gi"
    assert running.metric('errors_total{reason="Planned500"}') == 1


def test_a_postgresql_cluster_grows_as_one(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """In its Cluster, once for all of its volumes; the operator does the rest."""
    cluster = fake.put_cluster("app-pg")
    for number, ratio in ((1, 0.5), (2, 0.85), (3, 0.9)):
        prometheus.put(f"app-pg-{number}", ratio, namespace="database")
    running.round()
    assert cluster["spec"]["storage"]["size"] == "15Gi"
    assert len(fake.patches()) == 1 and "/clusters/app-pg?" in fake.patches()[0][0]
    assert [event["involvedObject"]["name"] for event in fake.events] == ["app-pg-3"]
    assert running.metric("day_growth_bytes") == 15 * GIB
    # The operator has not come to it yet, then it has.
    running.round()
    assert running.state() == ["resizing"]
    fake.resize()
    for number in (1, 2, 3):
        prometheus.put(f"app-pg-{number}", 0.9, 15, namespace="database")
    running.round()
    assert running.state() == ["cooldown"]
    assert len(fake.patches()) == 1
    remember(cluster, ago(hours=1))
    running.round()
    assert cluster["spec"]["storage"]["size"] == "20Gi"
    assert fake.size("app-pg-1", "database") == "15Gi", "the PVC is the operator's"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"storage": {"size": "10Gi", "resizeInUseVolumes": False}}, "unsupported"),
        ({"storage": {"pvcTemplate": {}}}, "unsupported"),
        (None, "unsupported"),
    ],
)
def test_clusters_that_cannot_grow(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running, change: dict[str, Any] | None, state: str
) -> None:
    """Their volumes are never changed behind the operator's back."""
    cluster = fake.put_cluster("app-pg", instances=1)
    if change is None:
        fake.clusters.clear()
    else:
        cluster["spec"].update(change)
    prometheus.put("app-pg-1", 0.9, namespace="database")
    running.round()
    assert running.state() == [state]
    assert fake.patches() == []


def test_the_write_ahead_log_has_a_size_of_its_own(
    fake: FakeStorageApi, prometheus: FakePrometheus, running: Running
) -> None:
    """Its volumes grow apart from the data's; a tablespace is not known."""
    cluster = fake.put_cluster("app-pg", instances=1)
    cluster["spec"]["walStorage"] = {"size": "10Gi"}
    for name, role in (("app-pg-1-wal", "PG_WAL"), ("app-pg-1-tbs", "PG_TABLESPACE")):
        claim = fake.put_claim(name, namespace="database")
        claim["metadata"]["labels"] = {"cnpg.io/cluster": "app-pg", "cnpg.io/pvcRole": role}
        prometheus.put(name, 0.9, namespace="database")
    prometheus.put("app-pg-1", 0.1, namespace="database")
    running.round()
    assert cluster["spec"]["walStorage"]["size"] == "15Gi"
    assert cluster["spec"]["storage"]["size"] == "10Gi"
    assert sorted(running.state()) == ["grow", "ok", "unsupported"]


def test_prometheus_is_down(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """Nothing happens, the metric says so, and what was known before is known no longer."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.5)
    running.round()
    prometheus.put("data-0", 0.9)
    prometheus.down = 503
    with pytest.raises(PrometheusError, match="HTTP 503"):
        running.round()
    assert fake.writes() == []
    assert running.metric("prometheus_up") == 0
    assert running.metric("prometheus_query_failures_total") == 1
    assert running.metric("pvc_usage_ratio" + SERIES) is None
    assert running.state() == []
    prometheus.down = None
    running.round()
    assert (running.metric("prometheus_up"), fake.size("data-0")) == (1, "15Gi")


def test_a_list_that_fails_grows_nothing(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """What another namespace has grown by today is then unknown."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.9)
    fake.fail("GET", "/database/persistentvolumeclaims", 503)
    with pytest.raises(ApiError):
        running.round()
    assert fake.writes() == []


def test_outages_are_waited_for(fake: FakeStorageApi, prometheus: FakePrometheus, running: Running) -> None:
    """The whole loop: first Prometheus is away, then the API, and then it grows."""
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.9)
    prometheus.down = 503
    fake.fail("GET", "/storageclasses", 503, times=3)
    config = running.autoscaler._config
    object.__setattr__(config, "interval_seconds", 0.02)
    running.autoscaler._backoff = Backoff(0.01, 0.05)
    ended = threading.Event()
    thread = threading.Thread(target=running.autoscaler.run, args=(ended,), daemon=True)
    thread.start()
    until(lambda: (running.metric("prometheus_query_failures_total") or 0) >= 2)
    assert fake.writes() == []
    prometheus.down = None
    until(lambda: fake.size("data-0") == "15Gi")
    assert running.metric('errors_total{reason="Planned503"}') == 3
    ended.set()
    thread.join(5)
    assert not thread.is_alive()
    assert running.metric("pvc_usage_ratio" + SERIES) is None, "a replica that no longer leads knows no volumes"
    assert running.metric("prometheus_up") is None
    assert running.health.stuck() == []
