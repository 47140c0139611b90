"""Forecasts of parameters, exposures and bits from the fitted laws, with prediction intervals.

The fits use the models of laws 1, 4, 5, 6 and 8 and their cells. The intervals are those of a new
cell, which is another model on another population, and not those of a mean. Methods and limits are
described in docs/questions.md.
"""
