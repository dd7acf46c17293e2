"""Shell completion for words that hold colons and slashes: backend URLs, addresses, files."""

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

_BASH_SCRIPT = """\
%(complete_func)s() {
    local IFS=$'\\n' completion type value
    for completion in $(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete $1); do
        IFS=',' read type value <<< "$completion"
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=($value) ;;
        esac
    done
    # A word that ends with a colon or a slash is incomplete, so no space follows it.
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[:/] ]] && compopt -o nospace
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH_SCRIPT = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local type key descr
    local -a response described plain beginnings
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete %(prog_name)s)}")
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain)
                # A word that ends with a colon or a slash is incomplete, so no space follows it.
                if [[ $descr != _ ]]; then described+=("$key:$descr")
                elif [[ $key == *[:/] ]]; then beginnings+=("$key")
                else plain+=("$key"); fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#beginnings )) && compadd -U -S '' -V unsorted -a beginnings
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _OptionValues(ShellComplete):
    """Completes ``--option=value``.

    The shell replaces the whole word, so the option is part of each completion.
    """

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

    source_template = _BASH_SCRIPT
    _typed = ""  # the part of the word before the last break

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the current one and the current one, joined where bash split them."""
        words = split_arg_string(os.environ["COMP_WORDS"])[: int(os.environ["COMP_CWORD"]) + 1]
        if len(words) <= int(os.environ["COMP_CWORD"]):
            words.append("")
        *before, incomplete = _joined(words)
        if any(map(_is_break, words[-2:])):
            self._typed = incomplete[: max(incomplete.rfind(":"), incomplete.rfind("=")) + 1]
        return before[1:], incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Leave out the part that bash does not replace."""
        return f"{item.type},{item.value.removeprefix(self._typed)}"


def _is_break(word: str) -> bool:
    return bool(word) and not word.strip(":=")


def _joined(words: list[str]) -> list[str]:
    joined: list[str] = []
    open_end = False  # whether the previous word ends with a colon or an equals sign
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
    """Zsh puts a space behind every completion by default."""

    source_template = _ZSH_SCRIPT


def register() -> None:
    """Replace the completion classes of click with these."""
    for shell in (_Bash, _Fish, _Zsh):
        add_completion_class(shell)
