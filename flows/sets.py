"""Named sets of parameters, the files of sets/: the same text everywhere, and yet one machine's in use."""

import re

from gan.errors import UserError
from gan.runtime import INSTRUCTIONS, NATIVE, processor_kind, require_instructions

_THIS = re.compile(r"^( +(processor|instructions|compute_precision): )this\b", re.MULTILINE)


def this_machine():
    """What suits this machine, by the name of the parameter of training that asks for it by saying `this`.

    The kind of its processor; the newest instructions that it has; and the precision in which it is fastest with these.
    """
    processor, instructions = processor_kind(), _newest_instructions()
    # products in it: twice as fast as in float32 on AMD's processors, more with AMX, slower on Intel's without (docs/speed.md)
    fast = instructions == "amx_bf16" or (instructions == "avx512_bf16" and processor.startswith("AMD "))
    return {
        "processor": processor,
        "instructions": instructions,
        "compute_precision": "bfloat16" if fast else "float32",
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
