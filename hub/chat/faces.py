"""Where a chat is seen: a terminal with a line to type on below the lines that arrive, or plain lines for scripts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console
from rich.text import Text

STYLES = {
    "": "",
    "news": "dim",
    "mine": "green",
    "call": "bold yellow",
    "bad": "bold red",
    "head": "bold cyan",
}


class Face(Protocol):
    """What a chat needs of its surroundings."""

    def show(self, line: str, style: str = "") -> None:
        """One line, above what is being typed."""

    def lines(self) -> AsyncIterator[str]:
        """What is typed, line by line, until the end of input."""
        ...


class Plain:
    """Lines in, lines out: for scripts and pipes."""

    def __init__(self) -> None:
        self._reader: asyncio.StreamReader | None = None

    def show(self, line: str, style: str = "") -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    async def lines(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            yield line.rstrip("\r\n")


class Terminal:
    """A prompt with a status line under it."""

    def __init__(
        self, prompt: Callable[[], str], status: Callable[[], str], typed: Callable[[], None]
    ) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._prompt, self._status = prompt, status
        self._session: PromptSession[str] = PromptSession(
            bottom_toolbar=lambda: HTML("{}").format(self._status()), refresh_interval=0.5
        )
        self._session.default_buffer.on_text_insert += lambda _: typed()

    def complete(self, words: list[str]) -> None:
        """Words that Tab offers."""
        self._session.completer = WordCompleter(words, sentence=False)

    def show(self, line: str, style: str = "") -> None:
        with contextlib.suppress(BlockingIOError):
            self._console.file = sys.stdout  # which patch_stdout replaces
            self._console.print(Text(line, style=STYLES.get(style, "")))

    async def lines(self) -> AsyncIterator[str]:
        with patch_stdout(raw=True):
            while True:
                try:
                    yield await self._session.prompt_async(lambda: f"{self._prompt()}> ")
                except (EOFError, KeyboardInterrupt):
                    return
