"""The page in headless Chromium: its appearance, accessibility, and use without a mouse."""

import tarfile
import wave
from importlib import resources

import numpy as np
import pytest

from ser_pipeline.report import build
from support.browser import browsing, find_browser
from support.places import DATA
from support.run_folders import ABLATIONS, Planted, people, write_examples, write_run

pytestmark = pytest.mark.slow(reason="draws whole pages and opens them in a browser")

WIDTHS = (390, 1000, 1600)
EMODB = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")

CLIPPED = """[...document.querySelectorAll('body *')].filter(e => {
  const style = getComputedStyle(e);
  const hides = ['hidden', 'clip'].includes(style.overflowX) && !e.closest('.hidden') && !(e instanceof SVGElement);
  return hides && e.clientWidth && e.scrollWidth > e.clientWidth + 1;
}).map(e => e.outerHTML.slice(0, 120))"""

OUTSIDE = """[...document.querySelectorAll('main *')].filter(e => {
  if (e.closest('.scroll') || e.closest('pre') || e.closest('.hidden') || e.closest('svg')) return false;
  const box = e.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map(e => e.outerHTML.slice(0, 120))"""

OVERLAPPING = """(() => {
  const corners = text => {
    const box = text.getBBox(), matrix = text.getScreenCTM();
    const [left, right, top, bottom] = [box.x, box.x + box.width, box.y + box.height * .2, box.y + box.height * .8];
    const points = [[left, top], [right, top], [right, bottom], [left, bottom]];
    return points.map(([x, y]) => new DOMPoint(x, y).matrixTransform(matrix));
  };
  const apart = (one, other) => [one, other].some(box => [0, 1].some(side => {
    const [x, y] = [box[side + 1].x - box[side].x, box[side + 1].y - box[side].y];
    const [a, b] = [one, other].map(points => points.map(point => point.x * x + point.y * y));
    return Math.max(...a) <= Math.min(...b) || Math.max(...b) <= Math.min(...a);
  }));
  return [...document.querySelectorAll('.panel svg')].flatMap(svg => {
    const boxes = [...svg.querySelectorAll('text')].map(text => [text.textContent, corners(text)]);
    return boxes.flatMap(([a, one], i) =>
      boxes.slice(i + 1).filter(([, other]) => !apart(one, other)).map(([b]) => `${a} | ${b}`));
  });
})()"""
"""Pairs of labels that overlap, by their rotated boxes without the space above and below the letters."""


@pytest.fixture(scope="module")
def page():
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with browsing(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Build the page of one run of the demo, with audio and attention."""
    root = tmp_path_factory.mktemp("demo")
    who = people(each=16)
    folder = write_run(root / "runs", who, Planted(corpus="demo", preset="demo", embeddings=True, audio_root=str(root)))
    for fold in folder.glob("*/segments.npz"):
        write_examples(fold.parent, [0, 1, 2, 3], np.random.default_rng(0))
    for name, speaker in zip(who.ids, who.speaker, strict=True):
        file = root / f"Session{speaker[0]}" / f"{name}.wav"
        file.parent.mkdir(exist_ok=True)
        with wave.open(str(file), "wb") as out:
            out.setparams((1, 2, 16_000, 0, "NONE", ""))
            out.writeframes(bytes(3200))
    return build(root / "runs", root / "reports")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Build the page of the whole ablation table of a corpus like EMO-DB, with possible faults."""
    root = tmp_path_factory.mktemp("grid")
    who = people(each=28, speakers=EMODB_SPEAKERS, labels=EMODB)
    for place, ablation in enumerate(ABLATIONS):
        for seed in range(2):
            plan = Planted(
                corpus="emodb",
                preset="scratch",
                ablation=ablation,
                seed=seed,
                skill=1.5 - place / 10,
                probes={"mfcc": 1.4, "spectrogram": 0.8, "waveform": 0.4} if ablation == "full" else {},
                embeddings=ablation.startswith("full"),
                finished=3 if (ablation, seed) == ("mfcc", 1) else None,
            )
            write_run(root / "runs", who, plan)
    write_run(root / "runs", who, Planted(corpus="emodb", preset="scratch", selection="test", skill=1.8))
    (root / "runs" / "a-folder-with-a-very-long-name-that-is-no-run-at-all-and-never-was-one").mkdir()
    return build(root / "runs", root / "reports", compare=("full", "full-mean"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Build the page of EMO-DB's ablation table as trained: the rows of the paper's Table 2, two seeds each."""
    root = tmp_path_factory.mktemp("measured")
    with tarfile.open(DATA / "emodb-grid.tar.xz") as kept:
        kept.extractall(root, filter="data")
    return build(root / "runs", root / "reports")


@pytest.fixture(params=["demo", "measured"])
def opened(request, page):
    """Open each of the pages."""
    page.show(1000)
    page.open(request.getfixturevalue(request.param))
    return page


def test_the_console_is_silent_and_no_request_leaves_the_page(opened):
    assert opened.complaints == []
    outside = [url for url in opened.requests if not url.startswith("data:")]
    assert len(outside) == 1
    assert outside[0].startswith("file:")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_or_is_clipped_and_no_labels_overlap(opened, width, dark):
    opened.show(width, dark)
    assert opened.run("document.documentElement.scrollWidth") <= width
    assert opened.run(CLIPPED) == []
    assert opened.run(OUTSIDE) == []
    assert opened.run(OVERLAPPING) == []


def serious(page):
    """Return axe-core's serious and critical findings."""
    page.run((resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8") + ";0")
    found = page.run("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html.slice(0, 200)]))")
    return [one for one in found if one[0] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1000, False), (1600, True)])
def test_the_accessibility_check_finds_nothing_serious(opened, width, dark):
    pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    opened.show(width, dark)
    assert serious(opened) == []


FIRST = """(() => {
  const seen = text => [...document.querySelectorAll('#summary .score p')].some(e => {
    const box = e.getBoundingClientRect();
    const found = e.textContent.replaceAll('\\u00a0', ' ').includes(text);
    return found && box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
  });
  const model = document.querySelector('#summary .what strong').textContent;
  return [model, 'UA', document.querySelector('.figure').textContent, '95 % interval'].filter(text => !seen(text));
})()"""
"""Which of model, UA and interval are not on the first screen."""

IN_ROW = """(() => {
  const table = document.querySelector('#table-results table');
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells].slice(0, 3);
  const right = table.closest('.scroll').getBoundingClientRect().right + 1;
  const named = head => head.textContent.replaceAll('\\u00a0', ' ').trim().split(': ').pop();
  return heads.map(head => [named(head), head.getBoundingClientRect().right <= right]);
})()"""


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1000, 700), (1600, 900)])
def test_model_score_and_interval_are_the_first_that_is_seen(opened, width, height):
    opened.show(width, height=height)
    opened.run("scrollTo(0, 0)")
    assert opened.run(FIRST) == []
    assert opened.run(IN_ROW) == [["Model", True], ["UA", True], ["95 % interval", True]]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_contents_are_at_hand_at_every_width_and_place(opened, width):
    opened.show(width)
    opened.run("scrollTo(0, document.body.scrollHeight)")
    box = opened.run("(b => [b.top, b.bottom, b.width])(document.querySelector('nav').getBoundingClientRect())")
    assert box[0] >= -1 and box[1] > 20 and box[2] > 100
    assert (
        opened.run("""[...document.querySelectorAll('h2 .anchor, nav a[href^="#"]')].filter(
        a => !document.getElementById(a.getAttribute('href').slice(1))).length""")
        == 0
    )


def test_the_page_follows_light_and_dark(opened):
    colours = []
    for dark in (False, True):
        opened.show(1000, dark)
        colours.append(opened.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] == "rgb(255, 255, 255)"
    assert colours[1] != colours[0]


def column(page, title):
    """Return texts and sort order of a column of the results."""
    return page.run(
        f"""(() => {{
      const table = document.querySelector('#table-results table');
      const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
      const place = heads.findIndex(head => head.textContent.trim().split(': ').pop() === {title!r});
      const cells = [...table.tBodies[0].rows].map(row => row.cells[place].textContent.trim());
      return [cells, heads[place].getAttribute('aria-sort')];
    }})()"""
    )


def press(page, title):
    """Focus a column's heading and press Enter."""
    page.run(
        f"""[...document.querySelectorAll('#table-results th')].find(
        head => head.textContent.trim().split(': ').pop() === {title!r}).querySelector('button').focus()"""
    )
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, **key)


def test_tables_sort_by_keyboard_both_ways_with_what_is_absent_last(page, grid):
    page.show(1000)
    page.open(grid)
    before, order = column(page, "F1")
    assert order == "none"
    press(page, "F1")
    down, order = column(page, "F1")
    assert order == "descending"
    press(page, "F1")
    up, order = column(page, "F1")
    assert order == "ascending"
    assert sorted(before) == sorted(up) == sorted(down)
    numbers = [[float(cell) for cell in cells if cell != "–"] for cells in (up, down)]
    assert numbers[0] == sorted(numbers[0])
    assert numbers[1] == numbers[0][::-1]
    assert up[-1] == down[-1] == "–"
    press(page, "Model")
    names, _ = column(page, "Model")
    assert names == sorted(names)
    assert column(page, "F1")[1] == "none"


def test_a_wrong_utterance_can_be_heard(page, demo):
    page.show(1000)
    page.open(demo)
    page.run("document.querySelector('button.play').click()")
    played = page.run(
        """new Promise(done => {
      const player = document.getElementById('player');
      const look = () => player.readyState > 1 ? done(player.currentSrc) : setTimeout(look, 50);
      setTimeout(() => done(document.getElementById('player-state').textContent), 10000);
      look();
    })"""
    )
    assert played.startswith("file:")
    assert played.endswith(".wav")


def test_a_cell_of_a_confusion_matrix_tells_its_count(page, grid):
    page.open(grid)
    hints = page.run("[...document.querySelectorAll('.panel g > title')].map(title => title.textContent)")
    assert len(hints) == 3 * len(EMODB) ** 2
    assert hints[0].startswith("anger predicted as anger: ")


def test_the_page_tells_test_selection_in_words_and_colour(page, grid):
    page.open(grid)
    section = "document.querySelector('section.chapter.test')"
    assert "epoch: best on the test fold" in page.run(f"{section}.textContent")
    tag = page.run(f"getComputedStyle({section}.querySelector('.tag')).color")
    assert tag != page.run("getComputedStyle(document.body).color")


def test_every_figure_says_in_words_what_it_shows(opened):
    described = "[...document.querySelectorAll('figure .panels')].map(e => e.getAttribute('aria-label') ?? '')"
    words = opened.run(described)
    assert words
    assert all(len(text) > 20 for text in words)


def test_the_classes_of_any_model_can_be_chosen(page, grid):
    page.show(1000)
    page.open(grid)
    shown = "[...document.querySelectorAll('.chooser > details')].filter(e => e.offsetHeight).map(e => e.dataset.name)"
    assert page.run(shown)[0] == "full"
    page.run("""(select => { select.selectedIndex = 1; select.dispatchEvent(new Event('change')); })(
        document.querySelector('.chooser select'))""")
    assert page.run(shown)[0] == "full-mean"
    heads = "[...document.querySelectorAll('.chooser > details[open] table')].slice(0, 2).map(t => t.textContent)"
    classes, confusion = page.run(heads)
    assert all(word in classes for word in ("Support", "Recall", "Precision", "F1"))
    assert "true / predicted" in confusion


def test_the_speakers_of_any_two_models_are_set_side_by_side(page, grid):
    page.open(grid)
    told = page.run("document.querySelector('.against .note').textContent")
    assert f"of {len(EMODB_SPEAKERS)} speakers" in told
    cells = """(() => {
      const row = document.querySelector('.against tbody').rows[0];
      return [...row.cells].slice(1, 4).map(cell => Number(cell.textContent.replace('−', '-')));
    })()"""
    one, other, apart = page.run(cells)
    assert apart == pytest.approx(one - other, abs=0.11)
    page.run("""(select => { select.selectedIndex = 2; select.dispatchEvent(new Event('change')); })(
        document.querySelectorAll('.against select')[1])""")
    assert page.run(cells)[1] != other


def test_tables_and_commands_can_be_copied(page, grid):
    page.open(grid)
    page.run("document.execCommand = () => { window.taken = document.activeElement.value; return true; }")
    page.run("Object.defineProperty(navigator, 'clipboard', {value: undefined}); 0")
    taken = []
    for button in ("#table-results button.copy", "#again button.copy"):
        page.run(f"document.querySelector('{button}').click()")
        taken.append(page.run("new Promise(done => setTimeout(() => done(window.taken), 50))"))
    assert taken[0].startswith(r"\begin{table}") and taken[0].endswith(r"\end{table}")
    assert "ser-pipeline train" in taken[1]


def test_a_page_is_read_without_its_script(page, grid):
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(grid)
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.querySelectorAll('button, select').length") == 0
    folded = page.run(
        "[...document.querySelectorAll('.chooser > details > summary')].filter(e => e.offsetHeight).length"
    )
    assert folded > 1


def test_the_page_over_all_reports_fits_and_has_nothing_serious(page, demo):
    pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    page.open(demo.parents[1] / "index.html")
    for width, dark in ((390, True), (1600, False)):
        page.show(width, dark)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run(OUTSIDE) == []
        assert serious(page) == []


def test_a_page_prints_without_cutting_a_table(page, grid):
    page.open(grid)
    page.show(720)  # A4 between its margins
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.run("document.documentElement.scrollWidth") <= 720
        assert page.run("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
        assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
