"""The docs site beyond docs/: pages that are generated from the code, README and the repository's other texts.

`make docs` builds it with MkDocs, which calls `website.hooks`. Nothing is written twice: environments, algorithms and
the API reference come from registries and docstrings, README's sections from README.
"""
