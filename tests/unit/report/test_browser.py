"""What a report does in a real browser: it obeys nothing that a stranger wrote, and loads nothing."""

import json
import shutil
import time

import pytest

from kvbench.records.run_record import RunRecord
from kvbench.report.page.html import build

from .records import hostile, invalid, two_arms, write_run

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no Chromium with its chromedriver here (apt-get install chromium-driver)"
    ),
]
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage"),
)
ATTACKS = (
    "</script><script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 2'>",
    "<svg/onload=window.owned=3>",
    "{{7*7}} ${7*7} {% raw %}",
    "<!--<script>",
    "<a href='javascript:window.owned=4'>press</a>",
    "<b>bold</b>&lt;i&gt;",
    "' onfocus=window.owned=5 autofocus x='",
    '" onmouseover="window.owned=6',
    "]]></style><style>body{display:none}</style>",
    "%{x} %{customdata}",
)
ATTACK = " ".join(ATTACKS)


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(240)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, tmp_path):
    """Builds a page and opens it at its top; hands back the browser."""

    def open_page(*records, prompts=("What is a KV cache?",), notes=()):
        runs = [write_run(each, tmp_path / f"run{number}", prompts=prompts) for number, each in enumerate(records)]
        build(runs, tmp_path / "report.html", notes)
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get((tmp_path / "report.html").as_uri())
        wait_for(browser, "return performance.getEntriesByName('kvbench-usable').length > 0")
        return browser

    return open_page


def wait_for(browser, script):
    until = time.monotonic() + 120
    while not browser.execute_script(script):
        assert time.monotonic() < until, script
        time.sleep(0.05)


def attacked(record, attack=ATTACK):
    """The record with the attack in every string that is not one of our own words."""

    def replaced(value, key):
        if isinstance(value, dict):
            return {name: replaced(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [replaced(item, key) for item in value]
        ours = ("status", "verdict", "mode", "bound", "created_at", "run_id", "name_of_axis")
        return attack if isinstance(value, str) and key not in ours else value

    data = replaced(json.loads(record.model_dump_json()), "")
    data["config"]["name"] = attack
    data["environment"]["cpu"] = attack
    return RunRecord.model_validate_json(json.dumps(data))


def everything_done(browser):
    """Opens, draws, presses and moves over all that the page has."""
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.execute_script("charts.drawVisible()")
    browser.execute_script(
        "document.querySelectorAll('.token, .legendtext, .ytick text, a:not([download]):not([href^=\"#\"])')"
        ".forEach((each) => each.dispatchEvent(new MouseEvent('pointerover', { bubbles: true })))"
    )
    browser.execute_script("document.querySelectorAll('button:not([data-save])').forEach((each) => each.click())")


def requests(browser):
    seen = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [each["params"]["request"]["url"] for each in seen if each["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "blob:"))]


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_no_string_of_a_record_is_obeyed(opened, tmp_path, count):
    records = [attacked(two_arms(run_id=f"run-{number}", prompt=128 * 2**number)) for number in range(count)]
    browser = opened(*records, prompts=[ATTACK], notes=[ATTACK])
    everything_done(browser)
    assert None is browser.execute_script("return window.owned ?? null")
    made = "img, iframe, object, svg a, [onerror], [onload], [onfocus], [onmouseover], a[href^=javascript]"
    assert [] == browser.execute_script("return [...document.querySelectorAll(arguments[0])].map(String)", made)
    assert [] == [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert [(tmp_path / "report.html").as_uri()] == requests(browser)
    shown = browser.execute_script("return document.body.textContent")
    for attack in ATTACKS:
        assert attack in shown


def test_names_in_charts_are_text_and_not_plotlys_markup(opened):
    record = attacked(two_arms(), "<b>bold</b><a href='javascript:alert(1)'>x</a>")
    browser = opened(record, attacked(two_arms(prompt=512, run_id="b"), "<i>slanted</i>"))
    everything_done(browser)
    drawn = browser.execute_script("return document.querySelector('#overview-speed-by-run').textContent")
    assert "<i>slanted</i>" in drawn


def test_ordinary_use_breaks_no_rule_of_the_pages_policy_which_stops_a_script_that_came_later(opened, tmp_path):
    browser = opened(two_arms(), two_arms(prompt=512, run_id="b"), invalid(), hostile())
    everything_done(browser)
    policy = browser.execute_script("return document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy
    assert [] == [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert [(tmp_path / "report.html").as_uri()] == requests(browser)
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.owned = 1';"
        "document.body.append(script)"
    )
    assert None is browser.execute_script("return window.owned ?? null")
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_a_chart_is_saved_printed_and_switched_to_a_logarithmic_scale(opened):
    browser = opened(two_arms())
    press = "document.querySelector('button[data-{}][data-{}]').click();"
    browser.execute_script(press.format("switch=run-1-latency", "axis=yaxis"))
    assert "log" == browser.execute_script("return document.getElementById('run-1-latency')._fullLayout.yaxis.type")
    saved = browser.execute_async_script(
        "const done = arguments[0];"
        "HTMLAnchorElement.prototype.click = function () { done([this.download, this.href.split(':')[0]]); };"
        + press.format("save=svg", "chart=run-1-latency")
    )
    assert ["kvbench-run-1-latency.svg", "blob"] == saved
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    printed = "return [...document.querySelectorAll('svg.printed')].map((each) => each.getAttribute('aria-label'))"
    assert ["Decode step latency against context length", "KV cache against context length", "Where the memory is"] == (
        browser.execute_script(printed)
    )
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert [] == browser.execute_script(printed)
    assert [] == [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def test_a_link_into_a_folded_part_opens_it(opened):
    browser = opened(two_arms())
    part = "return document.getElementById('run-1-figures').open"
    assert not browser.execute_script(part)
    browser.execute_script("document.querySelector('nav.parts a[href=\"#run-1-figures\"]').click()")
    wait_for(browser, part)


class TestTheTable:
    def records(self):
        return [two_arms(prompt=prompt, run_id=f"run-{prompt}") for prompt in (1024, 128, 512)]

    def column(self, browser, number):
        return browser.execute_script(
            f"return [...document.querySelectorAll('#runs tbody tr')].map((row) => row.children[{number}].textContent)"
        )

    def test_it_sorts_by_a_column_and_says_so_and_the_address_keeps_it(self, opened):
        browser = opened(*self.records())
        press = "document.querySelector('#runs th[data-key=prompt] button').click()"
        browser.execute_script(press)
        assert ["1,024", "512", "128"] == self.column(browser, 2)
        browser.execute_script(press)
        assert ["128", "512", "1,024"] == self.column(browser, 2)
        assert "ascending" == browser.execute_script(
            "return document.querySelector('#runs th[data-key=prompt]').ariaSort"
        )
        assert browser.current_url.endswith("#?sort=prompt")

    def test_only_what_varies_can_be_filtered_and_a_filter_reaches_table_and_charts(self, opened):
        browser = opened(*self.records())
        names = "return [...document.querySelectorAll('#filters select')].map((each) => each.name)"
        assert ["prompt"] == browser.execute_script(names)
        browser.execute_script("charts.drawVisible()")
        browser.execute_script(
            "const select = document.querySelector('#filters select'); select.value = '512';"
            "select.dispatchEvent(new Event('change', { bubbles: true }))"
        )
        assert ["512"] == self.column(browser, 2)
        assert [1] == browser.execute_script(
            "return [document.getElementById('overview-speed-by-run').data[0].x.length]"
        )
        lead = "return document.getElementById('lead').textContent"
        assert browser.execute_script(lead).startswith("The run that the filters leave is VALID. The speed-up is")
        assert [] == browser.execute_script(
            "return [...document.querySelectorAll('.of-all')].filter((each) => !each.hidden)"
        )
        browser.execute_script("document.querySelector('#filters button[type=reset]').click()")
        wait_for(browser, "return document.getElementById('lead').textContent.startsWith('3 of 3 runs are VALID.')")
        browser.execute_script(
            "const select = document.querySelector('#filters select'); select.value = '512';"
            "select.dispatchEvent(new Event('change', { bubbles: true }))"
        )
        assert "1 of 3 rows" == browser.execute_script("return document.getElementById('count').textContent")

    def test_what_is_copied_is_every_row_that_is_left_as_text_for_a_spreadsheet(self, opened):
        browser = opened(*self.records())
        copied = browser.execute_async_script(
            "const done = arguments[0];"
            "navigator.clipboard.writeText = (text) => { done(text); return Promise.resolve(); };"
            "document.querySelector('button[data-copy-table=tsv]').click()"
        )
        lines = [line.split("\t") for line in copied.splitlines()]
        assert ["run", "speed-up", "prompt tokens"] == lines[0][:3]
        assert ["1,024", "128", "512"] == [line[2] for line in lines[1:]]


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([two_arms()], marks=pytest.mark.slow),
        [two_arms(), two_arms(prompt=512, run_id="b"), invalid()],
    ],
)
def test_the_page_fits_a_phone(opened, records):
    browser = opened(*records)
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        browser.execute_script("charts.drawVisible()")
        assert 390 == browser.execute_script("return document.documentElement.scrollWidth")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
