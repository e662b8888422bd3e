# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The client on real sockets: what is sent again, what never is, whom it trusts, and the port-forward."""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.server
import ipaddress
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _kube_client, _kube_portforward
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError, Unreachable
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import ApiError, KubeClient
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_discovery import Discovery, UnknownKind
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_http import seconds
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "token-canary-5c5c"
Answer = tuple[int, Any, dict[str, str]]


class Server:
    """Answers with what the test's function says; None breaks the connection off."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.connections: set[tuple[str, int]] = set()
        self.answer: Callable[[int], Answer | None] = lambda count: (200, {"n": count}, {})
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

            def _serve(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.connections.add(self.client_address)
                server.requests.append((self.command, self.path, dict(self.headers)))
                answer = server.answer(len(server.requests))
                if answer is None:
                    self.close_connection = True
                    return
                status, body, headers = answer
                data = json.dumps(body).encode()
                self.send_response(status)
                for key, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = _serve

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.scheme = "https" if context else "http"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def client(folder: Path, server: str, **cluster: Any) -> KubeClient:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "u", "user": {"token": TOKEN}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return KubeClient.from_options({"kubeconfig": str(path)})


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kube_client, "_DELAYS", (0.01,) * 5)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> KubeClient:
    return client(tmp_path, f"http://127.0.0.1:{server.port}/k8s/clusters/c-m-1")


def test_one_connection_serves_many_requests_below_the_servers_path(kube: KubeClient, server: Server) -> None:
    for number in range(1, 6):
        assert kube.request("GET", "/version", query={"a": "b c", "none": None}) == {"n": number}
    assert len(server.connections) == 1
    assert {path for _, path, _ in server.requests} == {"/k8s/clusters/c-m-1/version?a=b+c"}
    assert all(headers["Authorization"] == f"Bearer {TOKEN}" for _, _, headers in server.requests)


def test_a_connection_that_the_server_has_closed_is_replaced(kube: KubeClient, server: Server) -> None:
    server.answer = lambda count: (200, {}, {"Connection": "close"} if count == 1 else {})
    kube.request("GET", "/x")
    assert kube.request("POST", "/x", body={}) == {}
    assert [method for method, _, _ in server.requests] == ["GET", "POST"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_overload_and_server_errors_are_tried_again(kube: KubeClient, server: Server, method: str, status: int) -> None:
    server.answer = lambda count: (status, {}, {}) if count < 3 else (200, {}, {})
    kube.request(method, "/x")
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_refusals_are_not(kube: KubeClient, server: Server, status: int) -> None:
    server.answer = lambda count: (status, {"message": "no", "reason": "Why"}, {})
    with pytest.raises(ApiError, match=f"no \\(HTTP {status}\\)") as caught:
        kube.request("GET", "/x")
    assert len(server.requests) == 1 and caught.value.reason == "Why"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_post_that_may_have_been_acted_upon_is_never_sent_again(
    kube: KubeClient, server: Server, status: int
) -> None:
    server.answer = lambda count: (status, {}, {})
    with pytest.raises(ApiError):
        kube.request("POST", "/x", body={})
    server.answer = lambda count: None
    with pytest.raises(Unreachable):
        kube.request("POST", "/x", body={})
    assert len(server.requests) == 2


def test_a_post_that_was_turned_away_unread_is_sent_again(kube: KubeClient, server: Server) -> None:
    server.answer = lambda count: (429, {}, {}) if count == 1 else (201, {}, {})
    kube.request("POST", "/x", body={})
    assert len(server.requests) == 2


def test_a_conflict_that_comes_as_500_is_left_to_the_caller(kube: KubeClient, server: Server) -> None:
    server.answer = lambda count: (500, {"message": "the object has been modified; please apply"}, {})
    with pytest.raises(ApiError) as caught:
        kube.request("PATCH", "/x", body={})
    assert caught.value.conflict and len(server.requests) == 1


def test_retry_after_is_kept(kube: KubeClient, server: Server) -> None:
    server.answer = lambda count: (503, {}, {"Retry-After": "1"}) if count == 1 else (200, {}, {})
    start = time.monotonic()
    kube.request("GET", "/x")
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("", None, None), (None, None, None), ("soon", None, None), ("Wed, 25 Nov 2020 00:00:00 GMT", 0, 0)],
)
def test_retry_after_in_all_its_forms(header: str | None, low: float | None, high: float | None) -> None:
    found = seconds(header)
    assert found is None if low is None else low <= (found or 0) <= (high or 0)


def test_attempts_end(kube: KubeClient, server: Server) -> None:
    server.answer = lambda count: (503, {"kind": "Status", "message": "no"}, {})
    with pytest.raises(ApiError):
        kube.request("GET", "/x")
    assert len(server.requests) == kube.attempts


def test_trouble_before_the_api_server_is_waited_for_longer(
    kube: KubeClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"type": "error", "code": "ServerError", "message": "no healthy server"}
    server.answer = lambda count: (500, error, {}) if count < 20 else (200, {}, {})
    kube.request("GET", "/x")
    assert len(server.requests) == 20
    monkeypatch.setattr(_kube_client, "_PATIENCE", 0.0)
    server.answer = lambda count: (500, error, {})
    with pytest.raises(ApiError):
        kube.request("GET", "/x")
    assert len(server.requests) == 20 + kube.attempts


def test_a_cluster_that_rancher_is_not_connected_to_is_told_soon(kube: KubeClient, server: Server) -> None:
    error = {"type": "error", "code": "ClusterUnavailable", "message": "cluster not found"}
    server.answer = lambda count: (503, error, {})
    with pytest.raises(ApiError):
        kube.request("GET", "/x")
    assert len(server.requests) == kube.attempts


def test_a_credential_that_is_refused_is_told_with_the_mend(kube: KubeClient, server: Server) -> None:
    server.answer = lambda count: (401, {"message": "must authenticate"}, {})
    with pytest.raises(ApiError, match=r"is not taken: it has expired.*Make a new one") as caught:
        kube.request("GET", "/x")
    assert TOKEN not in str(caught.value)


def test_nobody_there_is_unreachable_and_names_the_kubeconfig(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kube = client(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Unreachable, match="refused") as caught:
            kube.request("POST", "/x", body={})
    assert str(tmp_path) in str(caught.value) and TOKEN not in str(caught.value)


def test_an_answer_that_is_no_json_is_broken(kube: KubeClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "dumps", lambda value, **kw: '{"cut": ')
    with pytest.raises(Unreachable, match="not the JSON"):
        kube.request("GET", "/x", retry=False)


def authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """As RKE2 makes it: without an authority key identifier."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rke2-server-ca")])
    return certificate(name, name, key, key, ca=True), key


def certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    names: tuple[x509.GeneralName, ...] = (),
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def pem(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A TLS server and the CA that it is to be trusted by."""
    root, signer = authority()
    key = ec.generate_private_key(ec.SECP256R1())
    names = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("api.example.com"))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    leaf = certificate(subject, root.subject, key, signer, names=names)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(pem(leaf) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    made = Server(context)
    yield made, base64.b64encode(pem(root)).decode()
    made.close()


def test_tls_is_verified_with_the_kubeconfigs_ca(secure: tuple[Server, str], tmp_path: Path) -> None:
    server, ca = secure
    url = f"https://127.0.0.1:{server.port}"
    trusted = client(tmp_path, url, **{"certificate-authority-data": ca})
    assert trusted.request("GET", "/x") == {"n": 1}
    named = client(tmp_path, url, **{"certificate-authority-data": ca, "tls-server-name": "api.example.com"})
    assert named.request("GET", "/x") == {"n": 2}


@pytest.mark.parametrize("wrong", ["ca", "name"])
def test_an_unverified_server_gets_no_request(secure: tuple[Server, str], tmp_path: Path, wrong: str) -> None:
    server, ca = secure
    other = base64.b64encode(pem(authority()[0])).decode()
    extra = {"tls-server-name": "other.example.com"} if wrong == "name" else {}
    data = {"certificate-authority-data": other if wrong == "ca" else ca, **extra}
    kube = client(tmp_path, f"https://127.0.0.1:{server.port}", **data)
    with pytest.raises(Unreachable, match="does not verify"):
        kube.request("GET", "/x")
    assert server.requests == []


AGGREGATED = {
    "/api": {
        "kind": "APIGroupDiscoveryList",
        "items": [
            {
                "metadata": {},
                "versions": [
                    {
                        "version": "v1",
                        "resources": [
                            {"resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced"},
                            {"resource": "nodes", "responseKind": {"kind": "Node"}, "scope": "Cluster"},
                        ],
                    }
                ],
            }
        ],
    },
    "/apis": {
        "kind": "APIGroupDiscoveryList",
        "items": [
            {
                "metadata": {"name": "autoscaling"},
                "versions": [
                    {
                        "version": version,
                        "resources": [
                            {
                                "resource": "horizontalpodautoscalers",
                                "responseKind": {"kind": "HorizontalPodAutoscaler"},
                                "scope": "Namespaced",
                            }
                        ],
                    }
                    for version in ("v2", "v1")
                ],
            }
        ],
    },
}
PLAIN = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {
        "resources": [
            {"name": "pods", "kind": "Pod", "namespaced": True},
            {"name": "pods/log", "kind": "Pod", "namespaced": True},
            {"name": "nodes", "kind": "Node", "namespaced": False},
        ]
    },
    "/apis": {
        "groups": [
            {
                "preferredVersion": {"groupVersion": "autoscaling/v2"},
                "versions": [{"groupVersion": "autoscaling/v1"}, {"groupVersion": "autoscaling/v2"}],
            },
            {
                "preferredVersion": {"groupVersion": "metrics.k8s.io/v1"},
                "versions": [{"groupVersion": "metrics.k8s.io/v1"}],
            },
        ]
    },
    **{
        f"/apis/autoscaling/{version}": {
            "resources": [{"name": "horizontalpodautoscalers", "kind": "HorizontalPodAutoscaler", "namespaced": True}]
        }
        for version in ("v1", "v2")
    },
}


@pytest.mark.parametrize(("answers", "requests"), [(AGGREGATED, 2), (PLAIN, 6)], ids=["aggregated", "plain"])
def test_discovery(answers: dict[str, Any], requests: int) -> None:
    asked: list[str] = []

    def get(path: str, accept: str) -> Any:
        asked.append(path)
        if path not in answers:
            raise ApiError(path, 503, {"message": "metrics are down"})
        return answers[path]

    discovery = Discovery(get)
    assert discovery.find("v1", "Pod").path("s", "a/b") == "/api/v1/namespaces/s/pods/a%2Fb"
    assert discovery.find("v1", "Node").path("ignored", "n") == "/api/v1/nodes/n"
    assert discovery.find("autoscaling/v1", "HorizontalPodAutoscaler").path("s").startswith("/apis/autoscaling/v1/")
    preferred = discovery.preferred("autoscaling", "HorizontalPodAutoscaler")
    assert preferred is not None and preferred.api_version == "autoscaling/v2"
    with pytest.raises(UnknownKind, match="does not serve"):
        discovery.find("v1", "Unicorn")
    assert len(asked) == requests


class Pod(threading.Thread):
    """A kubelet that echoes a pod's port over a websocket, as v4.channel.k8s.io does it."""

    def __init__(self, refuse: bool = False, breaks: int = 0) -> None:
        super().__init__(daemon=True)
        self.refuse = refuse
        self.breaks = breaks
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.paths: list[str] = []
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if self.breaks:
                self.breaks -= 1
                connection.close()
                continue
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rwb")
        request = stream.readline().decode()
        headers = {}
        while line := stream.readline().decode().strip():
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        self.paths.append(request.split()[1])
        if self.refuse:
            stream.write(b'HTTP/1.1 403 Forbidden\r\n\r\n{"message": "pods/portforward is forbidden"}')
            stream.flush()
            connection.close()
            return
        accept = hashlib.sha1((headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        stream.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        for channel in (0, 1):
            self.send(stream, bytes([channel]) + struct.pack("<H", 8200))
        self.send(stream, b"ping", opcode=9)
        while head := stream.read(2):
            size = head[1] & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", stream.read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", stream.read(8))
            mask = stream.read(4)
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(stream.read(size)))
            if head[0] & 0x0F == 2 and payload[0] == 0:
                self.send(stream, payload)

    @staticmethod
    def send(stream: Any, payload: bytes, opcode: int = 2) -> None:
        size = len(payload)
        head = struct.pack("!BB", 0x80 | opcode, size) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 126, size)
        stream.write(head + payload)
        stream.flush()


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(65536)
    return data


def test_a_port_forward_carries_bytes_both_ways(tmp_path: Path) -> None:
    pod = Pod()
    kube = client(tmp_path, f"http://127.0.0.1:{pod.port}/k8s/clusters/c-m-1")
    with kube.portforward("vault", "vault-0", 8200) as address:
        assert address[0] == "127.0.0.1"
        for payload in (b"hello", b"x" * 200, bytes(range(256)) * 200):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(payload)
                assert receive(connection, len(payload)) == payload
    assert set(pod.paths) == {"/k8s/clusters/c-m-1/api/v1/namespaces/vault/pods/vault-0/portforward?ports=8200"}
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=1)


def test_a_port_forward_that_is_forbidden_says_so_at_once(tmp_path: Path) -> None:
    pod = Pod(refuse=True)
    kube = client(tmp_path, f"http://127.0.0.1:{pod.port}")
    with pytest.raises(PlatformError, match="portforward is forbidden"), kube.portforward("vault", "vault-0", 8200):
        raise AssertionError("not reached")


def test_a_port_forward_that_breaks_off_while_it_is_opened_is_opened_anew(tmp_path: Path) -> None:
    pod = Pod(breaks=2)
    with (
        client(tmp_path, f"http://127.0.0.1:{pod.port}").portforward("vault", "vault-0", 8200) as address,
        socket.create_connection(address, timeout=10) as connection,
    ):
        connection.sendall(b"hello")
        assert receive(connection, 5) == b"hello"
    pod.breaks = 3
    with pytest.raises(Unreachable), client(tmp_path, f"http://127.0.0.1:{pod.port}").portforward("v", "v", 1):
        raise AssertionError("not reached")


def test_a_port_forward_lets_go_of_no_descriptor_that_is_still_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be given to another connection or file, into which what was meant for the pod would then be written."""
    closed_while_sending: list[bool] = []
    sending = threading.Event()
    send, close = _kube_portforward.WebSocket.send, _kube_portforward.WebSocket.close

    def slow(self: Any, payload: bytes, opcode: int = 2) -> None:
        sending.set()
        time.sleep(0.3)
        try:
            send(self, payload, opcode)
        finally:
            sending.clear()

    def noted(self: Any) -> None:
        closed_while_sending.append(sending.is_set())
        close(self)

    monkeypatch.setattr(_kube_portforward.WebSocket, "send", slow)
    monkeypatch.setattr(_kube_portforward.WebSocket, "close", noted)
    pod = Pod()
    with client(tmp_path, f"http://127.0.0.1:{pod.port}").portforward("vault", "vault-0", 8200) as address:
        connection = socket.create_connection(address, timeout=10)
        connection.sendall(b"hello")
        assert sending.wait(5)
    deadline = time.monotonic() + 5
    while not closed_while_sending and time.monotonic() < deadline:
        time.sleep(0.05)
    connection.close()
    assert closed_while_sending == [False]
