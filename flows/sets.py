"""Named sets of parameters, the files of sets/: the same text everywhere, and yet one machine's in use."""

import re

from gan.errors import UserError
from gan.runtime import INSTRUCTIONS, NATIVE, processor_kind, require_instructions

_THIS = re.compile(r"^( +(processor|instructions|compute_precision): )this\b", re.MULTILINE)
_WITH_BFLOAT16 = "avx512_bf16"


def this_machine():
    """What suits this machine, by the name of the parameter of training that asks for it by saying `this`.

    The kind of its processor; the newest instructions that it has; and bfloat16 where it has products in bfloat16, else float32.
    """
    instructions = _newest_instructions()
    return {
        "processor": processor_kind(),
        "instructions": instructions,
        "compute_precision": "bfloat16" if instructions == _WITH_BFLOAT16 else "float32",
    }


def for_machine(text, machine):
    """The text of a set with what `machine`, as `this_machine` says it of one, has in the place of each `this`."""
    return _THIS.sub(lambda match: match[1] + machine[match[2]], text)


def _newest_instructions():
    for name in reversed(INSTRUCTIONS):
        try:
            require_instructions(name)
        except UserError:
            continue
        return name
    return NATIVE
