"""What is documented can be done: its commands exist, its links lead somewhere, its generated pages are fresh."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from own_models import nano
from runs import SCRIPTED

from kvbench.__main__ import main
from kvbench.commands import SUBCOMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name != "CHANGELOG.md" and not path.relative_to(ROOT).as_posix().startswith(("docs/decisions/", "docs/log"))
)

PUBLISHED = ROOT / "docs" / "measured" / "records" / "nvidia-h200-gemma2b-random" / "prompt-128"  # with shapes

BLOCK = re.compile(r"(?:<!-- (?P<about>[\w ]+: [\w -]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`(python -m kvbench[^`]*)`")
HEADINGS = re.compile(r"^#+ .+$", re.M)
HEADING = re.compile(r"^#+ (.+)$", re.M)
LINK = re.compile(r"\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)|(?:srcset|src)=\"(?P<source>[^\"]+)\"")
END = (";", "&&", "|")

# What a command may need that is not here, said before its block as `<!-- wants: gpu -->`.
WANTS = {f"wants: {need}" for need in ("gpu", "download", "time", "a folder", "a shell")}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the remark before it."""

    page: Path
    language: str
    about: str
    text: str


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return tuple(Block(page, each["language"], each["about"] or "", each["text"]) for each in found)


def commands(text: str) -> Iterator[tuple[str, ...]]:
    """The commands of a shell block, word by word, without comments, loops and redirections."""
    lexer = shlex.shlex(text.replace("\\\n", " ").replace("\n", "\n;\n"), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    loop = False
    for word in (*lexer, ";"):
        if word not in END:
            words.append(word)
            continue
        loop = loop or words[:1] == ["for"]
        body = [each for each in words if each not in ("do", "done")] if loop else words
        if body and body[0] != "for":
            yield tuple(body)
        words = []


def typed(page: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every command of a page, and what its block says it wants; of those within a sentence, that they are not run."""
    for block in blocks(page):
        if block.language in ("bash", "console"):
            for command in commands(block.text.replace("$ ", "")):
                yield command, block.about
    for inline in INLINE.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not re.search(r"…|\[|DIR|[A-Z]{3,}", inline.replace("RUN", "")) or "arms=" in inline:
            yield tuple(shlex.split(inline.replace("\\|", "|"))), "inline: yes"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# A command that stands in several places is checked once, as it stands in a block if it does.
EVERY = {command: about for _, about, command in sorted((a == "", a, c) for page in PAGES for c, a in typed(page))}
COMMANDS = sorted(EVERY.items())


def checked(command: tuple[str, ...], about: str) -> Any:
    """What is marked as wanting something is composed among the slow tests: it takes a tenth of a second each."""
    marks = [pytest.mark.slow] if about in WANTS else []
    return pytest.param(command, about, id=" ".join(command)[:70], marks=marks)


@contextlib.contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """Standard output and errors, also what is written as bytes."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield lambda: stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the documentation's examples are about: a run, prompts, a model, a configuration."""
    folder = tmp_path_factory.mktemp("documented")
    with contextlib.chdir(folder), captured():
        main([*SCRIPTED, "workload.prompt_tokens=5", "workload.new_tokens=4", "results_dir=made"])
        (made,) = (folder / "made" / "scripted").iterdir()
        for run in ("last-week/a", "this-week/a", "best-arms/a"):
            shutil.copytree(made, folder / run)
        shutil.copytree(PUBLISHED, folder / "results" / "embedded" / "RUN")
        (folder / "docs" / "measured").mkdir(parents=True)
        (folder / "docs" / "measured" / "records").symlink_to(ROOT / "docs" / "measured" / "records")
        (folder / "my-model").mkdir()
        (folder / "my-model" / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
        (folder / "my-conf" / "model").mkdir(parents=True)
        (folder / "my-conf" / "model" / "mine.yaml").write_text("name: mine\nid: my-org/my-model\n", encoding="utf-8")
        (folder / "prompts.jsonl").write_text('{"prompt": "The cache keeps"}\n', encoding="utf-8")
        (folder / "nano.py").write_text(nano(), encoding="utf-8")
        (folder / "tests").symlink_to(ROOT / "tests")
        yield folder


@pytest.mark.parametrize(("command", "about"), [checked(*each) for each in COMMANDS])
def test_a_documented_command_exists(
    workplace: Path, command: tuple[str, ...], about: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("COLUMNS", "80")
    _check(command, about)


def _check(command: tuple[str, ...], about: str) -> None:
    match command:
        case ("python", "-m", "kvbench", "doctor" | "watch" as subcommand, *options):
            _parse(subcommand, options)
        case ("torchrun", "--nproc-per-node", _, "-m", "kvbench", *arguments):
            _check(("python", "-m", "kvbench", *arguments), about)
        case ("kvbench", *arguments):  # the same by its script
            _check(("python", "-m", "kvbench", *arguments), about)
        case ("python", "-m", "kvbench", subcommand, *arguments) if subcommand in SUBCOMMANDS:
            _parse(subcommand, arguments)
            if about not in WANTS and arguments[0] != "docs/measured/records":  # the site's own build does that
                _quietly(subcommand, *arguments)
        case ("python", "-m", "kvbench", "--help"):
            _quietly("--help")
        case ("python", "-m", "kvbench", *arguments):
            _quietly(*(each for each in arguments if each != "--dry-run"), "--cfg", "job")
        case ("python", "-m", "pytest" | "tools.docs.pictures" | "tools.docs.reference" | "tools.docs.example", *_):
            pass
        case ("python", script, *options) | (_, "python", script, *options):
            source = (ROOT / script).read_text(encoding="utf-8")
            missing = [each for each in options if each.startswith("--") and each.partition("=")[0] not in source]
            assert [] == missing
        case ("pytest", *options):
            plugin = (ROOT / "kvbench" / "pytest_plugin.py").read_text(encoding="utf-8")
            assert all(each in plugin for each in options if each.startswith("--kvbench"))
        case ("pip", "install", *arguments):
            _extras(arguments)
        case ("ruff" | "mypy" | "pre-commit" | "mkdocs", *_):
            pass
        case _:
            assert "wants: a shell" == about, "nothing checks this command"


def _parse(subcommand: str, arguments: list[str]) -> None:
    import_module(f"kvbench.commands.{subcommand}")._parser().parse_args(arguments)


def _quietly(*arguments: str) -> None:
    allowed = {4} if arguments[0] == "compare" else {0}  # both folders hold one run, which is no baseline of itself
    with captured() as said:
        code = main(arguments)
    assert code in allowed, said()


def _extras(arguments: list[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extras in re.findall(r"(?:\.|kvbench)\[([\w,]+)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= set(known)


# As little as a run can measure, where the command leaves it open.
LITTLE = (
    *("workload.new_tokens=4", "measure.blocks=1", "measure.warmup=0", "measure.step_lane=false"),
    *("stream.interval=0", "report=false", "launch=inline", "threads=1", "check.agreement=none"),
)
LITTLE_OF = {
    "experiment=scaling": ("scaling.lengths=[64,128,256]", "scaling.decode_tokens=0"),
    "experiment=frontier": ("frontier.axes=[batch]", "frontier.resolution=1"),
    "mode=assisted": ("workload.new_tokens=12",),  # more than one pass of accepted tokens
}
REAL = sorted(
    {
        command[3:]
        for command, about in COMMANDS
        if command[:3] == ("python", "-m", "kvbench") and about == "" and not {*command[3:4]} & {*SUBCOMMANDS, "--help"}
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("command", REAL, ids=" ".join)
def test_a_documented_run_runs(workplace: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    for few in (*(few for word in command for few in LITTLE_OF.get(word, ())), *LITTLE):
        key = few.partition("=")[0]
        if not any(word.startswith(key) for word in command):
            with captured():
                command = (*command, few) if main([*command, few, "--cfg", "job"]) == 0 else command
    with captured() as said:
        code = main([*command, "results_dir=results-of-docs"])
    assert code in {0, 3}, said()
    failed = set(re.findall(r"^│ ✗ (\w+)[:：]", said(), re.MULTILINE))
    assert failed <= {"blocks"}, said()


PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]


def test_every_python_block_can_be_read() -> None:
    for block in PYTHON:
        compile(block.text, name(block.page), "exec")


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [each for each in PYTHON if each.about.startswith("python:")], ids=lambda block: name(block.page)
)
def test_a_documented_program_prints_what_is_shown(block: Block) -> None:
    shown = _text_behind(block)
    with captured() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers 5.24 and newer call `past_key_values` otherwise
        exec(compile(block.text, name(block.page), "exec"), {})
    if block.about == "python: exact":
        assert shown == said()
    elif shown is not None:
        assert len(shown.splitlines()) == len(said().splitlines())
    assert said()


def _text_behind(block: Block) -> str | None:
    every = blocks(block.page)
    following = every[every.index(block) + 1 : every.index(block) + 2]
    return following[0].text if following and following[0].language == "text" else None


def slug(heading: str) -> str:
    """The anchor that code hosts give a heading."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    return frozenset(slug(heading) for heading in HEADING.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.finditer(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        path = link["path"] or link["source"] or ""
        if path.startswith(("http:", "https:")) or path.endswith("sample/report.html"):  # made with the site
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)} links to {path}"
        if link["anchor"]:
            assert link["anchor"] in anchors(target), f"{name(page)} links to {path}#{link['anchor']}"


def test_the_generated_pages_and_drawings_are_fresh() -> None:
    from tools.docs.pictures import ASSETS, badges, drawings
    from tools.docs.reference import FOLDER, pages

    made = {
        **{FOLDER / name: text for name, text in pages().items()},
        **{ASSETS / name: text for name, text in {**drawings(), **badges()}.items()},
    }
    stale = [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    assert [] == stale, "run `python -m tools.docs.reference` and `python -m tools.docs.pictures`"


def test_the_front_page_is_short_and_the_screenshot_light() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
    assert (ROOT / "docs" / "assets" / "report.png").stat().st_size < 200_000


def test_the_front_page_shows_the_same_run_as_the_tutorial() -> None:
    from tools.docs.example import PAGES as SHOWING
    from tools.docs.example import PLACE, shortened

    shown = {place["how"]: place["text"] for page in SHOWING for place in PLACE.finditer(page.read_text("utf-8"))}
    assert shown["shortened"].splitlines() == list(shortened(shown["whole"]))


TRANSLATED = [page for page in PAGES if ".zh-" in page.name]


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_a_translation_has_the_headings_commands_links_and_outputs_of_the_english_page(page: Path) -> None:
    english = page.with_name(page.name.partition(".")[0] + ".md")
    original, translated = (each.read_text(encoding="utf-8") for each in (english, page))
    levels = [
        [line.partition(" ")[0] for line in HEADINGS.findall(BLOCK.sub("", each))] for each in (original, translated)
    ]
    assert levels[0] == levels[1]
    assert list(map(_without_comments, blocks(english))) == list(map(_without_comments, blocks(page)))
    codes, same = (set(re.findall(r"`([^`\n]+)`", BLOCK.sub("", each))) for each in (original, translated))
    # How to have it in Chinese is told in each language for its own readers.
    assert {code for code in codes if "zh-" not in code} == {code for code in same if "zh-" not in code}
    assert _figures(original) == _figures(translated)


def _without_comments(block: Block) -> tuple[str, str]:
    text = block.text if block.language == "text" else re.sub(r" *#.*", "", block.text)
    return block.language, text


def _figures(text: str) -> Counter[str]:
    """Numbers with a point or with two digits, which are told as such in every language."""
    return Counter(re.findall(r"\d+\.\d+|\d{2,}", BLOCK.sub("", LINK.sub("", text))))


def test_there_are_both_chinese_versions_of_what_is_read_first() -> None:
    for english in ("README.md", "docs/index.md", "docs/tutorial/index.md"):
        for language in ("zh-CN", "zh-TW"):
            assert (ROOT / english).with_suffix(f".{language}.md") in TRANSLATED


def test_every_remark_is_one_that_is_understood() -> None:
    known = {*WANTS, "command: run", "command: test", "file: nano", "python: exact", "python: measured"}
    said = {block.about for page in PAGES for block in blocks(page)} - {""}
    assert {about for about in said if not about.startswith("output: ")} <= known


def test_every_page_of_the_site_is_in_its_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs") and ".zh-" not in page.name:
            assert page.relative_to(ROOT / "docs").as_posix() in listed, name(page)
