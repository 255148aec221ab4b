"""Two tasks on one model with experts."""

TASKS = ("digits", "noise")
MULTITASK = {"tasks": TASKS, "experts": 4, "top_k": 2}
