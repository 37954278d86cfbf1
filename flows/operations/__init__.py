"""What it takes to leave the pipeline alone, on one machine or on many: server, workers, checks, deployment, maintenance."""
