# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The module bundle against a real API server: a running lab's (LAB_NAME), or that of BUNDLE_KUBECONFIG."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _applyset
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _managed_fields as fields
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient
from ansible_collections.harvester_rke2.platform.plugins.modules import bundle, generated_secret, ready

from lab.settings import REPOSITORY, Lab
from tests.integration.bundle_proxy import Fault, Proxy

LAB = Lab.from_environment().directory
KUBECONFIG = Path(os.environ.get("BUNDLE_KUBECONFIG") or LAB / "kubeconfig" / "cluster.yaml")
ONCE = "harvester-rke2-platform-once"
MAIN = "harvester-rke2-platform"
CANARY = "canary-3b1f-never-to-be-seen"

pytestmark = pytest.mark.skipif(not KUBECONFIG.is_file(), reason=f"no API server: {KUBECONFIG} is missing")

Object = dict[str, Any]


@pytest.fixture(scope="session")
def client() -> KubeClient:
    return KubeClient.from_options({"kubeconfig": str(KUBECONFIG)})


@pytest.fixture
def space(client: KubeClient) -> Iterator[str]:
    """A namespace, and a bundle's name that is the same."""
    name = f"bundle-{uuid.uuid4().hex[:8]}"
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, field_manager="test")
    yield name
    client.delete(f"/api/v1/namespaces/{name}")
    client.delete(f"/api/v1/namespaces/kube-system/configmaps/applyset-{name}")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(KUBECONFIG, tmp_path)
    yield made
    made.close()


def apply(objects: list[Object], *, check: bool = False, kubeconfig: Path = KUBECONFIG, **options: Any) -> Object:
    params = {key: copy.deepcopy(spec.get("default")) for key, spec in bundle.ARGUMENTS.items()}
    params.update({"kubeconfig": str(kubeconfig), "context": None, **options})
    for rules in ("left_to", "set_once"):
        params[rules] = [{"name": "", "manager": "", **rule} for rule in params[rules]]
    return bundle.execute(params, copy.deepcopy(objects), check, True)


def apply_again(objects: list[Object], seconds: float = 120, **options: Any) -> Object:
    """As the action goes on while the module says that it is worth while."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return apply(objects, **options)
        except PlatformError as error:
            if not error.data.get("again") or time.monotonic() > deadline:
                raise


def refused(objects: list[Object], **options: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        apply(objects, **options)
    return caught.value


def results(answer: Object) -> dict[str, str]:
    return {f"{entry['kind']}/{entry['name']}": entry["result"] for entry in answer["objects"]}


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str = "web", **spec: Any) -> Object:
    labels = {"app": name}
    container = {"name": "app", "image": "registry.example.com/app:1", "ports": [{"containerPort": 80}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def mixed() -> list[Object]:
    return [
        deployment(replicas=1),
        config_map("one", key="value"),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"password": CANARY}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}]},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "app"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}],
        },
    ]


def live(client: KubeClient, space: str, kind: str, name: str, api_version: str = "v1") -> Any:
    return client.get_or_none(client.path_for(api_version, kind, space, name))


def scale(client: KubeClient, space: str, replicas: int, manager: str) -> None:
    """As an autoscaler does it."""
    client.request(
        "PATCH",
        f"/apis/apps/v1/namespaces/{space}/deployments/web/scale",
        body={"spec": {"replicas": replicas}},
        content_type="application/merge-patch+json",
        query={"fieldManager": manager},
    )


def test_created_then_unchanged_without_one_write(proxy: Proxy, space: str) -> None:
    first = apply(mixed(), name=space, namespace=space)
    assert set(results(first).values()) == {"created"} and first["changed"]
    again = apply(mixed(), name=space, namespace=space, kubeconfig=proxy.kubeconfig)
    assert set(results(again).values()) == {"unchanged"} and not again["changed"] and "diff" not in again
    assert {method for method, _ in proxy.requests} == {"GET"}


def test_objects_go_in_the_order_of_their_waves(space: str) -> None:
    order = [entry["kind"] for entry in apply(mixed(), name=space, namespace=space)["objects"]]
    assert order == ["ServiceAccount", "Role", "ConfigMap", "Secret", "Service", "Deployment"]


def test_a_change_is_applied_and_shown_as_the_server_has_it(client: KubeClient, space: str) -> None:
    apply([config_map("one", a="1", gone="x"), config_map("two", a="1")], name=space, namespace=space)
    answer = apply([config_map("one", a="2"), config_map("two", a="1")], name=space, namespace=space)
    assert results(answer) == {"ConfigMap/one": "changed", "ConfigMap/two": "unchanged"}
    (diff,) = answer["diff"]
    assert "a: '1'" in diff["before"] and "gone: x" in diff["before"]
    assert "a: '2'" in diff["after"] and "gone" not in diff["after"]
    assert live(client, space, "ConfigMap", "one")["data"] == {"a": "2"}


def test_values_that_the_server_normalises_are_not_changes(client: KubeClient, space: str) -> None:
    web = deployment(replicas=0)
    web["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000m", "memory": "1024Mi"}}
    apply([web], name=space, namespace=space)
    before = live(client, space, "Deployment", "web", "apps/v1")
    answer = apply([web], name=space, namespace=space)
    assert results(answer) == {"Deployment/web": "unchanged"}
    after = live(client, space, "Deployment", "web", "apps/v1")
    assert before["metadata"]["generation"] == after["metadata"]["generation"]


def test_an_object_that_only_has_to_exist_is_unchanged(space: str) -> None:
    bare = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bare"}}
    assert [apply([bare], namespace=space)["changed"] for _ in range(3)] == [True, False, False]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}
    assert not apply([namespace], name=space)["changed"]


@pytest.mark.parametrize("manager", ["kubectl-edit", "kubectl-patch"])
def test_drift_by_hand_is_repaired_and_reported(client: KubeClient, space: str, manager: str) -> None:
    apply([config_map("one", a="1", b="1")], name=space, namespace=space)
    client.request(
        "PATCH",
        client.path_for("v1", "ConfigMap", space, "one"),
        body={"data": {"a": "by hand", "b": None}},
        content_type="application/merge-patch+json",
        query={"fieldManager": manager},
    )
    checked = apply([config_map("one", a="1", b="1")], name=space, namespace=space, check=True)
    answer = apply([config_map("one", a="1", b="1")], name=space, namespace=space)
    assert results(checked) == results(answer) == {"ConfigMap/one": "changed"}
    assert checked["diff"] == answer["diff"]
    assert "a: by hand" in answer["diff"][0]["before"] and "b: '1'" in answer["diff"][0]["after"]
    assert live(client, space, "ConfigMap", "one")["data"] == {"a": "1", "b": "1"}


def test_a_field_of_another_manager_is_refused_by_name(client: KubeClient, space: str) -> None:
    apply([deployment(replicas=1)], name=space, namespace=space)
    scale(client, space, 4, "other-operator")
    error = refused([config_map("one"), deployment(replicas=1)], name=space, namespace=space)
    assert "Deployment" in str(error) and ".spec.replicas" in str(error) and "other-operator" in str(error)
    assert error.data["refused"]["managers"] == ["other-operator"]
    assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 4


def test_left_to_keeps_what_the_other_manager_has_set(client: KubeClient, space: str) -> None:
    rule = [{"kind": "Deployment", "name": "web", "fields": [".spec.replicas"], "manager": "hpa"}]
    apply([deployment(replicas=2)], name=space, namespace=space, left_to=rule)
    # As long as we alone own the field it is ours to change.
    assert results(apply([deployment(replicas=3)], name=space, namespace=space, left_to=rule)) == {
        "Deployment/web": "changed"
    }
    scale(client, space, 7, "hpa")
    for _ in range(3):
        apply([deployment(replicas=3)], name=space, namespace=space, left_to=rule)
        assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 7
    answer = apply([deployment(replicas=3)], name=space, namespace=space, left_to=rule)
    assert results(answer) == {"Deployment/web": "unchanged"}


def test_left_to_one_manager_still_refuses_another(client: KubeClient, space: str) -> None:
    rule = [{"kind": "Deployment", "fields": [".spec.replicas"], "manager": "hpa"}]
    apply([deployment(replicas=2)], name=space, namespace=space, left_to=rule)
    scale(client, space, 7, "somebody-else")
    assert "somebody-else" in str(refused([deployment(replicas=3)], name=space, namespace=space, left_to=rule))


def test_leaving_out_an_owned_field_would_delete_it(client: KubeClient, space: str) -> None:
    """The trap that set_once is there for."""
    apply([deployment(replicas=4)], name=space, namespace=space)
    apply([deployment()], name=space, namespace=space)
    assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 1


def test_set_once_survives_later_applies_after_an_autoscaler(client: KubeClient, space: str) -> None:
    options: Object = {
        "name": space,
        "namespace": space,
        "set_once": [{"kind": "Deployment", "fields": [".spec.replicas"]}],
    }
    assert results(apply([deployment(replicas=3)], **options)) == {"Deployment/web": "created"}
    made = live(client, space, "Deployment", "web", "apps/v1")
    assert made["spec"]["replicas"] == 3
    assert fields.owners(made, (*fields.parse(".spec.replicas"),)) == {ONCE}
    assert results(apply([deployment(replicas=3)], **options)) == {"Deployment/web": "unchanged"}
    assert results(apply([deployment(replicas=5)], **options)) == {"Deployment/web": "unchanged"}
    scale(client, space, 9, "autoscaler")
    for replicas in (3, 1):
        assert results(apply([deployment(replicas=replicas)], **options)) == {"Deployment/web": "unchanged"}
        assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 9
    changed = deployment(replicas=3, revisionHistoryLimit=2)
    assert results(apply([changed], **options)) == {"Deployment/web": "changed"}
    assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 9


def test_set_once_takes_a_field_over_that_was_applied_before(client: KubeClient, space: str) -> None:
    apply([deployment(replicas=4)], name=space, namespace=space)
    rule = [{"kind": "Deployment", "fields": [".spec.replicas"]}]
    first = apply([deployment(replicas=1)], name=space, namespace=space, set_once=rule)
    again = apply([deployment(replicas=1)], name=space, namespace=space, set_once=rule)
    assert (first["changed"], again["changed"]) == (True, False)
    assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 4


def test_set_once_killed_after_its_first_step_converges(client: KubeClient, proxy: Proxy, space: str) -> None:
    options: Object = {
        "name": space,
        "namespace": space,
        "set_once": [{"kind": "Deployment", "fields": [".spec.replicas"]}],
    }

    def decide(method: str, path: str, count: int) -> Fault | None:
        second = method == "PATCH" and "deployments" in path and "dryRun" not in path and f"{ONCE}&" not in path
        return Fault(403, {"message": "killed here"}) if second else None

    proxy.decide = decide
    refused([deployment(replicas=3)], kubeconfig=proxy.kubeconfig, **options)
    assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 3
    scale(client, space, 8, "autoscaler")
    assert apply([deployment(replicas=3)], **options)["changed"]
    assert not apply([deployment(replicas=3)], **options)["changed"]
    now = live(client, space, "Deployment", "web", "apps/v1")
    assert now["spec"]["replicas"] == 8
    assert fields.owners(now, fields.parse(".spec.template.spec.containers")) >= {MAIN}
    assert ONCE not in fields.owners(now, fields.parse(".spec.template.spec.containers"))


def test_a_number_outside_its_bounds_is_brought_back_to_the_nearer_end(client: KubeClient, space: str) -> None:
    rule = {"kind": "Deployment", "fields": [".spec.replicas"], "minimum": 2, "maximum": 5}
    options: Object = {"name": space, "namespace": space, "set_once": [rule]}
    apply([deployment(replicas=2)], **options)
    for scaled, left in ((4, 4), (9, 5), (0, 2)):
        scale(client, space, scaled, "autoscaler")
        checked = apply([deployment(replicas=2)], check=True, **options)
        answer = apply([deployment(replicas=2)], **options)
        assert checked["changed"] is answer["changed"] is (scaled != left)
        assert live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == left
        assert not apply([deployment(replicas=2)], **options)["changed"]


def test_the_autoscaler_may_scale_between_our_read_and_our_write(client: KubeClient, proxy: Proxy, space: str) -> None:
    rule = {"kind": "Deployment", "fields": [".spec.replicas"], "minimum": 2, "maximum": 5}
    options: Object = {"name": space, "namespace": space, "set_once": [rule]}
    apply([deployment(replicas=2)], **options)
    scale(client, space, 1, "autoscaler")
    seen = []

    def decide(method: str, path: str, count: int) -> Fault | None:
        if method == "PATCH" and "deployments" in path and f"fieldManager={ONCE}&" in path and not seen:
            seen.append(path)
            scale(client, space, 4, "autoscaler")
        return None

    proxy.decide = decide
    apply([deployment(replicas=2)], kubeconfig=proxy.kubeconfig, **options)
    assert seen and live(client, space, "Deployment", "web", "apps/v1")["spec"]["replicas"] == 4


def test_items_of_a_list_come_and_go_with_their_fields_set_once(client: KubeClient, space: str) -> None:
    """As the pools of a Cluster: each has a field that must be there from the first moment, and is not ours later."""

    def wanted(*names: str) -> tuple[list[Object], Object]:
        obj = deployment(replicas=0)
        obj["spec"]["template"]["spec"]["containers"] = [{"name": name, "image": f"{name}:1"} for name in names]
        field = '.spec.template.spec.containers[name="{}"].image'
        rules = [{"kind": "Deployment", "fields": [field.format(name)]} for name in names]
        return [obj], {"name": space, "namespace": space, "set_once": rules}

    for names, result in ((("a",), "created"), (("a", "b"), "changed"), (("b", "c"), "changed"), (("c",), "changed")):
        objects, options = wanted(*names)
        checked, answer, again = (apply(objects, check=check, **options) for check in (True, False, False))
        assert results(checked) == results(answer) == {"Deployment/web": result}
        assert not again["changed"]
        made = live(client, space, "Deployment", "web", "apps/v1")
        found = made["spec"]["template"]["spec"]["containers"]
        assert [(item["name"], item["image"]) for item in found] == [(name, f"{name}:1") for name in names]
        for name in names:
            path = fields.parse(f'.spec.template.spec.containers[name="{name}"].image')
            assert fields.owners(made, path) == {ONCE}


def test_a_frozen_object_is_refused_before_anything_of_its_wave(client: KubeClient, space: str) -> None:
    frozen = [{"kind": "ConfigMap", "name": "held", "free": [".data.free"], "why": "all would end", "mend": "Agree."}]
    options: Object = {"name": space, "namespace": space, "frozen": frozen}
    before = [config_map("held", key="1", free="1"), config_map("other", key="1")]
    apply(before, **options)
    assert apply([config_map("held", key="1", free="2"), before[1]], **options)["changed"]
    after = [config_map("held", key="2", free="2"), config_map("other", key="2")]
    error = refused(after, **options)
    assert "ConfigMap" in str(error) and "(.data): all would end. Agree." in str(error)
    assert live(client, space, "ConfigMap", "other")["data"] == {"key": "1"}
    checked = apply(after, check=True, **options)
    assert checked["frozen"] == [str(error)] and checked["changed"]


def test_prune_deletes_what_is_gone_and_narrows_the_parent(client: KubeClient, space: str) -> None:
    apply(mixed(), name=space, namespace=space)
    rest = [obj for obj in mixed() if obj["kind"] != "Role" and obj["metadata"]["name"] != "one"]
    checked = apply(rest, name=space, namespace=space, check=True)
    assert live(client, space, "ConfigMap", "one") is not None
    answer = apply(rest, name=space, namespace=space)
    pruned = {name for name, result in results(answer).items() if result == "pruned"}
    assert pruned == {"ConfigMap/one", "Role/app"}
    assert results(checked) == results(answer)
    assert live(client, space, "ConfigMap", "one") is None
    parent = live(client, "kube-system", "ConfigMap", f"applyset-{space}")
    assert parent["metadata"]["labels"][_applyset.ID] == _applyset.identity(space)
    kinds = parent["metadata"]["annotations"]["applyset.kubernetes.io/contains-group-kinds"]
    assert kinds == "Deployment.apps,Secret,Service,ServiceAccount"
    assert parent["metadata"]["annotations"]["applyset.kubernetes.io/additional-namespaces"] == space


def test_prune_leaves_what_controllers_have_labelled_likewise(client: KubeClient, space: str) -> None:
    """A controller copies a Service's labels, ours among them, to its EndpointSlices."""
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "mine", "namespace": space},
        "addressType": "IPv4",
        "endpoints": [],
    }
    apply([*mixed(), slice_], name=space, namespace=space)
    copied = copy.deepcopy(slice_)
    copied["metadata"] = {
        "name": "copied",
        "namespace": space,
        "labels": {_applyset.PART_OF: _applyset.identity(space)},
    }
    client.create(copied, field_manager="endpointslice-controller")
    answer = apply([*mixed(), slice_], name=space, namespace=space)
    assert not answer["changed"]
    assert live(client, space, "EndpointSlice", "copied", "discovery.k8s.io/v1") is not None


def test_namespaces_secrets_and_claims_are_never_pruned(client: KubeClient, space: str) -> None:
    other = f"{space}-extra"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}
    try:
        apply([*mixed(), claim, namespace], name=space, namespace=space)
        answer = apply([config_map("one", key="value")], name=space, namespace=space)
        assert set(answer["kept"]) == {
            f"PersistentVolumeClaim {space}/data",
            f"Secret {space}/keys",
        }
        assert live(client, "", "Namespace", other)["metadata"].get("deletionTimestamp") is None
        for kind, name in (("PersistentVolumeClaim", "data"), ("Secret", "keys")):
            assert live(client, space, kind, name)["metadata"].get("deletionTimestamp") is None
        # What is kept stays a member: the next run still knows it.
        assert apply([config_map("one", key="value")], name=space, namespace=space)["kept"] == answer["kept"]
    finally:
        client.delete(f"/api/v1/namespaces/{other}")


def test_two_bundles_in_one_namespace_leave_each_other_alone(client: KubeClient, space: str) -> None:
    other = f"{space}-shared"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other, "labels": {"tier": "data"}}}
    sets = [([namespace, config_map(name)], f"{space}-{name}") for name in ("a", "b")]
    try:
        for objects, name in sets:
            apply(objects, name=name, namespace=other)
        for objects, name in sets:
            assert not apply(objects, name=name, namespace=other)["changed"]
        # The namespace goes with the last of them.
        first = apply(sets[0][0], name=sets[0][1], namespace=other, state="absent", wait_timeout=60)
        assert first["kept"] == [f"Namespace {other}"]
        assert live(client, other, "ConfigMap", "b") is not None
        last = apply(sets[1][0], name=sets[1][1], namespace=other, state="absent", wait_timeout=90)
        assert results(last)[f"Namespace/{other}"] == "deleted"
    finally:
        client.delete(f"/api/v1/namespaces/{other}")


def test_the_parent_of_another_tool_is_left_alone(client: KubeClient, space: str) -> None:
    parent = _applyset.ApplySet(space).parent([], [])
    parent["metadata"]["annotations"]["applyset.kubernetes.io/tooling"] = "kubectl/v1.34.0"
    client.apply(parent, field_manager="kubectl")
    assert "kubectl/v1.34.0" in str(refused([config_map("one")], name=space, namespace=space))


def test_an_unknown_field_names_file_object_and_field_and_stops(client: KubeClient, space: str) -> None:
    bad = config_map("bad", a="1")
    bad["spec"] = {"bogus": True}
    objects = [config_map("first", a="1"), bad, config_map("third", a="1"), deployment(replicas=0)]
    sources = ["a.yml.j2", "roles/x/templates/objects/b.yml.j2", "c.yml.j2", "d.yml.j2"]
    error = refused(objects, name=space, namespace=space, sources=sources)
    assert "roles/x/templates/objects/b.yml.j2" in str(error)
    assert f"ConfigMap {space}/bad" in str(error) and ".spec" in str(error)
    assert error.data["refused"]["fields"] == [".spec"]
    for kind, name, version in (
        ("ConfigMap", "first", "v1"),
        ("ConfigMap", "third", "v1"),
        ("Deployment", "web", "apps/v1"),
    ):
        assert live(client, space, kind, name, version) is None


def test_a_refusal_by_validation_names_the_field(space: str) -> None:
    bad = deployment(replicas=-1)
    error = refused([bad], name=space, namespace=space, sources=["d.yml.j2"])
    assert error.data["refused"] == {
        "source": "d.yml.j2",
        "object": f"Deployment {space}/web",
        "fields": ["spec.replicas"],
    }


def crd(plural: str) -> Object:
    group = "bundle.example.com"
    kind = plural.capitalize()
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": plural, "listKind": f"{kind}List"},
            "versions": [version],
        },
    }


def test_a_custom_resource_beside_its_definition_which_is_not_established_yet(client: KubeClient, space: str) -> None:
    plural = f"t{uuid.uuid4().hex[:8]}"
    custom = {
        "apiVersion": "bundle.example.com/v1",
        "kind": plural.capitalize(),
        "metadata": {"name": "one"},
        "spec": {"a": "x"},
    }
    definition = crd(plural)
    try:
        checked = apply([custom, definition], name=space, namespace=space, check=True)
        assert results(checked) == {
            f"CustomResourceDefinition/{plural}.bundle.example.com": "created",
            f"{plural.capitalize()}/one": "unvalidated",
        }
        answer = apply([custom, definition], name=space, namespace=space)
        assert set(results(answer).values()) == {"created"}
        assert not apply([custom, definition], name=space, namespace=space)["changed"]
        # Definitions are never pruned, custom resources are.
        rest = apply([config_map("one")], name=space, namespace=space)
        assert results(rest)[f"{plural.capitalize()}/one"] == "pruned"
        assert rest["kept"] == [f"CustomResourceDefinition {plural}.bundle.example.com"]
    finally:
        client.delete(client.path_of(definition))


def test_a_definition_made_by_somebody_else_a_moment_ago(client: KubeClient, space: str) -> None:
    plural = f"u{uuid.uuid4().hex[:8]}"
    definition = crd(plural)
    custom = {"apiVersion": "bundle.example.com/v1", "kind": plural.capitalize(), "metadata": {"name": "one"}}
    try:
        client.apply(definition, field_manager="helm")
        assert set(results(apply_again([custom], name=space, namespace=space)).values()) == {"created"}
    finally:
        client.delete(client.path_of(definition))


def test_a_kind_that_nobody_serves_is_refused(space: str) -> None:
    error = refused(
        [{"apiVersion": "nothing.example.com/v1", "kind": "Nothing", "metadata": {"name": "x"}}],
        name=space,
        namespace=space,
    )
    assert "Nothing" in str(error) and "does not serve" in str(error)


def test_a_webhook_that_does_not_answer_yet_is_waited_for(client: KubeClient, space: str) -> None:
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": space},
        "webhooks": [
            {
                "name": "late.bundle.example.com",
                "clientConfig": {"url": "https://127.0.0.1:9/"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 1,
            }
        ],
    }
    path = client.path_of(hook)
    client.apply(hook, field_manager="test")
    try:
        time.sleep(1.5)
        checked = apply([config_map("one")], namespace=space, check=True)
        assert results(checked) == {"ConfigMap/one": "unvalidated"}
        threading.Timer(3.0, lambda: client.delete(path)).start()
        assert results(apply([config_map("one")], namespace=space)) == {"ConfigMap/one": "created"}
    finally:
        client.delete(path)


def once(predicate: Callable[[str, str], bool], fault: Fault) -> Callable[[str, str, int], Fault | None]:
    """The fault for the first request that fits."""
    used: list[str] = []

    def decide(method: str, path: str, count: int) -> Fault | None:
        if predicate(method, path) and not used:
            used.append(path)
            return fault
        return None

    return decide


def is_real_write(method: str, path: str) -> bool:
    return method == "PATCH" and "configmaps/one" in path and "dryRun" not in path


def test_429_is_tried_again_after_retry_after(client: KubeClient, proxy: Proxy, space: str) -> None:
    proxy.decide = once(is_real_write, Fault(429, {"message": "slow down"}, {"Retry-After": "2"}))
    start = time.monotonic()
    assert results(apply([config_map("one")], namespace=space, kubeconfig=proxy.kubeconfig)) == {
        "ConfigMap/one": "created"
    }
    assert time.monotonic() - start >= 2.0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(503, {"message": "storage is (re)initializing"}),
        Fault(500, {"message": "etcdserver: leader changed"}),
        Fault(0),
        Fault(504, {"message": "timeout"}, after=True),
        Fault(0, after=True),
    ],
    ids=["503", "500", "broken", "504-after", "answer-lost"],
)
def test_server_errors_are_tried_again(client: KubeClient, proxy: Proxy, space: str, fault: Fault) -> None:
    proxy.decide = once(is_real_write, fault)
    answer = apply([config_map("one", a="1")], namespace=space, kubeconfig=proxy.kubeconfig)
    assert answer["changed"]
    assert live(client, space, "ConfigMap", "one")["data"] == {"a": "1"}


def test_a_conflict_that_arrives_as_http_500_is_merged_anew(client: KubeClient, proxy: Proxy, space: str) -> None:
    message = (
        'Operation cannot be fulfilled on configmaps "one": the object has been modified; please apply your changes'
    )
    proxy.decide = once(is_real_write, Fault(500, {"message": message}))
    answer = apply([config_map("one", a="1")], namespace=space, kubeconfig=proxy.kubeconfig)
    assert results(answer) == {"ConfigMap/one": "created"}


def test_a_post_whose_answer_is_lost_is_never_sent_again(client: KubeClient, proxy: Proxy, space: str) -> None:
    broken = KubeClient.from_options({"kubeconfig": str(proxy.kubeconfig)})
    obj = config_map("posted", a="1")
    obj["metadata"]["namespace"] = space
    proxy.decide = once(lambda method, path: method == "POST", Fault(0, after=True))
    made = broken.create(obj, field_manager="test")
    assert made["metadata"]["uid"] == live(client, space, "ConfigMap", "posted")["metadata"]["uid"]
    assert [method for method, _ in proxy.requests].count("POST") == 1
    proxy.decide = None
    with pytest.raises(PlatformError) as caught:
        broken.create({**obj, "data": {"a": "other"}}, field_manager="test")
    assert caught.value.data["status"] == 409


def test_check_mode_writes_nothing(client: KubeClient, proxy: Proxy, space: str) -> None:
    apply([*mixed(), config_map("old")], name=space, namespace=space)
    changed = mixed()
    changed[1]["data"]["key"] = "other"
    before = client.list_all(f"/api/v1/namespaces/{space}/configmaps")
    options: Object = {"name": space, "namespace": space, "check": True, "kubeconfig": proxy.kubeconfig}
    answer = apply([*changed, config_map("new")], **options)
    gone = apply([], state="absent", **options)
    fresh = apply(mixed(), **{**options, "name": f"{space}-never", "namespace": f"{space}-never"})
    assert proxy.writes() == []
    assert any("dryRun=All" in path for _, path in proxy.requests)
    assert results(answer)["ConfigMap/old"] == "pruned" and results(answer)["ConfigMap/one"] == "changed"
    assert "deleted" in results(gone).values()
    assert set(results(fresh).values()) == {"unvalidated"}
    after = client.list_all(f"/api/v1/namespaces/{space}/configmaps")
    assert [item["metadata"]["resourceVersion"] for item in before["items"]] == [
        item["metadata"]["resourceVersion"] for item in after["items"]
    ]


def test_check_mode_without_an_api_prints_the_plan(tmp_path: Path) -> None:
    missing = apply(mixed(), namespace="x", check=True, kubeconfig=tmp_path / "none.yaml")
    assert set(results(missing).values()) == {"planned"} and missing["reachable"] is False
    with pytest.raises(PlatformError):
        apply(mixed(), namespace="x", kubeconfig=tmp_path / "none.yaml")


def test_secrets_are_masked_everywhere(space: str) -> None:
    answers = [apply(mixed(), name=space, namespace=space)]
    changed = mixed()
    changed[2]["stringData"]["password"] = f"{CANARY}-2"
    answers.append(apply(changed, name=space, namespace=space, check=True))
    answers.append(apply(changed, name=space, namespace=space))
    bad = copy.deepcopy(changed[2])
    bad["data"] = {"broken": f"{CANARY}="}
    answers.append({"error": str(refused([bad], name=space, namespace=space))})
    text = json.dumps(answers)
    encoded = "Y2FuYXJ5LTNiMWYtbmV2ZXItdG8tYmUtc2Vlb"
    assert CANARY not in text and encoded not in text
    (diff,) = answers[2]["diff"]
    assert "<masked" in diff["before"] and diff["before"] != diff["after"]


def test_what_is_not_ready_is_listed_with_its_reason_and_events(client: KubeClient, space: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "no-such-class",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    start = time.monotonic()
    error = refused(
        [claim, config_map("one"), deployment(replicas=0)], name=space, namespace=space, wait=True, wait_timeout=8
    )
    assert time.monotonic() - start > 7.0
    (entry,) = error.data["not_ready"]
    assert (entry["kind"], entry["name"], entry["reason"]) == ("PersistentVolumeClaim", "data", "is Pending")
    assert any("no-such-class" in event for event in entry["events"])
    assert "no-such-class" in str(error)


def test_a_failed_job_ends_the_wait_at_once(client: KubeClient, space: str) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "broken"},
        "spec": {
            "activeDeadlineSeconds": 1,
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": {"no.such/node": "x"},
                    "containers": [{"name": "c", "image": "x.example.com/x:1"}],
                }
            },
        },
    }
    start = time.monotonic()
    error = refused([job], name=space, namespace=space, wait=True, wait_timeout=60)
    assert time.monotonic() - start < 45.0
    assert error.data["hopeless"] and "DeadlineExceeded" in str(error)


def test_ready_follows_a_roll_out_with_one_watch_a_kind(client: KubeClient, proxy: Proxy, space: str) -> None:
    objects = [deployment(f"web{index}", replicas=0) for index in range(6)]
    apply(objects, name=space, namespace=space)
    params = {"kubeconfig": str(proxy.kubeconfig), "context": None, "objects": [], "applysets": [space], "releases": []}
    answer = ready.execute({**params, "timeout": 30}, False)
    assert answer["ready"] and answer["waited_for"] == 6
    reads = [path for _, path in proxy.requests if "deployments" in path]
    # One list for the set's members, one for their state, and as many watches as are needed: no request an object.
    assert len(reads) <= 4


def test_killed_between_the_parent_and_its_members_then_converges(client: KubeClient, proxy: Proxy, space: str) -> None:
    victim: list[subprocess.Popen[bytes]] = []

    def decide(method: str, path: str, count: int) -> Fault | None:
        if method == "PATCH" and f"/namespaces/{space}/" in path and "dryRun" not in path and victim:
            victim[0].send_signal(signal.SIGKILL)
            return Fault(0)
        return None

    proxy.decide = decide
    program = f"""
        import json, sys
        from tests.integration.test_bundle import apply, mixed
        from pathlib import Path
        sys.stdin.readline()
        apply(mixed(), name={space!r}, namespace={space!r}, kubeconfig=Path({str(proxy.kubeconfig)!r}))
    """
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / '.ansible/collections'}"}
    victim.append(
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, cwd=REPOSITORY, env=environment
        )
    )
    victim[0].communicate(b"go\n", timeout=60)
    assert victim[0].returncode == -signal.SIGKILL
    parent = live(client, "kube-system", "ConfigMap", f"applyset-{space}")
    kinds = parent["metadata"]["annotations"]["applyset.kubernetes.io/contains-group-kinds"].split(",")
    assert {"ConfigMap", "Deployment.apps", "Secret"} <= set(kinds)
    # The next run wants less: what the killed one had made is found and pruned.
    apply(mixed(), name=space, namespace=space)
    assert not apply(mixed(), name=space, namespace=space)["changed"]
    assert results(apply(mixed()[1:2], name=space, namespace=space))["Deployment/web"] == "pruned"


def test_absent_removes_in_reverse_order_and_waits(client: KubeClient, space: str) -> None:
    apply(mixed(), name=space, namespace=space)
    answer = apply(mixed()[:1], name=space, namespace=space, state="absent", wait_timeout=60)
    order = [entry["kind"] for entry in answer["objects"] if entry["result"] == "deleted"]
    assert order[0] == "Deployment" and order[-1] in ("Role", "ServiceAccount")
    assert answer["kept"] == [f"Secret {space}/keys"]
    assert live(client, space, "Deployment", "web", "apps/v1") is None
    # The Secret is still a member; listed, it goes, and with the last member goes the parent.
    apply(mixed(), name=space, namespace=space, state="absent", wait_timeout=60)
    assert live(client, space, "Secret", "keys") is None
    assert live(client, "kube-system", "ConfigMap", f"applyset-{space}") is None
    assert not apply(mixed(), name=space, namespace=space, state="absent")["changed"]


def test_absent_names_the_finalizer_that_holds_an_object(client: KubeClient, space: str) -> None:
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/holds"]
    apply([held], name=space, namespace=space)
    try:
        error = refused([held], name=space, namespace=space, state="absent", wait_timeout=2)
        assert f"ConfigMap {space}/held is held by example.com/holds" in str(error)
    finally:
        path = client.path_for("v1", "ConfigMap", space, "held")
        body = {"metadata": {"finalizers": None}}
        client.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def secrets(space: str, check: bool = False, kubeconfig: Path = KUBECONFIG, **keys: Object) -> Object:
    option = {"name": "generated", "namespace": space, "namespaces": [], "type": "Opaque", "labels": {}, "keys": keys}
    params = {"kubeconfig": str(kubeconfig), "context": None, "secrets": [option]}
    return generated_secret.execute(params, check)


def test_secrets_are_generated_once(client: KubeClient, proxy: Proxy, space: str) -> None:
    checked = secrets(space, check=True, kubeconfig=proxy.kubeconfig, password={})
    assert proxy.writes() == [] and checked["changed"]
    first = secrets(space, password={})
    made = live(client, space, "Secret", "generated")["data"]
    more = secrets(space, password={"length": 64}, other={"format": "hex"})
    again = secrets(space, password={"length": 64}, other={"format": "hex"})
    now = live(client, space, "Secret", "generated")["data"]
    assert [answer["secrets"][0]["added_keys"] for answer in (first, more, again)] == [["password"], ["other"], []]
    assert now["password"] == made["password"] and not again["changed"]
    assert made["password"] not in json.dumps([checked, first, more, again])


def test_a_generated_secret_whose_answer_is_lost_keeps_its_value(client: KubeClient, proxy: Proxy, space: str) -> None:
    proxy.decide = once(lambda method, path: method == "POST", Fault(0, after=True))
    secrets(space, kubeconfig=proxy.kubeconfig, password={})
    first = live(client, space, "Secret", "generated")
    secrets(space, password={})
    assert (
        live(client, space, "Secret", "generated")["metadata"]["resourceVersion"]
        == first["metadata"]["resourceVersion"]
    )
