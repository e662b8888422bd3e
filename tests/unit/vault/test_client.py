# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One server: what is sent again, what never is, what messages say, and whom it trusts."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import pathlib
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _pki
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_client import (
    Vault,
    VaultError,
    VaultNotReady,
    VaultUnreachable,
)
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_doors import Doors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

Answer = tuple[int, Any]


class Server:
    """Answers each request by the next entry of a list, the last one for ever."""

    def __init__(self, answers: list[Answer], context: ssl.SSLContext | None = None) -> None:
        self.answers, self.requests = answers, list[tuple[str, str, str]]()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path, body.decode()))
                status, answer = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                if status == 0:
                    return
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_LIST = do

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"


Make = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Make]:
    made: list[Server] = []

    def make(*answers: Answer, context: ssl.SSLContext | None = None) -> Server:
        made.append(Server(list(answers), context))
        return made[-1]

    yield make
    for server in made:
        server.server.shutdown()
        server.server.server_close()


def health(*, initialized: bool = True, sealed: bool = False, standby: bool = False) -> Answer:
    status = 501 if not initialized else 503 if sealed else 429 if standby else 200
    return status, {"initialized": initialized, "sealed": sealed, "standby": standby}


@pytest.mark.parametrize("failure", [(500, {"errors": ["local node not active"]}), (503, {}), (429, {}), (0, None)])
def test_passing_failures_are_tried_again_only_where_that_is_safe(serve: Make, failure: Answer) -> None:
    server = serve(failure, (200, {"data": {"a": 1}}))
    assert Vault("v", server.url).call("GET", "x") == {"data": {"a": 1}}
    assert len(server.requests) == 2
    once = serve(failure, (200, {}))
    with pytest.raises(PlatformError):
        Vault("v", once.url).call("PUT", "sys/init", {}, retry=False)
    assert len(once.requests) == 1


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refusals_are_final(serve: Make, status: int) -> None:
    server = serve((status, {"errors": ["no"]}))
    with pytest.raises(VaultError, match=rf"Calling GET /v1/x of Vault v: no \(HTTP {status}\)"):
        Vault("v", server.url).call("GET", "x")
    assert len(server.requests) == 1


def test_a_sealed_vault_is_not_waited_for(serve: Make) -> None:
    server = serve((503, {"errors": ["Vault is sealed"]}))
    with pytest.raises(VaultError, match="Vault is sealed"):
        Vault("v", server.url).call("GET", "x")
    assert len(server.requests) == 1


def test_patience_ends(serve: Make) -> None:
    server = serve((500, {"errors": ["no leader"]}))
    with pytest.raises(VaultError, match="no leader"):
        Vault("v", server.url, patience=0.7).call("GET", "x")
    assert 2 <= len(server.requests) <= 4


def test_redirects_and_the_environment_decide_nothing(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", "s.of-the-environment")
    server = serve((200, {}))
    vault = Vault("v", server.url)
    assert vault.call("GET", "x") == {} and vault.token == ""


def test_secrets_are_blanked_in_what_vault_answers(serve: Make) -> None:
    server = serve((400, {"errors": ["bad value s.secret-token here, and hunter22"]}))
    vault = Vault("v", server.url)
    vault.token = "s.secret-token"
    vault.hide(["hunter22"])
    with pytest.raises(VaultError) as caught:
        vault.call("POST", "x", {"a": "hunter22"})
    assert "secret-token" not in str(caught.value) and "hunter22" not in str(caught.value)
    assert "********" in str(caught.value)


def test_a_page_that_is_not_vaults_is_not_quoted(serve: Make) -> None:
    server = serve((400, ["<html>internal</html>"]))
    with pytest.raises(VaultError, match=r"no reason given \(HTTP 400\)"):
        Vault("v", server.url).call("GET", "x")


@pytest.mark.parametrize(
    "url", ["http://vault.example.com:8200", "http://10.0.0.1:8200", "vault.example.com", "ftp://x", ""]
)
def test_keys_are_never_sent_in_the_clear(url: str) -> None:
    with pytest.raises(PlatformError, match="is not an https:// address"):
        Vault("v", url)


def certified(folder: pathlib.Path) -> tuple[str, ssl.SSLContext]:
    """A CA and a server context for 127.0.0.1."""
    root = _pki.make_root("Test Root", "", 10, 2048)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_pki.now() - datetime.timedelta(minutes=1))
        .not_valid_after(_pki.now() + datetime.timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    pair = folder / "server.pem"
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    pair.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return root.pem, context


def test_tls_is_always_verified(serve: Make, tmp_path: pathlib.Path) -> None:
    ca, context = certified(tmp_path)
    server = serve(health(), context=context)
    assert Vault("v", server.url, ca_certificate=ca).health()["active"]
    other = _pki.make_root("Other", "", 10, 2048).pem
    for trust in (other, ""):
        with pytest.raises(VaultUnreachable, match="its certificate does not verify"):
            Vault("v", server.url, ca_certificate=trust).call("GET", "x", retry=False)
    assert all(path == "/v1/sys/health" for _, path, _ in server.requests)
    with pytest.raises(PlatformError, match="Reading the option ca_certificate: it is not PEM"):
        Vault("v", server.url, ca_certificate="nonsense")


def doors(*servers: Server, address: str = "", ca: str = "") -> Doors:
    addresses = {f"vault-{number}": server.url for number, server in enumerate(servers)}
    return Doors([], addresses=addresses, address=address, ca_certificate=ca)


def test_address_is_taken_when_it_verifies_and_leads_to_the_leader(serve: Make, tmp_path: pathlib.Path) -> None:
    ca, context = certified(tmp_path)
    front, pod = serve(health(), context=context), serve(health())
    assert doors(pod, address=front.url, ca=ca).leader().url == front.url
    assert doors(pod, address=front.url, ca=_pki.make_root("Other", "", 10, 2048).pem).leader().url == pod.url
    standby = serve(health(standby=True), context=context)
    assert doors(pod, address=standby.url, ca=ca).leader().url == pod.url
    assert doors(pod, address="https://127.0.0.1:1", ca=ca).leader().url == pod.url


def test_leader_is_the_one_that_says_so(serve: Make) -> None:
    standby, leader, sealed = serve(health(standby=True)), serve(health()), serve(health(sealed=True))
    assert doors(sealed, standby, leader).leader().name == "vault-2"


def test_an_election_is_waited_for(serve: Make) -> None:
    server = serve(health(standby=True), health(standby=True), health())
    assert doors(server).leader(10).name == "vault-0"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (health(sealed=True), "vault-0 is sealed. Run the playbook unseal.yml"),
        (health(initialized=False), "vault-0 is not initialised. Run phase 2 first"),
    ],
)
def test_no_leader_is_told_with_the_mend(serve: Make, state: Answer, message: str) -> None:
    with pytest.raises(VaultNotReady, match=message):
        doors(serve(state)).leader(30)
