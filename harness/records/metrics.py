"""The one table of metrics: every list of metrics in the program is taken from it.

A new metric is one entry here (in the file of its topic) and the code of the pass that measures it.
"""

from bsrbench.harness.records.memory_metrics import MEMORY
from bsrbench.harness.records.metric import Metric
from bsrbench.harness.records.training_metrics import TRAINING
from bsrbench.harness.records.work_metrics import WORK

# In the order of the columns of comparison.csv and of the measurements of a record.
METRICS: dict[str, Metric] = {**MEMORY, **WORK, **TRAINING}
