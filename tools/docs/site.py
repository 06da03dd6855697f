"""What MkDocs does besides: files of the repository that pages link to come along; a report and the notebook are built.

A link such as `../../conf/config.yaml` works where the repository is read; in the site it leads to a copy. A link to
what does not exist stays as it is, and `mkdocs build --strict` complains.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

from kvbench.__main__ import main as kvbench
from tools.docs import notebook

ROOT = Path(__file__).parents[2]
COPIES = "repository"  # the folder of the site that copies are in
SAMPLE = "sample/report.html"
NOTEBOOK = notebook.NOTEBOOK.relative_to(ROOT).as_posix()
DECISIONS = "decisions/index.md"
LANGUAGE = re.compile(r"\.zh-(?:CN|TW)(?=\.md$)")
SWITCH = re.compile(r'(href=")/((?:zh-\w+/)?)(" hreflang=)')  # the choice of a language on a home page
LOADS = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|srcset|href)=[\"']?(?:https?:)?//[^>]*>")
LINK = re.compile(r"(?:(?<=\]\()|(?P<html>(?<=src=\")|(?<=srcset=\")))(?P<path>[^)#\s:\"]+)(?=[)#\"])")


@event_priority(-100)  # after the languages are sorted out, which wants files of the disk
def on_files(files: Files, config: Any) -> Files:
    """Add the sample report and the copies, so that links to them are checked."""
    files.append(_file(config, SAMPLE, _sample()))
    files.append(_file(config, DECISIONS, _decisions()))
    files.append(_file(config, notebook.PAGE, notebook.page(notebook.read())))
    todo = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    copied: set[str] = set()
    while todo:
        page, text = todo.popitem()
        for link in LINK.finditer(text):
            source = _target(link["path"], page)
            if source.startswith("docs/") or source in copied or not (ROOT / source).is_file():
                continue
            copied.add(source)
            content = (ROOT / source).read_bytes()
            files.append(_file(config, f"{COPIES}/{source}", content))
            if source.endswith(".md"):
                todo[source] = content.decode()
    return files


def _file(config: Any, name: str, content: bytes | str) -> File:
    """A file for the site of the language that is being built: pages are each language's own, other files shared."""
    file = File.generated(config, name, content=content)
    languages = config.plugins["i18n"]
    if name.endswith(".md") and not languages.is_default_language_build:
        file.dest_uri = f"{languages.current_language}/{file.dest_uri}"
    return file


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links out of the documentation to the copies, and those of the copies to each other."""
    here: str = page.file.src_uri
    in_repository = here.removeprefix(f"{COPIES}/") if here.startswith(f"{COPIES}/") else f"docs/{here}"

    def led(link: re.Match[str]) -> str:
        source = _target(link["path"], in_repository)
        if not (ROOT / source).is_file():
            return link[0]
        in_site = f"{COPIES}/{source}"
        if source.startswith("docs/"):  # of which each language's site has the page in its language
            in_site = LANGUAGE.sub("", source.removeprefix("docs/"))
        if source == NOTEBOOK and here != notebook.PAGE:  # its page; that itself offers the file
            in_site = notebook.PAGE
        # MkDocs translates Markdown's links; what is written as HTML has to fit the page's address.
        return relpath(in_site, page.url or "." if link["html"] is not None else dirname(here) or ".")

    return LINK.sub(led, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that would load anything from elsewhere; the site may stand in any folder of a server."""
    if elsewhere := LOADS.search(output):
        raise SystemExit(f"{page.file.src_uri} loads something from outside: {elsewhere[0]}")
    return SWITCH.sub(lambda link: f"{link[1]}{relpath(link[2] or '.', page.url or '.')}/{link[3]}", output)


def _target(link: str, page: str) -> str:
    """The path from the repository's root that a link on a page, given by such a path itself, leads to."""
    return normpath(join(dirname(page), link))


def _decisions() -> str:
    """The list of all decisions, which have their titles in themselves."""
    lines = ["# Decisions", "", "Each says what was decided, and what was rejected.", ""]
    for file in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        title = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        lines.append(f"- [{title}]({file.name})")
    return "\n".join((*lines, ""))


@cache  # a build per language
def _sample() -> bytes:
    """A report over the published runs, by the program as it is now."""
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "report.html"
        if kvbench(["report", str(ROOT / "docs" / "measured" / "records"), "--output", str(page)]):
            raise SystemExit("no sample report could be made")
        return page.read_bytes()
