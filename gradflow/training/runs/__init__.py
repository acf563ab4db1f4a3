"""Runs on disk: the folder of a run, its checkpoints, and how runs are loaded and compared."""
