# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One Vault on real servers, its keys on the lab's Harvester API server, and a gate in front of both."""

from __future__ import annotations

import base64
import itertools
import json
import os
import pathlib
import time
from typing import Any

from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient

from lab.settings import Lab
from tests.fault import _modules
from tests.fault._gate import Gate
from tests.fault._vault_servers import Servers

_SERIAL = itertools.count(1)


def harvester_kubeconfig() -> str:
    """The lab's: `make fault` has started it as LAB_NAME."""
    path = Lab.from_environment().path("kubeconfig", "harvester.yaml")
    if not path.exists():
        raise RuntimeError(f"{path} does not exist: start the lab (make lab-up), or set LAB_NAME")
    return str(path)


class Case:
    """Servers, a keys namespace of its own, and the parameters of the modules. ``gated`` puts the gate in between."""

    def __init__(self, folder: pathlib.Path, *, servers: int = 3, gated: bool = True, join: bool = True) -> None:
        self.folder = folder
        self.kubeconfig = harvester_kubeconfig()
        self.kube = KubeClient.from_options({"kubeconfig": self.kubeconfig})
        self.namespace = f"fault-{os.getpid()}-{next(_SERIAL)}-keys"
        self.servers = Servers(folder, servers, join=join)
        self.gate = Gate()
        self.gated = gated

    def __enter__(self) -> Case:
        self.servers.start()
        self.addresses, self.keys_kubeconfig = self.servers.addresses, self.kubeconfig
        if self.gated:
            self.addresses = {name: self.gate.before(url, None, name) for name, url in self.addresses.items()}
            self.keys_kubeconfig = self.gate.before_kubernetes(self.kubeconfig, self.folder)
        return self

    def __exit__(self, *_unused: object) -> None:
        self.gate.close()
        self.servers.stop()
        self.kube.delete(f"/api/v1/namespaces/{self.namespace}")

    @property
    def spool(self) -> pathlib.Path:
        return self.folder / "spool" / "vault-init.json"

    def params(self, **more: Any) -> dict[str, Any]:
        keys = {"keys_kubeconfig": self.keys_kubeconfig, "keys_namespace": self.namespace}
        return {"addresses": self.addresses, **keys, **more}

    def init_params(self, **more: Any) -> dict[str, Any]:
        return self.params(**{"cluster_name": "fault", "spool_directory": str(self.spool.parent), "timeout": 5, **more})

    def init(self, *, check: bool = False, **more: Any) -> _modules.Outcome:
        return _modules.run("vault_init", self.init_params(**more), check=check)

    def unseal(self, *, check: bool = False, **more: Any) -> _modules.Outcome:
        return _modules.run("vault_unseal", self.params(**more), check=check)

    def ready(self, **more: Any) -> None:
        """An initialised and unsealed Vault."""
        for outcome in (self.init(), self.unseal(**more)):
            assert outcome.returncode == 0, outcome.text

    def killed(self, module: str, params: dict[str, Any], number: int, moment: str) -> _modules.Outcome:
        """Run the module and kill it at its call of that number."""
        self.gate.reset()
        self.gate.kill_at = (number, moment)
        self.gate.target = _modules.start(module, params)
        return _modules.finish(self.gate.target)

    def secret(self, name: str = "vault-init") -> dict[str, Any] | None:
        return self.kube.get_or_none(f"/api/v1/namespaces/{self.namespace}/secrets/{name}")

    def stored(self, name: str = "vault-init") -> dict[str, Any] | None:
        found = self.secret(name)
        return None if found is None else json.loads(base64.b64decode(found["data"]["init.json"]))

    def put(self, name: str, document: Any, *, text: bytes = b"", entry: str = "init.json") -> None:
        """A Secret as somebody else left it."""
        data = text or json.dumps(document).encode()
        if self.kube.get_or_none(f"/api/v1/namespaces/{self.namespace}") is None:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
            self.kube.request("POST", "/api/v1/namespaces", body=body)
        self.kube.request(
            "POST",
            f"/api/v1/namespaces/{self.namespace}/secrets",
            body={
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": self.namespace},
                "data": {entry: base64.b64encode(data).decode()},
            },
        )

    def root_token(self) -> str:
        stored = self.stored()
        assert stored is not None
        return str(stored["root_token"])

    def keys_open_the_vault(self) -> bool:
        """The stored keys, sent by hand, unseal the first server."""
        stored, first = self.stored(), self.servers.nodes[0]
        assert stored is not None
        for key in stored["keys_base64"][: stored["secret_threshold"]]:
            first.call("PUT", "sys/unseal", {"key": key})
        return first.unsealed()

    def new_life(self) -> None:
        """Empty servers and an empty keys namespace, as at the start."""
        for node in self.servers.nodes:
            node.wipe()
        self.servers.start()
        for name in ("vault-init", "vault-init-begun"):
            self.kube.delete(f"/api/v1/namespaces/{self.namespace}/secrets/{name}")
        self.spool.unlink(missing_ok=True)
        self.gate.reset()

    def leader(self, timeout: float = 30) -> str:
        """The name of the active server."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for node in self.servers.nodes:
                if node.process is not None and node.active():
                    return node.name
            time.sleep(0.2)
        raise RuntimeError("no server became active")
