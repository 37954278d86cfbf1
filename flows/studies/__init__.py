"""Studies: many runs of the pipeline, one for each variant and seed, and what may be said of their differences."""
