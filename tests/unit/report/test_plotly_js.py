"""The drawing code that the package carries is the one that plotly's Python package describes, and has its licence."""

from plotly.offline import get_plotlyjs_version

from kvbench.report.charts.plotly_js import BUNDLE, LICENCE, bundle, bundle_version


def test_the_bundle_fits_the_package_that_checks_every_figure():
    assert get_plotlyjs_version() == bundle_version(), "run python tools/fetch_plotly.py"


def test_the_bundle_has_its_licence_beside_it_and_cannot_end_its_script():
    assert "MIT License" in LICENCE.read_text(encoding="utf-8")
    assert "</script" not in bundle().lower()
    assert BUNDLE.stat().st_size < 1_300_000
