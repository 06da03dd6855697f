"""What is left out of what will be shared: host names, user names, where files lie, and secrets."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from kvbench.config.rules import ACCESS_TOKEN
from kvbench.measuring.environment import SECRETS
from kvbench.records.part import Part
from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun

Kind = TypeVar("Kind", bound=Part)

HOST, USER, PLACE, SECRET = "[host]", "[user]", "[path]", "[secret]"

# Keys whose values are places or names of a machine whatever they look like. Keys of texts are left alone.
PLACES = {"results_dir", "prompts", "path", "cwd", "home", "folder", "file", "cache_dir", "report_path"}
HOSTS = {"host", "hostname", "host_name", "node", "nodename", "fqdn"}
USERS = {"user", "username", "user_name", "login", "logname"}
# What was generated, a prompt given as text, and pointers into the record, which look like paths.
KEPT = {"texts", "prompt", "evidence"}
POINTED = "null_reasons"  # its keys are pointers too

# A POSIX path from its root or from a home, a Windows path, a share, a file's address; up to white space or a quote.
_END = r"[^\s'\"<>|,;:)\]}]"
# A folder's name may hold blanks: up to four words go on to one with a slash. It takes a word too many rather than one
# too few.
_ON = rf"(?:(?: {_END}+){{0,4}}? {_END}*[\\/]{_END}*)*"
_PATHS = re.compile(
    r"(?<=')(?:~|\.{0,2}/|[A-Za-z]:\\|\\\\)[^'\n]+(?=')"  # within quotes it ends with them
    r"|(?<=\")(?:~|\.{0,2}/|[A-Za-z]:\\|\\\\)[^\"\n]+(?=\")"
    rf"|file:/+{_END}+{_ON}"
    rf"|\b[A-Za-z]:[\\/]{_END}+{_ON}"
    rf"|\\\\{_END}+{_ON}"
    rf"|(?<![\w/.:~])~[\w.-]*/{_END}*{_ON}"
    rf"|(?<![\w/.:~])\.{{0,2}}/(?=[\w.~-]){_END}+{_ON}"
)
# A name and a password, or a token, in an address.
_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
SHORTEST_SECRET = 8  # characters of a variable's value: shorter ones are words
# Accounts that every machine has tell nobody apart, and their names are words.
_EVERYBODYS = {"root", "user", "admin", "nobody", "ubuntu", "runner", "localhost"}
_HOMES = re.compile(r"(?:/home/|/Users/|[\\/]Users[\\/])([\w.-]+)")


def redacted_run(run: StoredRun) -> StoredRun:
    """The run with a scrubbed record; its folder is still where its files are read from."""
    return StoredRun(redacted(run.record), run.folder, redacted=True)


def redacted(record: RunRecord) -> RunRecord:
    """A copy without host names, user names and paths, in every string but prompts and generated texts.

    Access tokens, and what variables of this process hold whose names speak of secrets, are left out of these too.
    """
    scrub = _Scrubber(record)
    return scrub.part(record)


def redacted_text(text: str) -> str:
    """A line of our own, such as the reason why a run is left out."""
    return _scrubbed(text, *_this_machine())


class _Scrubber:
    """What is known of the machine of one record, and how a value of it is rewritten."""

    def __init__(self, record: RunRecord) -> None:
        hosts, users = _this_machine()
        self._hosts = hosts | frozenset(_named(record.environment, HOSTS))
        everything = record.model_dump_json()
        homes = {name for name in _HOMES.findall(everything) if name not in _EVERYBODYS}
        self._users = users | frozenset(_named(record.environment, USERS)) | homes

    def part(self, part: Kind) -> Kind:
        changed = {
            name: _without_secrets(value) if name in KEPT else self.value(value, name)
            for name, field in type(part).model_fields.items()
            if not _is_literal(field.annotation) and (value := getattr(part, name)) is not None
        }
        return part.model_copy(update=changed)

    def value(self, value: Any, key: str) -> Any:
        if isinstance(value, Part):
            return self.part(value)
        if isinstance(value, str):
            return self._text(value, key)
        if isinstance(value, Mapping) and key == POINTED:
            return {pointer: self._text(str(reason), "") for pointer, reason in value.items()}
        if isinstance(value, Mapping):
            return {
                self._text(str(name), ""): _without_secrets(item) if name in KEPT else self.value(item, str(name))
                for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            if value and isinstance(value[0], (int, float)):
                return value  # tokens and times: thousands of them
            return type(value)(self.value(item, key) for item in value)
        return value

    def _text(self, text: str, key: str) -> str:
        if not text:
            return text
        for keys, stand_in in ((PLACES, PLACE), (HOSTS, HOST), (USERS, USER)):
            if key in keys:
                return stand_in
        return _scrubbed(text, self._hosts, self._users)


def _scrubbed(text: str, hosts: Iterable[str], users: Iterable[str]) -> str:
    text = _PATHS.sub(PLACE, _without_secrets(text))
    for names, stand_in in ((hosts, HOST), (users, USER)):
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", stand_in, text, flags=re.IGNORECASE)
    return text


def _without_secrets(value: Any) -> Any:
    """A text, or several, without access tokens, logins in addresses, and what this process knows to be secret."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_secrets, value))
    if not isinstance(value, str):
        return value
    text = ACCESS_TOKEN.sub(SECRET, _LOGIN.sub(SECRET, value))
    for secret in _secrets_here():
        text = text.replace(secret, SECRET)
    return text


@cache
def _secrets_here() -> tuple[str, ...]:
    """What this process's variables hold whose names speak of secrets, the longest first."""
    values = {value for name, value in os.environ.items() if SECRETS.search(name.upper())}
    return tuple(sorted((each for each in values if len(each) >= SHORTEST_SECRET), key=len, reverse=True))


def _named(value: Any, keys: set[str]) -> Iterable[str]:
    """Every string under one of these keys, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in keys and isinstance(item, str) and item and item not in _EVERYBODYS:
                yield item
                yield item.partition(".")[0]
            else:
                yield from _named(item, keys)


@cache
def _this_machine() -> tuple[frozenset[str], frozenset[str]]:
    """Names of the host and of the user that build the page, who most often also ran what is on it."""
    host = socket.gethostname()
    users = {""}
    with suppress(RuntimeError):  # a process without an account, and without HOME
        users.add(Path.home().name)
    with suppress(OSError, KeyError, ImportError):
        users.add(getpass.getuser())
    hosts = {host, host.partition(".")[0]}
    return frozenset(hosts - _EVERYBODYS - {""}), frozenset(users - _EVERYBODYS - {""})


def _is_literal(annotation: Any) -> bool:
    """Whether a field takes words of ours alone."""
    return get_origin(annotation) is Literal or any(get_origin(each) is Literal for each in get_args(annotation))
