# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Grows volumes before they are full: within a policy, by whole GiB, once in a cool-down, and never on old data."""

from __future__ import annotations

import datetime
import random
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable

from controller import (
    APPLY_PATCH,
    Api,
    ApiError,
    Backoff,
    Health,
    Json,
    Metrics,
    announce,
    log,
    run,
)
from policies import GIB, Config
from usage import Key, Prometheus, PrometheusError, Usage
from volumes import (
    BLOCKED,
    CLUSTER_LABEL,
    GROWTHS,
    ROLE_LABEL,
    Claim,
    Growth,
    State,
    Verdict,
    Volume,
    grown_today,
    judge,
    read_growths,
    write_growths,
)

COMPONENT = "storage-autoscaler"
METRIC = "storage_autoscaler_"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
RESULTS = ("success", "dry_run", "conflict", "error")
# What only the leader knows, and only as long as it leads.
KNOWN = (
    "pvc_usage_ratio",
    "pvc_limit_reached",
    "pvcs",
    "prometheus_up",
    "last_run_timestamp_seconds",
    "day_growth_bytes",
)
MEND = {
    State.LIMIT: "Raise maximum_gib of its policy, or clear space.",
    State.DAILY_CAP: "Raise storage_autoscaler_daily_gib, or wait until tomorrow.",
    State.NOT_EXPANDABLE: "Use a StorageClass that allows expansion.",
}


def declare(metrics: Metrics, config: Config) -> None:
    """Make the metrics known, those with known labels at 0 so that a rate can be computed from the first event on."""
    for name, kind, text in (
        ("prometheus_up", "gauge", "Whether Prometheus answered the leader's last queries."),
        ("prometheus_query_failures_total", "counter", "Rounds in which Prometheus gave no answer: nothing grew."),
        ("last_run_timestamp_seconds", "gauge", "When the leader last judged all volumes."),
        ("pvcs", "gauge", "PVCs that a policy concerns, by state."),
        ("pvc_usage_ratio", "gauge", "How full a PVC is, the fuller of bytes and inodes."),
        ("pvc_limit_reached", "gauge", "Whether a PVC is full enough to grow, but at its policy's maximum."),
        ("blocked_total", "counter", "Rounds in which a PVC needed room and did not get it, by reason."),
        ("expansions_total", "counter", "Growths asked for, by result."),
        ("day_growth_bytes", "gauge", "Bytes that all PVCs together have grown by in the last day."),
        ("day_limit_bytes", "gauge", "Bytes that all PVCs together may grow by in a day."),
        ("errors_total", "counter", "Failed requests, by the API's reason."),
    ):
        metrics.declare(METRIC + name, kind, text)
    metrics.set(METRIC + "day_limit_bytes", float(config.daily_gib * GIB))
    metrics.add(METRIC + "prometheus_query_failures_total", 0.0)
    for state in BLOCKED:
        metrics.add(METRIC + "blocked_total", 0.0, reason=state)


class Autoscaler:
    """The leader's work: look at all volumes once a minute."""

    def __init__(
        self,
        api: Api,
        prometheus: Prometheus,
        config: Config,
        metrics: Metrics,
        health: Health,
        leading: Callable[[], bool],
    ) -> None:
        self._api = api
        self._prometheus = prometheus
        self._config = config
        self._metrics = metrics
        self._health = health
        self._leading = leading
        self._backoff = Backoff(1.0, config.interval_seconds)
        self._refused: dict[str, tuple[Backoff, float, str]] = {}
        self._said: dict[str, str] = {}
        self._tried: set[str] = set()

    def run(self, ended: threading.Event) -> None:
        """Work until ``ended``; an outage is said, counted and waited for."""
        try:
            while not ended.is_set():
                self._health.beat("volumes")
                pause = self._config.interval_seconds * random.uniform(0.9, 1.0)
                try:
                    self.round()
                    self._backoff.reset()
                except PrometheusError as error:
                    log("warning", "Prometheus gave no answer, nothing grows", error=str(error))
                except ApiError as error:
                    self._metrics.add(METRIC + "errors_total", reason=error.reason)
                    pause = self._backoff.next(error)
                    log("warning", "the API gave no answer, nothing grows", error=str(error), pause=round(pause, 2))
                ended.wait(pause)
        except Exception as error:
            # Anything else is a fault of this program: say it, and let the container start anew.
            log("error", "the work failed", error=repr(error))
            raise
        finally:
            self._health.forget("volumes")
            for name in KNOWN:
                self._metrics.clear(METRIC + name)

    def round(self) -> None:
        """Look at every volume once, the fullest first."""
        usage = self._usage()
        volumes = self._volumes(usage)
        answer = self._api.request("GET", CLASSES)
        classes = {item["metadata"]["name"]: item.get("allowVolumeExpansion") is True for item in answer["items"]}
        self._show(volumes)
        now = datetime.datetime.now(datetime.UTC)
        spent = grown_today(volumes, now)
        verdicts = []
        for volume in sorted(volumes, key=lambda volume: volume.fullest.ratio, reverse=True):
            verdict = judge(volume, classes, now)
            if verdict.state is State.GROW:
                cost = (verdict.gib * GIB - volume.size) * len(volume.claims)
                verdict = self._allowed(volume, verdict, cost, spent)
            if verdict.state is State.GROW:
                verdict = self._grow(volume, verdict, now)
                spent += cost if verdict.state is State.GROW else 0
            self._say(volume, verdict)
            verdicts.append((volume, verdict))
        self._count(verdicts, spent)

    def _usage(self) -> dict[Key, Usage]:
        try:
            usage = self._prometheus.usage()
        except PrometheusError:
            self._metrics.set(METRIC + "prometheus_up", 0.0)
            self._metrics.add(METRIC + "prometheus_query_failures_total")
            # What was known is no longer: a full volume must not look as if it had stopped filling.
            for name in ("pvc_usage_ratio", "pvc_limit_reached", "pvcs"):
                self._metrics.clear(METRIC + name)
            raise
        self._metrics.set(METRIC + "prometheus_up", 1.0)
        return usage

    def _volumes(self, usage: dict[Key, Usage]) -> list[Volume]:
        """The volumes that a policy concerns, those of a CNPG cluster together."""
        volumes: list[Volume] = []
        for namespace in sorted({policy.namespace for policy in self._config.policies}):
            path = f"/api/v1/namespaces/{urllib.parse.quote(namespace)}/persistentvolumeclaims"
            clustered: dict[tuple[str, str], list[Claim]] = {}
            # Items of a list say neither version nor kind.
            for item in self._api.request("GET", path)["items"]:
                pvc = {**item, "apiVersion": "v1", "kind": "PersistentVolumeClaim"}
                name = pvc["metadata"]["name"]
                policy = self._config.policy_of(namespace, name)
                if policy is None:
                    continue
                claim = Claim(pvc, policy, usage.get((namespace, name)))
                labels = pvc["metadata"].get("labels") or {}
                if CLUSTER_LABEL in labels:
                    clustered.setdefault((labels[CLUSTER_LABEL], labels.get(ROLE_LABEL, "PG_DATA")), []).append(claim)
                else:
                    volumes.append(Volume((claim,)))
            if clustered:
                clusters = self._clusters(namespace)
                # A Cluster that is gone has left its volumes behind: they are looked at, not changed.
                gone: Json = {"metadata": {}, "spec": {}}
                volumes += [Volume(tuple(claims), clusters.get(key[0], gone)) for key, claims in clustered.items()]
        return volumes

    def _clusters(self, namespace: str) -> dict[str, Json]:
        path = f"/apis/postgresql.cnpg.io/v1/namespaces/{urllib.parse.quote(namespace)}/clusters"
        try:
            items = self._api.request("GET", path)["items"]
        except ApiError as error:
            if error.status != 404:
                raise
            items = []
        return {item["metadata"]["name"]: item for item in items}

    def _allowed(self, volume: Volume, verdict: Verdict, cost: int, spent: int) -> Verdict:
        """The limits that are not the volume's own."""
        limit = self._config.daily_gib
        if spent + cost > limit * GIB:
            why = f"{spent / GIB:g} GiB of the {limit} GiB that all volumes together may grow by in a day are used"
            return Verdict(State.DAILY_CAP, why)
        refused = self._refused.get(_uid(volume))
        if refused is not None and time.monotonic() < refused[1]:
            return Verdict(State.REFUSED, refused[2])
        return verdict

    def _grow(self, volume: Volume, verdict: Verdict, now: datetime.datetime) -> Verdict:
        """Ask for the new size; what was done is remembered in the same write, so it cannot be done twice."""
        tried = f"{_uid(volume)} {verdict.gib}"
        if not self._leading() or tried in self._tried:
            return Verdict(State.LATER)
        path, body = volume.patch
        growth = Growth(now, volume.size, verdict.gib * GIB)
        # With the version that was looked at: who changes the object in between wins, and the next round looks again.
        body["metadata"]["annotations"] = {GROWTHS: write_growths(read_growths(volume.owner), growth)}
        body["spec"] = volume.fields(verdict.gib)
        query = {"fieldManager": COMPONENT, "force": "true"}
        if self._config.dry_run:
            # The API judges it once, and stores nothing.
            query["dryRun"] = "All"
            self._tried.add(tried)
        claim = volume.fullest
        about = {
            "namespace": claim.key[0],
            "pvc": claim.key[1],
            "from_gib": round(volume.size / GIB, 2),
            "to_gib": verdict.gib,
            "used_percent": round(claim.ratio * 100, 1),
        }
        try:
            self._api.request("PATCH", path, body, query, APPLY_PATCH)
        except ApiError as error:
            return self._failed(volume, error)
        self._refused.pop(_uid(volume), None)
        result = "dry_run" if self._config.dry_run else "success"
        self._result(volume, result)
        log("info", "would grow the volume" if self._config.dry_run else "grew the volume", **about)
        return verdict

    def _failed(self, volume: Volume, error: ApiError) -> Verdict:
        namespace, name = volume.fullest.key
        log("warning", "the volume was not grown", namespace=namespace, pvc=name, error=str(error))
        if error.status in (404, 409):
            self._result(volume, "conflict")
            return Verdict(State.LATER)
        self._result(volume, "error")
        self._metrics.add(METRIC + "errors_total", reason=error.reason)
        if error.status == 0:
            raise error
        backoff = self._refused.get(_uid(volume), (Backoff(120.0, 3600.0),))[0]
        self._refused[_uid(volume)] = (backoff, time.monotonic() + backoff.next(error), str(error))
        return Verdict(State.REFUSED, str(error))

    def _result(self, volume: Volume, result: str) -> None:
        for claim in volume.claims:
            self._metrics.add(METRIC + "expansions_total", namespace=claim.key[0], pvc=claim.key[1], result=result)

    def _say(self, volume: Volume, verdict: Verdict) -> None:
        """One Event on the PVC for what was done or cannot be done, when it becomes so and not in each round."""
        claim, uid = volume.fullest, _uid(volume)
        if verdict.state is State.GROW:
            kind, reason = "Normal", "StorageExpanded"
            key = f"{volume.size}>{verdict.gib}"
            message = f"Asked for {verdict.gib} GiB instead of {volume.size / GIB:g} GiB: {claim.ratio:.0%} are used."
        elif verdict.state in BLOCKED:
            limit = verdict.state is State.LIMIT
            kind, reason, key = "Warning", "StorageLimitReached" if limit else "StorageExpansionBlocked", verdict.state
            full = f"{claim.ratio:.0%} are used, but the" if claim.ratio >= 0 else "The"
            message = f"{full} volume does not grow: {verdict.why}. {MEND.get(verdict.state, '')}".rstrip()
        else:
            self._said.pop(uid, None)
            return
        if self._said.get(uid) == key:
            return
        self._said[uid] = key
        if verdict.state in BLOCKED:
            log("warning", "the volume does not grow", namespace=claim.key[0], pvc=claim.key[1], why=verdict.why)
        if self._config.dry_run or not self._leading():
            return
        try:
            announce(self._api, claim.pvc, kind, reason, message, COMPONENT, f"{key}\0{verdict.why}")
        except ApiError as error:
            # The volume has grown all the same: an Event is not worth a round.
            self._metrics.add(METRIC + "errors_total", reason=error.reason)
            log("warning", "the Event was not made", error=str(error))

    def _show(self, volumes: list[Volume]) -> None:
        claims = [claim for volume in volumes for claim in volume.claims]
        for claim in claims:
            for result in RESULTS:
                self._metrics.add(METRIC + "expansions_total", 0.0, **_labels(claim), result=result)
        known = [(_labels(claim), claim.ratio) for claim in claims if claim.ratio >= 0]
        self._metrics.replace(METRIC + "pvc_usage_ratio", known)

    def _count(self, verdicts: list[tuple[Volume, Verdict]], spent: int) -> None:
        judged = [(claim, verdict.state) for volume, verdict in verdicts for claim in volume.claims]
        for volume, verdict in verdicts:
            if verdict.state in BLOCKED:
                self._metrics.add(METRIC + "blocked_total", float(len(volume.claims)), reason=verdict.state)
        counts = Counter(state for _claim, state in judged)
        self._metrics.replace(METRIC + "pvcs", [({"state": state}, float(counts[state])) for state in State])
        limits = [(_labels(claim), float(state is State.LIMIT)) for claim, state in judged]
        self._metrics.replace(METRIC + "pvc_limit_reached", limits)
        self._metrics.set(METRIC + "day_growth_bytes", float(spent))
        self._metrics.set(METRIC + "last_run_timestamp_seconds", time.time())
        self._health.beat("volumes")


def _labels(claim: Claim) -> dict[str, str]:
    return {"namespace": claim.key[0], "pvc": claim.key[1]}


def _uid(volume: Volume) -> str:
    return str(volume.claims[0].pvc["metadata"]["uid"])


def begin(
    config: Config, api: Api, metrics: Metrics, health: Health, leading: Callable[[], bool]
) -> Callable[[threading.Event], None]:
    """The work, with its metrics."""
    health.patience = max(health.patience, 3 * config.interval_seconds)
    declare(metrics, config)
    return Autoscaler(api, Prometheus(config.prometheus_url), config, metrics, health, leading).run


if __name__ == "__main__":
    sys.exit(run(COMPONENT, Config.read, begin))
