"""Compute in parallel around a model: prefetch, fan out, batch."""

from audmodel.parallel.flow import Flow
from audmodel.parallel.flow import NotRunningError
from audmodel.parallel.multiworker import MultiWorker
from audmodel.parallel.prefetch import prefetch
from audmodel.parallel.reductions import ReductionComposition
from audmodel.parallel.reductions import average_reduction
from audmodel.parallel.reductions import bitwise_and_reduction
from audmodel.parallel.reductions import bitwise_or_reduction
from audmodel.parallel.reductions import flatten_reduction
from audmodel.parallel.reductions import histogram_reduction
from audmodel.parallel.reductions import max_reduction
from audmodel.parallel.reductions import min_reduction
from audmodel.parallel.reductions import product_reduction
from audmodel.parallel.reductions import string_concatenation_reduction
from audmodel.parallel.reductions import sum_reduction
from audmodel.parallel.steps import BaseTask
from audmodel.parallel.steps import BaseTaskHandler
from audmodel.parallel.steps import FlowStep
from audmodel.parallel.worker import worker_number


__all__ = [
    "prefetch",
    "MultiWorker",
    "worker_number",
    "ReductionComposition",
    "flatten_reduction",
    "sum_reduction",
    "average_reduction",
    "histogram_reduction",
    "product_reduction",
    "string_concatenation_reduction",
    "bitwise_and_reduction",
    "bitwise_or_reduction",
    "min_reduction",
    "max_reduction",
    "Flow",
    "FlowStep",
    "BaseTask",
    "BaseTaskHandler",
    "NotRunningError",
]

# Pickles, tracebacks and help() name what users import
for _name in __all__:
    globals()[_name].__module__ = __name__
