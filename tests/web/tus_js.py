"""tus-js-client under Node.js, in a process of its own, and Uppy for browsers."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.servers.lane import cache, replace_folder

__all__ = ["asked", "installed", "uppy"]

_CLIENT = Path(__file__).parent / "tus_client.mjs"
_PACKAGE = "tus-js-client@4.3.1"
_UPPY = "uppy@5.2.4"


def installed() -> Path:
    """Return a folder with tus-js-client, from npm unless it is there already. Skip the test without Node.js."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed")
    folder = cache(_PACKAGE)
    if not (folder / "node_modules" / "tus-js-client").is_dir():
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        subprocess.run(["npm", "install", *options, _PACKAGE], check=True, capture_output=True, timeout=120)
    return folder


def uppy() -> str:
    """Return the script of Uppy for browsers."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = cache(_UPPY)
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as fresh:
            subprocess.run(["npm", "pack", "--silent", _UPPY], cwd=fresh, check=True, capture_output=True, timeout=120)
            (archive,) = Path(fresh).glob("*.tgz")
            with tarfile.open(archive) as packed:
                packed.extractall(fresh, filter="data")
            replace_folder(Path(fresh) / "package" / "dist", folder)
    return (folder / "uppy.min.js").read_text(encoding="utf-8")


async def asked(modules: Path, path: Path, **what: Any) -> list[tuple[str, Any]]:
    """Let tus-js-client upload a file, and return what it reports."""
    order = json.dumps({"modules": str(modules), "path": str(path), **what})
    process = await asyncio.create_subprocess_exec(
        "node", str(_CLIENT), order, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return [tuple(json.loads(line)) if line.startswith(b"[") else ("said", line) for line in output.splitlines()]
