"""Whether everybody can read and use a page: what axe-core (of Deque) finds in a browser, and the contrast of its colours."""

import re
from importlib import resources

AXE = resources.files("axe_playwright_python") / "axe.min.js"


def violations(tab):
    """The rules of axe that the page breaks, each with the places that do: a list of (rule, HTML elements)."""
    tab.run(f"{AXE.read_text(encoding='utf-8')}; 0")
    found = tab.run("""axe.run().then(({ passes, violations }) => [
      passes.length, violations.map((one) => [one.id, one.nodes.map((node) => node.html)]),
    ])""")
    assert found[0] > 10  # rules that had something to look at
    return found[1]


def violations_everywhere(tab, load):
    """The same in both colour schemes, on a screen and on a phone, where `load()` shows the page in `tab`."""
    found = []
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            tab.scheme(scheme)
            tab.resize(width, 900, touch=width == 360)
            load()
            found += [(scheme, width, *one) for one in violations(tab)]
    return found


def broken_words(tab):
    """The words and numbers of the page's tables of words that are broken over two lines."""
    return tab.run("""[...document.querySelectorAll("table.words :is(th, td)")].flatMap((cell) => {
      const found = [];
      const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        for (const match of texts.currentNode.data.matchAll(/[a-z]+|[0-9.]+/gi)) {
          const range = document.createRange();
          range.setStart(texts.currentNode, match.index);
          range.setEnd(texts.currentNode, match.index + match[0].length);
          if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) found.push(match[0]);
        }
      }
      return found;
    })""")


def cut_on_paper(tab):
    """The parts of the page whose ends a sheet of A4 does not show, as HTML elements."""
    tab.resize(718, 900)  # within Chromium's margins
    tab.call("Emulation.setEmulatedMedia", media="print")
    found = tab.run("""[...document.querySelectorAll(".scroll, .chart")].filter((one) =>
      getComputedStyle(one).overflow !== "visible" || one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight
    ).map((one) => one.outerHTML)""")
    tab.call("Emulation.setEmulatedMedia", media="")
    return found


def check_contrast(page):
    """WCAG 2.2, 1.4.3 and 1.4.11, in both colour schemes: at least 4.5 for text, 3 for lines of a chart."""
    schemes = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", scheme))
        for ground in ("paper", "card"):
            assert min(_contrast(colors[name], colors[ground]) for name in ("ink", "soft")) >= 4.5
            assert min(_contrast(colors[name], colors[ground]) for name in ("first", "second", "third")) >= 3


def _contrast(one, other):
    low, high = sorted([_luminance(one), _luminance(other)])
    return (high + 0.05) / (low + 0.05)


def _luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
