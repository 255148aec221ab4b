"""Suites that ship with the program."""

if __name__ != "bsrbench.suites":
    raise ImportError("the package 'suites' is called 'bsrbench.suites': import it by that name")
