"""The figures for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.bench.processes import Result

ROWS: tuple[tuple[str, str], ...] = (
    ("fanout_k8_vs_broadcast", "fan-out, 8 messages a write, against websockets.broadcast"),
    ("fanout_k1_vs_send", "fan-out, 1 message a write, against send() in C"),
    ("hub_k8_per_cpu_s", "  deliveries per CPU second, 8 a write"),
    ("hub_k1_per_cpu_s", "  deliveries per CPU second, 1 a write"),
    ("durable_vs_naive", "durable messages, against the naive design"),
    ("durable_max_in_per_s", "  most messages/s in"),
    ("durable_max_deliveries_per_s", "  most deliveries/s out"),
    ("naive_in_per_s", "  naive: messages/s in"),
    ("durable_in_per_s", "at half of the most: messages/s in"),
    ("deliveries_per_s", "  deliveries/s out"),
    ("ack_p50_ms", "  SENT after ms, median"),
    ("ack_p99_ms", "  SENT after ms, 99 %"),
    ("aim_in_per_s", "at the aimed rate: messages/s in"),
    ("aim_deliveries_per_s", "  deliveries/s out"),
    ("aim_ack_p50_ms", "  SENT after ms, median"),
    ("aim_ack_p99_ms", "  SENT after ms, 99 %"),
    ("idle_kib_per_connection", "KiB per idle connection"),
    ("hello_per_s", "HELLOs/s"),
    ("recovery_s", "s until all are back after a kill"),
    ("recovery_restart_s", "  of which starting the worker"),
    ("recovery_gaps", "  entries lost"),
)


def lines_of(report: Result, rows: Sequence[tuple[str, str]], goals: Mapping[str, tuple[str, float]]) -> str:
    """Lines of text."""
    lines = []
    for name, words in rows:
        if name not in report:
            continue
        line = f"{words:<62}{_number(report[name]):>12}"
        if name in goals:
            how, goal = goals[name]
            line += f"   {how} {_number(goal)}" + ("" if report["goals"][name] else "   NOT REACHED")
        lines.append(line)
    machine = report["machine"]
    headroom = ", ".join(f"{name} {share:.0%}" for name, share in report["client_headroom"].items())
    lines += [
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}",
        f"load client idle at least: {headroom}",
        f"other programs used {report['others_cpu']} of a core meanwhile",
        f"took {report['took_s']} s"
        + ("; quick: one short round, not for comparing" if report["quick"] else ""),
    ]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
