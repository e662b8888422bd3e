# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Probes and lifecycle hooks: exec, httpGet, tcpSocket (and grpc, of which only the connection is tried)."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from lab.kube import Object

# runs a command in the container: (argv, timeout) -> (code, what it said)
Execute = Callable[[list[str], float], Awaitable[tuple[int, str]]]


@dataclass
class Target:
    """Where a probe of one container goes."""

    address: str
    container: Object
    execute: Execute

    def port(self, port: int | str) -> int:
        if isinstance(port, int) or str(port).isdigit():
            return int(port)
        for entry in self.container.get("ports", []):
            if entry.get("name") == port:
                return int(entry["containerPort"])
        raise ValueError(f'the container has no port named "{port}"')


async def attempt(target: Target, action: Object, timeout: float) -> str | None:
    """None when it succeeded, otherwise the words for the event."""
    try:
        if "exec" in action:
            code, said = await target.execute(list(action["exec"]["command"]), timeout)
            return None if code == 0 else (said or f"command ended with {code}")
        if "httpGet" in action:
            return await asyncio.wait_for(http(target, action["httpGet"]), timeout)
        if "tcpSocket" in action or "grpc" in action:
            spec = action.get("tcpSocket") or action["grpc"]
            host = spec.get("host") or target.address
            return await asyncio.wait_for(connect(host, target.port(spec["port"])), timeout)
        if "sleep" in action:
            await asyncio.sleep(float(action["sleep"]["seconds"]))
            return None
    except TimeoutError:
        return "context deadline exceeded"
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    except ValueError as error:
        return str(error)
    return f"the lab knows no probe of type {', '.join(action)}"


async def connect(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def http(target: Target, spec: Object) -> str | None:
    host, port = spec.get("host") or target.address, target.port(spec["port"])
    secure = spec.get("scheme", "HTTP").upper() == "HTTPS"
    context = None
    if secure:
        # as the kubelet: a probe never verifies the certificate
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    path = spec.get("path") or "/"
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.34", "Accept": "*/*", "Connection": "close"}
    headers.update({entry["name"]: entry["value"] for entry in spec.get("httpHeaders", [])})
    lines = [
        f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        status = (await reader.readline()).decode(errors="replace").split()
        if len(status) < 2 or not status[1].isdigit():
            return f"malformed HTTP answer {' '.join(status)!r}"
        code = int(status[1])
        return None if 200 <= code < 400 else f"HTTP probe failed with statuscode: {code}"
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@dataclass
class Probe:
    """One probe of a running container; `result` is told what holds by the thresholds, `failed` each failed attempt."""

    kind: str
    spec: Object
    target: Target
    result: Callable[[str, bool], Awaitable[None]]
    failed: Callable[[str, str], Awaitable[None]]

    async def run(self) -> None:
        spec = self.spec
        await asyncio.sleep(spec.get("initialDelaySeconds", 0))
        period, timeout = spec.get("periodSeconds") or 10, float(spec.get("timeoutSeconds") or 1)
        needed = {True: spec.get("successThreshold") or 1, False: spec.get("failureThreshold") or 3}
        action = {key: value for key, value in spec.items() if key in ("exec", "httpGet", "tcpSocket", "grpc")}
        last, count = None, 0
        while True:
            words = await attempt(self.target, action, timeout)
            good = words is None
            count = count + 1 if good == last else 1
            last = good
            if words is not None:
                await self.failed(self.kind, words)
            if count == needed[good]:
                await self.result(self.kind, good)
                if self.kind == "startup" and good:
                    return
            await asyncio.sleep(period)
