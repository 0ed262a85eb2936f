"""The folder of features, where stage 1 and stage 2 meet: written and read."""
