"""What tests/bench is made of.

pairs.py    a host and its far end for each candidate, and the candidates
tool.c      the program that measures
report.py   medians, bars, docs/benchmark.{csv,md,svg}
"""
