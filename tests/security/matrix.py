"""The matrix requirement, test, result: collected by pytest from markers, written by the run of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.security.requirements import FORM, GROUPS, REQUIREMENTS

_PROPERTY: Final = "requirement"
_HEAD: Final = """# Security

What is required, which tests hold it, and what the last run of the whole suite said. This page is written by
`./bankhub test`; a test names what it holds with `@pytest.mark.requirement("S03")`. The requirements are in
[tests/security/requirements.py](../tests/security/requirements.py), the numbers in them are settings
(`./bankhub config`). *In which form* says what is met otherwise than it is written, only in part, or not yet, and
names the [decision](decisions/) that says why; where nothing stands there, it is met as it is written. A result is
what the tests said, and no more than they try. How access is decided stands in
[architecture.md](architecture.md#who-may-do-what).

"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", metavar="FILE", help="write the matrix of security requirements to FILE")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requirement(*ids): the security requirements that a test holds")
    file = config.getoption("--matrix")
    if file and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Matrix(Path(file)))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Reports travel from worker to controller with their properties, markers do not."""
    for marker in item.iter_markers(_PROPERTY):
        for name in marker.args:
            if name not in REQUIREMENTS:
                raise pytest.UsageError(f"{item.nodeid}: there is no requirement {name}")
            item.user_properties.append((_PROPERTY, name))


class Matrix:
    """Listens to reports and writes the page at the end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._results: dict[str, dict[str, str]] = {}  # requirement -> test function -> worst outcome

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = "passed" if report.passed else "failed" if report.failed else "skipped"
        if report.when != "call" and outcome == "passed":
            return
        test = report.nodeid.partition("[")[0]
        for name, value in report.user_properties:
            if name == _PROPERTY:
                tests = self._results.setdefault(str(value), {})
                tests[test] = max(
                    tests.get(test, "passed"), outcome, key=("passed", "skipped", "failed").index
                )

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self._file.write_text(_HEAD + "\n".join(page(self._results)) + "\n", encoding="utf-8")


def page(results: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The lines of the matrix, group by group."""
    held = sum(bool(results.get(name)) for name in REQUIREMENTS)
    as_written = sum(bool(results.get(name)) and name not in FORM for name in REQUIREMENTS)
    yield f"{held} of {len(REQUIREMENTS)} requirements have tests; {as_written} of them are held as they are written."
    for letter, title in GROUPS.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| id | requirement | in which form | tests | result |"
        yield "| --- | --- | --- | --- | --- |"
        for name, text in REQUIREMENTS.items():
            if name.startswith(letter):
                tests: Mapping[str, Any] = results.get(name, {})
                worst = [outcome for outcome in ("failed", "skipped", "passed") if outcome in tests.values()]
                shown = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in sorted(tests))
                result = worst[0] if worst else "not yet"
                yield f"| {name} | {text} | {FORM.get(name, '')} | {shown or '—'} | {result} |"
