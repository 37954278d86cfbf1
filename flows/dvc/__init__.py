"""Running stages through DVC: one process a run, what DVC says of the repository, and the outcome of each stage."""
