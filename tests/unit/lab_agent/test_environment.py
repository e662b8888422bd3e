# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Environment, fields and quantities as the kubelet resolves them."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from lab.agent import environment
from lab.agent.environment import ContainerConfigError
from lab.kube import Object

POD: Object = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"a/b": 'x"y', "c": "d"},
        "annotations": {"k": "v"},
    },
    "spec": {
        "nodeName": "node",
        "serviceAccountName": "sa",
        "containers": [{"name": "other", "resources": {"limits": {"cpu": "1500m"}}}],
    },
}
SECRET = {"kind": "Secret", "data": {"key": base64.b64encode(b"s3cret").decode(), "N": base64.b64encode(b"n").decode()}}
CONFIG = {"kind": "ConfigMap", "data": {"one": "1"}, "binaryData": {"two": base64.b64encode(b"2").decode()}}


async def read(plural: str, name: str) -> Object | None:
    return {("secrets", "s"): SECRET, ("configmaps", "c"): CONFIG}.get((plural, name))


def resolve(container: Object, **base: str) -> dict[str, str]:
    addresses = {"status.podIP": "198.18.128.2", "status.hostIP": "198.18.0.10"}
    return asyncio.run(environment.resolve(POD, container, base, read, addresses, {"memory": "2Gi"}))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$()", "$()"),
    ],
)
def test_expansion_knows_only_round_brackets(text: str, expanded: str) -> None:
    assert environment.expand(text, {"A": "1"}) == expanded


def test_values_come_in_order_and_may_name_those_before() -> None:
    env = [
        {"name": "A", "value": "a"},
        {"name": "B", "value": "$(A)$(one)$(C)"},
        {"name": "C", "value": "c"},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
        {"name": "ONE", "value": "late"},
    ]
    seen = resolve(
        {"env": env, "envFrom": [{"configMapRef": {"name": "c"}}, {"prefix": "S_", "secretRef": {"name": "s"}}]},
        ONE="early",
    )
    assert seen["B"] == "a1$(C)" and seen["S"] == "s3cret" and seen["IP"] == "198.18.128.2"
    assert seen["L"] == 'x"y' and seen["two"] == "2" and seen["S_N"] == "n" and seen["ONE"] == "late"


def test_what_is_missing_is_named_unless_optional() -> None:
    def one(**reference: Any) -> dict[str, str]:
        return resolve({"env": [{"name": "X", "valueFrom": {"secretKeyRef": reference}}]})

    with pytest.raises(ContainerConfigError, match='secret "gone" not found'):
        one(name="gone", key="k")
    with pytest.raises(ContainerConfigError, match="couldn't find key nope in Secret n/s"):
        one(name="s", key="nope")
    assert "X" not in one(name="gone", key="k", optional=True) and "X" not in one(name="s", key="nope", optional=True)
    with pytest.raises(ContainerConfigError, match='configmap "gone" not found'):
        resolve({"envFrom": [{"configMapRef": {"name": "gone"}}]})


def test_resources_are_rounded_up_and_default_to_the_node() -> None:
    container = {"resources": {"limits": {"cpu": "250m"}, "requests": {"memory": "100Mi"}}}

    def value(**reference: str) -> str:
        return environment.resource_value(POD, container, reference, {"memory": "2Gi"})

    assert value(resource="limits.cpu") == "1"
    assert value(resource="limits.cpu", divisor="1m") == "250"
    assert value(resource="requests.memory", divisor="1Mi") == "100"
    assert value(resource="limits.memory", divisor="1Gi") == "2"
    assert value(resource="requests.cpu", divisor="1m") == "250"
    assert value(resource="limits.cpu", containerName="other", divisor="1m") == "1500"


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("1500m", 1.5), ("2Ki", 2048), ("1G", 1e9), ("1e3", 1000)])
def test_quantities(text: str, number: float) -> None:
    assert float(environment.quantity(text)) == number


def test_a_bad_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="not a quantity: 1XB"):
        environment.quantity("1XB")


def test_labels_as_a_file_are_quoted() -> None:
    assert environment.field_value(POD, "metadata.labels", {}) == 'a/b="x\\"y"\nc="d"\n'
    assert environment.field_value(POD, "spec.serviceAccountName", {}) == "sa"


def test_services_become_variables_but_headless_ones() -> None:
    ports = [{"name": "web-ui", "port": 80}, {"name": "other", "port": 81, "protocol": "UDP"}]
    services: list[Object] = [
        {"metadata": {"name": "my-app"}, "spec": {"clusterIP": "198.19.0.9", "ports": ports}},
        {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": ports}},
    ]
    seen = environment.service_variables(services)
    assert seen["MY_APP_SERVICE_HOST"] == "198.19.0.9" and seen["MY_APP_SERVICE_PORT_WEB_UI"] == "80"
    assert seen["MY_APP_PORT"] == "tcp://198.19.0.9:80" and seen["MY_APP_PORT_81_UDP_PROTO"] == "udp"
    assert not any(name.startswith("HEADLESS") for name in seen)
