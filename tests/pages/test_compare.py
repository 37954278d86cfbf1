"""Two runs beside each other: numbers as texts, hostile names, the same latents, curves, and a browser that flips pictures."""

import html
import io
import itertools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from gan.images import enlarge
from gan.pages import change, compare, compare_charts, compare_pictures, png
from gan.pages.pictures import grid, sample
from tests.pages.accessibility import broken_words, check_contrast, cut_on_paper, violations_everywhere
from tests.pages.browser import BROWSER, browser_tab

EVIL = (
    "</title></script><script>alert(1)</script><img src=x onerror=alert(1)> \"'&{{ 7 * 7 }} "
    "`a` ``b`` |c| [d](e) @all #1 *f* _g_\nh"
)


def metric(name, value, previous, noise=None, previous_noise=None, explained=None, seeds=None):
    numbers = isinstance(value, int | float) and isinstance(previous, int | float)
    difference = value - previous if numbers else None
    return SimpleNamespace(
        metric=name,
        value=value,
        previous=previous,
        noise=noise,
        previous_noise=previous_noise,
        change=difference,
        explained=explained,
        seeds=seeds,
        beyond_noise=None if explained is None else abs(difference) > explained,
    )


FID = metric("fid", 12.5, 10.0, 0.3, 0.4, 1.0, 0.75)


def test_a_metric_reads_as_values_change_and_interval():
    own, fid = metric("own", 3.0, 2.5), FID
    rows = change.metric_rows([own, fid])
    assert [row["key"] for row in rows] == ["fid", "own"]  # what people know comes first
    keys = ("name", "old", "new", "change", "interval", "beyond")
    assert [rows[0][key] for key in keys] == ["FID", "10.00 ± 0.40", "12.50 ± 0.30", "+2.50", "+1.50 to +3.50", "yes"]
    assert [rows[1][key] for key in keys] == ["own", "2.5", "3", "+0.5", "–", "–"]


def test_what_a_run_lacks_is_a_dash_and_a_text_stays_one():
    [gone, text] = change.metric_rows([metric("a", None, 2.0), metric("b", "x", "y")])
    assert (gone["old"], gone["new"], gone["change"], gone["interval"], gone["beyond"]) == ("2", "–", "–", "–", "–")
    assert (text["old"], text["new"], text["change"]) == ('"y"', '"x"', "–")


@pytest.mark.parametrize(
    ("value", "explained", "expected"),
    [
        (12.5, 1.0, "went from 10 to 12.5 (lower is better): worse by 2.50, more than the 1.00 that noise explains."),
        (9.5, 1.0, "went from 10 to 9.5 (lower is better): better by 0.50, no more than the 1.00 that noise explains."),
        (9.5, None, "went from 10 to 9.5 (lower is better): better by 0.5. No noise is stated, so nobody can say whether"),
        (10.0, 1.0, "is the same in both runs: 10."),
        (9.91, 30.0, "went from 10 to 9.91 (lower is better): better by 0.09, no more than the 30 that noise explains."),
        (9.0, 0.0, "went from 10 to 9 (lower is better): better by 1, more than the 0 that noise explains."),
    ],
)
def test_the_verdict_says_better_or_worse_and_whether_it_counts(value, explained, expected):
    compared = [metric("fid", value, 10.0, explained=explained)]
    assert change.verdict(compared, metric="fid", direction="lower", shown="FID").startswith(f"FID {expected}")


def test_the_verdict_knows_the_direction_and_what_is_missing():
    text = change.verdict([metric("x", 2.0, 1.0, explained=0.5)], metric="x", direction="higher", shown="x")
    assert "(higher is better): better by 1.00" in text
    assert change.verdict([], metric="fid", direction="lower", shown="FID").startswith("No verdict: ")
    assert change.verdict([metric("fid", 1.0, None)], metric="fid", direction="lower", shown="FID").startswith("No verdict: ")


def test_the_notes_say_for_which_metric_seeds_count():
    notes = " ".join(change.noise_notes([FID, metric("kid", 1, 1)], metric="fid", margin=2.0))
    assert "move fid by about 0.75" in notes and "For the other metrics the effect of other seeds is not measured" in notes
    assert "For all metrics the effect" in " ".join(change.noise_notes([metric("kid", 1, 1)], metric="fid", margin=2.0))


def test_only_parameters_that_differ_are_rows():
    old = {"train": {"steps": 5, "same": 1, "adam": {"rate": 1e-3}, "units": [1, 2]}, "gone": {"x": True}, "odd": 5}
    new = {"train": {"steps": 6, "same": 1, "adam": {"rate": 1e-4}, "units": [1, 2, 3]}, "odd": {"y": None}}
    assert change.parameter_changes(old, new) == [
        ("train.steps", "5", "6"),
        ("train.adam.rate", "0.001", "0.0001"),
        ("train.units", "[1, 2]", "[1, 2, 3]"),
        ("gone.x", "true", "–"),
        ("odd", "5", "–"),
        ("odd.y", "–", "null"),
    ]


def markdown(**changes):
    values = {
        "old": "main",
        "new": "HEAD",
        "commits": ["commit 1", "commit 2"],
        "verdict": "fine",
        "warnings": [],
        "rows": change.metric_rows([FID]),
        "notes": change.noise_notes([FID], metric="fid", margin=2.0, names=change.code),
        "parameters": [("train.steps", "5", "6")],
        "pictures": [("Left: old.", "change-report/digits.png")],
    }
    return change.markdown(**(values | changes))


def rendered(text):
    return MarkdownIt("commonmark").enable("table").render(text)


def test_the_markdown_has_a_table_a_list_and_linked_pictures():
    text = markdown()
    page = rendered(text)
    assert [html.unescape(cell) for cell in re.findall("<t[dh][^>]*>(.*?)</t[dh]>", page)][6:] == [
        *("FID", "10.00 ± 0.40", "12.50 ± 0.30", "+2.50", "+1.50 to +3.50", "yes")
    ]
    assert "<li><code>train.steps</code>: <code>5</code> → <code>6</code></li>" in page
    assert '<img src="change-report/digits.png" alt="Left: old." />' in page
    assert "None differs." in markdown(parameters=[]) and "No metrics in git." in markdown(rows=[], notes=[])


def test_no_name_or_value_becomes_markup_or_a_mention():
    rows = change.metric_rows([metric(EVIL, 1.0, 2.0), metric("b", EVIL, EVIL + "2")])
    page = rendered(
        markdown(
            old=EVIL,
            new=EVIL,
            warnings=[EVIL],
            rows=rows,
            parameters=[(EVIL, EVIL, json.dumps(EVIL))],
            pictures=[(EVIL, f"{EVIL}/x.png")],
        )
    )
    allowed = {"h2", "h3", "p", "strong", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "img"}
    assert set(re.findall(r"</?([a-zA-Z0-9]+)", page)) <= allowed
    assert page.count("<img ") == 1 and "<a " not in page and "<em" not in page
    outside = re.sub("<code>.*?</code>|<[^>]*>", "", page, flags=re.DOTALL)
    assert "@" not in outside and "#" not in outside and "alert" not in outside.replace("alert(1)", "")
    assert page.count("<tr>") == 3
    shown = [html.unescape(text) for text in re.findall("<code>(.*?)</code>", page, re.DOTALL)]
    assert shown[0] == EVIL.replace("\n", "\N{REPLACEMENT CHARACTER}")[: change.LONGEST_TEXT - 1] + "…"


@pytest.mark.parametrize("text", ["`", "``", "a`", "`a", " ", "", "\\", "a\\`", "\u202edesrever", "~", "$x$", "--- | ---", "🙂"])
def test_code_shows_whatever_is_in_it(text):
    page = rendered(f"- {change.code(text)}: x")
    [shown] = re.findall("<li><code>(.*?)</code>: x</li>", page)
    expected = text.replace("\u202e", "\N{REPLACEMENT CHARACTER}") or " "
    assert html.unescape(shown).strip(" ") == expected.strip(" ")


def test_the_markdown_has_a_limit_and_counts_what_it_leaves_out():
    many = [(f"train.parameter_{number}" * 3, "`" * 100, "x" * 1000) for number in range(2000)]
    rows = change.metric_rows([metric(f"metric_{number}" * 20, 1.0, 2.0) for number in range(2000)])
    text = markdown(parameters=many, rows=rows, warnings=["y" * 10_000] * 2, old="z" * 10_000)
    assert len(text) <= change.LONGEST_MARKDOWN
    listed = len(re.findall("^- `train", text, re.MULTILINE))
    assert listed > 10 and f"- … {2000 - listed} more" in text
    assert re.search(r"^\| … \d+ more \|", text, re.MULTILINE)


def test_the_difference_is_that_of_each_pixel():
    old, new = np.array([[0, 255, 7]], np.uint8), np.array([[255, 0, 7]], np.uint8)
    np.testing.assert_array_equal(compare_pictures.difference(old, new), [[255, 255, 0]])
    row = compare_pictures.in_a_row([old, np.zeros((2, 1), np.uint8)])
    assert row.shape == (2, 3 + 8 + 1) and row[0, :3].tolist() == [0, 255, 7] and (row[:, 3:11] == 255).all()
    with Image.open(io.BytesIO(png.encode(enlarge(new, 2)))) as image:
        np.testing.assert_array_equal(np.asarray(image), new.repeat(2, 0).repeat(2, 1))


def make_generator(seed, *, latent_dim=4, conditional=False):
    from gan.training.networks import build_generator

    return build_generator(latent_dim=latent_dim, units=[8], leaky_slope=0.2, seed=seed, conditional=conditional)


@pytest.mark.parametrize("conditional", [False, True])
def test_both_draw_the_same_latents(tensorflow, conditional):
    generators = [make_generator(seed, conditional=conditional) for seed in (0, 1)]
    drawn = compare_pictures.draw_both(*generators, seed=7)
    expected = [grid(sample(one, rows=10, columns=10, seed=7), columns=10, scale=1) for one in generators]
    np.testing.assert_array_equal(drawn.old, expected[0])
    np.testing.assert_array_equal(drawn.new, expected[1])
    assert drawn.old.shape == (280, 280) and drawn.why_not == "" and drawn.difference.any()
    same = compare_pictures.draw_both(generators[0], generators[0], seed=7)
    assert not same.difference.any()


@pytest.mark.parametrize(
    ("other", "why"), [({"latent_dim": 5}, "4 and 5 numbers an image"), ({"conditional": True}, "Only one of them")]
)
def test_generators_of_other_inputs_draw_each_their_own(tensorflow, other, why):
    drawn = compare_pictures.draw_both(make_generator(0), make_generator(0, **other), seed=0)
    assert drawn.difference is None and why in drawn.why_not
    assert drawn.old.shape == drawn.new.shape == (280, 280)


def table(count, **columns):
    return {"step": np.arange(count, dtype=float), **{name: np.full(count, value) for name, value in columns.items()}}


def curves():
    histories = {
        "old": table(400, g_loss=1.0, d_loss=0.5, d_accuracy=50.0),
        "new": table(300, g_loss=2.0, d_loss=-0.5, d_accuracy=60.0),
    }
    trajectories = {"old": table(3, fid=9.0, fid_std=1.0), "new": table(4, fid=8.0)}
    return compare_charts.overlays(histories, trajectories)


def test_curves_of_runs_of_different_length_lie_over_each_other():
    found = curves()
    assert [chart.name for chart in found] == ["g_loss", "d_loss", "d_accuracy", "fid"]
    assert [chart.log for chart in found] == [True, False, False, True]
    elements = [compare_charts.svg(chart) for chart in found]
    label = html.unescape(re.search('aria-label="(.*?)"', elements[0])[1])
    assert label == "Generator loss: old 1 to 1 in steps 0 to 399; new 2 to 2 in steps 0 to 299"
    assert [compare_charts.svg(chart) for chart in curves()] == elements  # the same bytes again
    text = "".join(elements)
    assert not re.search(r"#[0-9a-f]{6}\b", text) and "var(--first)" in text and "stroke-dasharray" in text
    ids = re.findall(r'\bid="(.*?)"', text)
    assert len(ids) == len(set(ids)) and set(re.findall(r"(?:url\(|href=\")#([^\")]+)", text)) <= set(ids)
    assert compare_charts.png(found).startswith(b"\x89PNG") and compare_charts.png([]) is None


def test_a_run_without_a_file_leaves_the_other_ones_line():
    found = compare_charts.overlays({"new": table(3, g_loss=1.0)}, {})
    assert [(chart.name, list(chart.lines)) for chart in found] == [("g_loss", ["new"])]
    assert "old" not in compare_charts.svg(found[0])
    assert compare_charts.overlays({}, {}) == []


def page(**changes):
    gray = png.data_uri(png.encode(np.full((280, 280), 99, np.uint8)))
    white = png.data_uri(png.encode(np.full((280, 280), 255, np.uint8)))
    values = {
        "old": {"name": "main", "commit": "commit 1"},
        "new": {"name": "HEAD", "commit": "commit 2"},
        "verdict": "FID is worse.",
        "warnings": [],
        "rows": change.metric_rows([FID]),
        "notes": ["a note"],
        "parameters": [("train.steps", "5", "6")],
        "pictures": {"old": gray, "new": white, "difference": gray, "why_not": ""},
        "curves": [compare_charts.svg(chart) for chart in curves()],
    }
    return compare.render(**(values | changes))


def test_the_page_loads_nothing_and_hostile_text_stays_text():
    rows = change.metric_rows([metric(EVIL, 1.0, 2.0)])
    run = {"name": EVIL, "commit": EVIL}
    text = page(old=run, new=run, verdict=EVIL, warnings=[EVIL], rows=rows, notes=[EVIL], parameters=[(EVIL, EVIL, EVIL)])
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in text
    assert text.count("<script>") == 1 and text.count("{{") == text.count("{{ 7 * 7 }}") > 5
    assert not re.search(r'(?:src|href)="(?!data:|#)', text) and not re.search(r"@import|url\((?!#)", text)
    assert set(re.findall(r"<(\w+)", text)) & {"img", "script", "a", "iframe", "object"} == {"img", "script"}
    assert text.count("<img ") == 3 and not re.search(r"<[^>]*\sonerror=", text.replace(html.escape(EVIL), ""))
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|eval)\b", text[text.rindex("<script>") :])


def test_without_scripts_the_pictures_stand_beside_each_other():
    text = page()
    assert '<figure id="flip" hidden>' in text
    assert re.findall('<img src="data:image/png;base64,[^"]+" alt="(.*?)">', html.unescape(text)) == [
        "A grid of images from the old run's generator",
        "A grid of images from the new run's generator",
        "The difference of the two grids, pixel by pixel",
    ]


def test_what_is_missing_is_said():
    text = page(pictures=None, curves=[], rows=[], parameters=[])
    for line in ("not both generators are here", "neither run's history is here", "Neither run has metrics", "None differs."):
        assert line in text
    assert "<script>" not in text
    gray = png.data_uri(png.encode(np.zeros((28, 28), np.uint8)))
    text = page(pictures={"old": gray, "new": gray, "difference": None, "why_not": "Only one of them is class-conditional."})
    assert "Only one of them is class-conditional. Each has drawn its own" in text and text.count("<img ") == 2


def test_headings_are_nested_and_both_colour_schemes_have_contrast():
    text = page()
    levels = [int(level) for level in re.findall("<h([1-6])", text)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    check_contrast(text)


FLIPPED = """(() => {
  const flip = document.getElementById("flip");
  const [button, slider, output] = ["button", "input", "output"].map((name) => flip.querySelector(name));
  const over = flip.querySelectorAll("img")[1];
  const states = [[output.textContent, over.style.clipPath]];
  const note = () => states.push([output.textContent, over.style.clipPath]);
  button.click(); note();
  button.click(); note();
  slider.value = 25; slider.dispatchEvent(new Event("input")); note();
  slider.focus();
  return {
    states, shown: flip.getBoundingClientRect().height > 100, focused: document.activeElement === slider,
    valuetext: slider.getAttribute("aria-valuetext"), images: document.images.length,
    broken: [...document.images].filter((image) => image.naturalWidth === 0).length,
    curves: [...document.querySelectorAll("svg")].filter((curve) => curve.getBoundingClientRect().height > 100).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    width: document.documentElement.clientWidth,
  };
})()"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.parametrize("width", [360, 1300])
def test_a_browser_without_network_flips_the_pictures(tmp_path, width):
    file = tmp_path / "page.html"
    file.write_text(page(old={"name": "run/20250101T000000Z-" + "a" * 60, "commit": "c"}))
    with browser_tab(tmp_path) as tab:
        tab.resize(width, 900, touch=width == 360)
        tab.open(file.as_uri())
        found = tab.run(FLIPPED)
        assert (tab.errors, tab.requests) == ([], [])
    assert 0.9 * width < found.pop("width") <= width
    assert found == {
        "states": [
            ["new up to 50 %", "inset(0px 50% 0px 0px)"],
            ["new", "inset(0px 0% 0px 0px)"],
            ["old", "inset(0px 100% 0px 0px)"],
            ["new up to 25 %", "inset(0px 75% 0px 0px)"],
        ],
        "shown": True,
        "focused": True,
        "valuetext": "new up to 25 %",
        "images": 5,
        "broken": 0,
        "curves": 4,
        "overflow": 0,
    }


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_everybody_can_use_the_page(tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page())
    with browser_tab(tmp_path) as tab:
        assert violations_everywhere(tab, lambda: tab.open(file.as_uri())) == []
        assert (tab.errors, tab.requests) == ([], [])


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_on_a_phone_no_number_is_broken_and_on_paper_nothing_is_cut(tmp_path):
    file = tmp_path / "page.html"
    parameters = [("train.generator_adam.learning_rate", "0.002", "0.0002"), ("train.update_order", '"split"', '"simultaneous"')]
    file.write_text(page(parameters=parameters))
    with browser_tab(tmp_path) as tab:
        tab.resize(360, 740, touch=True)
        tab.open(file.as_uri())
        assert broken_words(tab) == [] and tab.run("document.documentElement.scrollWidth") == 360
        assert cut_on_paper(tab) == []
