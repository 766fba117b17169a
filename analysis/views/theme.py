"""The page's theme and style sheet: blue on quiet grey, IBM Plex from gradio's own files, light and dark."""

from __future__ import annotations

import gradio as gr

STYLE = """
#fdx-title .html-container, #fdx-view .html-container, #fdx-missing .html-container { padding: 0; }
.gradio-container { width: 100%; max-width: 1480px !important; margin: 0 auto; }
#fdx-title h1 { font-size: 26px; font-weight: 600; letter-spacing: -.01em; margin: 4px 0 2px; }
#fdx-title p { margin: 0; max-width: 62em; font-size: 15.5px; color: var(--body-text-color-subdued); }
#fdx-title .fdx-model { margin-left: 8px; vertical-align: 4px; font: 400 13px var(--font-mono); letter-spacing: 0;
  padding: 2px 8px; border-radius: 5px;
  border: 1px solid var(--border-color-primary); color: var(--body-text-color); white-space: nowrap; }
#fdx-top { gap: 28px; align-items: flex-start; }
#fdx-picker { gap: 6px; padding-top: 2px; }
#fdx-picker .form { border: 0; background: none; box-shadow: none; overflow: visible; }
#fdx-model { padding: 0; border: 0; background: none; overflow: visible; }
#fdx-model .container { display: flex; align-items: center; gap: 12px; }
#fdx-model .container > :last-child { flex: 1; }
#fdx-model span[data-testid="block-info"] { margin: 0; }
#fdx-missing { font-size: 12.5px; line-height: 1.45; color: var(--body-text-color-subdued); }
#fdx-missing ul { margin: 2px 0 0 14px; padding: 0; list-style: none; }
#fdx-missing summary { cursor: pointer; }
#fdx-missing b { font-weight: 400; color: var(--body-text-color); }
.fdx-page { gap: 28px; align-items: flex-start; }
.fdx-compose { gap: 14px; }
#fdx-run, #fdx-stop { min-width: 0; }
#fdx-prompt textarea { min-height: 132px; line-height: 1.55; }
#fdx-task .wrap { gap: 6px; }
#fdx-task label { padding: 5px 11px; min-height: 32px; }
#fdx-task label.selected { background: var(--button-primary-background-fill); color: var(--button-primary-text-color);
  border-color: transparent; }
#fdx-task input { position: absolute; opacity: 0; width: 1px; height: 1px; }
#fdx-task label:focus-within { outline: 2px solid var(--color-accent); outline-offset: 2px; }
#fdx-task label span { margin: 0; }
.fdx-note p { font-size: 12.5px; line-height: 1.5; color: var(--body-text-color-subdued); margin: 0; }
.fdx-results { margin-top: 6px; gap: 14px; }
.fdx-results-title h2 { font-size: 17px; font-weight: 600; margin: 0; }
.fdx-results-title p { margin: 0; font-size: 13.5px; color: var(--body-text-color-subdued); }
.fdx-downloads { gap: 10px; flex-wrap: wrap; }
.fdx-downloads > * { flex: 0 1 auto; width: auto; min-width: 0; }
.fdx-downloads button { padding: 0 14px; min-height: 32px; }
.fdx-badge { display: inline-block; margin: 0 0 8px; padding: 2px 9px; border-radius: 5px; font-size: 12.5px;
  border: 1px solid var(--border-color-primary); color: var(--body-text-color-subdued); }
dl.fdx-about { margin: 0; font-size: 13.5px; display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px; }
.fdx-about dt { color: var(--body-text-color-subdued); } .fdx-about dd { margin: 0; overflow-wrap: anywhere; }
p.fdx-about { margin: 0; font-size: 13.5px; color: var(--body-text-color-subdued); }
footer { opacity: .85; }
"""


def theme() -> gr.themes.Base:
    built = gr.themes.Default(
        primary_hue=gr.themes.colors.blue,
        secondary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        # Of the bundled files only the regular and the bold ones hold Latin letters; the semi-bold ones lack most.
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "Segoe UI", "Helvetica Neue", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "Consolas", "monospace"),
    )
    return built.set(
        body_background_fill="#ffffff",
        body_background_fill_dark="#14181f",
        background_fill_primary_dark="#14181f",
        background_fill_secondary="#f6f8fb",
        background_fill_secondary_dark="#10141a",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1a2029",
        block_border_color="#dfe4ec",
        block_border_color_dark="#2d3541",
        border_color_primary="#dfe4ec",
        border_color_primary_dark="#2d3541",
        body_text_color="#1b2330",
        body_text_color_dark="#e8edf4",
        body_text_color_subdued="#5b6675",
        body_text_color_subdued_dark="#9aa6b5",
        block_label_text_color="#5b6675",
        block_title_text_weight="600",
        button_primary_background_fill="#1d5fa8",
        button_primary_background_fill_hover="#164d8c",
        button_primary_background_fill_dark="#2a6fb9",
        button_primary_background_fill_hover_dark="#3680cc",
        input_background_fill_dark="#10141a",
    )
