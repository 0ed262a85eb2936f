"""Packages are found automatically; `cli/` is installed as `ser_pipeline.cli`. All other metadata is in setup.cfg."""

from setuptools import find_namespace_packages, setup

setup(packages=[*find_namespace_packages(include=["ser_pipeline", "ser_pipeline.*"]), "ser_pipeline.cli"])
