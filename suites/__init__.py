"""Suites that ship with the program."""
