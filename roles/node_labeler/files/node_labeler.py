# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Gives each worker node the label that says which pool it is of, where Rancher has forgotten it.

Nodes made by the cluster autoscaler sometimes come without their pool's labels, and then nothing is scheduled on them.
The label is only ever added: a node that carries another value than its pool is reported, never changed.
"""

from __future__ import annotations

import datetime
import enum
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller import (
    MERGE_PATCH,
    Api,
    ApiError,
    Backoff,
    Health,
    Json,
    Metrics,
    Replica,
    Settings,
    announce,
    log,
    run,
)

NODES = "/api/v1/nodes"
POOL_LABEL = "rke.cattle.io/rke-machine-pool-name"
CONTROL_PLANE_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd")
LABEL = "workload-type"
COMPONENT = "node-labeler"
BUCKETS = (1, 5, 15, 60, 300, 900, 3600)


class State(enum.StrEnum):
    """What is to be said about a node."""

    LABELLED = "labelled"
    MISSING = "missing"
    MISMATCH = "mismatch"
    UNKNOWN_POOL = "unknown_pool"
    CONTROL_PLANE = "control_plane"


@dataclass(frozen=True)
class Config(Settings):
    """What the Deployment's environment says."""

    cluster: str
    pools: tuple[str, ...]
    control_plane_pools: tuple[str, ...]
    dry_run: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Config:
        """Read it.

        :raises ValueError: naming what is missing or cannot be.
        """

        def names(variable: str) -> tuple[str, ...]:
            return tuple(name.strip() for name in environment.get(variable, "").split(",") if name.strip())

        replica = Replica.from_environment(environment, "CLUSTER", "POOLS")
        dry_run = environment.get("DRY_RUN", "false").lower()
        if dry_run not in ("true", "false"):
            raise ValueError(f"DRY_RUN is '{dry_run}', but must be true or false")
        return cls(
            cluster=environment["CLUSTER"],
            pools=names("POOLS"),
            control_plane_pools=names("CONTROL_PLANE_POOLS"),
            dry_run=dry_run == "true",
            replica=replica,
        )


def pool_of(name: str, labels: Mapping[str, str], config: Config) -> str:
    """The pool that a node is of, from Rancher's own label or its name (``<cluster>-<pool>-...``), or nothing."""
    if labels.get(POOL_LABEL):
        return labels[POOL_LABEL]
    # The longest first: a pool's name may begin with another's.
    for pool in sorted((*config.pools, *config.control_plane_pools), key=len, reverse=True):
        if name.startswith(f"{config.cluster}-{pool}-"):
            return pool
    return ""


def judge(node: Json, config: Config) -> tuple[State, str]:
    """What is to be said about a node, and its pool."""
    metadata = node["metadata"]
    labels = metadata.get("labels") or {}
    pool = pool_of(metadata["name"], labels, config)
    if pool in config.control_plane_pools or any(label in labels for label in CONTROL_PLANE_LABELS):
        return State.CONTROL_PLANE, pool
    if pool not in config.pools:
        return State.UNKNOWN_POOL, pool
    # An empty value was set by somebody: it is a value.
    if LABEL not in labels:
        return State.MISSING, pool
    return (State.LABELLED if labels[LABEL] == pool else State.MISMATCH), pool


def declare(metrics: Metrics) -> None:
    """Make the metrics known, those with known labels at 0 so that a rate can be computed from the first event on."""
    metrics.declare("node_labeler_nodes", "gauge", "Nodes by state, as the leader sees them.")
    metrics.declare("node_labeler_patches_total", "counter", "Labels written, by result.")
    metrics.declare("node_labeler_label_delay_seconds", "histogram", "From a node's creation to its label.", BUCKETS)
    metrics.declare("node_labeler_watch_restarts_total", "counter", "Watches begun again.")
    metrics.declare("node_labeler_errors_total", "counter", "Failed requests, by the API's reason.")
    metrics.declare("node_labeler_last_sync_timestamp_seconds", "gauge", "When the leader last heard from the API.")
    metrics.add("node_labeler_watch_restarts_total", 0.0)
    for result in ("success", "conflict", "error"):
        metrics.add("node_labeler_patches_total", 0.0, result=result)


class Labeler:
    """The leader's work: list the nodes, then follow their changes."""

    def __init__(self, api: Api, config: Config, metrics: Metrics, health: Health, leading: Callable[[], bool]) -> None:
        self._api = api
        self._config = config
        self._metrics = metrics
        self._health = health
        self._leading = leading
        self._backoff = Backoff()
        self._states: dict[str, State] = {}
        self._said: set[tuple[str, ...]] = set()

    def run(self, ended: threading.Event) -> None:
        """Work until ``ended``; every failure is followed by a pause and a fresh list."""
        try:
            while not ended.is_set():
                try:
                    version = self.sync()
                    while not ended.is_set():
                        version = self.follow(version, ended)
                except ApiError as error:
                    if ended.is_set():
                        return
                    self._metrics.add("node_labeler_errors_total", reason=error.reason)
                    # 410: the server has forgotten the version that the watch begins at. A fresh list is the cure.
                    level = "info" if error.status == 410 else "warning"
                    pause = self._backoff.next(error)
                    log(level, "listing the nodes again", error=str(error), pause=round(pause, 2))
                    ended.wait(pause)
        except Exception as error:
            # Anything else is a fault of this program: say it, and let the container start anew.
            log("error", "the work failed", error=repr(error))
            raise
        finally:
            self._health.forget("nodes")
            self._metrics.clear("node_labeler_nodes")

    def sync(self) -> str:
        """Look at every node once, and return the list's version. One node's failure does not hold up the others."""
        answer = self._api.request("GET", NODES)
        nodes = answer["items"]
        self._states = {}
        failure: ApiError | None = None
        for node in nodes:
            try:
                self.handle(node)
            except ApiError as error:
                failure = error
        self._heard()
        if failure is not None:
            raise failure
        return str(answer["metadata"]["resourceVersion"])

    def follow(self, version: str, ended: threading.Event) -> str:
        """Watch from a version on, and return the version that the next watch begins at."""
        query = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "300"}
        before = version
        self._health.beat("nodes")
        for event in self._api.watch(NODES, query):
            node = event["object"]
            if event["type"] == "ERROR":
                reason, message = str(node.get("reason", "Unknown")), str(node.get("message", ""))
                raise ApiError(f"watch {NODES}", int(node.get("code", 0)), reason, message)
            version = str(node["metadata"]["resourceVersion"])
            if event["type"] == "DELETED":
                self._states.pop(node["metadata"]["name"], None)
            elif event["type"] in ("ADDED", "MODIFIED"):
                self.handle(node)
            self._heard()
            # Not after the list: a watch that always fails would then be tried again and again without a pause.
            self._backoff.reset()
        self._metrics.add("node_labeler_watch_restarts_total")
        if version == before:
            ended.wait(1.0)
        return version

    def _heard(self) -> None:
        counts = Counter(self._states.values())
        for state in State:
            self._metrics.set("node_labeler_nodes", counts[state], state=state)
        self._metrics.set("node_labeler_last_sync_timestamp_seconds", time.time())
        self._health.beat("nodes")

    def handle(self, node: Json) -> None:
        """Label the node, report it, or leave it alone."""
        name = node["metadata"]["name"]
        state, pool = judge(node, self._config)
        self._states[name] = state
        if state is State.MISSING and self._label(node, pool):
            self._states[name] = State.LABELLED
        elif state is State.MISMATCH:
            self._report(node, pool)
        elif state is State.UNKNOWN_POOL and self._first(str(state), name, pool):
            log("warning", "the node is of no pool that platform_pools has; it is left alone", node=name, pool=pool)

    def _first(self, *what: str) -> bool:
        """Whether this is said for the first time: a node changes every few minutes, and each change comes by here."""
        new = what not in self._said
        self._said.add(what)
        return new

    def _label(self, node: Json, pool: str) -> bool:
        metadata = node["metadata"]
        name = metadata["name"]
        if not self._leading():
            return False
        dry_run = self._config.dry_run
        if dry_run and not self._first("dry-run", metadata["uid"], pool):
            return False
        # With the version that was looked at: who changes the node in between wins, and the watch brings the outcome.
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "labels": {LABEL: pool}}}
        query = {"dryRun": "All"} if dry_run else {}
        try:
            self._api.request("PATCH", f"{NODES}/{urllib.parse.quote(name)}", body, query, MERGE_PATCH)
        except ApiError as error:
            if error.status == 404:
                return False
            self._metrics.add("node_labeler_patches_total", result="conflict" if error.status == 409 else "error")
            if error.status == 409:
                return False
            raise
        if dry_run:
            log("info", "would label the node", node=name, label=LABEL, value=pool)
            return False
        self._metrics.add("node_labeler_patches_total", result="success")
        if self._first("delay", metadata["uid"]):
            created = datetime.datetime.fromisoformat(metadata["creationTimestamp"])
            self._metrics.observe("node_labeler_label_delay_seconds", max(0.0, time.time() - created.timestamp()))
        log("info", "labelled the node", node=name, label=LABEL, value=pool)
        return True

    def _report(self, node: Json, pool: str) -> None:
        metadata = node["metadata"]
        name, uid, value = metadata["name"], metadata["uid"], metadata["labels"][LABEL]
        if not self._leading() or not self._first("mismatch", uid, value, pool):
            return
        message = (
            f"The label {LABEL} is '{value}', but the node is of the pool '{pool}'. "
            "It is left as it is: correct the label, or remove it."
        )
        log("warning", "the node's label is not its pool", node=name, label=LABEL, value=value, pool=pool)
        if self._config.dry_run:
            return
        try:
            # The same name for the same mismatch: the next leader's event is refused as there already.
            about = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": uid}}
            announce(self._api, about, "Warning", "PoolLabelMismatch", message, COMPONENT, f"{value}\0{pool}")
        except ApiError:
            self._said.discard(("mismatch", uid, value, pool))
            raise


def begin(
    config: Config, api: Api, metrics: Metrics, health: Health, leading: Callable[[], bool]
) -> Callable[[threading.Event], None]:
    """The work, with its metrics."""
    declare(metrics)
    return Labeler(api, config, metrics, health, leading).run


if __name__ == "__main__":
    sys.exit(run(COMPONENT, Config.from_environment, begin))
