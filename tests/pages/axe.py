"""What axe-core, the accessibility checker of Deque, finds in a page that a browser shows."""

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
