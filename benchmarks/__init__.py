"""How Linnet is measured: the model zoo and the comparisons with other runtimes."""
