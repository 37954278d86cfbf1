"""Named sets of parameters, the files of sets/: the same text everywhere, and yet one machine's in use."""

import re

from gan.runtime import processor_kind

_THIS = re.compile(r"^( +processor: )this\b", re.MULTILINE)


def for_this_machine(text):
    """The text of a set with this machine's kind of processor where it says `processor: this`."""
    return _THIS.sub(lambda match: match[1] + processor_kind(), text)
