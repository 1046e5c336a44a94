"""The documentation as a site: `python -m docs.site` builds it, and `make docs` makes a venv for that first."""
