"""The front door: the verbs of bankhub. It knows every package; no package knows it.

Each verb imports what it needs when it is called, so that `bankhub down` does not load a database driver.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from core.errors import BankhubError

if TYPE_CHECKING:
    from core.settings import Settings

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent

app = typer.Typer(
    name="bankhub",
    help="The hub, gateway and services of an enterprise mobile bank (企业手机银行).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

GatewayPort = Annotated[int | None, typer.Option(help="HTTP port (default 8080).", show_default=False)]
HubPort = Annotated[int | None, typer.Option(help="WebSocket port (default 8081).", show_default=False)]


# --- running ------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel="Run")
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background.")] = False,
    demo: Annotated[bool, typer.Option(help="Load the demonstration enterprise at first start.")] = True,
    workers: Annotated[int | None, typer.Option(help="Worker processes (default: cores - 1).")] = None,
    gateway_port: GatewayPort = None,
    hub_port: HubPort = None,
) -> None:
    """Start everything on this machine: engines, gateway, hub; Ctrl-C stops it."""
    from house.supervisor import Supervisor

    settings = load(workers=workers, gateway_port=gateway_port, hub_port=hub_port)
    if detach:
        from house.detach import detach as go

        raise typer.Exit(go(settings.var_dir, sys.argv[2:]))
    quiet_logs()
    run(Supervisor(settings, demo=demo, say=lambda text: print(text, flush=True)).run())


@app.command(rich_help_panel="Run")
def down() -> None:
    """Stop what `up` started, in order; waits for it."""
    from house.supervisor import down as stop

    settings = load()
    stopped = run(stop(settings.var_dir, timeout_s=settings.drain_s + 60.0))
    print("bankhub has stopped" if stopped else "bankhub is not running")


@app.command(rich_help_panel="Run")
def serve(
    roles: Annotated[str | None, typer.Option(help="Services, as in gateway,hub,im (default: all).")] = None,
    gateway_port: GatewayPort = None,
    hub_port: HubPort = None,
) -> None:
    """Run one process with these services, on engines that settings name: what a container runs."""
    from house.compose import serve as run_process

    run_fast(run_process(load(roles=roles, gateway_port=gateway_port, hub_port=hub_port)))


@app.command(rich_help_panel="Run")
def migrate() -> None:
    """Bring the database's tables up to date."""
    from house.compose import migrate as run_migrations

    with engines_of(load(), {"postgres"}) as settings:
        revisions = run(run_migrations(settings))
    print(f"ran {', '.join(revisions)}" if revisions else "the database is up to date")


@app.command(hidden=True)
def seed() -> None:
    """Load the demonstration: `up` does it at first start."""
    from house.compose import seed as load_demonstration

    run_fast(load_demonstration(load()))


# --- using --------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel="Use")
def chat(
    login: Annotated[str, typer.Option("--as", help="Who you are, for example 13800000001.")],
    password: Annotated[str | None, typer.Option(help="Default: the demonstration's.")] = None,
    to: Annotated[str | None, typer.Option(help="Conversation to begin in (default: the first).")] = None,
) -> None:
    """Talk to the others from a terminal."""
    from house.chat import chat as talk

    run(talk(load(), login=login, password=password, to=to))


# --- looking ------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel="Look")
def config() -> None:
    """Print every setting as it is set, secrets masked."""
    for line in load().lines():
        print(line)


@app.command(rich_help_panel="Look")
def doctor(
    outbox: Annotated[
        bool, typer.Option("--outbox", help="List events that could not be delivered.")
    ] = False,
    outbox_retry: Annotated[
        str | None, typer.Option(help="Send a parked event again: its id, or all.")
    ] = None,
) -> None:
    """Say what is wrong with this place, if anything; look at events that could not be delivered."""
    if outbox or outbox_retry:
        from house.outbox import outbox as look

        with engines_of(load(), {"postgres"}) as settings:
            raise typer.Exit(run(look(settings, retry=outbox_retry)))
    from house.doctor import examine

    quiet_logs()
    raise typer.Exit(run(examine(load())))


@app.command(rich_help_panel="Look")
def files(
    mend: Annotated[
        bool, typer.Option("--mend", help="Take away what nothing knows, once it is old enough.")
    ] = False,
) -> None:
    """Compare the object store with the tables: what is there, what nothing knows, what is missing."""
    from house.files import compare

    with engines_of(load(), {"postgres", "s3"}) as settings:
        raise typer.Exit(run(compare(settings, mend=mend)))


@app.command(rich_help_panel="Look")
def verify(
    what: Annotated[
        str | None, typer.Argument(help="A stream's id, `audit` or `evidence` (default: all streams).")
    ] = None,
    which: Annotated[str | None, typer.Argument(help="evidence: of this challenge only.")] = None,
    seals: Annotated[
        Path | None, typer.Option(help="audit: exported seals, or a log with them (default: our own file).")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="evidence: write what holds to this file, sealed to stand for itself.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="evidence: verify this file, without a database or a running bank.")
    ] = None,
    anchor: Annotated[
        Path | None, typer.Option(help="evidence --bundle: the bank's public keys, from `keys --public`.")
    ] = None,
) -> None:
    """Walk digest chains, of stored streams or of the audit, and say where one breaks; or verify what was signed."""
    from house.verify import audit, evidence, evidence_bundle, streams

    if what is not None and what not in ("audit", "evidence") and not what.isdecimal():
        raise typer.BadParameter("a stream's id, `audit` or `evidence`")
    if which is not None and (what != "evidence" or not which.isdecimal()):
        raise typer.BadParameter("an id goes with `evidence`: the decimal id of a challenge")
    if (export or bundle or anchor) and what != "evidence":
        raise typer.BadParameter("--export, --bundle and --anchor go with `evidence`")
    if (bundle is None) != (anchor is None):
        raise typer.BadParameter("--bundle and --anchor go together")
    if bundle is not None and anchor is not None:
        if export or which:
            raise typer.BadParameter("a bundle is verified as it is")
        quiet_logs()
        raise typer.Exit(evidence_bundle(bundle, anchor))
    with engines_of(load(), {"postgres"}) as settings:
        if what == "audit":
            raise typer.Exit(run(audit(settings, seals)))
        if what == "evidence":
            raise typer.Exit(run(evidence(settings, None if which is None else int(which), export)))
        raise typer.Exit(run(streams(settings, None if what is None else int(what))))


@app.command(rich_help_panel="Look")
def keys(
    add: Annotated[
        bool, typer.Option("--add", help="Make the file, and keys for purposes that have none.")
    ] = False,
    rotate: Annotated[
        str | None, typer.Option(help="Make the next key of this purpose the current one.")
    ] = None,
    attach: Annotated[
        str | None, typer.Option(help="Make a key of a machine the next one for seals: sdf:1, server:NAME.")
    ] = None,
    retire: Annotated[
        str | None, typer.Option(help="Forget a previous key that nothing needs any more: columns.1")
    ] = None,
    at_once: Annotated[
        bool, typer.Option(help="rotate: though not every process may know the next key yet.")
    ] = False,
    public: Annotated[
        Path | None, typer.Option(help="Write the public sealing keys to this file: what others trust us by.")
    ] = None,
) -> None:
    """Say which keys there are, how old, and when each is due; turn and retire them."""
    from house.keys import keys as manage
    from house.keys import write_public

    quiet_logs()
    if public is not None:
        raise typer.Exit(write_public(load(), public))
    if retire is None:
        raise typer.Exit(manage(load(), add=add, attach=attach, rotate=rotate, at_once=at_once))
    with engines_of(load(), {"postgres"}) as settings:  # to ask whether anything needs it
        raise typer.Exit(
            manage(settings, add=add, attach=attach, rotate=rotate, retire=retire, at_once=at_once)
        )


@app.command(rich_help_panel="Look")
def explain_access(
    person: Annotated[str, typer.Argument(help="Phone, login name or id.")],
    action: Annotated[str, typer.Argument(help="As in gateway.identity.add_member.")],
    enterprise: Annotated[
        int | None, typer.Option(help="Only there (default: wherever they belong).")
    ] = None,
    acr: Annotated[
        int, typer.Option(min=1, max=2, help="1: as of a session without a second factor; 2: with one.")
    ] = 2,
    owner: Annotated[
        str | None, typer.Option(help="About a record of this person: phone, login name or id.")
    ] = None,
    department: Annotated[
        list[int] | None, typer.Option(help="About a record of this department (default: the owner's).")
    ] = None,
    amount_fen: Annotated[int | None, typer.Option(min=0, help="About a record over this amount.")] = None,
    maker: Annotated[str | None, typer.Option(help="About a record that this person made.")] = None,
) -> None:
    """Say why somebody may call an action, or may not; and why about a certain record."""
    from house.explain import About, explain

    about = About(owner, tuple(department or ()), amount_fen, maker)
    with engines_of(load(), {"postgres"}) as settings:
        raise typer.Exit(run(explain(settings, person, action, enterprise, acr, about)))


@app.command(rich_help_panel="Look")
def openapi() -> None:
    """Print the OpenAPI 3.1 document of all actions."""
    from house.compose import openapi as document

    print(json.dumps(document(), ensure_ascii=False, indent=2))


# --- building -----------------------------------------------------------------------------------------------------


@app.command(rich_help_panel="Build")
def check(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired first.")] = False,
) -> None:
    """Formats, types, floors and house lints; no tests."""
    from house.checks import check as run_checks

    raise typer.Exit(run_checks(fix=fix))


@app.command(
    rich_help_panel="Build", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def test(context: typer.Context) -> None:
    """`check` and every test; with arguments, pytest with these alone."""
    from house.checks import test as run_tests

    raise typer.Exit(run_tests(context.args))


@app.command(
    rich_help_panel="Build", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def bench(context: typer.Context) -> None:
    """Measure: `bench hub --json`, `bench files --json`, `bench faults --minutes N`."""
    from house.compose import bench as measure

    raise typer.Exit(measure(context.args))


@app.command(rich_help_panel="Build")
def lock(
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take the newest versions.")] = False,
) -> None:
    """Make requirements.lock from pyproject.toml."""
    from house.lock import make

    raise typer.Exit(make(upgrade=upgrade))


# --- how ----------------------------------------------------------------------------------------------------------


def load(**overrides: Any) -> Settings:
    """Settings; paths that nobody set are beside this file, wherever we are called from."""
    from core.settings import Settings
    from core.settings import load as load_settings

    if "BANKHUB_CONFIG_FILE" not in os.environ and (ROOT / "bankhub.toml").exists():
        os.environ["BANKHUB_CONFIG_FILE"] = str(ROOT / "bankhub.toml")
    given = {name: value for name, value in overrides.items() if value is not None}
    settings = load_settings(**given)
    if settings.var_dir == Settings.model_fields["var_dir"].default:
        settings = load_settings(**given, var_dir=ROOT / settings.var_dir)
    return settings


@contextmanager
def engines_of(settings: Settings, names: set[str]) -> Iterator[Settings]:
    """Settings that name running engines, for a verb that needs some for a moment."""
    from house.engines import engines_of as borrow

    quiet_logs()
    with borrow(settings, names) as found:
        yield found


def quiet_logs() -> None:
    """Verbs talk to people on standard output; of the logs they show warnings."""
    from core.logs import configure_logs

    configure_logs("warning")


def run(work: Awaitable[T]) -> T:
    """Run to the end on the standard loop."""

    async def main() -> T:
        return await work

    return asyncio.run(main())


def run_fast(work: Awaitable[T]) -> T:
    """Run to the end on uvloop: what serves."""
    import uvloop

    async def main() -> T:
        return await work

    return uvloop.run(main())


def main() -> None:
    try:
        app(prog_name="bankhub")
    except BankhubError as error:
        print(f"bankhub: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
