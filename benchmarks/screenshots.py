"""Makes the pictures in docs/: the explorer on a finished run's page, and a run of the flow in Prefect's UI.

Run by hand, after a `dvc repro`: `make screenshots`. It needs Chromium. The flow runs in a clone of this repository with its
DVC cache, so what is recorded is restored and takes a minute; a Prefect server of its own, in a temporary folder, shows it.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.server import prefect_environment, prefect_server
from gan.files import write_bytes
from tests.pages.browser import BROWSER, browser_tab

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1280, 900  # of the window, in CSS pixels
MARGIN = 16  # CSS pixels around a part of a page
COLOURS = 256  # of a PNG: keeps it small
RENDER_SECONDS = 60  # for Prefect's page, which asks its server for what it shows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "data/report/index.html", help="the page of a finished run")
    parser.add_argument("--revision", default="HEAD", help="the commit whose flow is run")
    parser.add_argument("--only", choices=["explorer", "flow"], help="make one picture alone")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder of the pictures")
    arguments = parser.parse_args()
    if BROWSER is None:
        sys.exit("no chromium or google-chrome on PATH: install one")
    with tempfile.TemporaryDirectory() as folder, browser_tab(Path(folder)) as tab:
        tab.resize(WIDTH, HEIGHT)
        tab.scheme("light")
        if arguments.only != "flow":
            save(explorer(tab, arguments.page), arguments.out / "explorer.png")
        if arguments.only != "explorer":
            save(flow(tab, Path(folder), arguments.revision), arguments.out / "flow.png")


def explorer(tab, page):
    """The section of the page where latents are explored: PNG bytes."""
    if not page.exists():
        sys.exit(f"{page}: no such file; `dvc repro` makes it")
    tab.open(page.resolve().as_uri())
    if not tab.run("document.querySelector('#explorer') !== null"):
        sys.exit(f"{page}: has no explorer; `dvc repro` makes it anew")
    tab.run(f"document.querySelector('#explorer').scrollIntoView(); scrollBy(0, -{MARGIN})")
    tab.run("explorer.ready.then(() => true)")
    while not tab.run("explorer.idle()"):
        time.sleep(0.1)
    box = tab.run("document.querySelector('#explorer').getBoundingClientRect().toJSON()")
    return cut(shot(tab), box)


def flow(tab, folder, revision):
    """Prefect's page of one run of the flow at `revision`: PNG bytes."""
    clone, home = folder / "project", folder / "prefect"
    home.mkdir()
    git = ["git", "-c", "advice.detachedHead=false"]
    subprocess.run([*git, "clone", "--quiet", "--no-checkout", ROOT, clone], check=True)
    commit = subprocess.run([*git, "rev-parse", revision], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*git, "checkout", "--quiet", commit], cwd=clone, check=True)
    dvc = [sys.executable, "-m", "dvc"]
    cache = subprocess.run([*dvc, "cache", "dir"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*dvc, "cache", "dir", "--local", cache], cwd=clone, check=True, stdout=subprocess.DEVNULL)
    with prefect_server(home) as (api, _):
        # the stages run `python`, which must be this one
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**prefect_environment(home), "PREFECT_API_URL": api, "PATH": path}
        command = [sys.executable, "-m", "commands", "flow"]
        done = subprocess.run(command, cwd=clone, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"the flow failed:\n{done.stderr[-3000:]}")
        run = re.search(r"runs/flow-run/([0-9a-f-]{36})", done.stderr)[1]
        tab.open(f"{api.removesuffix('/api')}/runs/flow-run/{run}")
        deadline = time.monotonic() + RENDER_SECONDS
        while "evaluate" not in tab.run("document.body.innerText"):
            if time.monotonic() > deadline:
                sys.exit("Prefect's page shows no stage of the run")
            time.sleep(0.5)
        time.sleep(5)  # its timeline is drawn last
        return shot(tab)


def shot(tab):
    """What the window shows: PNG bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "window.png"
        tab.picture(path)
        return path.read_bytes()


def cut(png, box):
    """The part of a picture that shows `box` (x, y, width, height) and MARGIN around it, as far as it reaches: PNG bytes."""
    with Image.open(io.BytesIO(png)) as image:
        left, top = (max(0, int(box[side]) - MARGIN) for side in ("x", "y"))
        right = min(image.width, int(box["x"] + box["width"]) + MARGIN)
        bottom = min(image.height, int(box["y"] + box["height"]) + MARGIN)
        part = io.BytesIO()
        image.crop((left, top, right, bottom)).save(part, "PNG")
    return part.getvalue()


def save(png, path):
    """Write a PNG with few colours."""
    with Image.open(io.BytesIO(png)) as image:
        small = io.BytesIO()
        image.convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, small.getvalue())
    print(f"{path}: {len(small.getvalue()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
