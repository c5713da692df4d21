"""Names in a folder behind which there is no file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest


@pytest.fixture(params=["pipe", "link to a pipe", "socket", "device", "link to a device", "folder"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something with a name that is no regular file; nobody ever writes to it."""
    path = tmp_path / "x.jpg"
    kind = request.param
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket has at most 107 bytes
        server.bind(path.name)
        os.chdir(here)
        request.addfinalizer(server.close)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path
