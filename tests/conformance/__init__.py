"""The conformance suite: other people's modules, optimizers, callbacks, loaders and settings, as data, under the five
laws.

One file an axis (`modules`, `optimizers`, `callbacks`, `loaders`, `settings`), each value a function; `cases` says
which of them meet, `laws` what must hold then, `page` writes docs/conformance.md. To add a value, write its function:
every law is tried with it, on its own and beside values of the other axes.
"""
