# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What a phase stands on is missing, refuses, comes late, or goes away in the middle of the run."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import processes
from lab.settings import Lab
from tests.fault._site import PODS, TO_PHASE_2, TO_VAULT, Audit, Site, site

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
ISSUER = "/apis/cert-manager.io/v1/clusterissuers/vault-issuer"

# Several whole runs a test, on whatever machine this is.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    """Phases 0 and 1 are done."""
    where = site()
    where.empty()
    made = where.run("--tags", "phase0,phase1")
    assert made.returncode == 0, made.tail
    yield where


def other(lab: Site, server: str, folder: pathlib.Path, old: str, new: str) -> str:
    """A kubeconfig that differs in one place."""
    text = pathlib.Path(lab.kubeconfig(server)).read_text()
    assert re.search(old, text)
    path = folder / f"{server}.yaml"
    path.write_text(re.sub(old, new, text))
    return str(path)


def expired(lab: Site, server: str, folder: pathlib.Path) -> str:
    """A kubeconfig whose credential the server refuses."""
    return other(lab, server, folder, r"(?s)client-certificate-data: .*?client-key-data: \S+", "token: has-expired")


def refused(lab: Site, *arguments: str) -> str:
    """What a run says that is refused before anything is touched."""
    for mode in ((), ("--check",)):
        audit = Audit(lab)
        run = lab.run(*arguments, *mode)
        assert run.returncode == 2 and run.changed == 0 and not audit.asked(), run.tail
    return run.said


def test_a_missing_storage_class_is_refused(lab: Site) -> None:
    said = refused(lab, "--tags", "phase2", "-e", "platform_storage_class=fast")
    assert "Phase 2 makes volumes of the StorageClass fast, which the cluster does not have; it has harvester." in said
    assert "set platform_storage_class" in said


def test_a_credential_of_the_cluster_that_is_refused(lab: Site, tmp_path: pathlib.Path) -> None:
    kubeconfig = expired(lab, "cluster", tmp_path)
    said = refused(lab, "--tags", "phase1", "-e", f"platform_kubeconfig={kubeconfig}")
    assert "Reading the state of the cluster" in said and "Its credential may have expired" in said
    assert kubeconfig in said and "has-expired" not in said


def test_a_credential_of_harvester_that_is_refused(lab: Site, tmp_path: pathlib.Path) -> None:
    kubeconfig = expired(lab, "harvester", tmp_path)
    said = refused(lab, "-e", f"platform_harvester_kubeconfig={kubeconfig}")
    assert "Reading the root CA" in said and "credential may have expired" in said
    assert kubeconfig in said and "has-expired" not in said


def test_a_harvester_that_does_not_answer_is_not_called_a_missing_root_ca(lab: Site, tmp_path: pathlib.Path) -> None:
    kubeconfig = other(lab, "harvester", tmp_path, "server: .*", "server: https://127.0.0.1:1")
    said = refused(lab, "--tags", "phase2", "-e", f"platform_harvester_kubeconfig={kubeconfig}")
    assert "Phase 2 needs the root CA on Harvester." in said and "Connection refused" in said
    assert "run it first" not in said


def test_harvester_goes_away_in_the_middle_vault_is_not_initialised(lab: Site) -> None:
    """Its API server stops while Vault's chart is installed: keys could not be saved, so none are made."""
    run = lab.start("--tags", "phase2")
    assert run.reaches("harvester_rke2.platform.vault : Validating arguments")
    pid = processes.running_pid(Lab.from_environment(), "kube-apiserver-harvester")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        failed = run.finish()
        assert failed.returncode == 2, failed.tail
        assert failed.states("Initialise Vault once and keep its keys") == ["failed"], failed.tail
        assert not any(lab.vault(pod, "GET", "sys/seal-status")["initialized"] for pod in PODS)
        assert not list((lab.home / ".local").rglob("vault-init.json")), "a spool without an init"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert lab.secret("vault-init") is None
    lab.converged(*TO_VAULT)
    lab.again(*TO_VAULT)
    lab.check(*TO_PHASE_2)


def test_a_webhook_that_answers_late_is_waited_for(lab: Site) -> None:
    """Fault 19: as cert-manager's own does right after its installation. The issuer is made once it answers."""
    name = "late.fault.example"
    rule = {"apiGroups": ["cert-manager.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
    webhook: dict[str, Any] = {
        "name": name,
        "rules": [{**rule, "resources": ["clusterissuers"]}],
        "clientConfig": {"service": {"namespace": "cert-manager", "name": "late", "path": "/validate"}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    lab.converged(*TO_VAULT)
    lab.cluster.delete(ISSUER)
    lab.cluster.request("POST", WEBHOOKS, body={**body, "metadata": {"name": name}, "webhooks": [webhook]})
    try:
        run = lab.start("--tags", "vault_pki")
        assert run.reaches("Apply the objects")
        time.sleep(8)
        assert run.process.poll() is None and lab.cluster.get_or_none(ISSUER) is None
    finally:
        lab.cluster.delete(f"{WEBHOOKS}/{name}")
    done = run.finish()
    assert done.returncode == 0 and done.states("Apply the objects") == ["changed"], done.tail
    lab.again(*TO_VAULT)
    lab.check(*TO_PHASE_2)
