"""Everything that makes traces visible: tasks, statistics, figures, views.

Reads `flexidepth`; nothing there reads this.
"""
