"""Several tasks side by side: which prompts are run, and the lines that a comparison is told in while it runs.

The lines are JSON: one that names the panels, then for each run one that says whose it is, the lines of its trace, and
the table of means so far. Knows tasks and traces; knows no model, no torch and no page.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.intervals import ratio_interval
from analysis.recorded import Prompt, Recorded
from analysis.tasks import Sample, number_lists, passages, task_named
from flexidepth.errors import UsageError
from flexidepth.trace import Trace, header_line, step_line

MOST_INPUTS = 5  # of a task, in the page: for more there is `analysis run`
_FIRST_LIST_SEED = 0  # the lists that the page offers
_LONGEST_LIST = 20


def planned(tasks: Sequence[str], inputs: int, *, passage: str = "", numbers: str = "") -> list[Prompt]:
    """The prompts in order: every input of the first task, then of the next. An own passage is the one input of the
    language tasks, own numbers that of the maths tasks. Raises UsageError for what cannot be asked.
    """
    if not tasks:
        raise UsageError("no task is chosen: choose one or more")
    if not 1 <= inputs <= MOST_INPUTS:
        raise UsageError(f"inputs a task must lie between 1 and {MOST_INPUTS}, not {inputs}")
    own = {"language": _own_passage(passage), "math": _own_list(numbers)}
    shipped = {"language": passages()[:inputs], "math": number_lists(seed=_FIRST_LIST_SEED)[:inputs]}
    return [
        Prompt(task.name, number, sample.title, sample.text, task.prompt(sample))
        for task in map(task_named, tasks)
        for number, sample in enumerate(own[task.kind] or shipped[task.kind])
    ]


def _own_passage(text: str) -> tuple[Sample, ...]:
    plain = " ".join(text.split())
    return (Sample("your own text", plain),) if plain else ()


def _own_list(text: str) -> tuple[Sample, ...]:
    if not text.strip():
        return ()
    if not re.fullmatch(r"\s*\[?\s*-?\d+(\s*[,;\s]\s*-?\d+)*\s*\]?\s*", text, flags=re.ASCII):
        raise UsageError("the list must be whole numbers with commas between, such as 12, 45, 78")
    found = [int(number) for number in re.findall(r"-?\d+", text)]
    if not 2 <= len(found) <= _LONGEST_LIST:
        raise UsageError(f"the list must have 2 to {_LONGEST_LIST} numbers, not {len(found)}")
    return (Sample("your own list", str(found)),)


def panels(prompts: Sequence[Prompt]) -> list[str]:
    """Task names in the order in which they run: one panel each."""
    return list(dict.fromkeys(prompt.task for prompt in prompts))


def panels_line(labels: Sequence[str], *, differ: bool = False) -> str:
    """Begins a comparison. differ: two panels answer the same prompt, and their first differing token is marked."""
    return json.dumps({"compare": {"panels": [{"label": label} for label in labels], "differ": differ}})


def opening_line(prompts: Sequence[Prompt]) -> str:
    return panels_line([task_named(name).label for name in panels(prompts)])


def run_line(panel: int, title: str) -> str:
    return json.dumps({"run": {"panel": panel, "title": title}})


def trace_lines(trace: Trace, sent: int | None) -> Iterator[str]:
    """Lines of a growing trace after the `sent` steps that were told before; None: not even its header was. Likely
    tokens are left out: they are three quarters of a line, and a comparison shows many runs.
    """
    if sent is None:
        yield header_line(trace.header)
    yield from (step_line(replace(step, top=())) for step in trace.steps[sent or 0 :])


def table_line(runs: Sequence[Recorded]) -> str:
    """A row a task that has ended runs: inputs, tokens, mean layers, its 95 % interval over inputs, and the standard
    deviation over tokens.
    """
    rows = []
    for name in dict.fromkeys(run.prompt.task for run in runs):
        depths = [[step.layers_used for step in run.trace.generated] for run in runs if run.prompt.task == name]
        interval = ratio_interval([sum(one) for one in depths], [len(one) for one in depths])
        every = [depth for one in depths for depth in one]
        rows.append(
            {
                "label": task_named(name).label,
                "inputs": len(depths),
                "tokens": len(every),
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "sd": statistics.pstdev(every),
            }
        )
    return json.dumps({"table": rows})


def ended_line(*, stopped: bool) -> str:
    return json.dumps({"ended": {"stopped": stopped}})
