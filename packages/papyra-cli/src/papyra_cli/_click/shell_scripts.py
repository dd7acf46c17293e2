"""What click's completion scripts lack for backend URLs and addresses, in which there are colons."""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

__all__ = ["register"]

_BASH_END = "    return 0\n"
_BASH_NO_SPACE = "    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[:/] ]] && compopt -o nospace\n"
_ZSH_ADD = "        compadd -U -V unsorted -a completions\n"
_ZSH_ADD_EACH = """\
        local -a beginnings=(${(M)completions:#*[:/]}) words=(${completions:#*[:/]})
        compadd -U -V unsorted -a words
        compadd -U -S '' -V unsorted -a beginnings
"""


class _OptionValues(ShellComplete):
    """What follows ``--option=`` is a part of the word that a shell replaces, so it takes all of it."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Complete, and put the option before its values again."""
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("--"):
            for item in items:
                item.value = f"{option}={item.value}"
        return items


class _Bash(_OptionValues, BashComplete):
    """Bash splits words at colons and equals signs, and puts a space behind a lone completion."""

    source_template = BashComplete.source_template.replace(_BASH_END, _BASH_NO_SPACE + _BASH_END, 1)
    _typed = ""  # of the word, up to where bash takes the next one to begin

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one, put together again."""
        words = split_arg_string(os.environ["COMP_WORDS"])[: int(os.environ["COMP_CWORD"]) + 1]
        if len(words) <= int(os.environ["COMP_CWORD"]):
            words.append("")
        *before, incomplete = _joined(words)
        if any(map(_is_break, words[-2:])):
            self._typed = incomplete[: max(incomplete.rfind(":"), incomplete.rfind("=")) + 1]
        return before[1:], incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Leave out what bash does not replace."""
        return f"{item.type},{item.value.removeprefix(self._typed)}"


def _is_break(word: str) -> bool:
    return bool(word) and not word.strip(":=")


def _joined(words: list[str]) -> list[str]:
    joined: list[str] = []
    open_end = False  # the word before ends with a colon or an equals sign
    for index, word in enumerate(words):
        parts = _is_break(word) and index > 0
        if word == "=" and joined[-1:] and joined[-1].startswith("--") and index < len(words) - 1:
            continue  # --option=value
        if joined and (parts or (open_end and word)):
            joined[-1] += word
        else:
            joined.append(word)
        open_end = parts
    return joined


class _Fish(_OptionValues, FishComplete):
    """Fish leaves words whole, and puts no space behind a colon or a slash."""


class _Zsh(_OptionValues, ZshComplete):
    """Zsh puts a space behind every completion, also behind those that go on."""

    source_template = ZshComplete.source_template.replace(_ZSH_ADD, _ZSH_ADD_EACH, 1)


def register() -> None:
    """Let click use these."""
    for shell in (_Bash, _Fish, _Zsh):
        add_completion_class(shell)
