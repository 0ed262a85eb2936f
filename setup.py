"""Packages are found by themselves; `cli/` is installed as `ser_pipeline.cli`. All else stands in setup.cfg."""

from setuptools import find_namespace_packages, setup

setup(packages=[*find_namespace_packages(include=["ser_pipeline", "ser_pipeline.*"]), "ser_pipeline.cli"])
