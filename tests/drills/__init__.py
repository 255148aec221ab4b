"""What happens around a run once in a thousand times, made to happen (``tox -e drills``)."""
