import shutil
import sys

import pytest

from kvbench.commands.export import main
from kvbench.errors import BadInput, ConfigError
from kvbench.report.charts.figures import ON_DARK
from kvbench.report.exports import images

from .records import HOSTILE, failed, hostile, two_arms, write_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
drawing = pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chrome or Chromium on this machine")


@pytest.fixture
def run(tmp_path):
    return write_run(two_arms(), tmp_path / "run").folder


@drawing
def test_every_chart_becomes_an_svg_that_loads_nothing(run, tmp_path, capsys):
    pytest.importorskip("kaleido", reason="the extra kvbench[images] is not installed")
    folder = tmp_path / "pictures"
    assert 0 == main([str(run), "--format=svg", "--output", str(folder)])
    written = sorted(path.name for path in folder.iterdir())
    charts = (
        "speedup",
        "speed",
        "step-time",
        "latency",
        "cumulative",
        "distribution",
        "memory-stack",
        "cache",
        "memory",
    )
    assert sorted([*(f"{name}.svg" for name in charts), "charts.md"]) == written
    assert {str(folder / name) for name in written} == set(capsys.readouterr().out.split("\n")[:-1])
    speed = (folder / "speed.svg").read_text()
    assert speed.startswith("<svg")
    assert "1,000 tok/s [990, 1,010]" in speed
    for picture in folder.glob("*.svg"):
        assert "<image" not in picture.read_text()
        assert {"www.w3.org"} == {part.split("/")[0] for part in picture.read_text().split("http://")[1:]}
        assert "https://" not in picture.read_text()
    index = (folder / "charts.md").read_text()
    assert "![Decode speed by mode](speed.svg)\n\nTokens per second while decoding; longer is faster." in index


@drawing
def test_a_dark_png_is_told_from_the_light_one_by_its_name(run, tmp_path, monkeypatch):
    pytest.importorskip("kaleido", reason="the extra kvbench[images] is not installed")
    monkeypatch.setattr(images, "run_charts", lambda *known: [each for each in _charts(*known) if each.key == "speed"])
    assert 0 == main([str(run), "--format=png", "--theme=dark", "--output", str(tmp_path / "pictures")])
    assert (tmp_path / "pictures/speed-dark.png").read_bytes().startswith(b"\x89PNG")


_charts = images.run_charts


def test_runs_get_folders_by_number_whatever_they_are_called(tmp_path):
    attack = write_run(hostile(), tmp_path / "a")
    pictures = list(
        images._pictures([attack, write_run(failed(), tmp_path / "b"), write_run(two_arms(), tmp_path / "c")])
    )
    places = [each.place for each in pictures]
    assert ["", "run-1/", "run-3/"] == sorted(set(places))
    index = images._index(pictures, "light", "svg")
    assert "(run-1/speed.svg)" in index
    assert not any(text in index for text in HOSTILE[:4])


def test_a_picture_has_its_title_and_the_colours_of_its_theme(tmp_path):
    (chart,) = (
        each.chart for each in images._pictures([write_run(two_arms(), tmp_path / "a")]) if each.chart.key == "speed"
    )
    figure = images.themed(chart, images.THEMES["dark"])
    layout = figure["layout"]
    assert "<b>Decode speed by mode</b>" == layout["title"]["text"]
    assert ("#14171c", "#e4e7eb", "#323842") == (
        layout["paper_bgcolor"],
        figure["data"][0]["error_x"]["color"],
        layout["xaxis"]["gridcolor"],
    )
    assert (images.WIDTH_PX, chart.height_px + images.TITLE_PX) == (layout["width"], layout["height"])
    assert "title" not in chart.figure["layout"]
    light = chart.figure["data"][0]["marker"]["color"]
    assert [ON_DARK[colour] for colour in light] == figure["data"][0]["marker"]["color"]


def test_without_the_extra_one_line_says_how_to_get_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    with pytest.raises(
        BadInput, match=r"^pictures need the optional extra images: pip install .*\[images\]'?$"
    ) as caught:
        main([str(run), "--format=svg", "--output", str(tmp_path / "pictures")])
    assert 2 == caught.value.exit_code
    assert not (tmp_path / "pictures").exists()


def test_without_a_browser_one_line_says_how_to_get_one(run, tmp_path, monkeypatch):
    pytest.importorskip("kaleido", reason="the extra kvbench[images] is not installed")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="none was found: install one"):
        main([str(run), "--format=svg", "--output", str(tmp_path / "pictures")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format=svg"], "--format=svg writes many files: give --output FOLDER"),
        (["--format=csv", "--theme=dark"], "--theme=dark: only the pictures, svg and png, have a theme"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(run, arguments, said):
    with pytest.raises(ConfigError, match=said):
        main([str(run), *arguments])


def test_no_picture_is_drawn_by_a_parent_that_only_writes_csv(run, capsysbinary):
    sys.modules.pop("kaleido", None)
    assert 0 == main([str(run), "--format=csv"])
    assert "kaleido" not in sys.modules
