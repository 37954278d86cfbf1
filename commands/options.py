"""What options of several commands may be."""

import math

import click


def positive(context, option, seconds):
    """`seconds` of an option, a positive number or None."""
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise click.BadParameter(f"expected a positive number of seconds, got {seconds:g}", context, option)
    return seconds
