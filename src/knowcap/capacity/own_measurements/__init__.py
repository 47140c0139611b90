"""Laws fitted to measurements that were made elsewhere: a CSV file, or rows of `knowcap measure`.

The file has one row for each trained model. Estimators, preconditions and verdicts are those of
:mod:`knowcap.capacity.laws`; a precondition whose columns the file does not have is never met.
docs/own-measurements.md describes the columns.
"""
