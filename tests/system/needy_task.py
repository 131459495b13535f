"""The task of softmax_task.py, for devices with a tag that train fast enough."""

from tests.system.softmax_task import data_contract, evaluate, initial_theta, program

__all__ = ["data_contract", "evaluate", "initial_theta", "program"]

runtime = "softmax"
needs = {"tags": ["indoor"], "examples_per_s": 100}
