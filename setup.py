"""What pyproject.toml cannot say: the folder recipes travels in the wheel as the package ``issl_recipes``.

The Python packages are found, not listed, so a new kernel or objective needs no entry here.
"""

from setuptools import find_packages, setup

SOURCES = ("engine", "kernels", "profiling")
found = {
    package: f"{source}/{package.replace('.', '/')}"
    for source in SOURCES
    for package in find_packages(source)
}

setup(
    packages=[*found, "issl_recipes"],
    package_dir={**found, "issl_recipes": "recipes"},
    package_data={"issl_recipes": ["**/*.yaml"]},
)
