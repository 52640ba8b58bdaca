"""The jobs: what crosses the rooms. `job.py` is the whole job from top to bottom."""
