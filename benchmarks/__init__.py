"""One script a question; each prints a table.

Run them as `python -m benchmarks.<name>` from the project root.
"""
