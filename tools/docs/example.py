"""Runs kvbench and pastes its answer into the pages that show it: `python -m tools.docs.example [--from FILE]`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted((*ROOT.glob("README*.md"), *(ROOT / "docs" / "tutorial").glob("*.md")))
PLACE = re.compile(r"(<!-- output: (?P<how>\w+) -->\n```text\n)(?P<text>.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
# The lines of a whole output that a front page shows, and whether an empty line comes before them.
SHOWN = (
    (r" {20,}nocache  ", False),
    (r" (TTFT|ITL|decode tokens/s|KV cache) ", False),
    (r"(FASTER|SLOWER|SAME|AMBIGUOUS): ", True),
    (r"interval over ", False),
    (r"Output: ", False),
    (r"(IN)?VALID, ", False),
    (r"report: ", False),
)


def shortened(output: str) -> Iterator[str]:
    """The lines that are shown of a whole output."""
    for line in output.splitlines():
        for pattern, after_empty in SHOWN:
            if re.match(pattern, line):
                if after_empty:
                    yield ""
                yield _anywhere(line)
                break


def _anywhere(line: str) -> str:
    return re.sub(r"file://.*/results/embedded/[^/]+/", "file:///…/results/embedded/RUN/", line.rstrip())


def whole(output: str) -> Iterator[str]:
    """Everything from the table on, where the answer begins."""
    begun = False
    for line in output.splitlines():
        begun = begun or bool(re.match(SHOWN[0][0], line))
        if begun and not line.endswith("…"):
            yield _anywhere(line)


def main() -> None:
    """Paste the answer of a run, made now or kept in a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="kept", type=Path, metavar="FILE", help="the whole output of a run made before")
    kept = parser.parse_args().kept
    if kept:
        output = kept.read_text(encoding="utf-8")
    else:
        command = [sys.executable, "-m", "kvbench"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours
    texts = {name: "\n".join((*made(output), "")) for name, made in (("shortened", shortened), ("whole", whole))}
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        page.write_text(PLACE.sub(lambda place: place[1] + texts[place["how"]], old), encoding="utf-8")


if __name__ == "__main__":
    main()
