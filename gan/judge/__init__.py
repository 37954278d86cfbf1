"""Judging generated digits: a classifier of real digits, and the metrics in its features."""
