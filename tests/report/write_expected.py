"""Writes the expected texts anew: `python -m tests.report.write_expected`, then read the diff."""

from __future__ import annotations

from pathlib import Path

from tests.report import samples

from tidegate.report.changes import changes, changes_text
from tidegate.report.prometheus import alert_rules, check_metrics
from tidegate.report.text import check_text, hosts_table

EXPECTED = Path(__file__).parent / "expected"


def texts() -> dict[str, str]:
    """Every text that is compared, by file name."""
    made = {f"{sample.__name__}.txt": check_text(sample()) for sample in samples.ALL}
    return made | {
        "at_risk.all.txt": check_text(samples.at_risk(), all=True, width=100),
        "hosts.txt": hosts_table([sample() for sample in samples.ALL]),
        "changes.txt": changes_text(changes(samples.at_risk(), samples.cured())),
        "at_risk.prom": check_metrics([samples.at_risk()]),
        "alerts.yml": alert_rules(),
    }


if __name__ == "__main__":
    EXPECTED.mkdir(exist_ok=True)
    for name, text in texts().items():
        (EXPECTED / name).write_text(text, encoding="utf-8")
