"""Edits of bytes that a strategy makes up and a case carries as JSON: flipped bits, cuts, what is put in, what is repeated."""

from hypothesis import strategies as st

PLACES = 10_000  # an edit's place is a share of the length in this many parts, so that it means something in any file

_place = st.integers(0, PLACES)
edit = st.one_of(
    st.fixed_dictionaries({"do": st.just("flip"), "at": _place, "bit": st.integers(0, 7)}),
    st.fixed_dictionaries({"do": st.just("cut"), "at": _place}),
    st.fixed_dictionaries({"do": st.just("put"), "at": _place, "hex": st.binary(min_size=1, max_size=16).map(bytes.hex)}),
    st.fixed_dictionaries({"do": st.just("zero"), "at": _place, "count": st.sampled_from([1, 4, 64, 4096])}),
    st.fixed_dictionaries({"do": st.just("drop"), "at": _place, "count": st.sampled_from([1, 4, 64, 4096])}),
    st.fixed_dictionaries({"do": st.just("repeat"), "at": _place, "count": st.sampled_from([1, 64, 4096])}),
)
edits = st.lists(edit, max_size=4)


def apply(content, made):
    """`content` (bytes) after the edits `made`."""
    for one in made:
        at = one["at"] * len(content) // PLACES
        if one["do"] == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << one["bit"]]) + content[at + 1 :]
        elif one["do"] == "cut":
            content = content[:at]
        elif one["do"] == "put":
            content = content[:at] + bytes.fromhex(one["hex"]) + content[at:]
        elif one["do"] == "zero":
            content = content[:at] + bytes(len(content[at : at + one["count"]])) + content[at + one["count"] :]
        elif one["do"] == "drop":
            content = content[:at] + content[at + one["count"] :]
        elif one["do"] == "repeat":
            content = content[: at + one["count"]] + content[at:]
    return content
