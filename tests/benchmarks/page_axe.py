"""What axe-core finds in a report, in both themes: `python tests/benchmarks/page_axe.py REPORT.html …`.

Fetches axe-core with npm, opens every page in headless Chromium with everything unfolded that lies in its first run,
and prints each violation with up to three places. Exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from report_scale import CHROMIUM

UNFOLD = """
const [first] = document.querySelectorAll("details.run");
if (first) first.open = true;
for (const each of document.querySelectorAll("details:not(.run)")) each.open = !first || first.contains(each);
charts.drawVisible();
"""
RUN = """
const done = arguments[0];
const told = (each) => `${each.target.join(" ")}: ${each.failureSummary.replace(/\\s+/g, " ")}`;
axe.run(document, { resultTypes: ["violations"] })
  .then((found) => found.violations.map((each) => [each.id, each.nodes.length, each.nodes.slice(0, 3).map(told)]))
  .then(done);
"""


def main() -> int:
    """Look at every page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path, metavar="REPORT.html")
    pages = parser.parse_args().pages
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (*CHROMIUM, "--window-size=1440,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(300)
    axe = axe_core()
    worst = 0
    try:
        driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})  # axe is none of the page's own scripts
        for page in pages:
            for theme in ("light", "dark"):
                wanted = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
                driver.get(page.resolve().as_uri())
                while not driver.execute_script("return performance.getEntriesByName('kvbench-usable').length"):
                    time.sleep(0.05)
                driver.execute_script(UNFOLD)
                driver.execute_script(axe)
                found = driver.execute_async_script(RUN)
                print(f"{page}, {theme}: {len(found)} violations")
                for name, count, places in found:
                    print(f"  {name}, {count} places", *places, sep="\n    ")
                worst = max(worst, len(found))
    finally:
        driver.quit()
    return int(worst > 0)


def axe_core() -> str:
    """Its code, of the newest version that npm has."""
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(["npm", "pack", "--json", "axe-core"], cwd=folder, check=True, capture_output=True)
        with tarfile.open(Path(folder) / json.loads(told.stdout)[0]["filename"]) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            return member.read().decode()


if __name__ == "__main__":
    sys.exit(main())
