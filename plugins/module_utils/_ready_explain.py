# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Why an object is not ready: its own reason, its pods' and the last warning events (private to this collection)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._errors import PlatformError
from ._kube_client import KubeClient
from ._ready_rules import Verdict, condition, container_troubles, pod, told

_MOST_PODS = 3
_MOST_EVENTS = 3
_WITH_PODS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"})


def selector_of(obj: Mapping[str, Any]) -> str:
    labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def pods_of(client: KubeClient, obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    selector = selector_of(obj)
    if not selector:
        return []
    path = f"/api/v1/namespaces/{obj['metadata']['namespace']}/pods"
    return list(client.list_all(path, query={"labelSelector": selector}).get("items") or [])


def events_of(client: KubeClient, kind: str, namespace: str, name: str) -> list[str]:
    """The last warning events about an object, oldest first."""
    # Events about objects without a namespace are kept in `default`.
    path = f"/api/v1/namespaces/{namespace or 'default'}/events"
    selector = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
    found = client.list_all(path, query={"fieldSelector": selector}).get("items") or []
    found.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    texts = [f"{event.get('reason')}: {str(event.get('message') or '').strip()}" for event in found]
    return list(dict.fromkeys(texts))[-_MOST_EVENTS:]


def explain(
    client: KubeClient, kind: str, namespace: str, name: str, obj: Mapping[str, Any] | None, verdict: Verdict
) -> dict[str, Any]:
    """One entry of the list of what is not ready."""
    reasons = [verdict.reason]
    events: list[str] = []
    try:
        events = events_of(client, kind, namespace, name)
        if obj is not None and kind in _WITH_PODS:
            failure = condition(obj, "ReplicaFailure")
            if failure is not None and failure.get("status") == "True":
                reasons.append(told(failure))
            for one in [one for one in pods_of(client, obj) if not pod(one).ready][:_MOST_PODS]:
                their = one["metadata"]["name"]
                troubles = container_troubles(one) or [pod(one).reason]
                reasons.append(f"pod {their}: {'; '.join(troubles)}")
                events += events_of(client, "Pod", namespace, their)
    except PlatformError as exc:
        # The reason itself is known: what is missing is only more about it.
        events.append(f"(events could not be read: {exc.why})")
    return {
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "reason": "; ".join(part for part in dict.fromkeys(reasons) if part),
        "events": list(dict.fromkeys(events))[-2 * _MOST_EVENTS :],
        "hopeless": verdict.hopeless,
    }


def sentence(entry: Mapping[str, Any]) -> str:
    name = f"{entry['namespace']}/{entry['name']}" if entry["namespace"] else entry["name"]
    last = f" [{entry['events'][-1]}]" if entry["events"] else ""
    return f"{entry['kind']} {name}: {entry['reason']}{last}"
