# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Stands in for the program of the image kiwigrid/k8s-sidecar: files from labelled ConfigMaps, then a request.

It runs alone in a container, so it uses the standard library only. Of the image's settings it knows LABEL, LABEL_VALUE,
FOLDER, FOLDER_ANNOTATION, NAMESPACE, RESOURCE=configmap, METHOD (LIST, else a watch), REQ_URL, REQ_METHOD, REQ_PAYLOAD,
REQ_TIMEOUT and DEFAULT_FILE_MODE. It does not start with one that would change what it does and that it does not know.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger("sidecar")

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
AGAIN = 5.0  # seconds until the API server is asked again after an error
SETTLE = 0.5  # seconds in which further changes join the same request
WATCH = 60  # seconds until the server ends a watch
UNKNOWN = ("SCRIPT", "RESOURCE_NAME", "UNIQUE_FILENAMES", "REQ_USERNAME", "REQ_PASSWORD", "SKIP_TLS_VERIFY")

Item = dict[str, Any]
# HTTPError is an OSError; a body that breaks off or is no JSON is tried again like the rest
Failure = (OSError, http.client.HTTPException, ValueError)


class SettingsError(Exception):
    """The environment asks for something that is not emulated."""


class Expired(Exception):
    """The watch cannot go on from where it was."""


@dataclass(frozen=True)
class Settings:
    selector: str
    folder: Path
    annotation: str = "k8s-sidecar-target-directory"
    namespaces: tuple[str, ...] = ("ALL",)
    once: bool = False
    url: str = ""
    method: str = "GET"
    payload: str = ""
    timeout: float = 10.0
    mode: int | None = None

    @classmethod
    def read(cls, env: Mapping[str, str], own_namespace: str) -> Settings:
        missing = [name for name in ("LABEL", "FOLDER") if not env.get(name)]
        if missing:
            raise SettingsError(f"{' and '.join(missing)} must be set")
        unknown = [name for name in UNKNOWN if env.get(name, "").lower() not in ("", "false")]
        if env.get("RESOURCE", "configmap") != "configmap":
            unknown.append("RESOURCE other than configmap")
        if env.get("METHOD") == "SLEEP":
            unknown.append("METHOD=SLEEP")
        if unknown:
            raise SettingsError(f"the lab's sidecar does not know {', '.join(unknown)}")
        label, value = env["LABEL"], env.get("LABEL_VALUE", "")
        mode = env.get("DEFAULT_FILE_MODE")
        return cls(
            selector=f"{label}={value}" if value else label,
            folder=Path(env["FOLDER"]),
            annotation=env.get("FOLDER_ANNOTATION", cls.annotation),
            namespaces=tuple(env.get("NAMESPACE", own_namespace).split(",")),
            once=env.get("METHOD") == "LIST",
            url=env.get("REQ_URL", ""),
            method=env.get("REQ_METHOD", cls.method),
            payload=env.get("REQ_PAYLOAD", ""),
            timeout=float(env.get("REQ_TIMEOUT", cls.timeout)),
            mode=int(mode, 8) if mode else None,
        )


class Api:
    """ConfigMaps by the pod's own account; its token is read each time, because the kubelet renews it."""

    def __init__(self, url: str, account: Path) -> None:
        self.url, self.account = url, account
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if url.startswith("https:"):
            context = ssl.create_default_context(cafile=str(account / "ca.crt"))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self.opener = urllib.request.build_opener(*handlers)

    def open(self, namespace: str, timeout: float, **query: str) -> Any:
        part = "" if namespace == "ALL" else f"/namespaces/{namespace}"
        token = (self.account / "token").read_text()
        url = f"{self.url}/api/v1{part}/configmaps?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        return self.opener.open(request, timeout=timeout)

    def list(self, namespace: str, selector: str) -> tuple[list[Item], str]:
        with self.open(namespace, 30, labelSelector=selector) as answer:
            found = json.load(answer)
        return found["items"], found["metadata"]["resourceVersion"]

    def watch(self, namespace: str, selector: str, version: str) -> Iterator[Item]:
        query = {"labelSelector": selector, "resourceVersion": version, "watch": "1", "timeoutSeconds": str(WATCH)}
        try:
            with self.open(namespace, WATCH + 15, **query) as answer:
                for line in answer:
                    event: Item = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Expired(event["object"].get("message", ""))
                    yield event
        except urllib.error.HTTPError as error:
            if error.code == 410:
                raise Expired(str(error)) from error
            raise


class Notifier:
    """The request that follows changes of files; what changes meanwhile is one request more."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.due = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="notifier", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.due.wait()
            time.sleep(SETTLE)
            self.due.clear()
            while not self.send():
                time.sleep(AGAIN)

    def send(self) -> bool:
        """False when nobody answered."""
        settings = self.settings
        headers = {"Content-Type": "application/json"} if settings.payload else {}
        data = settings.payload.encode() if settings.method == "POST" else None
        try:
            request = urllib.request.Request(settings.url, data, headers, method=settings.method)
            with urllib.request.urlopen(request, timeout=settings.timeout) as answer:
                log.info("%s %s: %s", settings.method, settings.url, answer.status)
        except urllib.error.HTTPError as error:
            words = error.read().decode(errors="replace").strip()
            log.error("%s %s: %s %s", settings.method, settings.url, error.code, words)
        except (OSError, http.client.HTTPException) as error:
            log.warning("%s %s: %s", settings.method, settings.url, error)
            return False
        return True


class Collector:
    """The files of one namespace's ConfigMaps, or of all; two of the same path: the last written stays."""

    def __init__(self, settings: Settings, api: Api, namespace: str) -> None:
        self.settings, self.api, self.namespace = settings, api, namespace
        self.written: dict[str, set[Path]] = {}

    def put(self, item: Item) -> bool:
        """Whether any file is another one now."""
        wanted = self._wanted(item)
        changed = [self._write(path, content) for path, content in wanted.items()]
        changed += [self._remove(path) for path in self.written.get(name_of(item), set()) - wanted.keys()]
        self.written[name_of(item)] = set(wanted)
        return any(changed)

    def drop(self, name: str) -> bool:
        return any([self._remove(path) for path in self.written.pop(name, set())])

    def sync(self) -> tuple[bool, str]:
        """Everything as it is now, and the version of that."""
        items, version = self.api.list(self.namespace, self.settings.selector)
        gone = self.written.keys() - {name_of(item) for item in items}
        # what is gone goes first: its file may have moved to another ConfigMap
        changed = [self.drop(name) for name in gone] + [self.put(item) for item in items]
        return any(changed), version

    def follow(self, notifier: Notifier) -> None:
        version = ""
        while True:
            try:
                if not version:
                    changed, version = self.sync()
                    self._tell(notifier, changed)
                for event in self.api.watch(self.namespace, self.settings.selector, version):
                    item = event["object"]
                    changed = self.drop(name_of(item)) if event["type"] == "DELETED" else self.put(item)
                    version = item["metadata"]["resourceVersion"]
                    self._tell(notifier, changed)
            except Expired as error:
                log.info("reading all ConfigMaps again: %s", error)
                version = ""
            except Failure as error:
                log.warning("ConfigMaps of %s: %s; trying again", self.namespace, error)
                time.sleep(AGAIN)

    def _tell(self, notifier: Notifier, changed: bool) -> None:
        if changed and self.settings.url:
            notifier.due.set()

    def _wanted(self, item: Item) -> dict[Path, bytes]:
        named = (item["metadata"].get("annotations") or {}).get(self.settings.annotation, "")
        folder = self.settings.folder / named
        files = {key: text.encode() for key, text in (item.get("data") or {}).items()}
        files.update({key: base64.b64decode(text) for key, text in (item.get("binaryData") or {}).items()})
        for key in [key for key in files if key.endswith(".url")]:
            log.error("%s: %s would be downloaded, which the lab's sidecar does not do", name_of(item), key)
            del files[key]
        return {folder / key: content for key, content in files.items()}

    def _write(self, path: Path, content: bytes) -> bool:
        try:
            if path.is_file() and path.read_bytes() == content:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_bytes(content)
            if self.settings.mode is not None:
                fresh.chmod(self.settings.mode)
            fresh.replace(path)
        except OSError as error:
            log.error("writing %s: %s", path, error)
            return False
        log.info("wrote %s", path)
        return True

    def _remove(self, path: Path) -> bool:
        try:
            path.unlink()
        except OSError as error:
            log.error("removing %s: %s", path, error)
            return False
        log.info("removed %s", path)
        return True


def name_of(item: Item) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def once(collectors: list[Collector], notifier: Notifier) -> None:
    changed = False
    for collector in collectors:
        while True:
            try:
                changed |= collector.sync()[0]
                break
            except Failure as error:
                log.warning("ConfigMaps of %s: %s; trying again", collector.namespace, error)
                time.sleep(AGAIN)
    if changed and notifier.settings.url:
        notifier.send()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    try:
        settings = Settings.read(os.environ, (ACCOUNT / "namespace").read_text().strip())
    except (SettingsError, OSError, ValueError) as error:
        log.error("not started: %s", error)
        return 1
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    api, notifier = Api(f"https://{host}:{port}", ACCOUNT), Notifier(settings)
    collectors = [Collector(settings, api, namespace) for namespace in settings.namespaces]
    # the first process of a container ignores the signal unless it says otherwise
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if settings.once:
        once(collectors, notifier)
        return 0
    notifier.start()
    for collector in collectors:
        threading.Thread(target=collector.follow, args=(notifier,), name=collector.namespace, daemon=True).start()
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
