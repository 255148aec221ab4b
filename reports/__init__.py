"""Make documents from records; never imports torch."""

if __name__ != "bsrbench.reports":
    raise ImportError("the package 'reports' is called 'bsrbench.reports': import it by that name")
