# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Prometheus's scrape jobs from a description's ``metrics`` (private to this collection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

Config = dict[str, Any]

_POD = "__meta_kubernetes_pod_"
# Prometheus 3 refuses an answer without a Content-Type unless told what to take it for; Vault and others send none.
_FALLBACK = "PrometheusText0.0.4"


def scrape_configs(metrics: Sequence[Mapping[str, Any]]) -> list[Config]:
    """One job for each entry, as ``scrape_config_files`` takes them.

    :param metrics: the key ``metrics`` of a description, completed with its defaults.
    """
    return [_job(entry) for entry in metrics]


def _job(metrics: Mapping[str, Any]) -> Config:
    path, *query = metrics["path"].split("?", 1)
    found: Config = {"role": "pod", "namespaces": {"names": metrics["namespaces"]}}
    if metrics["selector"]:
        label = ",".join(f"{name}={value}" for name, value in metrics["selector"].items())
        found["selectors"] = [{"role": "pod", "label": label}]
    job: Config = {
        "job_name": metrics["job"],
        "scheme": metrics["scheme"],
        "metrics_path": path,
        "fallback_scrape_protocol": _FALLBACK,
        "kubernetes_sd_configs": [found],
        "relabel_configs": _relabelling(metrics),
    }
    if query:
        job["params"] = parse_qs(query[0])
    if metrics["honor_labels"]:
        job["honor_labels"] = True
    if metrics["drop"]:
        dropped = {"source_labels": ["__name__"], "regex": "|".join(metrics["drop"]), "action": "drop"}
        job["metric_relabel_configs"] = [dropped]
    return job


def _relabelling(metrics: Mapping[str, Any]) -> list[Config]:
    rules: list[Config] = [
        {"source_labels": [f"{_POD}phase"], "regex": "Pending|Succeeded|Failed", "action": "drop"},
        # A pod is found once for each port that it declares: all become this one target, which Prometheus takes once.
        _set("__address__", f"{_POD}ip", "([^:]+)", f"$1:{metrics['port']}"),
        _set("__address__", f"{_POD}ip", "(.*:.*)", f"[$1]:{metrics['port']}"),
    ]
    if metrics["node"]:
        rules += [_set(label, f"{_POD}node_name") for label in ("node", "instance")]
    if not metrics["honor_labels"]:
        # Where the metrics say these themselves, the target's would come back as exported_namespace.
        rules += [_set("namespace", "__meta_kubernetes_namespace"), _set("pod", f"{_POD}name")]
    rules += [_set(label, f"{_POD}label_{_meta(name)}") for label, name in metrics["labels"].items()]
    return rules


def _set(target: str, source: str, regex: str = "(.+)", value: str = "$1") -> Config:
    return {"source_labels": [source], "regex": regex, "target_label": target, "replacement": value}


def _meta(label: str) -> str:
    """A Kubernetes label as Prometheus writes it in its own."""
    return "".join(letter if letter.isalnum() else "_" for letter in label)
