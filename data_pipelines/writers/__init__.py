"""Scans as raw files in the formats of the data sets, for tests of the readers with known truth."""
