"""docs/findings.md comes from the table of rules and is current."""

from __future__ import annotations

from pathlib import Path

from tidegate.findings import RULES
from tidegate.report.docs_findings import anchor, findings_markdown
from tidegate.result import Severity

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "findings.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == findings_markdown(), "make docs writes it anew"


def test_every_finding_and_severity_is_on_it() -> None:
    page = findings_markdown()
    for rule in RULES:
        assert f"\n## {rule.id}\n" in page
        assert f"(#{anchor(rule.id)})" in page
    for severity in Severity:
        assert f"- **{severity}**" in page
