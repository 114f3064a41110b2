"""The top-level folders are sub-packages of `trireme`; listed here so that a new one is never left out of a wheel."""

from setuptools import find_packages, setup

FOLDERS = ("retrieval", "methods", "benchmarks", "results", "configs")

packages = ["trireme", *(f"trireme.{name}" for name in find_packages("trireme"))]
for folder in FOLDERS:
    packages += [f"trireme.{folder}", *(f"trireme.{folder}.{name}" for name in find_packages(folder))]

setup(packages=packages)
