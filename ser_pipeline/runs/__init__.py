"""The folder of a run, where stage 2 and stage 3 meet: written and read."""
