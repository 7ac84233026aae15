"""The files of a run and of a preset, and how they are read."""
