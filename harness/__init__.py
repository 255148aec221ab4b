"""The harness: runs trials of any method, and refers to no method by name."""

if __name__ != "bsrbench.harness":
    raise ImportError("the package 'harness' is called 'bsrbench.harness': import it by that name")
