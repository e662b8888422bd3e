# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Field paths, ownership, and the proof that an apply would change nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _managed_fields as fields
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError

MANAGER = "me"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".spec.replicas", ("spec", "replicas")),
        ('.metadata.annotations["a.b/c"]', ("metadata", "annotations", "a.b/c")),
        ('.spec.containers[name="app"].image', ("spec", "containers", (("name", "app"),), "image")),
        (".spec.ports[port=80,protocol=TCP]", ("spec", "ports", (("port", 80), ("protocol", "TCP")))),
    ],
)
def test_paths_are_read(text: str, path: fields.Path) -> None:
    assert fields.parse(text) == path


@pytest.mark.parametrize("text", ["", "spec.replicas", ".spec..x", ".spec[", ".spec.x y["])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(PlatformError, match="Write it like"):
        fields.parse(text)


def test_a_path_is_written_as_the_api_server_writes_it() -> None:
    assert fields.written(fields.parse('.spec.containers[name="app"].image')) == '.spec.containers[name="app"].image'


def test_removing_a_field_takes_empty_parents_along_and_leaves_the_original() -> None:
    obj = {"spec": {"a": {"b": 1}, "items": [{"name": "x", "v": 1}, {"name": "y"}]}}
    before = copy.deepcopy(obj)
    assert fields.without(obj, fields.parse(".spec.a.b")) == {"spec": {"items": obj["spec"]["items"]}}
    assert fields.without(obj, fields.parse('.spec.items[name="x"].v'))["spec"]["items"][0] == {"name": "x"}
    assert fields.without(obj, fields.parse(".spec.nothing")) == before == obj


def test_only_builds_an_object_of_single_fields() -> None:
    obj = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n", "namespace": "s", "labels": {"a": "b"}}}
    live = {"spec": {"items": [{"name": "x", "v": 5, "w": 6}]}}
    made = fields.only(obj, live, [fields.parse('.spec.items[name="x"].v'), fields.parse(".spec.gone")])
    assert made["metadata"] == {"name": "n", "namespace": "s"}
    assert made["spec"] == {"items": [{"name": "x", "v": 5}]}


def live_object() -> dict[str, Any]:
    """As an API server answers: a port's protocol was defaulted, other managers own other fields."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "n",
            "labels": {"ours": "1", "theirs": "2"},
            "finalizers": ["a", "b"],
            "managedFields": [
                {
                    "manager": MANAGER,
                    "operation": "Apply",
                    "apiVersion": "v1",
                    "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:ours": {}}, "f:finalizers": {'v:"a"': {}}},
                        "f:spec": {
                            "f:selector": {},
                            "f:ports": {
                                'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}},
                                'k:{"port":90,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}},
                            },
                        },
                    },
                },
                {
                    "manager": "other",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "fieldsV1": {"f:spec": {"f:type": {}, "f:selector": {}}},
                },
            ],
        },
        "spec": {
            "type": "LoadBalancer",
            "selector": {"a": "b"},
            "ports": [
                {"name": "x", "port": 80, "protocol": "TCP", "nodePort": 30000},
                {"name": "y", "port": 90, "protocol": "TCP"},
            ],
        },
    }


def config() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "n", "labels": {"ours": "1"}, "finalizers": ["a"]},
        "spec": {"selector": {"a": "b"}, "ports": [{"name": "x", "port": 80}, {"name": "y", "port": 90}]},
    }


def test_the_same_configuration_is_proved_unchanged() -> None:
    assert fields.proves(config(), live_object(), MANAGER)


def change(path: list[Any], value: Any) -> dict[str, Any]:
    changed = config()
    node: Any = changed
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    "changed",
    [
        change(["metadata", "labels"], {"ours": "2"}),
        change(["metadata", "labels"], {"ours": "1", "more": "1"}),
        change(["metadata", "labels"], {}),
        change(["metadata", "finalizers"], ["a", "b"]),
        change(["metadata", "finalizers"], ["b"]),
        change(["spec", "selector"], {"a": "c"}),
        change(["spec", "type"], "LoadBalancer"),
        change(["spec", "ports", 0, "name"], "z"),
        change(["spec", "ports"], [{"name": "x", "port": 80}]),
        change(["spec", "ports"], [{"name": "y", "port": 90}, {"name": "x", "port": 80}]),
        change(["spec", "ports", 1, "port"], 91),
        change(["apiVersion"], "v2"),
    ],
)
def test_every_difference_asks_the_server(changed: dict[str, Any]) -> None:
    assert not fields.proves(changed, live_object(), MANAGER)


@pytest.mark.parametrize(
    ("path", "value"),
    [(["metadata", "labels", "ours"], "9"), (["spec", "selector"], {}), (["spec", "ports", 1, "name"], "drift")],
)
def test_drift_of_a_value_asks_the_server(path: list[Any], value: Any) -> None:
    live = live_object()
    node: Any = live
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    assert not fields.proves(config(), live, MANAGER)


def test_lost_ownership_asks_the_server() -> None:
    live = live_object()
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:selector"]
    assert not fields.proves(config(), live, MANAGER)
    live["metadata"]["managedFields"] = []
    assert not fields.proves(config(), live, MANAGER)


def test_an_object_that_only_has_to_exist_is_proved_by_existing() -> None:
    bare = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    assert fields.proves(bare, {"metadata": {"name": "n"}}, MANAGER)
    assert not fields.proves(bare, live_object(), MANAGER)


def test_owners_of_a_field_and_of_what_is_inside_it() -> None:
    live = live_object()
    assert fields.owners(live, ("spec", "selector")) == {MANAGER, "other"}
    assert fields.owners(live, ("spec", "type")) == {"other"}
    assert fields.owners(live, ("spec", "selector", "a")) == {MANAGER, "other"}
    assert fields.owners(live, fields.parse(".spec.ports[port=80].name")) == {MANAGER}
    assert fields.owners(live, ("spec", "nothing")) == set()


def test_equal_in_looks_at_the_owned_fields_only() -> None:
    one, other = live_object(), live_object()
    owned = fields.applied(one, MANAGER)
    assert owned is not None
    other["spec"]["type"] = "ClusterIP"
    other["spec"]["ports"][0]["nodePort"] = 1
    assert fields.equal_in(one, other, owned[1])
    other["spec"]["ports"][0]["name"] = "z"
    assert not fields.equal_in(one, other, owned[1])
