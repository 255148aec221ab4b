"""Forecast what is left of a run from the forecast before it and from what is done."""
