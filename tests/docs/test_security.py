"""What SECURITY.md claims has a test that is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
CITED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
PROVISIONS = (
    "No universal default passwords",
    "Implement a means to manage reports of vulnerabilities",
    "Keep software updated",
    "Securely store sensitive security parameters",
    "Communicate securely",
    "Minimize exposed attack surfaces",
    "Ensure software integrity",
    "Ensure that personal data is secure",
    "Make systems resilient to outages",
    "Examine system telemetry data",
    "Make it easy for users to delete user data",
    "Make installation and maintenance of devices easy",
    "Validate input data",
)
CAPABILITIES = (
    "Device Identification",
    "Device Configuration",
    "Data Protection",
    "Logical Access to Interfaces",
    "Software Update",
    "Cybersecurity State Awareness",
)
UNTESTED = ("not met", "does not apply")


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@cache
def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), CITED)
def test_a_test_that_is_cited_is_there(file: str, name: str) -> None:
    assert name in functions(ROOT / file)
    assert name.startswith("test_") or file.startswith("tests/flash/"), "whoever runs the tests runs it"


def test_every_citation_is_found() -> None:
    assert PAGE.count("::") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", PAGE)) + PAGE.count("`path::name`")


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("ETSI EN 303 645", [f"5.{number} {name}" for number, name in enumerate(PROVISIONS, 1)]),
        ("NISTIR 8259A", [*CAPABILITIES]),
    ],
    ids=["etsi", "nist"],
)
def test_every_provision_is_answered_by_a_test_or_by_why_not(heading: str, names: list[str]) -> None:
    answers = rows(heading)
    assert [name for name, _, _ in answers] == names
    for name, verdict, shown in answers:
        assert verdict in {"met", "partly", *UNTESTED}, name
        assert ("::" in shown) is (verdict not in UNTESTED), name


def test_whoever_is_hostile_meets_a_test() -> None:
    assert all("::" in shown for _, _, _, shown in rows("Who may do what"))
