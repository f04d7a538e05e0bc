"""Tells the counts of the table of faults at the end of a test run that looked at it."""

from tests.faults.table import TABLE, counted


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get(
        "failed", []
    )
    met = [report for report in reports if report.nodeid.startswith("tests/faults/")]
    if met:
        terminalreporter.section("faults")
        terminalreporter.line(f"{len(TABLE)} named faults, by stage and expected class:")
        for line in counted(TABLE):
            terminalreporter.line(line)
