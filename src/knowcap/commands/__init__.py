"""Commands of the command line, each a function and its options.

The first line of a command's docstring is its help. Slow libraries such as torch, xarray and
statsmodels are imported by the functions that need them, because importing them takes seconds.
"""
