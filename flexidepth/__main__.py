"""python -m flexidepth"""

from flexidepth.cli import main

raise SystemExit(main())
