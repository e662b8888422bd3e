# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The emulated sidecar against a small API server of its own."""

from __future__ import annotations

import json
import queue
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab.agent import sidecar
from lab.agent.sidecar import Api, Collector, Notifier, Settings, SettingsError

ENV = {"LABEL": "collect", "LABEL_VALUE": "rules", "FOLDER": "/f", "NAMESPACE": "ALL", "RESOURCE": "configmap"}


class Server:
    """ConfigMaps and their watch on one port; requests to /-/reload are counted."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.version, self.refuse = 1, 0
        self.reloads: list[str] = []
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_POST(self) -> None:
                outer.reloads.append(self.path)
                self.send_response(200)
                self.end_headers()

            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers["Authorization"]))
                if outer.refuse:
                    outer.refuse -= 1
                    self.send_error(403)
                    return
                self.send_response(200)
                self.end_headers()
                if "watch=1" not in self.path:
                    listed = {
                        "items": list(outer.items.values()),
                        "metadata": {"resourceVersion": str(outer.version)},
                    }
                    self.wfile.write(json.dumps(listed).encode())
                    return
                while (event := outer.events.get()) is not None:
                    self.wfile.write(json.dumps(event).encode() + b"\n")
                    self.wfile.flush()
                    if event["type"] == "ERROR":
                        break

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def put(self, name: str, data: dict[str, str], folder: str = "", kind: str = "MODIFIED") -> None:
        self.version += 1
        meta: dict[str, Any] = {"namespace": "n", "name": name, "resourceVersion": str(self.version)}
        if folder:
            meta["annotations"] = {"folder": folder}
        self.items[name] = {"metadata": meta, "data": data}
        if kind == "DELETED":
            del self.items[name]
        self.events.put({"type": kind, "object": {"metadata": meta, "data": data}})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(sidecar, "AGAIN", 0.05)
    monkeypatch.setattr(sidecar, "SETTLE", 0.05)
    made = Server()
    yield made
    made.events.put(None)
    made.http.shutdown()


def collector(server: Server, tmp_path: Path, url: str = "") -> Collector:
    account = tmp_path / "account"
    account.mkdir(exist_ok=True)
    (account / "token").write_text("t")
    settings = Settings("collect=rules", tmp_path / "out", annotation="folder", url=url, method="POST")
    return Collector(settings, Api(server.url, account), "ALL")


def files(tmp_path: Path) -> dict[str, str]:
    out = tmp_path / "out"
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert check()


def test_the_environment_is_the_images() -> None:
    read = Settings.read({**ENV, "REQ_URL": "http://x", "REQ_METHOD": "POST", "DEFAULT_FILE_MODE": "440"}, "own")
    assert (read.selector, read.namespaces, read.method, read.mode) == ("collect=rules", ("ALL",), "POST", 0o440)
    assert Settings.read({"LABEL": "l", "FOLDER": "/f"}, "own").namespaces == ("own",)
    assert Settings.read({"LABEL": "l", "FOLDER": "/f"}, "own").selector == "l"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"FOLDER": ""}, "FOLDER must be set"),
        ({"RESOURCE": "both"}, "RESOURCE other"),
        ({"METHOD": "SLEEP"}, "SLEEP"),
        ({"SCRIPT": "/x", "UNIQUE_FILENAMES": "false"}, "know SCRIPT$"),
    ],
)
def test_what_is_not_emulated_is_refused(more: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.read({**ENV, **more}, "own")


def test_files_follow_the_configmaps(server: Server, tmp_path: Path) -> None:
    made = collector(server, tmp_path)
    server.put("a", {"x.yml": "1", "y.yml": "2"})
    server.put("b", {"z.json": "3"}, folder="Sub")
    server.put("c", {"w": "4"}, folder=str(tmp_path / "out" / "absolute"))
    assert made.sync() == (True, str(server.version))
    assert files(tmp_path) == {"x.yml": "1", "y.yml": "2", "Sub/z.json": "3", "absolute/w": "4"}
    path, authorization = server.asked[-1]
    assert path == f"/api/v1/configmaps?labelSelector={urllib.parse.quote('collect=rules')}"
    assert authorization == "Bearer t"
    assert made.sync()[0] is False, "nothing changed, nobody is told"
    server.put("a", {"x.yml": "5"})
    server.put("b", {"z.json": "3"}, folder="Other")
    server.put("c", {}, kind="DELETED")
    assert made.sync()[0] is True
    assert files(tmp_path) == {"x.yml": "5", "Other/z.json": "3"}


def test_of_two_with_the_same_file_the_last_stays(server: Server, tmp_path: Path) -> None:
    made = collector(server, tmp_path)
    server.put("a", {"x": "first"})
    server.put("b", {"x": "second"})
    made.sync()
    assert files(tmp_path) == {"x": "second"}


def test_a_new_process_removes_nothing_that_it_did_not_write(server: Server, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("kept")
    server.put("a", {"x": "1"})
    collector(server, tmp_path).sync()
    again = collector(server, tmp_path)
    assert again.sync()[0] is False
    assert files(tmp_path) == {"old": "kept", "x": "1"}


def test_it_watches_through_refusals_and_tells_prometheus(server: Server, tmp_path: Path) -> None:
    made = collector(server, tmp_path, f"{server.url}/-/reload")
    notifier = Notifier(made.settings)
    notifier.start()
    server.refuse = 2
    server.items["a"] = {"metadata": {"namespace": "n", "name": "a", "resourceVersion": "1"}, "data": {"x": "1"}}
    threading.Thread(target=made.follow, args=(notifier,), daemon=True).start()
    until(lambda: server.reloads == ["/-/reload"])
    assert files(tmp_path) == {"x": "1"}
    server.put("a", {"x": "2"})
    until(lambda: len(server.reloads) == 2 and files(tmp_path) == {"x": "2"})
    server.events.put({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
    until(lambda: sum("watch" not in path for path, _ in server.asked) == 4)
    server.put("a", {"x": "2"}, kind="DELETED")
    until(lambda: len(server.reloads) == 3 and not files(tmp_path))


def test_a_request_that_nobody_answers_is_made_again(tmp_path: Path) -> None:
    settings = Settings("l", tmp_path, url="http://127.0.0.1:1/", method="POST")
    assert Notifier(settings).send() is False
