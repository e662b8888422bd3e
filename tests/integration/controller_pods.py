# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A controller of the platform's own as its role deployed it: its pods, who of them leads, and its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.integration.platform_lab import NOT_THERE, THERE, cluster, until


class Controller:
    """Two replicas in a namespace of its name, of which the holder of the Lease of that name acts."""

    def __init__(self, name: str) -> None:
        if not THERE:
            pytest.skip(NOT_THERE)
        self.api = cluster()
        self.name = name
        self.system = f"/api/v1/namespaces/{name}"
        self._lease = f"/apis/coordination.k8s.io/v1/namespaces/{name}/leases/{name}"
        if self.api.get(self._lease) is None:
            pytest.skip(f"{name} is not deployed there: ansible-playbook site.yml -i inventories/lab")
        self.settle()

    def settle(self) -> None:
        """Wait until both are ready and one of them leads."""
        until(lambda: len(self.ready()) == 2 and self.leader() in self.ready(), 60, f"two replicas of {self.name}")

    def ready(self) -> dict[str, dict[str, Any]]:
        """Name to pod, of those that are ready and stay."""
        return {
            pod["metadata"]["name"]: pod
            for pod in self.api.request("GET", f"{self.system}/pods")["items"]
            if "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        }

    def restarts(self) -> int:
        """Of the containers of those that are ready: none has ended by itself, and none was stuck."""
        return sum(
            status["restartCount"] for pod in self.ready().values() for status in pod["status"]["containerStatuses"]
        )

    def leader(self) -> str:
        """Name of the pod that holds the lease."""
        return str(self.api.request("GET", self._lease)["spec"].get("holderIdentity") or "").partition("_")[0]

    def kill(self, grace: int) -> str:
        """End the leader, and return its name."""
        name = self.leader()
        self.api.request("DELETE", f"{self.system}/pods/{name}", {"gracePeriodSeconds": grace})
        return name

    def metrics(self, pod: str = "") -> Mapping[str, float]:
        """Of one pod, else of the leader, by the API's proxy, without the controller's name; a pod that is just
        beginning or ending has no answer and is asked again."""

        def text() -> str:
            return str(self.api.request("GET", f"{self.system}/pods/{pod or self.leader()}:8080/proxy/metrics"))

        answer = until(text, 20, f"the metrics of {pod or 'the leader'}")
        lines = [line.rpartition(" ") for line in answer.splitlines() if not line.startswith("#")]
        prefix = self.name.replace("-", "_") + "_"
        return {name.removeprefix(prefix): float(value) for name, _, value in lines}

    def allowed(self, namespace: str = "", name: str = "", **attributes: str) -> bool:
        """Whether its account may do this, asked of the API server itself."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{self.name}:{self.name}",
                "resourceAttributes": {"namespace": namespace, "name": name, **attributes},
            },
        }
        answer = self.api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])
