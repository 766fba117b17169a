"""What a visitor finds when the page opens, and what changes when they choose another model: the settings that a link
brings, the models that can run at that moment. Knows entries and settings; knows no model and no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gradio as gr

from analysis.tasks import samples, task_named
from analysis.views.compare_tab import CompareTab
from analysis.views.page import Page, model_shown
from analysis.views.picker import refreshed, runnable
from analysis.views.share import NAMES, link_script, restored
from flexidepth.model_entry import ModelEntry


class Offered(Protocol):
    """See `flexidepth.shelf`."""

    @property
    def first(self) -> str: ...

    def entries(self) -> Sequence[ModelEntry]: ...


def wire_opening(demo: gr.Blocks, page: Page, compare: CompareTab, models: Offered) -> None:
    """Connects the model picker, the link button, and the opening of the page."""

    def choose(name: str | None) -> dict[Any, Any]:
        return model_shown(page, compare, _entry(models.entries(), name))

    def restore(request: gr.Request) -> dict[Any, Any]:
        entries = models.entries()
        values, wrong = restored(dict(request.query_params), {entry.name: entry.reason for entry in entries})
        if wrong:
            gr.Warning(f"{'; '.join(wrong)}. What is left of the link is used.", title="Part of the link is wrong")
        chosen = runnable(entries, values.pop("model", models.first))
        update = refreshed(page.picker, entries)
        # The page is built for the first model; whoever chooses another before this answer arrives keeps their choice.
        if chosen != models.first:
            update |= model_shown(page, compare, _entry(entries, chosen))
            update[page.picker.model]["value"] = chosen
        # After the model's own, so that the link's threshold counts.
        update |= {
            component: values[name] for name, component in zip(NAMES, page.shared, strict=True) if name in values
        }
        if "task" in values:
            offered = samples(task_named(values["task"]))
            update[page.sample] = gr.update(choices=[each.title for each in offered], value=offered[0].title)
        return update

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    of_model = list(model_shown(page, compare, models.entries()[0]))
    page.picker.model.input(choose, page.picker.model, of_model, queue=False, **quiet)
    opened = dict.fromkeys([*page.shared, page.sample, page.picker.missing, *of_model])
    demo.load(restore, None, list(opened), **quiet)
    made = page.share.click(None, page.shared, page.link, js=link_script())
    made.then(None, None, page.link, js="() => ({__type__: 'update', visible: true})")


def _entry(entries: Sequence[ModelEntry], name: str | None) -> ModelEntry:
    return next((entry for entry in entries if entry.name == name), entries[0])
