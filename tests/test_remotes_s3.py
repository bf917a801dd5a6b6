"""A remote with the interface of S3, of a real server that checks signatures."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dvc.repo import Repo
from test_remotes import AUTHOR, remote

from samples import ROOT

BIN = Path(sys.executable).parent
PATH = f"{BIN}{os.pathsep}{os.environ['PATH']}"
KEY, SECRET = "tests", "a secret of tests"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """The address of a server that keeps the bucket `freshbits` in a folder."""
    (tmp_path / "buckets" / "freshbits").mkdir(parents=True)
    port = free_port()
    served = ("rclone", "serve", "s3", str(tmp_path / "buckets"), "--config", str(tmp_path / "rclone.conf"))
    server = subprocess.Popen(
        [*served, "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"],
        env={**os.environ, "PATH": PATH},
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def run(folder: Path, *command: str, secret: str = SECRET) -> "subprocess.CompletedProcess[str]":
    """Run a command with credentials from the environment, and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    given = {
        "PATH": PATH,
        "HOME": str(folder.parent),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    return subprocess.run(
        command, cwd=folder, env={**kept, **given}, capture_output=True, text=True, check=False
    )


def done(folder: Path, *command: str) -> None:
    """Run a command that must succeed."""
    result = run(folder, *command)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_every_version_goes_through_s3_and_a_wrong_key_gets_nothing(tmp_path: Path, endpoint: str) -> None:
    """`make push` gives all versions, those older than the remote too; a clone restores both, and only with the key."""
    folder, corpus = tmp_path / "repository", Path("corpora/moss-2026-09")
    (folder / corpus).mkdir(parents=True)
    # The Makefile last: it stands for what `make setup` makes, which is older than neither of the others.
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "collectors", folder / "collectors", ignore=shutil.ignore_patterns("__pycache__"))
    done(folder, "git", "init", "--quiet")
    with Repo.init(str(folder)):
        pass
    for tag in ("first", "second"):
        (folder / corpus / "documents.parquet").write_bytes(tag.encode() * 1000)
        done(folder, "dvc", "add", "--quiet", str(corpus))
        done(folder, "git", "add", "--all")
        done(folder, "git", *AUTHOR, "commit", "--quiet", "--message", tag)
        done(folder, "git", "tag", tag)
        if tag == "first":
            remote(folder, "s3", "s3://freshbits/data", endpointurl=endpoint)
            (folder / ".dvc" / "config.local").rename(folder / ".dvc" / "config")
    push = ("make", "--silent", "push", f"BIN={BIN}", "READY=Makefile")
    assert run(folder, *push, secret="another").returncode != 0
    assert not [path for path in (tmp_path / "buckets").rglob("*") if path.is_file()]
    done(folder, *push)

    done(tmp_path, "git", "clone", "--quiet", str(folder), "clone")
    clone = tmp_path / "clone"
    refused = run(clone, "dvc", "pull", secret="another")
    assert refused.returncode != 0
    assert not (clone / corpus).exists()
    done(clone, "dvc", "pull")
    assert (clone / corpus / "documents.parquet").read_bytes() == b"second" * 1000
    remote(clone, "s3", "s3://freshbits/data", endpointurl=endpoint)
    done(clone, "git", "checkout", "--quiet", "first")
    done(clone, "dvc", "pull")
    assert (clone / corpus / "documents.parquet").read_bytes() == b"first" * 1000
