"""Installed distributions as a source."""

import base64
import sys
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors import collect, packages
from collectors.document import Document, UserError
from collectors.licenses import spdx
from collectors.request import Request
from collectors.snapshot import read_records
from samples import ROOT

ABOUT = """\
Metadata-Version: 2.4
Name: Moss.Tools
Version: 1.0
License-Expression: MIT
Project-URL: Documentation, https://moss.example/docs
Description-Content-Type: text/markdown

# Moss tools

A small set of tools for growing moss on old stones, described at length in plain English — naïvely.
"""
FILES = {
    "moss/__init__.py": b"",
    "moss/grow.py": b"# coding: latin-1\r\nNAME = '\xe9tang'\r\n",
    "moss/broken.py": b"# coding: utf-8\nNAME = '\xff'\n",
    "moss/rot.py": b"# coding: rot13\nNAME = 1\n",
    "moss/data.txt": b"no code",
}


def install(site: Path, files: dict[str, bytes] = FILES, about: str = ABOUT) -> Path:
    """Write a distribution as pip would, with its RECORD; return its dist-info folder."""
    info = site / "moss_tools-1.0.dist-info"
    contents = {**files, f"{info.name}/METADATA": about.encode()}
    lines = []
    for name, data in contents.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(data)
        digest = base64.urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    (info / "RECORD").write_text("".join([*lines, f"{info.name}/RECORD,,\n", "../../bin/moss.py,,\n"]))
    return info


def request(content: str, distributions: Any = None, **window: datetime) -> Request:
    """Return a request for the sample distribution, or for others."""
    declared = {"Moss.Tools": {"version": "1.0", "uploaded": "2026-09-01T17:45:23Z"}}
    return Request(
        name=f"{content}-2026-09",
        source="packages",
        content=content,
        since=window.get("since", datetime(2026, 9, 1, tzinfo=UTC)),
        until=window.get("until", datetime(2026, 10, 1, tzinfo=UTC)),
        settings={"distributions": declared if distributions is None else distributions},
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path with one installed distribution."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def documents(tmp_path: Path, asked: Request) -> list[Document]:
    """Collect and extract, through a real snapshot."""
    folder = tmp_path / "raw"
    collect.collect(packages, asked, folder, tmp_path / "staging")
    return list(packages.extract(read_records(folder), asked, 1))


@pytest.mark.usefixtures("site")
def test_code_is_every_python_file_of_the_record(tmp_path: Path) -> None:
    """Files outside the installation and files of other kinds are none; text is decoded as Python does."""
    found = {d.title: d for d in documents(tmp_path, request("code"))}
    assert sorted(found) == ["moss/__init__.py", "moss/broken.py", "moss/grow.py", "moss/rot.py"]
    grow = found["moss/grow.py"]
    assert grow.text == "# coding: latin-1\nNAME = 'étang'\n"
    assert (grow.language, grow.license, grow.license_evidence) == ("python", "MIT", "License-Expression")
    assert (grow.native_id, grow.version) == ("Moss.Tools/moss/grow.py", "1.0")
    assert grow.published == datetime(2026, 9, 1, 17, 45, 23, tzinfo=UTC)
    assert [(e.kind, e.value) for e in grow.date_evidence] == [("index-upload-time", "2026-09-01T17:45:23Z")]
    assert grow.url == "https://moss.example/docs"
    assert grow.redistributable
    assert "\ufffd" in found["moss/broken.py"].text


@pytest.mark.usefixtures("site")
def test_files_choose_a_part_of_a_large_distribution(tmp_path: Path) -> None:
    """Patterns match whole paths from the right; one that matches nothing is refused."""
    some = {"Moss.Tools": {"version": "1.0", "published": "2026-09", "files": ["moss/g*.py"]}}
    assert [d.title for d in documents(tmp_path, request("code", some))] == ["moss/grow.py"]
    none = {"Moss.Tools": {"version": "1.0", "published": "2026-09", "files": ["lichen/*.py"]}}
    with pytest.raises(UserError, match="no .py file of Moss.Tools 1.0 matches lichen"):
        documents(tmp_path / "none", request("code", none))


@pytest.mark.usefixtures("site")
def test_prose_is_the_long_description(tmp_path: Path) -> None:
    """One document for each distribution, its language detected."""
    (document,) = documents(tmp_path, request("prose"))
    assert document.text.startswith("# Moss tools\n\nA small set")
    assert "— naïvely" in document.text
    assert (document.language, document.native_id) == ("en", "Moss.Tools:description")
    assert document.language_probability > 0.9


@pytest.mark.usefixtures("site")
def test_a_declared_month_is_evidence_of_its_own_kind(tmp_path: Path) -> None:
    """Without an upload time the month counts, with the precision it has."""
    asked = request("prose", {"moss-tools": {"version": "1.0", "published": "2026-09"}})
    (document,) = documents(tmp_path, asked)
    assert (document.published_precision, document.date_evidence[0].kind) == ("month", "declared-month")


def test_a_changed_file_is_refused(tmp_path: Path, site: Path) -> None:
    """What is on disk must be what the distribution's RECORD says."""
    (site / "moss/grow.py").write_text("changed = True\n")
    with pytest.raises(UserError, match=r"moss/grow.py of Moss.Tools 1.0 differs from its RECORD digest"):
        documents(tmp_path, request("code"))


def test_a_missing_file_is_refused(tmp_path: Path, site: Path) -> None:
    """A file of the RECORD that is gone is named."""
    (site / "moss/grow.py").unlink()
    with pytest.raises(UserError, match=r"moss/grow.py of Moss.Tools is in its RECORD but not on disk"):
        documents(tmp_path, request("code"))


def test_a_record_without_digests_is_refused(tmp_path: Path, site: Path) -> None:
    """A file that nothing vouches for is no evidence."""
    record = site / "moss_tools-1.0.dist-info/RECORD"
    record.write_text(record.read_text().replace("sha256=", "md5="))
    with pytest.raises(UserError, match="METADATA of Moss.Tools has no sha256 in its RECORD"):
        documents(tmp_path, request("code"))


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("distributions", "message"),
    [
        ({"Moss.Tools": {"version": "2.0", "published": "2026-09"}}, "installed as 1.0, but .* pins 2.0"),
        ({"lichen": {"version": "1", "published": "2026-09"}}, "lichen 1 is not installed; run `make setup`"),
        ({"Moss.Tools": {"version": "1.0", "published": "2026-10"}}, "published 2026-10, outside the window"),
        ({"Moss.Tools": {"version": "1.0", "published": "September"}}, "no date that can be read"),
        ({"Moss.Tools": {"version": "1.0", "uploaded": 5}}, "no date that can be read"),
        ({"Moss.Tools": {"version": "1.0"}}, "no date that can be read"),
        ({"Moss.Tools": {"version": "1.0", "uploaded": "2026-09-01T10:00:00"}}, "no date that can be read"),
        (
            {"Moss.Tools": {"version": "1.0", "uploaded": "9999-12-31T23:59:59-01:00"}},
            "no date that can be read",
        ),
        ({"": {"version": "1.0", "published": "2026-09"}}, "is not installed"),
        (
            {"Moss.Tools": {"version": "1.0", "published": "2026-09", "files": ["."]}},
            "needs a list of path patterns",
        ),
        ({"Moss.Tools": {"version": 1.0, "published": "2026-09"}}, "needs a quoted version"),
        ({"Moss.Tools": "1.0"}, "needs a quoted version"),
        ({"Moss.Tools": {"version": "1.0", "files": "*.py"}}, "needs a list of path patterns as `files`"),
        ({}, "needs content `code` or `prose` and a mapping `distributions`"),
        (["Moss.Tools"], "setting distributions of snapshot code-2026-09 must be a mapping, not"),
    ],
)
def test_wrong_requests_are_one_line(tmp_path: Path, distributions: Any, message: str) -> None:
    """Each names the distribution, what is wrong and what to do."""
    with pytest.raises(UserError, match=message):
        documents(tmp_path, request("code", distributions))


@pytest.mark.parametrize(
    ("expression", "field", "classifiers", "expected"),
    [
        ("apache-2.0 or MIT", "BSD", [], ("Apache-2.0 OR MIT", "License-Expression")),
        ("", "MIT", [], ("MIT", "License")),
        ("", "a very long licence text", ["License :: OSI Approved :: MIT License"], ("MIT", "Classifier")),
        ("", "BSD", ["License :: OSI Approved :: BSD License"], ("LicenseRef-BSD", "Classifier")),
        ("", "", ["License :: Other/Proprietary License"], ("", "")),
        ("", "", [], ("", "")),
    ],
)
def test_licences_are_read_from_the_surest_statement(
    expression: str, field: str, classifiers: list[str], expected: tuple[str, str]
) -> None:
    """An SPDX expression counts before free text, free text before classifiers."""
    found = spdx(expression, field, classifiers)
    assert (found[0], found[1].partition(":")[0]) == expected


def test_the_listed_snapshots_agree_with_the_pinned_environment() -> None:
    """Every distribution in params.yaml is pinned in constraints.txt in the same version, and installed so."""
    pins = dict(
        line.strip().lower().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    for snapshot in yaml.safe_load((ROOT / "params.yaml").read_text())["snapshots"].values():
        for name, values in snapshot.get("distributions", {}).items():
            assert pins[name.lower()] == values["version"] == metadata.version(name)
