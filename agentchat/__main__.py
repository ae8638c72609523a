"""`python -m agentchat` is `agentchat`."""

import sys

from .cli import main

sys.exit(main())
