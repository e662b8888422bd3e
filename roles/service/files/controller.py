# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What a small controller needs beside its own logic: the API's client, a leader's election, metrics, health and logs.

Standard library only, because it runs from a ConfigMap on a public Python image.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import json
import math
import os
import random
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
Json = dict[str, Any]


def log(level: str, message: str, **fields: object) -> None:
    """Write one line of JSON, which Loki and people can both read."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sys.stdout.write(json.dumps({"time": now, "level": level, "msg": message, **fields}, default=str) + "\n")
    sys.stdout.flush()


class ApiError(Exception):
    """The API refused a request (``status`` is HTTP's) or could not be reached (``status`` is 0)."""

    def __init__(self, what: str, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{what}: {message}" + (f" (HTTP {status})" if status else ""))
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


def unreachable(what: str, error: Exception) -> ApiError:
    """The failure of a connection, which is never the caller's fault and always worth another try."""
    return ApiError(what, 0, "Unreachable", str(error) or type(error).__name__)


class Api:
    """The cluster's API, as a pod reaches it.

    Token and CA are read at each request, because the kubelet renews both while the program runs. Each request has a
    connection of its own.
    """

    def __init__(self, host: str, port: int, account: Path = ACCOUNT, timeout: float = 10.0) -> None:
        self._host = host
        self._port = port
        self._account = account
        self._timeout = timeout
        self._watching: socket.socket | None = None

    @classmethod
    def in_cluster(cls) -> Api:
        """Address and account that Kubernetes gives each pod."""
        return cls(os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]))

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Json | None, content_type: str, timeout: float
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        headers = {
            "Authorization": "Bearer " + (self._account / "token").read_text(encoding="ascii").strip(),
            "Accept": "application/json",
            "User-Agent": "harvester-rke2-platform-controller",
        }
        if body is not None:
            headers["Content-Type"] = content_type
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        try:
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise self._refusal(f"{method} {path}", response)
        except BaseException:
            connection.close()
            raise
        return connection, response

    @staticmethod
    def _refusal(what: str, response: http.client.HTTPResponse) -> ApiError:
        text = response.read(65536).decode(errors="replace")
        try:
            status = json.loads(text)
        except ValueError:
            status = None
        if not isinstance(status, dict):
            status = {"message": text.strip()[:200]}
        wait = response.headers.get("Retry-After", "")
        return ApiError(
            what,
            response.status,
            str(status.get("reason") or response.reason),
            str(status.get("message") or response.reason),
            float(wait) if wait.isdigit() else 0.0,
        )

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """Send one request and return the object in its answer."""
        try:
            connection, response = self._send(method, path, query or {}, body, content_type, self._timeout)
            with contextlib.closing(connection):
                answer: Json = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise unreachable(f"{method} {path}", error) from error
        return answer

    def watch(self, path: str, query: Mapping[str, str], silence: float = 90.0) -> Iterator[Json]:
        """Yield the events of a watch until the server ends it or ``interrupt`` is called.

        The server sends a bookmark about once a minute: ``silence`` for longer means that the connection is dead.
        """
        try:
            connection, response = self._send("GET", path, {**query, "watch": "1"}, None, "", self._timeout)
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(f"watch {path}", error) from error
        try:
            with contextlib.closing(connection):
                self._watching = connection.sock
                connection.sock.settimeout(silence)
                for line in response:
                    if line.strip():
                        yield json.loads(line)
        except TimeoutError:
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise unreachable(f"watch {path}", error) from error
        finally:
            self._watching = None

    def interrupt(self) -> None:
        """End the running watch from another thread."""
        watching = self._watching
        if watching is not None:
            # Not SSLSocket's own shutdown, which takes the TLS state away under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(watching, socket.SHUT_RDWR)


def announce(api: Api, about: Json, kind: str, reason: str, message: str, component: str, key: str) -> None:
    """Make an Event about an object. The same ``key`` makes the same Event: who says it again is no failure."""
    metadata = about["metadata"]
    # Events about objects outside any namespace belong into `default`.
    namespace = metadata.get("namespace", "default")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha256("\0".join((metadata["uid"], reason, key)).encode()).hexdigest()[:12]
    involved = {"apiVersion": about["apiVersion"], "kind": about["kind"]}
    involved |= {part: metadata[part] for part in ("namespace", "name", "uid") if part in metadata}
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": namespace},
        "involvedObject": involved,
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        api.request("POST", f"/api/v1/namespaces/{namespace}/events", body)
    except ApiError as error:
        if error.status != 409:
            raise


class Backoff:
    """Growing, jittered pauses, so that replicas do not fall upon an API that has just come back."""

    def __init__(self, first: float = 0.5, longest: float = 30.0) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def reset(self) -> None:
        """Begin anew after a success."""
        self._failures = 0

    def next(self, error: ApiError | None = None) -> float:
        """Seconds to wait after one more failure; never less than the server asked for."""
        pause: float = min(self._longest, self._first * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return max(pause * random.uniform(0.5, 1.0), error.retry_after if error else 0.0)


@dataclass
class Family:
    """One metric with all its label sets."""

    kind: str
    help: str
    buckets: tuple[float, ...] = ()
    values: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)


def _labels(pairs: tuple[tuple[str, str], ...]) -> str:
    def escape(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in pairs) + "}" if pairs else ""


class Metrics:
    """Counters, gauges and histograms in Prometheus' text format."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: dict[str, Family] = {}

    def declare(self, name: str, kind: str, help_text: str, buckets: tuple[float, ...] = ()) -> None:
        """Make a metric known; it has no value yet."""
        self._families[name] = Family(kind, help_text, buckets)

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Raise a counter."""
        with self._lock:
            values, key = self._families[name].values, tuple(sorted(labels.items()))
            values[key] = values.get(key, 0.0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._families[name].values[tuple(sorted(labels.items()))] = value

    def clear(self, name: str) -> None:
        """Forget every value, when this replica no longer knows."""
        with self._lock:
            self._families[name].values.clear()

    def replace(self, name: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> None:
        """Set all values of a gauge at once: a label set that is not among them is gone."""
        values = {tuple(sorted(labels.items())): value for labels, value in samples}
        with self._lock:
            self._families[name].values = values

    def observe(self, name: str, value: float) -> None:
        """Put a value into a histogram."""
        for bound in self._families[name].buckets:
            self.add(name, float(value <= bound), part="bucket", le=f"{bound:g}")
        self.add(name, 1.0, part="bucket", le="+Inf")
        self.add(name, value, part="sum")
        self.add(name, 1.0, part="count")

    def render(self) -> str:
        """All metrics as text."""
        lines = []
        with self._lock:
            for name, family in self._families.items():
                lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
                for key, value in family.values.items():
                    pairs = dict(key)
                    suffix = "_" + pairs.pop("part") if family.kind == "histogram" else ""
                    lines.append(f"{name}{suffix}{_labels(tuple(pairs.items()))} {value:.17g}")
        return "\n".join(lines) + "\n"


class Health:
    """Whether the program's loops still turn. An API that is away is no reason to restart: the loops go on trying."""

    def __init__(self, patience: float = 240.0) -> None:
        self.patience = patience
        self._beats: dict[str, float] = {}
        self.ready = False

    def beat(self, loop: str) -> None:
        """Say that a loop has turned."""
        self._beats[loop] = time.monotonic()

    def forget(self, loop: str) -> None:
        """Say that a loop has ended as it should."""
        self._beats.pop(loop, None)

    def stuck(self) -> list[str]:
        """Loops that have not turned for too long."""
        now = time.monotonic()
        return [loop for loop, beat in list(self._beats.items()) if now - beat > self.patience]


def serve(port: int, metrics: Metrics, health: Health) -> ThreadingHTTPServer:
    """Answer ``/metrics``, ``/healthz`` and ``/readyz`` in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            status, text = 200, "ok\n"
            if path == "/metrics":
                text = metrics.render()
            elif path == "/healthz" and health.stuck():
                status, text = 503, f"stuck: {', '.join(health.stuck())}\n"
            elif path == "/readyz" and not health.ready:
                status, text = 503, "the API was not reached yet\n"
            elif path not in ("/healthz", "/readyz"):
                status, text = 404, "not found\n"
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", metrics.CONTENT_TYPE if path == "/metrics" else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep probes out of the log."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


@dataclass(frozen=True)
class Terms:
    """Seconds of an election: how long a lease holds, how long its holder tries to renew it, and how often."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0


class Elector:
    """Holds a Lease, so that only one replica acts.

    Clocks of different machines are never compared: another's lease has run out when this replica saw no change of it
    for its whole duration. Each write carries the resourceVersion that it is based on: of two replicas one loses.
    """

    def __init__(self, api: Api, namespace: str, name: str, identity: str, terms: Terms | None = None) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self.identity = identity
        self.terms = terms or Terms()
        self._seen_version = ""
        self._seen_at = 0.0
        self._renewed = float("-inf")

    @property
    def leading(self) -> bool:
        """Whether this replica may act: also false for one that was stopped for a while and has not noticed yet."""
        return time.monotonic() - self._renewed < self.terms.deadline

    def step(self) -> None:
        """Try once to take or to renew the lease. A lost race is no error."""
        began = time.monotonic()
        try:
            lease = self._api.request("GET", f"{self._collection}/{self._name}")
        except ApiError as error:
            if error.status != 404:
                raise
            lease = {}
        spec = lease.get("spec", {})
        version = lease.get("metadata", {}).get("resourceVersion", "")
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, began
        holder = spec.get("holderIdentity") or ""
        if holder and holder != self.identity:
            self._renewed = float("-inf")
            if began - self._seen_at < float(spec.get("leaseDurationSeconds") or self.terms.duration):
                return
        try:
            self._write(lease, holder)
        except ApiError as error:
            if error.status != 409:
                raise
            return
        self._renewed = began

    def _write(self, lease: Json, holder: str) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = lease.get("spec", {})
        mine = holder == self.identity
        spec = {
            "holderIdentity": self.identity,
            # Whole seconds are all a Lease can say: rounded down, it would end before its holder thinks so.
            "leaseDurationSeconds": math.ceil(self.terms.duration),
            "renewTime": now,
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine or not lease else 1),
        }
        self._put(lease, spec)

    def _put(self, lease: Json, spec: Json) -> None:
        metadata = {**lease.get("metadata", {}), "name": self._name}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        if lease:
            self._api.request("PUT", f"{self._collection}/{self._name}", body)
        else:
            self._api.request("POST", self._collection, body)

    def release(self) -> None:
        """Give the lease back, so that the next leader need not wait for its end."""
        self._renewed = float("-inf")
        lease = self._api.request("GET", f"{self._collection}/{self._name}")
        if lease.get("spec", {}).get("holderIdentity") == self.identity:
            self._put(lease, {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1})


@dataclass
class Campaign:
    """Stands for election and runs the work of a leader while elected."""

    api: Api
    elector: Elector
    health: Health
    work: Callable[[threading.Event], None]
    changed: Callable[[bool], None]
    failed: Callable[[ApiError], None]

    def __post_init__(self) -> None:
        self._worker: threading.Thread | None = None
        self._ended = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Go on until ``stop``, then end the work and give the lease back."""
        backoff = Backoff(self.elector.terms.retry / 2, self.elector.terms.deadline / 2)
        try:
            while not stop.is_set():
                pause = self.elector.terms.retry * random.uniform(0.8, 1.0)
                try:
                    self.elector.step()
                    self.health.ready = True
                    backoff.reset()
                except ApiError as error:
                    self.failed(error)
                    pause = backoff.next(error)
                    log("warning", "cannot reach the lease", error=str(error), pause=round(pause, 2))
                self._follow()
                self.health.beat("election")
                stop.wait(pause)
        finally:
            self._close()

    def _follow(self) -> None:
        """Begin the work when elected, end it when the lease was lost."""
        leading = self.elector.leading
        if self._worker is not None and (self._ended.is_set() or not leading):
            if self._end():
                log("warning", "lost the lease", identity=self.elector.identity)
        elif self._worker is not None and not self._worker.is_alive():
            raise RuntimeError("the work ended by itself")
        elif self._worker is None and leading:
            log("info", "became the leader", identity=self.elector.identity)
            self._ended.clear()
            self._worker = threading.Thread(target=self.work, args=(self._ended,), name="work", daemon=True)
            self._worker.start()
        self.changed(leading)

    def _end(self, patience: float = 12.0) -> bool:
        """Whether the work has ended. Until then it may be inside a request that it began in time."""
        self._ended.set()
        limit = time.monotonic() + patience
        while self._worker is not None and time.monotonic() < limit:
            # Again and again: the work may just have been about to begin a watch.
            self.api.interrupt()
            self._worker.join(0.1)
            if not self._worker.is_alive():
                self._worker = None
        return self._worker is None

    def _close(self) -> None:
        self.health.ready = False
        if self._end() and self.elector.leading:
            try:
                self.elector.release()
                log("info", "released the lease", identity=self.elector.identity)
            except ApiError as error:
                log("warning", "the lease was not released and runs out by itself", error=str(error))
        self.changed(False)


@dataclass(frozen=True)
class Replica:
    """Who this replica is, as the Deployment's environment says."""

    namespace: str
    identity: str
    port: int
    version: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *needed: str) -> Replica:
        """Read it.

        :param needed: what the program itself cannot do without.
        :raises ValueError: naming what is missing.
        """
        missing = [name for name in (*needed, "POD_NAME", "POD_NAMESPACE") if not environment.get(name)]
        if missing:
            raise ValueError(f"the environment lacks {', '.join(missing)}")
        return cls(
            namespace=environment["POD_NAMESPACE"],
            # A container that comes back in the same pod is another candidate: the old one's lease is not its own.
            identity=f"{environment['POD_NAME']}_{uuid.uuid4().hex[:8]}",
            port=int(environment.get("PORT", "8080")),
            version=environment.get("VERSION", "unknown"),
        )


@dataclass(frozen=True)
class Settings:
    """What each program's own settings begin with."""

    replica: Replica


S = TypeVar("S", bound=Settings)
Begin = Callable[[S, Api, Metrics, Health, Callable[[], bool]], Callable[[threading.Event], None]]


def run(component: str, read: Callable[[Mapping[str, str]], S], begin: Begin[S]) -> int:
    """A controller's life: read its settings, do its work while it leads, until SIGTERM. Returns the exit status.

    :param component: its name, the Lease's too; its metrics begin with it.
    :param read: makes the settings of the environment; raises ValueError.
    :param begin: declares the metrics, ``<component>_errors_total`` among them, and returns the work; its last argument
        says whether this replica may act.
    """
    try:
        config = read(os.environ)
    except ValueError as error:
        log("error", "cannot start", error=str(error))
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    api, metrics, health, prefix = Api.in_cluster(), Metrics(), Health(), component.replace("-", "_")
    metrics.declare(f"{prefix}_build_info", "gauge", "Version of the program.")
    metrics.declare(f"{prefix}_leader", "gauge", "Whether this replica is the leader.")
    metrics.set(f"{prefix}_build_info", 1.0, version=config.replica.version)
    metrics.set(f"{prefix}_leader", 0.0)
    elector = Elector(api, config.replica.namespace, component, config.replica.identity)
    campaign = Campaign(
        api,
        elector,
        health,
        work=begin(config, api, metrics, health, lambda: elector.leading and not stop.is_set()),
        changed=lambda leading: metrics.set(f"{prefix}_leader", float(leading)),
        failed=lambda error: metrics.add(f"{prefix}_errors_total", reason=error.reason),
    )
    server = serve(config.replica.port, metrics, health)
    log("info", "started", settings=asdict(config))
    try:
        campaign.run(stop)
    finally:
        server.shutdown()
    log("info", "stopped")
    return 0
