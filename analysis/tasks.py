"""The six tasks of the FlexiDepth paper, free chat, and inputs for them. Knows no model and no page.

The instructions are the paper's. The passages are written for this project and name no real person; the number lists
are drawn from a seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["language", "math", "chat"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One input of a task: a short title to choose it by, and what the instruction is followed by."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    label: str
    kind: Kind
    instruction: str

    def prompt(self, sample: Sample) -> str:
        return f"{self.instruction}{sample.text}"


TASKS = (
    Task("chat", "Free chat", "chat", ""),
    Task("copy", "Copy", "language", "Please copy this paragraph: "),
    Task("summarize", "Summarize", "language", "Please summarize this paragraph into a single sentence: "),
    Task("continue", "Continue", "language", "Please continue writing this paragraph: "),
    Task("repeat", "Repeat", "math", "Please repeat the following list for 5 times: "),
    Task("add", "Add", "math", "Please calculate the sum of numbers in the following list: "),
    Task("multiply", "Multiply", "math", "Please calculate the product of numbers in the following list: "),
)

QUESTIONS = (
    Sample("Capital of France", "What is the capital of France?"),
    Sample("Why the sky is blue", "Explain in three sentences why the sky is blue."),
    Sample("Two rivers", "Name two rivers in Africa and say one thing about each."),
    Sample("A short letter", "Write a short letter that thanks a neighbour for watering the plants."),
    Sample("Days of the week", "List the days of the week, one on each line."),
)

PASSAGES = (
    Sample(
        "The harbour seal",
        "A young seal that spent four days asleep on the slipway of a small northern harbour has returned to the "
        "sea. Dock workers had roped off the ramp and rerouted deliveries so that the animal could rest, and "
        "children from the nearby school came each morning to count its breaths from behind the rope. A vet who "
        "examined the seal on the second day found a healing cut on one flipper but no sign of illness. Early on "
        "Thursday the tide reached the bottom of the ramp, and the seal slid in without a splash. The harbour "
        "office says the rope will stay in its locker, in case the visitor comes back.",
    ),
    Sample(
        "A library on rails",
        "A retired railway carriage has opened as a public library in a valley where the last bookshop closed "
        "nine years ago. Volunteers spent two winters scraping rust, fitting insulation and building shelves from "
        "the old luggage racks. The carriage holds about four thousand books, half of them for children, and a "
        "stove that is lit from October to April. Readers can borrow as many titles as they can carry. On the "
        "first Saturday the queue reached the road, and by evening a third of the shelves stood empty. The "
        "organisers say they have never been happier to see bare wood.",
    ),
    Sample(
        "The quiet bridge",
        "Engineers have found out why a new footbridge hummed on windy nights. The sound, close to the lowest "
        "note of a cello, kept people awake on both banks and led to more than two hundred complaints. Sensors "
        "fixed to the railing showed that air passing over a row of hollow posts made each of them ring like a "
        "bottle. The repair was simple: a cork, cut to size, was pressed into the top of every post. The bridge "
        "has been silent for a month, although one resident has asked whether a single post might be left open, "
        "because she had grown fond of the tune.",
    ),
    Sample(
        "Late snow",
        "Fruit growers worked through the night after snow fell on orchards that were already in bloom. Small "
        "fires were lit between the rows, and sprinklers coated the blossoms with a thin layer of ice, which "
        "keeps the buds just above the temperature that kills them. By dawn the valley was covered in smoke and "
        "the trees glittered. A first count suggests that about one blossom in five was lost, far fewer than in "
        "the frost of ten years ago. Growers expect a smaller harvest of cherries, but say that the pears, which "
        "flower later, were hardly touched.",
    ),
    Sample(
        "The night bus",
        "A city that stopped its buses at midnight has run them until dawn for one year, and the results are in. "
        "Nearly nine hundred thousand trips were made between twelve and five, most of them by people who clean "
        "offices, bake bread or care for patients. Bakers told the survey that the service saves them an hour of "
        "walking each day. The cost was lower than planned, because the vehicles would otherwise have stood in "
        "the depot with their heaters on. The council will vote next month on whether to add two lines that reach "
        "the hospital and the market.",
    ),
    Sample(
        "A clock found",
        "Workers repairing the roof of a town hall have found a clock that nobody knew was missing. It lay under "
        "a beam, wrapped in sailcloth, with a note that asked the finder to wind it gently. The case is made of "
        "pear wood and the movement has a single hand, which suggests that it is about three hundred years old. A "
        "restorer cleaned the gears with a feather and set the pendulum swinging on the first attempt. The clock "
        "loses eleven minutes a day. It will stand in the entrance hall beside a modern one, so that visitors can "
        "watch the two disagree.",
    ),
)


def task_named(name: str) -> Task:
    """Raises KeyError for a name that is not a task's."""
    return {task.name: task for task in TASKS}[name]


def number_lists(count: int = 6, seed: int = 0) -> tuple[Sample, ...]:
    """Lists of 5 to 10 integers from 10 to 99, as in the paper, short ones first; a seed gives the same ones again."""
    source = random.Random(seed)
    lists = [[source.randint(10, 99) for _ in range(source.randint(5, 10))] for _ in range(count)]
    return tuple(Sample(", ".join(map(str, numbers)), str(numbers)) for numbers in sorted(lists, key=len))


def samples(task: Task) -> tuple[Sample, ...]:
    """The inputs the page offers for a task."""
    if task.kind == "language":
        return PASSAGES
    return number_lists() if task.kind == "math" else QUESTIONS
