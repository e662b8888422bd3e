# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Runs in the containers: listens on ports, or asks another container's.

usage: probe.py listen PROTOCOL/PORT...            answers on each, IPv4 and IPv6, until it is ended
       probe.py ask ADDRESS SECONDS PROTOCOL/PORT...   prints {"tcp/22": "open", ...}: open, refused, or dropped
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time


def made(port: str, family: int) -> tuple[socket.socket, int]:
    protocol, number = port.split("/")
    made = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    made.setblocking(False)
    return made, int(number)


def listen(ports: list[str]) -> None:
    waiting = selectors.DefaultSelector()
    for port in ports:
        listener, number = made(port, socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", number))
        if listener.type == socket.SOCK_STREAM:
            listener.listen(16)
        waiting.register(listener, selectors.EVENT_READ)
    print("listening", flush=True)
    while True:
        for key, _ in waiting.select():
            assert isinstance(key.fileobj, socket.socket)
            if key.fileobj.type == socket.SOCK_STREAM:
                key.fileobj.accept()[0].close()
            else:
                key.fileobj.sendto(*key.fileobj.recvfrom(100))


def ask(address: str, seconds: float, ports: list[str]) -> dict[str, str]:
    found = dict.fromkeys(ports, "dropped")
    waiting = selectors.DefaultSelector()
    for port in ports:
        asking, number = made(port, socket.AF_INET6 if ":" in address else socket.AF_INET)
        asking.connect_ex(socket.getaddrinfo(address, number)[0][4])
        if asking.type == socket.SOCK_DGRAM:
            asking.send(b"?")
        # A datagram can always be written; a connection is there once it can be.
        ready = selectors.EVENT_WRITE if asking.type == socket.SOCK_STREAM else selectors.EVENT_READ
        waiting.register(asking, ready, port)
    until = time.monotonic() + seconds
    while waiting.get_map() and time.monotonic() < until:
        for key, _ in waiting.select(until - time.monotonic()):
            assert isinstance(key.fileobj, socket.socket)
            found[key.data] = "refused" if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else "open"
            waiting.unregister(key.fileobj)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        listen(sys.argv[2:])
    print(json.dumps(ask(sys.argv[2], float(sys.argv[3]), sys.argv[4:])))
