# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The ready rule of each kind, on states as the controllers write them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ready import Target, timed_out
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ready_custom import COMPANIONS, judge

Object = dict[str, Any]


def obj(kind: str, api_version: str = "v1", status: Object | None = None, **spec: Any) -> Object:
    meta = {"name": "n", "namespace": "s", "generation": 2}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": spec, "status": status or {}}


def conditions(**given: str) -> list[Object]:
    return [
        {"type": kind, "status": value, "reason": "Because", "message": f"{kind}!"} for kind, value in given.items()
    ]


def seen(**more: Any) -> Object:
    return {"observedGeneration": 2, **more}


CERTIFICATE = "cert-manager.io/v1"
GATEWAY = "gateway.networking.k8s.io/v1"
CNPG = "postgresql.cnpg.io/v1"
PARENT = {"name": "main", "sectionName": "https"}


def route(accepted: str, resolved: str, parent: Object = PARENT, generation: int = 2) -> Object:
    found = conditions(Accepted=accepted, ResolvedRefs=resolved)
    for one in found:
        one["observedGeneration"] = generation
    return {"parents": [{"parentRef": {**parent, "kind": "Gateway"}, "conditions": found}]}


READY = [
    obj("Deployment", "apps/v1", seen(replicas=2, updatedReplicas=2, availableReplicas=2), replicas=2),
    obj("Deployment", "apps/v1", seen(), replicas=0),
    obj(
        "StatefulSet",
        "apps/v1",
        seen(readyReplicas=3, updatedReplicas=3, currentRevision="a", updateRevision="a"),
        replicas=3,
    ),
    # The pods of an OnDelete set keep the old revision until somebody deletes them.
    obj(
        "StatefulSet",
        "apps/v1",
        seen(readyReplicas=3, updatedReplicas=0, currentRevision="a", updateRevision="b"),
        replicas=3,
        updateStrategy={"type": "OnDelete"},
    ),
    obj(
        "StatefulSet",
        "apps/v1",
        seen(readyReplicas=3, updatedReplicas=1, currentRevision="a", updateRevision="b"),
        replicas=3,
        updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}},
    ),
    obj("DaemonSet", "apps/v1", seen(desiredNumberScheduled=3, updatedNumberScheduled=3, numberReady=3)),
    obj("DaemonSet", "apps/v1", seen(desiredNumberScheduled=0)),
    obj("ReplicaSet", "apps/v1", seen(readyReplicas=1), replicas=1),
    obj("Pod", status={"phase": "Running", "conditions": conditions(Ready="True")}),
    obj("Pod", status={"phase": "Succeeded"}),
    obj("Job", "batch/v1", {"conditions": conditions(Complete="True")}),
    obj("Job", "batch/v1", {}, suspend=True),
    obj("CronJob", "batch/v1"),
    obj("PersistentVolumeClaim", status={"phase": "Bound"}),
    obj("Namespace", status={"phase": "Active"}),
    obj("Service", type="ClusterIP"),
    obj("Service", status={"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, type="LoadBalancer"),
    obj("CustomResourceDefinition", "apiextensions.k8s.io/v1", {"conditions": conditions(Established="True")}),
    obj("APIService", "apiregistration.k8s.io/v1", {"conditions": conditions(Available="True")}),
    obj("Certificate", CERTIFICATE, {"conditions": conditions(Ready="True")}),
    obj("ClusterIssuer", CERTIFICATE, {"conditions": conditions(Ready="True")}),
    obj("Gateway", GATEWAY, {"conditions": conditions(Programmed="True")}),
    obj("GatewayClass", GATEWAY, {"conditions": conditions(Accepted="True")}),
    obj("HTTPRoute", GATEWAY, route("True", "True"), parentRefs=[PARENT]),
    obj(
        "Cluster",
        CNPG,
        {"phase": "Cluster in healthy state", "readyInstances": 3, "conditions": conditions(Ready="True")},
        instances=3,
    ),
    obj("Backup", CNPG, {"phase": "completed"}),
    obj("Database", CNPG, seen(applied=True)),
    obj("RedisReplication", "redis.redis.opstreelabs.in/v1beta2", {"masterNode": "n-0"}),
    obj("RedisSentinel", "redis.redis.opstreelabs.in/v1beta2"),
    obj("RedisCluster", "redis.redis.opstreelabs.in/v1beta2", {"state": "Ready"}),
    obj("MariaDB", "k8s.mariadb.com/v1alpha1", {"conditions": conditions(Ready="True")}),
    obj("Application", "argoproj.io/v1alpha1", {"sync": {"status": "Synced"}, "health": {"status": "Healthy"}}),
    obj("ExternalSecret", "external-secrets.io/v1", {"conditions": conditions(Ready="True")}),
    obj(
        "VirtualMachineImage",
        "harvesterhci.io/v1beta1",
        {"progress": 100, "conditions": conditions(Imported="True")},
    ),
    obj("VirtualMachine", "kubevirt.io/v1", {"ready": True, "printableStatus": "Running"}, runStrategy="Always"),
    obj("VirtualMachine", "kubevirt.io/v1", {"printableStatus": "Stopped"}, runStrategy="Halted"),
    obj("VirtualMachineInstance", "kubevirt.io/v1", {"conditions": conditions(Ready="True")}),
    obj(
        "Cluster",
        "provisioning.cattle.io/v1",
        seen(ready=True, conditions=conditions(Ready="True", Provisioned="True", Updated="True")),
    ),
    obj("Machine", "cluster.x-k8s.io/v1beta1", {"phase": "Running", "nodeRef": {"name": "x"}}),
    obj("HelmChart", "helm.cattle.io/v1", {"jobName": "helm-install-n"}),
    obj("HelmChartConfig", "helm.cattle.io/v1"),
    obj("Whatever", "example.com/v1"),
    obj("Whatever", "example.com/v1", {"conditions": conditions(Ready="True")}),
]
NOT_READY = [
    (
        obj(
            "VirtualMachineImage",
            "harvesterhci.io/v1beta1",
            {"conditions": conditions(Imported="False"), "appliedUrl": "https://a"},
            url="https://b",
        ),
        "has not begun with its new URL",
    ),
    (obj("Deployment", "apps/v1", {"observedGeneration": 1}, replicas=0), "newest change"),
    (obj("Deployment", "apps/v1", seen(replicas=2, updatedReplicas=1), replicas=2), "1 of 2 replicas are updated"),
    (obj("Deployment", "apps/v1", seen(replicas=3, updatedReplicas=2), replicas=2), "1 old replicas"),
    (
        obj("Deployment", "apps/v1", seen(replicas=2, updatedReplicas=2, availableReplicas=1), replicas=2),
        "1 of 2 replicas are available",
    ),
    (obj("StatefulSet", "apps/v1", seen(readyReplicas=2), replicas=3), "2 of 3 replicas are ready"),
    (
        obj(
            "StatefulSet",
            "apps/v1",
            seen(readyReplicas=3, updatedReplicas=1, currentRevision="a", updateRevision="b"),
            replicas=3,
        ),
        "1 of 3 replicas are updated",
    ),
    (obj("DaemonSet", "apps/v1", seen(desiredNumberScheduled=3, updatedNumberScheduled=3)), "0 of 3 pods are ready"),
    (
        obj(
            "Pod",
            status={
                "phase": "Pending",
                "containerStatuses": [
                    {
                        "name": "app",
                        "ready": False,
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
                    }
                ],
            },
        ),
        "container app waits: ImagePullBackOff: no such image",
    ),
    (obj("Pod", status={"phase": "Pending", "conditions": conditions(PodScheduled="False")}), "PodScheduled!"),
    (obj("Job", "batch/v1", {"active": 1}), "1 pods run, 0 have failed"),
    (obj("PersistentVolumeClaim", status={"phase": "Pending"}), "is Pending"),
    (obj("Namespace", status={"phase": "Terminating"}), "is Terminating"),
    (obj("Service", type="LoadBalancer"), "no load balancer address"),
    (
        obj("CustomResourceDefinition", "apiextensions.k8s.io/v1", {"conditions": conditions(NamesAccepted="False")}),
        "NamesAccepted!",
    ),
    (obj("Certificate", CERTIFICATE), "no condition Ready yet"),
    (obj("Certificate", CERTIFICATE, {"conditions": conditions(Ready="False")}), "Because: Ready!"),
    (
        obj("Certificate", CERTIFICATE, {"conditions": [{**conditions(Ready="True")[0], "observedGeneration": 1}]}),
        "newest change",
    ),
    (obj("Gateway", GATEWAY, {"conditions": conditions(Accepted="True", Programmed="False")}), "Programmed!"),
    (obj("HTTPRoute", GATEWAY, {}, parentRefs=[PARENT]), "Gateway main (https) has not answered"),
    (obj("HTTPRoute", GATEWAY, route("True", "False"), parentRefs=[PARENT]), "ResolvedRefs!"),
    (obj("HTTPRoute", GATEWAY, route("True", "True"), parentRefs=[PARENT, {"name": "other"}]), "Gateway other"),
    (obj("HTTPRoute", GATEWAY, route("True", "True", generation=1), parentRefs=[PARENT]), "newest change"),
    (obj("Cluster", CNPG, {"phase": "Setting up primary"}, instances=3), "Setting up primary"),
    (obj("Cluster", CNPG, {"phase": "Cluster in healthy state", "readyInstances": 1}, instances=3), "1 of 3 instances"),
    (obj("Database", CNPG, seen(applied=False, message="role is missing")), "role is missing"),
    (obj("RedisReplication", "redis.redis.opstreelabs.in/v1beta2"), "no master"),
    (
        obj("Application", "argoproj.io/v1alpha1", {"sync": {"status": "OutOfSync"}, "health": {"status": "Degraded"}}),
        "sync is OutOfSync, health is Degraded",
    ),
    (obj("VirtualMachineImage", "harvesterhci.io/v1beta1", {"progress": 40}), "40 %"),
    (
        obj("VirtualMachine", "kubevirt.io/v1", {"printableStatus": "ErrorUnschedulable"}, runStrategy="Always"),
        "ErrorUnschedulable",
    ),
    (obj("Cluster", "provisioning.cattle.io/v1", seen(conditions=conditions(Updated="Unknown"))), "Updated!"),
    (obj("Machine", "cluster.x-k8s.io/v1beta1", {"phase": "Provisioning"}), "is Provisioning"),
    (obj("Whatever", "example.com/v1", {"conditions": conditions(Ready="False")}), "Ready!"),
]
HOPELESS = [
    obj(
        "VirtualMachineImage",
        "harvesterhci.io/v1beta1",
        {"conditions": conditions(Imported="False"), "appliedUrl": "https://a"},
        url="https://a",
    ),
    obj("Job", "batch/v1", {"conditions": conditions(Failed="True")}),
    obj("Pod", status={"phase": "Failed", "reason": "Evicted"}),
    obj("PersistentVolumeClaim", status={"phase": "Lost"}),
    obj("Backup", CNPG, {"phase": "failed", "error": "no bucket"}),
    obj("CertificateRequest", CERTIFICATE, {"conditions": [{"type": "Ready", "status": "False", "reason": "Denied"}]}),
]


def named(value: Any) -> str:
    return str(value["kind"]) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize("ready", READY, ids=named)
def test_ready(ready: Object) -> None:
    assert judge(ready).ready, judge(ready).reason


@pytest.mark.parametrize(("waiting", "reason"), NOT_READY, ids=named)
def test_not_ready_says_why(waiting: Object, reason: str) -> None:
    verdict = judge(waiting)
    assert not verdict.ready and not verdict.hopeless
    assert reason in verdict.reason


@pytest.mark.parametrize("lost", HOPELESS, ids=named)
def test_hopeless_says_so(lost: Object) -> None:
    verdict = judge(lost)
    assert not verdict.ready and verdict.hopeless and verdict.reason


def test_what_is_being_deleted_is_not_ready() -> None:
    going = obj("CronJob", "batch/v1")
    going["metadata"]["deletionTimestamp"] = "2026-11-25T00:00:00Z"
    assert judge(going).reason == "is being deleted"


def test_a_claim_that_binds_late_is_ready_until_a_pod_wants_it() -> None:
    claim = obj("PersistentVolumeClaim", status={"phase": "Pending"}, storageClassName="late")
    assert judge(claim, frozenset({"late"})).ready and not judge(claim).ready
    claim["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "n1"}
    assert not judge(claim, frozenset({"late"})).ready


def test_kinds_that_say_too_little_have_companions() -> None:
    sentinel = obj("RedisSentinel", "redis.redis.opstreelabs.in/v1beta2")
    rule = COMPANIONS[("redis.redis.opstreelabs.in", "RedisSentinel")]
    assert rule(sentinel) == [("apps/v1", "StatefulSet", "s", "n-sentinel")]


def test_the_time_out_lists_reasons_and_the_last_event() -> None:
    entry = {
        "kind": "Pod",
        "namespace": "s",
        "name": "n",
        "reason": "is Pending",
        "events": ["A: b"],
        "hopeless": False,
    }
    error = timed_out([entry], 3, 30.0)
    assert "1 of 3 objects not ready after 30 s: Pod s/n: is Pending [A: b]" in str(error)
    assert error.data["not_ready"] == [entry]


def test_a_target_is_named_by_an_object() -> None:
    assert Target.of(obj("Pod")) == Target("v1", "Pod", "s", "n")
