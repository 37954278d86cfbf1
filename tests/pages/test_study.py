"""The page of a study: its charts say what they show, and whatever a study's file says is only text."""

import io
import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from gan.keras_files import save_model
from gan.pages import study, study_charts
from gan.pages.figures import _STAND_INS, PICTURE_COLORS, page_style
from gan.pages.study_charts import MetricChart, Row
from gan.pages.templates import breakable
from tests.pages.accessibility import broken_words, cut_on_paper, violations_everywhere
from tests.pages.browser import BROWSER, browser_tab
from tests.pages.test_compare import make_generator

ROWS = [
    Row("baseline", [50.0, 52.0, 48.0], 50.0, (45.0, 55.0), None, None),
    Row("half", [70.0, 71.0, 72.0], 71.0, (68.5, 73.5), 21.0, (14.0, 28.0)),
    Row("new", [60.0], 60.0, None, None, None),
]
CHART = MetricChart("fid", ROWS, 5.0)


def test_a_chart_has_a_row_a_variant_and_the_pages_colours():
    svg = str(study_charts.metric_svg(CHART))
    assert svg == str(study_charts.metric_svg(CHART))
    assert 'aria-label="FID, mean of each variant: baseline 50; half 71; new 60"' in svg
    assert [name for name in ("baseline", "half", "new") if f">{name}</text>" in svg] == ["baseline", "half", "new"]
    assert not [color for color in _STAND_INS if color in svg] and "var(--first)" in svg
    assert 'id="metric-fid-' in svg


def test_the_picture_holds_all_charts():
    pictures = [Image.open(io.BytesIO(study_charts.metrics_png([CHART] * count))) for count in (1, 2)]
    assert pictures[1].height == 2 * pictures[0].height and pictures[0].width == 900
    assert pictures[0].mode == "RGB"


def test_a_grid_has_an_axis_a_parameter_and_the_metric_to_scale():
    means = {"baseline": 50.0, "rate=0.5": 60.0, "rate=2": 45.0}
    svg = str(study_charts.parallel_svg({"rate": [1, 0.5, 2], "units": [[64], [64], [128]]}, "FID", means, best="rate=2"))
    assert ">best mean: rate=2</text>" in svg and ">[128]</text>" in svg and ">rate</text>" in svg
    heights, ticks = study_charts._scaled([50.0, 60.0, 45.0])
    assert heights == pytest.approx([1 / 3, 1, 0]) and ("60" in [label for _, label in ticks])
    assert study_charts._scaled([3.0, 3.0])[0] == [0, 0]
    assert study_charts._ordered([1, 0.5, 2]) == ([0.5, 0.0, 1.0], [(0.0, "0.5"), (0.5, "1"), (1.0, "2")])
    assert study_charts._ordered([True, False])[0] == [0.0, 1.0]


LONG = [f"generator_adam.learning_rate=0.000{n},discriminator_adam.learning_rate=0.0002,order=simultaneous" for n in range(1, 5)]


def test_long_names_stand_in_lines_beside_their_rows_and_leave_the_chart_its_width():
    rows = [ROWS[0], *(Row(name, [60.0], 60.0, None, None, None) for name in LONG)]
    with page_style("fid"):
        figure = study_charts._metric_figure(MetricChart("fid", rows, 5.0), PICTURE_COLORS)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    left, right = figure.axes
    labels = [label.get_window_extent() for label in left.get_yticklabels()]
    assert labels[1].x0 >= 0 and all(above.y0 > below.y1 for above, below in itertools.pairwise(labels))
    assert all(axes.get_position().width > 0.25 for axes in (left, right))
    assert left.get_yticklabels()[1].get_text().split("\n") == [
        "generator_adam.learning_rate=0.0001,",
        "discriminator_adam.learning_rate=0.0002,",
        "order=simultaneous",
    ]


def test_a_grid_whose_best_is_the_baseline_says_so():
    svg = str(study_charts.parallel_svg({"rate": [1, 2]}, "FID", {"baseline": 45.0, "rate=2": 60.0}, best="baseline"))
    assert ">best mean: baseline</text>" in svg


def test_a_long_name_may_be_broken_between_its_words_and_in_no_number():
    assert breakable("a.b_c=0.5,d<2, [1, 2]") == "a.<wbr>b_<wbr>c=<wbr>0.5,<wbr>d&lt;2, [1, 2]"


HOSTILE = '<script>alert("x")</script>'


def test_where_nothing_is_compared_a_chart_shows_runs_alone():
    svg = str(study_charts.metric_svg(MetricChart("fid", ROWS[:1], None)))
    assert ">baseline</text>" in svg and "difference to the baseline" not in svg
    assert "difference to the baseline" in str(study_charts.metric_svg(CHART))


def page_of_a_study(parallel=None, samples=(), same_inputs=True, **changes):
    values = {
        "question": HOSTILE,
        "name": "rates",
        "commit": "0123456789ab",
        "runs": 7,
        "compares": True,
        "verdicts": [{"variant": HOSTILE, "metric": "FID", "verdict": "worse", "sentence": "worse by 14 to 28"}],
        "charts": [{"title": "FID", "svg": study_charts.metric_svg(CHART)}],
        "parallel": parallel,
        "rows": [],
        "notes": [HOSTILE],
        "samples": samples,
        "same_inputs": same_inputs,
        "missing": ["no data/model/generator.keras of half"],
        "variants": [{"name": "half", "set": "lecture", "overrides": (HOSTILE,)}],
    }
    return study.render(**(values | changes))


def test_what_a_studys_file_says_is_text_on_the_page():
    page = page_of_a_study()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "worse by 14 to 28" in page and 'class="worse"' in page and "no data/model/generator.keras of half" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/", "")


@pytest.mark.parametrize(("other", "same"), [({}, True), ({"latent_dim": 5}, False), ({"conditional": True}, False)])
def test_the_page_says_the_same_numbers_were_drawn_only_where_they_were(tensorflow, tmp_path, other, same):
    from commands import study_report

    files = {"one": tmp_path / "one.keras", "two": tmp_path / "two.keras", "three": tmp_path / "three.keras"}
    save_model(make_generator(0), files["one"])
    save_model(make_generator(1, **other), files["two"])
    files["three"].write_bytes(b"damaged")
    grids, same_inputs, damaged = study_report._drawn(files)
    assert list(grids) == ["one", "two"] and same_inputs == same
    assert len(damaged) == 1 and damaged[0].startswith("three: ") and str(tmp_path) not in damaged[0]
    page = page_of_a_study(samples=[{"variant": "one", "uri": "data:,"}], same_inputs=same_inputs)
    assert ("has drawn the same random numbers" in page) == same


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_everybody_can_use_the_page(tmp_path):
    grid = study_charts.parallel_svg({"rate": [1, 0.5, 2]}, "FID", {"baseline": 50.0, "a": 60.0, "b": 45.0}, best="b")
    file = tmp_path / "page.html"
    file.write_text(page_of_a_study(grid, [{"variant": "half", "uri": "data:image/png;base64,"}]))
    with browser_tab(tmp_path) as tab:
        assert violations_everywhere(tab, lambda: tab.open(file.as_uri())) == []
        assert (tab.errors, tab.requests) == ([], [])


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_long_names_break_between_their_words_and_on_paper_nothing_is_cut(tmp_path):
    texts = {"metric": "Precision, %", "runs": "5", "mean": "50.12 ± 0.35", "deviation": "0.35", "difference": "+12.123"}
    rows = [{"variant": name, **texts, "interval": "+10.123 to +14.123", "p_value": "0.00012"} for name in LONG]
    variants = [{"name": "half", "set": "lecture", "overrides": ("train.update_order=simultaneous", "train.steps=5")}]
    samples = [{"variant": name, "uri": "data:image/png;base64,"} for name in LONG]
    file = tmp_path / "page.html"
    file.write_text(page_of_a_study(samples=samples, question="W" * 99, rows=rows, variants=variants))
    with browser_tab(tmp_path) as tab:
        tab.resize(360, 740, touch=True)
        tab.open(file.as_uri())
        assert broken_words(tab) == [] and tab.run("document.documentElement.scrollWidth") == 360
        assert cut_on_paper(tab) == []
