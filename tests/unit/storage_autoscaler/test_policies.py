# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What the settings may say, sizes, and how usage is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.unit.storage_autoscaler.fakes import FakePrometheus
from ansible_collections.harvester_rke2.platform.tests.unit.storage_autoscaler.settings import ENVIRONMENT, settings
from controller import Replica
from policies import GIB, Config, Policy, size_of
from usage import Prometheus, PrometheusError, Usage


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10Gi", 10 * GIB),
        ("512Mi", GIB // 2),
        ("1.5Gi", 3 * GIB // 2),
        ("1G", 10**9),
        ("10737418240", 10 * GIB),
        ("1e9", 10**9),
        (5, 5),
    ],
)
def test_sizes(text: object, size: int) -> None:
    """As Kubernetes writes them."""
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "ten", "10gi", "inf"])
def test_sizes_that_are_none(text: str) -> None:
    """They are refused, not guessed."""
    with pytest.raises(ValueError, match="is no quantity"):
        size_of(text)


@pytest.mark.parametrize(
    ("size", "maximum", "wanted"),
    [
        (10, 40, 15),
        (50, 200, 60),
        (200, 400, 240),
        (52, 200, 63),
        # Up to the maximum, and not a byte beyond.
        (38, 40, 40),
        (40, 40, None),
        (50, 40, None),
        # A growth of less than a whole GiB is none.
        (39.5, 40, None),
        (7.25, 40, 13),
    ],
)
def test_the_next_size(size: float, maximum: int, wanted: int | None) -> None:
    """The larger of both steps, in whole GiB."""
    policy = Policy("monitoring", "data", maximum, 80, 20, 5, 1800)
    assert policy.next_gib(int(size * GIB)) == wanted


def config(**more: Any) -> Config:
    """The configuration of the settings."""
    return Config.from_object(settings(**more), Replica.from_environment(ENVIRONMENT))


def test_the_first_policy_counts() -> None:
    """One that comes before is an exception to the one behind it."""
    first = {
        "namespace": "monitoring",
        "pvc": "data-loki-0",
        "maximum_gib": "7",
        "cooldown_seconds": 60,
        "step_gib": None,
    }
    read = config(policies=[first, *settings()["policies"]])
    found = read.policy_of("monitoring", "data-loki-0")
    assert found is not None and (found.maximum_gib, found.cooldown_seconds, found.step_gib) == (7, 60, 5)
    other = read.policy_of("monitoring", "data-prometheus-0")
    assert other is not None and other.maximum_gib == 40
    assert read.policy_of("default", "data-loki-0") is None
    assert read.policy_of("monitoring", "other") is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prometheus_url": "prometheus:9090"}, "must begin with http"),
        ({"interval_seconds": 0}, "interval_seconds is 0"),
        ({"daily_gib": "lots"}, "daily_gib is 'lots', but must be a whole number"),
        ({"dry_run": "no"}, "dry_run is 'no'"),
        ({"unknown": 1}, "unknown key unknown"),
        ({"policies": [{"namespace": "a", "pvc": "b"}]}, "the policy of a/b lacks maximum_gib"),
        ({"policies": [{"namespace": "a", "pvc": "b", "maximum_gib": 5, "max": 1}]}, "unknown key max"),
        ({"policies": [{"namespace": "a", "pvc": "b", "maximum_gib": True}]}, "maximum_gib is True"),
        ({"policies": [{"namespace": "a", "pvc": "b", "maximum_gib": 0}]}, "must be from 1"),
        ({"policies": [{"namespace": "a", "pvc": "b", "maximum_gib": 5, "threshold_percent": 100}]}, "from 1 to 99"),
        ({"policies": [{"namespace": "a", "pvc": "b", "maximum_gib": 5, "cooldown_seconds": 0}]}, "from 60"),
        ({"policies": [{"namespace": "", "pvc": "b", "maximum_gib": 5}]}, "must be named"),
    ],
)
def test_settings_that_cannot_be(more: dict[str, Any], message: str) -> None:
    """Each is refused with its name."""
    with pytest.raises(ValueError, match=message):
        config(**more)


def test_the_file(tmp_path: Path) -> None:
    """The whole way, as in the pod."""
    path = tmp_path / "policies.json"
    environment = {**ENVIRONMENT, "POLICIES": str(path)}
    with pytest.raises(ValueError, match="cannot be read"):
        Config.read(environment)
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds no object"):
        Config.read(environment)
    path.write_text(json.dumps(settings()))
    assert len(Config.read(environment).policies) == 2
    with pytest.raises(ValueError, match="the environment lacks POLICIES, POD_NAME"):
        Config.read({"POD_NAMESPACE": "x"})


GOOD = {"used": 8.0, "capacity": 10.0, "inodes_used": 1.0, "inodes": 100.0, "age": 30.0, "samples": 20.0}


@pytest.mark.parametrize(
    ("more", "usable"),
    [
        ({}, True),
        ({"age": 601.0}, False),
        ({"age": math.inf}, False),
        ({"samples": 1.0}, False),
        ({"used": math.nan}, False),
        ({"capacity": 0.0}, False),
        ({"inodes": math.nan}, True),
    ],
)
def test_what_may_be_acted_upon(more: dict[str, float], usable: bool) -> None:
    """Old, single or senseless values may not."""
    assert Usage(**{**GOOD, **more}).usable is usable


def test_inodes_count_as_bytes_do() -> None:
    """A filesystem without free inodes is full."""
    assert Usage(**GOOD).ratio == 0.8
    assert Usage(**{**GOOD, "inodes_used": 95.0}).ratio == 0.95
    assert Usage(**{**GOOD, "inodes_used": 95.0, "inodes": 0.0}).ratio == 0.8


def test_of_two_nodes_the_newest_counts(prometheus: FakePrometheus) -> None:
    """A pod that moved leaves a series behind."""
    prometheus.put("data-0", 0.99, 10, node="old", age=240.0)
    prometheus.put("data-0", 0.50, 15, node="new", age=15.0)
    usage = Prometheus(prometheus.url).usage()["monitoring", "data-0"]
    assert (usage.ratio, usage.capacity) == (0.5, 15 * GIB)
    assert len(prometheus.queries) == 3


@pytest.mark.parametrize(
    ("down", "answer"),
    [
        (503, None),
        (None, b"no JSON"),
        (None, {"status": "error", "error": "too many"}),
        (None, {"status": "success", "data": {"resultType": "matrix", "result": []}}),
        (None, {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}),
        (None, []),
    ],
)
def test_answers_that_are_none(prometheus: FakePrometheus, down: int | None, answer: Any) -> None:
    """Every one is the same failure to the caller."""
    prometheus.down, prometheus.answer = down, answer
    with pytest.raises(PrometheusError, match=prometheus.url):
        Prometheus(prometheus.url).usage()
