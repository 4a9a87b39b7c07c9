"""House lints: what this house promises its readers and ruff cannot know. Run by `bankhub check`.

HOUSE001  SQL stands only in store.py, and in core/
HOUSE002  no float near money: amounts are integer fen
HOUSE003  of another service only its api.py may be imported
HOUSE004  rules.py and hub/wire/ decide without I/O, clock or randomness
HOUSE005  time, randomness and ids come from core.clock, core.rng and core.ids, so that a seed replays

Every statement's tenant filter is checked where statements are registered: tests/core/db walks them all.
A line is exempt with a comment ``# house: allow HOUSE005 - why``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("gateway", "ops", "finance", "oa", "files", "im", "notify", "hub")
_SQL = re.compile(
    r"\s*(SELECT\s.+\sFROM\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|MERGE\s+INTO\s|CREATE\s+TABLE\s|ALTER\s+TABLE\s)",
    re.IGNORECASE | re.DOTALL,
)
_MONEY = re.compile(
    r"(^|_)(fen|yuan|amount|money|balance|price|fee|principal_sum|interest)(_|$)", re.IGNORECASE
)
_IMPURE = ("asyncio", "random", "secrets", "socket", "time", "aiohttp", "asyncpg", "redis", "structlog")
_IMPURE_OURS = (
    "core.db",
    "core.clock",
    "core.rng",
    "core.bus",
    "core.settings",
    "core.ids",
    "core.telemetry",
)
_UNSEEDED = {
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "time": {"time", "time_ns", "monotonic", "monotonic_ns"},
    "os": {"urandom"},
    "uuid": {"uuid1", "uuid4", "uuid7"},
}
_UNSEEDED_MODULES = ("random", "secrets")
_CLIENTS = ("hub/client/", "hub/chat/")  # programs of their own on somebody else's machine
_ALLOW = re.compile(r"#\s*house:\s*allow\s+((?:HOUSE\d{3}[ ,]*)+)-\s*\S")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    path: str
    line: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.code} {self.message}"


def lint(path: str, source: str) -> list[Finding]:
    """Findings in one file; `path` is relative to the repository and decides which rules hold."""
    tree = ast.parse(source, path)
    package = path.partition("/")[0]
    findings = set(_money(path, tree))
    if package in SERVICES:
        findings.update(_imports(path, package, tree))
        if path.rpartition("/")[2] != "store.py":
            findings.update(_sql(path, tree))
        if path.rpartition("/")[2] == "rules.py" or path.startswith("hub/wire/"):
            findings.update(_pure(path, tree))
        if not path.startswith(_CLIENTS):
            findings.update(_seeded(path, tree))
    lines = source.splitlines()
    return sorted(f for f in findings if not _allowed(lines[f.line - 1], f.code))


def _allowed(line: str, code: str) -> bool:
    match = _ALLOW.search(line)
    return match is not None and code in match[1]


def _sql(path: str, tree: ast.AST) -> Iterator[Finding]:
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in texts:
            continue
        if _SQL.match(node.value):
            yield Finding(path, node.lineno, "HOUSE001", "SQL stands in store.py")


def _money(path: str, tree: ast.AST) -> Iterator[Finding]:
    everywhere = path.startswith("finance/")
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            target = node.arg if isinstance(node, ast.arg) else _name(node.target)
            if "float" in _words(node.annotation) and (everywhere or _MONEY.search(target)):
                yield Finding(path, node.lineno, "HOUSE002", f"{target} is a float; amounts are integer fen")
        elif isinstance(node, ast.Call) and _name(node.func) == "float":
            if everywhere or any(_money_name(argument) for argument in node.args):
                yield Finding(path, node.lineno, "HOUSE002", "float() of an amount; amounts are integer fen")
        elif isinstance(node, ast.BinOp):
            sides = (node.left, node.right)
            money = everywhere or any(_money_name(side) for side in sides)
            if money and isinstance(node.op, ast.Div):
                yield Finding(
                    path, node.lineno, "HOUSE002", "/ makes a float; divide amounts by rule (divmod)"
                )
            elif money and any(isinstance(s, ast.Constant) and isinstance(s.value, float) for s in sides):
                yield Finding(
                    path, node.lineno, "HOUSE002", "a float beside an amount; amounts are integer fen"
                )


def _imports(path: str, package: str, tree: ast.AST) -> Iterator[Finding]:
    for line, module, names in _imported(tree):
        other, _, room = module.partition(".")
        if other == package or other not in SERVICES:
            continue
        rooms = {room.partition(".")[0]} if room else set(names)
        if rooms - {"api"}:
            yield Finding(path, line, "HOUSE003", f"of {other} only {other}/api.py may be imported")


def _pure(path: str, tree: ast.AST) -> Iterator[Finding]:
    for line, module, names in _imported(tree):
        for full in (module, *(f"{module}.{name}" for name in names)):
            if full.partition(".")[0] in _IMPURE or full in _IMPURE_OURS:
                yield Finding(path, line, "HOUSE004", f"{full} has no place where things are only decided")
                break


def _seeded(path: str, tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, attribute = _name(node.func.value), node.func.attr
            if attribute in _UNSEEDED.get(owner, ()) or owner in _UNSEEDED_MODULES:
                yield Finding(path, node.lineno, "HOUSE005", f"{owner}.{attribute}() cannot be replayed")
    for line, module, names in _imported(tree):
        banned = set(names) & (_UNSEEDED.get(module, set()) - {"now"})
        if (module in _UNSEEDED_MODULES and names) or banned:
            yield Finding(path, line, "HOUSE005", f"{module} cannot be replayed")


def _imported(tree: ast.AST) -> Iterator[tuple[int, str, list[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module, [alias.name for alias in node.names]


def _name(node: ast.expr) -> str:
    """The last name of an expression: `amount_fen` of ``row.amount_fen``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else ""


def _money_name(node: ast.expr) -> bool:
    return bool(_MONEY.search(_name(node)))


def _words(annotation: ast.expr) -> set[str]:
    return set(re.findall(r"\w+", ast.unparse(annotation)))


def files(root: Path) -> Iterator[str]:
    """Our Python files, as git knows them (also new ones that it does not ignore)."""
    argv = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        found = listed.stdout.splitlines()
    else:  # an unpacked archive
        found = [str(path.relative_to(root)) for path in root.rglob("*.py")]
    for name in sorted(found):
        first = name.partition("/")[0]
        if (first in SERVICES or first in ("core", "house", "bankhub.py")) and (root / name).is_file():
            yield name


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    findings = [f for name in files(root) for f in lint(name, (root / name).read_text(encoding="utf-8"))]
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
