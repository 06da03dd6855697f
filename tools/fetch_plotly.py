"""Fetches the JavaScript that draws the charts: `python tools/fetch_plotly.py [VERSION]`.

Takes plotly.js-basic-dist-min with npm, which checks what it downloads, and puts the bundle and its licence into the
package. Without a VERSION it is the one that the installed Python package `plotly` was made for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

from kvbench.report.charts.plotly_js import BUNDLE, LICENCE

PACKAGE = "plotly.js-basic-dist-min"


def main() -> None:
    """Fetch one version and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", metavar="VERSION", help="of plotly.js, such as 4.1.1")
    version = parser.parse_args().version or installed_version()
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(  # noqa: S603 - our own words and a version
            ["npm", "pack", "--json", f"{PACKAGE}@{version}"],  # noqa: S607 - the npm of this machine
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        with tarfile.open(Path(folder) / json.loads(packed.stdout)[0]["filename"]) as archive:
            for target in (BUNDLE, LICENCE):
                member = archive.extractfile(f"package/{target.name}")
                assert member is not None, target.name
                target.write_bytes(member.read())
    print(f"{BUNDLE}: plotly.js {version}, {BUNDLE.stat().st_size:,} bytes")  # noqa: T201 - a script


def installed_version() -> str:
    """Of plotly.js, for which the installed Python package was made."""
    from plotly.offline import get_plotlyjs_version

    return str(get_plotlyjs_version())


if __name__ == "__main__":
    main()
