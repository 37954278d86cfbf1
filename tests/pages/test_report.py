"""The report: right numbers, nothing to load, nothing unescaped, the same bytes again, and a real browser that shows it."""

import base64
import contextlib
import csv
import html.parser
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from gan.errors import DataError, ParamsError
from gan.lecture import is_published, published_tail_mean
from gan.pages import inputs, pictures, tables
from gan.params import read_file
from stages import report as stage
from tests.pages.accessibility import check_contrast
from tests.pages.browser import BROWSER, browser_tab

ROOT = Path(__file__).resolve().parents[2]
STEPS = [0, 50, 100]
VOID = {"meta", "link", "img", "input", "br", "wbr"}


def history_row(step):
    return step, round(1 + step / 1000, 4), round(0.5 - step / 1000, 4), round(90 + step / 100, 2)


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def change_params(folder, section, **changes):
    yaml = YAML()
    yaml.width = 1000  # a long key must not be folded
    params = yaml.load(folder / "params.yaml")
    params[section].update(changes)
    yaml.dump(params, folder / "params.yaml")


def make_run(folder):
    """Put a whole run's files into the `folder`."""
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "sets").mkdir()
    shutil.copy(ROOT / "sets/lecture.yaml", folder / "sets")
    data = folder / "data"
    write_csv(data / "model/history.csv", tables.HISTORY_COLUMNS, map(history_row, range(101)))
    end = {"g_loss": 4.25, "d_loss": 0.125, "d_accuracy_percent": 91.5}
    write_json(data / "model/metrics.json", {"final": end, "tail_mean": end})
    metrics = {"fid": 21.714, "fid_std": 0.352, "classes": 10, "classes_std": 0.0}
    write_json(data / "evaluation/metrics.json", metrics)
    write_csv(data / "evaluation/trajectory.csv", ["step", *metrics], [[s, 400 - s, 1.5, 9, 0] for s in (0, 50, 100)])
    write_json(data / "judge/floor.json", {"test": {"fid": 0.152, "fid_std": 0.018}, "train_halves": {"fid": 0.074}})
    (data / "gallery").mkdir()
    grays = np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), np.uint8)
    for step in STEPS:
        pictures.write_png(data / f"gallery/img-{step}.png", pictures.grid(grays, columns=4, scale=3))
    pictures.write_png(data / "gallery/final.png", pictures.grid(grays, columns=8, scale=3))
    write_json(data / "gallery/explorer.json", {"left_out": "it has 9 weights too many"})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder with a whole run's files, in which the stage works."""
    make_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of such a run as it is."""
    folder = tmp_path_factory.mktemp("whole")
    make_run(folder)
    with contextlib.chdir(folder):
        return make_page()


class Page(html.parser.HTMLParser):
    """The page's elements as (tag, attributes, text directly inside), and its tables as rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.tables = [], [], []
        self.feed(text)
        assert self.open == [], "an element is never closed"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "attributes": dict(attributes), "text": ""}
        self.elements.append(element)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append({"tag": tag, "attributes": dict(attributes), "text": ""})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1]["text"] += data
            if any(element["tag"] in ("td", "th") for element in self.open) and self.open[-1]["tag"] != "small":
                self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def texts(self, tag):
        return [element["text"] for element in self.all(tag)]


def make_page():
    stage.main()
    return (stage.OUT / "index.html").read_text()


def code_of(page):
    """The page's scripts that run; others are data."""
    return [e["text"] for e in page.all("script") if "type" not in e["attributes"]]


def data_of(page, name):
    return next(json.loads(e["text"]) for e in page.all("script") if e["attributes"].get("id") == name)


def error_of(call, *arguments, **options):
    with pytest.raises((DataError, ParamsError)) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_page_loads_nothing(whole):
    page = Page(whole)
    loading = {"src", "srcset", "href", "xlink:href", "data", "action", "formaction", "poster", "background", "ping"}
    targets = [value for e in page.elements for name, value in e["attributes"].items() if name in loading]
    assert len(targets) > len(STEPS)
    assert [target for target in targets if not target.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|url\((?!#)", whole)
    scripts = code_of(page)
    assert len(scripts) == 3 and not any(re.search(r"\b(fetch|XMLHttpRequest|import|eval|Function)\b", text) for text in scripts)
    policy = next(e["attributes"] for e in page.all("meta") if "http-equiv" in e["attributes"])
    assert policy["http-equiv"] == "Content-Security-Policy" and policy["content"].startswith(
        "default-src 'none'; img-src data:;"
    )


def test_identifiers_are_unique_and_every_reference_finds_its_own(whole):
    page = Page(whole)
    ids = [e["attributes"]["id"] for e in page.elements if "id" in e["attributes"]]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:url\(|href=")#([^")]+)', whole)
    references += [e["attributes"]["aria-labelledby"] for e in page.elements if "aria-labelledby" in e["attributes"]]
    assert references and set(references) <= set(ids)


def test_pictures_are_embedded_without_their_enlargement_and_described(whole):
    page = Page(whole)
    images = [e["attributes"] for e in page.all("img")]
    assert all(image["alt"] for image in images)
    film = {picture["alt"]: picture["src"] for picture in images if picture["alt"].startswith("Samples at step")}
    assert list(film) == ["Samples at step 100", "Samples at step 0", "Samples at step 50"]  # the player shows the last one
    expected = pictures.grid(np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), np.uint8), columns=4, scale=1)
    for uri in film.values():
        assert np.array_equal(decode(uri), expected)


def decode(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as image:
        return np.asarray(image)


def test_curves_have_a_description_and_the_colours_of_the_page(whole):
    curves = Page(whole).all("svg")
    assert [curve["attributes"]["role"] for curve in curves] == ["img"] * 3
    assert curves[0]["attributes"]["aria-label"] == "Losses, steps 0 to 100: generator 1 to 1.1; discriminator 0.5 to 0.4"
    assert curves[2]["attributes"]["aria-label"] == "FID, steps 0 to 100: FID 400 to 300; real digits 0.152 to 0.152"
    for curve in re.findall("<svg.*?</svg>", whole, re.DOTALL):
        assert set(re.findall(r"#[0-9a-f]{6}\b", curve)) == set()
        assert "var(--ink)" in curve


def test_the_marks_on_a_curve_lie_on_its_line(whole):
    """Both charts of training have the same steps, so a line through two points of the drawn curve gives the third."""
    curves = Page(whole).all("svg")
    loss, accuracy = (json.loads(curve["attributes"]["data-marks"]) for curve in curves[:2])
    assert len(loss["x"]) == len(STEPS) and [len(y) for y in loss["y"]] == [3, 3]
    assert loss["x"][1] - loss["x"][0] == pytest.approx(loss["x"][2] - loss["x"][1], abs=0.2)
    # the accuracy is 90 + step / 100, on a linear axis: y falls as it rises, evenly
    (heights,) = accuracy["y"]
    assert heights[0] > heights[1] > heights[2]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert accuracy["top"] <= heights[2] and heights[0] <= accuracy["bottom"]
    lines = r'id="accuracy-line2d_\d+">\s*<path d="M (\S+) (\S+) [^"]*L (\S+) (\S+) *\s*" clip-path[^>]*var\(--second\)'
    path = re.search(lines, whole)
    assert [float(text) for text in path.groups()] == pytest.approx(
        [accuracy["x"][0], heights[0], accuracy["x"][2], heights[2]], abs=0.1
    )


def test_the_values_beside_a_snapshot_are_those_of_its_step_and_of_the_nearest_measurement(run):
    write_csv(run / "data/evaluation/trajectory.csv", ["step", "fid", "fid_std", "new_one"], [[40, 90, 1.5, 7], [95, 30, 0.5, 8]])
    page = Page(make_page())
    data = data_of(page, "evolution-data")
    assert data["training"][0] == {"name": "Generator loss", "texts": ["1.000", "1.050", "1.100"]}
    assert data["training"][2]["texts"] == ["90.0", "90.5", "91.0"]
    assert data["quality"] == [
        {"name": "FID", "texts": ["90.0 ± 1.5", "30.00 ± 0.50"]},
        {"name": "new one", "texts": ["7", "8"]},
    ]
    assert (data["measured"], data["places"]) == ([40, 95], [0, 0, 1])
    assert [e["text"] for e in page.all("dd") if "data-quality" in e["attributes"]] == ["30.00 ± 0.50", "8"]


def test_the_values_beside_a_snapshot_are_the_logs_and_a_chart_names_the_steps_of_the_history(run):
    """With more steps than a chart has points, its lines show means: here of ten steps, one of them much higher."""
    rows = [(step, 1 + 9 * (step % 10 == 0), 1, 50 + 20 * (step % 10 == 0)) for step in range(5, 2005)]
    write_csv(run / "data/model/history.csv", tables.HISTORY_COLUMNS, rows)
    for path in stage.GALLERY.glob("img-*.png"):
        path.rename(path.with_name(f"img-{int(path.stem[4:]) + 50}.png"))
    page = Page(make_page())
    training = {row["name"]: row["texts"] for row in data_of(page, "evolution-data")["training"]}
    logged = [row[1:4] for row in log_table(page) if row[0] in ("50", "100", "150")]
    assert [list(texts) for texts in zip(*training.values(), strict=True)] == logged == [["10.000", "1.000", "70.0"]] * 3
    label = page.all("svg")[0]["attributes"]["aria-label"]
    assert label.startswith("Losses, steps 5 to 2004: generator 1.9 to 1.9;")


@pytest.mark.parametrize("measured", [[60, 80], [100]])
def test_the_marks_stay_on_the_chart_where_nothing_was_measured(run, measured):
    write_csv(run / "data/evaluation/trajectory.csv", ["step", "fid"], [[step, 90 - step / 2] for step in measured])
    text = make_page()
    marks = json.loads(Page(text).all("svg")[2]["attributes"]["data-marks"])
    chart = re.findall("<svg.*?</svg>", text, re.DOTALL)[2]
    width, _ = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', chart).groups())
    assert min(marks["x"]) > 0 and max(marks["x"]) < width
    assert marks["x"][0] == marks["x"][1] and (marks["x"][1] < marks["x"][2]) == (len(measured) == 2)


def test_a_diverged_runs_numbers_are_short_and_stay_in_their_places(run):
    end = {"g_loss": 1.23456e9, "d_loss": -123456.7, "d_accuracy_percent": 50.0}
    write_json(run / "data/model/metrics.json", {"final": end, "tail_mean": end})
    write_json(run / "data/evaluation/metrics.json", {"fid": 7654321.0})
    write_csv(run / "data/model/history.csv", tables.HISTORY_COLUMNS, [(0, 1.23456e9, -99999.9, 50)])
    page = Page(make_page())
    shown = [e["text"] for e in page.all("span") if e["attributes"].get("class") == "figure"]
    assert shown == ["7.654e+06", "1.235e+09", "-1.235e+05", "50.0"]
    training = data_of(page, "evolution-data")["training"]
    assert [row["texts"][0] for row in training] == ["1.235e+09", "-99999.900", "50.0"]


def explored(folder):
    """Put into the gallery what an explorer needs, as far as the report looks at it."""
    data = {
        "latent_dim": 4,
        "seed": 1,
        "text": "</script>2026",
        "plane_columns": 2,
        "bytes": "",
        "training": {"count": 3, "of": 9},
    }
    data["training"]["found_percent"] = 50
    data["directions"] = {"reach": 4.0, "samples": 10, "shares_percent": [60.0, 20.0]}
    write_json(folder / "explorer.json", data)
    for name in ("plane", "direction-1", "direction-2"):
        pictures.write_png(folder / f"{name}.png", np.zeros((84, 84), np.uint8))
    return data


def test_an_explorer_is_embedded_with_its_pictures(run):
    data = explored(run / "data/gallery")
    page = Page(make_page())
    assert data_of(page, "explorer-data") == data
    assert len(code_of(page)) == 3
    described = [e["attributes"]["alt"] for e in page.all("img")]
    assert [alt for alt in described if "direction" in alt] == [f"Three samples along direction {n}" for n in (1, 2)]


def test_an_explorer_that_was_left_out_says_why(whole):
    page = Page(whole)
    assert any("it has 9 weights too many" in text for text in page.texts("p"))
    assert not any(e["attributes"].get("id") in ("explorer", "explorer-data") for e in page.elements)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"latent_dim": 3}', '{"left_out": 3}'])
def test_a_damaged_explorer(run, text):
    path = stage.GALLERY / "explorer.json"
    path.write_text(text)
    assert error_of(stage.main).startswith(f"{path}: ")


def test_headings_are_nested_in_order(whole):
    page = Page(whole)
    levels = [int(e["tag"][1]) for e in page.elements if re.fullmatch("h[1-6]", e["tag"])]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_text_has_contrast_in_both_colour_schemes(whole):
    check_contrast(whole)


def log_table(page):
    return next(table for table in page.tables if any(row[0] == "Step" for row in table))


def test_the_log_stands_beside_the_published_one_under_its_parameters(whole):
    rows = log_table(Page(whole))
    assert rows[0] == ["", "This run", "Published"]
    assert rows[2:] == [
        ["0", "1.000", "0.500", "90.0", "0.937", "0.939", "52.0"],
        ["50", "1.050", "0.450", "90.5", "4.444", "0.029", "100.0"],
        ["100", "1.100", "0.400", "91.0", "3.809", "0.033", "100.0"],
        ["Mean of the end", "4.250", "0.125", "91.5", "4.289", "0.223", "91.7"],
    ]


def test_steps_that_were_not_published_have_dashes(run):
    change_params(run, "train", log_every_steps=20)
    rows = log_table(Page(make_page()))
    assert [row[0] for row in rows[2:-1]] == ["0", "20", "40", "60", "80", "100"]
    assert rows[3] == ["20", "1.020", "0.480", "90.2", "–", "–", "–"]


@pytest.mark.parametrize("change", [{"batch_size": 299}, {"leaky_slope": 0.2}, {"generator_units": [128]}])
def test_other_parameters_have_no_published_log(run, change):
    change_params(run, "train", **change)
    page = Page(make_page())
    rows = log_table(page)
    assert rows[0] == ["Step", "G loss", "D loss", "D accuracy, %"]
    assert rows[2] == ["50", "1.050", "0.450", "90.5"]
    assert not any("published: " in text for text in page.texts("span"))


def test_the_project_ships_the_published_parameters_and_another_seed_stays_published(run):
    change_params(run, "train", seed=7, threads=1)
    assert "published: 4.289" in Page(make_page()).texts("span")


def test_a_parameter_that_the_lecture_does_not_have_is_not_published():
    lecture = read_file(ROOT / "sets/lecture.yaml")["train"]
    assert is_published(lecture | {"seed": 3}, lecture)
    assert is_published(lecture | {"instructions": "native", "processor": "AMD 25-17"}, lecture)
    assert not is_published(lecture | {"loss": "wasserstein"}, lecture)
    assert not is_published(lecture | {"another": 1}, lecture)


def test_the_published_mean_is_that_of_its_last_nine_lines():
    # stated with the published log as 4.289 / .223 / 91.7
    assert [round(value, digits) for value, digits in zip(published_tail_mean(), (3, 3, 1), strict=True)] == [
        4.289,
        0.223,
        91.7,
    ]


def test_quality_shows_each_metric_its_noise_and_that_of_real_digits(whole):
    page = Page(whole)
    table = next(table for table in page.tables if table[0][0] == "Metric")
    assert table == [
        ["Metric", "Generator", "Real test images", "Real, half against half"],
        ["FID", "21.71 ± 0.35", "0.152 ± 0.018", "0.074"],
        ["Digits present", "10", "–", "–"],
    ]
    assert "21.71" in page.texts("span") and "real images: 0.15" in page.texts("span")


@pytest.mark.parametrize(
    ("value", "deviation", "text"),
    [
        (21.714, 0.352, "21.71 ± 0.35"),
        (0.0048, 0.00233, "0.0048 ± 0.0023"),
        (1234.5, 12.3, "1234 ± 12"),
        (1234.5, 123.0, "1234 ± 123"),
        (99.5, 1.0, "99.5 ± 1.0"),
        (10, 0.0, "10"),
        (0.151913, 0, "0.1519"),
    ],
)
def test_a_value_has_the_digits_that_its_noise_leaves(value, deviation, text):
    assert tables.with_noise(value, deviation) == text


def test_without_an_evaluation_the_page_says_so(run):
    shutil.rmtree(run / "data/evaluation")
    shutil.rmtree(run / "data/judge")
    page = Page(make_page())
    assert any("was not evaluated" in text for text in page.texts("p"))
    assert len(page.all("svg")) == 2


def test_every_shown_parameter_stands_on_the_page(whole):
    page = Page(whole)
    rows = {tuple(row) for table in page.tables for row in table}
    assert {("generator_adam.learning_rate", "0.001"), ("generator_units", "[128, 128]"), ("final_rows", "10")} <= rows


def test_losses_below_zero_and_a_run_of_one_step_are_drawn(run):
    write_csv(run / "data/model/history.csv", tables.HISTORY_COLUMNS, [(0, -3.5, 0.0, 50)])
    page = Page(make_page())
    assert page.all("svg")[0]["attributes"]["aria-label"] == "Losses, steps 0 to 0: generator -3.5 to -3.5; discriminator 0 to 0"


def test_hostile_text_stays_text(run):
    evil = "</title></script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)> \"'&{{ 7 * 7 }}"
    change_params(run, "report", title=evil)
    change_params(run, "evaluate", **{evil: evil})
    write_json(run / "data/evaluation/metrics.json", {evil: 1.0, "fid": 1.0})
    write_json(run / "data/judge/floor.json", {evil: {"fid": 1.0}})
    clean = Page(make_page())
    assert clean.texts("title") == clean.texts("h1") == [evil]
    assert [script["attributes"].get("type") for script in clean.all("script")] == ["application/json", None, None, None]
    assert all(picture["attributes"]["src"].startswith("data:") for picture in clean.all("img"))
    assert not any(name.startswith("on") for e in clean.elements for name in e["attributes"])
    cells = [cell for table in clean.tables for row in table for cell in row]
    assert evil in cells and evil.replace("_", " ") in cells and json.dumps(evil) in cells


def test_the_same_run_gives_the_same_bytes_in_another_process_whatever_style_its_user_likes(run):
    make_page()
    here = {path.name: path.read_bytes() for path in stage.OUT.iterdir()}
    assert set(here) == {"index.html", "losses.png"}
    (run / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 20\naxes.facecolor: red\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1", "MATPLOTLIBRC": str(run / "matplotlibrc")}
    subprocess.run([sys.executable, "-m", "stages.report"], check=True, env=env)
    assert {path.name: path.read_bytes() for path in stage.OUT.iterdir()} == here


def test_tensorflow_and_pyplot_are_never_imported():
    code = (
        "import sys, stages.report, gan.pages.charts, gan.pages.inputs\n"
        "sys.exit(bool({'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a table of numbers under a header"),
        ("step,g_loss,d_loss,d_accuracy\n", "expected rows of finite numbers, got 0 rows"),
        ("step,g_loss,d_loss\n0,1,2\n", "column 'd_accuracy' is missing; expected step, g_loss, d_loss, d_accuracy, got step"),
        ("step,g_loss,d_loss,d_accuracy\n0,1,2\n", "not a table of numbers under a header"),
        ("step,g_loss,d_loss,d_accuracy\n0,1,2,3\n1,1,2\n", "not a table of numbers under a header"),
        ("step,g_loss,d_loss,d_accuracy\n0,1,x,3\n", "could not convert string 'x' to float64 at row 0, column 3"),
        ("step,g_loss,d_loss,d_accuracy\n0,1,nan,3\n", "expected rows of finite numbers, got 1 rows with 1 that are not"),
        ("step,g_loss,d_loss,d_accuracy\n1,1,2,3\n1,1,2,3\n", "expected whole steps that increase"),
        ("step,g_loss,d_loss,d_accuracy\n0.5,1,2,3\n", "expected whole steps that increase"),
        ('step,g_loss,d_loss,d_accuracy\n"0,1,2,3\n', "not a table of numbers under a header"),
    ],
)
def test_a_damaged_history(run, text, message):
    stage.HISTORY.write_text(text)
    error = error_of(stage.main)
    assert error.startswith(f"{stage.HISTORY}: ") and message in error


@pytest.mark.parametrize("path", [stage.METRICS, stage.FLOOR, stage.TRAINING_METRICS])
@pytest.mark.parametrize("text", ["", "[1]", '{"fid": "x"}', '{"fid": NaN}', '{"fid": true}', '{"a": {"fid": null}}', '{"a": '])
def test_damaged_metrics(run, path, text):
    path.write_text(text)
    assert error_of(stage.main).startswith(f"{path}: ")


def test_training_metrics_without_their_mean(run):
    write_json(stage.TRAINING_METRICS, {"tail_mean": {"g_loss": 1.0}})
    assert error_of(stage.main).endswith("expected tail_mean with g_loss, d_loss, d_accuracy_percent")


@pytest.mark.parametrize("name", ["final.png", "img-50.png"])
def test_damaged_pictures(run, name):
    path = stage.GALLERY / name
    whole = path.read_bytes()
    color = run / "color.png"
    Image.new("RGB", (84, 84)).save(color)
    pictures.write_png(run / "finer.png", np.arange(84 * 84).reshape(84, 84).astype(np.uint8))
    flipped = whole[:200] + bytes(byte ^ 255 for byte in whole[200:300]) + whole[300:]
    for damaged in (b"", b"GIF89a", whole[:-100], whole[:500], flipped, color.read_bytes(), (run / "finer.png").read_bytes()):
        path.write_bytes(damaged)
        assert error_of(stage.main).startswith(f"{path}: ")


@pytest.mark.parametrize("path", [stage.HISTORY, stage.TRAINING_METRICS, stage.GALLERY / "final.png"])
def test_a_missing_input(run, path):
    path.unlink()
    assert error_of(stage.main) == f"{path}: no such file; `dvc repro` makes it"


def test_a_gallery_without_snapshots(run):
    for path in stage.GALLERY.glob("img-*.png"):
        path.unlink()
    assert error_of(stage.main).startswith("data/gallery: no file img-<step>.png")


def test_a_thinned_run_keeps_its_ends_and_is_evenly_spaced():
    for count, most in itertools.product(range(1, 30), range(2, 12)):
        steps = list(range(count))
        kept = inputs.thinned(steps, most=most)
        assert kept[0] == 0 and kept[-1] == count - 1 and len(kept) <= most
        assert kept == steps or 2 * len(kept) >= most  # no more is left out than must be
        gaps = {b - a for a, b in itertools.pairwise(kept[1:])}
        assert len(gaps) <= 1 and (len(kept) < 3 or kept[1] - kept[0] <= min(gaps))


def test_a_long_run_is_embedded_in_part_and_the_page_says_so(run):
    change_params(run, "report", most_snapshots=2)
    page = Page(make_page())
    pictures = [element["attributes"]["alt"] for element in page.all("img") if "Samples at step" in element["attributes"]["alt"]]
    assert pictures == [f"Samples at step {step}" for step in (STEPS[-1], STEPS[0], STEPS[-1])]
    assert f"2 of the {len(STEPS)} snapshots in data/gallery" in page.texts("summary")
    assert [len(row["texts"]) for row in data_of(page, "evolution-data")["training"]] == [2, 2, 2]


def test_an_error_is_one_line_of_the_command_and_keeps_the_old_page(run):
    old = make_page()
    stage.HISTORY.write_text("step\n0\n")
    command = [sys.executable, "-m", "stages.report"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("python -m stages.report: data/model/history.csv: column 'g_loss' is missing")
    assert done.stderr.count("\n") == 1
    assert (stage.OUT / "index.html").read_text() == old


PLAYED = """(async () => {
  const images = [...document.images];
  const decoded = await Promise.allSettled(images.map((image) => image.decode()));
  const player = document.getElementById("player");
  const [button, slider, output] = ["button", "input", "output"].map((name) => player.querySelector(name));
  button.click();
  const playing = button.textContent;
  const start = output.textContent;
  await new Promise((resolve) => new MutationObserver(() => button.textContent !== playing && resolve())
    .observe(button, { childList: true, characterData: true, subtree: true }));
  return {
    images: images.length,
    broken: decoded.filter((one, index) => one.status !== "fulfilled" || images[index].naturalWidth === 0).length,
    shown: !player.querySelector(".controls").hidden,
    playing, start, end: output.textContent, ended: button.textContent, value: slider.value,
    curves: [...document.querySelectorAll("svg")].filter((curve) => curve.getBoundingClientRect().height > 100).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    requests: performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length,
  };
})()"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.parametrize("width", [360, 1300])
def test_a_browser_without_network_decodes_every_picture_and_plays_the_run(run, width):
    make_page()
    with browser_tab(run) as tab:
        tab.resize(width, 900, touch=width == 360)
        tab.open((run / stage.OUT / "index.html").as_uri())
        probe = tab.run(PLAYED)
        assert (tab.errors, tab.requests) == ([], [])
    assert probe == {
        "images": len(STEPS) + 2,
        "broken": 0,
        "shown": True,
        "playing": "Pause",
        "start": "step 0",
        "end": "step 100",
        "ended": "Play",
        "value": "2",
        "curves": 3,
        "overflow": 0,
        "requests": 0,
    }
