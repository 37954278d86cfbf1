"""The Prefect flow over the DVC stages: order, states, schedules, versions."""
