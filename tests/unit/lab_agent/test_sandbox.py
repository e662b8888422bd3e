# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A container as a process, in namespaces that any user may make (no lab, no API server)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = '''
import asyncio, ipaddress, pathlib, signal, sys
from lab.agent.config import Config
from lab.agent.images import Images
from lab.agent.sandbox import Process, Sandbox, Tools

table = pathlib.Path("lab/agent/images.yaml")
config = Config(
    pathlib.Path("-"), pathlib.Path(sys.argv[1]), pathlib.Path("-"), pathlib.Path(sys.executable), table,
    ipaddress.IPv4Network("198.18.128.0/17"), "198.18.0.10", "198.19.0.10", "cluster.local",
)
SERVER = """
import http.server as h, os
print(os.getuid(), os.getpid(), flush=True)
h.test(h.SimpleHTTPRequestHandler, port=80)
"""

secret = "hid" + "den"  # put together here: this very program is an argument

async def main():
    tools, images = Tools(config), Images(config)
    image = images.find("python:3.13-slim")
    network = Sandbox(tools, config.gateway, "198.18.128.2")
    await network.create()
    options = "--die-with-parent --as-pid-1 --cap-drop ALL --unshare-user --unshare-pid --unshare-uts".split()
    root = images.root(image)
    options += ["--uid", "100", "--gid", "1000", *root.options, "--proc", "/proc", "--dev", "/dev"]
    options += ["--tmpfs", "/tmp", "--remount-ro", "/"]
    env = {"PATH": "/usr/local/bin:/usr/bin", "SECRET": secret, **root.env}
    process = await Process.start(tools, network.enter, options, ["python", "-c", SERVER], env)
    print("user and pid:", (await asyncio.wait_for(process.outer.stdout.readline(), 10)).decode().strip())
    for _ in range(50):
        try:
            reader, writer = await asyncio.open_connection(network.address, 80)
            break
        except OSError:
            await asyncio.sleep(0.1)
    writer.write(b"HEAD / HTTP/1.0\\r\\n\\r\\n")
    print("answer:", (await reader.readline()).decode().strip())
    touch = ["sh", "-c", "touch /x 2>/dev/null || echo fixed"]
    for words in (["printenv", "SECRET"], touch, ["curl"], ["python", "-c", "import yaml"]):
        code, said = await process.execute(words, env, 10)
        print("in it:", words[0], code, said[-60:].splitlines()[-1:])
    print("too slow:", (await process.execute(["sleep", "5"], env, 0.3))[0])
    arguments = [p.read_bytes() for p in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
    print("in arguments:", any(secret.encode() in words for words in arguments))
    process.signal(signal.SIGKILL)
    print("code:", await process.outer.wait())
    await network.remove()

if sys.version_info < (3, 12):
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
asyncio.run(main())
'''


def possible() -> str:
    for program in ("bwrap", "ip", "unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    made = subprocess.run(["unshare", "-Urnm", "true"], capture_output=True, check=False)
    return "" if made.returncode == 0 else "this machine lets its users make no namespaces"


@pytest.mark.skipif(bool(possible()), reason=possible() or "-")
def test_a_container_is_a_process_of_its_own(tmp_path: Path) -> None:
    inner = 'ip link set lo up; ip addr add 198.18.0.0/17 dev lo; exec "$@"'
    argv = ["unshare", "-Urnm", "sh", "-ec", inner, "-", sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "user and pid: 100 1",
        "answer: HTTP/1.0 200 OK",
        "in it: printenv 0 ['hidden']",
        "in it: sh 0 ['fixed']",
        "in it: curl 127 ['nsenter: failed to execute curl: No such file or directory']",
        "in it: python 1 [\"ModuleNotFoundError: No module named 'yaml'\"]",
        "too slow: 124",
        "in arguments: False",
        "code: 137",
    ]
