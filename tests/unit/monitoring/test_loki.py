# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Loki's configuration, held against what 3.6 needs to keep logs for a week and no longer: there is no Loki here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import Play, rendered

Objects = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def objects(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    found = rendered(play, tmp_path_factory.mktemp("loki"), "harvester_rke2.platform.loki")
    return {(document["kind"], document["metadata"]["name"]): document for _service, document in found}


@pytest.fixture(scope="module")
def config(objects: Objects) -> dict[str, Any]:
    return dict(yaml.safe_load(objects["ConfigMap", "loki"]["data"]["loki.yaml"]))


def paths(value: Any) -> Iterator[str]:
    """All that is a path in a configuration."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner)
    elif isinstance(value, str) and value.startswith("/"):
        yield value


def test_its_parts_are_those_that_loki_has(config: dict[str, Any]) -> None:
    """Loki refuses an unknown key."""
    assert config.keys() == {
        *("auth_enabled", "server", "common", "schema_config", "ingester", "compactor", "limits_config", "analytics")
    }
    assert config["limits_config"].keys() == {
        *("retention_period", "reject_old_samples", "reject_old_samples_max_age", "ingestion_rate_mb"),
        *("ingestion_burst_size_mb", "max_global_streams_per_user", "allow_structured_metadata", "volume_enabled"),
    }


def test_old_logs_are_deleted(config: dict[str, Any]) -> None:
    """``retention_period`` alone deletes nothing; retention wants an index of a day and a store for its requests."""
    assert config["limits_config"]["retention_period"] == "168h"
    compactor = config["compactor"]
    assert compactor["retention_enabled"] is True and compactor["delete_request_store"] == "filesystem"
    for period in config["schema_config"]["configs"]:
        assert (period["store"], period["schema"], period["index"]["period"]) == ("tsdb", "v13", "24h")
        assert period["object_store"] == compactor["delete_request_store"]


def test_everything_is_written_to_the_volume(config: dict[str, Any], objects: Objects) -> None:
    spec = objects["StatefulSet", "loki"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    [volume] = [volume for volume in spec["template"]["spec"]["volumes"] if "persistentVolumeClaim" in volume]
    claim = objects["PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]]
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"
    written = list(paths(config))
    assert len(written) == 5 and all(path.startswith(mounts[volume["name"]]) for path in written)


def test_a_start_after_a_crash_stays_below_the_limit(config: dict[str, Any], objects: Objects) -> None:
    [container] = objects["StatefulSet", "loki"]["spec"]["template"]["spec"]["containers"]
    assert (config["ingester"]["wal"]["replay_memory_ceiling"], container["resources"]["limits"]["memory"]) == (
        "1GB",
        "2Gi",
    )


def test_nobody_outside_hears_of_it(config: dict[str, Any]) -> None:
    assert config["analytics"] == {"reporting_enabled": False}


def test_the_services_lead_to_its_ports(config: dict[str, Any], objects: Objects) -> None:
    [container] = objects["StatefulSet", "loki"]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config["server"]["http_listen_port"], "grpc": config["server"]["grpc_listen_port"]}
    assert [port["port"] for port in objects["Service", "loki"]["spec"]["ports"]] == [3100]
    assert objects["StatefulSet", "loki"]["spec"]["serviceName"] == "loki-headless"
    assert objects["Service", "loki-headless"]["spec"]["clusterIP"] == "None"
