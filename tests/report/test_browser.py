"""The page in a headless Chromium, opened as a file."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sksae._signs import visible
from sksae.interpret import FeatureAtlas
from sksae.report import write_page
from tests.report.decoding import read_features, read_index
from tests.report.planted_images import planted_atlas
from tests.report.synthetic_atlas import SyntheticAtlas

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("needs chromium and chromedriver", allow_module_level=True)

from selenium.common.exceptions import TimeoutException  # noqa: E402 - after the skip
from selenium.webdriver.common.keys import Keys  # noqa: E402 - after the skip
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402 - after the skip

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u202eabc",
    "\ud800",
    "\u200b",
]
WORDS = [*EVIL, "\u200b", " 특징", "🙂", "\n", "  ", " cold", *(f" w{i}" for i in range(500))]


class Prompt:
    def __init__(self, tokens, entries, n_components):
        self.text, self.tokens = "".join(tokens), tokens
        token, feature, value = zip(*entries, strict=True)
        shape = (len(tokens), n_components)
        self.codes = sparse.csr_array((value, (token, feature)), shape=shape)


class Page:
    """A page in a browser."""

    def __init__(self, driver):
        self.driver = driver

    def js(self, code, *arguments):
        return self.driver.execute_script(f"return {code}", *arguments)

    def wait(self, code, *arguments):
        try:
            WebDriverWait(self.driver, 15, 0.02).until(lambda _: self.js(code, *arguments))
        except TimeoutException as error:
            raise AssertionError(f"never came true: {code}; {self.log()}") from error

    def open(self, path, place=""):
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + place)
        self.wait("document.querySelector('main h1, main .message:not(.soft)') !== null")
        return self

    def keys(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def place(self):
        return self.js("location.hash")

    def text(self, selector):
        return self.js("document.querySelector(arguments[0]).textContent", selector)

    def click(self, selector):
        self.driver.find_element("css selector", selector).click()

    def rows(self):
        """The numbers of the features that are drawn in the list, from the top."""
        found = "[...document.querySelectorAll('#window .row')].map(r => Number(r.dataset.feature))"
        return self.js(found)

    def log(self):
        return [line["message"] for line in self.driver.get_log("browser")]

    def requests(self):
        """What the browser asked for since this was last called."""
        events = (json.loads(line["message"]) for line in self.driver.get_log("performance"))
        messages = [event["message"] for event in events]
        sent = (m for m in messages if m["method"] == "Network.requestWillBeSent")
        return [message["params"]["request"]["url"] for message in sent]

    def viewport(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@pytest.fixture
def page(driver):
    driver.get("about:blank")
    driver.get_log("browser")
    page = Page(driver)
    page.requests()
    page.viewport(1280, 900)
    yield page
    assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
    assert {url.split(":")[0] for url in page.requests()} <= {"about", "file", "data"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page about 300 features, some of them explained."""
    atlas = SyntheticAtlas(300, words=WORDS)
    explanations = {12: "weather that is cold", 13: EVIL[1]}
    prompts = [
        Prompt(["a", " cold", EVIL[0]], [(0, 3, 1.0), (1, 12, 2.0), (1, 3, 0.5)], 300),
        Prompt(["특", "징"], [(0, 5, 1.0)], 300),
    ]
    path = tmp_path_factory.mktemp("page") / "index.html"
    return write_page(path, atlas, explanations=explanations, prompts=prompts, title=EVIL[0])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A page about 16,384 features, which is an index and 64 parts."""
    atlas = SyntheticAtlas(16_384, n_examples=2, n_sampled=0, period=22)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sksae.report._page.ONE_FILE", 10_000)
        return write_page(tmp_path_factory.mktemp("large") / "index.html", atlas)


class Scored(str):
    scores = {"detection": {"value": 0.6, "low": 0.45, "high": 0.7, "baseline": {"random": 0.5}}}


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    """A page with columns beside the texts, and statements about features 3, 4 and 5."""
    statements = pd.DataFrame(
        {
            "text": ["cold days", EVIL[0], "feathers"],
            "survives": [True, False, True],
            "n_texts": [40, 5, 12],
            "with": [4.5, 3, 1],
            "without": [3.0, 3, 3],
            "effect": [0.5, 0.01, -0.2],
            "effect_low": [0.4, -0.1, -0.3],
            "effect_high": [0.6, 0.12, -0.1],
            "family_pvalue": [1e-6, 1, 0.01],
            "texts_for": [(0, 2), (), (1,)],
            "texts_against": [(1,), (), ()],
        },
        index=[3, 4, 5],
    )
    tested_on = {"text": [f"was cold {EVIL[1]}", "so mild", "cold " * 100], "stars": [5, 1, 4.5]}
    frame = pd.DataFrame({"stars": np.arange(2000) % 5 + 1, EVIL[1]: ["Rome", None] * 1000})
    return write_page(
        tmp_path_factory.mktemp("stated") / "index.html",
        SyntheticAtlas(30, words=WORDS),
        explanations={3: Scored("cold days"), 4: "others"},
        columns=frame,
        statements=statements,
        tested_on=tested_on,
    )


def shown_texts(selector):
    return f"[...document.querySelectorAll('{selector}')].map(e => e.textContent)"


def test_columns_stand_beside_examples(page, stated):
    page.open(stated, "#feature/1")
    page.wait("document.querySelectorAll('.example').length === 45")
    (feature,) = [f for f in read_features(stated) if f["feature"] == 1]
    text = feature["groups"][0]["examples"][0]["text"]
    rome = [f"{EVIL[1]}Rome"] if text % 2 == 0 else []
    first = ".strongest .example:first-child .columns div"
    assert page.js(shown_texts(first)) == [f"stars{text % 5 + 1}", *rome]


def test_statements_with_texts_for_and_against(page, stated):
    page.open(stated)
    assert page.text(".survivors p") == "2 of 3 statements survive on held-out texts."
    page.click("#to-statements")
    page.wait("document.querySelectorAll('.statement').length === 3")
    assert page.js(shown_texts(".statement h2 bdi")) == ["cold days", EVIL[0], "feathers"]
    assert page.js(shown_texts(".verdict")) == ["survives", "does not survive", "survives"]
    assert page.text("#statement-3 b") == "+0.50"
    assert page.text("#statement-5 .effect-line .soft") == "−0.30 to −0.10"
    facts = "40 texts have it · mean 4.5 with, 3 without · p 1.0e-6, corrected for 3 statements"
    assert page.text("#statement-3 p.soft") == facts
    page.click("#statement-3 summary")
    sides = page.js(shown_texts("#statement-3 .sides .text"))
    assert sides[0] == f"was cold {EVIL[1]}"
    assert (len(sides[1]), sides[2]) == (281, "so mild")
    assert page.js(shown_texts("#statement-3 .sides .columns div")) == [
        "stars5",
        "stars4.5",
        "stars1",
    ]
    page.click("#statement-3 .sides button")
    assert page.js(shown_texts("#statement-3 .sides .text"))[1] == "cold " * 100
    assert page.js("document.querySelectorAll('#statement-4 details').length") == 0


def test_statements_and_features_lead_to_each_other(page, stated):
    page.open(stated, "#statements/5")
    assert page.js("document.querySelector('#statement-5 details').open")
    page.click("#statement-5 .of-feature a")
    page.wait("document.title.startsWith('Feature 5 ')")
    page.wait("document.querySelector('.statement-link') !== null")
    assert page.text(".statement-link") == "Its words are a statement that survives: effect −0.20"
    page.click(".statement-link a")
    page.wait("location.hash === '#statements/5'")


def test_words_that_do_not_beat_chance_say_so(page, stated):
    page.open(stated, "#feature/3")
    page.wait("document.querySelector('.scores') !== null")
    assert page.text(".heading + .warning").startswith("not clearly better than chance")
    assert page.js(shown_texts("#window .doubted")) == ["0.60 not clearly better than chance"]


def test_search_finds_texts_of_examples(page, stated):
    """Two pieces of a text that stand beside each other in examples of some features only."""
    features = read_features(stated)
    strings = {
        f["feature"]: ["".join(e["tokens"]) for g in f["groups"] for e in g["examples"]]
        for f in features
    }
    columns = columns_of(stated)
    wanted = next(
        f"{a}{b}".strip()
        for a, b in ((f" w{i}", f" w{j}") for i in range(20) for j in range(20))
        if 0 < sum(any(f"{a}{b} " in text for text in texts) for texts in strings.values()) < 9
    )
    terms = wanted.split()

    def is_named(feature):
        label = (columns["label"][feature] or "") + " ".join(columns["tokens"][feature])
        return [term for term in terms if term not in f"#{feature} {label}".lower()]

    expected = [
        feature
        for feature, texts in strings.items()
        if is_named(feature)
        and any(all(term in text for term in is_named(feature)) for text in texts)
    ]
    page.open(stated)
    page.keys("/", wanted)
    page.wait("searching.part === nParts()")
    named = [f for f in strings if not is_named(f)]
    page.wait("document.getElementById('also').textContent !== 'reading examples …'")
    assert page.text("#also") == f"and {len(expected)} more by their examples"
    assert page.rows() == [*named, *expected][: len(page.rows())]
    assert page.js("document.querySelectorAll('#window .snippet b').length") > 0
    page.driver.execute_script("open(arguments[0])", expected[0])
    page.wait("document.querySelectorAll('.example.hit').length > 0")
    page.js("byId('search').focus()")
    page.keys(Keys.ESCAPE)
    assert page.text("#also") == ""


@pytest.mark.parametrize("place", ["#start", "#statements/3", "#feature/3"])
def test_frames_fit_a_phone(page, stated, place):
    page.viewport(360, 640)
    page.open(stated, place)
    page.wait("document.querySelector('.statement, .example, .survivors') !== null")
    assert page.js("document.documentElement.scrollWidth") == 360
    wide = "[...document.querySelectorAll('main')].filter(e => e.scrollWidth > e.clientWidth)"
    assert page.js(f"{wide}.length") == 0


def columns_of(path):
    return read_index(path.read_text(encoding="utf-8"))["columns"]


def test_it_opens_and_asks_nobody(page, written):
    page.open(written)
    assert page.text("main h1") == EVIL[0]
    page.wait("document.querySelectorAll('.card .example').length > 0")
    assert page.js("document.querySelectorAll('main svg').length") == 2
    assert page.text("#found") == "300 features"
    assert set(page.requests()) - {"about:blank"} == {written.as_uri()}


def test_an_atlas_of_real_codes(page, tmp_path):
    table = {"text": [0, 0, 0, 1, 1], "string": ["a", " cold", " day", "cold", " tea"]}
    codes = np.array([[0, 0], [2, 0], [0, 1], [3, 0], [0, 0]])
    path = write_page(tmp_path / "index.html", FeatureAtlas().fit(codes, tokens=table))
    page.open(path, "#feature/0")
    assert page.text("main h1") == "cold␣cold"
    lines = "[...document.querySelectorAll('.strongest .text')].map(p => p.textContent)"
    assert page.js(lines) == ["cold tea", "a cold day"]
    assert page.text(".strongest mark") == "cold"
    assert page.text(".figures li") == "40 % of rows (2)"


def test_search_shows_what_matches(page, written):
    page.open(written)
    page.keys("/", "Cold Weather")
    assert page.rows() == [12]
    assert page.text("#found") == "1 of 300 features"
    page.keys(Keys.ESCAPE)
    assert page.text("#found") == "300 features"
    page.keys("#29")
    assert page.rows()[0] == 29
    assert set(page.rows()) == {29, *range(290, 300)}
    page.keys(Keys.ESCAPE, "nothing like this")
    assert page.text("#window") == "No feature matches."


def test_search_reads_hangul_however_it_is_typed(page, written):
    page.open(written)
    wanted = [i for i, words in enumerate(columns_of(written)["tokens"]) if " 특징" in words]
    page.keys("/")
    page.js("byId('search').value = '특징'.normalize('NFD')")
    page.js("refreshList()")
    assert page.text("#found") == f"{len(wanted)} of 300 features"
    assert page.rows() == wanted[: len(page.rows())]


def test_sorting_by_a_column(page, written):
    page.open(written)
    largest = np.array(columns_of(written)["largest"])
    page.click("#by-largest button")
    down = np.lexsort((np.arange(300), -largest)).tolist()
    assert page.rows() == down[: len(page.rows())]
    assert page.js("byId('by-largest').getAttribute('aria-sort')") == "descending"
    page.click("#by-largest button")
    up = np.lexsort((np.arange(300), largest)).tolist()
    assert page.rows() == up[: len(page.rows())]
    page.click("#by-feature button")
    assert page.rows()[:3] == [0, 1, 2]
    assert page.js("byId('by-largest').getAttribute('aria-sort')") == "none"


def test_chips_filter_by_warning(page, written):
    page.open(written)
    columns = columns_of(written)
    dead = [i for i, active in enumerate(columns["density"]) if active == 0]
    chips = "[...byId('chips').children].find(chip => chip.firstChild.data === arguments[0])"
    page.js(f"{chips}.click()", "dead")
    assert page.rows() == dead[: len(page.rows())]
    page.js(f"{chips}.click()", "no warning")
    clean = [i for i, flags in enumerate(columns["flags"]) if not flags]
    assert page.text("#found") == f"{len(dead) + len(clean)} of 300 features"


def test_a_feature_with_its_texts(page, written):
    page.open(written)
    page.click("#row-1")
    page.wait("document.querySelectorAll('.example').length === 45")
    assert page.place() == "#feature/1"
    titles = page.js("[...document.querySelectorAll('.group h3')].map(h => h.firstChild.data)")
    assert titles == ["Strongest", "Strong", "Part 2 of 5", "Middling", "Part 4 of 5", "Weak"]
    assert page.js("document.querySelectorAll('main img, main script').length") == 0
    shown = "".join(page.js("[...document.querySelectorAll('.text')].map(p => p.textContent)"))
    assert {text for text in EVIL[:2] if text in shown} == set(EVIL[:2])
    assert visible(EVIL[2]) in shown
    assert "\u202e" not in shown


def test_an_example_shows_values_and_more_context(page, written):
    page.open(written, "#feature/1")
    page.wait("document.querySelector('.example') !== null")
    peak = "document.querySelector('.example mark.peak')"
    value = page.text(".example .value")
    assert page.js(f"{peak}.dataset.tip") == value
    page.js(f"{peak}.dispatchEvent(new PointerEvent('pointermove', {{bubbles: true}}))")
    assert page.text("#tip") == value
    assert page.js("document.getElementById('tip').hidden") is False
    seen = "[...document.querySelectorAll('.example')][0].innerText.length"
    before = page.js(seen)
    page.click(".example .more")
    assert page.js(seen) > before
    assert page.js("document.querySelector('.more').getAttribute('aria-expanded')") == "true"


def test_without_a_mouse(page, written):
    page.open(written)
    page.keys("j", "j", Keys.ENTER)
    page.wait("document.title.startsWith('Feature 2 ')")
    page.keys(Keys.ARROW_RIGHT)
    page.wait("document.title.startsWith('Feature 3 ')")
    page.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    page.wait("document.title.startsWith('Feature 1 ')")
    page.keys(Keys.ESCAPE)
    page.wait("document.body.dataset.view === 'start'")
    page.keys("/")
    assert page.js("document.activeElement.id") == "search"
    page.keys("cold weather", Keys.ENTER)
    page.wait("document.querySelector('main h1').textContent === 'weather that is cold'")
    page.keys(Keys.ESCAPE, Keys.ARROW_DOWN, Keys.END, Keys.ENTER)
    page.wait("document.title.startsWith('Feature 299 ')")
    chosen = "document.getElementById(byId('rows').getAttribute('aria-activedescendant')).dataset"
    assert page.js(f"{chosen}.feature") == "299"


def test_escape_never_leaves_the_page(page, written):
    page.open(written, "#feature/4")
    page.keys(Keys.ESCAPE)
    page.wait("document.body.dataset.view === 'start'")
    page.keys(Keys.ESCAPE, Keys.ESCAPE)
    assert page.js("location.protocol") == "file:"
    page.open(written, "#feature/4")
    page.click("#row-5")
    page.wait("document.title.startsWith('Feature 5 ')")
    page.driver.back()
    page.wait("document.title.startsWith('Feature 4 ')")
    page.keys(Keys.ESCAPE)
    page.wait("document.body.dataset.view === 'start'")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("#feature/300", "There is no such feature; they are numbered from 0 to 299."),
        ("#feature/x", "There is no such feature; they are numbered from 0 to 299."),
        ("#prompt/9", "There is no prompt 9."),
    ],
)
def test_addresses_that_lead_nowhere(page, written, place, message):
    page.open(written, place)
    assert page.text("main .message") == message


def test_a_feature_that_was_not_chosen(page, tmp_path):
    path = write_page(tmp_path / "index.html", SyntheticAtlas(30), features=[4, 5])
    page.open(path, "#feature/6")
    assert "was not chosen for this page" in page.text("main .message")
    page.open(path, "#feature/5")
    page.keys(Keys.ARROW_LEFT)
    page.wait("document.title.startsWith('Feature 4 ')")


def test_a_dead_feature_says_so(page, written):
    page.open(written, "#feature/10")
    assert page.text(".warning").startswith("dead It never fires")
    assert page.js("document.querySelectorAll('.example').length") == 0


def test_a_point_of_the_map_opens_its_feature(page, written):
    page.open(written)
    across, up = np.array(read_index(written.read_text(encoding="utf-8"))["map"])
    target = int(np.argmax(across))  # it has no neighbours that could be meant
    box = "[...document.querySelectorAll('main svg')][1].getBoundingClientRect()"
    left, top, width, height = page.js(f"(b => [b.left, b.top, b.width, b.height])({box})")
    x = left + (width - height) / 2 + 8 + across[target] / 1000 * (height - 16)
    y = top + height - 8 - up[target] / 1000 * (height - 16)
    event = "new MouseEvent('click', {clientX: arguments[0], clientY: arguments[1]})"
    page.js(f"document.querySelectorAll('main svg')[1].dispatchEvent({event})", float(x), float(y))
    page.wait(f"location.hash === '#feature/{target}'")


def test_prompts(page, written):
    page.open(written, "#prompt/0")
    assert page.js("[...document.querySelectorAll('.prompt-text a')].map(a => a.textContent)") == [
        "a",
        " cold",
        EVIL[0],
    ]
    page.click(".prompt-text a:nth-child(2)")
    page.wait("location.hash === '#prompt/0/1'")
    on = "[...document.querySelectorAll('.at-token li .number')].map(n => Number(n.textContent))"
    assert sorted(page.js(on)) == [3, 12]
    lines = (
        "[...document.querySelectorAll('.heat tbody tr')].map(line => "
        "[line.querySelector('.number'), ...line.cells].map(cell => cell.textContent))"
    )
    cells = [(number, values) for number, _, *values in page.js(lines)]
    # each feature once: what fires on the chosen token, by its share of the largest activation
    assert sorted(cells) == [("12", ["", "2", ""]), ("3", ["1", "0.5", ""])]
    assert page.text(".heat thead th") == "2 of 2 features"
    page.js("document.querySelector('select').value = 1")
    page.js("document.querySelector('select').dispatchEvent(new Event('change'))")
    page.wait("location.hash === '#prompt/1'")
    page.click(".at-token a")
    page.wait("document.title.startsWith('Feature 5 ')")


@pytest.mark.slow
def test_sixteen_thousand_features(page, large):
    page.open(large)
    assert page.text("#found") == "16,384 features"
    assert 10 < len(page.rows()) < 60
    page.keys("/", Keys.ARROW_DOWN, Keys.END)
    page.wait("document.querySelector('[data-feature=\"16383\"]') !== null")
    assert len(page.rows()) < 60
    page.keys(Keys.ENTER)
    page.wait("document.querySelectorAll('.example').length === 2")
    assert page.text(".heading .over span") == "Feature 16383"
    loaded = [name for name in page.requests() if name.endswith(".js")]
    assert any(name.startswith(f"{large.parent.as_uri()}/index-features/0063-") for name in loaded)


def copied(large, tmp_path):
    shutil.copytree(large.parent, tmp_path / "copy")
    path = tmp_path / "copy" / "index.html"
    names = read_index(path.read_text(encoding="utf-8"))["parts"]
    return path, [path.with_name("index-features") / f"{name}.js" for name in names]


@pytest.mark.parametrize("damage", ["missing", "cut", "of another run", "broken"])
def test_a_part_that_cannot_be_read_says_so(driver, large, tmp_path, damage):
    path, parts = copied(large, tmp_path)
    text = parts[20].read_text()
    if damage == "missing":
        parts[20].unlink()
    elif damage == "cut":
        parts[20].write_text(text[: len(text) // 2])
    elif damage == "of another run":
        parts[20].write_text(parts[21].read_text())
    else:
        parts[20].write_text(text.replace('","', '","AAAA'))
    page = Page(driver).open(path, f"#feature/{20 * 256 + 3}")
    page.wait("document.querySelector('main .message[role=alert]') !== null")
    expected = "is damaged" if damage == "broken" else "index-features/0020-"
    assert expected in page.text("main .message")
    page.open(path, "#feature/30")
    page.wait("document.querySelectorAll('.example').length === 2")


@pytest.mark.parametrize("place", ["#start", "#features", "#feature/12", "#prompt/0/1"])
def test_a_phone_scrolls_one_way(page, written, place):
    page.viewport(360, 640)
    page.open(written, place)
    page.wait("document.querySelector('#window .row, .example, .card, .heat') !== null")
    assert page.js("document.documentElement.scrollWidth") == 360
    wide = (
        "[...document.querySelectorAll('main, #rows')].filter(e => e.scrollWidth > e.clientWidth)"
    )
    assert page.js(f"{wide}.length") == 0


def test_the_list_is_a_view_of_its_own_on_a_phone(page, written):
    page.viewport(360, 640)
    page.open(written)
    assert page.js("getComputedStyle(document.querySelector('.list-pane')).display") == "none"
    page.click("nav a[href='#features']")
    page.wait("document.body.dataset.view === 'features'")
    page.click("#row-2")
    page.wait("document.title.startsWith('Feature 2 ')")
    page.keys(Keys.ESCAPE)
    page.wait("document.body.dataset.view === 'features'")


def test_dark_where_the_system_is(page, written):
    page.open(written)
    shades = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colour = page.js(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        shades.append(sum(colour))
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert shades[0] > 600
    assert shades[1] < 120


def test_without_scripts_it_says_what_is_missing(page, written):
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.get(written.as_uri())
        assert "draws itself with a script" in page.driver.find_element("tag name", "body").text
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_script_of_somebody_else_does_not_run(driver, written, tmp_path):
    path = tmp_path / "index.html"
    text = written.read_text(encoding="utf-8")
    path.write_text(text.replace("</body>", "<script>document.title = 'taken'</script></body>"))
    page = Page(driver).open(path)
    assert page.js("document.title") == EVIL[0]
    assert any("Content Security Policy" in line for line in page.log())


LIT = """[...document.querySelectorAll('.group.strongest .example')].map(example => {
  const shades = [...example.querySelectorAll('.overlay rect:not(.peak)')];
  const dark = shade => Number(shade.getAttribute('opacity'));
  const box = shades.reduce((a, b) => dark(a) < dark(b) ? a : b).getBBox();
  const frame = example.querySelector('.peak').getBBox();
  const image = example.querySelector('img');
  return [Number(image.alt.match(/image (\\d+)/)[1]), 4 * box.y + box.x, shades.length,
    Math.hypot(frame.x + frame.width / 2 - box.x - 0.5, frame.y + frame.height / 2 - box.y - 0.5),
    image.naturalWidth];
})"""


def test_images_are_lit_where_the_feature_fires(page, tmp_path):
    atlas, places = planted_atlas()
    page.open(write_page(tmp_path / "index.html", atlas), "#feature/1")
    page.wait("[...document.images].length > 19 && [...document.images].every(i => i.complete)")
    lit = page.js(LIT)
    assert [number for number, *_ in lit] == [*range(23, 3, -1)]
    for number, patch, n_shades, off_frame, width in lit:
        assert (patch, n_shades, width) == (places[number, 1], 12, 32)
        assert off_frame < 1e-3
    cuttings = "[...document.querySelectorAll('#window .cutting')]"
    sources = page.js(f"{cuttings}.map(cutting => cutting.style.backgroundImage.slice(0, 26))")
    assert sources == ['url("data:image/png;base64'] * 12
    page.click(".examples .chip")
    fill = "getComputedStyle(document.querySelector('.overlay rect:not(.peak)')).fill"
    assert page.js(fill) == "rgba(0, 0, 0, 0)"
    for width in (1300, 390):
        page.viewport(width, 900)
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
        overlay = "document.querySelector('.overlay').getBoundingClientRect()"
        image = "document.querySelector('.picture img').getBoundingClientRect()"
        assert page.js(f"Math.abs({overlay}.height - {image}.height) < 1")
