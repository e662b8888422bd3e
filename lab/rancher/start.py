# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What a start of the lab does for Rancher: certificate, token, files, daemons."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
from pathlib import Path

from lab import pki
from lab.kube import Client
from lab.processes import Program
from lab.rancher import settings, tokens, webhook
from lab.settings import CLUSTER_DOMAIN, SERVERS, Lab


def prepare(lab: Lab) -> None:
    """Certificates, and the files that a user or the inventory reads."""
    files = settings.Files.of(lab)
    authority = pki.Authority(files.pki, f"lab {lab.name} Rancher")
    authority.issue("server", settings.NAME, hosts=[settings.NAME, settings.ADDRESS, "localhost", "127.0.0.1"])
    service = f"{settings.WEBHOOK}.{settings.WEBHOOK_NAMESPACE}.svc"
    authority.issue("webhook", service, hosts=[service, f"{service}.{CLUSTER_DOMAIN}", settings.WEBHOOK_ADDRESS])
    shutil.copyfile(files.pki / "ca.crt", files.authority)
    everything = [files.pki / "ca.crt", *(lab.path("pki", server.name, "ca.crt") for server in SERVERS)]
    pki.write(files.bundle, b"".join(file.read_bytes() for file in everything), 0o644)
    pki.write(files.mode, settings.nodes_mode(files).encode(), 0o644)
    pki.write(files.times, settings.times_from_environment(os.environ).encode(), 0o644)


def make_tokens(lab: Lab, client: Client) -> None:
    """The installer's and the autoscaler's, made once a lab."""
    files = settings.Files.of(lab)
    _token(client, files.token, settings.TOKEN, settings.USER, "The lab's installer")
    _token(client, files.scaler_token, settings.SCALER_TOKEN, settings.SCALER, "The cluster autoscaler")


def _token(client: Client, file: Path, name: str, user: str, description: str) -> None:
    path = f"{tokens.PATH}/{name}"
    found = client.get(path)
    if found and file.exists() and tokens.accepts(found, file.read_text().strip()):
        return
    if found:
        client.delete(path)
    made, secret = tokens.make(name, datetime.timedelta(days=settings.TOKEN_DAYS), description, user=user)
    client.request("POST", tokens.PATH, made)
    pki.write(file, f"{name}:{secret}\n".encode(), 0o600)


def register(lab: Lab, client: Client) -> None:
    """The webhook is registered before it answers, as on a fresh Rancher."""
    authority = (settings.Files.of(lab).pki / "ca.crt").read_bytes()
    configuration = webhook.configuration(authority)
    client.apply(f"{webhook.PATH}/{configuration['metadata']['name']}", configuration)


def programs(lab: Lab) -> list[Program]:
    def program(name: str, module: str) -> Program:
        argv = [sys.executable, "-m", f"lab.rancher.{module}", f"--directory={lab.directory}"]
        return Program(name, argv, "emulated", settings.VERSION)

    return [program(settings.SERVER, "server"), program(settings.CONTROLLERS, "controllers")]
