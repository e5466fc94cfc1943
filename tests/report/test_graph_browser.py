"""The page about a graph in a headless Chromium, opened as a file."""

import json
import time

import numpy as np
import pytest

from sksae.report import write_graph_page
from tests.report.random_graph import EVIL, random_graph
from tests.report.synthetic_atlas import SyntheticAtlas

pytestmark = pytest.mark.browser
browser = pytest.importorskip("tests.report.test_browser", reason="needs chromium and selenium")
driver, page, Keys = browser.driver, browser.page, browser.Keys

NODE = "document.querySelector(`[data-node='${arguments[0]}']`)"


@pytest.fixture(scope="module")
def graph():
    return random_graph(n_tokens=5, n_features=40)


@pytest.fixture(scope="module")
def written(graph, tmp_path_factory):
    atlases = {layer: SyntheticAtlas(60, words=browser.WORDS, seed=layer) for layer in range(3)}
    path = tmp_path_factory.mktemp("graph") / "graph.html"
    return write_graph_page(path, graph, atlas=atlases, title=EVIL[0])


def opened(page, path):
    page.driver.get("about:blank")
    page.driver.get(path.as_uri())
    page.wait("document.body.dataset.ready === 'yes'")
    return page


def slide(page, name, value):
    page.js("(byId(arguments[0]).value = arguments[1])", name, round(1000 * value))
    page.js("byId(arguments[0]).dispatchEvent(new Event('input'))", name)


def saved(page, folder, button, name):
    """What the page writes when a button is pressed."""
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    page.click(button)
    for _ in range(200):
        if (folder / name).is_file() and not list(folder.glob("*.crdownload")):
            return folder / name
        time.sleep(0.05)
    raise AssertionError(f"nothing was saved; there is {list(folder.iterdir())}")


def test_it_opens_and_asks_nobody(page, written, graph):
    opened(page, written)
    assert page.text("h1") == EVIL[0]
    n_inner = int(np.isin(graph.kind, ("feature", "error")).sum())
    assert page.text("#nodes-said").endswith(f"of {n_inner}")
    assert page.js("document.querySelectorAll('main img, header script, #plot script').length") == 0
    assert set(page.requests()) - {"about:blank"} == {written.as_uri()}


@pytest.mark.parametrize("share", [(1, 1), (0.8, 0.98), (0.5, 0.9), (0.3, 0.5), (0, 0)])
def test_the_sliders_prune_as_the_graph_does(page, written, graph, share):
    opened(page, written)
    slide(page, "nodes", share[0])
    slide(page, "edges", share[1])
    pruned = graph.prune(*share)
    shown = page.js("graph.id.filter((_, node) => graph.shown[node])")
    assert shown == pruned.node_ids
    edges = page.js("graph.kept.map(edge => [graph.id[edge.target], graph.id[edge.source]])")
    expected = [
        (pruned.node_ids[target], pruned.node_ids[source])
        for target, source in zip(*np.nonzero(pruned.adjacency), strict=True)
    ]
    assert sorted(map(tuple, edges)) == sorted(expected)
    assert page.js("document.querySelectorAll('#field .node').length") == len(pruned)


def test_a_node_with_its_inputs_outputs_and_examples(page, written, graph):
    opened(page, written)
    slide(page, "nodes", 1)
    later = (graph.kind == "feature") & (graph.layer == 2)
    node = int(np.flatnonzero(later)[np.abs(graph.adjacency[later]).sum(1).argmax()])
    page.js(f"{NODE}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))", node)
    assert page.text("main .title") == page.js("titleOf(arguments[0])", node)
    row = graph.adjacency[node]
    strongest = np.argsort(-np.abs(row), kind="stable")[:10]
    strongest = strongest[row[strongest] != 0]
    amounts = page.js("[...document.querySelectorAll('.source .amount')].map(a => a.textContent)")
    assert len(amounts) == len(strongest)
    share = abs(row[strongest[0]]) / np.abs(row).sum()
    sign, value = amounts[0][0], amounts[0][1:].split(" · ")
    assert sign == ("−" if row[strongest[0]] < 0 else "+")
    assert float(value[0].replace(",", "")) == pytest.approx(abs(row[strongest[0]]), rel=5e-3)
    assert float(value[1].removesuffix(" %")) == pytest.approx(100 * share, abs=0.51)
    page.wait("document.querySelectorAll('#examples .example').length > 0")
    assert page.js("document.querySelectorAll('main img, main script').length") == 0
    page.click(".source .links button")
    assert page.js("state.chosen") == int(strongest[0])


def test_without_a_mouse(page, written):
    opened(page, written)
    page.js("byId('plot').focus()")
    page.keys(Keys.ARROW_UP)
    first = page.js("state.chosen")
    assert page.js("document.activeElement.dataset.node") == str(first)
    for _ in range(6):
        page.keys(Keys.ARROW_UP)
    page.wait("graph.layer[state.chosen] === graph.n_layers")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.js("graph.layer[state.chosen] < graph.n_layers")
    page.keys("g")
    assert page.js("groups.length") == 1
    page.keys(Keys.ENTER)
    assert page.js("document.activeElement.className") == "title"
    page.keys(Keys.ESCAPE)
    assert page.js("document.activeElement.closest('.node') !== null")
    page.keys(Keys.ESCAPE)
    assert page.js("[state.chosen, document.activeElement.id]") == [None, "plot"]


def test_groups_are_drawn_as_one_and_saved(page, written, graph, tmp_path):
    opened(page, written)
    slide(page, "nodes", 1)
    inner = np.flatnonzero((graph.kind == "feature") & page.js("graph.shown"))
    members = sorted(inner[np.argsort(-graph.influence[inner])[:3]].tolist())
    before = page.js("document.querySelectorAll('#field .node').length")
    for node in members:
        page.js("choose(arguments[0])", node)
        page.click(".node-acts button")
    page.js("(document.querySelector('.group-line input').value = arguments[0])", EVIL[1])
    page.js("document.querySelector('.group-line input').dispatchEvent(new Event('change'))")
    page.click(".group-line button[aria-pressed]")
    assert page.js("document.querySelectorAll('#field .node').length") == before - 2
    assert page.js(
        "document.querySelector('#field .node.group').getAttribute('aria-label')"
    ).startswith("group: <img src=x")
    page.click("#field .node.group")
    listed = page.js("[...document.querySelectorAll('.members .soft')].map(e => e.textContent)")
    assert listed == [page.js("placeIn(arguments[0])", node) for node in members]
    # The effects of a group are those of its members together.
    outside = np.setdiff1d(np.arange(len(graph)), members)
    sums = graph.adjacency[outside][:, members].sum(1)
    strongest = int(outside[np.abs(sums).argmax()])
    page.js("choose(groups[0])")
    list_of_effects = "effectsOfItem(groups[0], 'target').list[0]"
    target, value = page.js(list_of_effects)
    assert (target, value) == (strongest, pytest.approx(sums[outside == strongest][0], rel=1e-6))
    name = page.js("document.title.replace(/[^\\p{L}\\p{N}]+/gu, '-').slice(0, 40)")
    groups = json.loads(saved(page, tmp_path, "#save-groups", f"{name}-groups.json").read_text())
    assert groups == {EVIL[1]: [graph.node_ids[node] for node in members]}
    copy = saved(page, tmp_path, "#save-page", f"{name}.html")
    page.requests()
    opened(page, copy)
    assert page.js("groupsAsJson()") == json.dumps(groups, indent=1, ensure_ascii=False)
    assert page.js("document.querySelectorAll('#field .node.group').length") == 1
    again = saved(page, tmp_path / "second", "#save-page", f"{name}.html")
    assert again.read_text(encoding="utf-8") == copy.read_text(encoding="utf-8")
    page.requests()


def test_tapping_puts_nodes_into_a_group(page, written):
    opened(page, written)
    nodes = page.js("graph.kind.flatMap((k, i) => k === 'feature' && graph.shown[i] ? [i] : [])")
    page.js("choose(arguments[0])", nodes[0])
    page.js("[...document.querySelectorAll('.node-acts button')][1].click()")
    for node in nodes[:3]:
        page.js(f"{NODE}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))", node)
    assert page.js("[...groups[0].members]") == nodes[:3]
    page.js(f"{NODE}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))", nodes[1])
    assert page.js("[...groups[0].members]") == [nodes[0], nodes[2]]
    page.js("[...document.querySelectorAll('.group-line button')].at(-1).click()")
    assert page.js("groups.length") == 0


def test_on_a_telephone(page, written):
    page.viewport(390, 844)
    opened(page, written)
    assert page.js("document.documentElement.scrollWidth") == 390
    small = (
        "[...document.querySelectorAll('button, input[type=range]')]"
        ".filter(e => e.getBoundingClientRect().height < 28).length"
    )
    assert page.js(small) == 0
    page.js("document.querySelector('#field .node.feature').dispatchEvent(new MouseEvent('click'))")
    assert page.js("state.chosen") is not None
    top = page.js("document.querySelector('main .title').getBoundingClientRect().top")
    assert top < 844


def test_a_page_that_was_damaged_says_so(page, written, tmp_path):
    text = written.read_text(encoding="utf-8")
    at = text.index('id="graph">') + 2000
    broken = tmp_path / "broken.html"
    broken.write_text(text[:at] + "AAAA" + text[at + 4 :], encoding="utf-8")
    page.driver.get(broken.as_uri())
    page.wait("document.querySelector('main [role=alert]') !== null")
    assert "damaged" in page.text("main [role=alert]")
