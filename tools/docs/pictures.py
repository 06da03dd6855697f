"""Draws the pictures of the documentation again: `python -m tools.docs.pictures` (the screenshot needs Chromium)."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kvbench.__main__ import main as kvbench
from kvbench.language import ENGLISH, speaking
from kvbench.passes import Interruptions
from kvbench.report.picture import THEMES, Panel, panel, svg

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "docs" / "assets"
# Ten tokens, in every language.
SENTENCES = {
    "en": ("The", "cache", "keeps", "the", "keys", "and", "values", "of", "every", "token"),
    "zh-CN": ("缓存", "会", "保存", "每", "个", "词元", "的", "键", "和", "值"),
    "zh-TW": ("快取", "會", "保存", "每", "個", "詞元", "的", "鍵", "和", "值"),
}
SAMPLE = ROOT / "docs" / "measured" / "records" / "nvidia-h100-gemma2b-random-growth"
MOST_BYTES = 200_000  # of the screenshot: README pages are read on phones
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def drawings() -> dict[str, str]:
    """Every drawing by its file name, in every language and both themes."""
    found: dict[str, str] = {}
    for language, tokens in SENTENCES.items():
        with speaking(language):
            for name, panels in _panels(prompt=3, new=7).items():
                place = name if language == ENGLISH else f"{name}-{language}"
                found |= {f"{place}-{theme}.svg": svg(panels, tokens, theme) for theme in THEMES}
    return found


def _panels(*, prompt: int, new: int) -> dict[str, Sequence[Panel]]:
    """What is drawn beside each other, by the drawing's name, with the words of the language that is spoken."""
    cached = panel("cached", prompt, new)
    return {
        "submitted": (panel("nocache", prompt, new), cached),
        "lost-cache": (cached, panel("interrupted", prompt, new, Interruptions((4,)))),
    }


BADGES = {"python": "3.11+", "transformers": "5.17 – 5.24", "torch": "2.11+", "licence": "Apache 2.0"}
CHARACTER, PADDING = 7, 6  # px, at 11 px of type


def badges() -> dict[str, str]:
    """What the front page says about versions at a glance, as files, since pages load nothing from elsewhere."""
    return {f"badge-{name}.svg": _badge(name, value) for name, value in BADGES.items()}


def _badge(name: str, value: str) -> str:
    left, right = (len(text) * CHARACTER + 2 * PADDING for text in (name, value))
    whole = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" aria-label="{name}: {value}">'
        f'<rect width="{whole}" height="20" rx="3" fill="#3d444d"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{right - 3}z" fill="#0072B2"/>'
        '<g fill="#fff" font-family="system-ui, sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2}" y="14">{name}</text><text x="{left + right / 2}" y="14">{value}</text></g></svg>\n'
    )


def screenshot(browser: str) -> bytes:
    """The first screen of a published run's report."""
    with tempfile.TemporaryDirectory() as scratch:
        page, image = Path(scratch) / "report.html", Path(scratch) / "report.png"
        if kvbench(["report", str(SAMPLE), "--output", str(page)]):
            raise SystemExit(f"no report could be made of {SAMPLE}")
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=8000")
        subprocess.run(  # noqa: S603 - a browser that was found on this machine, and a page of ours
            [browser, *options, "--window-size=1200,800", f"--screenshot={image}", page.as_uri()],
            check=True,
            capture_output=True,
        )
        return image.read_bytes()


def main() -> None:
    """Write them all."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    ASSETS.mkdir(exist_ok=True)
    for name, text in {**drawings(), **badges()}.items():
        (ASSETS / name).write_text(text, encoding="utf-8")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("no Chromium: the drawings are written, the screenshot is not")
    image = screenshot(browser)
    if len(image) > MOST_BYTES:
        raise SystemExit(f"the screenshot has {len(image):,} bytes, more than {MOST_BYTES:,}: not written")
    (ASSETS / "report.png").write_bytes(image)


if __name__ == "__main__":
    main()
