# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Order, normal form, sets and masked differences of a bundle."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _applyset, _bundle_order, _diff
from ansible_collections.harvester_rke2.platform.plugins.module_utils._bundle_plan import Rule
from ansible_collections.harvester_rke2.platform.plugins.module_utils._bundle_refusal import conflicts_of
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_http import ApiError

CANARY = "sesame-canary-41"


def obj(api_version: str, kind: str, name: str = "n", **more: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **more}


def test_waves_bring_what_is_needed_first() -> None:
    objects = [
        obj("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        obj("example.com/v1", "Custom"),
        obj("apps/v1", "Deployment"),
        obj("v1", "Service"),
        obj("rbac.authorization.k8s.io/v1", "RoleBinding"),
        obj("rbac.authorization.k8s.io/v1", "Role"),
        obj("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        obj("v1", "Namespace"),
    ]
    order = [item.kind for wave in _bundle_order.waves(_bundle_order.read(objects, [])) for item in wave]
    assert order == [
        "Namespace",
        "CustomResourceDefinition",
        "Role",
        "Service",
        "RoleBinding",
        "Deployment",
        "Custom",
        "ValidatingWebhookConfiguration",
    ]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("text", "no mapping"),
        ({"kind": "ConfigMap", "metadata": {"name": "x"}}, "no apiVersion"),
        ({"apiVersion": "v1", "metadata": {"name": "x"}}, "no kind"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "no metadata.name"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}, "no metadata.name"),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "resourceVersion": "1"}},
            "resourceVersion",
        ),
    ],
)
def test_what_is_no_object_is_refused_with_its_file(wrong: Any, word: str) -> None:
    with pytest.raises(PlatformError, match=word) as caught:
        _bundle_order.read([wrong], ["templates/x.yml.j2"])
    assert "templates/x.yml.j2" in str(caught.value)


def test_an_object_that_is_there_twice_names_both_files() -> None:
    with pytest.raises(PlatformError, match=r"a\.yml\.j2 and in b\.yml\.j2"):
        _bundle_order.read([obj("v1", "ConfigMap"), obj("v1", "ConfigMap")], ["a.yml.j2", "b.yml.j2"])


def test_string_data_becomes_data_and_status_goes() -> None:
    secret = obj("v1", "Secret", stringData={"a": CANARY}, data={"b": "eA=="}, status={})
    (item,) = _bundle_order.read([secret], [])
    assert item.obj["data"] == {"a": base64.b64encode(CANARY.encode()).decode(), "b": "eA=="}
    assert "stringData" not in item.obj and "status" not in item.obj


@pytest.mark.parametrize(
    ("group", "kind", "kept"),
    [
        ("", "Namespace", True),
        ("", "Secret", True),
        ("", "PersistentVolumeClaim", True),
        ("apiextensions.k8s.io", "CustomResourceDefinition", True),
        ("postgresql.cnpg.io", "Cluster", True),
        ("k8s.mariadb.com", "MariaDB", True),
        ("redis.redis.opstreelabs.in", "RedisReplication", True),
        ("harvesterhci.io", "VirtualMachineImage", True),
        ("k8s.cni.cncf.io", "NetworkAttachmentDefinition", True),
        ("rke-machine-config.cattle.io", "HarvesterConfig", True),
        ("", "ConfigMap", False),
        ("apps", "Deployment", False),
        ("gateway.networking.k8s.io", "HTTPRoute", False),
        ("cert-manager.io", "Certificate", False),
    ],
)
def test_what_is_never_pruned(group: str, kind: str, kept: bool) -> None:
    assert _bundle_order.never_pruned(group, kind) is kept


def test_the_set_has_the_id_that_kubectl_gives() -> None:
    # By kubectl's rule, made with openssl: base64url of sha256 of "applyset-vault.kube-system.ConfigMap.".
    assert _applyset.identity("vault") == "applyset-h0HayKA52iher-RqUanbop49tGpqjAaqdcrWO2T3tYU-v1"


def test_the_parent_lists_kinds_and_namespaces_sorted() -> None:
    parent = _applyset.ApplySet("x").parent([("apps", "Deployment"), ("", "ConfigMap")], ["b", "a", "kube-system"])
    notes = parent["metadata"]["annotations"]
    assert notes["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap,Deployment.apps"
    assert notes["applyset.kubernetes.io/additional-namespaces"] == "a,b"
    assert _applyset.group_kind("Deployment.apps") == ("apps", "Deployment")


def test_a_secret_is_masked_and_equal_values_look_equal() -> None:
    one = obj("v1", "Secret", data={"a": CANARY, "b": CANARY, "c": "other"})
    shown = _diff.mask(one)["data"]
    assert shown["a"] == shown["b"] != shown["c"]
    assert CANARY not in _diff.dump(one) and one["data"]["a"] == CANARY


def test_the_values_of_a_secret_leave_a_message() -> None:
    message = f"the value {CANARY} is bad"
    assert CANARY not in _diff.scrub(message, obj("v1", "Secret", data={"a": CANARY}))
    assert CANARY in _diff.scrub(message, obj("v1", "ConfigMap", data={"a": CANARY}))


def test_a_difference_shows_our_fields_and_those_we_give_up() -> None:
    live = obj("v1", "ConfigMap", data={"ours": "1", "given-up": "2", "theirs": "3"})
    live["metadata"]["managedFields"] = [
        {
            "manager": "me",
            "operation": "Apply",
            "apiVersion": "v1",
            "fieldsV1": {"f:data": {"f:ours": {}, "f:given-up": {}}},
        }
    ]
    assert _diff.ours(live, obj("v1", "ConfigMap", data={"ours": "5"}), "me")["data"] == {"ours": "1", "given-up": "2"}
    assert _diff.ours(None, live, "me") == {}


def test_items_of_lists_are_compared_by_their_keys() -> None:
    live = [{"name": "b", "x": 1, "y": 2}, {"name": "a", "x": 3}]
    assert _diff.restrict(live, [{"name": "a", "x": 0}, {"name": "b", "x": 0}]) == [
        {"name": "b", "x": 1},
        {"name": "a", "x": 3},
    ]


def test_a_rule_fits_kind_and_name() -> None:
    (item,) = _bundle_order.read([obj("apps/v1", "Deployment", "web")], [])
    for option, fits in (
        ({"kind": "Deployment"}, True),
        ({"kind": "Deployment.apps", "name": "web"}, True),
        ({"kind": "Deployment", "name": "other"}, False),
        ({"kind": "StatefulSet"}, False),
    ):
        assert Rule.read({"fields": [".spec.replicas"], **option}).concerns(item) is fits


def test_conflicts_name_manager_and_field() -> None:
    body = {
        "reason": "Conflict",
        "details": {
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": 'conflict with "hpa" with subresource "scale" using apps/v1',
                    "field": ".spec.replicas",
                }
            ]
        },
    }
    assert conflicts_of(ApiError("x", 409, body)) == [("hpa", ".spec.replicas")]


def test_a_conflict_is_known_as_500_too() -> None:
    text = "Operation cannot be fulfilled: the object has been modified; please apply your changes"
    assert ApiError("x", 500, {"message": text}).conflict
    assert ApiError("x", 409, {}).conflict
    assert not ApiError("x", 500, {"message": "other"}).conflict
    assert ApiError("x", 500, {"message": 'failed calling webhook "w"'}).webhook_late
