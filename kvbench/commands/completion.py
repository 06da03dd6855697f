"""Shell completion: `-sc install=bash` prints what a shell evaluates, `-sc query=bash` answers it at every Tab.

Hydra's own plugins find the words. Their scripts know `python FILE`, so ours stand in their place: they also know
`python -m kvbench`, and leave every other program of Python to the shell's own completion.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.completion_plugin import DefaultCompletionPlugin

from kvbench.config.conf_files import conf_folder
from kvbench.config.schema import Config
from kvbench.errors import ConfigError
from kvbench.options import settings

SHELLS = ("bash", "zsh", "fish")
CALLED = re.compile(r"^\s*\S*python[\d.]*\s+-m\s+kvbench(\s|$)")

BASH = """_kvbench_completion() {
    local words helper match
    read -r -a words <<< "$COMP_LINE"
    COMPREPLY=()
    case "${words[0]##*/}" in
        python*) [ "${words[1]} ${words[2]}" = "-m kvbench" ] || return; helper="${words[0]} -m kvbench" ;;
        *) helper="${words[0]}" ;;
    esac
    while IFS= read -r match; do
        [ -n "$match" ] && COMPREPLY+=("$match")
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" $helper -sc query=bash 2> /dev/null)
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _kvbench_completion NAMES
"""
BASH_UNINSTALL = "complete -r NAMES\nunset -f _kvbench_completion\n"
# For the command alone: zsh has a completion of its own for python, which ours would replace.
ZSH = """_kvbench_completion() {
    local line="${(j: :)words[1,CURRENT]}"
    compadd -S '' -- ${(f)"$(COMP_LINE="$line" $words[1] -sc query=zsh 2> /dev/null)"}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _kvbench_completion kvbench
"""
ZSH_UNINSTALL = "compdef -d kvbench\nunfunction _kvbench_completion\n"
FISH = """function _kvbench_completion
    set -lx COMP_LINE (commandline -cp)
    set -l parts (commandline -cpo)
    if string match -q '*python*' -- $parts[1]
        test "$parts[2] $parts[3]" = "-m kvbench"; or return
        $parts[1] -m kvbench -sc query=fish 2> /dev/null
    else
        $parts[1] -sc query=fish 2> /dev/null
    end
end
"""


def complete(arguments: Sequence[str]) -> int:
    """Print a script or the words that fit; always 0. Raises `ConfigError` for anything but one known request."""
    request, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    if request not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise ConfigError(
            "-sc: asks for one of install=, uninstall= and query=, with bash, zsh or fish, such as -sc install=bash;"
            ' to use it: eval "$(python -m kvbench -sc install=bash)"'
        )
    if request == "query":
        print("\n".join(matches(os.environ.get("COMP_LINE", ""))))  # noqa: T201 - what the shell reads
    else:
        print(script(request, shell, _names()), end="")  # noqa: T201 - the same
    return 0


def script(request: str, shell: str, names: Sequence[str]) -> str:
    """What a shell evaluates to complete these commands, or to stop."""
    if shell == "bash":
        return (BASH if request == "install" else BASH_UNINSTALL).replace("NAMES", " ".join(names))
    if shell == "zsh":
        return ZSH if request == "install" else ZSH_UNINSTALL
    if request == "install":
        return FISH + "".join(f"complete -c {name} -a '(_kvbench_completion)'\n" for name in names)
    return "".join(f"complete -e -c {name}\n" for name in names) + "functions -e _kvbench_completion\n"


def matches(line: str) -> list[str]:
    """The words that go on a command line, such as `model=gpt2` for `kvbench model=gp`, in alphabetical order."""
    _, _, typed = CALLED.sub("kvbench ", line).lstrip().partition(" ")
    values = _values("" if typed.endswith(" ") else typed.rpartition(" ")[2])
    if values is not None:
        return values
    ConfigStore.instance().store(name="schema", node=Config)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        loader: ConfigLoader = GlobalHydra.instance().config_loader()
        try:
            found = DefaultCompletionPlugin(loader)._query("config", typed)
        except (Exception, SystemExit):  # a line that is no command yet has nothing that fits
            return []
    return [word for word in found if not word.lstrip("+~").startswith("hydra")]  # none of which is obeyed


def _values(word: str) -> list[str] | None:
    """The values allowed for a key that is typed up to its value; None where any are, or a group's files."""
    key, equals, begun = word.partition("=")
    if not equals:
        return None
    for name, usual, metadata in settings(Config()):
        choices = (True, False) if isinstance(usual, bool) else metadata.get("choices")
        if name == key and choices:
            found = (str(value).lower() if isinstance(value, bool) else str(value) for value in choices)
            return sorted(f"{key}={value}" for value in found if value.startswith(begun))
    return None


def _names() -> list[str]:
    """The commands to complete: `kvbench`, and Python where kvbench was called as its module."""
    called_as_module = Path(sys.argv[0]).name == "__main__.py"
    return ["kvbench", *(["python", "python3"] if called_as_module else [])]
